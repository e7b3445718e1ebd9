"""A live run: an experiment in a worker thread that takes knob changes and publishes snapshots.

The worker owns the experiment. Requests are queued and handled between batches. Immutable
snapshots, including spectra, are published at a bounded rate. Readers never wait for training, and
training never waits for readers. This module does not depend on ``dashboards/``.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import xarray as xr

from toolkit.checks import check_count
from toolkit.crossbar.kernels import between_chunks
from toolkit.training.experiment.experiment import Experiment
from toolkit.training.experiment.run import DivergenceError
from toolkit.training.live.run_limit import SHIFT_S, RunLimit
from toolkit.training.live.snapshot import LOOKS_EVERY, Focus, Look, Snapshot, SnapshotTaker

SNAPSHOTS_PER_SECOND = 18
SNAPSHOTS_TOGETHER = 60  # per second for all runs that share a limit, as their pages share a thread
SNAPSHOT_SHARE = 0.1  # maximum share of the worker's time; large layers get fewer snapshots
FIRST_S = 1.0  # maximum time of its own thread for a run's first steps
SLOWEST_S = 0.5  # longest interval between snapshots
WAIT_S = 0.1  # interval between checks for a free slot


class LiveControls(ABC):
    """What a page may ask of a live run, and what it sees of it; requests are handled in order.

    ``asked`` counts the requests; a snapshot whose ``answered`` is equal to it includes them all.
    ``messages`` receives one line of text for each rejected request and each divergence;
    ``first_snapshots`` are those of the first steps.
    """

    asked: int
    messages: queue.SimpleQueue[str]
    first_snapshots: list[Snapshot]
    snapshot: Snapshot

    @abstractmethod
    def ask(self, name: str, *given: Any) -> None:
        """Queue the request ``name``, a method of :class:`LiveRun` without ``_on_``."""

    @abstractmethod
    def ask_results(self) -> Future[xr.DataTree]:
        """Like :meth:`results` but without waiting; the tree is ready after the current batch."""

    @abstractmethod
    def close(self, timeout: float = 5.0) -> None:
        """End the run and wait for it for at most ``timeout`` seconds."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the run has not ended."""

    def start(self) -> None:
        """Train until paused."""
        self.ask("start")

    def pause(self) -> None:
        """Stop after the current batch."""
        self.ask("pause")

    def step(self) -> None:
        """Pause, then train on one batch."""
        self.ask("step")

    def change(self, **knobs: Any) -> None:
        """Change live knobs together before the next batch."""
        self.ask("change", knobs)

    def look(
        self, layer: str, views: Mapping[str, Callable[[Look], Any]], *, compares: bool = False
    ) -> None:
        """Include the results of these named functions of a layer in the snapshots.

        Set ``compares`` if a function needs ``Look.before``.
        """
        self.ask("look", Focus(layer, dict(views), compares))

    def limit_speed(self, steps_per_second: float | None) -> None:
        """Limit the training speed; None means no limit.

        Raises
        ------
        ValueError
            If the limit is not positive.
        """
        if steps_per_second is not None and not steps_per_second > 0:
            raise ValueError(f"steps_per_second must be above 0; got {steps_per_second!r}")
        self.ask("limit_speed", steps_per_second)

    def reset(self, **knobs: Any) -> None:
        """Restart with these knobs and the current values of all others; the run is paused."""
        self.ask("reset", knobs)

    def results(self, timeout: float = 30.0) -> xr.DataTree:
        """Return the results so far as a tree, taken between two batches.

        Raises
        ------
        TimeoutError
            If the run does not answer within ``timeout`` seconds.
        """
        try:
            return self.ask_results().result(timeout)
        except TimeoutError:
            raise TimeoutError(f"the run did not answer within {timeout:g} s.") from None


class LiveRun(LiveControls):
    """Train in the background; start, pause, step, reset and change knobs at any time.

    Runs that share a ``limit`` take turns: if all slots are taken, a started run waits until
    another one pauses (``snapshot.waiting``). A diverged run must be reset before it trains again.
    If ``seeds`` is above 1, runs with that many consecutive seeds train together step by step;
    snapshots show the first run, and ``Snapshot.replicas`` has the progress of all.
    The run begins with ``first_steps`` steps, or fewer if they take too long.
    :meth:`close` stops the thread; at exit, the interpreter closes all live runs.
    """

    def __init__(
        self,
        *,
        limit: RunLimit | None = None,
        first_steps: int = 0,
        seeds: int = 1,
        **knobs: Any,
    ) -> None:
        self._seeds = check_count("seeds", seeds)
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.messages = queue.SimpleQueue()
        self._running, self._waiting, self._diverged = False, 0, False
        self._closing = threading.Event()
        self._limit, self._ticket = limit, object()
        self._focus, self._shortest_step = Focus(), 0.0
        self.asked = self._answered = 0
        self._snapshot_numbers = itertools.count()
        self._begun = 0
        self._begin(knobs)
        self.first_snapshots = []
        self.snapshot = self._take_snapshot()
        self._thread = threading.Thread(target=self._work, name="live-run", daemon=True)
        self._thread.start()
        weakref.finalize(self, _shut_down, self._closing, self._requests, self._thread)
        if first_steps:
            self.ask("train_first", first_steps)

    def ask(self, name: str, *given: Any) -> None:
        """Queue a request for the worker; drop it if the worker has stopped."""
        if not self._closing.is_set():
            self.asked += 1
            self._requests.put(partial(getattr(self, f"_on_{name}"), *given))

    def ask_results(self) -> Future[xr.DataTree]:
        """Like :meth:`results` but without waiting; the tree is ready after the current batch."""
        answer: Future[xr.DataTree] = Future()
        self.ask("results", answer)
        return answer

    def close(self, timeout: float = 5.0) -> None:
        """Stop the worker thread and wait for it for at most ``timeout`` seconds."""
        _shut_down(self._closing, self._requests, self._thread, timeout)

    @property
    def alive(self) -> bool:
        """Whether the worker thread is running."""
        return self._thread.is_alive()

    # --- in the worker thread ----------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                self._serve_requests()
                if self._running and self._has_its_turn():
                    self._work_a_shift()
                if not self._running or self._pace.due():
                    self._attempt(self._publish)
        finally:
            self._leave_queue()
            while not self._requests.empty():  # pending requests would keep this run alive
                self._requests.get_nowait()

    def _work_a_shift(self) -> None:
        """Train until the shift ends, a request arrives or a snapshot is due."""
        with self._shift():
            end = time.monotonic() + SHIFT_S
            self._attempt(self._train)
            while self._may_go_on() and time.monotonic() < end:
                self._attempt(self._train)

    @contextmanager
    def _shift(self) -> Iterator[None]:
        """Hold a shift if runs are limited; a long write may wait for the next one."""
        if self._limit is None:
            yield
            return
        with self._limit.shift(self._ticket) as change_shifts:

            def rest() -> None:
                if self._closing.is_set():
                    raise RuntimeError("the run was closed during a step.")
                change_shifts()

            before = between_chunks.set(rest)
            try:
                yield
            finally:
                between_chunks.reset(before)

    def _may_go_on(self) -> bool:
        idle = self._requests.empty() and not self._pace.is_due
        return idle and self._running and not self._shortest_step

    def _serve_requests(self) -> None:
        """Handle all pending requests; if there is nothing to do, sleep until one arrives."""
        try:
            request = self._next_request()
            while not self._closing.is_set():
                self._attempt(request)
                self._answered += 1
                request = self._requests.get_nowait()
        except queue.Empty:
            return

    def _next_request(self) -> Callable[[], None]:
        if not self._running:
            return self._requests.get()
        rest = WAIT_S if self._waiting else self._shortest_step - self._pace.since_step
        if rest > 0:
            return self._requests.get(timeout=min(rest, WAIT_S))
        return self._requests.get_nowait()

    def _has_its_turn(self) -> bool:
        """Whether to train now: a slot is free and the speed limit allows a step."""
        self._waiting = self._limit.place_of(self._ticket) if self._limit else 0
        return not self._waiting and self._pace.since_step >= self._shortest_step

    def _leave_queue(self) -> None:
        self._waiting = 0
        if self._limit:
            self._limit.leave(self._ticket)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # a rejected request must not end the worker
            self._say(str(error))

    def _say(self, text: str) -> None:
        self.messages.put(text)

    def _train(self) -> None:
        try:
            self._taker.note_before(self._focus)
            self._taker.count(self._experiment.step())
            for other in self._others:
                other.step()
        except Exception as error:  # the next batch would fail too
            self._diverged = isinstance(error, DivergenceError)
            self._set_running(False)
            raise
        self._pace.count()

    def _on_step(self) -> None:
        self._set_running(False)
        self._check_not_diverged()
        if self._limit is None:
            self._train()
            return
        try:
            if self._limit.place_of(self._ticket):
                raise RuntimeError(f"{self._limit.most} runs are training now: step again later.")
            with self._shift():
                self._train()
        finally:
            self._limit.leave(self._ticket)

    def _on_start(self) -> None:
        self._check_not_diverged()
        self._set_running(True)

    def _on_pause(self) -> None:
        self._set_running(False)

    def _on_limit_speed(self, steps_per_second: float | None) -> None:
        self._shortest_step = 1 / steps_per_second if steps_per_second else 0.0

    def _on_reset(self, knobs: dict[str, Any]) -> None:
        self._begin(self._experiment.knob_values() | knobs)

    def _check_not_diverged(self) -> None:
        if self._diverged:
            raise DivergenceError(
                f"the run diverged after step {self._experiment.step_count}: reset it and try a "
                f"learning_rate below {self._experiment.learning_rate:g}."
            )

    def _on_change(self, knobs: dict[str, Any]) -> None:
        for run in (self._experiment, *self._others):
            run.change(**knobs)
        self._taker.changes.append((self._experiment.step_count, dict(knobs)))
        self._pace.hurry()

    def _on_look(self, focus: Focus) -> None:
        self._focus = focus
        self._pace.hurry()

    def _begin(self, knobs: dict[str, Any]) -> None:
        self._experiment = Experiment(**knobs)
        present, first = self._experiment.knob_values(), self._experiment.seed
        self._others = [
            Experiment(**(present | {"seed": (first + i) % 2**32})) for i in range(1, self._seeds)
        ]
        self._taker = SnapshotTaker(self._experiment, begun=self._begun)
        self._begun += 1
        self._diverged = False
        self._set_running(False)

    def _on_train_first(self, steps: int) -> None:
        try:
            with self._shift():
                end = time.thread_time() + FIRST_S  # without waits for the page being made
                for step in range(steps):
                    self._train()
                    if step % LOOKS_EVERY == 0:
                        self.first_snapshots.append(self._take_snapshot())  # their history
                    if time.thread_time() > end or self._closing.is_set():
                        return
        finally:
            self._leave_queue()

    def _on_results(self, answer: Future[xr.DataTree]) -> None:
        if not answer.set_running_or_notify_cancel():  # the caller no longer waits
            return
        try:
            answer.set_result(self._experiment.results())
        except Exception as error:
            answer.set_exception(error)

    def _set_running(self, running: bool) -> None:
        self._running = running
        self._pace = _Pace()
        if not running:
            self._leave_queue()

    def _publish(self) -> None:
        began = time.thread_time()  # excludes waiting for the page's thread
        self.snapshot = self._take_snapshot()
        self._pace.took(time.thread_time() - began, self._limit.training if self._limit else 1)

    def _take_snapshot(self) -> Snapshot:
        return self._taker.take(
            number=next(self._snapshot_numbers),
            running=self._running,
            waiting=self._waiting,
            diverged=self._diverged,
            steps_per_second=self._pace.rate,
            answered=self._answered,
            focus=self._focus,
            others=self._others,
        )


class _Pace:
    """Counts steps per second and decides when the next snapshot is due."""

    def __init__(self) -> None:
        self._begin = self._last = time.monotonic()
        self._last_step, self._interval = 0.0, 1 / SNAPSHOTS_PER_SECOND
        self._steps, self.rate = 0, 0.0

    @property
    def since_step(self) -> float:
        """Seconds since the last step; a large number before the first step."""
        return time.monotonic() - self._last_step

    def count(self) -> None:
        """Count one step."""
        self._steps += 1
        self._last_step = time.monotonic()

    def took(self, seconds: float, training: int = 1) -> None:
        """Derive the interval to the next snapshot from the duration of this one."""
        fair = min(seconds / SNAPSHOT_SHARE, SLOWEST_S)
        self._interval = max(1 / SNAPSHOTS_PER_SECOND, training / SNAPSHOTS_TOGETHER, fair)

    def hurry(self) -> None:
        """Make a snapshot due now."""
        self._interval = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for a snapshot."""
        return time.monotonic() - self._last >= self._interval

    def due(self) -> bool:
        """Whether it is time for a snapshot; if so, count it as taken."""
        now = time.monotonic()
        if not self.is_due:
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
    """Stop the worker and wait; a torch thread still alive at interpreter exit would abort it."""
    closing.set()
    requests.put(lambda: None)
    if thread is not threading.current_thread():  # garbage is collected in any thread
        thread.join(timeout)
