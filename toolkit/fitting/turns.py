"""Polarity of pulses: by a column, by voltages, by a protocol or by the turns of the readings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.fitting.tables import Table, as_numbers, by_value, refuse

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_UP = ("+", "up", "set", "potentiation", "potentiating", "pot", "ltp", "p", "positive", "pos")
_DOWN = ("-", "down", "reset", "depression", "depressing", "dep", "ltd", "d", "negative", "neg")
_POLARITIES = {
    **dict.fromkeys(_UP, 1.0),
    **dict.fromkeys(_DOWN, -1.0),
    **dict.fromkeys(("none", "start", "read"), 0.0),
}
SIDES = {w: s for w, s in _POLARITIES.items() if s and len(w) > 1 and w not in ("pos", "neg")}

_REVERSAL = 0.35  # share of the range by which readings must turn back
_MANY = 5  # trains of one length, from which the turns are found together
_NEAR = 0.1  # share of a run, at most 12 pulses, within which a turn is moved


def polarity_of(
    long: pd.DataFrame,
    table: Table,
    found: dict[str, str],
    polarities: Mapping[Any, str | int] | None,
    protocol: tuple[int, int] | None,
) -> tuple[pd.Series, str]:
    """+1, -1 or 0 of every reading, and how it was found; see ``Layout`` for what is told."""
    if (long["side"] != 0.0).any():
        if (long["side"] == 0.0).any():
            raise ValueError("potentiation and depression must each have a column, or neither")
        return long["side"].astype(np.int64), "polarity by column"
    if "polarity" in found:
        raw = table.column(found["polarity"]).rename("polarity")
        signs = by_value(raw, lambda words: _signs(words, polarities))
        idle = signs == 0.0
        if idle.all():
            raise ValueError(
                f"{found['polarity']!r} is 0 in every row: no pulse; without that column, "
                "the turns of the readings count"
            )
        is_binary = idle.mean() > 0.2 and (idle & idle.shift(fill_value=False)).any()
        if not polarities and is_binary and not (signs < 0.0).any():
            raise ValueError(
                "polarity has 1 and 0 only; say which is which: polarities={1: 'up', 0: 'down'}"
            )
        return _repeated(signs, long).astype(np.int64), f"polarity in {found['polarity']!r}"
    if "voltage" in found:
        header = found["voltage"]
        raw = table.column(header)
        volts = as_numbers(raw)
        refuse(volts.isna(), raw, "must be a number of volts")
        if (volts > 0.0).any() and (volts < 0.0).any():
            return _along(_repeated(np.sign(volts), long), long, header)
    groups = ["cell", "cycle"] if long["cycle"].notna().all() else ["cell"]
    signs = pd.Series(0, index=long.index, dtype=np.int64)
    values = signs.to_numpy().copy()
    readings, pulses = long["conductance"].to_numpy(), long["pulse"].to_numpy(dtype=float)
    every = [*long.groupby(groups, sort=False).indices.values()]
    for alike in _of_one_length(every):
        like = None
        if len(alike) >= _MANY and protocol is None:
            middle = pd.DataFrame(readings[np.stack(alike)]).median().to_numpy()
            like = signs_of_readings(middle, pulses[alike[0]])
        for rows in alike:
            if protocol is not None:
                values[rows] = signs_of_protocol(len(rows), *protocol)
            else:
                values[rows] = signs_of_readings(readings[rows], pulses[rows], like)
    how = "the turns of the readings; if that is wrong, give protocol=(pulses up, pulses down)"
    if protocol is not None:
        how = f"the protocol: {protocol[0]} pulses up, {protocol[1]} down"
        if not all(protocol):
            how += ", with a reset that no row shows"
    return pd.Series(values, index=long.index), f"polarity from {how}"


def cycles_of(long: pd.DataFrame) -> tuple[pd.Series, str]:
    """Cycles that begin where polarity turns back to potentiation or the pulses start anew."""
    by_cell = long["cell"]
    ahead = long["polarity"].where(long["polarity"] != 0)
    sign = ahead.groupby(by_cell, sort=False).bfill().fillna(1)
    before = sign.groupby(by_cell, sort=False).shift()
    restart = long["pulse"].groupby(by_cell, sort=False).diff() <= 0
    begins = (sign > 0) & (before < 0)
    begins |= before.notna() & ((restart & (sign == before)) | (long["polarity"] == 0))
    cycles = begins.astype(np.int64).groupby(by_cell, sort=False).cumsum()
    many = int(cycles.max()) + 1
    both = ", each begins with potentiation" if (sign < 0).any() and (sign > 0).any() else ""
    return cycles, f"{many} cycles{both}" if many > 1 else ""


def signs_of_protocol(count: int, up: int, down: int) -> Integers:
    """+1 ``up`` times and -1 ``down`` times, repeated; 0 first where one reading is over.

    With pulses of one polarity, 0 where each train begins: one reading more than pulses, where the
    readings divide into such trains and not into shorter ones.
    """
    cycle = np.repeat([1, -1], [min(up, count + 1), min(down, count + 1)])
    if not (up and down):
        is_longer = count % len(cycle) != 0 and count % (len(cycle) + 1) == 0
        return np.resize([0, *cycle] if is_longer else [0, *cycle[1:]], count)
    start = 1 if count % len(cycle) == 1 and count > 1 else 0
    signs = np.resize(cycle, max(count - start, 1))
    return np.concatenate([np.zeros(start, dtype=np.int64), signs])[:count]


def _of_one_length(every: list[Integers]) -> list[list[Integers]]:
    """Rows of cells (and cycles) sorted by how many they are."""
    found: dict[int, list[Integers]] = {}
    for rows in every:
        found.setdefault(len(rows), []).append(rows)
    return [*found.values()]


def signs_of_readings(readings: Floats, pulses: Floats, like: Integers | None = None) -> Integers:
    """+1 where readings rise, -1 where they fall, from one turn to the next.

    Pulse numbers that start anew mark the turns, if each run between them goes one way. Else the
    turns are extremes from which readings turn back by a third of their range, moved within the
    noise to where all runs up, and all runs down, are equally long. ``like``, the signs of many
    such trains together, is taken where it fits as well.
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
    return _regular(filled, _turns(filled), like)


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


def _regular(values: Floats, turns: list[int], like: Integers | None) -> Integers:
    """Signs between turns; equal runs where the readings allow it."""
    count = len(values)
    if not turns:
        return np.full(count, _direction(values))
    first = 1 if values[turns[0]] >= values[0] else -1
    lengths = np.diff([0, *turns, count - 1])
    mine, other = (int(np.median(lengths[place::2])) for place in (0, 1))
    noise = 1.4826 * float(np.median(np.abs(np.diff(values, 2)))) * np.sqrt(len(turns))
    best, most = turns, _swept(values, turns, first) - noise
    if like is not None and like[0] == first:
        shared = np.flatnonzero(np.diff(like)).tolist()
        if len(shared) == len(turns) and _swept(values, shared, first) >= most:
            return like
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
    ends = np.array(turns, dtype=np.int64)
    runs[1:] += values[ends + 1] - values[ends]  # most cells turn back at once
    return float((runs * np.resize([first, -first], len(runs))).sum())


def _repeated(column: pd.Series, long: pd.DataFrame) -> pd.Series:
    """A column of the table for every row of the long form."""
    return pd.Series(column.to_numpy()[long["order"]], index=long.index)


def _along(signs: pd.Series, long: pd.DataFrame, header: str) -> tuple[pd.Series, str]:
    """Signs of voltages, turned over where negative pulses potentiate."""
    moves = long["conductance"].groupby(long["cell"], sort=False).diff()
    up, down = moves[signs > 0].median(), moves[signs < 0].median()
    turned = up < 0.0 < down
    how = f"polarity from the sign of {header!r}" + (", negative potentiates" if turned else "")
    return (-signs if turned else signs).astype(np.int64), how


def _signs(raw: pd.Series, polarities: Mapping[Any, str | int] | None) -> pd.Series:
    text = raw.astype(str).str.strip().str.lower()
    text = text.replace({"true": "1", "false": "0"})
    known = dict(_POLARITIES)
    for word, meaning in (polarities or {}).items():
        sign = _POLARITIES.get(str(meaning).strip().lower(), _as_float(meaning))
        if sign not in (1.0, -1.0, 0.0):
            raise ValueError(
                f"polarities: {word!r} must be 'up', 'down' or 'start'; got {meaning!r}"
            )
        known[str(word).strip().lower()] = sign
    told = text.map(known)
    numbers = as_numbers(text)
    if polarities:
        numeric = {n: s for word, s in known.items() if np.isfinite(n := _as_float(word))}
        told = told.fillna(numbers.map(numeric))
    signs = told.fillna(numbers)
    words = "must be +1/-1, up/down or SET/RESET (0: no pulse)"
    refuse(~signs.isin([1.0, -1.0, 0.0]), raw, words)
    return signs


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
