"""What the columns of a measured table mean: the guess, the user's word for it, and its report.

A table of any layout becomes one reading a row: cell, cycle, pulse, polarity and conductance in
siemens. Reading the fields themselves is in :mod:`toolkit.fitting.tables`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from toolkit.checks import check_instance, check_pair, check_real, shortened
from toolkit.fitting.headers import (
    FILLERS,
    OTHERS,
    QUANTITIES,
    ROLES,
    UNITS,
    WORDS,
    Unit,
    role_of,
    split_unit,
    squashed,
    unit_of,
)
from toolkit.fitting.tables import MISSING, OVERFLOW, Table, as_numbers, by_value, nameless, refuse
from toolkit.fitting.turns import SIDES, cycles_of, polarity_of


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a table does not say about itself; everything may be left out.

    Parameters
    ----------
    columns
        Which header holds what: ``{"conductance": "Leitwert (µS)", "pulse": "Puls"}``. Keys:
        cell, cycle, pulse, polarity, voltage (of the pulse), conductance, current, resistance,
        read_voltage, potentiation, depression. A header may be given without its unit. A list of
        headers is one column for each device, None says that no column holds it.
    read_voltage
        Volts at which currents were read, where no column holds it.
    unit
        Unit of the readings where the header has none: "uS", "nA", "kOhm", ...
    polarities
        What the fields of the polarity say: ``{1: "up", 0: "down"}``.
    protocol
        Pulses up and pulses down of a cycle, where no column says the polarity. ``(41, 0)``:
        trains of 41 pulses up, a reset that no row shows between them; the first reading of a train
        may stand before its first pulse.
    """

    columns: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict)
    read_voltage: float | None = None
    unit: str | None = None
    polarities: Mapping[Any, str | int] | None = None
    protocol: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_instance("columns", self.columns, Mapping, "a mapping such as {'pulse': 'Puls'}")
        known = (*WORDS, "potentiation", "depression")
        if strange := [key for key in self.columns if key not in known]:
            raise ValueError(f"columns must name {', '.join(known)}; got {strange[0]!r}")
        if self.read_voltage is not None:
            check_real("read_voltage", self.read_voltage, above=0.0)
        if self.unit is not None:
            check_instance("unit", self.unit, str, "text or None")
            if unit_of(self.unit) is None:
                allowed = "; ".join(UNITS.values())
                raise ValueError(f"unit must be one of {allowed}; got {self.unit!r}")
        if self.polarities is not None:
            words = "a mapping such as {1: 'up', 0: 'down'}, or None"
            check_instance("polarities", self.polarities, Mapping, words)
        if self.protocol is not None and not sum(check_pair("protocol", self.protocol, 0)):
            raise ValueError("protocol must have a pulse up or down; got (0, 0)")


class Value(NamedTuple):
    """A column of readings: its header, unit, and what the header says of device and polarity."""

    header: str
    unit: Unit
    text: str  # the unit as written
    label: str
    side: float


def tidy(table: Table, layout: Layout) -> tuple[pd.DataFrame, list[str]]:
    """One reading a row, indexed by where it stands, and what was understood, in words.

    Columns: ``cell, cycle, pulse, polarity, conductance`` (siemens; NaN where it is missing).

    Raises
    ------
    ValueError
        Naming the column (and line) that is missing or malformed, and what to do.
    """
    if table.frame.empty and len(table.frame.columns) == 0:
        raise ValueError("the table holds no readings")
    layout = _with_headers(layout, table.headers)
    found = _found(table, layout)
    values = _values(table, layout, found)
    if table.frame.empty:
        raise ValueError("the table holds no readings")
    said = [f"{_a(values)} in {_quoted([v.header for v in values])}"]
    places = _places(table, found)
    long = pd.concat([_long(table, layout, found, one, places, said) for one in values])
    if len(long) and long["conductance"].isna().all():
        raise ValueError(f"no readings in {_quoted([v.header for v in values])}: all are missing")
    long["polarity"], how = polarity_of(long, table, found, layout.polarities, layout.protocol)
    long = long.drop(columns="order")
    said += [how] if how else []
    if long["cycle"].isna().all():
        long["cycle"], how = cycles_of(long)
        said += [how] if how else []
    if long["pulse"].isna().all():
        long["pulse"] = long.groupby(["cell", "cycle"], sort=False).cumcount()
        said.append("pulses counted in the order of the rows")
    return long, [*dict.fromkeys(said), *table.remarks]


def _with_headers(layout: Layout, headers: Sequence[str]) -> Layout:
    """The layout with whole headers where it has names without their units."""

    def header(name: str) -> str:
        same = [one for one in headers if split_unit(one)[0] == str(name).strip()]
        return same[0] if str(name).strip() not in headers and len(same) == 1 else name

    columns = {
        role: wanted
        if wanted is None
        else header(wanted)
        if isinstance(wanted, str)
        else [header(one) for one in wanted]
        for role, wanted in layout.columns.items()
    }
    return replace(layout, columns=columns)


def guess(table: Table) -> dict[str, str]:
    """Role and header of the columns that are recognised, for a form to be filled in."""
    found: dict[str, str] = {}
    try:
        found = _found(table, Layout())
        values = _values(table, Layout(), found)
    except ValueError:
        return found
    return found | ({values[0].unit.quantity: values[0].header} if len(values) == 1 else {})


def _found(table: Table, layout: Layout) -> dict[str, str]:
    """Header of every role but the readings', as told or as named."""
    headers, found = table.headers, {}
    for role, wanted in layout.columns.items():
        for one in [wanted] if isinstance(wanted, str) else wanted or ():
            if str(one).strip() not in headers:
                raise ValueError(
                    f"columns: there is no column {one!r} for {role}; "
                    f"the header has {_quoted(headers)}"
                )
        if isinstance(wanted, str):
            found[role] = wanted.strip()
    for weak in (False, True):
        for header in headers:
            role = role_of(header, weak)
            if not role or role in layout.columns or header in found.values():
                continue
            if role in found and not weak:
                raise ValueError(
                    f"{role} is given twice: {found[role]!r} and {header!r}; "
                    f"say which, as in columns={{{role!r}: {header!r}}}"
                )
            found.setdefault(role, header)
    if "polarity" not in found and "polarity" not in layout.columns:
        taken = {*found.values()}
        other = (header for header in headers if header not in taken)
        if header := next((one for one in other if _says_polarity(table.column(one))), ""):
            found["polarity"] = header
    return found


def _says_polarity(raw: pd.Series) -> bool:
    """Whether every field is a word such as SET or RESET, whatever the header is."""
    if pd.api.types.is_numeric_dtype(raw):
        return False
    words = raw.astype(str).str.strip().str.lower()
    return len(words) > 0 and bool(words.isin(SIDES.keys()).all())


def _values(table: Table, layout: Layout, found: dict[str, str]) -> list[Value]:
    """The columns of readings: one, one a polarity, or one a device."""
    told = _told(layout)
    if told:
        return told
    headers = [header for header in table.headers if header not in found.values()]
    every = [value for header in headers if (value := _as_value(header, layout))]
    for quantity in QUANTITIES:
        mine = [value for value in every if value.unit.quantity == quantity]
        plain = [value for value in mine if not value.label] or mine
        if not plain:
            continue
        places = [(value.label, value.side) for value in plain]
        if twice := [v for v in plain if places.count((v.label, v.side)) > 1]:
            raise ValueError(
                f"{quantity} is given twice: {twice[0].header!r} and {twice[1].header!r}; "
                f"say which, as in columns={{{quantity!r}: {twice[0].header!r}}}"
            )
        return plain
    wide = _unnamed(table, layout, headers) if found or _is_bare(table) else []
    if not wide:
        raise ValueError(
            "missing column: conductance, current or resistance; the header has "
            f"{_quoted(table.headers)}; say which, as in columns={{'conductance': ...}}"
        )
    return wide


def _told(layout: Layout) -> list[Value]:
    """Columns of readings that the user names."""
    found = []
    for role, wanted in layout.columns.items():
        side = {"potentiation": 1.0, "depression": -1.0}.get(role, 0.0)
        if wanted is None or (role not in QUANTITIES and not side):
            continue
        headers = [wanted] if isinstance(wanted, str) else list(wanted)
        for header in headers:
            quantity = "" if side else role
            unit, text = _unit_of(header.strip(), quantity, layout)
            label = header.strip() if len(headers) > 1 else ""
            found.append(Value(header.strip(), unit, text, label, side))
    return found


def _as_value(header: str, layout: Layout) -> Value | None:
    """A column of readings by its name or its unit; None if it is none."""
    name, text = split_unit(header)
    unit = unit_of(text or "")
    role = ROLES.get(squashed(name), "")
    words = re.findall(r"[^\W_]+", re.sub(r"([a-zäöü])([A-Z])", r"\1 \2", name))
    sides = {SIDES[word.lower()] for word in words if word.lower() in SIDES}
    side = sides.pop() if len(sides) == 1 else 0.0
    if role in QUANTITIES:
        return Value(header, *_unit_of(header, role, layout), "", 0.0)
    if unit is None or (unit.quantity == "conductance" and not str(text).strip().endswith("S")):
        if not side or role or (text is not None and unit is None):
            return None
        unit, text = _unit_of(header, "", layout)
    rest = [w for w in words if w.lower() not in SIDES and w.lower() not in FILLERS]
    return Value(header, unit, str(text), " ".join(rest), side)


def _unnamed(table: Table, layout: Layout, headers: list[str]) -> list[Value]:
    """Columns of numbers with nobody's names beside a pulse number: one a device."""
    found = []
    for header in headers:
        if squashed(split_unit(header)[0]) in OTHERS:
            continue
        column = table.column(header)
        numbers = as_numbers(column)
        numbers = numbers[numbers.notna()]
        is_filled = len(numbers) > 0.5 * len(column) and (numbers > 0.0).all()
        if is_filled and (numbers % 1 != 0.0).any():  # whole numbers count something
            found.append(Value(header, *_unit_of(header, "", layout), header, 0.0))
    if len(found) == 1:
        return [found[0]._replace(label="")] if layout.unit or _is_bare(table) else []
    return found


def _is_bare(table: Table) -> bool:
    """Whether there are no names at all, and at most a pulse number beside the readings."""
    return len(table.headers) <= 2 and table.headers == nameless(len(table.headers))


def _unit_of(header: str, quantity: str, layout: Layout) -> tuple[Unit, str]:
    """Unit in a header, else the layout's, else the SI unit."""
    _, text = split_unit(header)
    unit = unit_of(text or "")
    if text is not None and (unit is None or (quantity and unit.quantity != quantity)):
        allowed = UNITS[quantity or "conductance"]
        raise ValueError(f"unit of {quantity or 'readings'} must be {allowed}; got {text!r}")
    if unit is None and layout.unit is not None:
        unit, text = unit_of(layout.unit), layout.unit
        if unit and quantity and unit.quantity != quantity:
            raise ValueError(f"unit of {quantity} must be {UNITS[quantity]}; got {layout.unit!r}")
    if unit is None:
        unit = Unit(quantity or "conductance", 1.0)
        text = {"current": "A", "resistance": "Ohm"}.get(quantity, "S")
    return unit, str(text)


def _places(table: Table, found: dict[str, str]) -> pd.DataFrame:
    """Cell, cycle, pulse and number of every row."""

    def column(role: str) -> pd.Series:
        return table.column(found[role]).rename(role)

    rows = pd.DataFrame(index=table.frame.index)
    rows["cell"] = by_value(column("cell"), _labels) if "cell" in found else "1"
    rows["cycle"] = whole(column("cycle")) if "cycle" in found else np.nan
    rows["pulse"] = whole(column("pulse")) if "pulse" in found else np.nan
    rows["order"] = np.arange(len(rows))
    return rows


def _long(
    table: Table,
    layout: Layout,
    found: dict[str, str],
    value: Value,
    places: pd.DataFrame,
    said: list[str],
) -> pd.DataFrame:
    """The rows of one column of readings."""
    raw = table.column(value.header).rename(value.unit.quantity)
    readings = _readings(raw) * value.unit.factor
    if value.unit.quantity == "resistance":
        refuse(readings <= 0.0, raw, "must be above 0")
        readings = 1.0 / readings
    elif value.unit.quantity == "current":
        volts = _volts(table, layout, found, value, said)
        readings = readings / volts
        if (readings < 0.0).sum() > (readings > 0.0).sum():
            readings = -readings
            said.append("currents run against the read voltage: their sign was left out")
    rows = places.copy()
    if numbered := re.fullmatch(r"(?:cycle|loop|zyklus)\s*(\d+)", value.label.lower()):
        rows["cycle"] = int(numbered[1])
    elif value.label:
        name = value.label
        rows["cell"] = name if "cell" not in found else rows["cell"] + " " + name
    rows["side"] = value.side
    rows["conductance"] = readings
    padded = value.side or value.label  # columns side by side need not be equally long
    return rows[: _last(readings) + 1] if padded else rows


def _last(readings: pd.Series) -> int:
    """Place of the last reading that is there."""
    return int(np.flatnonzero(readings.notna().to_numpy()).max(initial=-1))


def _volts(
    table: Table, layout: Layout, found: dict[str, str], value: Value, said: list[str]
) -> Any:
    """Read voltage of every row: told, a column, or the only voltage there is."""
    if layout.read_voltage is not None:
        said.append(f"read at {layout.read_voltage:g} V")
        return layout.read_voltage
    role = "read_voltage"
    if role not in found and "voltage" in found and "voltage" not in layout.columns:
        volts = as_numbers(table.column(found["voltage"]))
        if volts.nunique() == 1 and volts.abs().min() > 0.0:
            found[role] = found.pop("voltage")
    if role not in found:
        raise ValueError(
            f"the current in {value.header!r} needs the voltage at which it was read: "
            "read_voltage=0.1, or a column such as 'V_read (V)'"
        )
    header = found[role]
    raw = table.column(header)
    volts = as_numbers(raw) * (1e-3 if (split_unit(header)[1] or "").strip() == "mV" else 1.0)
    refuse(volts.isna() | (volts == 0.0), raw, "must be a number of volts other than 0")
    level = f" of {volts.iloc[0]:g} V" if volts.nunique() == 1 else ""
    said.append(f"read voltage{level} in {header!r}")
    return volts


def _readings(raw: pd.Series) -> pd.Series:
    """Numbers, NaN where a reading is missing or an instrument marks an overflow."""
    numbers = as_numbers(raw)
    if (numbers.isna()).any():
        text = raw.astype(str).str.strip().str.lower()
        wrong = numbers.isna() & ~text.isin(MISSING) & raw.notna()
        grouped = text[wrong].str.fullmatch(r"[+-]?\d{1,3}([.,' ]\d{3})+([.,]\d*)?").any()
        rest = ", without separators of thousands" if grouped else ""
        refuse(wrong, raw, f"must be a finite number{rest}")
    return numbers.where(numbers.abs() < OVERFLOW)


def whole(raw: pd.Series) -> pd.Series:
    """Whole numbers, or a ValueError about the first that is none."""
    numbers = as_numbers(raw)
    refuse(~np.isfinite(numbers), raw, "must be a finite number")
    is_whole = (numbers % 1 == 0) & (numbers.abs() <= 2**53)
    refuse(~is_whole, numbers, "must be a whole number", plain=True)
    return numbers.astype(np.int64)


def _labels(raw: pd.Series) -> pd.Series:
    """Names of cells; whole numbers without a decimal point."""
    refuse(raw.astype(str).str.strip().str.lower().isin(["", "nan"]), raw, "must have a name")
    return raw.map(
        lambda one: str(int(one) if isinstance(one, float) and one.is_integer() else one).strip()
    ).astype(object)


def _a(values: list[Value]) -> str:
    return f"{values[0].unit.quantity} in {values[0].text.strip()}"


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(repr(shortened(name, 40)) for name in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
