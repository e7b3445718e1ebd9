"""Snapshots: immutable copies of a run's present state, which any thread can read.

A view provides a function that takes its data from the run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.crossbar import Array
from toolkit.lowrank import LowRank
from toolkit.training.experiment.experiment import Experiment
from toolkit.training.experiment.recorder import Spectrum, StepRecord, spectrum
from toolkit.training.experiment.series import Series
from toolkit.training.layers.guards import crossbar_layers

PAST_POINTS = 400  # at least, once there are so many
LOOKS_EVERY = 3  # snapshots between two looks at the same thing during training
SPECTRA = 100  # of a layer's past, at least, once there are so many
COMPONENTS = 64  # of a spectrum of the past, at most


@dataclass(frozen=True)
class Look:
    """The source of a view's data, in the training thread.

    ``first`` holds the layer's weights at the start, ``past_values`` (points, 1 + components) the
    steps and singular values of its past. ``outer_products`` counts those written so far, and those
    of the same samples one by one. ``before`` holds weights and pulse counts (None for plain
    weights) before the last step, if the focus asks for them. ``scores`` gives what the network
    makes of inputs without a read of the run's own cells.
    """

    run: Experiment
    layer: str
    first: Tensor
    past_values: np.ndarray
    outer_products: tuple[int, int]
    latest: Mapping[str, tuple[LowRank, Tensor, Tensor]]
    scores: Callable[[Tensor], Tensor]
    before: tuple[Tensor, Tensor | None] | None = None

    @property
    def array(self) -> Array:
        """The layer's array."""
        return self.run.arrays[self.layer]


@dataclass(frozen=True)
class Focus:
    """A layer (None: the first) and, by name, the functions that take the data of views.

    ``compares`` says that one of them needs the layer as it was before the last step.
    """

    layer: str | None = None
    views: Mapping[str, Callable[[Look], Any]] = field(default_factory=dict)
    compares: bool = False


@dataclass(frozen=True)
class LayerView:
    """One layer when last looked at: its spectrum (None before the first step) and its past.

    ``energy`` (points, 4) holds step, captured and optimal energy and the largest principal angle
    (degrees) of the snapshots so far.
    """

    spectrum: Spectrum | None
    energy: np.ndarray


@dataclass(frozen=True)
class Snapshot:
    """The present state of a run; its past has at most twice ``PAST_POINTS`` points.

    ``begun`` counts the runs that resets have ended. ``loss_steps`` and ``losses`` are means over
    equal blocks of steps; ``evaluations`` (points, 3) holds step, test loss and test accuracy;
    ``gradient_words`` is as in ``Experiment``. ``waiting`` is the run's place in the queue, or 0.
    ``first_knobs`` and ``changes`` (step and knobs of every accepted call) are enough to repeat the
    run. ``answered`` counts the requests that were handled.
    ``replicas`` (seeds, 3) holds the last loss (a mean over a block of steps), the last test
    accuracy (NaN before the first) and the pulses of this run and of those that train with it.
    ``views`` holds what the focus asked for. During undisturbed training, views and spectra can be
    two snapshots old.
    """

    number: int
    begun: int
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
    answered: int
    focus: Focus
    views: Mapping[str, Any]
    replicas: np.ndarray


class _Past:
    """The past of one layer: step, energies and angle; step and singular values."""

    def __init__(self, width: int) -> None:
        self.spectrum: Spectrum | None = None
        self.step = 0
        self.energy = Series(4, PAST_POINTS)
        self.values = Series(1 + min(width, COMPONENTS), SPECTRA)

    def keep(self, step: int, found: Spectrum) -> None:
        self.spectrum = found
        if step <= self.step:
            return
        self.step = step
        self.energy.add([step, found.captured_energy, found.optimal_energy, found.largest_angle])
        self.values.add([step, *found.singular_value[:COMPONENTS]])


class _Twin:
    """A copy of a run's network to look at.

    Its reads draw no noise that the next step would have drawn, and count no energy.
    """

    def __init__(self, run: Experiment) -> None:
        self._run, self._network = run, copy.deepcopy(run.network).eval()
        self._layers = crossbar_layers(self._network)

    @torch.no_grad()
    def scores(self, inputs: Tensor) -> Tensor:
        """What the run's network makes of ``inputs`` at present."""
        for mine, theirs in zip(_numbers(self._network), _numbers(self._run.network), strict=True):
            mine.copy_(theirs)
        for name, layer in self._layers.items():
            layer.arrays = copy.deepcopy(self._run.layers[name].arrays)
        found: Tensor = self._network(inputs)
        return found


def _numbers(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())


class SnapshotTaker:
    """Takes snapshots of one experiment and keeps the history that they show."""

    def __init__(self, run: Experiment, *, begun: int = 0) -> None:
        self._run, self._begun = run, begun
        self._first_knobs = run.knob_values()
        self._first = {name: array.weights.clone() for name, array in run.arrays.items()}
        self._past = {name: _Past(min(a.weights.shape)) for name, a in run.arrays.items()}
        self._in_turn = cycle(self._past)
        self._outer_products = np.zeros(2, dtype=np.int64)
        self.changes: list[tuple[int, dict[str, Any]]] = []
        self._seen: Snapshot | None = None
        self._before: tuple[Array, Tensor, Tensor | None] | None = None

    def note_before(self, focus: Focus) -> None:
        """Keep the layer in focus as it is before a step, if the focus asks for it."""
        self._before = None
        if focus.compares:
            array = self._run.arrays[str(self._checked(focus).layer)]
            self._before = array, array.weights.clone(), array.pulse_count

    def count(self, record: StepRecord) -> None:
        """Count one training step."""
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
        answered: int = 0,
        others: Sequence[Experiment] = (),
    ) -> Snapshot:
        """Copy the present state; call this from the training thread.

        During undisturbed training, consecutive snapshots share the work: of ``LOOKS_EVERY``, one
        computes the spectrum of the layer in focus, one that of another layer, one the views.
        """
        run = self._run
        record, latest = run.record, run.latest()
        steps, losses = block_means(record.column("step"), record.column("loss"), 2 * PAST_POINTS)
        focus, changes = self._checked(focus), tuple(self.changes)
        seen, turn = self._seen, number % LOOKS_EVERY
        if seen and running and seen.running and (seen.focus, seen.changes) == (focus, changes):
            look = str(focus.layer) if turn == 0 else next(self._in_turn) if turn == 1 else ""
        else:
            look, seen = str(focus.layer), None
        unseen = {name for name, past in self._past.items() if past.spectrum is None}
        for name in (unseen | {look}) & latest.keys():
            self._past[name].keep(run.step_count, spectrum(*latest[name]))
        self._seen = Snapshot(
            number=number,
            begun=self._begun,
            running=running,
            waiting=waiting,
            diverged=diverged,
            step=run.step_count,
            epoch=run.epoch,
            samples=run.samples_seen,
            loss_steps=steps,
            losses=losses,
            evaluations=thinned(record.evaluations, 2 * PAST_POINTS),
            events=record.events,
            first_knobs=self._first_knobs,
            changes=changes,
            knobs=run.knob_values(),
            nonidealities=run.nonidealities(),
            pulses=run.pulses,
            gradient_words=run.gradient_words(),
            layer_ranks={name: run.layer_rank(name) for name in run.arrays},
            layers={
                n: LayerView(past.spectrum, past.energy.rows) for n, past in self._past.items()
            },
            steps_per_second=steps_per_second,
            answered=answered,
            focus=focus,
            views=seen.views if seen and turn != 2 else self._views(focus, latest),
            replicas=np.array([_progress(one) for one in (run, *others)]),
        )
        return self._seen

    def _checked(self, focus: Focus | None) -> Focus:
        """The focus, moved to the first layer if the run has no such layer."""
        focus = focus or Focus()
        known = focus.layer in self._past
        return replace(focus, layer=focus.layer if known else next(iter(self._past)))

    @cached_property
    def _twin(self) -> _Twin:
        return _Twin(self._run)

    def _views(self, focus: Focus, latest: Any) -> dict[str, Any]:
        name = str(focus.layer)
        written, full = self._outer_products.tolist()
        past = self._past[name].values.rows
        same = self._before and self._before[0] is self._run.arrays[name]
        before = self._before[1:] if self._before and same else None
        look = Look(
            self._run,
            name,
            self._first[name],
            past,
            (written, full),
            latest,
            scores=lambda inputs: self._twin.scores(inputs),
            before=before,
        )
        return {view: take(look) for view, take in focus.views.items()}


def _progress(run: Experiment) -> tuple[float, float, float]:
    losses, evaluations = run.record.column("loss"), run.record.evaluations
    block = max(1, -(-len(losses) // (2 * PAST_POINTS)))
    loss = float(losses[-block:].mean()) if len(losses) else math.nan
    return loss, float(evaluations[-1, 2]) if len(evaluations) else math.nan, float(run.pulses)


def block_means(
    steps: np.ndarray, values: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """(last step, mean) of each of at most ``points`` equal blocks of the recorded steps."""
    block = max(1, -(-len(values) // points))
    starts = np.arange(0, len(values), block)
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    ends = np.minimum(starts + block, len(values))
    return steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts)


def thinned(rows: np.ndarray, points: int) -> np.ndarray:
    """Every n-th row, counted from the last, so that at most ``points`` remain."""
    stride = max(1, -(-len(rows) // points))
    return rows[::-1][::stride][::-1]
