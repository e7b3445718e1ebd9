"""Exercises of notebook 01: the memory of a low-rank gradient, and a run as xarray."""

from __future__ import annotations

from typing import Any

import xarray as xr

from toolkit.lowrank import SBPCA
from toolkit.teaching.exercises import Wrong, exercise, judge, number, wrong


@exercise("quick_start.words")
def words(answer: float) -> str | Wrong:
    """How many numbers SBPCA keeps at rank 10 for a matrix of 150 x 784."""
    return judge(
        answer,
        (SBPCA(rank=10).words(150, 784), "The full gradient takes 117,600: over 12 times as many."),
        (10 * (150 + 784), "That is left and right. A third factor has one number per direction."),
        (10 * (150 + 785 + 1), "That counts a column for the bias: here the matrix is 150 x 784."),
        (150 * 784, "That is the full gradient. How long is one column of left, one of right?"),
        otherwise="Count one direction first: a column of left, one of right, a sigma.",
    )


@exercise("quick_start.first_step")
def first_step(answer: Any, *, tree: xr.DataTree) -> str | Wrong:
    """The step at which the first loss was measured with rank 8."""
    rank, step = tree["training"]["rank"], number(answer)
    if step not in rank.step:
        return wrong(f"The steps go from {int(rank.step[0])} to {int(rank.step[-1])}.")
    if int(rank.sel(step=step)) != 8:
        last = step + 1 in rank.step and int(rank.sel(step=step + 1)) == 8
        return wrong(
            "That is the last step with rank 4. Is it a position? Those count from 0, steps from 1."
            if last
            else "At that step the rank was not 8. A change takes effect at the next batch."
        )
    if step - 1 in rank.step and int(rank.sel(step=step - 1)) == 8:
        return wrong("At that step rank 8 was no longer new: go back further.")
    return "The change itself is in the file, too: look at `tree['events']`."
