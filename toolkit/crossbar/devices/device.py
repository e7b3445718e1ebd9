"""One kind of memory cell: range, levels, response, noise and pulse conditions.

The formulas of responses are in :mod:`toolkit.crossbar.devices.responses`, named devices in
:mod:`toolkit.crossbar.devices.presets`, arrays of cells in :mod:`toolkit.crossbar.array`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import all_finite, check_count, check_instance, check_real, check_tensor
from toolkit.crossbar.devices.parameter import check_numbers, number, share
from toolkit.crossbar.devices.responses import Exponential, Response, clip_
from toolkit.crossbar.devices.retention import Retention

_LEVELS = (1, 2, 3, 5, 8, 16, 32, 50, 64, 100, 128, 200, 256, 500, 512, 1000, 2000, 5000, 10_000)
_SIEMENS = tuple(
    float(f"{digit}e{power}") for power in range(-9, -3) for digit in (1, 1.5, 2, 3, 5, 7)
)
#: Most pulses of a trace in one direction: 80 MB.
MOST_TRACED = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of cell. ``dataclasses.replace(device, cycle_to_cycle=0.0)`` overrides a property.

    Parameters
    ----------
    name
        Name of the device.
    g_min, g_max
        Conductance range, siemens.
    levels_up, levels_down
        Pulses from one end of the range to the other: potentiation, depression. Both ``inf``: no
        granularity; see the notes.
    cycle_to_cycle
        Standard deviation of one pulse as a fraction of the range; n pulses have sqrt(n) times it.
    step_noise
        Standard deviation of one pulse relative to its change; adds to the above.
    state_noise
        Standard deviation of one pulse as a fraction of the state above g_min; adds to the above.
    write_noise
        Standard deviation, as a fraction of the range, of an offset between the state that pulses
        move and the conductance that is read; redrawn whenever a cell is pulsed.
    read_noise
        Relative standard deviation of a cell's read current, redrawn at every read.
    v_up, v_down
        Programming voltages, volts.
    width_up, width_down
        Programming pulse widths, seconds.
    v_read, width_read
        Voltage of an input of 1 and duration of a read: volts, seconds. Only energies use them.
    response
        The formula of one pulse with its own parameters. These can also be passed, replaced and
        read on the device: ``Device(nonlinearity_up=2.4, ...)``, ``device.nonlinearity_up``.
    retention
        How conductance changes with time; None: it does not.
    endurance, endurance_spread
        Median number of pulses after which a cell no longer moves (0: never), and the standard
        deviation of its natural logarithm from cell to cell.
    stuck_low, stuck_high
        Fractions of the cells that are stuck at ``g_stuck_low`` and ``g_stuck_high`` (siemens;
        None: at the end of the range).
    source
        Where the numbers come from.
    provenance
        More about where they come from, as a fit or a device file says it (file, checksum, model,
        parameters, errors); it travels with the device and does not make two devices differ.

    Raises
    ------
    TypeError, ValueError
        If a value has the wrong type, is not finite or is out of bounds; if levels are infinite,
        but the response has no such limit, or pulses have noise or wear cells out.

    Notes
    -----
    With infinite levels, a cell moves by the exact mean of what an update asks for, instead of by
    whole pulses: the limit of ever smaller and ever more pulses. The response remains: a change of
    s ranges solves ``dx/ds = a + b x``. For ``Exponential`` that is ``x -> T + (x - T) exp(-u s)``,
    the same curve as with finite levels; for ``LinearStep`` and ``SoftBounds``, a and b are
    ``levels`` times a step and its slope. Other responses are refused. So are noise of a pulse
    (``cycle_to_cycle``, ``step_noise``, ``state_noise``), which infinitely many pulses would add up
    to infinity or to nothing, and ``endurance``. Spreads from cell to cell, write and read noise,
    retention and stuck cells remain. Nothing counts as a pulse: pulse counts, energies and times of
    writes stay 0. States in float32 still round changes below some 3e-8 of the range. To tell apart
    what limits training, compare a device without noise of a pulse, the same with infinite levels,
    and an ideal response with infinite levels.

    Examples
    --------
    >>> device = Device(name="mine", g_min=1e-6, g_max=1e-5, levels_up=4, levels_down=2)
    >>> device.trace(up=4, down=2)  # one cell, as fractions of its range
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """

    name: str
    g_min: float = number(
        "G_min", "Lowest conductance of the range.", 1e-10, 0.1, 0.0, _SIEMENS, "S", above=0.0
    )
    g_max: float = number(
        "G_max", "Highest conductance of the range.", 1e-10, 0.1, 0.0, _SIEMENS, "S", above=0.0
    )
    levels_up: float = number(
        "Levels up",
        "Pulses from G_min to G_max.",
        *(1, 20_000, 0, _LEVELS, "pulses", 1.0),
        or_inf=True,
    )
    levels_down: float = number(
        "Levels down",
        "Pulses from G_max to G_min.",
        *(1, 20_000, 0, _LEVELS, "pulses", 1.0),
        or_inf=True,
    )
    cycle_to_cycle: float = share(
        "Cycle-to-cycle",
        "Standard deviation of one pulse, as a fraction of the range; √n of it for n pulses.",
        0.5,
        0.0005,
        unit="of range",
    )
    step_noise: float = share(
        "Step noise",
        "Standard deviation of one pulse relative to its own change.",
        10.0,
        0.02,
        unit="of step",
    )
    state_noise: float = share(
        "State noise",
        "Standard deviation of one pulse relative to the state.",
        0.5,
        0.001,
        unit="of state",
    )
    write_noise: float = share(
        "Write noise",
        "Standard deviation, as a fraction of the range, of an offset redrawn at every write.",
        0.5,
        0.001,
        unit="of range",
    )
    read_noise: float = share(
        "Read noise",
        "Relative standard deviation of a cell's current, redrawn at every read.",
        0.5,
        0.001,
        unit="of current",
    )
    v_up: float = 1.0
    v_down: float = -1.0
    width_up: float = 1e-7
    width_down: float = 1e-7
    v_read: float = 0.2
    width_read: float = 1e-8
    response: Response = field(default_factory=Exponential)
    retention: Retention | None = None
    endurance: float = 0.0
    endurance_spread: float = 0.0
    stuck_low: float = share(
        "Stuck low",
        "Fraction of the cells stuck at their low end.",
        0.5,
        0.01,
        unit="of cells",
        most=1.0,
    )
    stuck_high: float = share(
        "Stuck high",
        "Fraction of the cells stuck at their high end.",
        0.5,
        0.01,
        unit="of cells",
        most=1.0,
    )
    g_stuck_low: float | None = None
    g_stuck_high: float | None = None
    source: str = ""
    provenance: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("name", "source"):
            check_instance(name, getattr(self, name), str, "text")
        check_numbers(self)
        if self.g_max <= self.g_min:
            raise ValueError(f"g_max must be above g_min={self.g_min}; got {self.g_max}")
        for name in ("v_up", "v_down", "v_read"):
            check_real(name, getattr(self, name))
        for name in ("width_up", "width_down", "width_read", "endurance", "endurance_spread"):
            check_real(name, getattr(self, name), 0.0)
        if self.stuck_low + self.stuck_high > 1.0:
            both = f"{self.stuck_low} + {self.stuck_high}"
            raise ValueError(f"stuck_low + stuck_high must be at most 1; got {both}")
        for name in ("g_stuck_low", "g_stuck_high"):
            if getattr(self, name) is not None:
                check_real(name, getattr(self, name), 0.0)
        check_instance("response", self.response, Response, "a response such as Exponential()")
        if self.retention is not None:
            law = "a law such as PowerLawDrift(nu=0.05), or None"
            check_instance("retention", self.retention, Retention, law)
        if self.provenance is not None:
            check_instance("provenance", self.provenance, Mapping, "a mapping, or None")
        if math.inf in (self.levels_up, self.levels_down):
            self._check_continuous()

    def _check_continuous(self) -> None:
        if not self.is_continuous:
            both = f"{self.levels_up} and {self.levels_down}"
            raise ValueError(f"levels_up and levels_down must both be inf, or neither; got {both}")
        if not getattr(self.response, "continuous", False):
            raise ValueError(
                "levels_up and levels_down must be finite with a response other than Exponential, "
                f"LinearStep and SoftBounds; got inf with {type(self.response).__name__}"
            )
        for name in ("cycle_to_cycle", "step_noise", "state_noise", "endurance"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} must be 0 with infinite levels, as it belongs to a single pulse; "
                    f"got {getattr(self, name)}"
                )

    def __getattr__(self, name: str) -> Any:
        response = vars(self).get("response")
        if response is not None and name in _parameters_of(response):
            return getattr(response, name)
        raise AttributeError(f"Device {vars(self).get('name', '')!r} has no {name!r}")

    @property
    def is_continuous(self) -> bool:
        """Whether levels are infinite: cells move by exact changes, without pulses."""
        return self.levels_up == self.levels_down == math.inf

    @property
    def pulses_per_range(self) -> tuple[float, float]:
        """What a write counts to cross the range up and down: levels; 1 if they are infinite."""
        return (1.0, 1.0) if self.is_continuous else (self.levels_up, self.levels_down)

    def check_pulsed(self) -> None:
        """Raise ValueError if the device has no pulses, as its levels are infinite."""
        if self.is_continuous:
            raise ValueError(f"levels_up and levels_down of {self.name} must be finite; got inf")

    @property
    def on_off(self) -> float:
        """Ratio of the largest to the smallest conductance."""
        return self.g_max / self.g_min

    @property
    def span(self) -> float:
        """Width of the conductance range, siemens."""
        return self.g_max - self.g_min

    def symmetry_point(self) -> float | None:
        """State of a nominal cell where one pulse up and one down are equally large.

        Alternating pulses drift to it. None if the range contains none, or more than one.
        """
        point = float(self.response.cells(self).symmetry_point())
        return point if 0.0 <= point <= 1.0 else None

    def step(self, state: Tensor, pulses: Tensor) -> Tensor:
        """Apply signed ``pulses`` at once to nominal noiseless cells, clipped to the range.

        ``state`` is normalised, ``(G - g_min) / (g_max - g_min)``; shapes broadcast; positive
        pulses potentiate. Returns a new tensor.
        """
        check_tensor("state", state)
        check_instance("pulses", pulses, Tensor, "a torch.Tensor")
        self.check_pulsed()
        if not all_finite(pulses):
            raise ValueError("pulses must be finite; got NaN or infinite entries")
        state, pulses = torch.broadcast_tensors(state, pulses)
        state = state.clone()
        cells = self.response.cells(self)
        cells.step(state, pulses.to(state.dtype))
        return clip_(state, cells.low, cells.high)

    def trace(self, up: int = 400, down: int = 400, start: float = 0.0) -> Tensor:
        """State of one noiseless nominal cell through ``up`` then ``down`` pulses.

        Returns ``(up + down + 1,)`` float64, normalised to 0..1 of the conductance range; the
        first entry is ``start``.

        Raises
        ------
        TypeError, ValueError
            If ``up`` or ``down`` is not a whole number, is negative, or ``start`` is outside 0..1.
        """
        check_count("up", up, 0, MOST_TRACED)
        check_count("down", down, 0, MOST_TRACED)
        check_real("start", start, 0.0, 1.0)
        origin = torch.tensor([float(start)], dtype=torch.float64)
        rise = torch.cat([origin, self.step(origin, torch.arange(1.0, up + 1.0).double())])
        fall = self.step(rise[-1:], -torch.arange(1.0, down + 1.0).double())
        return torch.cat([rise, fall])


def _parameters_of(response: Any) -> set[str]:
    return {f.name for f in fields(response)} if is_dataclass(response) else set()


def _taking_parameters_of_the_response(init: Callable[..., None]) -> Callable[..., None]:
    """Let ``Device.__init__`` pass parameters that are not its own to its response."""
    own = {f.name for f in fields(Device)}

    @functools.wraps(init)
    def initialise(self: Device, **row: Any) -> None:
        response = row.setdefault("response", Exponential())
        given = {name: row.pop(name) for name in [*row] if name not in own}
        if foreign := sorted(set(given) - _parameters_of(response)):
            raise TypeError(
                f"{foreign[0]} does not apply to {row.get('name')}, whose response is "
                f"{type(response).__name__}"
            )
        if given:
            row["response"] = replace(response, **given)
        init(self, **row)

    return initialise


Device.__init__ = _taking_parameters_of_the_response(Device.__init__)  # type: ignore[method-assign]
