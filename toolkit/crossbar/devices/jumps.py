"""The jump table: the measured mean step dG(G, polarity) as a response, without a formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.checks import check_instance, check_reals
from toolkit.crossbar.devices.parameter import check_numbers, spread
from toolkit.crossbar.devices.responses import CellParameters, Draw, Parameter, Row
from toolkit.crossbar.devices.stepwise import Tabulated, both_ways


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """Steps of one polarity: size ``mean`` at the states ``nodes``, linear in between.

    ``nodes`` rise from 0 to 1 (normalised state). ``mean`` (not negative) and ``spread`` (standard
    deviation of one pulse) are fractions of the conductance range.
    """

    nodes: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("nodes", "mean", "spread"):
            check_reals(name, getattr(self, name), count=2, least=0.0)
        lengths = len(self.nodes), len(self.mean), len(self.spread)
        if len(set(lengths)) > 1:
            raise ValueError(f"nodes, mean and spread must have the same length; got {lengths}")
        if self.nodes[0] != 0.0 or self.nodes[-1] != 1.0 or not np.all(np.diff(self.nodes) > 0.0):
            raise ValueError(f"nodes must rise from 0 to 1; got {self.nodes}")


@dataclass(frozen=True, kw_only=True)
class JumpTable(Tabulated):
    """A pulse moves the state by the tabulated step, ``up`` or ``down``, clipped to 0..1.

    ``scale_spread`` is the standard deviation, from cell to cell, of a factor around 1 on all steps
    of a cell. Pulse noise belongs to the device; :func:`toolkit.fitting.fit.fit_device` sets it to
    follow the ``spread`` of the tables.

    There is no closed form for many pulses: trains are applied pulse by pulse.
    """

    up: Jumps
    down: Jumps
    scale_spread: float = spread("Step spread", "all steps of a cell", 1.5)

    def __post_init__(self) -> None:
        check_instance("up", self.up, Jumps, "Jumps")
        check_instance("down", self.down, Jumps, "Jumps")
        check_numbers(self)

    def cells(self, device: Row, draw: Draw | None = None) -> CellParameters:  # noqa: ARG002
        """Parameters of cells that are pulsed one pulse at a time."""
        scale: Parameter = 1.0
        if draw is not None and self.scale_spread > 0.0:
            scale = (1.0 + self.scale_spread * draw(0)).abs()
        nodes = both_ways((self.up.nodes, self.up.mean), (self.down.nodes, self.down.mean))
        return CellParameters(self, (scale, 0.0, 1.0), (-scale, 0.0, 1.0), nodes=nodes)
