"""Exercises of notebook 07: what SBPCA costs, and what sums of estimates capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from toolkit.lowrank import SBPCA, LowRank, captured_energy
from toolkit.teaching.exercises import Wrong, close, exercise, wrong

SumCheck: TypeAlias = Callable[[list[Tensor], list[Tensor]], float]
M, N = 128, 65


@exercise("rank_block_batch.break_even")
def break_even(answer: int) -> str | Wrong:
    """Largest rank at which SBPCA keeps fewer numbers than 128 x 65."""
    if answer == 43:
        return wrong("At rank 43 it is 43 * 194 = 8,342 numbers, and 128 * 65 = 8,320.")
    if answer in (64, 65, 128):
        return wrong("That is how large a rank can be. When does k (m + n + 1) reach m n?")
    if answer != max(k for k in range(1, N) if SBPCA(rank=k).words(M, N) < M * N):
        return wrong("Set k (m + n + 1) against m n, and round to the safe side.")
    return "For a square layer it is half of the full rank."


@exercise("rank_block_batch.macs")
def macs(answer: Callable[[int, int, int], float]) -> str | Wrong:
    """Multiply-accumulates per sample of the matrix products, a function of (m, n, k)."""
    cases = [(128, 65, 4), (10, 129, 3), (512, 4608, 16)]
    found = [float(answer(*case)) for case in cases]
    if close(found, [3 * k * (m + n) for m, n, k in cases]):
        return wrong("One of these products was computed in the line before, and kept.")
    if close(found, [k * (2 * m + 3 * n) for m, n, k in cases]):
        return wrong("Nearly. Which side is multiplied anew in the third line: D or A?")
    if close(found, [k * (m + n) for m, n, k in cases]):
        return wrong("Each of the first two lines has two products: down to k numbers, and up.")
    if close(found, [2 * k * (m + n) for m, n, k in cases]):
        return wrong("The first two lines are right. The third asks once more with the new left.")
    if not close(found, [_macs_by_difference(*case) for case in cases]):
        return wrong("D @ left is one sample's k m MAC; A.T @ (...) its k n. Go on like that.")
    return (
        "m n would be the outer product itself: the saving begins at k below about m n/(3m + 2n)."
    )


@exercise("rank_block_batch.writes")
def writes(answer: tuple[float, float]) -> str | Wrong:
    """How many times fewer array writes than SGD and MBGD: batch 64, rank 4, 128 x 65."""
    sgd, mbgd = answer
    if close(sgd, 1 / 16) or close(mbgd, 1 / 32):
        return wrong("How many times fewer: a number above 1.")
    if close(mbgd, 16) and close(sgd, 32):
        return wrong("The other way round: the first is SGD, one write a sample.")
    if not close(sgd, 16):
        return wrong("SGD writes once for each of the 64 samples. And SBPCA, in a batch?")
    if not close(mbgd, 32):
        return wrong("A sum is written row by row. How many rows has the array?")
    return (
        "And the batch size does not enter the second: MBGD writes m rows a batch, however large."
    )


@exercise("rank_block_batch.smallest_rank")
def smallest_rank(answer: int | None, *, accuracy: xr.DataArray, full: float) -> str | Wrong:
    """Smallest rank at which SBPCA's mean is within 2 points of the full gradient."""
    mean = accuracy.sel(estimator="SBPCA").mean("seed")
    ranks = [int(k) for k in mean["rank"] if float(mean.sel(rank=k)) >= full - 2]
    other = accuracy.sel(estimator="truncated SVD").mean("seed")
    theirs = [int(k) for k in other["rank"] if float(other.sel(rank=k)) >= full - 2]
    expected = ranks[0] if ranks else None
    if answer == expected:
        return "One run of a few epochs, one learning rate: look at the spread over the seeds, too."
    if answer not in ranks and answer == min(theirs, default=0):
        return wrong("That is the truncated SVD's. Select the estimator first.")
    if answer in mean["rank"] and answer not in ranks:
        return wrong(f"At rank {answer} the mean is {float(mean.sel(rank=answer)):.1f} %.")
    if answer in ranks:
        return wrong("At that rank it is within 2 points, but there is a smaller one.")
    return wrong("Take the mean over the seeds, then the ranks at which it is at least full - 2.")


@exercise("rank_block_batch.captured_by_sum")
def captured_by_sum(answer: SumCheck) -> str | Wrong:
    """Energy of the sum of gradients that the sum of estimates captures."""
    generator = torch.Generator().manual_seed(7)
    gradients = [torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(3)]
    estimates = [g + 0.5 * torch.randn(4, 6, generator=generator).double() for g in gradients]
    found = float(answer(gradients, estimates))
    true, guess = sum(gradients), sum(estimates)
    assert isinstance(true, Tensor)
    assert isinstance(guess, Tensor)
    lost = (true - guess).square().sum() / true.square().sum()
    if close(found, float(lost)):
        return wrong("That is the share that is lost.")
    if close(found, 1 - float(lost) ** 0.5):
        return wrong("Both norms are squared in the formula.")
    if close(found, np.mean([_captured(e, g) for e, g in zip(estimates, gradients, strict=True)])):
        return wrong("That is the mean over single batches. Sum first, then compare.")
    if not close(found, _captured(guess, true)):
        return wrong("Sum each list first; then norms of one difference and of one matrix.")
    return "With a single matrix in each list it is `captured_energy`."


def _captured(estimate: Tensor, gradient: Tensor) -> float:
    """The library's captured energy, of dense matrices."""
    u, s, vh = torch.linalg.svd(estimate, full_matrices=False)
    eye = torch.eye(len(gradient), dtype=gradient.dtype)
    return captured_energy(LowRank(u, s, vh.T), eye, gradient)


def _macs_by_difference(m: int, n: int, k: int) -> float:
    """SBPCA's own count for one sample more in the same block, so that qr drops out."""
    estimator = SBPCA(rank=k, block_size=64)
    return estimator.macs(m, n, 64) - estimator.macs(m, n, 63)
