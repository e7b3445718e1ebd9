"""Single steps of measured pulse trains, the conductance range and the hard bounds of each step.

A fit leaves out the steps that a bound may have cut short. Reading of trains is in
:mod:`toolkit.fitting.trains`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from toolkit.checks import check_reals
from toolkit.fitting.trains import Booleans, Floats, PulseTrains, Steps

# Standard deviations: steps predicted closer to a hard bound are left out, for they may be clipped.
MARGIN = 3.0
# The first time, before the noise is known, those that start within this share of the range.
FIRST_MARGIN = 0.05
# Residuals below this share of the range are rounding errors.
EXACT = 1e-9

MIRRORED = "the other is its mirror image"  # in the source of a one-sided device


@dataclass(frozen=True)
class BoundedSteps:
    """Steps, the range, and between which hard bounds each step took place (infinite: none)."""

    steps: Steps
    low: float
    high: float
    floors: Floats
    ceilings: Floats
    cells: int
    trains: int

    @classmethod
    def of(
        cls, trains: PulseTrains, given: tuple[float, float] | None, every: Floats
    ) -> BoundedSteps:
        """All steps; the range is ``given`` or that of ``every`` reading."""
        if given is not None:
            check_reals("conductance_range", given, count=2)
        steps, readings = trains.steps(), trains.conductance
        low, high = given or (float(every.min()), float(every.max()))
        if given is None and low == high:
            raise ValueError(f"readings must differ, as a range needs two ends; all are {low:g} S")
        if not 0.0 < low < high < math.inf:
            raise ValueError(f"conductance_range must be 0 < g_min < g_max; got {low} to {high}")
        if not steps.polarity.any():
            raise ValueError("there are no two readings with a pulse between them")
        for sign, word in ((1, "up"), (-1, "down")):
            if not (steps.polarity == sign).any():
                continue  # a one-sided device
            if (steps.after - steps.before)[steps.polarity == sign].mean() * sign <= 0.0:
                said = "is the polarity the other way round?"
                raise ValueError(f"{word} pulses do not move these cells {word}; {said}")
        cell, names = pd.factorize(trains.cell, sort=True)
        ends = (low, high) if given else (-math.inf, math.inf)
        bounds = [_hard_bounds(readings[cell == number], ends) for number in range(len(names))]
        floors, ceilings = np.array(bounds)[steps.cell].T
        return cls(steps, low, high, floors, ceilings, len(names), int(trains.train[-1]) + 1)

    @property
    def only(self) -> str:
        """The polarity that was measured, "up" or "down", where the other was not; else empty."""
        sign = self.steps.polarity
        return "" if (sign > 0).any() and (sign < 0).any() else "up" if (sign > 0).any() else "down"

    @property
    def origin(self) -> str:
        """What a device was fitted to, for its source."""
        text = f"pulse trains of {self.cells} cells"
        word = {"up": "potentiation", "down": "depression"}.get(self.only)
        return f"{text}; {word} only, {MIRRORED}" if word else text

    @property
    def span(self) -> float:
        """Width of the conductance range, siemens."""
        return self.high - self.low

    def inside(self, conductance: Floats, margin: float) -> Booleans:
        """Where ``conductance`` keeps ``margin`` from every hard bound."""
        margin = max(margin, 1e-9 * self.span)
        return (conductance > self.floors + margin) & (conductance < self.ceilings - margin)


def _hard_bounds(readings: Floats, ends: tuple[float, float]) -> tuple[float, float]:
    """Extreme readings of a cell where they recur to the last digit, else ``ends``."""
    low, high = readings.min(), readings.max()
    return (
        float(low) if (readings == low).sum() > 1 else ends[0],
        float(high) if (readings == high).sum() > 1 else ends[1],
    )
