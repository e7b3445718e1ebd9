"""Exercises of notebook 09: pulses for a change, rounding, phases, bit streams."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch

from toolkit.crossbar.pulses import sign_phases
from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Numbers = Callable[..., float]


@exercise("writing.pulses")
def pulses(answer: Numbers) -> str | Wrong:
    """Pulses wanted of each cell of a pair: ``|change| / (2 w_max) levels``."""
    cases = [*product((0.02, -0.3, 1.0), (1.0, 0.5), (50, 97))]
    found = np.abs([float(answer(*case)) for case in cases])
    right = np.array([abs(change) / (2 * w_max) * levels for change, w_max, levels in cases])
    if close(found, right):
        return "A change of w_max asks each cell for half of its range."
    if close(found, 2 * right):
        return wrong("That moves one cell all the way. How much is each of the two asked for?")
    if close(found, right * [w_max for _, w_max, _ in cases]):
        return wrong("Right for w_max = 1 only: which change of the weight spans the range?")
    if close(found, [abs(change) * levels for change, _, levels in cases]):
        return wrong("Two things are missing: w_max, and that two cells share the change.")
    if close(found, np.floor(right)) or close(found, right.round()):
        return wrong("Leave the number as it is: rounding comes in the next section.")
    return wrong("Which share of its range must each cell move? Then: N pulses span the range.")


@exercise("writing.rounding_variance")
def rounding_variance(answer: Numbers) -> str | Wrong:
    """Variance of stochastic rounding, ``f (1 - f)`` with f the fraction."""
    cases = np.array([0.2, 0.5, 1.0, 2.3, 7.75])
    found = [float(answer(wanted)) for wanted in cases]
    fraction = cases - np.floor(cases)
    if close(found, fraction * (1 - fraction)):
        return "At most 1/4, wherever the number lies; and 0 for whole numbers."
    if close(found, np.sqrt(fraction * (1 - fraction))):
        return wrong("That is the standard deviation. The variance is asked for.")
    if close(found, cases * (1 - cases)):
        return wrong("Right below 1. At 2.3, is it random whether there are at least 2 pulses?")
    if close(found, fraction) or close(found, cases):
        return wrong("That is a mean. Which part of the number is left to chance?")
    return wrong("The whole part is certain. The rest is one throw of a coin: what is its chance?")


@exercise("writing.phases")
def phases(answer: Callable[[Any, Any], tuple[int, int]]) -> str | Wrong:
    """SET and RESET phases of outer products of several patterns of sign."""
    lines = [np.array(line) for line in ([1.0, 0.0], [-2.0, -0.5], [0.3, -1.0], [0.0, 0.0])]
    cases = [*product(lines, lines)]
    found = [tuple(int(number) for number in answer(u, v)) for u, v in cases]
    right = [_phases(u, v) for u, v in cases]
    if found == right:
        return "Non-negative factors take one phase, vectors of both signs four."
    if found == [(down, up) for up, down in right]:
        return wrong("SET and RESET are the other way round: what is the product of two minuses?")
    if found[10] == (2, 2) and all(pair == (2, 2) for pair in found):
        return wrong("Four phases are the most. Which of them are empty if u has no minus?")
    if [pair for pair, (u, v) in zip(found, cases, strict=True) if u.any() and v.any()] == [
        pair for pair, (u, v) in zip(right, cases, strict=True) if u.any() and v.any()
    ]:
        return wrong("Nearly. What does a line of zeros need?")
    case = next(i for i, pair in enumerate(found) if pair != right[i])
    u, v = (line.tolist() for line in cases[case])
    return wrong(f"Try u = {u}, v = {v} by hand: which signs occur in the rows, which in columns?")


@exercise("writing.bit_length")
def bit_length(answer: float) -> str | Wrong:
    """The largest BL with ``sqrt(4 (1 - 4/BL)) <= 1``."""
    if answer == 5:
        return "Shorter streams scatter less: at BL = N every slot fires, and nothing is random."
    if answer == 4:
        return wrong("There it does not scatter at all. Can it be a little longer?")
    if close(answer, 16 / 3) or answer == 6:
        return wrong("Slots are whole; and at 6 the deviation is already above a quarter.")
    if answer < 4:
        return wrong("With fewer slots than pulses wanted, the count cannot reach its mean.")
    return wrong("Set √(N (1 − N/BL)) at most N/4 with N = 4. Does a longer stream scatter more?")


def _phases(u: Any, v: Any) -> tuple[int, int]:
    left, right = (torch.as_tensor(line)[:, None] for line in (u, v))
    return sign_phases(left, right)[0]
