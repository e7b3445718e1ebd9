"""Exercises of notebook 07: what SBPCA costs, and what sums of estimates capture."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from toolkit.lowrank import SBPCA, LowRank, captured_energy
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

M, N = 128, 65


@exercise("rank_block_batch.break_even")
def break_even(answer: int) -> str | Wrong:
    """Largest rank at which SBPCA keeps fewer numbers than 128 x 65."""
    largest = max(k for k in range(1, N) if SBPCA(rank=k).words(M, N) < M * N)
    return judge(
        answer,
        (largest, "For a square layer it is half of the full rank."),
        (43, "At rank 43 it is 43 * 194 = 8,342 numbers, and 128 * 65 = 8,320."),
        (64, 65, 128, "That is how large a rank can be. When does k (m + n + 1) reach m n?"),
        otherwise="Set k (m + n + 1) against m n, and round to the safe side.",
    )


@exercise("rank_block_batch.macs")
def macs(answer: Function) -> str | Wrong:
    """Multiply-accumulates per sample of the matrix products, a function of (m, n, k)."""
    cases = [(128, 65, 4), (10, 129, 3), (512, 4608, 16)]
    m, n, k = np.array(cases).T
    right = [_macs_by_difference(*case) for case in cases]
    return judge(
        outputs(answer, cases),
        (right, "m n is the outer product itself: you save at k below about m n / (3m + 2n)."),
        (3 * k * (m + n), "One of these products was computed in the line before, and kept."),
        (k * (2 * m + 3 * n), "Nearly. Which side does the third line multiply again: D or A?"),
        (k * (m + n), "The first two lines have two products each: down to k numbers, and up."),
        (2 * k * (m + n), "Right for two lines. The third asks for one more with the new left."),
        otherwise="D @ left takes k m MACs per sample; A.T @ (...) takes k n. Go on like that.",
    )


@exercise("rank_block_batch.writes")
def writes(answer: tuple[float, float]) -> str | Wrong:
    """How many times fewer array writes than SGD and MBGD: batch 64, rank 4, 128 x 65."""
    sgd, mbgd = two(answer, "against SGD, against MBGD")
    if close(sgd, 1 / 16) or close(mbgd, 1 / 32):
        return wrong("How many times fewer: a number above 1.")
    if close((sgd, mbgd), (32, 16)):
        return wrong("The other way round: the first is SGD, one write per sample.")
    if not close(sgd, 16):
        return wrong("SGD writes once for each of the 64 samples. And SBPCA, in a batch?")
    if not close(mbgd, 32):
        return wrong("A sum is written row by row. How many rows has the array?")
    return "The second does not depend on the batch size: MBGD writes m rows for any batch."


@exercise("rank_block_batch.smallest_rank")
def smallest_rank(answer: int | None, *, accuracy: xr.DataArray, full: float) -> str | Wrong:
    """Smallest rank at which SBPCA's mean is within 2 points of the full gradient."""
    mean, svd = (accuracy.sel(estimator=e).mean("seed") for e in ("SBPCA", "truncated SVD"))
    ranks, theirs = ([int(k) for k in m["rank"][m >= full - 2]] for m in (mean, svd))
    rank = None if answer is None else number(answer)
    if rank == (ranks[0] if ranks else None):
        return "One run of a few epochs, one learning rate: look at the spread over the seeds, too."
    if rank in ranks:
        return wrong("At that rank it is within 2 points, but there is a smaller one.")
    if rank in theirs[:1]:
        return wrong("That is the truncated SVD's. Select the estimator first.")
    if rank in mean["rank"]:
        return wrong(f"At rank {rank:g} the mean is {float(mean.sel(rank=rank)):.1f} %.")
    return wrong("Take the mean over the seeds, then the ranks at which it is at least full - 2.")


@exercise("rank_block_batch.captured_by_sum")
def captured_by_sum(answer: Function) -> str | Wrong:
    """Energy of the sum of gradients that the sum of estimates captures."""
    generator = torch.Generator().manual_seed(7)
    gradients, noise = torch.randn(2, 3, 4, 6, generator=generator, dtype=torch.float64)
    estimates = gradients + 0.5 * noise
    right = _captured(estimates.sum(0), gradients.sum(0))
    by_batch = np.mean([_captured(*pair) for pair in zip(estimates, gradients, strict=True)])
    return judge(
        answer(list(gradients), list(estimates)),
        (right, "With a single matrix in each list it is `captured_energy`."),
        (1 - right, "That is the share that is lost."),
        (1 - np.sqrt(1 - right), "Both norms are squared in the formula."),
        (by_batch, "That is the mean over single batches. Sum first, then compare."),
        otherwise="Sum each list first; then norms of one difference and of one matrix.",
    )


def _captured(estimate: Tensor, gradient: Tensor) -> float:
    """Return the library's captured energy, of dense matrices."""
    u, s, vh = torch.linalg.svd(estimate, full_matrices=False)
    return captured_energy(LowRank(u, s, vh.T), torch.eye(len(gradient)).double(), gradient)


def _macs_by_difference(m: int, n: int, k: int) -> float:
    """Return SBPCA's own count for one more sample in the same block, so that qr drops out."""
    estimator = SBPCA(rank=k, block_size=64)
    return estimator.macs(m, n, 64) - estimator.macs(m, n, 63)
