"""Series: evenly spaced, bounded measurements of a run of any length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Series:
    """Rows of numbers in order; a long series keeps every second row, then every fourth and so on.

    Every ``stride``-th row is kept, and always the newest. The stride doubles when more than
    ``2 * most`` rows are kept.
    """

    def __init__(self, columns: int, most: int) -> None:
        self._most, self.stride, self.count = most, 1, 0
        self._kept, self._rows = 0, np.empty((min(64, 2 * most) + 1, columns))

    def add(self, row: Sequence[float] | np.ndarray) -> None:
        """Add a row."""
        if self._kept > 2 * self._most:
            self._rows[: self._most + 1] = self._rows[: self._kept : 2]
            self._kept, self.stride = self._most + 1, 2 * self.stride
        elif self._kept + 1 >= len(self._rows):
            more = min(len(self._rows), 2 * self._most + 2 - len(self._rows))
            self._rows = np.concatenate([self._rows, np.empty((more, self._rows.shape[1]))])
        self._rows[self._kept] = row  # the newest follows those that are kept
        self._kept += self.count % self.stride == 0
        self.count += 1

    @property
    def rows(self) -> np.ndarray:
        """A copy of the kept rows and the newest one, (rows, columns)."""
        return self._held.copy()

    def column(self, index: int) -> np.ndarray:
        """A copy of one column of :attr:`rows`."""
        return self._held[:, index].copy()

    @property
    def _held(self) -> np.ndarray:
        newest_is_extra = self.count > 0 and (self.count - 1) % self.stride != 0
        return self._rows[: self._kept + newest_is_extra]

    def restore(self, rows: np.ndarray, stride: int, count: int) -> None:
        """Restore :attr:`rows`, ``stride`` and ``count``."""
        self.stride, self.count = stride, count
        self._kept = min(len(rows), -(-count // stride))
        self._rows = np.concatenate([rows, np.empty((1, rows.shape[1]))])
