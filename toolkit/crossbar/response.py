"""How one cell answers programming pulses: the closed formulas, vectorised over cells.

A response works on the normalised state ``x = (G - G_min) / (G_max - G_min)`` of many cells at
once and on signed pulse counts (positive: potentiation, negative: depression). It knows nothing of
arrays, weights, noise or random numbers; spread from cell to cell enters as given standard-normal
draws. A new kind of device is one new class here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from toolkit.crossbar.device import Device

#: Largest nonlinearity label of the NeuroSim tables.
MAX_LABEL = 9.0
#: A curve that bends less than this is a straight line to float64 rounding.
_STRAIGHT = 1e-6

Draw = Callable[[int], Tensor]


class Cells(Protocol):
    """Parameters of all cells of an array under one response: scalars, or one value per cell."""

    def step(self, state: Tensor, pulses: Tensor) -> None:
        """Apply signed whole ``pulses`` to ``state`` in place, without noise or clipping."""

    def clip(self, state: Tensor) -> None:
        """Clip ``state`` in place to the range of each cell."""


class Response(Protocol):
    """A kind of device. ``cells`` turns a device row into the parameters of its cells."""

    def cells(self, device: Device, draw: Draw | None = None) -> Cells:
        """Nominal cells (``draw`` absent) or cells spread by the standard normals ``draw(i)``."""


def curvature_from_label(label: Tensor | float) -> Tensor:
    r"""Curvature ``u = P_max / A`` of a NeuroSim nonlinearity label, float64.

    Solves ``max_P [G_norm(P) - P] = 0.07 sqrt(2) |label|`` for the normalised curve
    ``G_norm(P) = (1 - exp(-u P)) / (1 - exp(-u))``; the maximum is
    ``1/E - 1/u + ln(E/u)/u`` with ``E = 1 - exp(-u)``. The sign of the label is carried over and
    0 gives 0, the straight line. The rule reproduces the label table of NeuroSim V3.0.

    Raises
    ------
    ValueError
        If a label is not finite or lies outside -9..9.
    """
    label = torch.as_tensor(label, dtype=torch.float64)
    if not bool((label.abs() <= MAX_LABEL).all()):
        raise ValueError(f"nonlinearity label must be between -9 and 9, got {label}")
    height = 0.07 * math.sqrt(2.0) * label.abs()
    bend = 8.0 * height  # the deviation is concave in u and below u/8, so Newton climbs from here
    for _ in range(50):
        change = _newton_change(bend, height)
        bend = bend + change
        if not bool((change.abs() > 1e-12 * bend).any()):
            break
    return torch.copysign(bend, label)


def _newton_change(bend: Tensor, height: Tensor) -> Tensor:
    """Newton change of the curvature; none where the deviation is u/8 to rounding."""
    small = bend < 1e-4
    u = bend.clamp(min=1e-4)
    rise = 1.0 / torch.expm1(u)  # exp(-u) / E
    ratio = torch.log(-torch.expm1(-u) / u)
    deviation = 1.0 + rise - (1.0 - ratio) / u
    slope = rise / u - rise * (1.0 + rise) - ratio / (u * u)
    return torch.where(small, torch.zeros_like(u), (height - deviation) / slope)


@dataclass(frozen=True)
class AffineCells:
    """Cells whose one-pulse step is affine in the state: ``dx = step + slope * x``.

    ``n`` pulses at once: ``dx_n = (step + slope x) (exp(n rate) - 1) / slope`` with
    ``rate = ln(1 + slope)``, and ``n * step`` where ``slope`` is 0. The fields are floats or
    tensors of one value per cell, for potentiation and for depression (whose ``step`` is negative).
    """

    step_up: Tensor | float
    slope_up: Tensor | float
    step_down: Tensor | float
    slope_down: Tensor | float
    low: Tensor | float = 0.0
    high: Tensor | float = 1.0

    def step(self, state: Tensor, pulses: Tensor) -> None:
        """Move ``state`` in place by signed ``pulses``; the two directions never share a cell."""
        if _is_zero(self.slope_up) and _is_zero(self.slope_down):
            self._step_straight(state, pulses)
            return
        count = pulses.clamp(min=0.0)
        _advance(state, count, self.step_up, self.slope_up)
        torch.clamp(pulses, max=0.0, out=count)
        _advance(state, count.neg_(), self.step_down, self.slope_down)

    def clip(self, state: Tensor) -> None:
        """Clip ``state`` in place to ``low..high``."""
        if isinstance(self.low, float) and isinstance(self.high, float):
            state.clamp_(self.low, self.high)
        else:
            state.clamp_(_like(self.low, state), _like(self.high, state))

    def _step_straight(self, state: Tensor, pulses: Tensor) -> None:
        if isinstance(self.step_up, float) and self.step_down == -self.step_up:
            state.add_(pulses, alpha=self.step_up)
            return
        state.addcmul_(pulses.clamp(min=0.0), _like(self.step_up, state))
        state.addcmul_(pulses.clamp(max=0.0), _like(self.step_down, state), value=-1.0)


def _advance(state: Tensor, count: Tensor, step: Tensor | float, slope: Tensor | float) -> None:
    """``state += (step + slope state) (exp(count rate) - 1) / slope``; overwrites ``count``."""
    if _is_zero(slope):
        state.addcmul_(count, _like(step, state))
        return
    rate = math.log1p(slope) if isinstance(slope, float) else torch.log1p(slope)
    growth = count.mul_(rate).expm1_()
    # step + slope x, divided by slope: x - target
    if isinstance(slope, float):
        state.addcmul_(growth, state + step / slope)
    else:
        state.addcmul_(growth, state + torch.as_tensor(step) / slope)


def _is_zero(value: Tensor | float) -> bool:
    return isinstance(value, float) and value == 0.0


def _like(value: Tensor | float, other: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=other.dtype, device=other.device)


@dataclass(frozen=True)
class Exponential:
    r"""The NeuroSim curve ``G(P) = B (1 - exp(-P/A)) + G_min``, LTP and LTD each with its own A.

    ``B = (G_max - G_min) / (1 - exp(-P_max/A))``; a pulse moves P by one on the curve of its
    direction, from wherever the present G lies, so ``x -> T + (x - T) exp(-n/A)`` with
    ``T = B/(G_max - G_min)``. The labels are the device's ``nonlinearity_up`` and
    ``nonlinearity_down``, P_max its levels; a negative depression label (A < 0) is the usual fast
    drop from G_max. Device to device, each label is drawn as N(label, device_to_device), kept
    within -9..9.

    Source: Chen, Peng and Yu, NeuroSim V3.0 manual; label rule: :func:`curvature_from_label`.
    """

    def cells(self, device: Device, draw: Draw | None = None) -> AffineCells:
        """Steps and slopes of both directions from the labels (and their spread)."""
        spread = device.device_to_device if draw is not None else 0.0
        up = _exponential(device.nonlinearity_up, spread, draw, 0, device.levels_up)
        down = _exponential(device.nonlinearity_down, spread, draw, 1, -device.levels_down)
        return AffineCells(*up, *down)


def _exponential(
    label: float, spread: float, draw: Draw | None, index: int, levels: float
) -> tuple[Tensor | float, Tensor | float]:
    """(step, slope) of one direction; ``levels`` is negative for depression."""
    if draw is None or spread == 0.0:
        bend = float(curvature_from_label(label))
        if abs(bend) < _STRAIGHT:
            return 1.0 / levels, 0.0
        slope = math.expm1(-bend / levels)
        return slope / math.expm1(-bend), slope
    normals = draw(index)
    labels = (label + spread * normals.double()).clamp_(-MAX_LABEL, MAX_LABEL)
    bends = curvature_from_label(labels)
    bends = torch.where(bends.abs() < 1e-4, torch.full_like(bends, 1e-4), bends)
    slopes = torch.expm1(-bends / levels)
    return (slopes / torch.expm1(-bends)).to(normals.dtype), slopes.to(normals.dtype)
