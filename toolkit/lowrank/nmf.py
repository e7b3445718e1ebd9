"""Non-negative factors of the gradient's positive and negative parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count
from toolkit.lowrank.estimator import Range, RankedEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import column_lengths, finite, random_matrix

__all__ = ["NMF"]


class NMF(RankedEstimator):
    r"""Non-negative matrix factorisation of the gradient's positive and negative parts.

    .. math:: \hat G = W_+ H_+^T - W_- H_-^T, \quad
        W_\pm, H_\pm \ge 0 \text{ minimise } \|\max(\pm G, 0) - W_\pm H_\pm^T\|_F

    by hierarchical alternating least squares (HALS, Cichocki and Phan 2009), started from the
    factors of the previous batch. Written one outer product at a time, parts of one sign do not
    undo each other.

    The update has rank 2 k: k outer products with sigma >= 0 for the positive part, then k with
    sigma <= 0; left and right are non-negative and of unit length, but not orthogonal.

    max(G, 0) has no factored form, so every iteration computes G again, a few rows at a time and
    never more rows than the batch has samples. No m x n matrix is held, at a cost of 2 batch m n
    multiply-accumulates per iteration. This is the most expensive estimator of the toolkit.

    Parameters
    ----------
    rank : int
        Outer products of each sign, k.
    iterations : int
        HALS iterations of NMF per batch.
    seed : int or torch.Generator
        Draws the first factors and replaces those that vanish.

    References
    ----------
    Zhao, Adam, Stiles, Hoskins et al.: Gradient Decomposition Methods for Training Neural Networks
    With Non-ideal Synaptic Devices. Front. Neurosci. 15:749811, 2021,
    doi:10.3389/fnins.2021.749811. The paper forms the full gradient and factorises it from scratch.

    Examples
    --------
    >>> update = NMF(rank=3).update(torch.randn(64, 10), torch.randn(64, 20))
    >>> update.rank, bool((update.left >= 0).all() and (update.right >= 0).all())
    (6, True)
    """

    name = "nmf"
    _state = (*RankedEstimator._state, "_left", "_sigma", "_right", "_generator")

    def __init__(
        self,
        *,
        rank: int = 1,
        iterations: Annotated[int, Range(1, 100)] = 5,
        seed: int | torch.Generator = 0,
    ) -> None:
        super().__init__(rank=rank)
        self.iterations = check_count("iterations", iterations)
        self._generator = as_generator(seed)
        self._left: Tensor | None = None  # (2, m, k): positive part, negative part
        self._sigma: Tensor | None = None  # (2, 1, k)
        self._right: Tensor | None = None  # (2, n, k)

    def written_rank(self, batch: int) -> int:  # noqa: ARG002
        """Return 2 k: k each for the positive and negative parts."""
        return 2 * self.rank

    def words(self, m: int, n: int) -> int:
        """Return 2 k (m + n + 1), the factors of both signs."""
        return 2 * self.rank * (m + n + 1)

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return batch (m + n) for the batch, plus as many rows of G as it has samples."""
        return batch * (m + n) + min(batch, m) * n

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return per iteration 2 batch m n for G, 4 k m n for its products, 4 k^2 (m + n)."""
        k = self.rank
        return self.iterations * (2 * batch * m * n + 4 * k * m * n + 4 * k * k * (m + n))

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:
        left, sigma, right = self._factors(errors, activations)
        if not nonzero:
            return _signed(left, torch.zeros_like(sigma), right)
        for _ in range(self.iterations):
            products = [part @ right for _, part in _signed_rows(errors, activations)]
            left = _hals(left * sigma, torch.cat(products, dim=1), right.mT @ right)
            left, sigma = self._units(left)
            product = torch.zeros_like(right)
            for rows, part in _signed_rows(errors, activations):
                product += part.mT @ left[:, rows]
            right, sigma = self._units(_hals(right * sigma, product, left.mT @ left))
        order = finite(sigma).argsort(dim=2, descending=True)  # a lower rank keeps the largest
        self._left, self._sigma, self._right = (
            torch.take_along_dim(part, order, dim=2) for part in (left, sigma, right)
        )
        return _signed(self._left, self._sigma, self._right)

    def _factors(self, errors: Tensor, activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m, n = errors.shape[1], activations.shape[1]
        self._check_rank(m, n)
        if self._left is None or self._sigma is None or self._right is None:
            left, sigma, right = (errors.new_zeros(2, size, 0) for size in (m, 1, n))
        else:
            left, sigma, right = (t.to(errors) for t in (self._left, self._sigma, self._right))
        if (left.shape[1], right.shape[1]) != (m, n):
            raise ValueError(
                f"errors and activations must have {left.shape[1]} and {right.shape[1]} "
                f"features, as before; got {m} and {n}"
            )
        left, sigma, right = (part[:, :, : self.rank] for part in (left, sigma, right))
        missing = self.rank - left.shape[2]
        if missing:
            left = torch.cat([left, self._random(left, missing)], dim=2)
            right = torch.cat([right, self._random(right, missing)], dim=2)
            sigma = torch.cat([sigma, sigma.new_zeros(2, 1, missing)], dim=2)
        return left, sigma, right

    def _random(self, like: Tensor, count: int) -> Tensor:
        signs, rows, _ = like.shape
        drawn = random_matrix(signs * rows, count, self._generator, like=like)
        return drawn.abs().reshape(signs, rows, count)

    def _units(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit columns and their lengths; a column that vanished is redrawn.

        Least squares could never revive it, because its partner would vanish too.
        """
        lengths = column_lengths(factor)
        dead = lengths == 0
        if dead.any():
            fresh = self._random(factor, self.rank)
            factor = torch.where(dead, fresh / column_lengths(fresh), factor)
        return factor / torch.where(dead, 1.0, lengths), lengths


def _signed(left: Tensor, sigma: Tensor, right: Tensor) -> LowRank:
    """Put the positive part's outer products before those of the negative part."""
    return LowRank(
        torch.cat([left[0], left[1]], dim=1),
        torch.cat([sigma[0, 0], -sigma[1, 0]]),
        torch.cat([right[0], right[1]], dim=1),
    )


def _signed_rows(errors: Tensor, activations: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield max(G, 0) and max(-G, 0), stacked, a few rows of G at a time."""
    batch, m = errors.shape
    step = max(1, batch // 2)  # two signs: in total as many rows as samples
    for start in range(0, m, step):
        rows = slice(start, min(start + step, m))
        part = errors[:, rows].T @ activations
        yield rows, torch.stack([part, -part]).clamp_(min=0)


def _hals(factor: Tensor, product: Tensor, gram: Tensor) -> Tensor:
    """One pass of exact non-negative least squares over the columns, one after another."""
    factor = factor.clone()
    for p in range(factor.shape[2]):
        slope = product[:, :, p] - (factor @ gram[:, :, p : p + 1])[:, :, 0]
        factor[:, :, p] = (factor[:, :, p] + slope / gram[:, p, p, None]).clamp_(min=0)
    return factor
