"""Snapshots: what a run looks like at one moment, as immutable copies that any thread may read.

When to take one is ``live.py``'s business; how it is drawn is ``dashboards/``'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import cycle
from operator import add
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar import Crossbar
from toolkit.crossbar.cost import Cost
from toolkit.lowrank import LowRank
from toolkit.training.experiment.experiment import Experiment
from toolkit.training.experiment.maps import MAPS, Map, as_pixels, map_of
from toolkit.training.experiment.recorder import Spectrum, StepRecord, spectrum

HISTORY_POINTS = 800
LOOKS_EVERY = 3  # snapshots, until the same thing is looked at again while training goes on
WATERFALL_COLUMNS = 200
WATERFALL_COMPONENTS = 64
WATERFALL_LIMITS = (-6.0, 1.0)  # log10 of singular values
BINS = 60

Latest = Mapping[str, tuple[LowRank, Tensor, Tensor]]


@dataclass(frozen=True)
class Focus:
    """What is looked at: a layer (None: the first) and, of it, :data:`VIEWS` by name."""

    layer: str | None = None
    views: frozenset[str] = frozenset()


VIEWS = (*MAPS, "waterfall", "histogram", "cost")


@dataclass(frozen=True)
class LayerView:
    """One layer as last looked at: its spectrum (None before the first step), and its past.

    ``energy`` (points, 4) holds step, captured and optimal energy and the largest principal angle
    (degrees) of the snapshots so far.
    """

    spectrum: Spectrum | None
    energy: np.ndarray


@dataclass(frozen=True)
class Spending:
    """What writing has cost, against full-gradient training of the same samples, one by one.

    ``outer_products`` (written, of the full gradient) and ``gradient_words`` (held, m x n) are
    exact. ``expected_pulses`` of the last step's update and of its samples written one by one are
    computed, ``learning_rate / (2 w_max) (levels_up + levels_down) sum |left| sum |right|``
    summed over outer products: what stochastic rounding gives on average. It is None where that
    formula does not hold (coincidences, sums, other pairs). ``cost`` is what the arrays' cells
    have spent since they were last programmed.
    """

    outer_products: tuple[int, int]
    gradient_words: tuple[int, int]
    expected_pulses: tuple[float, float] | None
    cost: Cost | None


@dataclass(frozen=True)
class Histogram:
    """Share of the cells (percent) in equal bins between the ends of the conductance range."""

    centre: np.ndarray
    plus: np.ndarray
    minus: np.ndarray


@dataclass(frozen=True)
class Snapshot:
    """A whole run now; the past is in at most ``HISTORY_POINTS`` points.

    ``loss_steps`` and ``losses`` are means over equal blocks of steps; ``evaluations`` (points, 3)
    are step, test loss and test accuracy; ``gradient_words`` as in ``Experiment``. ``waiting`` is
    the run's place in the line for a turn, 0 if it waits for none. ``first_knobs`` and ``changes``
    (step, knobs: every accepted call) are what repeats the run. ``maps``, ``histogram`` and
    ``spending`` hold what the focus asked for. While training goes on as it was, these and the
    spectra may be up to two snapshots old.
    """

    number: int
    running: bool
    waiting: int
    diverged: bool
    step: int
    epoch: float
    samples: int
    loss_steps: np.ndarray
    losses: np.ndarray
    evaluations: np.ndarray
    events: list[tuple[int, str, Any, Any]]
    first_knobs: Mapping[str, Any]
    changes: tuple[tuple[int, Mapping[str, Any]], ...]
    knobs: Mapping[str, Any]
    nonidealities: Mapping[str, float]
    pulses: int
    gradient_words: tuple[int, int]
    layer_ranks: Mapping[str, int]
    layers: Mapping[str, LayerView]
    steps_per_second: float
    focus: Focus
    maps: Mapping[str, Map]
    histogram: Histogram | None
    spending: Spending | None


class _Rows:
    """Rows of numbers; every second one is dropped when there are more than twice ``most``."""

    def __init__(self, columns: int, most: int) -> None:
        self._kept, self._count = np.empty((2 * most + 1, columns)), 0

    def add(self, row: np.ndarray) -> None:
        self._kept[self._count] = row
        self._count += 1
        if self._count == len(self._kept):
            self._count //= 2
            self._kept[: self._count] = self._kept[1::2]

    @property
    def held(self) -> np.ndarray:
        """All of them, not a copy."""
        return self._kept[: self._count]


class _Past:
    """What one layer's single moments were: step, energies and angle; step and singular values."""

    def __init__(self, width: int) -> None:
        self.spectrum: Spectrum | None = None
        self.energy = _Rows(4, HISTORY_POINTS)
        self.values = _Rows(1 + min(width, WATERFALL_COMPONENTS), WATERFALL_COLUMNS)

    def keep(self, step: int, found: Spectrum) -> None:
        self.spectrum, before = found, self.energy.held
        if len(before) and before[-1, 0] >= step:
            return
        energies = found.captured_energy, found.optimal_energy, found.largest_angle
        self.energy.add(np.array([step, *energies]))
        self.values.add(np.array([step, *found.singular_value[:WATERFALL_COMPONENTS]]))


class Camera:
    """Takes snapshots of one experiment and remembers what a single moment does not hold."""

    def __init__(self, run: Experiment) -> None:
        self._run = run
        self._first_knobs = run.knob_values()
        self._first = {name: array.weights.clone() for name, array in run.arrays.items()}
        self._past = {name: _Past(min(a.weights.shape)) for name, a in run.arrays.items()}
        self._in_turn = cycle(self._past)
        self._outer_products = np.zeros(2, dtype=np.int64)
        self.changes: list[tuple[int, dict[str, Any]]] = []
        self._seen: Snapshot | None = None

    def count(self, record: StepRecord) -> None:
        """Take note of one training step."""
        self._outer_products += self._run.outer_products(record.batch_size)

    def take(
        self,
        *,
        number: int,
        running: bool,
        steps_per_second: float,
        focus: Focus | None = None,
        waiting: int = 0,
        diverged: bool = False,
    ) -> Snapshot:
        """Copy what there is to see; to be called from the thread that trains.

        While training goes on as it was, snapshots share the work: of ``LOOKS_EVERY`` in a row one
        looks at the spectrum of the layer in focus, one at that of another layer, one at the rest.
        """
        run = self._run
        history, latest = run.record, run.latest()
        steps, losses = block_means(history.column("step"), history.column("loss"), HISTORY_POINTS)
        focus, changes = self._checked(focus), tuple(self.changes)
        seen, turn = self._seen, number % LOOKS_EVERY
        if seen and running and seen.running and (seen.focus, seen.changes) == (focus, changes):
            look = str(focus.layer) if turn == 0 else next(self._in_turn) if turn == 1 else ""
        else:
            look, seen = str(focus.layer), None
        unseen = {name for name, past in self._past.items() if past.spectrum is None}
        for name in (unseen | {look}) & latest.keys():
            self._past[name].keep(run.step_count, spectrum(*latest[name]))
        kept = seen if turn != 2 else None
        self._seen = Snapshot(
            number=number,
            running=running,
            waiting=waiting,
            diverged=diverged,
            step=run.step_count,
            epoch=run.epoch,
            samples=run.samples_seen,
            loss_steps=steps,
            losses=losses,
            evaluations=thinned(history.evaluations, HISTORY_POINTS),
            events=history.events,
            first_knobs=self._first_knobs,
            changes=changes,
            knobs=run.knob_values(),
            nonidealities=run.nonidealities(),
            pulses=run.pulses,
            gradient_words=run.gradient_words(),
            layer_ranks={name: run.layer_rank(name) for name in run.arrays},
            layers={name: self._view(past) for name, past in self._past.items()},
            steps_per_second=steps_per_second,
            focus=focus,
            maps=kept.maps if kept else self._maps(focus),
            histogram=kept.histogram if kept else self._histogram(focus),
            spending=kept.spending if kept else self._spending(focus, latest),
        )
        return self._seen

    def _checked(self, focus: Focus | None) -> Focus:
        """The focus, on the first layer where the run has no such layer."""
        focus = focus or Focus()
        known = focus.layer in self._past
        return Focus(focus.layer if known else next(iter(self._past)), focus.views)

    def _view(self, past: _Past) -> LayerView:
        return LayerView(past.spectrum, thinned(past.energy.held, HISTORY_POINTS).copy())

    def _maps(self, focus: Focus) -> dict[str, Map]:
        name = focus.layer
        assert name is not None
        array, w_max = self._run.arrays[name], self._run.w_max
        found = {
            view: map_of(view, array, first=self._first[name], w_max=w_max)
            for view in MAPS
            if view in focus.views
        }
        if "waterfall" in focus.views:
            found["waterfall"] = waterfall(self._past[name].values.held)
        return {view: shown for view, shown in found.items() if shown is not None}

    def _histogram(self, focus: Focus) -> Histogram | None:
        array = self._run.arrays[focus.layer or ""]
        if "histogram" not in focus.views or not isinstance(array, Crossbar):
            return None
        low, high = array.device.g_min, array.device.g_max
        edges = np.linspace(low, high, BINS + 1)
        counts = [
            torch.histc(cells.float(), BINS, low, high).numpy() for cells in array.conductance.cpu()
        ]
        plus, minus = (100.0 * count / max(1.0, count.sum()) for count in counts)
        return Histogram((edges[1:] + edges[:-1]) / 2, plus, minus)

    def _spending(self, focus: Focus, latest: Latest) -> Spending | None:
        run = self._run
        if "cost" not in focus.views:
            return None
        written, full = self._outer_products.tolist()
        arrays = [array for array in run.arrays.values() if isinstance(array, Crossbar)]
        return Spending(
            outer_products=(written, full),
            gradient_words=run.gradient_words(),
            expected_pulses=expected_pulses(run, latest),
            cost=reduce(add, (array.cost() for array in arrays)) if arrays else None,
        )


def expected_pulses(run: Experiment, latest: Latest) -> tuple[float, float] | None:
    """Pulses that the last step's update asks for, and its samples one by one would: on average."""
    device = run.device_with_overrides()
    plain = (run.coding, run.pair, run.scheme) == (
        "whole pulses",
        "differential",
        "rank-sequential",
    )
    if device is None or not plain or not latest:
        return None
    each = run.learning_rate / (2 * run.w_max) * (device.levels_up + device.levels_down)
    asked = sum(
        float((u.left.abs().sum(0) * u.sigma.abs()) @ u.right.abs().sum(0))
        for u, _, _ in latest.values()
    )
    full = sum(float(e.abs().sum(1) @ a.abs().sum(1)) for _, e, a in latest.values())
    return each * asked, each * full


def waterfall(values: np.ndarray) -> Map | None:
    """log10 of the singular values: a row a component, columns evenly spaced in steps.

    ``values`` (points, 1 + components) are step and singular values. Between two records the
    earlier one stands. None before the first step.
    """
    if not len(values):
        return None
    steps = values[:, 0]
    first, last = int(steps[0]), int(steps[-1])
    columns = min(WATERFALL_COLUMNS, last - first + 1)
    at = np.searchsorted(steps, np.linspace(first, last, columns), side="right") - 1
    stacked = values[at, 1:].T
    logs = np.full(stacked.shape, np.nan)
    np.log10(stacked, out=logs, where=stacked > 1e-7 * stacked.max(0, initial=0.0))
    pixels = as_pixels(torch.from_numpy(logs), WATERFALL_LIMITS)
    shape = (len(stacked), last - first + 1)
    return Map(pixels, WATERFALL_LIMITS, "1", shape, begin=first)


def block_means(
    steps: np.ndarray, values: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """(last step, mean) of each of at most ``points`` equal blocks of the steps kept."""
    block = max(1, -(-len(values) // points))
    starts = np.arange(0, len(values), block)
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    ends = np.minimum(starts + block, len(values))
    return steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts)


def thinned(rows: np.ndarray, points: int) -> np.ndarray:
    """Every so-manieth row, the last one included, at most ``points`` of them."""
    stride = max(1, -(-len(rows) // points))
    return rows[::-1][::stride][::-1]
