"""Limits how many live runs train at once and decides which one is next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from toolkit.checks import check_count

SHIFT_S = 0.02  # training time of a run before its turn ends
OVERDUE_S = 0.25  # a longer shift gives up its thread and continues beside the others


class RunLimit:
    """Let at most ``most`` runs train at once; the others wait in order of arrival.

    Runs in training take shifts on at most ``threads`` threads, which leaves the interpreter to the
    pages. The run that has worked least gets the next shift, so all get the same time, however long
    their steps are. A shift longer than ``OVERDUE_S`` stops blocking others.

    Raises
    ------
    TypeError, ValueError
        If ``most`` is not a whole number of at least 1.
    """

    def __init__(self, most: int, *, threads: int = 2) -> None:
        self.most, self._threads = check_count("most", most), threads
        self._lock, self._queue = threading.Lock(), list[object]()
        self._changed, self._waiting = threading.Condition(), list[object]()
        self._began: dict[object, float] = {}  # start of each current shift
        self._worked: dict[object, float] = {}  # seconds, for every run in the queue

    @property
    def training(self) -> int:
        """Number of runs in training."""
        return min(len(self._queue), self.most)

    @contextmanager
    def shift(self, who: object) -> Iterator[Callable[[], None]]:
        """Wait for a shift and hold it within the ``with`` block.

        Call the yielded function now and then during long work: when the shift is over, it waits
        for the next one.
        """

        def change_shifts() -> None:
            if time.monotonic() - self._began[who] > SHIFT_S:
                self._end_shift(who)
                self._wait_for_shift(who)

        self._wait_for_shift(who)
        try:
            yield change_shifts
        finally:
            self._end_shift(who)

    def _wait_for_shift(self, who: object) -> None:
        with self._changed:
            here = (one for one in self._active() if one in self._worked)  # the others have left
            least = min((self._worked[one] for one in here), default=0.0)
            self._worked[who] = max(self._worked.get(who, 0.0), least)  # waiting earns no credit
            self._waiting.append(who)
            while not self._is_next(who):
                self._changed.wait(OVERDUE_S)
            self._waiting.remove(who)
            self._began[who] = time.monotonic()

    def _active(self) -> list[object]:
        return [*self._waiting, *self._began]

    def _is_next(self, who: object) -> bool:
        now = time.monotonic()
        working = sum(now - began < OVERDUE_S for began in self._began.values())
        first = min(self._waiting, key=lambda one: self._worked.get(one, 0.0))
        return working < self._threads and who is first

    def _end_shift(self, who: object) -> None:
        with self._changed:
            worked = time.monotonic() - self._began.pop(who)
            if who in self._worked:  # it can have left in the meantime
                self._worked[who] += worked
            self._changed.notify_all()

    def place_of(self, who: object) -> int:
        """Queue ``who`` if needed and return its place in the queue; 0 means it can train."""
        with self._lock:
            if who not in self._queue:
                self._queue.append(who)
            return max(0, self._queue.index(who) - self.most + 1)

    def leave(self, who: object) -> None:
        """Leave the queue or the set of runs in training."""
        with self._lock:
            if who in self._queue:
                self._queue.remove(who)
        with self._changed:
            self._worked.pop(who, None)
