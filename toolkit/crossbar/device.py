"""One kind of memory cell as a row of numbers: range, levels, response, noise, pulse conditions.

The formulas of the responses are in :mod:`toolkit.crossbar.response`, the named rows in
:mod:`toolkit.crossbar.presets`, arrays of cells in :mod:`toolkit.crossbar.array`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from toolkit.crossbar.response import MAX_LABEL, Exponential, Response


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of cell. ``dataclasses.replace(device, cycle_to_cycle=0.0)`` overrides a property.

    Parameters
    ----------
    name
        The name it is known by.
    g_min, g_max
        Conductance range, siemens.
    levels_up, levels_down
        Pulses from one end of the range to the other: potentiation, depression.
    nonlinearity_up, nonlinearity_down
        NeuroSim nonlinearity labels, -9..9, 0 is a straight line; used by the exponential response.
    cycle_to_cycle
        Standard deviation of one pulse as a fraction of the range; n pulses give sqrt(n) of it.
    device_to_device
        Standard deviation of the nonlinearity labels from cell to cell.
    read_noise
        Relative standard deviation of a cell's read current, drawn anew at every read.
    v_up, v_down
        Programming voltages, volts.
    width_up, width_down
        Programming pulse widths, seconds.
    response
        The formula of one pulse.
    source
        Where the numbers come from.

    Raises
    ------
    ValueError
        If a value is not finite or outside what is allowed for it.
    """

    name: str
    g_min: float
    g_max: float
    levels_up: float
    levels_down: float
    nonlinearity_up: float = 0.0
    nonlinearity_down: float = 0.0
    cycle_to_cycle: float = 0.0
    device_to_device: float = 0.0
    read_noise: float = 0.0
    v_up: float = 1.0
    v_down: float = -1.0
    width_up: float = 1e-7
    width_down: float = 1e-7
    response: Response = field(default_factory=Exponential)
    source: str = ""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int | float) and not math.isfinite(value):
                raise ValueError(f"{item.name} must be finite, got {value}")
        if not 0.0 < self.g_min < self.g_max:
            raise ValueError(f"need 0 < g_min < g_max, got g_min={self.g_min}, g_max={self.g_max}")
        _at_least(1.0, levels_up=self.levels_up, levels_down=self.levels_down)
        _at_least(
            0.0,
            cycle_to_cycle=self.cycle_to_cycle,
            device_to_device=self.device_to_device,
            read_noise=self.read_noise,
            width_up=self.width_up,
            width_down=self.width_down,
        )
        for name in ("nonlinearity_up", "nonlinearity_down"):
            if abs(getattr(self, name)) > MAX_LABEL:
                raise ValueError(f"{name} must be between -9 and 9, got {getattr(self, name)}")

    @property
    def on_off(self) -> float:
        """Ratio of the largest to the smallest conductance."""
        return self.g_max / self.g_min

    def step(self, state: Tensor, pulses: Tensor) -> Tensor:
        """Nominal noiseless cells after signed ``pulses`` at once, clipped to the range.

        ``state`` is normalised, ``(G - g_min) / (g_max - g_min)``; shapes broadcast; positive
        pulses potentiate. Returns a new tensor.
        """
        state, pulses = torch.broadcast_tensors(state, pulses)
        state = state.clone()
        cells = self.response.cells(self)
        cells.step(state, pulses.to(state.dtype))
        cells.clip(state)
        return state

    def trace(self, up: int = 400, down: int = 400, start: float = 0.0) -> Tensor:
        """State of one noiseless nominal cell through ``up`` then ``down`` pulses.

        Returns ``(up + down + 1,)`` float64, normalised to 0..1 of the conductance range, the
        first entry being ``start``.

        Raises
        ------
        ValueError
            If ``up`` or ``down`` is negative or ``start`` is outside 0..1.
        """
        _at_least(0, up=up, down=down)
        if not 0.0 <= start <= 1.0:
            raise ValueError(f"start must be between 0 and 1, got {start}")
        origin = torch.tensor([float(start)], dtype=torch.float64)
        rise = torch.cat([origin, self.step(origin, torch.arange(1.0, up + 1.0).double())])
        fall = self.step(rise[-1:], -torch.arange(1.0, down + 1.0).double())
        return torch.cat([rise, fall])


def _at_least(least: float, **values: float) -> None:
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g}, got {value}")
