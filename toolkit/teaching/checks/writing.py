"""Exercises of notebook 09: pulses for a change, rounding, phases, bit streams."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch

from toolkit.crossbar.pulses import sign_phases
from toolkit.teaching.exercises import (
    Function,
    Wrong,
    close,
    exercise,
    judge,
    number,
    outputs,
    two,
    wrong,
)


@exercise("writing.pulses")
def pulses(answer: Function) -> str | Wrong:
    """Pulses wanted of each cell of a pair: ``|change| / (2 w_max) levels``."""
    cases = [*product((0.02, -0.3, 1.0), (1.0, 0.5), (50, 97))]
    change, w_max, levels = np.abs(cases).T
    right = change / (2 * w_max) * levels
    return judge(
        np.abs(outputs(answer, cases)),
        (right, "A change of w_max asks each cell for half of its range."),
        (2 * right, "That moves one cell all the way. How much must each of the two move?"),
        (right * w_max, "Right for w_max = 1 only: which change of the weight spans the range?"),
        (change * levels, "Two things are missing: w_max, and that two cells share the change."),
        (np.floor(right), right.round(), "Leave it as it is: rounding is in the next section."),
        otherwise="What share of its range must each cell move? `levels` pulses span the range.",
    )


@exercise("writing.rounding_variance")
def rounding_variance(answer: Function) -> str | Wrong:
    """Variance of stochastic rounding, ``f (1 - f)`` with f the fraction."""
    wanted = np.array([0.2, 0.5, 1.0, 2.3, 7.75])
    fraction = wanted - np.floor(wanted)
    variance = fraction * (1 - fraction)
    return judge(
        outputs(answer, zip(wanted, strict=True)),
        (variance, "At most 1/4, whatever the number; and 0 for whole numbers."),
        (np.sqrt(variance), "That is the standard deviation. You need the variance."),
        (wanted * (1 - wanted), "Right below 1. At 2.3, are at least 2 pulses a matter of chance?"),
        (fraction, wanted, "That is a mean. Which part of the number is left to chance?"),
        otherwise="The whole part is certain; the rest is one throw of a coin. With what chance?",
    )


@exercise("writing.phases")
def phases(answer: Function) -> str | Wrong:
    """SET and RESET phases of outer products of several patterns of signs."""
    lines = [np.array(line) for line in ([1.0, 0.0], [-2.0, -0.5], [0.3, -1.0], [0.0, 0.0])]
    cases = [*product(lines, lines)]
    given = [answer(u, v) for u, v in cases]
    found = [two(each, "SET phases, RESET phases") for each in given]
    right = [_phases(u, v) for u, v in cases]
    if found == right:
        return "Non-negative factors take one phase, vectors of both signs four."
    if found == [(down, up) for up, down in right]:
        return wrong("SET and RESET are the other way round: what is the product of two minuses?")
    if set(found) == {(2, 2)}:
        return wrong("There are four phases at most. Which are empty if u has no minus?")
    if all(isinstance(part, bool | np.bool_) for each in given for part in each):
        return wrong("In numpy, True + True is True. Turn each into a number, `int(...)`, first.")
    differ = [(u, v) for (u, v), f, r in zip(cases, found, right, strict=True) if f != r]
    if not any(u.any() and v.any() for u, v in differ):
        return wrong("Nearly. What does a line of zeros need?")
    u, v = (line.tolist() for line in differ[0])
    return wrong(f"Try u = {u}, v = {v} by hand: which signs occur in the rows, which in columns?")


@exercise("writing.bit_length")
def bit_length(answer: float) -> str | Wrong:
    """The largest BL with ``sqrt(4 (1 - 4/BL)) <= 1``."""
    if close(answer, 16 / 3, relative=0.002):
        answer = 16 / 3  # rounded by the reader
    return judge(
        answer,
        (5, "Shorter streams scatter less: at BL = N every slot fires, and nothing is random."),
        (4, "There it does not scatter at all. Can it be a little longer?"),
        (16 / 3, 6, "Slots are whole; and at 6 the deviation is already above a quarter."),
        otherwise="With fewer slots than pulses wanted, the count cannot reach its mean."
        if number(answer) < 4
        else "Set √(N (1 − N/BL)) at most N/4 with N = 4. Does a longer stream scatter more?",
    )


def _phases(u: Any, v: Any) -> tuple[int, int]:
    left, right = (torch.as_tensor(line)[:, None] for line in (u, v))
    return sign_phases(left, right)[0]
