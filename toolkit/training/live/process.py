"""A live run in a process of its own: neither it nor the page waits for the other's interpreter."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
import xarray as xr

from toolkit.training.live.live_run import WAIT_S, LiveControls, LiveRun
from toolkit.training.live.run_limit import RunLimit
from toolkit.training.live.snapshot import Snapshot

Send = Callable[[str, Any], None]
LINUX = sys.platform == "linux"  # elsewhere a process starts too slowly, or a fork is not safe
PROCESSORS = len(os.sched_getaffinity(0)) if LINUX else 1  # for this server


class LiveProcess(LiveControls):
    """Like :class:`LiveRun`, whose arguments it takes, in another process.

    What is sent there and back is pickled, views included. :meth:`close` kills the process, and so
    does the garbage collector.

    Raises
    ------
    ValueError, OSError
        As :class:`LiveRun` does.
    """

    def __init__(self, *, limit: RunLimit | None = None, **given: Any) -> None:
        self.asked, self.first_snapshots, self.messages = 0, [], queue.SimpleQueue()
        self._limit, self._ticket = limit, object()
        self._joined, self._told = 0, (0, 1)  # the request that asked for a place, or 0
        self._answers: dict[int, Future[xr.DataTree]] = {}
        self._lock = threading.RLock()
        most = limit.most if limit else 0
        context: Any = multiprocessing.get_context("forkserver" if LINUX else "spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, most, given), daemon=True)
        try:
            self._process.start()
            theirs.close()
            self._hear()
        except EOFError:
            raise RuntimeError("the run's process ended before its first step.") from None
        self._kill = weakref.finalize(self, _kill, self._process.pid)
        heard = weakref.ref(self), self._connection, limit, self._ticket
        self._thread = threading.Thread(
            target=_listen, args=heard, name="live-process", daemon=True
        )
        self._thread.start()

    def ask(self, name: str, *given: Any) -> None:
        """Send a request; it is lost if the process has ended."""
        with self._lock:
            self.asked += 1
            if name in ("start", "step") and self._limit:
                self._joined = self.asked
                self._tell_place()
            self._send(name, *given)

    def ask_results(self) -> Future[xr.DataTree]:
        """Like :meth:`results` but without waiting; the tree is ready after the current batch."""
        answer: Future[xr.DataTree] = Future()
        with self._lock:
            self._answers[self.asked] = answer
            self.ask("results", self.asked)
            if self._connection.closed:
                answer.cancel()
        return answer

    def close(self, timeout: float = 5.0) -> None:
        """End the process and wait for it for at most ``timeout`` seconds."""
        self._kill()
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._thread.is_alive()

    def _send(self, name: str, *given: Any) -> None:
        with contextlib.suppress(OSError):
            self._connection.send_bytes(pickle.dumps((name, given)))

    def _tell_place(self) -> None:
        assert self._limit is not None
        now = self._limit.place_of(self._ticket), self._limit.training
        if now != self._told:
            self._told = now
            self._send("place", *now)

    # --- in a thread of its own --------------------------------------------------------------

    def _hear(self) -> None:
        kind, what = pickle.loads(self._connection.recv_bytes())
        if kind == "refused":
            raise what
        if kind == "begun":
            self.asked, self.snapshot = what
        elif kind == "first":
            self.first_snapshots = self.first_snapshots + what
        elif kind == "snapshot":
            self._show(what)
        elif kind == "message":
            self.messages.put(what)
        else:
            number, tree, error = what
            answer = self._answers.pop(number)
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error) if error else answer.set_result(tree)

    def _show(self, snapshot: Snapshot) -> None:
        with self._lock:
            if 0 < self._joined <= snapshot.answered and not snapshot.running:
                self._leave()
            self.snapshot = snapshot

    def _leave(self) -> None:
        self._joined = 0
        if self._limit:
            self._limit.leave(self._ticket)

    def _end(self) -> None:
        """Leave nothing that waits for the process."""
        with self._lock:
            self._leave()
            self._limit = None
            for answer in self._answers.values():
                answer.cancel()
            self.snapshot = replace(self.snapshot, running=False, number=self.snapshot.number + 1)
            self._kill()
            self._process.join()
            self._connection.close()
            self.messages.put("the run's process has ended: reload the page.")


def _kill(pid: int) -> None:
    """Without ``Process.kill``, which does nothing once the process it was forked from is gone."""
    with contextlib.suppress(OSError):
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has but the latter


def _listen(
    found: weakref.ref[LiveProcess], connection: Connection, limit: RunLimit | None, ticket: object
) -> None:
    """Hear the process of a run; while it is silent, hold no run that nobody else holds."""
    joined = 0
    with contextlib.suppress(EOFError, OSError):
        while True:
            heard = connection.poll(WAIT_S if joined else None)
            if not (run := found()):
                break
            if heard:
                run._hear()
            with run._lock:
                if joined := run._joined:
                    run._tell_place()
            del run
    if run := found():
        run._end()
    elif limit:
        limit.leave(ticket)


# --- in the process ---------------------------------------------------------------------------


class _Place:
    """The place in the limit's queue, as the page's process tells it."""

    def __init__(self, most: int) -> None:
        self.most, self.place, self.training = most, 0, 1
        self.asked = threading.Event()

    def place_of(self, _: object) -> int:
        return self.place

    def leave(self, _: object) -> None:
        """The page's process does so when it sees that the run has stopped."""

    @contextmanager
    def shift(self, _: object) -> Iterator[Callable[[], None]]:
        """Rest after the work, so that all runs get the same and half a processor is the page's.

        A system may leave one process a processor that seven others would like to have.
        """
        began, before = time.monotonic(), time.thread_time()
        yield lambda: None
        worked, took = time.thread_time() - before, time.monotonic() - began
        share = (PROCESSORS - 0.5) / self.training
        if share < 1.0 and self.asked.wait(max(0.0, worked / share - took)):
            self.asked.clear()  # here, or a request during the work would wait


class _Told(LiveRun):
    """A live run that tells what happens."""

    def __init__(self, send: Send, **given: Any) -> None:
        self._send = send
        super().__init__(**given)

    def _say(self, text: str) -> None:
        self._send("message", text)

    def _publish(self) -> None:
        super()._publish()
        first, self.first_snapshots = self.first_snapshots, []
        if first:
            self._send("first", [_plain(snapshot) for snapshot in first])
        self._send("snapshot", _plain(self.snapshot))


def _plain(snapshot: Snapshot) -> Snapshot:
    """Without the functions that took the views."""
    return replace(snapshot, focus=replace(snapshot.focus, views={}))


def _work(connection: Connection, most: int, given: dict[str, Any]) -> None:
    """Serve one run until the page closes it or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    with contextlib.suppress(AttributeError):  # not on Windows
        os.nice(5)  # pages go first
    torch.set_num_threads(1)
    lock = threading.RLock()

    def send(kind: str, what: Any) -> None:
        with lock, contextlib.suppress(OSError):  # nobody listens any more
            connection.send_bytes(pickle.dumps((kind, what), protocol=5))

    place = _Place(most)
    try:
        with lock:  # the first to be heard
            run = _Told(send, limit=place if most else None, **given)
            send("begun", (run.asked, _plain(run.snapshot)))
    except Exception as error:
        known = isinstance(error, ValueError | OSError)
        send("refused", error if known else ValueError(f"{type(error).__name__}: {error}"))
        return
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, given_now = pickle.loads(connection.recv_bytes())
            if name == "place":
                place.place, place.training = given_now
            elif name == "results":
                _answer(run, given_now[0], send)
            else:
                run.ask(name, *given_now)
            place.asked.set()
    os._exit(0)  # the training thread may be in a long step


def _answer(run: LiveRun, number: int, send: Send) -> None:
    def tell(done: Future[xr.DataTree]) -> None:
        error = done.exception()
        send("results", (number, None if error else done.result(), error))

    run.ask_results().add_done_callback(tell)
