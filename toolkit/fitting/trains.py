"""Pulse trains as a laboratory measures them: checked, written and simulated.

One row is one reading: the cell, the cycle, the number of the pulse just given, its polarity and
the conductance found after it. Reading of tables is in :mod:`toolkit.fitting.tables` and
:mod:`toolkit.fitting.columns`; what a device makes of trains in :mod:`toolkit.fitting.fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from toolkit.checks import as_generator, check_count, check_instance, check_path_like
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.devices.device import Device
from toolkit.fitting.columns import Layout, tidy
from toolkit.fitting.tables import Table, as_table, read_file, refuse
from toolkit.writing import beside

#: A small synthetic example (made by the script beside it; no measurement).
EXAMPLE_CSV = Path(__file__).parent / "data" / "synthetic_pulse_trains.csv"

COLUMNS = ("cell", "cycle", "pulse", "polarity", "conductance")
# No analogue cell spans this ratio; a slip of a unit does, by its factor times the on/off ratio.
_WIDEST = 1e5
# Above this share of steps, gaps in the pulse numbers are no readings that got lost.
_MOST_GAPS = 0.1
# Times the median step by which an outlier lies off both its neighbours.
_OUTLYING = 6.0
# More are thinned for a fit: its errors are small, and it takes seconds.
_MOST_CELLS, _MOST_READINGS = 100, 100_000

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

    def of_cell(self, number: int) -> Steps:
        """Those of one cell."""
        mine = self.cell == number
        return Steps(**{item.name: getattr(self, item.name)[mine] for item in fields(Steps)})


@dataclass(frozen=True, eq=False)
class PulseTrains:
    """Checked readings, sorted by cell, cycle and pulse; each column (readings,).

    ``cell`` are names, ``cycle`` and ``pulse`` whole numbers, ``polarity`` is +1 (potentiation,
    SET), -1 (depression, RESET) or 0 (a reading before the first pulse), ``conductance`` in
    siemens, ``train`` the number of the train that a reading belongs to. ``understood`` says how
    the table was read, in one line.

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
    understood: str = field(default="", compare=False)

    @classmethod
    def from_csv(cls, path: str | Path, **layout: Any) -> PulseTrains:
        """Read a table as a laboratory writes it: text or an Excel workbook.

        Separators (comma, semicolon, tab, blanks), decimal commas, encodings (UTF-8, UTF-16,
        Windows-1252), lines above the header and below the table, a row of units and ``#`` comments
        are found out. Columns are known by their names or units, in any order and case:

        - readings: conductance, current (with a read voltage) or resistance; one column, one for
          each polarity (``LTP``, ``LTD``) or one for each device. Without a unit they are SI.
        - polarity: +1/-1, up/down, SET/RESET, potentiation/depression, LTP/LTD, P/D; 0 for a
          reading before the first pulse. Else the sign of the pulse voltage; else the turns of the
          readings.
        - cell, cycle, pulse: without them, one cell; cycles that begin where the polarity turns
          back to potentiation; pulses counted in the order of the rows.

        Empty fields, ``NaN`` and overflow marks (``9.9e37``) are left out, and the train is broken
        there. ``understood`` says what was found.

        Parameters
        ----------
        path
            The file.
        **layout
            What the table does not say, as :class:`toolkit.fitting.columns.Layout` has it:
            ``columns``, ``read_voltage``, ``unit``, ``polarities``, ``protocol``.

        Raises
        ------
        ValueError
            Naming the line and column of what is missing or malformed, and what to do.
        """
        return cls._read(read_file(path), Layout(**layout))

    @classmethod
    def from_table(cls, table: Any, **layout: Any) -> PulseTrains:
        """Take a pandas DataFrame, a mapping of columns, or an xarray Dataset.

        Columns as in :meth:`from_csv`. In a Dataset they may be variables or coordinates of any
        shape, broadcast against each other; a ``units`` attribute counts.

        Raises
        ------
        TypeError
            If ``table`` is none of these.
        ValueError
            Naming the row (counted from 0) and column of what is missing or malformed.
        """
        return cls._read(as_table(table), Layout(**layout))

    @classmethod
    def from_arrays(cls, pulses: Any, conductances: Any, **layout: Any) -> PulseTrains:
        """Take two arrays: ``pulses`` (readings,) and ``conductances`` (readings,) or (cells, ...).

        ``pulses`` are the polarities or voltages of the pulses if some are negative, else their
        numbers. Conductances are siemens unless ``unit`` says otherwise (see :meth:`from_csv`).

        Raises
        ------
        ValueError
            If the shapes do not fit, or as :meth:`from_table`.
        """
        numbers, readings = np.asarray(pulses), np.asarray(conductances)
        if numbers.ndim != 1 or readings.ndim not in (1, 2) or readings.shape[-1] != len(numbers):
            raise ValueError(
                "pulses and conductances must be (readings,), these also (cells, readings); "
                f"got {numbers.shape} and {readings.shape}"
            )
        name = "voltage" if (numbers < 0).any() else "pulse"
        rows = np.atleast_2d(readings)
        cells = {f"cell {cell}": row for cell, row in enumerate(rows, 1)}
        names = [*cells] if len(cells) > 1 else next(iter(cells))
        layout.setdefault("columns", {"conductance": names})
        return cls.from_table(pd.DataFrame({name: numbers} | cells), **layout)

    @classmethod
    def _read(cls, table: Table, layout: Layout) -> PulseTrains:
        frame, remarks = tidy(table, layout)
        return cls._of(frame, remarks)

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
        return cls._of(pd.DataFrame(columns | {"conductance": readings.ravel()}))

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

    def without_outliers(self) -> PulseTrains:
        """Leave out readings that stand alone, and break their trains there.

        A reading stands alone if, between two pulses of one polarity, the conductance goes away and
        back by more than six times the median step.
        """
        alone = self._alone()
        after = np.concatenate([[False], alone[:-1]])
        broken = replace(self, train=self.train + np.cumsum(after & (after != alone)))
        said = f"{_many(int(alone.sum()), 'outlier')} left out"
        return broken._only(~alone, said)

    def outliers_said(self) -> str:
        """How many readings stand alone, in words; empty if none do."""
        count = int(self._alone().sum())
        return f"{_many(count, 'outlier')}, which robust=True leaves out" if count else ""

    def with_outliers_said(self) -> PulseTrains:
        """The same trains, :meth:`outliers_said` in ``understood``."""
        said = self.outliers_said()
        every = np.ones(len(self.train), dtype=bool)
        return self if said in self.understood else self._only(every, said)

    def _alone(self) -> Booleans:
        """Which readings stand alone."""
        moves = np.diff(self.conductance)
        inside = (np.diff(self.train) == 0) & (np.diff(self.polarity) == 0)
        least = _OUTLYING * float(np.median(np.abs(moves[inside]))) if inside.any() else 0.0
        far = inside & (np.abs(moves) > least)
        alone = np.zeros(len(self.train), dtype=bool)
        alone[1:-1] = far[:-1] & far[1:] & (moves[:-1] * moves[1:] < 0.0)
        return alone

    def thinned(self) -> PulseTrains:
        """Whole trains of at most 100 cells, some 100,000 readings; all where they are no more."""
        cell, names = pd.factorize(self.cell, sort=True)
        kept = np.ones(len(cell), dtype=bool)
        if len(names) > _MOST_CELLS:
            chosen = np.linspace(0, len(names) - 1, _MOST_CELLS).astype(np.int64)
            kept = np.isin(cell, chosen)
        every = -(-int(kept.sum()) // _MOST_READINGS)
        if every > 1:
            trains = pd.DataFrame({"cell": cell, "train": self.train}).drop_duplicates()
            turn = trains.groupby("cell", sort=False).cumcount().to_numpy()
            kept &= (turn % every == 0)[np.searchsorted(trains["train"], self.train)]
        if kept.all():
            return self
        many = len(np.unique(cell[kept]))
        return self._only(kept, f"fitted to {kept.sum():,} of them, whole trains of {many} devices")

    def _only(self, kept: Booleans, said: str) -> PulseTrains:
        arrays = {name: getattr(self, name)[kept] for name in (*COLUMNS, "train")}
        _, arrays["train"] = np.unique(arrays["train"], return_inverse=True)
        text = "; ".join(part for part in (self.understood, said) if part)
        return PulseTrains(**arrays, understood=text)

    def steps(self) -> Steps:
        """The single pulses of all trains."""
        inside = self.train[1:] == self.train[:-1]
        cell, _ = pd.factorize(self.cell, sort=True)
        number = np.flatnonzero(inside)
        return Steps(
            before=self.conductance[number],
            after=self.conductance[number + 1],
            polarity=self.polarity[number + 1],
            cell=cell[number],
            first=np.diff(number, prepend=-2) != 1,
        )

    @classmethod
    def _of(cls, table: pd.DataFrame, remarks: Sequence[str] = ()) -> PulseTrains:
        """Sort checked columns into trains, broken where readings are missing."""
        keys = ["cell", "cycle"]
        if table.duplicated([*keys, "pulse"]).any():  # numbers start anew with each polarity
            keys.append("polarity")
        table = table.sort_values([*keys, "pulse"], kind="stable")
        groups = table.groupby(keys, sort=False).ngroup()
        gaps = table["pulse"].diff().where(groups.diff() == 0)
        _check_groups(table, groups, gaps)
        missing = table["conductance"].isna()
        breaks = (gaps.fillna(0) > 1) | missing | missing.shift(fill_value=False)
        table = table.assign(train=((groups.diff() != 0) | breaks).cumsum())[~missing]
        _check_conductances(table["conductance"])
        table["train"] = table.groupby("train", sort=False).ngroup()
        arrays = {name: table[name].to_numpy() for name in (*COLUMNS, "train")}
        arrays["cell"] = np.array(table["cell"], dtype=str)
        said = [f"read {len(table):,} readings of {_many(table['cell'].nunique(), 'device')}"]
        said += remarks
        if missing.any():
            said.append(f"{_many(int(missing.sum()), 'reading')} missing: left out")
        if many := int((gaps > 1).sum()):
            said.append(f"{_many(many, 'gap')} in the pulse numbers: trains broken there")
        return cls(**arrays, understood="; ".join(said))


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _check_conductances(siemens: pd.Series) -> None:
    if siemens.empty:
        raise ValueError("the table holds no readings")
    for wrong, why in (
        (siemens <= 0.0, "must be above 0"),
        (siemens < 1e-18, "is below 1e-18 S: another unit?"),
        (
            siemens > 1.0,
            "is above 1 S; name its unit, as in the header conductance_uS or unit='uS'",
        ),
        (siemens > _WIDEST * siemens.min(), f"is over {_WIDEST:g} x the smallest: mixed units?"),
    ):
        refuse(wrong, siemens, why, plain=True)


def _check_groups(table: pd.DataFrame, groups: pd.Series, gaps: pd.Series) -> None:
    """ValueError unless pulses rise by 1, but for few gaps, in trains of two readings or more."""
    sizes = groups.map(groups.value_counts())
    place = table.index.name or "row"
    if (alone := (sizes == 1).to_numpy()).any():
        row = table.index[int(np.argmax(alone))]
        raise ValueError(f"{place} {row}: a train of one reading; a step needs two")
    wrong = (gaps < 1) | ((gaps > 1) & ((gaps > 1).mean() > _MOST_GAPS))
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        pulse = table["pulse"].iloc
        raise ValueError(
            f"{place} {table.index[row]}: pulse must rise by 1 within a train; "
            f"got {pulse[row]} after {pulse[row - 1]}"
        )
    idle = ((table["polarity"] == 0) & (groups.diff() == 0)).to_numpy()
    if idle.any():
        row = table.index[int(np.argmax(idle))]
        raise ValueError(f"{place} {row}: polarity 0 is for the first reading of a train")
