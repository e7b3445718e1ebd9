"""Step models with soft, exponential, power-law or tabulated dependence on the state.

These are the models that aihwkit made common (Rasch et al., AICAS 2021; formulas in its
documentation of the pulsed devices), in normalised state. A weight coordinate ``w`` between
``w_min`` and ``w_max`` is ``x = (w - w_min) / (w_max - w_min)``, with ``w = 0`` at ``x = zero``;
``dw_min`` is ``(w_max - w_min) / levels``. The NeuroSim curve is in
:mod:`toolkit.crossbar.devices.responses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from toolkit.checks import check_flag, check_real, check_reals
from toolkit.crossbar.devices.responses import AffineCells, Draw, Parameter
from toolkit.crossbar.stepwise import ExpCurve, NodeCurve, PowCurve, StepwiseCells

if TYPE_CHECKING:
    from toolkit.crossbar.devices.device import Device


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """What the step models share: the size of a step at ``zero``, its asymmetry, the bounds.

    A pulse at ``zero`` moves by ``|scale + min(asymmetry, 0) + lean| / levels_up`` up and by
    ``|scale - max(asymmetry, 0) - lean| / levels_down`` down. The spreads are the standard
    deviations from cell to cell: of ``scale`` (around 1; log-normal: of its logarithm), of the
    ``lean`` (around 0, the asymmetry's spread), and of the distances of the bounds from ``zero``,
    relative to them.
    """

    zero: float = 0.5
    asymmetry: float = 0.0
    step_spread: float = 0.0
    step_log_normal: bool = False
    asymmetry_spread: float = 0.0
    high_spread: float = 0.0
    low_spread: float = 0.0

    def __post_init__(self) -> None:
        check_real("zero", self.zero, 0.0, 1.0)
        if check_real("asymmetry", self.asymmetry, most=1.0, above=-1.0) == 1.0:
            raise ValueError("asymmetry must be below 1; got 1")
        self._check_not_negative("step_spread", "asymmetry_spread", "high_spread", "low_spread")
        check_flag("step_log_normal", self.step_log_normal)

    def _check_not_negative(self, *names: str) -> None:
        for name in names:
            check_real(name, getattr(self, name), 0.0)

    def _sizes(self, device: Device, draw: Draw | None) -> tuple[Parameter, Parameter]:
        """Step sizes at ``zero`` (both positive): up, down."""
        up: Parameter = min(self.asymmetry, 0.0)
        down: Parameter = -max(self.asymmetry, 0.0)
        if draw is not None and self.asymmetry_spread > 0.0:
            lean = self.asymmetry_spread * draw(0)
            up, down = up + lean, down - lean
        scale: Parameter = 1.0
        if draw is not None and self.step_spread > 0.0:
            spread = self.step_spread * draw(1)
            scale = spread.exp() if self.step_log_normal else 1.0 + spread
        up, down = scale + up, scale + down
        return _absolute(up) / device.levels_up, _absolute(down) / device.levels_down

    def _bounds(self, draw: Draw | None) -> tuple[Parameter, Parameter]:
        """Lower and upper bound of every cell."""
        low, high = self.zero, 1.0 - self.zero  # distances from zero
        below = _spread(low, self.low_spread * low, draw, 2)
        above = _spread(high, self.high_spread * high, draw, 3)
        return self.zero - _absolute(below), self.zero + _absolute(above)


def _spread(mean: float, deviation: float, draw: Draw | None, index: int) -> Parameter:
    return mean if draw is None or deviation == 0.0 else mean + deviation * draw(index)


def _absolute(value: Parameter) -> Parameter:
    return value.abs() if isinstance(value, Tensor) else abs(value)


@dataclass(frozen=True, kw_only=True)
class LinearStep(_Steps):
    """``dw = s_up (1 - decrease_up w/w_max)``, ``dw = -s_down (1 - decrease_down w/w_min)``.

    ConstantStep is ``decrease`` 0 (the default). ``decrease_spread`` is the standard deviation of
    both decreases from cell to cell; their signs are dropped, so a step never grows towards its
    bound. The slopes refer to the nominal bounds. Needs ``0 < zero < 1`` unless both decreases
    are 0.
    """

    decrease_up: float = 0.0
    decrease_down: float = 0.0
    decrease_spread: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_not_negative("decrease_up", "decrease_down", "decrease_spread")
        if (self.decrease_up or self.decrease_down) and self.zero in (0.0, 1.0):
            raise ValueError(f"zero must be inside 0 to 1 where steps decrease; got {self.zero}")

    def cells(self, device: Device, draw: Draw | None = None) -> AffineCells:
        """Affine cells: the closed form for many pulses applies."""
        up, down = self._sizes(device, draw)
        low, high = self._bounds(draw)
        bend_up = _absolute(_spread(self.decrease_up, self.decrease_spread, draw, 4))
        bend_down = _absolute(_spread(self.decrease_down, self.decrease_spread, draw, 5))
        return _affine(self.zero, (up, down), (bend_up, bend_down), (0.0, 1.0), (low, high))


@dataclass(frozen=True, kw_only=True)
class SoftBounds(_Steps):
    """``dw = s_up (1 - w/w_max)``, ``dw = -s_down (1 - w/w_min)``, with the bounds of each cell.

    The step vanishes at the bound: exponential saturation. With a reference cell at the symmetry
    point (``pair="reference"`` of an array) it is the SoftBoundsReference model.
    """

    def cells(self, device: Device, draw: Draw | None = None) -> AffineCells:
        """Affine cells: the closed form for many pulses applies."""
        bounds = self._bounds(draw)
        return _affine(self.zero, self._sizes(device, draw), (1.0, 1.0), bounds, bounds)


def _affine(
    zero: float,
    sizes: tuple[Parameter, Parameter],
    bends: tuple[Parameter, Parameter],
    references: tuple[Parameter, Parameter],
    bounds: tuple[Parameter, Parameter],
) -> AffineCells:
    """Steps that fall to ``1 - bend`` of their size at ``zero`` when the reference is reached."""
    (up, down), (bend_up, bend_down), (bottom, top) = sizes, bends, references
    up, slope_up = _no_overshoot(up, bend_up, top - zero)
    down, slope_down = _no_overshoot(down, bend_down, zero - bottom)
    rising, falling = up - slope_up * zero, -down - slope_down * zero
    return AffineCells((rising, slope_up), (falling, slope_down), *bounds)


def _no_overshoot(
    size: Parameter, bend: Parameter, width: Parameter
) -> tuple[Parameter, Parameter]:
    """Step and slope, shrunk so that one pulse ends at most where clipping would leave it."""
    if isinstance(bend, float) and bend == 0.0:
        return size, 0.0
    most, slope = 1.0 - 1e-6, -size * bend / _positive(width)
    if isinstance(slope, Tensor):
        shares = (most / slope.abs().clamp(min=1e-9)).clamp(max=1.0)
        return size * shares, slope * shares
    share = min(1.0, most / max(abs(slope), 1e-9))
    return size * share, slope * share


def _positive(width: Parameter) -> Parameter:
    return width.clamp(min=1e-6) if isinstance(width, Tensor) else max(width, 1e-6)


@dataclass(frozen=True, kw_only=True)
class ExpStep(_Steps):
    """``dw = +-s max(0, 1 - A exp(+-gamma z))`` with ``z = 2 a w / (w_max - w_min) + b``.

    Upper signs up (``amplitude_up``, ``gamma_up``), lower signs down. ``w_max - w_min`` is the
    cell's own range. ``shape_spread`` is the standard deviation, from cell to cell and relative to
    them, of the amplitudes and gammas, each for itself.
    """

    amplitude_up: float
    amplitude_down: float
    gamma_up: float
    gamma_down: float
    a: float = 1.0
    b: float = 0.0
    shape_spread: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("amplitude_up", "amplitude_down", "gamma_up", "gamma_down", "a", "b"):
            check_real(name, getattr(self, name))
        self._check_not_negative("shape_spread")

    def cells(self, device: Device, draw: Draw | None = None) -> StepwiseCells:
        """Cells pulsed one pulse after another."""
        nominal = (self.amplitude_up, self.amplitude_down, self.gamma_up, self.gamma_down)
        amplitude_up, amplitude_down, gamma_up, gamma_down = (
            _spread(mean, self.shape_spread * abs(mean), draw, 4 + number)
            for number, mean in enumerate(nominal)
        )
        up, down = self._sizes(device, draw)
        low, high = self._bounds(draw)
        tilt = 2.0 * self.a / _positive(high - low)
        offset = self.b - tilt * self.zero  # z = offset + tilt x
        rise = up, gamma_up * offset, gamma_up * tilt, amplitude_up
        fall = -down, -gamma_down * offset, -gamma_down * tilt, amplitude_down
        return StepwiseCells(rise, fall, low, high, curve=ExpCurve())


@dataclass(frozen=True, kw_only=True)
class PowStep(_Steps):
    """``dw = s omega^gamma`` up, ``-s (1 - omega)^gamma`` down.

    ``omega = (w_max - w)/(w_max - w_min)`` in the cell's own range; ``s`` is here the step
    at the far bound. ``gamma_spread`` is the standard deviation of both gammas from cell to cell;
    their signs are dropped.
    """

    gamma_up: float = 1.0
    gamma_down: float = 1.0
    gamma_spread: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_not_negative("gamma_up", "gamma_down", "gamma_spread")

    def cells(self, device: Device, draw: Draw | None = None) -> StepwiseCells:
        """Cells pulsed one pulse after another."""
        up, down = self._sizes(device, draw)
        low, high = self._bounds(draw)
        gamma_up = _absolute(_spread(self.gamma_up, self.gamma_spread, draw, 4))
        gamma_down = _absolute(_spread(self.gamma_down, self.gamma_spread, draw, 5))
        scale = 1.0 / _positive(high - low)
        rise, fall = (up, scale * high, -scale, gamma_up), (-down, -scale * low, scale, gamma_down)
        return StepwiseCells(rise, fall, low, high, curve=PowCurve())


@dataclass(frozen=True, kw_only=True)
class PiecewiseStep(_Steps):
    """``dw = +-s f(w)`` with f linear between ``nodes`` evenly spaced over the cell's own range.

    The nodes are the same for all cells; ``step_spread`` scales them, the spreads of the bounds
    stretch them.
    """

    nodes_up: tuple[float, ...] = (1.0, 1.0)
    nodes_down: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("nodes_up", "nodes_down"):
            check_reals(name, getattr(self, name), count=2)

    def cells(self, device: Device, draw: Draw | None = None) -> StepwiseCells:
        """Cells pulsed one pulse after another."""
        up, down = self._sizes(device, draw)
        low, high = self._bounds(draw)
        scale = 1.0 / _positive(high - low)
        curve = NodeCurve.evenly(self.nodes_up, self.nodes_down)
        place = -scale * low, scale
        return StepwiseCells((up, *place), (-down, *place), low, high, curve=curve)
