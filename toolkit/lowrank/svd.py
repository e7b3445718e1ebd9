"""The best rank-k approximation of one batch's gradient, without forming the gradient."""

from __future__ import annotations

from torch import Tensor

from toolkit.lowrank.estimator import RankedEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import factored_svd

__all__ = ["TruncatedSVD"]


class TruncatedSVD(RankedEstimator):
    """The k leading singular triplets of ``errors.T @ activations``; nothing is carried over.

    Thin QR of both factors, ``errors.T = Q_d R_d`` and ``activations.T = Q_a R_a``, then the SVD
    of the core ``R_d @ R_a.T``, which is min(m, batch) x min(n, batch). By Eckart and Young (1936)
    no matrix of rank k is closer in the Frobenius norm.

    Parameters
    ----------
    rank : int
        Number of singular triplets, k.

    Examples
    --------
    >>> errors, activations = torch.randn(64, 10), torch.randn(64, 20)
    >>> update = TruncatedSVD(rank=3).update(errors, activations)
    >>> torch.allclose(update.sigma, torch.linalg.svdvals(errors.T @ activations)[:3], rtol=1e-4)
    True
    """

    name = "svd"

    def __init__(self, *, rank: int = 1) -> None:
        super().__init__(rank=rank)

    def words(self, m: int, n: int) -> int:  # noqa: ARG002
        """Return 0: nothing is kept."""
        return 0

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return batch (m + n): the whole batch is held at once."""
        return batch * (m + n)

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return B^2 (m + n) for the QRs, about 10 B^3 for the SVD, k B (m + n) for the products.

        B stands for min(batch, m) or min(batch, n) if that is smaller.
        """
        p, q, k = min(batch, m), min(batch, n), self.rank
        qr = batch * p * m + batch * q * n
        return qr + batch * p * q + 10 * p * q * min(p, q) + k * (p * m + q * n)

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:  # noqa: ARG002
        self._check_rank(errors.shape[1], activations.shape[1])
        # a batch smaller than k has fewer triplets than k
        return LowRank(*factored_svd(errors, activations, self.rank))
