"""Pulse trains as a laboratory measures them: reading, checking, writing and simulating tables.

One row is one reading: the cell, the cycle, the number of the pulse just given, its polarity and
the conductance found after it. What a device makes of such trains is in
:mod:`toolkit.fitting.fit`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
        header, rows, places = _read_text(check_file("path", path))
        columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
        chosen, scale = _choose_columns(header)
        return cls._of({name: columns[chosen[name]] for name in COLUMNS if rows}, scale, places)

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
        table, units = _as_columns(table)
        chosen, scale = _choose_columns([str(name) for name in table], units)
        columns = {name: list(table[chosen[name]]) for name in COLUMNS}
        places = [f"row {number}" for number in range(len(columns["cell"]))]
        return cls._of(columns, scale, places)

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
        cell, cycle_number, pulse_number = np.indices(readings.shape)
        columns = {
            "cell": [str(number) for number in cell.ravel()],
            "cycle": cycle_number.ravel(),
            "pulse": pulse_number.ravel(),
            "polarity": np.broadcast_to(polarity, readings.shape).ravel(),
            "conductance": readings.ravel(),
        }
        return cls._of(columns, 1.0, [f"row {number}" for number in range(readings.size)])

    def to_csv(self, path: str | Path, *, comment: str = "") -> None:
        """Write every digit of the readings (siemens), under ``comment`` as ``#`` lines."""
        check_path_like("path", path)
        check_instance("comment", comment, str, "text")
        with (
            beside(Path(path)) as scratch,
            scratch.open("w", encoding="utf-8", newline="") as file,
        ):
            file.writelines(f"# {line}\n" for line in comment.splitlines())
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*COLUMNS[:-1], "conductance_S"))
            columns = (getattr(self, name).tolist() for name in COLUMNS)
            writer.writerows(zip(*columns, strict=True))

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
    def _of(
        cls, columns: Mapping[str, Sequence[Any]], scale: float, places: list[str]
    ) -> PulseTrains:
        if not places:
            raise ValueError("the table holds no readings")
        cell = np.array([_label(v, w) for v, w in zip(columns["cell"], places, strict=True)])
        whole = {name: _whole(name, columns[name], places) for name in ("cycle", "pulse")}
        polarity = np.array([_sign(v, w) for v, w in zip(columns["polarity"], places, strict=True)])
        conductance = _conductances(columns["conductance"], scale, places)
        order, train = _arrange(cell, whole["cycle"], whole["pulse"], polarity, places)
        return cls(
            cell=cell[order],
            cycle=whole["cycle"][order],
            pulse=whole["pulse"][order],
            polarity=polarity[order],
            conductance=conductance[order],
            train=train,
        )


def _read_text(path: Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, fields row by row, and where each row stands."""
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
    return header, rows, places


def _as_columns(table: Any) -> tuple[Any, str | None]:
    """A mapping of columns, and the units attribute of the conductance."""
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
    return table, units


def _name(header: str) -> tuple[str, str | None]:
    """Column name and unit in a header; the name is empty for a column that is none of ours."""
    name, *rest = [part for part in re.split(r"[\s_\[\]()]+", header.strip().lower()) if part] or [
        ""
    ]
    if name == "conductance" and len(rest) <= 1:
        return name, rest[0] if rest else None
    known = name in COLUMNS and name != "conductance" and set(rest) <= _COUNTING
    return (name, None) if known else ("", None)


def _choose_columns(headers: list[str], units: str | None = None) -> tuple[dict[str, str], float]:
    """Header of every column that is needed, and siemens per unit of the conductance."""
    chosen: dict[str, str] = {}
    for header in headers:
        name, unit = _name(header)
        if name in chosen:
            raise ValueError(f"{name} is given twice: {chosen[name]!r} and {header!r}")
        if name:
            chosen[name] = header
        if unit is not None and units is not None and unit != units.lower():
            raise ValueError(f"mixed units: column {header!r} has the attribute units={units!r}")
        units = units if unit is None else unit
    missing = [name for name in COLUMNS if name not in chosen]
    if missing:
        raise ValueError(
            f"missing column {', '.join(missing)}; the header has {', '.join(headers)}"
        )
    scale = _UNITS.get("s" if units is None else units.lower())
    if scale is None:
        raise ValueError(f"unit of conductance must be S, mS, uS, nS or pS; got {units!r}")
    return chosen, scale


def _label(value: Any, place: str) -> str:
    label = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not label.strip() or label.strip().lower() == "nan":
        raise ValueError(f"{place}: cell must have a name; got {value!r}")
    return label.strip()


def _number(name: str, value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{place}: {name} must be a finite number; got {value!r}")
    return number


def _whole(name: str, values: Sequence[Any], places: list[str]) -> Integers:
    numbers = [_number(name, value, place) for value, place in zip(values, places, strict=True)]
    for number, place in zip(numbers, places, strict=True):
        if not number.is_integer() or abs(number) > 2**53:
            raise ValueError(f"{place}: {name} must be a whole number; got {number}")
    return np.array(numbers).astype(np.int64)


def _sign(value: Any, place: str) -> int:
    text = str(value).strip().lower()
    if text in _POLARITIES:
        return _POLARITIES[text]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if number not in (1.0, -1.0, 0.0):
        raise ValueError(
            f"{place}: polarity must be +1/-1, up/down or SET/RESET (0: no pulse); got {value!r}"
        )
    return int(number)


def _conductances(values: Sequence[Any], scale: float, places: list[str]) -> Floats:
    found = [
        _number("conductance", value, place) for value, place in zip(values, places, strict=True)
    ]
    siemens = np.array(found) * scale
    for wrong, why in (
        (siemens <= 0.0, "must be above 0"),
        (siemens > 1.0, "is above 1 S; name its unit in the header, as in conductance_uS"),
        (siemens > _WIDEST * siemens.min(), f"is over {_WIDEST:g} x the smallest: mixed units?"),
    ):
        if wrong.any():
            place = int(np.argmax(wrong))
            raise ValueError(f"{places[place]}: conductance {why}; got {values[place]}")
    return siemens


def _arrange(
    cell: NDArray[np.str_], cycle: Integers, pulse: Integers, polarity: Integers, places: list[str]
) -> tuple[Integers, Integers]:
    """Order of the rows and the number of the train of each, in that order."""
    order = np.lexsort((pulse, cycle, cell))
    if _same(order, cell, cycle, pulse).any():  # numbers start anew with each polarity
        order = np.lexsort((pulse, polarity, cycle, cell))
        inside = _same(order, cell, cycle, polarity)
    else:
        inside = _same(order, cell, cycle)
    train = np.concatenate([[0], np.cumsum(~inside)])
    _check_trains(train, pulse[order], polarity[order], [places[row] for row in order])
    return order, train


def _same(order: Integers, *columns: NDArray[Any]) -> Booleans:
    """Where two rows in succession agree in all ``columns``."""
    return np.logical_and.reduce([column[order][1:] == column[order][:-1] for column in columns])


def _check_trains(train: Integers, pulse: Integers, polarity: Integers, places: list[str]) -> None:
    alone = np.flatnonzero(np.bincount(train)[train] == 1)
    if alone.size:
        raise ValueError(f"{places[alone[0]]}: a train of one reading; a step needs two")
    inside = train[1:] == train[:-1]
    gaps = np.flatnonzero(inside & (np.diff(pulse) != 1))
    if gaps.size:
        row = gaps[0] + 1
        raise ValueError(
            f"{places[row]}: pulse must rise by 1 within a train; "
            f"got {pulse[row]} after {pulse[row - 1]}"
        )
    idle = np.flatnonzero(inside & (polarity[1:] == 0))
    if idle.size:
        raise ValueError(f"{places[idle[0] + 1]}: polarity 0 is for the first reading of a train")
