"""Polarity of pulses where no column says it: from the turns of the readings, or a protocol."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_REVERSAL = 0.35  # share of the range by which readings must turn back
_NEAR = 0.1  # share of a run, at most 12 pulses, within which a turn is moved


def signs_of_protocol(count: int, up: int, down: int) -> Integers:
    """+1 ``up`` times and -1 ``down`` times, repeated; 0 first where one reading is over."""
    cycle = np.repeat([1, -1], [up, down])
    start = 1 if count % len(cycle) == 1 and count > 1 else 0
    signs = np.resize(cycle, max(count - start, 1))
    return np.concatenate([np.zeros(start, dtype=np.int64), signs])[:count]


def signs_of_readings(readings: Floats, pulses: Floats) -> Integers:
    """+1 where readings rise, -1 where they fall, from one turn to the next.

    Pulse numbers that start anew mark the turns, if each run between them goes one way. Else the
    turns are extremes from which readings turn back by a third of their range, moved within the
    noise to where all runs up, and all runs down, are equally long.
    """
    known = np.isfinite(readings)
    if known.sum() < 2:
        return np.ones(len(readings), dtype=np.int64)
    places = np.arange(len(readings))
    filled = np.interp(places, places[known], readings[known])
    starts = np.flatnonzero(np.diff(pulses, prepend=-np.inf) <= 0)
    runs = np.split(places, starts) if len(starts) else []
    if runs and all(_one_way(filled[run]) for run in runs):
        signs = [np.full(len(run), _direction(filled[run])) for run in runs]
        return np.concatenate(signs)
    return _regular(filled, _turns(filled))


def _direction(values: Floats) -> int:
    third = max(len(values) // 3, 1)
    return 1 if values[-third:].mean() >= values[:third].mean() else -1


def _one_way(values: Floats) -> bool:
    third = max(len(values) // 3, 1)
    low, high = np.quantile(values, [0.02, 0.98])
    return bool(abs(values[-third:].mean() - values[:third].mean()) >= 0.4 * (high - low))


def _turns(values: Floats) -> list[int]:
    """Places of the extremes between runs up and runs down."""
    low, high = np.quantile(values, [0.02, 0.98])
    least = _REVERSAL * (high - low)
    turns, extreme, rising = [], 0, 0
    lowest = highest = 0
    for place, value in enumerate(values.tolist()):
        if rising == 0:  # the first direction is not known yet
            lowest = place if value < values[lowest] else lowest
            highest = place if value > values[highest] else highest
            if value - values[lowest] > least or values[highest] - value > least:
                rising = 1 if value - values[lowest] > least else -1
                if (first := lowest if rising > 0 else highest) > 0:
                    turns.append(first)
                extreme = place
        elif rising * (value - values[extreme]) > 0:
            extreme = place
        elif rising * (values[extreme] - value) > least:
            turns.append(extreme)
            extreme, rising = place, -rising
    return turns


def _regular(values: Floats, turns: list[int]) -> Integers:
    """Signs between turns; equal runs where the readings allow it."""
    count = len(values)
    if not turns:
        return np.full(count, _direction(values))
    first = 1 if values[turns[0]] >= values[0] else -1
    lengths = np.diff([0, *turns, count - 1])
    mine, other = (int(np.median(lengths[place::2])) for place in (0, 1))
    noise = 1.4826 * float(np.median(np.abs(np.diff(values, 2)))) * np.sqrt(len(turns))
    best, most = turns, _swept(values, turns, first) - noise
    for a in range(max(mine - _reach(mine), 1), mine + _reach(mine) + 1):
        for b in range(max(other - _reach(other), 1), other + _reach(other) + 1):
            for start in (0, 1):
                if abs((count - start) / (a + b) - len(lengths) / 2) > 0.6:
                    continue
                ends = np.cumsum(np.resize([a, b], len(lengths) + 1)) + start - 1
                regular = ends[ends < count - 1].tolist()
                is_whole = (count - start) % (a + b) == 0
                swept = _swept(values, regular, first) + noise * (is_whole + (a == b))
                if swept > most:
                    best, most = regular, swept
    signs = np.resize([first, -first], len(best) + 1)
    return np.repeat(signs, np.diff([-1, *best, count - 1]))


def _reach(length: int) -> int:
    return int(np.clip(_NEAR * length, 2, 12))


def _swept(values: Floats, turns: list[int], first: int) -> float:
    """Sum of all runs, and of the first step of each, in the directions that they should have."""
    runs = np.diff(values[[0, *turns, len(values) - 1]])
    runs[1:] += values[np.array(turns) + 1] - values[turns]  # most cells turn back at once
    return float((runs * np.resize([first, -first], len(runs))).sum())
