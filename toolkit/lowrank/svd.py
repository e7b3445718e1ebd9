"""The best rank-k approximation of one batch's gradient, without forming the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.lowrank.estimator import RankedEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import thin_core

__all__ = ["TruncatedSVD"]


class TruncatedSVD(RankedEstimator):
    """The k leading singular triplets of ``errors.T @ activations``; no memory of the past.

    Thin QR of both factors, ``errors.T = Q_d R_d`` and ``activations.T = Q_a R_a``, then the SVD
    of the core ``R_d @ R_a.T``, which is min(m, batch) x min(n, batch). By Eckart and Young (1936)
    no matrix of rank k is nearer in the Frobenius norm.

    Parameters
    ----------
    rank : int
        Number of singular triplets, k.
    """

    name = "svd"

    def __init__(self, *, rank: int = 1) -> None:
        super().__init__(rank=rank)

    def _estimate(self, errors: Tensor, activations: Tensor, scale: float) -> LowRank:  # noqa: ARG002
        self._check_rank(errors.shape[1], activations.shape[1])
        q_left, core, q_right = thin_core(errors, activations)
        u, s, vh = torch.linalg.svd(core, full_matrices=False)
        k = min(self.rank, s.shape[0])  # a batch smaller than k has fewer triplets than k
        left, right = u[:, :k], vh[:k].T
        return LowRank(
            left if q_left is None else q_left @ left,
            s[:k],
            right if q_right is None else q_right @ right,
        )
