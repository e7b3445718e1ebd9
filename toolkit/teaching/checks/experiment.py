"""Exercises of notebook 14: runs of a sweep, intervals, pairs, and what workers send."""

from __future__ import annotations

import numpy as np
from scipy import stats

from toolkit.teaching.exercises import Function, Wrong, exercise, judge

M, N, RANK = 150, 785, 4


@exercise("experiment.runs")
def runs(answer: int) -> str | Wrong:
    """Runs of a grid of 2 methods, 4 ranks, one device and 5 seeds."""
    return judge(
        answer,
        (40, "One more axis of five values would make it 200: grids grow fast."),
        (8, "What about the seeds? Each one is a run of its own."),
        (11, 12, 7, "Every method meets every rank: the lengths are not added."),
        (320, 400, "Epochs are inside a run; they do not make more runs."),
        otherwise="Multiply the lengths of the axes. A single value is not an axis.",
    )


@exercise("experiment.half_width")
def half_width(answer: Function) -> str | Wrong:
    """Half of the 95 % interval of a mean, from n values by Student's t."""
    values = np.random.default_rng(3).normal(90.0, 2.0, size=5)
    n, error = len(values), values.std(ddof=1) / np.sqrt(len(values))
    factor, one_sided = stats.t.ppf(0.975, n - 1), stats.t.ppf(0.95, n - 1)
    right = factor * error
    return judge(
        answer(values),
        (right, f"With five seeds the factor is {factor:.2f}, not 1.96."),
        (right * np.sqrt(1 - 1 / n), "numpy's std divides by n by default; a sample needs ddof=1."),
        (1.96 * error, stats.norm.ppf(0.975) * error, "1.96 is for many values. Use Student's t."),
        (right * np.sqrt(n), "That is for single runs. The mean of n varies sqrt(n) times less."),
        (2 * right, "That is the whole interval; half of it goes up, half down."),
        (error, "That is the standard error. How many of them hold 95 %?"),
        (one_sided * error, "95 % in the middle leaves 2.5 % on each side."),
        otherwise="t(0.975, n - 1) times the sample's standard deviation over sqrt(n).",
    )


@exercise("experiment.paired")
def paired(answer: Function) -> str | Wrong:
    """Standard error of the mean difference of two methods that share their seeds."""
    rng = np.random.default_rng(4)
    shared = rng.normal(0.0, 3.0, size=6)
    a, b = 90 + shared + rng.normal(0, 0.3, 6), 89 + shared + rng.normal(0, 0.3, 6)
    right = (a - b).std(ddof=1) / np.sqrt(6)
    apart = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 6)
    return judge(
        answer(a, b),
        (right, f"Here {right:.2f} instead of {apart:.2f}: what a seed does to both cancels."),
        (apart, "That ignores that the two share their seeds. Subtract seed by seed first."),
        ((a - b).mean(), "That is the difference itself. How sure is it?"),
        (right * np.sqrt(6), "That is the spread of one difference, not of their mean."),
        (right * np.sqrt(5 / 6), "Use ddof=1: the mean was taken from the same sample."),
        otherwise="The sample deviation of a - b, over the square root of their number.",
    )


@exercise("experiment.fewer")
def fewer(answer: float) -> str | Wrong:
    """How many times fewer numbers the factors of rank 4 are than a 150 x 785 gradient."""
    full, factors = M * N, RANK * (M + N)
    return judge(
        answer,
        (full / factors, "The larger the layer, the larger the ratio: it grows like its side."),
        (factors / full, "Upside down: how many times fewer is a number above 1."),
        (full / (M + N), "That is one column of left and one of right. There are k of each."),
        (full, factors, "That is one of the two numbers; divide the larger by the smaller."),
        otherwise="m n numbers against k (m + n); sigma is multiplied into left.",
        relative=3e-3,
    )


@exercise("experiment.merged_rank")
def merged_rank(answer: int) -> str | Wrong:
    """Largest rank of the sum of four workers' updates of rank 4."""
    return judge(
        answer,
        (16, "So the sum is cut to rank 4 again, by an SVD whose core is 16 x 16 at most."),
        (RANK, "Only if all workers had found the same directions."),
        (8, "That is for two workers."),
        (RANK**4, "Ranks of a sum add; they do not multiply."),
        otherwise="Put the four left factors side by side: how many columns?",
    )
