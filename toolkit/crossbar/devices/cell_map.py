"""Measured numbers of every cell of an array, in place of a device's nominal ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import shortened, shown
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import Affine, CellParameters, Parameter, like

RANGE, LEVELS = ("g_min", "g_max"), ("levels_up", "levels_down")
UNITS = dict.fromkeys(RANGE, "S") | dict.fromkeys(LEVELS, "1")
DIMS = ("polarity", "output", "input")
BOUNDS = ((0.0, 1e3, "above 0 and at most 1000 S"), (1.0, 1e9, "between 1 and 1e9"))


@dataclass(frozen=True, eq=False)
class CellMap:
    """Numbers of cells by name, each (polarities, m, n) float64; see :meth:`of`.

    A cell with its own range follows the curve of the device between its own ends: where the
    device's cell is at y, it is at ``x = low + w (y - y_low)``, ``w = (high - low) / (y_high -
    y_low)``, so a step ``a + b y`` becomes ``w a + b (w y_low - low) + b x``. A cell with its own
    levels makes in them the moves of the device's levels. ``g_min = g_max`` is a stuck cell.
    """

    numbers: dict[str, Tensor]

    @classmethod
    def of(cls, cells: Any, shape: tuple[int, int], polarities: int) -> CellMap:
        """Check a mapping of names to arrays, such as an xarray Dataset.

        Arrays are (2, m, n), plus then minus cells, or have the dims polarity, output and input in
        any order; of a reference pair, only the plus cells count.

        Raises
        ------
        TypeError, ValueError
            If a name is unknown, a shape, unit or number is not allowed, or an end is missing.
        """
        if not isinstance(cells, Mapping):
            raise TypeError(
                "cells must be a mapping of arrays, such as an xarray Dataset; "
                f"got {type(cells).__name__}"
            )
        names = [str(name) for name in cells]
        unknown = [name for name in names if name not in UNITS]
        if unknown or not names:
            got = shown(unknown[0]) if unknown else "none"
            raise ValueError(f"cells must hold {', '.join(UNITS)} or some of them; got {got}")
        for pair in (RANGE, LEVELS):
            if missing := [name for name in pair if (pair[0] in names) ^ (pair[1] in names)]:
                one = next(name for name in missing if name not in names)
                raise ValueError(f"cells must hold {pair[0]} and {pair[1]} together; got no {one}")
        numbers = {name: _numbers(name, cells[name], shape)[:polarities] for name in names}
        _check_range(numbers)
        return cls(numbers)

    def applied(self, cells: CellParameters, device: Device) -> CellParameters:
        """The parameters of these cells, from those of nominal or spread ones.

        Raises
        ------
        ValueError
            If the response has no affine steps, levels are given with infinite ones, or no cell is
            in the device's range.
        """
        if not isinstance(cells.law, Affine):
            raise ValueError(
                "cells must be None with a response other than Exponential, LinearStep and "
                f"SoftBounds; got {type(device.response).__name__}"
            )
        if LEVELS[0] in self.numbers:
            if device.is_continuous:
                raise ValueError("cells must hold no levels if those of the device are inf")
            ups, downs = (self.numbers[name] for name in LEVELS)
            up = _slower(cells.up, ups / device.levels_up)
            down = _slower(cells.down, downs / device.levels_down)
            cells = replace(cells, up=up, down=down)
        return self._moved(cells, device) if RANGE[0] in self.numbers else cells

    def _moved(self, cells: CellParameters, device: Device) -> CellParameters:
        low, high = ((self.numbers[name] - device.g_min) / device.span for name in RANGE)
        if ((low > 1.0) | (high < 0.0)).all():  # most likely another unit
            least, most = (float(self.numbers[name].median()) for name in RANGE)
            raise ValueError(
                f"cells must be in siemens, some of them within the device's {device.g_min:g} to "
                f"{device.g_max:g} S; got {least:g} to {most:g} S at the median"
            )
        old_low, old_high = like(cells.low, low), like(cells.high, low)
        width = (high - low) / (old_high - old_low).clamp(min=1e-9)
        up, down = (
            (like(step, low) * width + like(slope, low) * (old_low * width - low), slope)
            for step, slope in (cells.up, cells.down)
        )
        return replace(cells, up=up, down=down, low=low, high=high)

    def digest(self) -> str:
        """A checksum: states belong to cells of these numbers only."""
        found = hashlib.sha256()
        for name in sorted(self.numbers):
            found.update(name.encode() + self.numbers[name].cpu().numpy().tobytes())
        return found.hexdigest()

    def to(self, state: Tensor) -> CellMap:
        """The numbers on the processor of ``state``, in its dtype."""
        return CellMap({name: like(value, state) for name, value in self.numbers.items()})


def _slower(parameters: tuple[Parameter, ...], times: Tensor) -> tuple[Parameter, ...]:
    """Step and slope of a cell that needs ``times`` as many pulses for the same move."""
    step, slope = (like(value, times.double()) for value in parameters)
    bend = torch.log1p(slope.clamp(min=-1.0 + 1e-12)) / times
    slower = torch.expm1(bend)
    straight = slope == 0.0
    gain = torch.where(straight, 1.0 / times, slower / slope.masked_fill(straight, 1.0))
    return (step * gain).to(times), slower.to(times)


def _numbers(name: str, given: Any, shape: tuple[int, int]) -> Tensor:
    """One array of the map, (2, m, n), its unit checked."""
    dims = getattr(given, "dims", None)
    if dims is not None:
        if set(dims) != set(DIMS):
            got = shortened(", ".join(map(str, dims)))
            raise ValueError(f"cells[{name!r}] must have the dims {', '.join(DIMS)}; got {got}")
        given = given.transpose(*DIMS)
    unit = getattr(given, "attrs", {}).get("units", UNITS[name])
    if unit != UNITS[name]:
        raise ValueError(f"cells[{name!r}] must be in {UNITS[name]}; got {shortened(str(unit))}")
    if isinstance(given, Tensor):
        given = given.numpy(force=True)
    try:
        found = np.asarray(given)
        if found.dtype.kind not in "iuf":
            raise TypeError(found.dtype)
        found = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"cells[{name!r}] must be an array of numbers; got others") from None
    if found.shape != (2, *shape):
        raise ValueError(
            f"cells[{name!r}] must have shape {(2, *shape)} (polarity, output, input); "
            f"got {found.shape}"
        )
    low, most, bound = BOUNDS[name in LEVELS]
    right = np.isfinite(found) & (found >= low) & (found > 0.0) & (found <= most)
    if not right.all():
        place = tuple(int(i) for i in np.argwhere(~right)[0])
        raise ValueError(f"cells[{name!r}] must be {bound}; got {found[place]:g} at {place}")
    return torch.from_numpy(found)


def _check_range(numbers: dict[str, Tensor]) -> None:
    if RANGE[0] in numbers and (wrong := numbers["g_max"] < numbers["g_min"]).any():
        place = tuple(wrong.nonzero()[0].tolist())
        low, high = (float(numbers[name][place]) for name in RANGE)
        raise ValueError(
            f"cells['g_max'] must be at least cells['g_min']={low:g}; got {high:g} at {place}"
        )
