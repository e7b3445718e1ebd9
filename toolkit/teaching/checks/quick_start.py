"""Exercises of notebook 01: what a low-rank gradient takes, and a run as xarray."""

from __future__ import annotations

import xarray as xr

from toolkit.lowrank import SBPCA
from toolkit.teaching.exercises import Wrong, close, exercise, wrong


@exercise("quick_start.words")
def words(answer: float) -> str | Wrong:
    """How many numbers SBPCA keeps at rank 10 for a layer of 150 outputs and 784 inputs."""
    if close(answer, 10 * (150 + 784)):
        return wrong("That is left and right. There is a third factor: one number a direction.")
    if close(answer, 150 * 784):
        return wrong("That is the full gradient. How long is one column of left, and one of right?")
    if not close(answer, SBPCA(rank=10).words(150, 784)):
        return wrong("Count one direction first: a column of left, one of right, a sigma.")
    return "The full gradient would take 117,600 numbers, over twelve times as many."


@exercise("quick_start.first_step")
def first_step(answer: int, *, tree: xr.DataTree) -> str | Wrong:
    """The step at which the first loss was measured with rank 8."""
    rank = tree["training"]["rank"]
    if answer not in rank.step:
        return wrong(f"A step lies between {int(rank.step[0])} and {int(rank.step[-1])}.")
    if int(rank.sel(step=answer)) != 8:
        return wrong("At that step the rank was still 4. A change takes effect at the next batch.")
    if int(rank.sel(step=answer - 1)) == 8:
        return wrong("At that step rank 8 was not new any more: go back further.")
    return "The change itself is in the file, too: look at `tree['events']`."
