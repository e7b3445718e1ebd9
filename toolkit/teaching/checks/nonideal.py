"""Exercises of notebook 11: write amplification, what cancelled pulses do, and their noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Alpha = Callable[[Any, Any, Any], float]


@exercise("nonideal.amplification")
def amplification(answer: Alpha) -> str | Wrong:
    """``sum_p |part_p|_1 / |sum|_1``, of factors with singular values of both signs."""
    draw = np.random.default_rng(0).normal
    cases = [(draw(size=(6, k)), draw(size=k), draw(size=(9, k))) for k in (1, 2, 5)]
    found = [float(answer(*case)) for case in cases]
    right = [_parts(*case).sum() / np.abs(_sum(*case)).sum() for case in cases]
    if close(found, right):
        return "1 where nothing cancels; at rank 1, always."
    if close(found, 1 / np.array(right)):
        return wrong("Upside down: which of the two sums is the larger, parts or whole?")
    if close(found, [_parts(*case).sum() for case in cases]):
        return wrong("That is the numerator. Divide by the sum over |entries| of the whole update.")
    if close(
        found, [np.linalg.norm(_parts(*case)) / np.linalg.norm(_sum(*case)) for case in cases]
    ):
        return wrong("Those are Euclidean norms. Pulses count absolute values: look at the 1-norm.")
    signed = [(_signed(*case).sum() / np.abs(_sum(*case)).sum()) for case in cases]
    if close(found, signed):
        return wrong(
            "Some sigma are negative here (as NMF's are). What is the size of such a part?"
        )
    if not close(found[0], right[0]):
        return wrong("At rank 1 nothing cancels and the answer is 1. Yours is not.")
    return wrong(
        "Right at rank 1. At rank 2: do you take absolute values before you add the parts?"
    )


@exercise("nonideal.half_life")
def half_life(answer: float) -> str | Wrong:
    """The least n with ``0.99^(2 n) <= 1/2``."""
    exact = math.log(0.5) / (2 * math.log(0.99))
    if close(answer, math.ceil(exact)):
        return "With steps ten times finer it is 346 to 347 pairs: drift goes with what is written."
    if close(answer, math.ceil(2 * exact)) or close(answer, 2 * exact):
        return wrong("That many pulses. How many pairs?")
    if close(answer, exact) or close(answer, math.floor(exact)):
        return wrong("Nearly: from which whole number of pairs on is it half or less?")
    if answer in (25, 50):
        return wrong("Each pulse takes its share of what is left, not of what there was at first.")
    return wrong("What does one pulse up do to a distance d from its end? And the one down then?")


@exercise("nonideal.noise_factor")
def noise_factor(answer: float) -> str | Wrong:
    """The square root of the amplification 1.96."""
    if close(answer, 1.4):
        return "Variances add, so noise grows with the root of the pulses."
    if close(answer, 1.96):
        return wrong("That is how the variance grows. The standard deviation is asked for.")
    if close(answer, 1.0):
        return wrong("Cancelled pulses cancel in the mean. Does their noise cancel, too?")
    if close(answer, 1.96**2):
        return wrong("Independent amounts: do their deviations add, or their variances?")
    return wrong("How does the standard deviation of a sum of n independent amounts grow with n?")


def _parts(left: Any, sigma: Any, right: Any) -> Any:
    return np.abs(_signed(left, sigma, right))


def _signed(left: Any, sigma: Any, right: Any) -> Any:
    return np.abs(left).sum(0) * sigma * np.abs(right).sum(0)


def _sum(left: Any, sigma: Any, right: Any) -> Any:
    return left * sigma @ right.T
