"""Pulse trains as a laboratory measures them: reading, checking, writing and simulating tables.

One row is one reading: the cell, the cycle, the number of the pulse just given, its polarity and
the conductance found after it. What a device makes of such trains is in
:mod:`toolkit.fitting.fit`.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from toolkit.checks import as_generator, check_count, check_file, check_instance, check_path_like
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.devices.device import Device
from toolkit.writing import beside

#: A small synthetic example (made by the script beside it; no measurement).
EXAMPLE_CSV = Path(__file__).parent / "data" / "synthetic_pulse_trains.csv"

COLUMNS = ("cell", "cycle", "pulse", "polarity", "conductance")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9, "ps": 1e-12}
_COUNTING = {"number", "no", "nr", "index", "id"}
_POLARITIES = {
    **dict.fromkeys(("+", "up", "set", "potentiation", "ltp"), 1),
    **dict.fromkeys(("-", "down", "reset", "depression", "ltd"), -1),
    **dict.fromkeys(("none", "start", "read"), 0),
}
# No analogue cell spans this ratio; a slip of a unit does, by its factor times the on/off ratio.
_WIDEST = 1e5

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Steps:
    """Single pulses: readings ``before`` and ``after`` (S), ``polarity`` ±1, ``cell`` number.

    ``first`` marks the first step of a train; the others start from the reading before them.
    """

    before: Floats
    after: Floats
    polarity: Integers
    cell: Integers
    first: Booleans

    def __len__(self) -> int:
        return len(self.before)


@dataclass(frozen=True, eq=False)
class PulseTrains:
    """Checked readings, sorted by cell, cycle and pulse; each column (readings,).

    ``cell`` are names, ``cycle`` and ``pulse`` whole numbers, ``polarity`` is +1 (potentiation,
    SET), -1 (depression, RESET) or 0 (a reading before the first pulse), ``conductance`` in
    siemens, ``train`` the number of the train that a reading belongs to.

    The readings of a cell in a cycle are one train, in the order of their pulse numbers, which must
    rise by 1. Where the numbers start anew with each polarity, each polarity is a train. The first
    reading of a train is where it starts, whatever its polarity.
    """

    cell: NDArray[np.str_]
    cycle: Integers
    pulse: Integers
    polarity: Integers
    conductance: Floats
    train: Integers

    @classmethod
    def from_csv(cls, path: str | Path) -> PulseTrains:
        """Read a table of text: comma, semicolon or tab separated, ``#`` opens a comment line.

        The header names ``cell``, ``cycle``, ``pulse``, ``polarity`` and ``conductance`` in any
        order and case; other columns are ignored. A unit may follow: ``conductance_uS``,
        ``conductance (nS)``; without one it is siemens. Polarity: +1/-1, up/down, SET/RESET,
        potentiation/depression, LTP/LTD; 0 for a reading before the first pulse.

        Raises
        ------
        ValueError
            Naming the line and column of what is missing or malformed.
        """
        return cls._of(*_chosen(_read_text(check_file("path", path))))

    @classmethod
    def from_table(cls, table: Any) -> PulseTrains:
        """Take a pandas DataFrame, a mapping of columns, or an xarray Dataset.

        Columns as in :meth:`from_csv`. In a Dataset they may be variables or coordinates of any
        shape, broadcast against each other; a ``units`` attribute of the conductance counts.

        Raises
        ------
        TypeError
            If ``table`` is none of these.
        ValueError
            Naming the row (counted from 0) and column of what is missing or malformed.
        """
        return cls._of(*_chosen(*_as_frame(table)))

    @classmethod
    def simulated(
        cls, device: Device, *, cells: int, cycles: int, up: int, down: int, seed: int
    ) -> PulseTrains:
        """What cells of ``device`` would show: from g_min ``up`` then ``down`` pulses, repeated.

        Cells differ and are noisy as the device says, read noise included. Pulse 0 of a cycle is a
        reading before its first pulse.
        """
        check_instance("device", device, Device, "a Device")
        for name, value in (("cells", cells), ("cycles", cycles)):
            check_count(name, value)
        for name, value in (("up", up), ("down", down)):
            check_count(name, value, 0)
        generator = as_generator(seed)
        simulated = Cells(torch.zeros(cells, dtype=torch.float64), device, generator)
        polarity = np.array([0] + [1] * up + [-1] * down)
        readings = np.empty((cells, cycles, len(polarity)))
        for cycle in range(cycles):
            for pulse, sign in enumerate(polarity):
                simulated.pulse(torch.full_like(simulated.state, float(sign)))
                readings[:, cycle, pulse] = simulated.read() * device.span + device.g_min
        names = (*COLUMNS[:3], "polarity")
        numbers = [*np.indices(readings.shape), np.broadcast_to(polarity, readings.shape)]
        columns = {name: each.ravel() for name, each in zip(names, numbers, strict=True)}
        return cls._of(pd.DataFrame(columns | {"conductance": readings.ravel()}), 1.0)

    def to_csv(self, path: str | Path, *, comment: str = "") -> None:
        """Write every digit of the readings (siemens), under ``comment`` as ``#`` lines."""
        check_path_like("path", path)
        check_instance("comment", comment, str, "text")
        table = pd.DataFrame({name: getattr(self, name) for name in COLUMNS})
        lines = "".join(f"# {line}\n" for line in comment.splitlines())
        text = table.rename(columns={"conductance": "conductance_S"}).to_csv(
            index=False, lineterminator="\n"
        )
        with beside(Path(path)) as scratch:
            scratch.write_text(lines + text, encoding="utf-8", newline="")

    def steps(self) -> Steps:
        """The single pulses of all trains."""
        inside = self.train[1:] == self.train[:-1]
        _, cell = np.unique(self.cell, return_inverse=True)
        number = np.flatnonzero(inside)
        return Steps(
            before=self.conductance[number],
            after=self.conductance[number + 1],
            polarity=self.polarity[number + 1],
            cell=cell[number],
            first=np.diff(number, prepend=-2) != 1,
        )

    @classmethod
    def _of(cls, raw: pd.DataFrame, scale: float) -> PulseTrains:
        """Check columns as they came, their index saying where each row stands."""
        if raw.empty:
            raise ValueError("the table holds no readings")
        table = pd.DataFrame(index=raw.index)
        table["cell"] = raw["cell"].map(_label).astype(object)
        _refuse(table["cell"].str.lower().isin(["", "nan"]), raw["cell"], "must have a name")
        for name in ("cycle", "pulse"):
            numbers = _numbers(raw[name])
            is_whole = (numbers % 1 == 0) & (numbers.abs() <= 2**53)
            _refuse(~is_whole, numbers.astype(float), "must be a whole number", plain=True)
            table[name] = numbers.astype(np.int64)
        table["polarity"] = _signs(raw["polarity"])
        table["conductance"] = _conductances(raw["conductance"], scale)
        keys = ["cell", "cycle"]
        if table.duplicated([*keys, "pulse"]).any():  # numbers start anew with each polarity
            keys.append("polarity")
        table = table.sort_values([*keys, "pulse"], kind="stable")
        table["train"] = table.groupby(keys, sort=False).ngroup()
        _check_trains(table)
        arrays = {name: table[name].to_numpy() for name in (*COLUMNS, "train")}
        return cls(**arrays | {"cell": np.array(table["cell"], dtype=str)})


def _read_text(path: Path) -> pd.DataFrame:
    """Fields as text, row by row, indexed by where each row stands."""
    lines = [
        (f"{path.name} line {number}", line)
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ValueError(f"{path.name} holds no table")
    delimiter = max(",;\t", key=lines[0][1].count)
    try:
        header, *rows = csv.reader([line for _, line in lines], delimiter=delimiter)
    except csv.Error as error:
        raise ValueError(f"{path.name} is no table: {error}") from None
    places = [place for place, _ in lines[1:]]
    if len(rows) != len(places):
        raise ValueError(f"{path.name} is no table: a quoted field goes on over several lines")
    for place, row in zip(places, rows, strict=True):
        if len(row) != len(header):
            raise ValueError(f"{place}: {len(row)} fields, the header has {len(header)}")
    return pd.DataFrame(rows, index=places, columns=header, dtype=object)


def _as_frame(table: Any) -> tuple[pd.DataFrame, str | None]:
    """A table with its rows numbered, and the units attribute of the conductance."""
    units = None
    if hasattr(table, "to_dataframe"):  # xarray, which this package does not import
        variables = getattr(table, "variables", {})
        found = (
            variables[n].attrs.get("units") for n in variables if _name(str(n))[0] == "conductance"
        )
        units = next((str(unit) for unit in found if unit), None)
        table = table.to_dataframe().reset_index()
    if not (hasattr(table, "keys") and hasattr(table, "__getitem__")):
        raise TypeError(
            "table must be a pandas DataFrame, an xarray Dataset or a mapping of columns; "
            f"got {type(table).__name__}"
        )
    frame = pd.DataFrame({name: list(table[name]) for name in table}, dtype=object)
    return frame.set_axis([f"row {number}" for number in range(len(frame))]), units


def _name(header: str) -> tuple[str, str | None]:
    """Column name and unit in a header; the name is empty for a column that is none of ours."""
    name, *rest = [part for part in re.split(r"[\s_\[\]()]+", header.strip().lower()) if part] or [
        ""
    ]
    if name == "conductance" and len(rest) <= 1:
        return name, rest[0] if rest else None
    known = name in COLUMNS and name != "conductance" and set(rest) <= _COUNTING
    return (name, None) if known else ("", None)


def _chosen(table: pd.DataFrame, units: str | None = None) -> tuple[pd.DataFrame, float]:
    """The columns that are needed, under their names, and siemens per unit of the conductance."""
    headers = [str(header) for header in table.columns]
    chosen: dict[str, int] = {}
    for place, header in enumerate(headers):
        name, unit = _name(header)
        if name in chosen:
            raise ValueError(f"{name} is given twice: {headers[chosen[name]]!r} and {header!r}")
        if name:
            chosen[name] = place
        if unit is not None and units is not None and unit != units.lower():
            raise ValueError(f"mixed units: column {header!r} has the attribute units={units!r}")
        units = units if unit is None else unit
    if missing := [name for name in COLUMNS if name not in chosen]:
        raise ValueError(
            f"missing column {', '.join(missing)}; the header has {', '.join(headers)}"
        )
    scale = _UNITS.get("s" if units is None else units.lower())
    if scale is None:
        raise ValueError(f"unit of conductance must be S, mS, uS, nS or pS; got {units!r}")
    return table.iloc[:, [chosen[name] for name in COLUMNS]].set_axis([*COLUMNS], axis=1), scale


def _refuse(wrong: pd.Series, raw: pd.Series, words: str, *, plain: bool = False) -> None:
    """ValueError about the first row where ``wrong`` holds."""
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        got = raw.iloc[row]
        raise ValueError(f"{raw.index[row]}: {raw.name} {words}; got {got if plain else repr(got)}")


def _label(value: Any) -> str:
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if is_whole else value).strip()


def _numbers(raw: pd.Series) -> pd.Series:
    numbers = raw.map(_float)
    _refuse(~np.isfinite(numbers), raw, "must be a finite number")
    return numbers


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _signs(raw: pd.Series) -> pd.Series:
    text = raw.astype(str).str.strip().str.lower()
    signs = text.map(_POLARITIES).fillna(text.map(_float))
    words = "must be +1/-1, up/down or SET/RESET (0: no pulse)"
    _refuse(~signs.isin([1.0, -1.0, 0.0]), raw, words)
    return signs.astype(np.int64)


def _conductances(raw: pd.Series, scale: float) -> pd.Series:
    siemens = _numbers(raw) * scale
    for wrong, why in (
        (siemens <= 0.0, "must be above 0"),
        (siemens > 1.0, "is above 1 S; name its unit in the header, as in conductance_uS"),
        (siemens > _WIDEST * siemens.min(), f"is over {_WIDEST:g} x the smallest: mixed units?"),
    ):
        _refuse(wrong, raw, why, plain=True)
    return siemens


def _check_trains(table: pd.DataFrame) -> None:
    """ValueError unless pulses rise by 1 in trains of two readings or more."""
    trains = table.groupby("train")
    if (alone := trains["train"].transform("size") == 1).any():
        raise ValueError(f"{alone.idxmax()}: a train of one reading; a step needs two")
    if (gaps := trains["pulse"].diff().fillna(1) != 1).any():
        row = int(np.argmax(gaps.to_numpy()))
        pulse = table["pulse"].iloc
        raise ValueError(
            f"{table.index[row]}: pulse must rise by 1 within a train; "
            f"got {pulse[row]} after {pulse[row - 1]}"
        )
    if (idle := (table["polarity"] == 0) & (trains.cumcount() > 0)).any():
        raise ValueError(f"{idle.idxmax()}: polarity 0 is for the first reading of a train")
