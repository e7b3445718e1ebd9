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
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import xarray as xr

from toolkit.training.experiment import Experiment
from toolkit.training.snapshot import Camera, Snapshot

SNAPSHOTS_PER_SECOND = 15


class LiveRun:
    """Train in the background; start, pause, step, reset and turn knobs at any time.

    ``messages`` receives one line of text for every request that was refused and for a run that
    diverged. :meth:`close` stops the thread; interpreters that end close every live run first.
    """

    def __init__(self, **knobs: Any) -> None:
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running, self._closing = False, threading.Event()
        self._snapshot_numbers = itertools.count()
        self._begin(knobs)
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
        answer: Future[xr.DataTree] = Future()
        self._requests.put(lambda: self._answer(answer))
        try:
            return answer.result(timeout)
        except TimeoutError:
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
                self._attempt(self._publish)

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
        except Exception as error:  # the worker outlives whatever was refused
            self.messages.put(str(error))

    def _train(self) -> None:
        try:
            self._experiment.step()
        except Exception:  # it would only fail again at the next batch
            self._set_running(False)
            raise
        self._pace.count()

    def _single_step(self) -> None:
        self._set_running(False)
        self._experiment.step()

    def _begin(self, knobs: dict[str, Any]) -> None:
        self._experiment = Experiment(**knobs)
        self._camera = Camera(self._experiment)
        self._set_running(False)

    def _answer(self, answer: Future[xr.DataTree]) -> None:
        try:
            answer.set_result(self._experiment.results())
        except Exception as error:
            answer.set_exception(error)

    def _set_running(self, running: bool) -> None:
        self._running = running
        self._pace = _Pace()

    def _publish(self) -> None:
        self._snapshot = self._take_snapshot()

    def _take_snapshot(self) -> Snapshot:
        return self._camera.take(
            number=next(self._snapshot_numbers),
            running=self._running,
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
