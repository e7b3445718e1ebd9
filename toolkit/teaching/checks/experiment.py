"""Exercises of notebook 14: runs of a sweep, intervals, pairs, and what workers send."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Array: TypeAlias = npt.NDArray[np.float64]
M, N, RANK = 150, 785, 4


@exercise("experiment.runs")
def runs(answer: int) -> str | Wrong:
    """Runs of a grid of 2 methods, 4 ranks, one device and 5 seeds."""
    if answer == 8:
        return wrong("And the seeds? Each one is a run of its own.")
    if answer in (11, 12, 7):
        return wrong("Every method meets every rank: the lengths are not added.")
    if answer in (320, 400):
        return wrong("Epochs are inside a run; they do not make more runs.")
    if answer != 40:
        return wrong("Multiply the lengths of the axes. What has one value is no axis.")
    return "One axis more of five values, and it would be 200: grids grow fast."


@exercise("experiment.half_width")
def half_width(answer: Callable[[Array], float]) -> str | Wrong:
    """Half of the 95 % interval of a mean, from n values by Student's t."""
    values = np.random.default_rng(3).normal(90.0, 2.0, size=5)
    n, deviation = len(values), values.std(ddof=1)
    right = stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n)
    found = float(answer(values))
    if close(found, right * np.sqrt(1 - 1 / n)):
        return wrong("numpy's std divides by n unless told otherwise: ddof=1 for a sample.")
    if close(found, 1.96 * deviation / np.sqrt(n), relative=1e-3):
        return wrong("1.96 is for many values. With five, look up Student's t with n - 1 degrees.")
    if close(found, right * np.sqrt(n)):
        return wrong("That is about single runs. The mean of n is sqrt(n) times surer.")
    if close(found, 2 * right):
        return wrong("That is the whole interval; half of it goes up, half down.")
    if close(found, deviation / np.sqrt(n)):
        return wrong("That is the standard error. How many of them hold 95 %?")
    if close(found, stats.t.ppf(0.95, n - 1) * deviation / np.sqrt(n)):
        return wrong("95 % in the middle leaves 2.5 % on each side.")
    if not close(found, right):
        return wrong("t(0.975, n - 1) times the sample's deviation over sqrt(n).")
    return f"With five seeds the factor is {stats.t.ppf(0.975, 4):.2f}, not 1.96."


@exercise("experiment.paired")
def paired(answer: Callable[[Array, Array], float]) -> str | Wrong:
    """Standard error of the mean difference of two methods that share their seeds."""
    rng = np.random.default_rng(4)
    shared = rng.normal(0.0, 3.0, size=6)
    a, b = 90 + shared + rng.normal(0, 0.3, 6), 89 + shared + rng.normal(0, 0.3, 6)
    right = (a - b).std(ddof=1) / np.sqrt(6)
    apart = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 6)
    found = float(answer(a, b))
    if close(found, apart):
        return wrong("That treats the two as strangers. Subtract seed by seed first.")
    if close(found, (a - b).mean()):
        return wrong("That is the difference itself. How sure is it?")
    if close(found, right * np.sqrt(6)):
        return wrong("That is the spread of one difference, not of their mean.")
    if close(found, right * np.sqrt(5 / 6)):
        return wrong("ddof=1: the mean was taken from the same sample.")
    if not close(found, right):
        return wrong("The sample deviation of a - b, over the square root of their number.")
    return f"Here {right:.2f} in place of {apart:.2f}: what a seed does to both goes out."


@exercise("experiment.fewer")
def fewer(answer: float) -> str | Wrong:
    """How many times fewer numbers the factors of rank 4 are than a 150 x 785 gradient."""
    right = M * N / (RANK * (M + N))
    if close(answer, 1 / right, relative=3e-3):
        return wrong("Upside down: how many times fewer is above 1.")
    if close(answer, M * N / (M + N), relative=3e-3):
        return wrong("That is one column of left and one of right. There are k of each.")
    if close(answer, M * N, relative=1e-3) or close(answer, RANK * (M + N), relative=1e-3):
        return wrong("That is one of the two numbers; divide the larger by it.")
    if not close(answer, right, relative=3e-3):
        return wrong("m n numbers against k (m + n), sigma being multiplied into left.")
    return "And the larger the layer, the more: the ratio grows like its side."


@exercise("experiment.merged_rank")
def merged_rank(answer: int) -> str | Wrong:
    """Largest rank of the sum of four workers' updates of rank 4."""
    if answer == RANK:
        return wrong("Only if all workers had found the same directions.")
    if answer == 8:
        return wrong("That is for two workers.")
    if answer == RANK**4:
        return wrong("Ranks of a sum add; they do not multiply.")
    if answer != 16:
        return wrong("Put the four left factors side by side: how many columns?")
    return "So the sum is cut to rank 4 again, by an SVD whose core is 16 x 16 at most."
