"""Exercises of notebook 08: equal memory, merging a sample, mixing without bias, feedback."""

from __future__ import annotations

import numpy as np

from toolkit.lowrank import SBPCA, FeedbackPCA, PowerIteration
from toolkit.teaching.exercises import (
    Array,
    Function,
    Wrong,
    close,
    exercise,
    judge,
    numbers,
    parts,
    two,
    wrong,
)

M, N, K = 5, 7, 2


@exercise("relatives.equal_memory")
def equal_memory(answer: tuple[int, int]) -> str | Wrong:
    """Ranks of SBPCA and power iteration for what FeedbackPCA keeps at memory rank 8."""
    sbpca, power = two(answer, "rank of SBPCA, rank of power iteration")
    words = FeedbackPCA(rank=1, memory_rank=8).words(128, 65)
    if close(sbpca, 1):
        return wrong("FeedbackPCA writes rank 1; what it keeps has rank 8.")
    if not close(sbpca, words // SBPCA(rank=1).words(128, 65)):
        return wrong("SBPCA keeps k (m + n + 1) numbers. Set that against 8 (m + n + 1).")
    return judge(
        power,
        (
            words // PowerIteration(rank=1).words(128, 65),
            "One side instead of two, and no sigma: but it holds the whole batch besides.",
        ),
        (words // 128, "Power iteration keeps the right vectors, which have n entries each."),
        (24, "24 would be 1,560 numbers: slightly too many."),
        otherwise="Divide 8 * 194 by what one direction of power iteration takes; round down.",
    )


@exercise("relatives.merge")
def merge(answer: Function) -> str | Wrong:
    """Factors of k + 1 columns of left diag(sigma) right.T + d a.T."""
    rng = np.random.default_rng(8)
    left, right = rng.normal(size=(M, K)), rng.normal(size=(N, K))
    sigma, d, a = np.array([2.0, 0.5]), rng.normal(size=M), rng.normal(size=N)
    p, q = parts(answer(left, sigma, right, d, a), "P", "Q")
    if p.shape == (M + 1, K) or q.shape == (N + 1, K):
        return wrong("A sample is one more column, not one more row.")
    if p.shape != (M, K + 1) or q.shape != (N, K + 1):
        return wrong(
            f"P must be (m, k + 1) = ({M}, {K + 1}) here and Q ({N}, {K + 1}); yours are "
            f"{p.shape} and {q.shape}."
        )
    sums = [(left * sigma**power) @ right.T + np.outer(d, a) for power in range(3)]
    return judge(
        p @ q.T,
        (sums[1], "No m x n matrix was formed."),
        (sums[0], "sigma is missing: it belongs in one of the two factors."),
        (sums[2], "sigma is there twice: one of the two factors is enough."),
        otherwise="Write P Q^T as a sum over columns: which column stands for the sample?",
    )


@exercise("relatives.mix")
def mix(answer: Function) -> str | Wrong:
    """One outer product with a random sign, whose mean is the sum of two triplets."""
    rng = np.random.default_rng(9)
    left, right = (np.linalg.qr(rng.normal(size=(size, 2)))[0] for size in (M, N))
    s1, s2 = sigma = np.array([3.0, 0.7])
    given = s1, left[:, 0], right[:, 0], s2, left[:, 1], right[:, 1]
    outers = []
    for sign in (1, -1):
        x, y = parts(answer(*given, sign), "the left vector", "the right vector")
        if x.shape != (M,) or y.shape != (N,):
            return wrong(f"One vector for each side, ({M},) and ({N},); not {x.shape}, {y.shape}.")
        outers.append(np.outer(x, y))
    if close(*outers):
        return wrong("Both signs give the same outer product. Where does the sign belong?")
    unscaled, exact, squared = ((left * sigma**power) @ right.T for power in range(3))
    share = np.linalg.norm(outers[0] - exact) / np.linalg.norm(exact)
    return judge(
        sum(outers) / 2,
        (
            exact,
            f"The cross terms cancel. Each sign alone is off by {share:.0%}: no bias, much noise.",
        ),
        (squared, "The mean has the squares of the singular values. What belongs on each side?"),
        (unscaled, "The singular values are missing: they belong, shared out, to both sides."),
        otherwise="The mean is not the sum of the two. The sign must be on both sides.",
    )


@exercise("relatives.feedback")
def feedback(answer: Function) -> str | Wrong:
    """What is written and what is kept, of (gradient, residual, compress)."""
    rng = np.random.default_rng(10)
    gradient, residual = rng.normal(size=(M, N)), rng.normal(size=(M, N))
    total = gradient + residual
    written, kept = parts(answer(gradient, residual, _rank_one), "what is written", "what is kept")
    alone = _rank_one(gradient)
    writing = judge(
        written,
        (_rank_one(total), ""),
        (alone, "The residual has to be written too, some time: what should be compressed?"),
        (alone + residual, "That writes the whole residual, of full rank. Compress the sum."),
        otherwise="What is written is the compressed sum of two matrices.",
    )
    return writing or judge(
        kept,
        (total - written, "Written and kept add up to gradient and residual: nothing is lost."),
        (gradient - written, "What was left over before, and is not written now, would be lost."),
        (written - total, "The residual has the wrong sign: it would be added a second time."),
        otherwise="Nothing may get lost: written and kept together are what there was.",
    )


def _rank_one(matrix: Array) -> Array:
    u, s, vh = np.linalg.svd(numbers(matrix))
    best: Array = s[0] * np.outer(u[:, 0], vh[0])
    return best
