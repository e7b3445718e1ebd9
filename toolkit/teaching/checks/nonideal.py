"""Exercises of notebook 11: write amplification, the effect of cancelled pulses, their noise."""

from __future__ import annotations

import math

import numpy as np

from toolkit.teaching.exercises import Function, Wrong, close, exercise, judge, outputs


@exercise("nonideal.amplification")
def amplification(answer: Function) -> str | Wrong:
    """``sum_p |part_p|_1 / |sum|_1``, of factors with singular values of both signs."""
    draw = np.random.default_rng(0).normal
    cases = [(draw(size=(6, k)), draw(size=k), draw(size=(9, k))) for k in (1, 2, 5)]
    signed = [np.abs(left).sum(0) * s * np.abs(right).sum(0) for left, s, right in cases]
    sums = [left * s @ right.T for left, s, right in cases]
    parts = np.array([np.abs(sizes).sum() for sizes in signed])
    whole = np.array([np.abs(total).sum() for total in sums])
    norms = [np.linalg.norm(p) / np.linalg.norm(w) for p, w in zip(signed, sums, strict=True)]
    found, right = outputs(answer, cases), parts / whole
    plain = [
        (np.abs(left).sum(0) * np.abs(right).sum(0)).sum() / np.abs(left @ right.T).sum()
        for left, _, right in cases
    ]
    columns = [
        np.linalg.norm(left * sigma, 1, axis=0)
        @ np.abs(right).max(0)
        / np.linalg.norm(left * sigma @ right.T, 1)
        for left, sigma, right in cases
    ]
    return judge(
        found,
        (right, "1 where nothing cancels; at rank 1, always."),
        (1 / right, "Upside down: which of the two sums is the larger, parts or whole?"),
        (parts, "That is the numerator. Divide by the sum over |entries| of the whole update."),
        (norms, "Those are Euclidean norms. Pulses count absolute values: use the 1-norm."),
        (plain, "Right if all sigma are equal. Where are they in your sums?"),
        (columns, "numpy's `norm(M, 1)` is the largest sum of a column. Add up all |entries|."),
        ([p.sum() for p in signed] / whole, "A sigma may be negative. What size has such a part?"),
        otherwise="Right at rank 1. At rank 2: do you take absolute values before adding the parts?"
        if close(found[0], 1)
        else "At rank 1 nothing cancels and the answer is 1. Yours is not.",
    )


@exercise("nonideal.half_life")
def half_life(answer: float) -> str | Wrong:
    """The least n with ``0.99^(2 n) <= 1/2``."""
    exact = math.log(0.5) / (2 * math.log(0.99))
    if close(answer, exact, relative=0.001):
        answer = exact  # rounded by the reader
    return judge(
        answer,
        (35, "Ten times finer steps take 346 or 347 pairs: drift follows what is written."),
        (69, 2 * exact, "That is the number of pulses. How many pairs?"),
        (34, exact, "Nearly: from which whole number of pairs on is it half or less?"),
        (25, 50, "Each pulse takes its share of what is left, not of the starting value."),
        otherwise="What does one pulse up do to a distance d from its end? And the one down then?",
    )


@exercise("nonideal.noise_factor")
def noise_factor(answer: float) -> str | Wrong:
    """The square root of the amplification 1.96."""
    return judge(
        answer,
        (1.4, "Variances add, so noise grows with the square root of the pulses."),
        (1.96, "That is how the variance grows. You need the standard deviation."),
        (1.0, "Cancelled pulses cancel in the mean. Does their noise cancel, too?"),
        (1.96**2, "Independent amounts: do their deviations add, or their variances?"),
        otherwise="How does the standard deviation of a sum of n independent amounts grow with n?",
    )
