"""What the columns of an uploaded table are: our guess in a form, beside the first rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import panel as pn
import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.figure_pane import table
from dashboards.app.uploads import MEBI
from toolkit.checks import shortened
from toolkit.fitting import PulseTrains
from toolkit.fitting.columns import guess
from toolkit.fitting.headers import QUANTITIES
from toolkit.fitting.tables import Table, read_bytes

MOST_BYTES = 2 * MEBI
MOST_READINGS = 20_000
_ROWS, _COLUMNS, _WIDTH = 6, 12, 24
_NONE, _AS_NAMED = "none", "as named"
_ROLES = {
    "pulse": ("Pulse", "Number of the pulse; without it, the rows are counted."),
    "polarity": ("Polarity", "Up or down, SET or RESET, +1 or -1, ..."),
    "voltage": ("Pulse voltage", "Its sign is the polarity where no column says it."),
    "cycle": ("Cycle", "Without it, cycles begin where potentiation begins again."),
    "cell": ("Device", "Name or number of the cell; without it, there is one."),
    "read_voltage": ("Read voltage column", "The voltage at which currents were read."),
}
_UNITS = ("as named", "S", "mS", "uS", "nS", "A", "mA", "uA", "nA", "Ohm", "kOhm", "MOhm")


@dataclass(frozen=True)
class Preview:
    """First rows of a table, the guessed columns, and what was understood or is missing."""

    headers: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    guessed: dict[str, str] = field(default_factory=dict)
    understood: str = ""
    missing: str = ""


def read_table(data: bytes) -> Table:
    """The bytes of a table as columns of fields.

    Raises
    ------
    ValueError
        If it is too long or no table.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes are more than the {MOST_BYTES:,} allowed.")
    if data.count(b"\n") > MOST_READINGS + 100:
        raise ValueError(f"more than {MOST_READINGS:,} readings.")
    found = read_bytes(data, "the table")
    if len(found.frame) > MOST_READINGS:
        raise ValueError(f"more than {MOST_READINGS:,} readings.")
    return found


def read_trains(data: bytes, layout: dict[str, Any] | None = None) -> PulseTrains:
    """Pulse trains from the bytes of a table.

    Raises
    ------
    ValueError
        If it is too long or no such table; the message names the line.
    """
    trains = PulseTrains.from_table(read_table(data), **(layout or {}))
    if len(trains.conductance) > MOST_READINGS:
        raise ValueError(f"more than {MOST_READINGS:,} readings.")
    return trains


def looked_at(data: bytes, layout: dict[str, Any]) -> Preview:
    """A table's first rows, and whether it is understood.

    Raises
    ------
    ValueError
        If it is no table.
    """
    found = read_table(data)
    rows = found.frame.iloc[:_ROWS, :_COLUMNS].astype(str).to_numpy().tolist()
    headers = [shortened(header, 60) for header in found.headers[:_COLUMNS]]
    shown = headers, [[shortened(each, _WIDTH) for each in row] for row in rows], guess(found)
    try:
        return Preview(*shown, understood=read_trains(data, layout).understood)
    except ValueError as error:
        return Preview(*shown, missing=str(error))


class TableForm:
    """Selects for the columns of a table; ``read`` is called to read it anew."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._guessed: dict[str, str] = {}
        self.first_rows = site.Text("", sizing_mode="stretch_width", styles={"overflow-x": "auto"})
        small: dict[str, Any] = {"width": 150, "margin": (4, 6)}
        doc = "The column of readings; as named: those that their names or units tell."
        self.readings = site.select("Readings", [_AS_NAMED], doc, **small)
        doc = "What the readings are."
        self.quantity = site.select("Quantity", list(QUANTITIES), doc, **small)
        doc = "Unit of the readings where the header has none."
        self.unit = site.select("Unit", list(_UNITS), doc, **small)
        self.columns = {
            role: site.select(label, [_NONE], doc, **small) for role, (label, doc) in _ROLES.items()
        }
        text: dict[str, Any] = {"size": "small", **small}
        doc = "Volts at which currents were read, where no column says it."
        self.volts = pmui.TextInput(label="Read voltage (V)", description=doc, **text)
        doc = "How the table writes potentiation and depression, as in 1, 0."
        self.words = pmui.TextInput(label="Up, down", description=doc, **text)
        self.again = site.button("Read again", variant="outlined")
        self.again.on_click(read)
        fields: list[Any] = [self.readings, self.quantity, self.unit, *self.columns.values()]
        fields += [self.volts, self.words, self.again]
        parts: list[Any] = [self.first_rows, pn.FlexBox(*fields, align_items="center")]
        self.view = pmui.Card(
            *parts,
            title="Columns of the table",
            collapsed=True,
            visible=False,
            sizing_mode="stretch_width",
            margin=(4, 6),
        )

    def show(self, preview: Preview, *, is_new: bool) -> None:
        """Show the first rows; fill in the guess where the table is new."""
        self.first_rows.object = table(preview.headers, preview.rows)
        self.view.visible = True
        self.view.collapsed = not preview.missing
        if not is_new:
            return
        self._guessed = preview.guessed
        readings = [name for name in QUANTITIES if name in preview.guessed]
        self.readings.options = [_AS_NAMED, *preview.headers]
        self.readings.value = preview.guessed[readings[0]] if readings else _AS_NAMED
        self.quantity.value = readings[0] if readings else QUANTITIES[0]
        for role, select in self.columns.items():
            select.options = [_NONE, *preview.headers]
            select.value = preview.guessed.get(role, _NONE)
        self.unit.value, self.volts.value, self.words.value = _UNITS[0], "", ""

    def layout(self) -> dict[str, Any]:
        """What the visitor says that differs from the guess.

        Raises
        ------
        ValueError
            If a text field holds no such thing.
        """
        columns: dict[str, Any] = {
            role: None if select.value == _NONE else select.value
            for role, select in self.columns.items()
            if select.value != self._guessed.get(role, _NONE)
        }
        readings, quantity = self.readings.value, self.quantity.value
        if readings != _AS_NAMED and self._guessed.get(quantity) != readings:
            columns[quantity] = readings
        found: dict[str, Any] = {"columns": columns} if columns else {}
        if self.unit.value != _UNITS[0]:
            found["unit"] = self.unit.value
        if self.volts.value:
            found["read_voltage"] = _volts(self.volts.value)
        if self.words.value:
            words = [word.strip() for word in self.words.value.split(",")]
            if len(words) != 2:
                raise ValueError("Up, down must be two words, as in 1, 0.")
            found["polarities"] = dict(zip(words, ("up", "down"), strict=True))
        return found


def _volts(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"Read voltage must be a number of volts; got {text[:20]!r}.") from None
