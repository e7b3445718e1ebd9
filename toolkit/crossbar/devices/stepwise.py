"""Responses without a closed form for many pulses: pulses follow a curve one by one.

A pulse at state x moves it by ``size * curve(u)`` with ``u = offset + tilt * x``. Coordinates are
those of the step models, :mod:`toolkit.crossbar.devices.steps`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor

from toolkit.checks import check_reals
from toolkit.crossbar.devices.parameter import check_numbers, number, share, spread
from toolkit.crossbar.devices.responses import (
    CellParameters,
    Draw,
    Exponential,
    Law,
    Parameter,
    Row,
    like,
)
from toolkit.crossbar.devices.steps import StepModel, absolute, positive, spread_around
from toolkit.crossbar.kernels import CompiledStep


class Stepwise(Law):
    """Pulses one by one along a curve, within the bounds of the cell.

    The parameters of cells are size, offset, tilt and those of the curve; sizes of depression are
    negative. Every :meth:`curve` needs a ``compiled`` step.
    """

    @abstractmethod
    def curve(self, u: Tensor, *shape: Tensor) -> Tensor:
        """Unsigned size of a step at ``u``, relative to the cell's size.

        ``shape`` holds the cells' further parameters, or this direction's rows of nodes.
        """

    def advance(self, cells: CellParameters, state: Tensor, pulses: Tensor) -> None:
        """Apply pulses one by one; a fractional count ends with that fraction of a step."""
        low, high = like(cells.low, state), like(cells.high, state)
        for is_up in (True, False):
            left = (pulses if is_up else -pulses).clamp(min=0.0)
            while bool((left > 0.0).any()):
                jump = left.clamp(max=1.0) * self._jump(cells, state, is_up=is_up)
                moved = torch.where(left > 0.0, torch.clamp(state + jump, low, high), state)
                left = (left - 1.0).clamp_(min=0.0)
                if torch.equal(moved, state):  # no further pulse moves a cell
                    break
                state.copy_(moved)

    def symmetry_point(self, cells: CellParameters) -> Tensor:
        """Found by bisection of the sum of the steps up and down between the bounds."""
        parameters = (cells.low, cells.high, *cells.up, *cells.down)
        place = next((value.device for value in parameters if isinstance(value, Tensor)), None)
        low, high = torch.broadcast_tensors(
            torch.as_tensor(cells.low, dtype=torch.float64, device=place),
            torch.as_tensor(cells.high, dtype=torch.float64, device=place),
        )
        none = (self._drift(cells, low) <= 0.0) | (self._drift(cells, high) >= 0.0)
        for _ in range(60):
            middle = (low + high) / 2.0
            rising = self._drift(cells, middle) > 0.0
            low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
        return torch.where(none, math.nan, (low + high) / 2.0)

    def _drift(self, cells: CellParameters, state: Tensor) -> Tensor:
        return self._jump(cells, state, is_up=True) + self._jump(cells, state, is_up=False)

    def _jump(self, cells: CellParameters, state: Tensor, *, is_up: bool) -> Tensor:
        """The step of one pulse."""
        parameters = cells.up if is_up else cells.down
        size, offset, tilt, *shape = (like(value, state) for value in parameters)
        rows = np.split(cells.nodes, 2)[0 if is_up else 1]
        nodes = torch.as_tensor(rows, dtype=state.dtype, device=state.device)
        return size * self.curve(offset + tilt * state, *shape, *nodes)


def pulse_by_pulse(curve: Callable[..., Any]) -> CompiledStep:
    """Compile :meth:`Stepwise.advance` along ``curve(u, own, nodes, line)`` with numba.

    ``u`` is a number and ``own`` the cell's last parameter; ``line`` is the direction's first row
    in ``nodes``.
    """
    is_here = curve.__module__ == __name__  # numba's disk cache checks the time of this file only
    curve = register_jitable(curve)

    def advance(places, pulses, state, parameters, nodes, low, high, after):  # type: ignore[no-untyped-def]
        columns, rows = parameters.shape[1] // 2, nodes.shape[0] // 2
        last = np.uint64(len(parameters) - 1)
        last_low, last_high = np.uint64(len(low) - 1), np.uint64(len(high) - 1)
        for index in range(len(places)):
            cell, x = places[index], state[places[index]]
            row, first, line = min(cell, last), 0, 0
            if pulses[index] < 0.0:
                first, line = columns, rows
            size, offset = parameters[row, first], parameters[row, first + 1]
            tilt, own = parameters[row, first + 2], parameters[row, first + columns - 1]
            floor, ceiling = low[min(cell, last_low)], high[min(cell, last_high)]
            for _ in range(int(abs(pulses[index]))):
                before = x
                share = curve(offset + tilt * x, own, nodes, line)
                x = min(max(x + size * share, floor), ceiling)
                if x == before:  # no further pulse moves it
                    break
            after[index] = x

    return CompiledStep(advance, cache=is_here)


def _exponential(u, own, nodes, line):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return max(np.float32(1.0) - own * math.exp(u), np.float32(0.0))


@dataclass(frozen=True, kw_only=True)
class ExpStep(StepModel, Stepwise):
    """``dw = +-s max(0, 1 - A exp(+-gamma z))`` with ``z = 2 a w / (w_max - w_min) + b``.

    Upper signs: up (``amplitude_up``, ``gamma_up``); lower signs: down. ``w_max - w_min`` is
    the cell's own range. ``shape_spread`` is the relative standard deviation of the amplitudes and
    gammas from cell to cell, drawn independently.
    """

    amplitude_up: float = number(
        "Amplitude up (A)", "A in the step 1 − A exp(γz) of potentiation.", -40.0, 5.0, 0.01
    )
    amplitude_down: float = number(
        "Amplitude down (A)", "A in the step 1 − A exp(−γz) of depression.", -40.0, 5.0, 0.01
    )
    gamma_up: float = number("Exponent up (γ)", "Exponent γ of the step up.", 0.0, 20.0, 0.05)
    gamma_down: float = number("Exponent down (γ)", "Exponent γ of the step down.", 0.0, 20.0, 0.05)
    a: float = number(
        "Slope a", "a in z = 2 a w / (w_max − w_min) + b.", -2.0, 2.0, 0.01, default=1.0
    )
    b: float = number(
        "Offset b", "b in z = 2 a w / (w_max − w_min) + b.", -2.0, 2.0, 0.01, default=0.0
    )
    shape_spread: float = spread("Shape spread", "amplitudes and exponents, relative to these", 1.0)

    compiled = pulse_by_pulse(_exponential)

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of cells that are pulsed one pulse at a time."""
        nominal = (self.amplitude_up, self.amplitude_down, self.gamma_up, self.gamma_down)
        amplitude_up, amplitude_down, gamma_up, gamma_down = (
            spread_around(mean, self.shape_spread * abs(mean), draw, 4 + number)
            for number, mean in enumerate(nominal)
        )
        up, down = self.sizes(device, draw)
        low, high = self.bounds(draw)
        tilt = 2.0 * self.a / positive(high - low)
        offset = self.b - tilt * self.zero  # z = offset + tilt x
        rise = up, gamma_up * offset, gamma_up * tilt, amplitude_up
        fall = -down, -gamma_down * offset, -gamma_down * tilt, amplitude_down
        return CellParameters(self, rise, fall, low, high)

    def curve(self, u: Tensor, *shape: Tensor) -> Tensor:
        """``max(0, 1 - A exp(u))``, with A the cell's amplitude."""
        (amplitude,) = shape
        return (1.0 - amplitude * u.exp()).clamp(min=0.0)


def _power(u, own, nodes, line):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return min(max(u, np.float32(0.0)), np.float32(1.0)) ** own


@dataclass(frozen=True, kw_only=True)
class PowStep(StepModel, Stepwise):
    """``dw = s omega^gamma`` up, ``-s (1 - omega)^gamma`` down.

    ``omega = (w_max - w)/(w_max - w_min)`` in the cell's own range; ``s`` is the step at the far
    bound. ``gamma_spread`` is the standard deviation of both gammas from cell to cell; negative
    gammas are made positive.
    """

    gamma_up: float = share(
        "Exponent up (γ)", "Exponent γ of the step up.", 20.0, 0.05, default=1.0
    )
    gamma_down: float = share(
        "Exponent down (γ)", "Exponent γ of the step down.", 20.0, 0.05, default=1.0
    )
    gamma_spread: float = spread("Exponent spread", "both exponents", 1.0)

    compiled = pulse_by_pulse(_power)

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of cells that are pulsed one pulse at a time."""
        up, down = self.sizes(device, draw)
        low, high = self.bounds(draw)
        gamma_up = absolute(spread_around(self.gamma_up, self.gamma_spread, draw, 4))
        gamma_down = absolute(spread_around(self.gamma_down, self.gamma_spread, draw, 5))
        scale = 1.0 / positive(high - low)
        rise, fall = (up, scale * high, -scale, gamma_up), (-down, -scale * low, scale, gamma_down)
        return CellParameters(self, rise, fall, low, high)

    def curve(self, u: Tensor, *shape: Tensor) -> Tensor:
        """``u^gamma``, with u clipped to 0..1."""
        (gamma,) = shape
        return u.clamp(0.0, 1.0).pow(gamma)


def _compensated(u, own, nodes, line):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return np.float32(1.0) + own / u


# Steeper curves need amplitudes over a range of 50 and more; a straight one has no slope at all.
_MOST_COMPENSATED, _LEAST_COMPENSATED = 5.0, 0.01


@dataclass(frozen=True, kw_only=True)
class IncrementalPulses(Stepwise):
    r"""Non-identical pulses: their amplitude follows the state, so that steps are even.

    With identical pulses, cells follow :class:`Exponential` with these labels. The programming
    scheme knows the state, from the number of the pulse or a read, and scales each pulse by what
    one level is over the step of the *nominal* cell there. A step is in proportion to that factor:

    .. math:: \Delta x = \pm\frac{1}{L}\,\frac{s_\mathrm{cell}(x)}{s_\mathrm{nominal}(x)}

    Nominal cells move straight; cells that differ (``device_to_device``) keep what they differ by.
    Energy and time are those of the device's one voltage and width, without a read before a write.
    Needs finite levels.

    Source: measured in Lancaster et al., Weight update in ferroelectric memristors with identical
    and non-identical pulses, arXiv:2407.15796 (2024); this form of what is left is ours.
    """

    nonlinearity_up: float = number(
        "Nonlinearity up",
        "NeuroSim label of potentiation by identical pulses.",
        *(-_MOST_COMPENSATED, _MOST_COMPENSATED, 0.02),
        default=0.0,
        least=-_MOST_COMPENSATED,
        most=_MOST_COMPENSATED,
    )
    nonlinearity_down: float = number(
        "Nonlinearity down",
        "NeuroSim label of depression by identical pulses.",
        *(-_MOST_COMPENSATED, _MOST_COMPENSATED, 0.02),
        default=0.0,
        least=-_MOST_COMPENSATED,
        most=_MOST_COMPENSATED,
    )
    device_to_device: float = share(
        "Device-to-device",
        "Standard deviation of the nonlinearity labels from cell to cell.",
        5.0,
        0.02,
    )

    compiled = pulse_by_pulse(_compensated)

    def __post_init__(self) -> None:
        check_numbers(self)

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of cells that are pulsed one pulse at a time."""
        labels = (
            math.copysign(max(abs(label), _LEAST_COMPENSATED), label)
            for label in (self.nonlinearity_up, self.nonlinearity_down)
        )
        law = Exponential(
            **dict(zip(("nonlinearity_up", "nonlinearity_down"), labels, strict=True)),
            device_to_device=self.device_to_device,
        )
        mine, nominal = law.cells(device, draw), law.cells(device)
        rise = _of_nominal(mine.up, nominal.up, device.levels_up)
        fall = _of_nominal(mine.down, nominal.down, -device.levels_down)
        return CellParameters(self, rise, fall)

    def curve(self, u: Tensor, *shape: Tensor) -> Tensor:
        """``1 + own / u``: two straight lines, one over the other, are a hyperbola."""
        (own,) = shape
        return 1.0 + own / u


def _of_nominal(
    cell: Sequence[Parameter], nominal: Sequence[Parameter], levels: float
) -> tuple[Parameter, ...]:
    """Size, offset, tilt and own of ``(c + d x) / (a + b x) / levels``; levels are signed."""
    (c, d), (a, b) = cell, nominal
    ratio = d / b
    return ratio / levels, levels * a, levels * b, levels * (c / ratio - a)


def _between(u, own, nodes, line):  # type: ignore[no-untyped-def]  # noqa: ARG001
    u = min(max(u, np.float32(0.0)), np.float32(1.0))
    left, right = 0, nodes.shape[1] - 1
    while right - left > 1:
        middle = (left + right) // 2
        if nodes[line, middle] < u:
            left = middle
        else:
            right = middle
    start, end = nodes[line, left], nodes[line, right]
    first, last = nodes[line + 1, left], nodes[line + 1, right]
    return first + (last - first) * ((u - start) / (end - start))


class Tabulated(Stepwise):
    """A curve that is linear between nodes; ``nodes`` of the cells come from :func:`both_ways`."""

    compiled = pulse_by_pulse(_between)

    def curve(self, u: Tensor, *shape: Tensor) -> Tensor:
        """Interpolate between ``places`` and ``values``."""
        places, values = shape
        u = u.clamp(0.0, 1.0).contiguous()
        right = torch.searchsorted(places, u).clamp(1, len(places) - 1)
        start, end = places[right - 1], places[right]
        return torch.lerp(values[right - 1], values[right], (u - start) / (end - start))


def both_ways(
    up: tuple[Sequence[float], Sequence[float]], down: tuple[Sequence[float], Sequence[float]]
) -> np.ndarray:
    """Stack places, which rise from 0 to 1, and values for up, then for down: (4, nodes).

    The direction with fewer nodes repeats its last one.
    """
    longest = max(len(up[0]), len(down[0]))
    rows = [[*row, *[row[-1]] * (longest - len(row))] for row in (*up, *down)]
    return np.array(rows, dtype=float)


@dataclass(frozen=True, kw_only=True)
class PiecewiseStep(StepModel, Tabulated):
    """``dw = +-s f(w)`` with f linear between ``nodes`` evenly spaced over the cell's own range.

    All cells share the nodes; ``step_spread`` scales them and the spreads of the bounds stretch
    them.
    """

    nodes_up: tuple[float, ...] = (1.0, 1.0)
    nodes_down: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("nodes_up", "nodes_down"):
            check_reals(name, getattr(self, name), count=2)

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of cells that are pulsed one pulse at a time."""
        up, down = self.sizes(device, draw)
        low, high = self.bounds(draw)
        scale = 1.0 / positive(high - low)
        nodes = both_ways(_evenly(self.nodes_up), _evenly(self.nodes_down))
        place = -scale * low, scale
        return CellParameters(self, (up, *place), (-down, *place), low, high, nodes)


def _evenly(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """Values with evenly spaced places."""
    return np.linspace(0.0, 1.0, len(values)).tolist(), values
