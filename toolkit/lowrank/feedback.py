"""PCA with factored error feedback: keep more than is written, and write the rest later.

This estimator is this toolkit's own. It is not in the SBPCA papers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.lowrank.estimator import SubspaceEstimator, check_count, check_nonnegative
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import finite

__all__ = ["FeedbackPCA"]


class FeedbackPCA(SubspaceEstimator):
    r"""Streaming PCA that writes k directions a batch and remembers r > k.

    The memory :math:`M = U \mathrm{diag}(s) V^T` of rank r holds what was asked for but not
    written yet. Each block :math:`G_i = D_i^T A_i` is added to it by one subspace iteration from
    the right vectors V,

    .. math::
        Q = \mathrm{qr}[(M + G_i) V], \qquad M \leftarrow Q\, Q^T (M + G_i),

    and a small SVD brings M back to its form. At the end of the batch the k largest triplets of M
    are the update; the other r - k are carried over, times ``decay``. This is error feedback (Seide
    et al. 2014; PowerSGD, Vogels et al. 2019) whose m x n buffer is itself kept at rank r: what
    falls outside rank r is lost, everything else is written sooner or later. The directions just
    written stay, with weight 0, so that the next batch finds them at once.

    Parameters
    ----------
    rank : int
        Outer products written per batch, k. May be set between updates.
    memory_rank : int, optional
        Rank of the memory, r. By default 3 k or 8, whichever is larger. Never less than k, and
        clipped to min(m, n). May be set between updates: lowering it drops the lightest triplets.
    decay : float
        Share of the unwritten part that is carried over, 0 to 1. 0 makes this a warm-started power
        iteration; at 1 nothing within rank r is ever dropped.
    block_size : int
        Samples per block, b. Larger blocks are cheaper and lose less; they need a larger buffer.
    seed : int or torch.Generator
        Draws the first directions.

    Notes
    -----
    Unlike the other estimators' results, one update is not an estimate of the present batch's
    gradient alone: the sum of all updates follows the sum of all gradients. A batch without
    gradient still writes what is left in memory.
    """

    name = "feedback"
    _state = (*SubspaceEstimator._state, "_memory_rank")

    def __init__(
        self,
        *,
        rank: int = 1,
        memory_rank: int | None = None,
        decay: float = 1.0,
        block_size: int = 128,
        seed: int | torch.Generator = 0,
    ) -> None:
        super().__init__(rank=rank, seed=seed)
        self.memory_rank = memory_rank
        self.decay = check_nonnegative("decay", decay, maximum=1.0)
        self.block_size = block_size

    @property
    def memory_rank(self) -> int:
        """Rank of the memory, r, before it is clipped to min(m, n)."""
        return max(self.rank, self._memory_rank or max(8, 3 * self.rank))

    @memory_rank.setter
    def memory_rank(self, memory_rank: int | None) -> None:
        self._memory_rank = None if memory_rank is None else check_count("memory_rank", memory_rank)

    @property
    def block_size(self) -> int:
        """Samples per block, b. May be set between updates."""
        return self._block_size

    @block_size.setter
    def block_size(self, block_size: int) -> None:
        self._block_size = check_count("block_size", block_size)

    def words(self, m: int, n: int) -> int:
        """Return the numbers kept between batches: r (m + n + 1)."""
        return self._kept(m, n) * (m + n + 1)

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return b (m + n) + r (m + n): one block, and the new vectors beside the old."""
        return (min(self.block_size, batch) + self._kept(m, n)) * (m + n)

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return 2 r (m + n) per sample, and 3 r^2 (m + n) + 10 r^3 per block."""
        r, blocks = self._kept(m, n), -(-batch // self.block_size)
        return 2 * r * batch * (m + n) + blocks * (3 * r * r * (m + n) + 10 * r**3)

    def _kept(self, m: int, n: int) -> int:
        return min(self.memory_rank, m, n)

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:
        memory = self._directions(errors, activations)
        if nonzero:
            blocks = errors.split(self.block_size), activations.split(self.block_size)
            for d, a in zip(*blocks, strict=True):
                memory = self._merged(*memory, d, a)
        left, sigma, right = memory
        heaviest_first = sigma.argsort(descending=True)
        left, sigma, right = (part[heaviest_first] for part in (left, sigma, right))
        k = self.rank
        carried = torch.cat([sigma.new_zeros(k), self.decay * sigma[k:]])
        self._keep(left, carried, right)
        return LowRank(left[:k].T, sigma[:k], right[:k].T)

    def _merged(
        self, left: Tensor, sigma: Tensor, right: Tensor, d: Tensor, a: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One subspace iteration on the memory plus one block. Vectors are rows."""
        new_left, _ = self._rows(torch.addmm(sigma[:, None] * left, right @ a.T, d))
        turned = (new_left @ left.T) * sigma
        basis, r = torch.linalg.qr(torch.addmm(turned @ right, new_left @ d.T, a).T)
        u, sigma, vh = torch.linalg.svd(finite(r.T))
        return u.T @ new_left, sigma, vh @ basis.T
