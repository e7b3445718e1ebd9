"""PCA with factored error feedback: what is not written now is kept and written later.

This estimator is not from the SBPCA papers; it is an addition of this toolkit.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from toolkit.checks import check_count, check_real
from toolkit.lowrank.compiled import recursions
from toolkit.lowrank.estimator import Blockwise, Range, SubspaceEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import finite, random_matrix

__all__ = ["FeedbackPCA"]

_MEMORY = {"none": "3 k or 8", "stops": (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)}


class FeedbackPCA(Blockwise, SubspaceEstimator):
    r"""Streaming PCA that writes k directions per batch and remembers r > k.

    The memory :math:`M = U \mathrm{diag}(s) V^T` of rank r holds what has not been written yet.
    Each block :math:`G_i = D_i^T A_i` is added to it by one subspace iteration, started from the
    right vectors V and k random mixtures of the block's activations,
    :math:`V_0 = \mathrm{qr}[V, A_i^T \Omega]`,

    .. math::
        Q = \mathrm{qr}[(M + G_i) V_0], \qquad M \leftarrow Q\, Q^T (M + G_i),

    which has rank r + k; a small SVD restores the form of M. At the end of the batch, the k largest
    triplets of M are the update, and the other r, times ``decay``, are carried over. This is error
    feedback (Seide et al. 2014; PowerSGD, Vogels et al. 2019) with the m x n buffer itself kept at
    rank r; the new part uses the range finder of Halko, Martinsson and Tropp (2011). What exceeds
    rank r is lost; everything else is written sooner or later.

    Parameters
    ----------
    rank : int
        Outer products written per batch, k. Can be changed between updates.
    memory_rank : int, optional
        Rank of FeedbackPCA's memory, r. By default 3 k or 8, whichever is larger. At least k, and
        clipped to min(m, n). Can be changed between updates; lowering it drops the smallest
        triplets.
    decay : float
        Fraction of its unwritten memory that FeedbackPCA carries over. At 0 it forgets it; at 1
        nothing within rank r is ever dropped.
    block_size : int
        Samples per block, b. Larger blocks cost and lose less, but need a larger buffer.
    seed : int or torch.Generator
        Draws the first directions and the mixtures.

    Notes
    -----
    One update does not estimate the gradient of its own batch alone, as with other estimators: the
    sum of all updates follows the sum of all gradients. A batch without gradient still writes from
    the memory.

    Examples
    --------
    >>> errors, activations = torch.randn(64, 3), torch.randn(64, 20)
    >>> estimator = FeedbackPCA(rank=1)
    >>> written = estimator.update(errors, activations).dense()
    >>> for _ in range(2):  # batches without gradient: what is left of the first is written
    ...     written += estimator.update(0 * errors, activations).dense()
    >>> torch.allclose(written, errors.T @ activations, atol=1e-4)
    True
    """

    name = "feedback"
    _state = (*SubspaceEstimator._state, "_memory_rank")

    def __init__(
        self,
        *,
        rank: int = 1,
        memory_rank: Annotated[int | None, Range(1, 512, _MEMORY)] = None,
        decay: Annotated[float, Range(0.0, 1.0)] = 1.0,
        block_size: int = 128,
        seed: int | torch.Generator = 0,
    ) -> None:
        super().__init__(rank=rank, seed=seed)
        self.memory_rank = memory_rank
        self.decay = check_real("decay", decay, 0.0, 1.0)
        self.block_size = block_size

    @property
    def memory_rank(self) -> int:
        """Rank of the memory, r, before it is clipped to min(m, n)."""
        return max(self.rank, self._memory_rank or max(8, 3 * self.rank))

    @memory_rank.setter
    def memory_rank(self, memory_rank: int | None) -> None:
        self._memory_rank = None if memory_rank is None else check_count("memory_rank", memory_rank)

    def words(self, m: int, n: int) -> int:
        """Return the numbers kept between batches: r (m + n + 1)."""
        return self._kept(m, n) * (m + n + 1)

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return (b + r + 2 k) (m + n): one block, and r + k new vectors next to the r old ones."""
        block = min(self.block_size, batch)
        return (block + 2 * self._worked(m, n) - self._kept(m, n)) * (m + n)

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return 2 q (m + n) + k n per sample and 5 q^2 (m + n) + 10 q^3 per block, q = r + k."""
        q, blocks = self._worked(m, n), -(-batch // self.block_size)
        samples = batch * (2 * q * (m + n) + (q - self._kept(m, n)) * n)
        return samples + blocks * (5 * q * q * (m + n) + 10 * q**3)

    def _kept(self, m: int, n: int) -> int:
        return min(self.memory_rank, m, n)

    def _worked(self, m: int, n: int) -> int:
        return min(self._kept(m, n) + self.rank, m, n)

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:
        left, sigma, right = self._directions(errors, activations)
        if nonzero:
            r, q = sigma.shape[0], self._worked(left.shape[1], right.shape[1])
            blocks = errors.split(self.block_size), activations.split(self.block_size)
            for d, a in zip(*blocks, strict=True):
                left, sigma, right = self._merged(left, sigma, right, d, a, r, q)
        k, r = self.rank, self._kept(left.shape[1], right.shape[1])
        update = LowRank(left[:k].T, finite(sigma)[:k], right[:k].T)  # always largest first
        carried = torch.cat([self.decay * sigma[k:], sigma.new_zeros(k)])[:r]
        self._keep(left.roll(-k, dims=0)[:r], carried, right.roll(-k, dims=0)[:r])
        return update

    def _merged(
        self, left: Tensor, sigma: Tensor, right: Tensor, d: Tensor, a: Tensor, r: int, q: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One subspace iteration on the memory plus one block. Vectors are rows."""
        mixing = random_matrix(q - r, a.shape[0], self._generator, like=a)
        start = torch.cat([right[:r], mixing @ a])
        if recursions.on_arrays(left, right, d, a):
            done = recursions.feedback(left, sigma, right, d, a, start.clone())
            if done is not None:
                return done
        start, _ = self._rows(start)
        pushed = ((start @ right.T) * sigma) @ left
        new_left, _ = self._rows(torch.addmm(pushed, start @ a.T, d))
        turned = (new_left @ left.T) * sigma
        basis, core = torch.linalg.qr(torch.addmm(turned @ right, new_left @ d.T, a).T)
        u, sigma, vh = torch.linalg.svd(finite(core.T))
        return u.T @ new_left, sigma, vh @ basis.T
