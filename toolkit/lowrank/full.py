"""The gradient itself, in the form that every other estimator's result has."""

from __future__ import annotations

from torch import Tensor

from toolkit.lowrank.estimator import Estimator
from toolkit.lowrank.factors import LowRank

__all__ = ["FullGradient"]


class FullGradient(Estimator):
    """The batch as its own factors: exact, of rank = batch.

    ``left = errors.T``, ``sigma = 1``, ``right = activations.T``, so that
    ``left @ diag(sigma) @ right.T`` is ``errors.T @ activations`` to the last bit. Written
    rank by rank on a crossbar this is per-sample training.
    """

    name = "sgd"

    def _estimate(self, errors: Tensor, activations: Tensor, scale: float) -> LowRank:  # noqa: ARG002
        return LowRank(errors.T, errors.new_ones(errors.shape[0]), activations.T)
