"""Matrices held by several crossbars: tiles of a large matrix, the two arrays of Tiki-Taka."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import (
    as_generator,
    check_count,
    check_instance,
    check_matrix,
    check_pair,
    check_real,
    shown,
)
from toolkit.crossbar.array import Array, check_goal, check_pulses
from toolkit.crossbar.cost import Cost
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.programming import Programming
from toolkit.lowrank import LowRank


class Composite(Array):
    """Several crossbars of one device."""

    @property
    @abstractmethod
    def parts(self) -> list[Crossbar]:
        """The crossbars."""

    @property
    def device(self) -> Device:
        """The kind of cell of all crossbars; can be set at any time, as in :class:`Crossbar`."""
        return self.parts[0].device

    @device.setter
    def device(self, device: Device) -> None:
        check_instance("device", device, Device, "a Device, as get_device gives")
        for array in self.parts:
            array.device = device

    @property
    def pulses(self) -> int:
        """Total number of pulses issued so far."""
        return sum(array.pulses for array in self.parts)

    @property
    def stuck(self) -> Tensor:
        """(2, m, n) bool: cells that no longer move, of the array whose conductances are shown."""
        return self.parts[-1].stuck

    def check_scheme(self, scheme: str) -> None:
        """Raise ValueError if the scheme is unknown or a coding cannot write it."""
        for array in self.parts:
            array.check_scheme(scheme)

    def wait(self, seconds: float) -> None:
        """Let time pass on every array."""
        for array in self.parts:
            array.wait(seconds)

    def cost(self) -> Cost:
        """Sum of all energies, counts and times, as if the arrays worked one after another."""
        costs = [array.cost() for array in self.parts]
        return sum(costs[1:], start=costs[0])


class TiledCrossbar(Composite):
    """A matrix (m, n) cut into crossbars of at most ``tile`` = (rows, columns).

    Same interface as :class:`Crossbar`. Partial sums of reads are added digitally, after the
    converters of each tile. Each tile gets its slice of the factors of an update. ``tiles``
    holds the crossbars, row by row.
    """

    def __init__(self, tiles: list[list[Crossbar]], tile: tuple[int, int]) -> None:
        self.tiles = tiles
        self._tile = tile
        super().__init__(self.weights)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tiles", "device") and not name.startswith("_"):
            raise AttributeError(f"{name} must be set on each array of tiles; got {shown(value)}")
        super().__setattr__(name, value)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        tile: tuple[int, int],
        device: Device,
        seed: int | torch.Generator = 0,
        **knobs: Any,
    ) -> TiledCrossbar:
        """Cut ``weights`` (m, n) and program every tile; ``knobs`` as for :class:`Crossbar`.

        Every tile draws its own cells, all from the one ``seed``.

        Raises
        ------
        ValueError
            If a tile has no rows or no columns, or as for :class:`Crossbar`.
        """
        weights = check_matrix("weights", weights)
        tile = check_pair("tile", tile)
        seed = as_generator(seed, weights.device)
        tiles = [
            [
                Crossbar.from_weights(piece, device=device, seed=seed, **knobs)
                for piece in band.split(tile[1], dim=1)
            ]
            for band in weights.split(tile[0], dim=0)
        ]
        return cls(tiles, tile)

    @property
    def parts(self) -> list[Crossbar]:
        """The tiles, row by row."""
        return [array for band in self.tiles for array in band]

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, (m, n), without read noise."""
        return self._assemble("weights")

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, plus then minus."""
        return self._assemble("conductance")

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses each cell has received, plus then minus."""
        return self._assemble("pulse_count")

    @property
    def stuck(self) -> Tensor:
        """(2, m, n) bool: cells that no longer move."""
        return self._assemble("stuck")

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Like :meth:`apply`, for arguments that :meth:`check_apply` has accepted."""
        for array, piece in self._pieces(update):
            array.write(piece, learning_rate=learning_rate, scheme=scheme)

    def pulse(self, pulses: Tensor) -> None:
        """Apply signed whole pulses cell by cell, (2, m, n); see :meth:`Crossbar.pulse`."""
        check_pulses(pulses, self.shape, self.parts[0].pair)
        for array, rows, columns in self._each():
            array.pulse(pulses[:, rows, columns])

    def program(
        self, weights: Tensor, *, tolerance: float = 0.01, max_pulses: int = 1000
    ) -> Programming:
        """Program ``weights`` (m, n) by write-verify, tile by tile; see :meth:`Crossbar.program`.

        The report covers all tiles; its ``rounds`` are those of the slowest tile.
        """
        weights = check_goal(weights, self.shape, tolerance, max_pulses)
        reports = [
            array.program(weights[rows, columns], tolerance=tolerance, max_pulses=max_pulses)
            for array, rows, columns in self._each()
        ]
        return Programming.of_all(reports, [math.prod(array.shape) for array in self.parts])

    def _put(self, conductance: Tensor) -> None:
        for array, rows, columns in self._each():
            array._put(conductance[:, rows, columns])

    def _saved(self) -> dict[str, Any]:
        return {"tiles": [array.state_dict() for array in self.parts]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        for array, saved in zip(self.parts, state["tiles"], strict=True):
            array.load_state_dict(saved)

    def _settings(self) -> dict[str, str]:
        return {"shape": str(self.shape), "tile": str(tuple(self._tile))}

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        """Sum over the tiles of each row or column."""
        output = signal.new_zeros(len(signal), self.shape[1 if transposed else 0])
        for array, rows, columns in self._each():
            if transposed:
                output[:, columns] += array.read_transposed(signal[:, rows])
            else:
                output[:, rows] += array.read(signal[:, columns])
        return output

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        for array, piece in self._pieces(update):
            array._check_demand(piece, learning_rate)

    def _each(self) -> Iterator[tuple[Crossbar, slice, slice]]:
        """Every tile with its rows and columns of the matrix."""
        for i, band in enumerate(self.tiles):
            for j, array in enumerate(band):
                top, left = i * self._tile[0], j * self._tile[1]
                rows, columns = array.shape
                yield array, slice(top, top + rows), slice(left, left + columns)

    def _pieces(self, update: LowRank) -> Iterator[tuple[Crossbar, LowRank]]:
        """Every tile with its part of the update."""
        for array, rows, columns in self._each():
            yield array, LowRank(update.left[rows], update.sigma, update.right[columns])

    def _assemble(self, name: str) -> Tensor:
        bands = [torch.cat([getattr(array, name) for array in band], -1) for band in self.tiles]
        return torch.cat(bands, -2)


TRANSFER = ("every", "columns", "transfer_rate", "gamma")  # what a transfer depends on


class TikiTaka(Composite):
    r"""Write updates to a fast array and transfer them, column by column, to a slow one.

    On cells whose steps up and down differ, many updates that cancel on average drag a weight to
    the cell's symmetry point. Here the fast array A takes the updates and is centred on that point:
    updates that cancel leave it at 0, updates that persist accumulate. The columns of A are read in
    turn and added to the slow array C,

        C[:, t] <- C[:, t] + transfer_rate A u_t        (u_t: 1 at input t, 0 elsewhere)

    after every ``every`` updates. Where an update stands for a batch, ``columns`` of them are read
    at once. The network sees ``W = C + gamma A``.

    Create one with :meth:`from_weights`. ``fast`` and ``slow`` are the two crossbars; ``every``,
    ``columns``, ``transfer_rate`` and ``gamma`` can be set at any time.

    Source: Gokmen and Haensch, Algorithm for training neural networks on resistive device arrays,
    Front. Neurosci. 14, 103 (2020).
    """

    def __init__(
        self,
        fast: Crossbar,
        slow: Crossbar,
        *,
        every: int,
        transfer_rate: float,
        gamma: float,
        columns: int = 1,
    ) -> None:
        super().__init__(slow.weights)
        self.fast, self.slow = fast, slow
        self.every, self.columns = every, columns
        self.transfer_rate, self.gamma = transfer_rate, gamma
        self._updates = 0

    def __setattr__(self, name: str, value: Any) -> None:
        _check_setting(name, value)
        super().__setattr__(name, value)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        every: int = 1,
        columns: int = 1,
        transfer_rate: float = 0.1,
        gamma: float = 0.0,
        seed: int | torch.Generator = 0,
        pair: str = "reference",
        **knobs: Any,
    ) -> TikiTaka:
        """Program ``weights`` (m, n) onto the slow array; the fast one holds 0.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of both arrays.
        every
            Number of calls of :meth:`apply` between transfers.
        columns
            Columns of the fast array that a transfer reads; n or more: all.
        transfer_rate
            Fraction of a column of the fast array that is added to the slow array.
        gamma
            Weight of the fast array in the sum.
        seed
            Seed of all randomness: an int, or a generator on the device of ``weights``.
        pair
            Kind of pair of the slow array. The fast one has "reference" pairs: 0 is each cell's
            symmetry point (mid-range for a device without one).
        knobs
            As for :meth:`Crossbar.from_weights`, for both arrays.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        weights = check_matrix("weights", weights)
        own = {"every": every, "columns": columns, "transfer_rate": transfer_rate, "gamma": gamma}
        for name, value in own.items():
            _check_setting(name, value)
        knobs |= {"device": device, "seed": as_generator(seed, weights.device)}
        fast = Crossbar.from_weights(torch.zeros_like(weights), pair="reference", **knobs)
        slow = Crossbar.from_weights(weights, pair=pair, **knobs)
        return cls(
            fast, slow, every=every, columns=columns, transfer_rate=transfer_rate, gamma=gamma
        )

    @property
    def parts(self) -> list[Crossbar]:
        """The crossbars, the fast one first and the slow one last."""
        both = (self.fast, self.slow)
        return [part for array in both for part in getattr(array, "parts", [array])]

    @property
    def weights(self) -> Tensor:
        """A copy of the weights that the network sees, (m, n), without read noise."""
        return self.slow.weights + self.gamma * self.fast.weights

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, of the slow array; ``fast.conductance`` is the fast one's."""
        return self.slow.conductance

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses of both arrays, added cell by cell."""
        return self.slow.pulse_count + self.fast.pulse_count

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Write the update to the fast array; transfer columns when they are due."""
        self.fast.write(update, learning_rate=learning_rate, scheme=scheme)
        self._updates += 1
        if self._updates % self.every == 0:
            self._transfer(self._updates // self.every - 1)

    def _one_chip(self) -> tuple[Tensor, Device]:
        raise ValueError(
            "TikiTaka has two arrays: save_targets and load_reached are those of fast and of slow"
        )

    def _saved(self) -> dict[str, Any]:
        parts = {"fast": self.fast.state_dict(), "slow": self.slow.state_dict()}
        return parts | {"updates": self._updates}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._updates = check_count("updates", state["updates"], least=0)
        self.fast.load_state_dict(state["fast"])
        self.slow.load_state_dict(state["slow"])

    def _load(self, state: Mapping[str, Any]) -> None:
        settings = {"columns": 1.0, **state["settings"]}  # earlier versions had no other number
        super()._load({**state, "settings": settings})

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TRANSFER}

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        """Read both arrays, each through its periphery."""
        slow, fast = (
            array.read_transposed if transposed else array.read for array in (self.slow, self.fast)
        )
        return slow(signal) if self.gamma == 0.0 else slow(signal) + self.gamma * fast(signal)

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        self.fast._check_demand(update, learning_rate)

    def _transfer(self, earlier: int) -> None:
        """Read the next columns of the fast array and add them to the slow one."""
        inputs = self.shape[1]
        count = min(self.columns, inputs)
        chosen = (torch.arange(count) + earlier * count) % inputs
        read = torch.eye(inputs)[chosen].to(self.slow.weights)
        found = self._found(chosen, self.fast.read(read))
        change = LowRank(found.T, read.new_ones(count), read.T)
        self.slow.apply(change, learning_rate=-self.transfer_rate)

    def _found(self, chosen: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002
        """What to transfer of the chosen columns, of which the fast array reads ``values``."""
        return values


def _check_setting(name: str, value: Any) -> None:
    """Raise an error unless the attribute ``name`` can be set to ``value``."""
    if name in ("every", "columns"):
        check_count(name, value)
    elif name == "transfer_rate":
        check_real(name, value, above=0.0)
    elif name == "gamma":
        check_real(name, value)
