"""Responses of a cell to programming pulses: closed formulas, vectorised over cells.

A response works on the normalised state ``x = (G - G_min) / (G_max - G_min)`` of many cells at
once and on signed pulse counts (positive: potentiation, negative: depression). It is independent
of arrays, weights, noise and random generators; spread from cell to cell enters as given
standard-normal draws.

A new response is one class: a :class:`Law` (usually :class:`Affine` or
:class:`~toolkit.crossbar.devices.stepwise.Stepwise`) whose ``cells`` gives the parameters of cells,
and which defines the effect of a pulse twice, in torch and as a compiled step for CPUs.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar.devices.parameter import check_numbers, number, share
from toolkit.crossbar.kernels import CompiledStep

#: Largest nonlinearity label of the NeuroSim tables.
MAX_LABEL = 9.0
#: A curve that bends less than this is a straight line to within float64 rounding.
_STRAIGHT = 1e-6

Draw = Callable[[int], Tensor]
Parameter = Tensor | float


class Row(Protocol):
    """What responses and retention laws can read from their device."""

    @property
    def g_min(self) -> float:
        """Lowest conductance, siemens."""

    @property
    def g_max(self) -> float:
        """Highest conductance, siemens."""

    @property
    def span(self) -> float:
        """``g_max - g_min``, siemens."""

    @property
    def levels_up(self) -> float:
        """Pulses from ``g_min`` to ``g_max``."""

    @property
    def levels_down(self) -> float:
        """Pulses from ``g_max`` to ``g_min``."""


@runtime_checkable
class Response(Protocol):
    """A kind of response. ``cells`` turns a device into the parameters of its cells."""

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of nominal cells, or of cells spread by the standard normals ``draw(i)``."""


def clip_(state: Tensor, low: Parameter, high: Parameter) -> Tensor:
    """Clip ``state`` in place to bounds that are numbers or tensors."""
    if isinstance(low, float) and isinstance(high, float):
        return state.clamp_(low, high)
    return torch.clamp(state, like(low, state), like(high, state), out=state)


def like(value: Parameter, other: Tensor) -> Tensor:
    """``value`` as a tensor of the dtype and device of ``other``."""
    if isinstance(value, Tensor):
        return value.to(other)
    return torch.full((), value, dtype=other.dtype, device=other.device)  # a GPU does not wait


def curvature_from_label(label: Parameter) -> Tensor:
    r"""Curvature ``u = P_max / A`` of a NeuroSim nonlinearity label, float64.

    Solves ``max_P [G_norm(P) - P] = 0.07 sqrt(2) |label|`` for the normalised curve
    ``G_norm(P) = (1 - exp(-u P)) / (1 - exp(-u))``; the maximum is
    ``1/E - 1/u + ln(E/u)/u`` with ``E = 1 - exp(-u)``. The curvature has the sign of the label;
    0 gives 0, the straight line. The rule reproduces the label table of NeuroSim V3.0.

    Raises
    ------
    ValueError
        If a label is not finite or lies outside -9..9.
    """
    label = torch.as_tensor(label, dtype=torch.float64)
    if not bool((label.abs() <= MAX_LABEL).all()):
        raise ValueError(f"label must be between -9 and 9; got {label}")
    height = 0.07 * math.sqrt(2.0) * label.abs()
    bend = 8.0 * height  # the deviation is concave in u and below u/8, so Newton climbs from here
    for _ in range(50):
        change = _newton_change(bend, height)
        bend = bend + change
        if not bool((change.abs() > 1e-12 * bend).any()):
            break
    return torch.copysign(bend, label)


def _newton_change(bend: Tensor, height: Tensor) -> Tensor:
    """Newton step of the curvature; 0 where the deviation equals u/8 to rounding."""
    small = bend < 1e-4
    u = bend.clamp(min=1e-4)
    rise = 1.0 / torch.expm1(u)  # exp(-u) / E
    ratio = torch.log(-torch.expm1(-u) / u)
    deviation = 1.0 + rise - (1.0 - ratio) / u
    slope = rise / u - rise * (1.0 + rise) - ratio / (u * u)
    return torch.where(small, torch.zeros_like(u), (height - deviation) / slope)


class Law(ABC):
    """The effect of pulses on cells, without noise: in torch, and compiled for CPUs."""

    #: :meth:`advance` for compiled loops; if None, torch also writes on CPUs.
    compiled: ClassVar[CompiledStep | None] = None

    @abstractmethod
    def advance(self, cells: CellParameters, state: Tensor, pulses: Tensor) -> None:
        """Apply signed ``pulses`` to ``state`` in place; the result can exceed the bounds."""

    @abstractmethod
    def symmetry_point(self, cells: CellParameters) -> Tensor:
        """State where one pulse up and one down are equally large; NaN for cells without one."""


@dataclass(frozen=True)
class CellParameters:
    """Parameters of all cells of an array under one law: numbers, or one value per cell.

    ``up`` holds the parameters of potentiation and ``down`` those of depression, in equal number;
    ``low`` and ``high`` are the bounds of the state. ``nodes`` (rows, nodes) is the law's table for
    all cells, if it has one.
    """

    law: Law
    up: tuple[Parameter, ...]
    down: tuple[Parameter, ...]
    low: Parameter = 0.0
    high: Parameter = 1.0
    nodes: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def step(self, state: Tensor, pulses: Tensor) -> None:
        """Apply signed ``pulses`` to ``state`` in place, without noise or bounds."""
        self.law.advance(self, state, pulses)

    def symmetry_point(self) -> Tensor:
        """State where one pulse up and one down are equally large; NaN for cells without one."""
        return self.law.symmetry_point(self)

    def table(self, state: Tensor) -> Tensor:
        """``up`` and ``down``: (cells, columns), or (1, columns) if all cells are alike.

        One row per cell, so that its parameters are one memory access; in the dtype of ``state``.
        """
        columns = torch.broadcast_tensors(*(like(value, state) for value in (*self.up, *self.down)))
        return torch.stack([column.flatten() for column in columns], 1)

    def held_in(self, table: Tensor) -> CellParameters:
        """The same cells, with their parameters stored in ``table`` only."""
        if len(table) == 1:
            return self
        shape = torch.broadcast_shapes(*(torch.as_tensor(v).shape for v in (*self.up, *self.down)))
        columns = tuple(column.view(shape) for column in table.unbind(1))
        return replace(self, up=columns[: len(self.up)], down=columns[len(self.up) :])


# Up to this many pulses are faster one by one; largest exponent of the closed form.
_FEW_PULSES, _MOST_EXPONENT = 8, 60.0


def _affine(places, pulses, state, parameters, nodes, low, high, after):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Compiled form of :meth:`Affine.advance`."""
    last = np.uint64(len(parameters) - 1)
    for index in range(len(places)):
        x, many, row = state[places[index]], abs(pulses[index]), min(places[index], last)
        way = 0 if pulses[index] > 0.0 else 2
        step, slope = parameters[row, way], parameters[row, way + 1]
        if slope == 0.0:
            change = many * step
        elif many <= _FEW_PULSES and slope < 1.0:  # steeper ones can overflow within a few
            reached = x
            for _ in range(int(many)):
                reached += step + slope * reached
            change = reached - x
        else:
            growth = math.expm1(min(many * math.log1p(slope), _MOST_EXPONENT))
            change = growth * x + step * growth / slope
        after[index] = x + change


class Affine(Law):
    """A pulse moves a cell by an affine function of its state: ``dx = step + slope * x``.

    For ``n`` pulses at once, ``dx_n = g x + step g / slope`` with ``g = expm1(n ln(1 + slope))``,
    or ``n * step`` if ``slope`` is 0. The parameters of cells are (step, slope); depression steps
    are negative.
    """

    compiled: ClassVar[CompiledStep | None] = CompiledStep(_affine, cache=True)

    def advance(self, cells: CellParameters, state: Tensor, pulses: Tensor) -> None:
        """The closed form of the class, in place."""
        rising = pulses > 0.0
        step, slope = (
            torch.where(rising, like(up, state), like(down, state))
            for up, down in zip(cells.up, cells.down, strict=True)
        )
        count = pulses.abs()
        growth = torch.expm1(self._exponent(count, slope).clamp_(max=_MOST_EXPONENT))
        straight = slope == 0.0
        gain = torch.where(straight, count, growth / slope.masked_fill(straight, 1.0))
        state.addcmul_(state, growth).addcmul_(step, gain)

    def _exponent(self, count: Tensor, slope: Tensor) -> Tensor:
        return (count * torch.log1p(slope)).nan_to_num_(0.0, neginf=-math.inf)  # 0 inf is 0

    def symmetry_point(self, cells: CellParameters) -> Tensor:
        """``-(step_up + step_down) / (slope_up + slope_down)``, NaN where steps do not change."""
        step, slope = (
            torch.as_tensor(up, dtype=torch.float64) + torch.as_tensor(down, dtype=torch.float64)
            for up, down in zip(cells.up, cells.down, strict=True)
        )
        return torch.where(slope == 0.0, math.nan, -step / slope)


class Flow(Affine):
    """The limit of ever smaller pulses: ``dx/ds = rate + slope * x`` for a change of s ranges.

    ``dx = g x + rate g / slope`` with ``g = expm1(s slope)``, or ``s * rate`` if ``slope`` is 0.
    The parameters of cells are (rate, slope); rates of depression are negative. What takes the
    place of pulses are changes in ranges.
    """

    compiled = None

    def _exponent(self, count: Tensor, slope: Tensor) -> Tensor:
        return count * slope


@dataclass(frozen=True, kw_only=True)
class Exponential(Affine):
    r"""The NeuroSim curve ``G(P) = B (1 - exp(-P/A)) + G_min``, with one A for LTP and one for LTD.

    ``B = (G_max - G_min) / (1 - exp(-P_max/A))``. A pulse advances P by one on the curve of its
    direction from the present G, so ``x -> T + (x - T) exp(-n/A)`` with
    ``T = B/(G_max - G_min)``. P_max are the levels of the device. A follows from the labels
    ``nonlinearity_up`` and ``nonlinearity_down``, -9..9; 0 is a straight line. A negative
    depression label (A < 0) is the usual fast drop from G_max. From cell to cell, each label is
    drawn as N(label, device_to_device), kept within -9..9.

    Source: Chen, Peng and Yu, NeuroSim V3.0 manual; label rule: :func:`curvature_from_label`.
    """

    continuous: ClassVar[bool] = True
    nonlinearity_up: float = number(
        "Nonlinearity up",
        "NeuroSim label of potentiation; 0 is a straight line.",
        -MAX_LABEL,
        MAX_LABEL,
        0.02,
        default=0.0,
        least=-MAX_LABEL,
        most=MAX_LABEL,
    )
    nonlinearity_down: float = number(
        "Nonlinearity down",
        "NeuroSim label of depression; negative: large steps near G_max first.",
        -MAX_LABEL,
        MAX_LABEL,
        0.02,
        default=0.0,
        least=-MAX_LABEL,
        most=MAX_LABEL,
    )
    device_to_device: float = share(
        "Device-to-device",
        "Standard deviation of the nonlinearity labels from cell to cell.",
        5.0,
        0.02,
    )

    def __post_init__(self) -> None:
        check_numbers(self)

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Steps and slopes of both directions from the labels (and their spread)."""
        spread = self.device_to_device if draw is not None else 0.0
        up = _exponential(self.nonlinearity_up, spread, draw, 0, device.levels_up)
        down = _exponential(self.nonlinearity_down, spread, draw, 1, -device.levels_down)
        return CellParameters(law_of(self, device), up, down)


def law_of(law: Law, device: Row) -> Law:
    """``law``, or its limit if levels are infinite."""
    return Flow() if math.isinf(device.levels_up) else law


@functools.lru_cache(maxsize=1024)
def _curvature(label: float) -> float:
    """Curvature of one label, remembered: a fit asks for the same ones again and again."""
    return float(curvature_from_label(label))


def _exponential(
    label: float, spread: float, draw: Draw | None, index: int, levels: float
) -> tuple[Parameter, Parameter]:
    """(step, slope) of one direction; ``levels`` is negative for depression."""
    if draw is None or spread == 0.0:
        bend = _curvature(label)
        if abs(bend) < _STRAIGHT:
            return (1.0 / levels if math.isfinite(levels) else math.copysign(1.0, levels)), 0.0
        slope = float(_decay(torch.tensor(-bend, dtype=torch.float64), levels))
        return slope / math.expm1(-bend), slope
    normals = draw(index)
    labels = (label + spread * normals.double()).clamp_(-MAX_LABEL, MAX_LABEL)
    bends = curvature_from_label(labels)
    bends = torch.where(bends.abs() < 1e-4, torch.full_like(bends, 1e-4), bends)
    slopes = _decay(-bends, levels)
    return (slopes / torch.expm1(-bends)).to(normals.dtype), slopes.to(normals.dtype)


def _decay(bend: Tensor, levels: float) -> Tensor:
    """Change of a distance in a pulse, ``expm1(bend / levels)``; its rate if levels are infinite.

    ``levels`` are negative for depression.
    """
    if math.isinf(levels):
        return math.copysign(1.0, levels) * bend
    return torch.expm1(bend / levels)
