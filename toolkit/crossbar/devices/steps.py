"""Step models: their common part, and those with a closed form for many pulses.

These models are known from aihwkit (Rasch et al., AICAS 2021; formulas in its documentation of
pulsed devices), here in normalised state. A weight coordinate ``w`` between ``w_min`` and ``w_max``
is ``x = (w - w_min) / (w_max - w_min)``, with ``w = 0`` at ``x = zero``; ``dw_min`` is
``(w_max - w_min) / levels``. The other models are in :mod:`toolkit.crossbar.devices.stepwise`, the
NeuroSim curve in :mod:`toolkit.crossbar.devices.responses`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from toolkit.checks import check_flag
from toolkit.crossbar.devices.parameter import check_numbers, number, share, spread
from toolkit.crossbar.devices.responses import Affine, CellParameters, Draw, Parameter, Row, law_of


@dataclass(frozen=True, kw_only=True)
class StepModel:
    """Common part of the step models: step size at ``zero``, asymmetry and bounds.

    A pulse at ``zero`` moves by ``|scale + min(asymmetry, 0) + lean| / levels_up`` up and by
    ``|scale - max(asymmetry, 0) - lean| / levels_down`` down. The spreads are the standard
    deviations from cell to cell: of ``scale`` (around 1; if log-normal, of its logarithm), of
    ``lean`` (around 0, the asymmetry's spread), and of the distances of the bounds from ``zero``,
    relative to these.
    """

    zero: float = number(
        "Zero",
        "State at which a step has its nominal size.",
        0.0,
        1.0,
        0.001,
        default=0.5,
        least=0.0,
        most=1.0,
    )
    asymmetry: float = number(
        "Asymmetry",
        "Above 0 a step down is smaller, below 0 a step up.",
        -0.99,
        0.99,
        0.005,
        default=0.0,
        most=1.0,
        above=-1.0,
    )
    step_spread: float = spread("Step spread", "the size of a step", 1.5)
    step_log_normal: bool = False
    asymmetry_spread: float = spread("Asymmetry spread", "the asymmetry", 0.5)
    high_spread: float = spread("Upper-bound spread", "the upper bound", 1.0)
    low_spread: float = spread("Lower-bound spread", "the lower bound", 1.0)

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.asymmetry == 1.0:
            raise ValueError("asymmetry must be below 1; got 1")
        check_flag("step_log_normal", self.step_log_normal)

    def sizes(self, device: Row, draw: Draw | None) -> tuple[Parameter, Parameter]:
        """Step sizes at ``zero``, both positive: up, down."""
        up: Parameter = min(self.asymmetry, 0.0)
        down: Parameter = -max(self.asymmetry, 0.0)
        if draw is not None and self.asymmetry_spread > 0.0:
            lean = self.asymmetry_spread * draw(0)
            up, down = up + lean, down - lean
        scale: Parameter = 1.0
        if draw is not None and self.step_spread > 0.0:
            spread = self.step_spread * draw(1)
            scale = spread.exp() if self.step_log_normal else 1.0 + spread
        up, down = absolute(scale + up), absolute(scale + down)
        if math.isinf(device.levels_up):  # per range instead of per pulse
            return up, down
        return up / device.levels_up, down / device.levels_down

    def bounds(self, draw: Draw | None) -> tuple[Parameter, Parameter]:
        """Lower and upper bound of every cell."""
        low, high = self.zero, 1.0 - self.zero  # distances from zero
        below = spread_around(low, self.low_spread * low, draw, 2)
        above = spread_around(high, self.high_spread * high, draw, 3)
        return self.zero - absolute(below), self.zero + absolute(above)


def spread_around(mean: float, deviation: float, draw: Draw | None, index: int) -> Parameter:
    """``mean``, or cells spread around it by the draws with this index."""
    return mean if draw is None or deviation == 0.0 else mean + deviation * draw(index)


def absolute(value: Parameter) -> Parameter:
    """Magnitudes."""
    return value.abs() if isinstance(value, Tensor) else abs(value)


@dataclass(frozen=True, kw_only=True)
class LinearStep(StepModel, Affine):
    """``dw = s_up (1 - decrease_up w/w_max)``, ``dw = -s_down (1 - decrease_down w/w_min)``.

    ``decrease`` 0, the default, is the ConstantStep model. ``decrease_spread`` is the standard
    deviation of both decreases from cell to cell; negative ones are made positive, so a step never
    grows towards its bound. Slopes refer to the nominal bounds. Needs ``0 < zero < 1`` unless both
    decreases are 0.
    """

    continuous: ClassVar[bool] = True
    decrease_up: float = share(
        "Decrease up", "How much a step up shrinks on the way to the upper bound.", 2.0, 0.01
    )
    decrease_down: float = share(
        "Decrease down",
        "How much a step down shrinks on the way to the lower bound.",
        2.0,
        0.01,
    )
    decrease_spread: float = spread("Decrease spread", "both decreases", 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.decrease_up or self.decrease_down) and self.zero in (0.0, 1.0):
            raise ValueError(f"zero must be above 0 and below 1 if steps decrease; got {self.zero}")

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of affine cells."""
        up, down = self.sizes(device, draw)
        low, high = self.bounds(draw)
        bend_up = absolute(spread_around(self.decrease_up, self.decrease_spread, draw, 4))
        bend_down = absolute(spread_around(self.decrease_down, self.decrease_spread, draw, 5))
        bends, whole = (bend_up, bend_down), math.isfinite(device.levels_up)
        rise, fall = _affine(self.zero, (up, down), bends, (0.0, 1.0), whole=whole)
        return CellParameters(law_of(self, device), rise, fall, low, high)


@dataclass(frozen=True, kw_only=True)
class SoftBounds(StepModel, Affine):
    """``dw = s_up (1 - w/w_max)``, ``dw = -s_down (1 - w/w_min)``, with the bounds of each cell.

    The step vanishes at the bound: exponential saturation. With a reference cell at the symmetry
    point (``pair="reference"`` of an array) it is the SoftBoundsReference model.
    """

    continuous: ClassVar[bool] = True

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:
        """Parameters of affine cells."""
        bounds, sizes = self.bounds(draw), self.sizes(device, draw)
        whole = math.isfinite(device.levels_up)
        rise, fall = _affine(self.zero, sizes, (1.0, 1.0), bounds, whole=whole)
        return CellParameters(law_of(self, device), rise, fall, *bounds)


def _affine(
    zero: float,
    sizes: tuple[Parameter, Parameter],
    bends: tuple[Parameter, Parameter],
    references: tuple[Parameter, Parameter],
    *,
    whole: bool,
) -> tuple[tuple[Parameter, Parameter], tuple[Parameter, Parameter]]:
    """Step and slope, up and down: ``1 - bend`` of the size at ``zero`` for the reference.

    Only ``whole`` pulses can overshoot.
    """
    (up, down), (bend_up, bend_down), (bottom, top) = sizes, bends, references
    up, slope_up = _with_slope(up, bend_up, top - zero, whole=whole)
    down, slope_down = _with_slope(down, bend_down, zero - bottom, whole=whole)
    rising, falling = up - slope_up * zero, -down - slope_down * zero
    return (rising, slope_up), (falling, slope_down)


def _with_slope(
    size: Parameter, bend: Parameter, width: Parameter, *, whole: bool
) -> tuple[Parameter, Parameter]:
    """Step and slope, reduced so that one pulse ends no further than clipping would."""
    if isinstance(bend, float) and bend == 0.0:
        return size, 0.0
    most, slope = 1.0 - 1e-6, -size * bend / positive(width)
    if not whole:
        return size, slope
    if isinstance(slope, Tensor):
        shares = (most / slope.abs().clamp(min=1e-9)).clamp(max=1.0)
        return size * shares, slope * shares
    share = min(1.0, most / max(abs(slope), 1e-9))
    return size * share, slope * share


def positive(width: Parameter) -> Parameter:
    """``width``, at least slightly above 0, for use as a divisor."""
    return width.clamp(min=1e-6) if isinstance(width, Tensor) else max(width, 1e-6)
