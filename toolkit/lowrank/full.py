"""The gradient itself, as factors like every other estimate."""

from __future__ import annotations

from torch import Tensor

from toolkit.lowrank.estimator import Estimator
from toolkit.lowrank.factors import LowRank

__all__ = ["FullGradient"]


class FullGradient(Estimator):
    """The exact gradient, without truncation: one outer product for each sample.

    A batch's gradient ``errors.T @ activations`` is a sum of outer products, one for each sample.
    They are the factors: ``left = errors.T``, ``sigma = 1``, ``right = activations.T``. Nothing is
    estimated and no rank is chosen: the update has as many outer products as the batch samples.

    Written one by one on a crossbar (scheme ``rank-sequential``), this is per-sample training,
    which needs neither memory nor sums. Their sum at once (``rank-sum``) is mini-batch gradient
    descent; the costs below are those of this sum.

    Examples
    --------
    >>> errors, activations = torch.randn(64, 10), torch.randn(64, 20)
    >>> update = FullGradient().update(errors, activations)
    >>> update.rank
    64
    >>> torch.allclose(update.dense(), errors.T @ activations, atol=1e-4)
    True
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
