"""The gradient itself, as factors like every other estimate."""

from __future__ import annotations

from torch import Tensor

from toolkit.lowrank.estimator import Estimator
from toolkit.lowrank.factors import LowRank

__all__ = ["FullGradient"]


class FullGradient(Estimator):
    """The batch itself as factors: exact, of rank = batch.

    ``left = errors.T``, ``sigma = 1``, ``right = activations.T``, so that
    ``left @ diag(sigma) @ right.T`` is exactly ``errors.T @ activations``. Written rank by rank on
    a crossbar, this is per-sample training, which needs neither memory nor sums; the costs below
    are those of summing the batch first.
    """

    name = "sgd"

    def written_rank(self, batch: int) -> int:
        """Return batch: one outer product per sample."""
        return batch

    def words(self, m: int, n: int) -> int:
        """Return m n, the accumulator for the sum over a batch."""
        return m * n

    def buffer_words(self, m: int, n: int, batch: int) -> int:  # noqa: ARG002
        """Return m + n: samples are summed one by one."""
        return m + n

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return batch m n, the sum over a batch."""
        return batch * m * n

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:  # noqa: ARG002
        return LowRank(errors.T, errors.new_ones(errors.shape[0]), activations.T)
