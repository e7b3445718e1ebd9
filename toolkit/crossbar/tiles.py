"""Layers larger than an array: one object over many crossbars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import (
    as_generator,
    check_instance,
    check_matrix,
    check_pair,
    check_signal,
    shown,
)
from toolkit.crossbar.array import Crossbar, check_goal, check_pulses, check_update
from toolkit.crossbar.cost import Cost
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.programming import Programming
from toolkit.crossbar.states import check_same, described, load_whole
from toolkit.lowrank import LowRank


class TiledCrossbar:
    """A matrix (m, n) cut into crossbars of at most ``tile`` = (rows, columns), each on its own.

    Same interface as :class:`Crossbar`. Partial sums of reads are added digitally (after the
    converters of each tile); an update goes to every tile as the slice of its factors. ``tiles``
    holds the crossbars, row by row.
    """

    def __init__(self, tiles: list[list[Crossbar]], tile: tuple[int, int]) -> None:
        self.tiles = tiles
        self._tile = tile

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tiles", "_tile", "device"):
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
        """Cut ``weights`` (m, n) and program every piece; ``knobs`` as for :class:`Crossbar`.

        Every tile draws its own cells; all take their randomness from the one ``seed``.

        Raises
        ------
        ValueError
            If a tile has no rows or columns, or as for :class:`Crossbar`.
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
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        columns = sum(array.shape[1] for array in self.tiles[0])
        return sum(band[0].shape[0] for band in self.tiles), columns

    @property
    def weights(self) -> Tensor:
        """The weights now held, (m, n), without read noise."""
        return self._assemble("weights")

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, plus then minus."""
        return self._assemble("conductance")

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses issued to each cell so far, plus then minus."""
        return self._assemble("pulse_count")

    @property
    def pulses(self) -> int:
        """Pulses issued so far, to all cells together."""
        return sum(array.pulses for array, _, _ in self._each())

    @property
    def stuck(self) -> Tensor:
        """(2, m, n) bool: cells that no longer move."""
        return self._assemble("stuck")

    @property
    def device(self) -> Device:
        """The kind of cell; may be set at any time, as of a :class:`Crossbar`."""
        return self.tiles[0][0].device

    @device.setter
    def device(self, device: Device) -> None:
        check_instance("device", device, Device, "a Device, as get_device gives")
        for array, _, _ in self._each():
            array.device = device

    def read(self, activations: Tensor) -> Tensor:
        """(batch, n) -> (batch, m): sums over the tiles of a row."""
        check_signal("activations", activations, self.shape[1])
        output = activations.new_zeros(activations.shape[0], self.shape[0])
        for array, rows, columns in self._each():
            output[:, rows] += array.read(activations[:, columns])
        return output

    def read_transposed(self, errors: Tensor) -> Tensor:
        """(batch, m) -> (batch, n): sums over the tiles of a column."""
        check_signal("errors", errors, self.shape[0])
        output = errors.new_zeros(errors.shape[0], self.shape[1])
        for array, rows, columns in self._each():
            output[:, columns] += array.read_transposed(errors[:, rows])
        return output

    def apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """As :meth:`Crossbar.apply`, with the slices of the factors on every tile.

        What one tile refuses is written to none.
        """
        self.check_apply(update, learning_rate=learning_rate, scheme=scheme)
        self.write(update, learning_rate=learning_rate, scheme=scheme)

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """As :meth:`apply`, of what :meth:`check_apply` has passed."""
        for array, piece in self._pieces(update):
            array.write(piece, learning_rate=learning_rate, scheme=scheme)

    def check_apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """ValueError for all that :meth:`apply` refuses. Writes nothing."""
        check_update(update, self.shape, learning_rate)
        for array, piece in self._pieces(update):
            array.check_apply(piece, learning_rate=learning_rate, scheme=scheme)

    def check_scheme(self, scheme: str) -> None:
        """ValueError if the scheme is unknown, or a tile's coding cannot write it."""
        for array, _, _ in self._each():
            array.check_scheme(scheme)

    def pulse(self, pulses: Tensor) -> None:
        """Issue signed whole pulses cell by cell: (2, m, n), as :meth:`Crossbar.pulse`."""
        check_pulses(pulses, self.shape, self.tiles[0][0].pair)
        for array, rows, columns in self._each():
            array.pulse(pulses[:, rows, columns])

    def program(
        self, weights: Tensor, *, tolerance: float = 0.01, max_pulses: int = 1000
    ) -> Programming:
        """Program ``weights`` (m, n) by write-verify, tile after tile, as :meth:`Crossbar.program`.

        The report is over all tiles; its ``rounds`` are those of the slowest.
        """
        weights = check_goal(weights, self.shape, tolerance, max_pulses)
        reports = [
            array.program(weights[rows, columns], tolerance=tolerance, max_pulses=max_pulses)
            for array, rows, columns in self._each()
        ]
        return Programming.of_all(reports, [math.prod(array.shape) for array, _, _ in self._each()])

    def wait(self, seconds: float) -> None:
        """Let time pass on every tile."""
        for array, _, _ in self._each():
            array.wait(seconds)

    def cost(self) -> Cost:
        """Energies and counts added up; times too, as if the tiles worked one after another."""
        costs = [array.cost() for array, _, _ in self._each()]
        return sum(costs[1:], start=costs[0])

    def state_dict(self) -> dict[str, Any]:
        """State of every tile, row by row, and how the matrix is cut."""
        tiles = [array.state_dict() for array, _, _ in self._each()]
        return {"tiles": tiles, "settings": described(self._settings())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; ValueError, and nothing changed, if it differs."""
        load_whole(state, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        check_same(state["settings"], self._settings())
        for (array, _, _), saved in zip(self._each(), state["tiles"], strict=True):
            array.load_state_dict(saved)

    def _settings(self) -> dict[str, str]:
        return {"shape": str(self.shape), "tile": str(tuple(self._tile))}

    def _each(self) -> Iterator[tuple[Crossbar, slice, slice]]:
        """Every tile with the rows and columns of the matrix that it holds."""
        for i, band in enumerate(self.tiles):
            for j, array in enumerate(band):
                top, left = i * self._tile[0], j * self._tile[1]
                rows, columns = array.shape
                yield array, slice(top, top + rows), slice(left, left + columns)

    def _pieces(self, update: LowRank) -> Iterator[tuple[Crossbar, LowRank]]:
        """Every tile with its part of an update."""
        for array, rows, columns in self._each():
            yield array, LowRank(update.left[rows], update.sigma, update.right[columns])

    def _assemble(self, name: str) -> Tensor:
        bands = [torch.cat([getattr(array, name) for array in band], -1) for band in self.tiles]
        return torch.cat(bands, -2)
