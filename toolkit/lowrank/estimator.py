"""The base class of estimators, checks of their input, and their state.

Each estimator has its own file; :mod:`toolkit.lowrank.registry` lists them by name.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from toolkit.checks import FLOATS, as_generator, check_count, check_instance
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import finite, orthonormal_rows, random_matrix

__all__ = [
    "Blockwise",
    "Estimator",
    "Range",
    "RankedEstimator",
    "Streamed",
    "SubspaceEstimator",
    "check_batch",
]


class Range(NamedTuple):
    """Bounds of a number in a constructor: ``Annotated[float, Range(0.0, 1.0)]``.

    ``shown`` says how programs present it: ``unit``, ``stops`` of a slider, and ``none``, the
    meaning of None.
    """

    low: float
    high: float
    shown: dict[str, Any] = {}  # noqa: RUF012 (never changed)


@dataclass(frozen=True)
class Streamed:
    """Activations (batch, n) that are made as an estimator reads them, never all at once.

    ``make(start, stop)`` gives those rows. Their entries are those of ``source``, which is checked
    in their place, and 1 where ``has_ones``.
    """

    shape: tuple[int, int]
    source: Tensor
    has_ones: bool
    make: Callable[[int, int], Tensor]

    def __getitem__(self, rows: slice) -> Tensor:
        start, stop, _ = rows.indices(self.shape[0])
        return self.make(start, stop)

    def detach(self) -> Streamed:
        """Itself: its rows carry no gradient."""
        return self


def check_batch(errors: Tensor, activations: Tensor | Streamed) -> bool:
    """Check one batch; return False if its errors or its activations are all zero.

    Raises
    ------
    TypeError
        If either is not a float32 or float64 tensor, or if their dtypes differ.
    ValueError
        If they are not (batch, m) and (batch, n) with batch >= 1, are on different devices, or
        contain a NaN or an infinity.
    """
    streamed = activations if isinstance(activations, Streamed) else None
    source: Any = activations if streamed is None else streamed.source
    for name, tensor, shaped in (
        ("errors", errors, errors),
        ("activations", source, activations),
    ):
        check_instance(name, tensor, Tensor, "a torch.Tensor")
        if tensor.dtype not in FLOATS:
            raise TypeError(f"{name} must be float32 or float64; got {tensor.dtype}")
        if len(shaped.shape) != 2 or 0 in shaped.shape:
            raise ValueError(
                f"{name} must be (batch, features), neither empty; got {tuple(shaped.shape)}"
            )
    if errors.dtype != source.dtype:
        raise TypeError(
            f"errors and activations must share a dtype; got {errors.dtype}, {source.dtype}"
        )
    if errors.device != source.device:
        raise ValueError(
            f"errors and activations must share a device; got {errors.device} and {source.device}"
        )
    if errors.shape[0] != activations.shape[0]:
        raise ValueError(
            f"errors and activations must have the same batch size; "
            f"got {errors.shape[0]} and {activations.shape[0]}"
        )
    some_errors = _finite_and_nonzero("errors", errors)
    some_inputs = _finite_and_nonzero("activations", source)
    return some_errors and (some_inputs or (streamed is not None and streamed.has_ones))


def _finite_and_nonzero(name: str, tensor: Tensor) -> bool:
    total = float(tensor.sum())  # the cheapest pass: finite and not 0 proves both
    if math.isfinite(total) and total != 0.0:
        return True
    low, high = (float(extreme) for extreme in torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} must be finite; got a NaN or an infinity")
    return low != 0.0 or high != 0.0


class Estimator(ABC):
    """Turns a stream of batches into low-rank approximations of ``errors.T @ activations``.

    A subclass defines ``name`` (its name in the registry), ``_estimate`` (the mathematics, on
    checked input) and ``_state`` (the attributes to save). ``_estimate`` computes first and
    assigns last, so that an error leaves the state unchanged.
    """

    name: ClassVar[str]
    reads_in_blocks: ClassVar[bool] = False  # of a Streamed batch; others make it whole
    _state: ClassVar[tuple[str, ...]] = ()

    @torch.no_grad()
    def update(self, errors: Tensor, activations: Tensor | Streamed) -> LowRank:
        """Take one batch and return the estimate of ``errors.T @ activations``.

        Parameters
        ----------
        errors : Tensor, shape (batch, m)
            Back-propagated errors, float32 or float64. With a mean-reduced loss they already
            carry 1/batch, and the estimate is the gradient of the mean loss.
        activations : Tensor or Streamed, shape (batch, n)
            The layer's inputs, of the same dtype and on the same device.

        Returns
        -------
        LowRank
            Factors of an (m, n) matrix, in the dtype and on the device of the input.

        Raises
        ------
        TypeError, ValueError
            On malformed or non-finite input, a shape other than the one learned, or a rank
            above min(m, n). The state is then unchanged.
        """
        if isinstance(activations, Streamed) and not self.reads_in_blocks:
            activations = activations[:]
        nonzero = check_batch(errors, activations)
        generator: torch.Generator | None = getattr(self, "_generator", None)
        draws = None if generator is None else generator.get_state()
        try:
            return self._estimate(errors.detach(), activations.detach(), nonzero)
        except ValueError:
            if generator is not None and draws is not None:
                generator.set_state(draws)  # an error must not change later draws
            raise

    @abstractmethod
    def _estimate(self, errors: Tensor, activations: Any, nonzero: bool) -> LowRank:
        """Estimate from checked input; not ``nonzero`` means all errors or activations are 0."""

    @abstractmethod
    def written_rank(self, batch: int) -> int:
        """Return the largest number of outer products in an update of a batch."""

    @abstractmethod
    def words(self, m: int, n: int) -> int:
        """Return how many numbers are kept between batches for an m x n layer."""

    @abstractmethod
    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return how many more numbers are held at once within a batch."""

    @abstractmethod
    def macs(self, m: int, n: int, batch: int) -> int:
        """Return the multiply-accumulates of one update, leading terms only."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that the next update depends on, except the knobs."""
        state = {name.lstrip("_"): _copy(getattr(self, name)) for name in self._state}
        return {"estimator": self.name, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state; ValueError if it is incomplete or another estimator's."""
        check_instance("state", state, Mapping, "a mapping, as state_dict gives it")
        names = {name.lstrip("_"): name for name in self._state}
        if state.get("estimator") != self.name or set(state) != {"estimator", *names}:
            raise ValueError(
                f"state must be of a {self.name!r} estimator with {sorted(names)}; "
                f"got {state.get('estimator')!r} with {sorted(set(state) - {'estimator'})}"
            )
        for key, name in names.items():
            _check_saved(key, state[key], getattr(self, name))
        for key, name in names.items():
            _restore(self, name, state[key])


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    return value.clone() if isinstance(value, Tensor) else value


def _check_saved(key: str, saved: Any, present: Any) -> None:
    """Raise ValueError if an entry of a state cannot replace the present one."""
    if isinstance(present, torch.Generator):
        try:
            torch.Generator(present.device).set_state(saved)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"{key} of the state must be a generator's: {error}") from error
    elif isinstance(saved, Tensor):
        if not bool(torch.isfinite(saved).all()):
            raise ValueError(f"{key} of the state must be finite; got NaN or infinite entries")
    elif isinstance(present, int) and (type(saved) is not type(present) or saved < 0):
        raise ValueError(f"{key} of the state must be a count; got {saved!r:.40}")


def _restore(target: object, name: str, value: Any) -> None:
    present = getattr(target, name)
    if isinstance(present, torch.Generator):
        present.set_state(value)
    else:
        setattr(target, name, _copy(value))


class RankedEstimator(Estimator):
    """An estimator whose result has a given rank.

    Parameters
    ----------
    rank : int
        Number of outer products in the result. Can be changed between updates.
    """

    _state: ClassVar[tuple[str, ...]] = ("_rank",)

    def __init__(self, *, rank: int) -> None:
        self._rank = check_count("rank", rank)

    @property
    def rank(self) -> int:
        """Number of outer products in the result."""
        return self._rank

    @rank.setter
    def rank(self, rank: int) -> None:
        self._rank = check_count("rank", rank)

    def written_rank(self, batch: int) -> int:  # noqa: ARG002
        """Return k."""
        return self._rank

    def _check_rank(self, m: int, n: int) -> None:
        if self._rank > min(m, n):
            raise ValueError(
                f"rank must be at most min(m, n) = {min(m, n)} for a layer of {m} x {n}; "
                f"got {self._rank}"
            )


class Blockwise:
    """An estimator that reads a batch in blocks."""

    @property
    def block_size(self) -> int:
        """Samples per block, b. Can be changed between updates."""
        return self._block_size

    @block_size.setter
    def block_size(self, block_size: int) -> None:
        self._block_size = check_count("block_size", block_size)


class SubspaceEstimator(RankedEstimator):
    """A ranked estimator that carries left vectors, sigma and right vectors between batches.

    The vectors are kept as rows, (k, m) and (k, n): on a CPU, products in this layout are several
    times faster than those of tall matrices.
    """

    _state: ClassVar[tuple[str, ...]] = ("_rank", "_left", "_sigma", "_right", "_generator")

    def __init__(self, *, rank: int, seed: int | torch.Generator) -> None:
        super().__init__(rank=rank)
        self._generator = as_generator(seed)
        self._left: Tensor | None = None
        self._sigma: Tensor | None = None
        self._right: Tensor | None = None

    @property
    def _fresh(self) -> bool:
        return self._sigma is None

    def _directions(
        self, errors: Tensor, activations: Tensor | Streamed
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the carried rows, :meth:`_kept` of them, with the input's dtype and device."""
        m, n = errors.shape[1], activations.shape[1]
        self._check_rank(m, n)
        if self._left is None or self._sigma is None or self._right is None:
            left, sigma, right = (errors.new_zeros(shape) for shape in ((0, m), (0,), (0, n)))
        else:
            left, sigma, right = (t.to(errors) for t in (self._left, self._sigma, self._right))
        if (left.shape[1], right.shape[1]) != (m, n):
            raise ValueError(
                f"errors and activations must have {left.shape[1]} and {right.shape[1]} "
                f"features, as before; got {m} and {n}"
            )
        return self._resized(left, sigma, right, self._kept(m, n))

    def _kept(self, m: int, n: int) -> int:  # noqa: ARG002
        """Return how many directions are carried between batches."""
        return self.rank

    def _resized(
        self, left: Tensor, sigma: Tensor, right: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        missing = count - sigma.shape[0]
        if missing < 0:
            largest = sigma.abs().topk(count).indices.sort().values
            return left[largest], sigma[largest], right[largest]
        if missing > 0:
            left, right = self._with_random(left, missing), self._with_random(right, missing)
            sigma = torch.cat([sigma, sigma.new_zeros(missing)])
        return left, sigma, right

    def _with_random(self, rows: Tensor, missing: int) -> Tensor:
        fresh = random_matrix(missing, rows.shape[1], self._generator, like=rows)
        q, signs = self._rows(torch.cat([rows, fresh]))
        return q * signs[:, None]

    def _rows(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        return orthonormal_rows(matrix, self._generator)

    def _keep(self, left: Tensor, sigma: Tensor, right: Tensor) -> LowRank:
        self._left, self._sigma, self._right = left, finite(sigma), right
        return LowRank(left.T, sigma, right.T)
