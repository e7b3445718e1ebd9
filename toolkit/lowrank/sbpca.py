"""Streaming batch PCA, the estimator that this toolkit is named after.

Its rank-1 predecessor and its relatives have files of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.lowrank.estimator import RankedEstimator, as_generator, check_count
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import orthonormal_columns, random_matrix

__all__ = ["SBPCA"]


class SBPCA(RankedEstimator):
    r"""Streaming batch principal component analysis of the gradient (SBPCA).

    Left vectors :math:`\Delta` (m, k), right vectors X (n, k) and singular values sigma (k,) are
    carried from batch to batch. A batch is read in blocks of b samples. With
    :math:`G_i = (B/b) D_i^T A_i`, what block i alone says of the whole batch's gradient,
    and :math:`w_i = 1/(i+2)`,

    .. math::
        X      &\leftarrow \mathrm{qr}[(1-w_i) X + w_i G_i^T \Delta\, \mathrm{diag}(\sigma)^{-1}]\\
        \Delta &\leftarrow \mathrm{qr}[(1-w_i) \Delta + w_i G_i X\, \mathrm{diag}(\sigma)^{-1}]\\
        \sigma &\leftarrow (1-w_i)\sigma + w_i\,\mathrm{diag}(\Delta^T G_i X)

    The whole past thus counts as one block. G is never formed: only products of a block with k
    vectors are. qr keeps the Q whose R has a positive diagonal.

    Parameters
    ----------
    rank : int
        Number of directions, k. Raising it later adds random directions of sigma 0; lowering it
        keeps the directions of largest \|sigma\|.
    block_size : int
        Samples per block, b.
    seed : int or torch.Generator
        Draws the first directions and the replacements of directions that died.

    Notes
    -----
    Where the published recursion leaves a choice open or fails, this is what happens here:

    - sigma is in the scale of ``errors.T @ activations`` (hence B/b, not 1/b, above), so the
      estimate does not jump when the batch size changes.
    - The last block may be shorter. Each block weighs as many samples as it has,
      :math:`w_i = b_i / (b + b_0 + \dots + b_i)`, which is 1/(i+2) for full blocks. A batch
      smaller than b is one block, and the past counts as much as it.
    - The first batch has no past: its past counts 0, not as one block of sigma = 1.
    - The columns are multiplied by sigma instead of the innovation divided by it. qr ignores the
      lengths of columns, so the result is the same, and sigma = 0 is harmless.
    - A batch without gradient only shrinks sigma. sign(0) is +1 in qr, and a column that lost its
      direction is drawn afresh.

    References
    ----------
    Huang, Hoskins, Daniels, Stiles, Adam: Low-Rank Gradient Descent for Memory-Efficient Training
    of Deep In-Memory Arrays. ACM J. Emerg. Technol. Comput. Syst. 19(2), 2023,
    doi:10.1145/3577214.
    """

    name = "sbpca"
    _state = (*RankedEstimator._state, "_left", "_sigma", "_right", "_generator")

    def __init__(
        self, *, rank: int = 1, block_size: int = 32, seed: int | torch.Generator = 0
    ) -> None:
        super().__init__(rank=rank)
        self.block_size = block_size
        self._generator = as_generator(seed)
        self._left: Tensor | None = None
        self._sigma: Tensor | None = None
        self._right: Tensor | None = None

    @property
    def block_size(self) -> int:
        """Samples per block, b. May be set between updates."""
        return self._block_size

    @block_size.setter
    def block_size(self, block_size: int) -> None:
        self._block_size = check_count("block_size", block_size)

    def _estimate(self, errors: Tensor, activations: Tensor, scale: float) -> LowRank:
        batch, m, n = errors.shape[0], errors.shape[1], activations.shape[1]
        self._check_rank(m, n)
        block = min(self.block_size, batch)
        past = 0 if self._sigma is None else block
        left, sigma, right = self._directions(m, n, like=errors)
        if scale == 0.0:
            sigma = sigma * (past / (past + batch))
            self._left, self._sigma, self._right = left, sigma, right
            return LowRank(left, sigma, right)
        seen = past
        for d, a in zip(errors.split(block), activations.split(block), strict=True):
            seen += d.shape[0]
            w = d.shape[0] / seen
            gain = batch / seen  # w * B / b
            kept = (1 - w) * sigma
            right = self._orthonormal(torch.addmm(right * kept, a.T, d @ left, alpha=gain), sigma)
            projected = a @ right
            left = self._orthonormal(torch.addmm(left * kept, d.T, projected, alpha=gain), sigma)
            sigma = kept + gain * ((d @ left) * projected).sum(0)
        if not torch.isfinite(sigma).all():
            raise ValueError(f"errors.T @ activations overflows {errors.dtype}")
        self._left, self._sigma, self._right = left, sigma, right
        return LowRank(left, sigma, right)

    def _orthonormal(self, columns: Tensor, sigma: Tensor) -> Tensor:
        q, signs = orthonormal_columns(columns, self._generator)
        return q * torch.copysign(signs, signs * sigma)

    def _directions(self, m: int, n: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state with exactly ``rank`` directions, in the dtype and device of like."""
        if self._left is None or self._sigma is None or self._right is None:
            left, sigma, right = like.new_zeros(m, 0), like.new_zeros(0), like.new_zeros(n, 0)
        else:
            left, sigma, right = (t.to(like) for t in (self._left, self._sigma, self._right))
        if (left.shape[0], right.shape[0]) != (m, n):
            raise ValueError(
                f"errors and activations must have {left.shape[0]} and {right.shape[0]} "
                f"features, as before; got {m} and {n}"
            )
        missing = self.rank - sigma.shape[0]
        if missing < 0:
            largest = sigma.abs().topk(self.rank).indices.sort().values
            return left[:, largest], sigma[largest], right[:, largest]
        if missing > 0:
            return (
                self._with_random(left, missing),
                torch.cat([sigma, sigma.new_zeros(missing)]),
                self._with_random(right, missing),
            )
        return left, sigma, right

    def _with_random(self, columns: Tensor, missing: int) -> Tensor:
        fresh = random_matrix(columns.shape[0], missing, like=columns, generator=self._generator)
        q, signs = orthonormal_columns(torch.cat([columns, fresh], dim=1), self._generator)
        return q * signs
