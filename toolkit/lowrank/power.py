"""Warm-started power iteration: the compressor of PowerSGD, on factors."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.checks import check_flag
from toolkit.lowrank.estimator import SubspaceEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import finite

__all__ = ["PowerIteration"]


class PowerIteration(SubspaceEstimator):
    r"""One subspace iteration per batch, started from the previous batch's right vectors.

    With X (n, k) the previous batch's right vectors, and :math:`G = D^T A`, which is never formed,

    .. math:: P = \mathrm{qr}[D^T (A X)], \qquad \hat G = P\,(A^T (D P))^T,

    which is the projection of G onto the span of P. A small SVD makes the factors orthonormal and
    sorts them.

    Parameters
    ----------
    rank : int
        Number of directions, k.
    error_feedback : bool
        PowerIteration adds what earlier estimates left out. The remainder is kept in a buffer of
        m x n numbers and costs as many multiply-accumulates as the dense gradient. No other setting
        of this estimator forms an m x n matrix.
    seed : int or torch.Generator
        Draws the first directions.

    References
    ----------
    Vogels, Karimireddy, Jaggi: PowerSGD: Practical Low-Rank Gradient Compression for Distributed
    Optimization. NeurIPS 2019, arXiv:1905.13727. PowerSGD forms G and always uses error feedback.

    Examples
    --------
    >>> estimator = PowerIteration(rank=3)
    >>> errors, activations = torch.randn(64, 3), torch.randn(64, 20)  # a gradient of rank 3
    >>> update = estimator.update(errors, activations)
    >>> torch.allclose(update.dense(), errors.T @ activations, atol=1e-4)
    True
    """

    name = "power"
    _state = (*SubspaceEstimator._state, "_residual")

    def __init__(
        self, *, rank: int = 1, error_feedback: bool = False, seed: int | torch.Generator = 0
    ) -> None:
        super().__init__(rank=rank, seed=seed)
        self.error_feedback = check_flag("error_feedback", error_feedback)
        self._residual: Tensor | None = None

    def words(self, m: int, n: int) -> int:
        """Return k n for the right vectors, plus m n with error feedback."""
        return self.rank * n + (m * n if self.error_feedback else 0)

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return batch (m + n) + k m: the whole batch is read twice."""
        return batch * (m + n) + self.rank * m

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return 2 k batch (m + n) + k^2 (m + n), plus (batch + 3 k) m n with error feedback."""
        k = self.rank
        feedback = (batch + 3 * k) * m * n if self.error_feedback else 0
        return (2 * k * batch + k * k) * (m + n) + feedback

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:
        left, sigma, right = self._directions(errors, activations)
        residual = self._residual.to(errors) if self._residual is not None else None
        if not nonzero and residual is None:
            return self._keep(left, torch.zeros_like(sigma), right)
        pushed = (right @ activations.T) @ errors
        left, _ = self._rows(pushed if residual is None else pushed + right @ residual.T)
        pulled = (left @ errors.T) @ activations
        if residual is not None:
            pulled = pulled + left @ residual
        basis, r = torch.linalg.qr(pulled.T)
        u, sigma, vh = torch.linalg.svd(finite(r.T))
        update = self._keep(u.T @ left, sigma, vh @ basis.T)
        if self.error_feedback:
            gradient = errors.T @ activations
            gradient = gradient if residual is None else gradient + residual
            self._residual = update.add_to(gradient, alpha=-1.0)
        return update
