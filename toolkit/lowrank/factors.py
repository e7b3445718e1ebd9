"""The result of every estimator: a matrix as left, sigma and right factors.

:mod:`toolkit.crossbar` applies it to conductances.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from toolkit.checks import check_instance, check_real

__all__ = ["LowRank"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """A matrix of rank at most k, ``left @ diag(sigma) @ right.T``.

    Parameters
    ----------
    left : Tensor, shape (m, k)
        Error-side vectors, one per column.
    sigma : Tensor, shape (k,)
        Weight of each outer product. Not squared, not sorted, and possibly negative.
    right : Tensor, shape (n, k)
        Activation-side vectors, one per column.

    Raises
    ------
    TypeError, ValueError
        If one is not a tensor, or the three shapes do not fit together.

    Notes
    -----
    The factors can share memory with the estimator that made them: do not modify them.

    Examples
    --------
    >>> left, right = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0], [0.0]])
    >>> update = LowRank(left, torch.tensor([2.0]), right)
    >>> update.rank, update.shape
    (1, (2, 3))
    >>> update.dense()
    tensor([[0., 2., 0.],
            [0., 0., 0.]])
    """

    left: Tensor
    sigma: Tensor
    right: Tensor

    def __post_init__(self) -> None:
        parts = {"left": self.left, "sigma": self.sigma, "right": self.right}
        for name, part in parts.items():
            check_instance(name, part, Tensor, "a torch.Tensor")
        left, sigma, right = shapes = [tuple(part.shape) for part in parts.values()]
        if not (len(left) == len(right) == 2 and (left[1],) == sigma == (right[1],)):
            raise ValueError(f"left, sigma and right must be (m, k), (k,) and (n, k); got {shapes}")

    @property
    def rank(self) -> int:
        """Number of outer products, k."""
        return self.sigma.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the matrix."""
        return self.left.shape[0], self.right.shape[0]

    def dense(self) -> Tensor:
        """Return the (m, n) matrix ``left @ diag(sigma) @ right.T``."""
        return (self.left * self.sigma) @ self.right.T

    def add_to(self, weights: Tensor, alpha: float = 1.0) -> Tensor:
        """Add ``alpha * left @ diag(sigma) @ right.T`` to (m, n) weights, in place.

        Returns the weights. Raises ValueError if their shape is not :attr:`shape`.
        """
        check_real("alpha", alpha)
        check_instance("weights", weights, Tensor, "a torch.Tensor")
        if tuple(weights.shape) != self.shape:
            raise ValueError(f"weights must have shape {self.shape}; got {tuple(weights.shape)}")
        return weights.addmm_(self.left * self.sigma, self.right.T, alpha=alpha)
