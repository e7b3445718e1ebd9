"""A live run: an experiment in a worker thread that takes knob changes and gives out snapshots.

The worker owns the experiment. Requests go in through a queue and are taken up between batches;
snapshots, spectra included, come out at a bounded rate as immutable values, so that no reader ever
waits for training and training waits for no reader. Knows nothing of pages (``dashboards/``).
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from toolkit.training.experiment import DivergenceError, Experiment
from toolkit.training.recorder import Spectrum

SNAPSHOTS_PER_SECOND = 15
HISTORY_POINTS = 800


@dataclass(frozen=True)
class LayerView:
    """One layer now: its spectrum (None before the first step), array contents as float32."""

    spectrum: Spectrum | None
    weight: np.ndarray
    conductance: np.ndarray | None
    conductance_range: tuple[float, float] | None


@dataclass(frozen=True)
class Snapshot:
    """What a page shows: copies, never touched again by the worker.

    ``loss_steps`` and ``losses`` are block means of the whole past in at most ``HISTORY_POINTS``
    points; ``evaluations`` is (count, 3): step, test loss, test accuracy.
    """

    number: int
    running: bool
    step: int
    epoch: float
    loss_steps: np.ndarray
    losses: np.ndarray
    evaluations: np.ndarray
    events: list[tuple[int, str, Any, Any]]
    knobs: Mapping[str, Any]
    nonidealities: Mapping[str, float]
    pulses: int
    gradient_words: tuple[int, int]
    layer_ranks: Mapping[str, int]
    layers: Mapping[str, LayerView]
    steps_per_second: float


class LiveRun:
    """Train in the background; start, pause, step, reset and turn knobs at any time.

    ``messages`` receives one line of text for every request that was refused and for a run that
    diverged. :meth:`close` stops the thread; interpreters that end close every live run first.
    """

    def __init__(self, **knobs: Any) -> None:
        self._experiment = Experiment(**knobs)
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running, self._closing = False, threading.Event()
        self._pace = _Pace()
        self._snapshots = itertools.count()
        self._snapshot = self._take_snapshot()
        self._thread = threading.Thread(target=self._work, name="live-run", daemon=True)
        self._thread.start()
        weakref.finalize(self, _shut_down, self._closing, self._requests, self._thread)

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        return self._snapshot

    def start(self) -> None:
        """Train until paused."""
        self._requests.put(lambda: self._set_running(True))

    def pause(self) -> None:
        """Stop after the batch that is being trained."""
        self._requests.put(lambda: self._set_running(False))

    def step(self) -> None:
        """Pause, then train on one batch."""
        self._requests.put(self._single_step)

    def change(self, **knobs: Any) -> None:
        """Turn live knobs, together, at the next batch."""
        self._requests.put(lambda: self._experiment.change(**knobs))

    def reset(self, **knobs: Any) -> None:
        """Begin anew, paused, with these knobs (and the present values of the others)."""
        self._requests.put(lambda: self._begin(self._experiment.knob_values() | knobs))

    def results(self, timeout: float = 30.0) -> xr.DataTree:
        """The run so far as a tree, taken between two batches.

        Raises
        ------
        TimeoutError
            If the worker did not answer within ``timeout`` seconds.
        """
        answer: queue.SimpleQueue[xr.DataTree] = queue.SimpleQueue()
        self._requests.put(lambda: answer.put(self._experiment.results()))
        try:
            return answer.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"the run did not answer within {timeout:g} s.") from None

    def close(self) -> None:
        """Stop the worker thread and wait for it, at most 5 s."""
        _shut_down(self._closing, self._requests, self._thread)

    @property
    def alive(self) -> bool:
        """Whether the worker thread still runs."""
        return self._thread.is_alive()

    # --- in the worker thread ----------------------------------------------------------------

    def _work(self) -> None:
        while not self._closing.is_set():
            self._serve_requests()
            if self._running:
                self._attempt(self._train)
            if not self._running or self._pace.due():
                self._snapshot = self._take_snapshot()

    def _serve_requests(self) -> None:
        """Serve every request that waits; while paused, sleep until there is one."""
        try:
            request = self._requests.get(block=not self._running)
            while True:
                self._attempt(request)
                request = self._requests.get_nowait()
        except queue.Empty:
            return

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except DivergenceError as error:
            self._set_running(False)
            self.messages.put(str(error))
        except Exception as error:  # the worker outlives whatever was refused
            self.messages.put(str(error))

    def _train(self) -> None:
        self._experiment.step()
        self._pace.count()

    def _single_step(self) -> None:
        self._set_running(False)
        self._experiment.step()

    def _begin(self, knobs: dict[str, Any]) -> None:
        self._experiment = Experiment(**knobs)
        self._set_running(False)

    def _set_running(self, running: bool) -> None:
        self._running = running
        self._pace = _Pace()

    def _take_snapshot(self) -> Snapshot:
        run = self._experiment
        steps, losses = _block_means(run.history.column("loss"), HISTORY_POINTS)
        spectra = run.spectra()
        device = run.device_with_overrides()
        return Snapshot(
            number=next(self._snapshots),
            running=self._running,
            step=run.step_count,
            epoch=run.epoch,
            loss_steps=steps,
            losses=losses,
            evaluations=run.history.evaluations,
            events=run.history.events,
            knobs=run.knob_values(),
            nonidealities=run.nonidealities(),
            pulses=run.pulses,
            gradient_words=run.gradient_words(),
            layer_ranks={name: run.layer_rank(name) for name in run.layers},
            layers={
                name: LayerView(
                    spectra.get(name),
                    _copy(layer.array.weights),
                    _copy_or_none(layer.array.conductance),
                    None if device is None else (device.g_min, device.g_max),
                )
                for name, layer in run.layers.items()
            },
            steps_per_second=self._pace.rate,
        )


class _Pace:
    """Counts steps per second and says when the next snapshot is due."""

    def __init__(self) -> None:
        self._begin = self._last = time.monotonic()
        self._steps, self.rate = 0, 0.0

    def count(self) -> None:
        self._steps += 1

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < 1 / SNAPSHOTS_PER_SECOND:
            return False
        if now - self._begin > 1.0:
            self.rate = self._steps / (now - self._begin)
            self._begin, self._steps = now, 0
        self._last = now
        return True


def _block_means(values: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """(last step, mean) of each of at most ``points`` equal blocks of steps."""
    block = max(1, -(-len(values) // points))
    starts = np.arange(0, len(values), block)
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    ends = np.minimum(starts + block, len(values))
    return ends.astype(float), np.add.reduceat(values, starts) / (ends - starts)


def _copy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy().copy()


def _copy_or_none(tensor: torch.Tensor | None) -> np.ndarray | None:
    return None if tensor is None else _copy(tensor)


def _shut_down(
    closing: threading.Event,
    requests: queue.SimpleQueue[Callable[[], None]],
    thread: threading.Thread,
    timeout: float = 5.0,
) -> None:
    """Stop the worker and wait: a torch thread alive while the interpreter ends aborts it."""
    closing.set()
    requests.put(lambda: None)
    thread.join(timeout)
