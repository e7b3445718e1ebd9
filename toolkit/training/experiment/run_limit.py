"""How many live runs train at once, and which of them next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from toolkit.checks import check_count

SHIFT_S = 0.02  # how long a run trains before the next one does
OVERDUE_S = 0.25  # a shift that takes longer leaves its thread to others, and goes on beside them


class RunLimit:
    """Lets at most ``most`` runs train at once; the others wait in the order in which they came.

    Runs that train take shifts on at most ``threads`` threads, which leaves the interpreter to the
    pages. The run that has worked least has the next shift, so that all get the same time however
    long their steps are. A shift longer than ``OVERDUE_S`` no longer keeps others waiting.

    Raises
    ------
    TypeError, ValueError
        If ``most`` is no whole number of 1 or more.
    """

    def __init__(self, most: int, *, threads: int = 2) -> None:
        self.most, self._threads = check_count("most", most), threads
        self._lock, self._queue = threading.Lock(), list[object]()
        self._changed, self._waiting = threading.Condition(), list[object]()
        self._began: dict[object, float] = {}  # of the shifts going on
        self._worked: dict[object, float] = {}  # seconds, of every run in the queue

    @property
    def training(self) -> int:
        """How many runs train at present."""
        return min(len(self._queue), self.most)

    @contextmanager
    def shift(self, who: object) -> Iterator[Callable[[], None]]:
        """Wait for a shift, and have it within the ``with`` block.

        Call what this gives now and then in long work: it waits for another shift where the first
        is over.
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
            here = (one for one in self._active() if one in self._worked)  # others have left
            least = min((self._worked[one] for one in here), default=0.0)
            self._worked[who] = max(self._worked.get(who, 0.0), least)  # rest earns no credit
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
            if who in self._worked:  # it may have left meanwhile
                self._worked[who] += worked
            self._changed.notify_all()

    def place_of(self, who: object) -> int:
        """Queue ``who`` if needed, and return its place in the queue; 0 means it may train."""
        with self._lock:
            if who not in self._queue:
                self._queue.append(who)
            return max(0, self._queue.index(who) - self.most + 1)

    def leave(self, who: object) -> None:
        """Leave the queue, or the runs that train."""
        with self._lock:
            if who in self._queue:
                self._queue.remove(who)
        with self._changed:
            self._worked.pop(who, None)
