"""Exercises of notebook 08: equal memory, merging a sample, mixing without bias, feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.lowrank import SBPCA, FeedbackPCA, PowerIteration
from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Array: TypeAlias = npt.NDArray[np.float64]
Compress: TypeAlias = Callable[[Array], Array]
M, N, K = 5, 7, 2


@exercise("relatives.equal_memory")
def equal_memory(answer: tuple[int, int]) -> str | Wrong:
    """Ranks of SBPCA and power iteration for what FeedbackPCA keeps at memory rank 8."""
    sbpca, power = answer
    words = FeedbackPCA(rank=1, memory_rank=8).words(128, 65)
    if sbpca == 1:
        return wrong("The rank that FeedbackPCA writes is 1; what it keeps has rank 8.")
    if sbpca != words // SBPCA(rank=1).words(128, 65):
        return wrong("SBPCA keeps k (m + n + 1) numbers. Set that against 8 (m + n + 1).")
    if power == words // 128:
        return wrong("Power iteration keeps the right vectors, which have n entries each.")
    if power == 24:
        return wrong("24 would be 1,560 numbers: slightly too many.")
    if power != words // PowerIteration(rank=1).words(128, 65):
        return wrong("Divide 8 * 194 by what one direction of power iteration takes; round down.")
    return "One side instead of two, and none of sigma: but it holds the whole batch besides."


@exercise("relatives.merge")
def merge(answer: Callable[..., tuple[Array, Array]]) -> str | Wrong:
    """Factors of k + 1 columns of left diag(sigma) right.T + d a.T."""
    rng = np.random.default_rng(8)
    left, right = rng.normal(size=(M, K)), rng.normal(size=(N, K))
    sigma, d, a = np.array([2.0, 0.5]), rng.normal(size=M), rng.normal(size=N)
    p, q = (np.asarray(part) for part in answer(left, sigma, right, d, a))
    if p.shape == (M + 1, K) or q.shape == (N + 1, K):
        return wrong("A sample is one more column, not one more row.")
    if p.shape != (M, K + 1) or q.shape != (N, K + 1):
        return wrong(
            f"P must be (m, k + 1) = ({M}, {K + 1}) here and Q ({N}, {K + 1}); yours are "
            f"{p.shape} and {q.shape}."
        )
    product, outer = p @ q.T, np.outer(d, a)
    if close(product, left @ right.T + outer):
        return wrong("sigma is missing: it belongs into one of the two factors.")
    if close(product, (left * sigma**2) @ right.T + outer):
        return wrong("sigma is there twice: in one of the two factors is enough.")
    if not close(product, (left * sigma) @ right.T + outer):
        return wrong("Write P Q^T as a sum over columns: which column stands for the sample?")
    return "No matrix of m x n was formed."


@exercise("relatives.mix")
def mix(answer: Callable[..., tuple[Array, Array]]) -> str | Wrong:
    """One outer product with a random sign, whose mean is the sum of two triplets."""
    rng = np.random.default_rng(9)
    left, right = (np.linalg.qr(rng.normal(size=(size, 2)))[0] for size in (M, N))
    s1, s2 = 3.0, 0.7
    parts = s1, left[:, 0], right[:, 0], s2, left[:, 1], right[:, 1]
    outers = []
    for sign in (1, -1):
        x, y = (np.asarray(vector) for vector in answer(*parts, sign))
        if x.shape != (M,) or y.shape != (N,):
            return wrong(f"One vector for each side, ({M},) and ({N},); not {x.shape}, {y.shape}.")
        outers.append(np.outer(x, y))
    if close(outers[0], outers[1]):
        return wrong("Both signs give the same outer product. Where does the sign belong?")
    exact = (left * [s1, s2]) @ right.T
    if close((outers[0] + outers[1]) / 2, (left * [s1**2, s2**2]) @ right.T):
        return wrong("The mean has the squares of the singular values. What stands on each side?")
    if close((outers[0] + outers[1]) / 2, left @ right.T):
        return wrong("The singular values are missing: they belong, shared out, to both sides.")
    if not close((outers[0] + outers[1]) / 2, exact):
        return wrong("The mean is not the sum of the two. The sign must stand on both sides.")
    share = float(np.linalg.norm(outers[0] - exact) / np.linalg.norm(exact))
    return f"The cross terms cancel. Each sign alone is off by {share:.0%}: no bias, much noise."


@exercise("relatives.feedback")
def feedback(answer: Callable[[Array, Array, Compress], tuple[Array, Array]]) -> str | Wrong:
    """What is written and what is kept, of (gradient, residual, compress)."""
    rng = np.random.default_rng(10)
    gradient, residual = rng.normal(size=(M, N)), rng.normal(size=(M, N))
    written, kept = (np.asarray(part) for part in answer(gradient, residual, _rank_one))
    if close(written, _rank_one(gradient)):
        return wrong("The residual has to be written too, some time: what is to be compressed?")
    if close(written, _rank_one(gradient) + residual):
        return wrong("That writes the whole residual, of full rank. Compress the sum.")
    if not close(written, _rank_one(gradient + residual)):
        return wrong("What is written is the compressed sum of two matrices.")
    if close(kept, gradient - written):
        return wrong("What was left over before, and is not written now, would be lost.")
    if close(kept, written - gradient - residual):
        return wrong("The residual has the wrong sign: it would be written twice, not made up for.")
    if not close(written + kept, gradient + residual):
        return wrong("Nothing may get lost: written and kept together are what there was.")
    return "Written and kept add up to gradient and residual: nothing is ever lost."


def _rank_one(matrix: Array) -> Array:
    u, s, vh = np.linalg.svd(matrix)
    best: Array = s[0] * np.outer(u[:, 0], vh[0])
    return best
