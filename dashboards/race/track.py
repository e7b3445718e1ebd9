"""Progress of runs over samples, pulses and seconds, and how they compare.

Fed from snapshots; no widgets here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from toolkit.training.experiment.series import Series
from toolkit.training.live.snapshot import Snapshot

MOST_POINTS = 400
BUDGETS = ("samples", "pulses", "seconds")


class Point(NamedTuple):
    """A run at one moment: what it has used, and how well it does; means over its seeds.

    ``seconds`` are those it was training; ``accuracy`` (fraction, NaN before the first) is of the
    last evaluation on the test set. ``spread`` is its standard deviation between the seeds; low
    and high are the least and the most of them.
    """

    step: int
    samples: int
    pulses: float
    seconds: float
    loss: float
    accuracy: float
    spread: float = 0.0
    loss_low: float = math.nan
    loss_high: float = math.nan
    accuracy_low: float = math.nan
    accuracy_high: float = math.nan

    @classmethod
    def of(cls, snapshot: Snapshot, seconds: float) -> Point:
        """The point of a snapshot after so many seconds of training."""
        losses, accuracies, pulses = snapshot.replicas.T
        return cls(
            step=snapshot.step,
            samples=snapshot.samples,
            pulses=float(pulses.mean()),
            seconds=seconds / len(losses),
            loss=float(losses.mean()),
            accuracy=float(accuracies.mean()),
            spread=float(accuracies.std(ddof=1)) if len(losses) > 1 else 0.0,
            loss_low=float(losses.min()),
            loss_high=float(losses.max()),
            accuracy_low=float(accuracies.min()),
            accuracy_high=float(accuracies.max()),
        )


class Track:
    """The points of one run in order; a long run's are thinned evenly."""

    def __init__(self) -> None:
        self._points = Series(len(Point._fields), MOST_POINTS)
        self._last: Point | None = None

    def add(self, point: Point) -> None:
        """Keep ``point`` if the run has moved on."""
        if self._last is None or point.step > self._last.step:
            self._points.add(point)
            self._last = point

    def column(self, name: str) -> np.ndarray:
        """One field of all points, float64."""
        return self._points.column(Point._fields.index(name))

    def measured(self) -> np.ndarray:
        """Whether each point has a test accuracy that the one before it did not have."""
        accuracy = self.column("accuracy")
        changed = np.diff(accuracy, prepend=math.nan) != 0
        return np.isfinite(accuracy) & changed

    def at(self, budget: str, amount: float, name: str = "accuracy") -> float:
        """A field at the last point within ``amount`` of a budget; NaN before the first."""
        reached = np.searchsorted(self.column(budget), amount, side="right")
        return float(self.column(name)[reached - 1]) if reached else math.nan

    def band(self, name: str, points: Any = slice(None)) -> np.ndarray:
        """The outline of a field's band at ``points``: along its highs, back along its lows."""
        high, low = (self.column(f"{name}_{end}")[points] for end in ("high", "low"))
        return np.concatenate([high, low[::-1]])

    def used(self, budget: str) -> float:
        """How much of a budget the run has used so far."""
        return float(getattr(self._last, budget)) if self._last else 0.0


def standings(tracks: Sequence[Track], budget: str) -> tuple[float, list[float]]:
    """The amount of a budget that every run has used, and the accuracy of each at that amount.

    A run that has used nothing of it (plain weights write no pulses) gets NaN and is left out of
    the common amount.

    Raises
    ------
    ValueError
        If there is no such budget.
    """
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}; got {budget!r}")
    used = [track.used(budget) for track in tracks]
    common = min((amount for amount in used if amount > 0), default=0.0)
    reached = [
        track.at(budget, common) if amount > 0 else float("nan")
        for track, amount in zip(tracks, used, strict=True)
    ]
    return common, reached
