"""The atlas as an HTML table: a colour, a number, a tooltip and a link for every measurement."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from html import escape
from typing import NamedTuple

import xarray as xr
from bokeh.palettes import Viridis256

from dashboards.app import site
from dashboards.app.widgets import method_name
from dashboards.race.page import query_of_runs
from toolkit.crossbar.devices.presets import is_preset
from toolkit.plots.budget import prefix
from toolkit.reproduce.atlas import (
    ALGORITHMS,
    SINGLE,
    SUM,
    Entry,
    entries,
    knobs_of_entry,
    name_of,
)
from toolkit.reproduce.claims.atlas import CELLS
from toolkit.reproduce.statistics import Interval
from toolkit.training.layers.convert import DIGITAL

Columns = Mapping[str, Mapping[Entry, Interval]]

STAR = (
    "★ keeps the fewest numbers in digital memory among those within one point of the best "
    "that fits the chosen memory."
)


class Measure(NamedTuple):
    """A variable of the atlas: its name, unit, whether more is better, and what it counts."""

    variable: str
    unit: str
    more_is_better: bool = False
    about: str = ""


MEASURES = {
    "Test accuracy": Measure("test_accuracy", "%", more_is_better=True),
    "Pulses": Measure("pulses", ""),
    "Pulses of the busiest cell": Measure("worst_cell_pulses", ""),
    "Energy of writes": Measure("write_energy", "J"),
    "Time of writes": Measure("write_time", "s"),
    "Numbers kept in digital memory": Measure(
        "memory_words",
        "",
        about="Counted are numbers kept from one batch to the next. The Playground counts those of "
        "the update that is being written, so there SGD sample by sample is not 0.",
    ),
}


def found(data: xr.Dataset, variable: str) -> Columns:
    """A variable of everything measured, by cell."""
    return {device: entries(data, device, variable) for device in map(str, data.device.values)}


def told(text: str) -> str:
    """The atlas's words, with the method named as on the other pages."""
    return text.replace("MBGD", method_name("sgd")).replace("m n", "m × n")


class Heat:
    """The table of one measure: cells across, algorithms and ranks down.

    ``rates`` are the learning rates with which links open; a star marks what is ``advised``.
    """

    def __init__(
        self,
        columns: Columns,
        measure: Measure,
        rates: Columns,
        advised: Collection[tuple[str, Entry]],
    ) -> None:
        self.columns, self.measure, self.rates, self.advised = columns, measure, rates, advised
        means = [each.mean for column in columns.values() for each in column.values()]
        scaled = [self._scaled(mean) for mean in means if mean > 0]
        self.low, self.high = (min(scaled), max(scaled)) if scaled else (0.0, 1.0)
        if measure.more_is_better:
            self.low = max(self.low, self.high - 30.0)  # what hardly trains would take all colours

    def html(self) -> str:
        """The whole table."""
        order = list(ALGORITHMS)
        entries = {entry for column in self.columns.values() for entry in column}
        head = "".join(f'<th scope="col" style="{_HEAD}">{escape(x)}</th>' for x in self.columns)
        body = "".join(
            f'<tr><th scope="row" style="{_NAME}">{escape(told(name_of(entry)))}</th>'
            + "".join(self._cell(device, entry) for device in self.columns)
            + "</tr>"
            for entry in sorted(entries, key=lambda entry: (order.index(entry[0]), entry[1]))
        )
        return (
            '<table style="border-collapse:separate;border-spacing:2px;font-size:13px;'
            f'font-variant-numeric:tabular-nums"><thead><tr><td></td>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )

    def key(self, name: str) -> str:
        """What is shown, a bar of the colours between its ends, and what the star marks."""
        more = self.measure.more_is_better
        ends = [self.low, self.high] if more else [math.exp(self.high), math.exp(self.low)]
        worst, best = (f"{self._short(end)}{'%' * more}" for end in ends)
        below = " or less" * more
        colours = ",".join(Viridis256[::51])
        return (
            '<p style="margin:2px 0 6px;font-size:13px">'
            f"{escape(name)}: {escape(worst + below)} "
            '<span aria-hidden="true" style="display:inline-block;width:160px;height:11px;'
            f'background:linear-gradient(to right,{colours})"></span> {escape(best)}. '
            f"{escape(self.measure.about)} {STAR}</p>"
        )

    def _cell(self, device: str, entry: Entry) -> str:
        value = self.columns[device].get(entry)
        if value is None:
            return f'<td style="{_CELL}">–</td>'
        star = (device, entry) in self.advised
        about = (
            f"{told(name_of(entry))} on {device}: {value} {self.measure.unit}".rstrip()
            + f", {value.count} seeds"
            + ", advised" * star
        )
        text = self._short(value.mean) + " ★" * star
        if address := race_link(device, entry, self.rates):
            text = (
                f'<a href="{escape(address)}" style="color:inherit;display:block;'
                f'text-decoration:none" aria-label="{escape(about)}; open in the Race">{text}</a>'
            )
        colours = "background:{};color:{}".format(*self._colours(value.mean))
        return f'<td title="{escape(about)}" style="{_CELL}{colours}">{text}</td>'

    def _scaled(self, value: float) -> float:
        return value if self.measure.more_is_better else math.log(value)

    def _colours(self, value: float) -> tuple[str, str]:
        """Of the cell and of its text; what is better is brighter."""
        span = self.high - self.low
        share = (self._scaled(value) - self.low) / span if value > 0 and span > 0 else 0.0
        share = min(max(share, 0.0), 1.0)
        share = share if self.measure.more_is_better else 1.0 - share
        colour = Viridis256[round(255 * share)]
        return colour, "#000" if share > 0.435 else "#fff"  # 4.5 : 1 or more in contrast

    def _short(self, value: float) -> str:
        if self.measure.unit == "%":
            return f"{value:.1f}"
        if not self.measure.unit:
            return f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value:,.0f}"
        factor, unit = prefix(value, self.measure.unit)
        return f"{factor * value:.3g} {unit}".strip()


def race_link(device: str, entry: Entry, rates: Columns) -> str:
    """The address of a race of an entry against SGD on the same cell; empty for own cells."""
    if device != DIGITAL and not is_preset(device):
        return ""
    other: Entry = (SUM, 0) if entry != (SUM, 0) else (SINGLE, 0)
    fixed = {"device": device, "pair": CELLS.get(device, "differential")}
    known = rates.get(device, {})
    runs = [
        {**fixed, **knobs_of_entry(*each)}
        | ({"learning_rate": known[each].mean} if each in known else {})
        for each in (entry, other)
    ]
    return site.link("race", query_of_runs(runs))


_HEAD = "padding:2px 6px;font-weight:600;text-align:center;white-space:nowrap"
_NAME = "padding:2px 8px 2px 0;font-weight:400;text-align:left;white-space:nowrap"
_CELL = "padding:4px 8px;text-align:center;border-radius:3px;min-width:7ch;white-space:nowrap;"
