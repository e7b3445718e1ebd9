"""The crossbar: weights stored as pairs of cells, read through lines, written by pulses.

:mod:`toolkit.crossbar.pulses` turns wanted changes into pulses; :mod:`toolkit.crossbar.cells`
applies pulses and time to cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import (
    all_finite,
    as_generator,
    check_choice,
    check_instance,
    check_matrix,
    check_real,
)
from toolkit.crossbar.array import Array, check_goal, check_pulses
from toolkit.crossbar.cells import Cells, Written
from toolkit.crossbar.cost import Cost, CostCounter, Slots
from toolkit.crossbar.devices.cell_map import CellMap
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.pairs import PAIRS, Pair, check_w_max
from toolkit.crossbar.programming import Programming, write_verify
from toolkit.crossbar.pulses import (
    Coding,
    Wanted,
    WholePulses,
    half_selected,
    largest,
    sign_phases,
)
from toolkit.crossbar.readout.converters import Periphery
from toolkit.crossbar.readout.pair import WiredPair
from toolkit.crossbar.readout.wires import Wires
from toolkit.lowrank import LowRank

# One-sided pairs are refreshed when a cell passes this share of its range.
_FULL = 0.9


class Crossbar(Array):
    """An array of pairs of cells, one pair per weight; see :class:`~toolkit.crossbar.pairs.Pair`.

    With one-sided pairs, :meth:`apply` ends with a :meth:`refresh` of pairs near the end of the
    range.

    ``n`` pulses in one write carry noise of standard deviation ``sqrt(n)`` times that of one,
    ``cycle_to_cycle + step_noise |dx| + state_noise x`` of the range. The state is then clipped to
    the bounds of the cell.

    Create one with :meth:`from_weights`. Attributes: ``w_max``, ``pair``, ``periphery``, ``wires``,
    ``coding`` and ``half_select``; the last two can be set at any time.

    Examples
    --------
    >>> weights = torch.tensor([[0.5, -0.25, 0.0]])
    >>> array = Crossbar.from_weights(weights, device=get_device("EpiRAM"))
    >>> array.read(torch.tensor([[1.0, 1.0, 1.0]]))
    tensor([[0.2500]])
    >>> array.conductance.shape
    torch.Size([2, 1, 3])
    """

    def __init__(
        self,
        weights: Tensor,
        *,
        device: Device,
        w_max: float,
        pair: str,
        generator: torch.Generator,
        cell_map: CellMap | None = None,
        reference_spread: float = 0.0,
    ) -> None:
        super().__init__(weights)
        self._pair, self._reference_spread = Pair(pair, w_max), reference_spread
        self.coding: Coding = WholePulses()
        self.half_select = 0.0
        self.periphery: Periphery | None = None
        self.wires: Wires | None = None
        state = weights.new_full((self._pair.polarities, *self.shape), 0.5)
        self._cells = Cells(state, device, generator, cell_map)
        self._costs = CostCounter(weights)
        self._reference: Tensor
        self._program(weights)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        w_max: float = 1.0,
        seed: int | torch.Generator = 0,
        pair: str = "differential",
        coding: Coding | None = None,
        half_select: float = 0.0,
        periphery: Periphery | None = None,
        wires: Wires | None = None,
        cells: Mapping[str, Any] | None = None,
        reference_spread: float = 0.0,
    ) -> Crossbar:
        """Program ``weights`` (m, n) exactly onto new cells, clipped to what a pair can hold.

        Parameters
        ----------
        weights
            (m, n) floating point; the array keeps its dtype and torch device.
        device
            The kind of cell.
        w_max
            Weight at the end of the range.
        seed
            Seed of all randomness: an int, or a generator on the device of ``weights``.
        pair
            "differential", "one-sided" or "reference".
        coding
            How wanted changes become pulses: ``WholePulses()`` (default) or ``Coincidence()``.
        half_select
            Fraction of a pulse's step made by a half-selected cell (V/2 scheme), 0 to 1.
        periphery, wires
            Converters and line resistance of the read path; None is ideal. Can be set at any time.
        cells
            A measured array: a mapping of names to arrays (2, m, n), plus then minus cells, such as
            an xarray Dataset with dims polarity, output and input. ``g_min`` and ``g_max``
            (siemens) are the range of each cell, ``levels_up`` and ``levels_down`` its levels, in
            place of the device's; equal ends are a stuck cell. Needs an affine response
            (``Exponential``, ``LinearStep``, ``SoftBounds``). Weights are clipped to what the cells
            can hold.
        reference_spread
            Standard deviation of the fixed cells of "reference" pairs about the symmetry points of
            the others, as a fraction of the range: how far their calibration missed, 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If ``weights`` is not a finite floating-point matrix or another value is not allowed.
        """
        weights = check_matrix("weights", weights)
        w_max = check_w_max(w_max, weights)
        check_instance("device", device, Device, "a Device, as get_device gives")
        check_choice("pair", pair, PAIRS)
        check_real("reference_spread", reference_spread, 0.0, 1.0)
        settings = {
            "coding": WholePulses() if coding is None else coding,
            "half_select": half_select,
            "periphery": periphery,
            "wires": wires,
        }
        for name, value in settings.items():
            check_setting(name, value)
        generator = as_generator(seed, weights.device)
        cell_map = None
        if cells is not None:
            shape = len(weights), weights.shape[1]
            cell_map = CellMap.of(cells, shape, Pair(pair, w_max).polarities)
        array = cls(
            weights,
            device=device,
            w_max=w_max,
            pair=pair,
            generator=generator,
            cell_map=cell_map,
            reference_spread=reference_spread,
        )
        for name, value in settings.items():
            setattr(array, name, value)
        return array

    def __setattr__(self, name: str, value: Any) -> None:
        check_setting(name, value)
        super().__setattr__(name, value)

    @property
    def w_max(self) -> float:
        """Weight at the end of the range."""
        return self._pair.w_max

    @property
    def pair(self) -> str:
        """How two cells hold a weight: "differential", "one-sided" or "reference"."""
        return self._pair.kind

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, (m, n), without read noise."""
        return self._weights().clone()

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, plus then minus."""
        device = self._cells.device
        return self._visible() * device.span + device.g_min

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses each cell has received, plus then minus."""
        return self._pair.both(self._cells.pulse_count.clone(), 0)

    @property
    def pulses(self) -> int:
        """Total number of pulses issued so far."""
        counts: np.ndarray = self._cells.pulse_count.cpu().numpy()  # 10x faster than torch
        return int(counts.sum(dtype=np.int64))

    @property
    def stuck(self) -> Tensor:
        """(2, m, n) bool: cells that no longer move, stuck from the start or worn out."""
        return self._pair.both(self._cells.stuck, True)

    @property
    def device(self) -> Device:
        """The kind of cell; can be set at any time.

        If the new device has the same conductance range, conductances stay, the response changes
        and each cell keeps its random draws. Otherwise the present weights are programmed onto new
        cells, whose pulse counts start at zero.
        """
        return self._cells.device

    @device.setter
    def device(self, device: Device) -> None:
        check_instance("device", device, Device, "a Device, as get_device gives")
        old, weights = self._cells.device, self.weights
        self._cells.set_device(device)
        if (device.g_min, device.g_max) != (old.g_min, old.g_max):
            self._program(weights)
        self._moved()

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Like :meth:`apply`, for arguments that :meth:`check_apply` has accepted."""
        cells, coding, wanted = self._cells, self.coding, self._wanted(update, learning_rate)
        if scheme == "rank-sum":
            self._issue_by_rows(coding.dense(wanted, cells.generator))
        elif cells.is_compiled and not self.half_select:
            every = cells.write(coding.demand(wanted, cells.generator))
            for written, phases in zip(every, sign_phases(wanted.left, wanted.right), strict=True):
                self._account(written, phases, coding.slots)
            self._moved()
        else:
            counts = coding.counts(wanted, cells.generator)
            for pulses, phases in zip(counts, sign_phases(wanted.left, wanted.right), strict=True):
                self._issue(pulses, phases, coding.slots)
        self._refresh_full()

    def check_scheme(self, scheme: str) -> None:
        """Raise ValueError if the scheme is unknown or the coding cannot write it."""
        super().check_scheme(scheme)
        if scheme not in self.coding.schemes:
            raise ValueError(
                f"scheme must be {' or '.join(self.coding.schemes)} with coding {self.coding}; "
                f"got {scheme}"
            )

    def pulse(self, pulses: Tensor) -> None:
        """Apply signed whole pulses cell by cell, (2, m, n); positive pulses potentiate.

        Raises
        ------
        ValueError
            If the shape differs, a number is not whole, or a reference cell would get pulses.
        """
        check_pulses(pulses, self.shape, self.pair)
        self.device.check_pulsed()
        self._issue_by_rows(pulses[: len(self._cells.state)].to(self._cells.state))

    def program(
        self, weights: Tensor, *, tolerance: float = 0.01, max_pulses: int = 1000
    ) -> Programming:
        """Program ``weights`` (m, n) by write-verify: pulse, read, pulse again.

        Every cell is pulsed towards its target until a (noisy) read is within ``tolerance`` of
        it, as a fraction of the range, or until the cell has received ``max_pulses``. Reference
        cells are not touched.

        Raises
        ------
        TypeError, ValueError
            If ``weights`` does not fit, or the tolerance or the budget is not positive.
        """
        weights = check_goal(weights, self.shape, tolerance, max_pulses).to(self._cells.state)
        targets = self._pair.states(weights, self._reference)
        return write_verify(self._cells, targets, tolerance, max_pulses, self._issue_by_rows)

    def _put(self, conductance: Tensor) -> None:
        state = ((conductance - self.device.g_min) / self.device.span).to(self._cells.state)
        mine = state[: self._pair.polarities]
        self._cells.put(torch.ones_like(mine, dtype=torch.bool), mine)
        if self.pair == "reference":
            self._reference = state[1:].clamp(0.0, 1.0)
        self._moved()

    def refresh(self, threshold: float) -> int:
        """Reset pairs with a cell above ``threshold`` of the range; return how many.

        Both cells are reset and the difference is programmed exactly, as write-verify would leave
        it; this counts as one pulse per cell. One-sided pairs would otherwise fill up.

        Raises
        ------
        TypeError, ValueError
            If ``threshold`` is not between 0 and 1.
        """
        check_real("threshold", threshold, 0.0, 1.0)
        full = (self._cells.state > threshold).any(0, keepdim=True).expand_as(self._cells.state)
        pairs = int(full[0].sum())
        if pairs:
            self._cells.pulse_count += full
            self._cells.put(full, self._targets(self._weights()))
            self._moved()
        return pairs

    def wait(self, seconds: float) -> None:
        """Let time pass: conductances follow the device's ``retention`` law, if it has one.

        Waiting twice equals waiting once for the total time. A write restarts the clock of the
        cells that it pulses. Conductances stay within the bounds of their cells.

        Raises
        ------
        ValueError
            If ``seconds`` is negative or not finite.
        """
        check_real("seconds", seconds, 0.0)
        self._cells.wait(seconds)
        self._moved()

    def cost(self) -> Cost:
        """First-order energy (joules) and time (seconds) of all reads and writes so far."""
        return self._costs.cost(self._cells.device, self.conductance)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, ``w_max`` included; see :class:`Array`."""
        if isinstance(state, Mapping):
            state = {"solved": [], **state}  # earlier versions did not save it
        super().load_state_dict(state)

    def _saved(self) -> dict[str, Any]:
        """Cells, counts, clocks, costs, random generator and ``w_max``."""
        wired = self._wired
        return {
            "cells": self._cells.state_dict(),
            "reference": self._reference.clone(),
            "ledger": self._costs.state_dict(),
            "w_max": self.w_max,
            "solved": wired.progress if wired and wired.wires is self.wires else [],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        w_max, reference = state["w_max"], state["reference"]
        w_max = check_w_max(w_max, self._reference)
        is_state = reference.shape == self._reference.shape and all_finite(reference)
        if not is_state or bool((reference != reference.clamp(0.0, 1.0)).any()):
            raise ValueError(
                f"reference of the state must be {tuple(self._reference.shape)}, between 0 and 1; "
                "got another"
            )
        self._cells.load_state_dict(state["cells"])
        self._reference = reference.to(self._cells.state).clone()
        self._costs.load_state_dict(state["ledger"])
        self._pair = Pair(self.pair, w_max)
        self._moved()
        if self.wires is not None and state["solved"]:
            self._behind(self.wires).progress = state["solved"]

    def _settings(self) -> dict[str, Any]:
        return {
            "shape": str(self.shape),
            "dtype": str(self._cells.state.dtype),
            "pair": self.pair,
            "device": self.device,
            "coding": self.coding,
            "half_select": float(self.half_select),
            "periphery": self.periphery,
            "wires": self.wires,
            "cells": self._cells.cell_map and self._cells.cell_map.digest(),
        }

    def _wanted(self, update: LowRank, learning_rate: float) -> Wanted:
        """Change of the plus cells' states that the update asks for."""
        state = self._cells.state
        left = (update.left * update.sigma).to(state) * (-learning_rate / (2.0 * self.w_max))
        levels = self._pair.levels(self.device)
        return Wanted(left, update.right.to(state), *levels, self.device.is_continuous)

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        if self.device.is_continuous and (
            self.half_select or not isinstance(self.coding, WholePulses)
        ):
            raise ValueError(
                "coding must be WholePulses() and half_select 0 with a device of infinite levels; "
                f"got {self.coding} and {self.half_select}"
            )
        peak = self._most_pulses(update, abs(learning_rate))
        if not peak < torch.finfo(self.dtype).max:
            raise ValueError(
                f"learning_rate and update must need a finite number of pulses; got {peak:g}"
            )

    def _most_pulses(self, update: LowRank, learning_rate: float) -> float:
        """A bound on the pulses that any cell gets, and on all numbers on the way to them."""
        if not update.rank:
            return 0.0
        left = largest(update.left) * largest(update.sigma)
        scaled = left * learning_rate / (2.0 * self.w_max)
        levels = max(map(abs, itertools.chain(*self._pair.levels(self.device))))
        return max(left, scaled, update.rank * levels * scaled * largest(update.right))

    def _issue_by_rows(self, pulses: Tensor) -> None:
        """Pulse row by row: one SET and one RESET phase each, as long as its longest train."""
        by_row = pulses.transpose(0, 1).flatten(1)
        rises, falls = by_row.amax(1).clamp(min=0.0), (-by_row.amin(1)).clamp(min=0.0)
        phases = int((rises > 0.0).sum()), int((falls > 0.0).sum())
        mean = float(rises.sum()) / max(phases[0], 1), float(falls.sum()) / max(phases[1], 1)
        self._issue(pulses, phases, mean)

    def _refresh_full(self) -> None:
        """Refresh one-sided pairs near the end of the range, as every write does at its end."""
        if self.pair == "one-sided":
            self.refresh(_FULL)

    def _issue(self, pulses: Tensor, phases: tuple[int, int], slots: Slots) -> None:
        """Pulse all cells in the given number of SET and RESET phases."""
        if self.half_select > 0.0:
            for sign in (1.0, -1.0):
                part = (sign * pulses).clamp_(min=0.0)
                self._cells.disturb(half_selected(part).mul_(sign * self.half_select))
        self._account(self._cells.pulse(pulses), phases, slots)
        self._moved()

    def _account(self, written: Written, phases: tuple[int, int], slots: Slots) -> None:
        """Add a write with these SET and RESET phases and slots to the cost; see :class:`Cost`."""
        if not self.device.is_continuous:
            self._costs.add_write(written, phases, slots, self._cells.device)

    def _program(self, weights: Tensor) -> None:
        """Replace the cells with new ones that hold ``weights``."""
        self._reference = self._reference_states()
        self._cells.renew(self._targets(weights))
        self._moved()

    def _reference_states(self) -> Tensor:
        exact = self._pair.reference(self._cells)
        if self.pair != "reference" or self._reference_spread == 0.0:
            return exact
        missed = torch.empty_like(exact).normal_(generator=self._cells.generator)
        return exact.add(missed, alpha=self._reference_spread).clamp_(0.0, 1.0)

    def _targets(self, weights: Tensor) -> Tensor:
        """States for ``weights``, clipped to the range."""
        return self._pair.states(weights, self._reference).clamp_(0.0, 1.0)

    def _moved(self) -> None:
        """Drop values computed from the conductances."""
        self._cache: Tensor | None = None
        self._wired: WiredPair | None = None

    def _visible(self) -> Tensor:
        return self._pair.both(self._cells.visible(), self._reference)

    def _weights(self) -> Tensor:
        """The weights, computed once between writes. Do not modify them."""
        if self._cache is None:
            plus, minus = self._visible()
            self._cache = torch.sub(plus, minus).mul_(self._pair.gain)
        return self._cache

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        """Read through converters, wires and read noise."""
        generator, curve = self._cells.generator, None
        if self.periphery is not None:
            curve = self.periphery.curve(signal, transposed=transposed)
            signal = self.periphery.drive(signal, transposed=transposed, generator=generator)
        driven, signal = signal, signal if curve is None else curve(signal)
        if self.wires is None:
            weights = self._weights()
            output = signal @ (weights if transposed else weights.T)
        else:
            output = self._behind(self.wires).sums(driven, curve, transposed=transposed)
        if self._cells.device.read_noise > 0.0:
            self._add_read_noise(output, signal, transposed=transposed)
        self._costs.add_read(signal, transposed=transposed)
        if self.periphery is not None:
            output = self.periphery.sense(output, transposed=transposed, generator=generator)
        return output

    def _behind(self, wires: Wires) -> WiredPair:
        """The present conductances behind ``wires``, computed once between writes."""
        if self._wired is None or self._wired.wires is not wires:
            self._wired = WiredPair(self.conductance, wires, self._pair.gain / self.device.span)
        return self._wired

    def _add_read_noise(self, output: Tensor, signal: Tensor, *, transposed: bool) -> None:
        """Add read noise: each cell's current is ``V G (1 + N(0, read_noise))``, drawn per vector.

        The sum over a line is drawn as one normal with the summed variance, which is equivalent.
        With wires, V is the driven voltage, not that at the cell, so the noise is too large by
        about the fraction of current that is lost.
        """
        device = self._cells.device
        power = (self._visible() + device.g_min / device.span).square().sum(0)
        variance = signal.square() @ (power if transposed else power.T)
        noise = torch.empty_like(output).normal_(generator=self._cells.generator)
        output.addcmul_(noise, variance.sqrt_(), value=device.read_noise * self._pair.gain)


def check_setting(name: str, value: Any) -> None:
    """Raise an error unless the attribute ``name`` can be set to ``value``."""
    if name == "half_select":
        check_real(name, value, 0.0, 1.0)
    elif name == "pair":
        check_choice(name, value, PAIRS)
    elif name == "coding":
        check_instance(name, value, Coding, "a coding such as WholePulses() or Coincidence()")
    elif name == "periphery" and value is not None:
        check_instance(name, value, Periphery, "a Periphery or None")
    elif name == "wires" and value is not None:
        check_instance(name, value, Wires, "Wires or None")
