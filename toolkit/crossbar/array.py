"""The interface of all arrays of weights: shape, reads, writes, checks, state."""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import (
    all_finite,
    check_choice,
    check_count,
    check_instance,
    check_matrix,
    check_real,
    check_signal,
    check_tensor,
)
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.programming import Reached, read_reached, write_targets
from toolkit.crossbar.pulses import SCHEMES
from toolkit.crossbar.states import check_same, described, load_whole
from toolkit.lowrank import LowRank


def opaque(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hide ``function`` from torch.compile; torch's own ``disable`` is slow to import and call."""
    disabled = functools.cache(lambda dynamo: dynamo.disable(function))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return disabled(sys.modules["torch._dynamo"])(*args, **kwargs)
        return function(*args, **kwargs)

    return call


class Array(ABC):
    """Weights (m, n) that can be read, written and saved. Layers are built on arrays."""

    def __init__(self, weights: Tensor) -> None:
        rows, columns = weights.shape
        self._shape, self._dtype = (rows, columns), weights.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and of all signals."""
        return self._dtype

    @property
    @abstractmethod
    def weights(self) -> Tensor:
        """A copy of the weights, (m, n), without read noise."""

    @property
    @abstractmethod
    def device(self) -> Device | None:
        """The kind of cell; None if the array has no cells."""

    @property
    @abstractmethod
    def conductance(self) -> Tensor | None:
        """(2, m, n) siemens, plus then minus; None if the array has no cells."""

    @property
    @abstractmethod
    def pulse_count(self) -> Tensor | None:
        """(2, m, n) int64: pulses each cell has received, plus then minus; None without cells."""

    @property
    @abstractmethod
    def pulses(self) -> int:
        """Total number of pulses issued so far."""

    @opaque
    def read(self, activations: Tensor) -> Tensor:
        """Return ``activations @ weights.T`` as the array computes it: (batch, n) -> (batch, m)."""
        check_signal("activations", activations, self.shape[1], self.dtype)
        return self._read(activations, transposed=False)

    @opaque
    def read_transposed(self, errors: Tensor) -> Tensor:
        """Return ``errors @ weights``, (batch, m) -> (batch, n): driven from the outputs."""
        check_signal("errors", errors, self.shape[0], self.dtype)
        return self._read(errors, transposed=True)

    def apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """Change the weights by ``-learning_rate * left diag(sigma) right.T``.

        On cells, ``rank-sequential`` writes one outer product after another and rounds each to
        pulses; ``rank-sum`` adds them up digitally and writes the sum once. Applying a full
        gradient rank-sequentially is per-sample training.

        Raises
        ------
        ValueError
            If the shapes differ, a value is not finite, the scheme is unknown or not supported
            by the coding, or the number of pulses overflows. Nothing is written then.
        """
        self.check_apply(update, learning_rate=learning_rate, scheme=scheme)
        self.write(update, learning_rate=learning_rate, scheme=scheme)

    def check_apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """Raise the ValueError that :meth:`apply` would raise. Writes nothing."""
        check_instance("update", update, LowRank, "a LowRank")
        if update.shape != self.shape:
            raise ValueError(f"update must have shape {self.shape}; got {update.shape}")
        for name in ("left", "sigma", "right"):
            check_tensor(f"update.{name}", getattr(update, name))
        check_real("learning_rate", learning_rate)
        self.check_scheme(scheme)
        self._check_demand(update, learning_rate)

    def check_scheme(self, scheme: str) -> None:
        """Raise ValueError if the scheme is unknown or the array cannot write it."""
        check_choice("scheme", scheme, SCHEMES)

    @abstractmethod
    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Like :meth:`apply`, for arguments that :meth:`check_apply` has accepted."""

    def save_targets(self, path: str | Path, *, tolerance: float = 0.01) -> None:
        """Write the conductances to a CSV, to program a real chip.

        A row per cell holds its polarity, output and input, the target and the band around it in
        siemens, and an empty ``reached_S`` for the chip's answer, which :meth:`load_reached` reads.
        ``tolerance`` is half the band, as a fraction of the device's range.

        Raises
        ------
        TypeError, ValueError
            If the tolerance is not positive, or the array has no cells or several for a place.
        OSError
            If the file cannot be written.
        """
        conductance, device = self._one_chip()
        write_targets(conductance, path, tolerance, device.span)

    def load_reached(self, path: str | Path) -> Reached:
        """Set the conductances to those that a chip reached, from a CSV of :meth:`save_targets`.

        Every cell must have its ``reached_S``. A conductance beyond what a cell can hold is clipped
        and counted. No pulses are counted. The fixed cells of a reference pair take theirs, too.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is not there or holds something else, or the array has no cells or several
            for a place; nothing is changed then.
        """
        _, device = self._one_chip()
        targets, reached = read_reached(path, self.shape)
        self._put(torch.from_numpy(reached))
        return Reached.of(targets, reached, self._one_chip()[0], device.span)

    def _one_chip(self) -> tuple[Tensor, Device]:
        """Conductances (2, m, n) and device of an array with two cells for a weight."""
        if self.conductance is None or self.device is None:
            raise ValueError(f"files of targets need cells; {type(self).__name__} has none")
        return self.conductance, self.device

    def _put(self, conductance: Tensor) -> None:
        """Set the conductances, (2, m, n) siemens, clipped to what cells can hold."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and everything needed to continue with the same bits."""
        settings = self._settings()
        return self._saved() | ({"settings": described(settings)} if settings else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned and continue with the same bits.

        Raises
        ------
        ValueError
            If an entry is missing, a shape differs, a value is not finite, or the state comes
            from an array with other settings. Nothing is changed then.
        """
        load_whole(state, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        if settings := self._settings():
            check_same(state["settings"], settings)
        self._restore(state)

    def _settings(self) -> dict[str, Any]:
        """Settings that the state depends on: compared on loading, not loaded."""
        return {}

    @abstractmethod
    def _saved(self) -> dict[str, Any]:
        """The state without the settings."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Load what :meth:`_saved` returned; ValueError if something does not fit."""

    @abstractmethod
    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        """Read with checked input."""

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:  # noqa: B027
        """Raise ValueError if the update asks for too many pulses."""


def check_pulses(pulses: Tensor, shape: tuple[int, int], pair: str) -> None:
    """Check that pulses are finite whole numbers (2, m, n), 0 for reference cells."""
    check_instance("pulses", pulses, Tensor, "a torch.Tensor")
    if tuple(pulses.shape) != (2, *shape):
        raise ValueError(f"pulses must have shape {(2, *shape)}; got {tuple(pulses.shape)}")
    if pulses.is_complex() or not all_finite(pulses) or bool((pulses != pulses.round()).any()):
        raise ValueError("pulses must be finite whole numbers; got others")
    if pair == "reference" and bool(pulses[1].any()):
        raise ValueError("pulses must be 0 for the reference cells, pulses[1]; got others")


def check_goal(
    weights: Tensor, shape: tuple[int, int], tolerance: float, max_pulses: int
) -> Tensor:
    """Check weights to program."""
    weights = check_matrix("weights", weights)
    if tuple(weights.shape) != shape:
        raise ValueError(f"weights must have shape {shape}; got {tuple(weights.shape)}")
    check_real("tolerance", tolerance, above=0.0)
    check_count("max_pulses", max_pulses)
    return weights
