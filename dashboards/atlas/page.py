"""The Atlas page: which algorithm for which cell, and the same measured for a cell of your own.

``toolkit.reproduce.atlas`` has the measurements and advises, ``heat.py`` draws them.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui
import xarray as xr

from dashboards.app import site
from dashboards.app.address import Address, Watched, join, parse, query_asked
from dashboards.app.child import read_beside
from dashboards.app.downloads import Download, export_buttons
from dashboards.app.figure_pane import WHOLE, FigurePane
from dashboards.app.site import Text, Visitor
from dashboards.app.uploads import yaml_upload
from dashboards.atlas.heat import MEASURES, Heat, found, told
from toolkit.crossbar import Device, device_names, get_device, open_device
from toolkit.plots import LiveFigure
from toolkit.plots.atlas import trade_off
from toolkit.reproduce.atlas import (
    Recommendation,
    basis_of,
    entries,
    name_of,
    open_atlas,
    recommend,
)
from toolkit.reproduce.claim import FULL
from toolkit.reproduce.claims.atlas import cases_of, measure
from toolkit.reproduce.results import to_dataset
from toolkit.reproduce.study import Case, Row, load_and_measure

LAYERS = [(128, 65), (10, 129)]  # of the network that the atlas was measured with
WORDS = sum(m * n for m, n in LAYERS)
MEMORY = {
    "any": None,
    "at most m n": WORDS,
    "at most half of m n": WORDS // 2,
    "at most 30 % of m n": 3 * WORDS // 10,
    "at most 15 % of m n": 15 * WORDS // 100,
}
_ABOUT = (
    "Every algorithm on every kind of cell: means over seeds, brighter is better. Point at a "
    "number for its 95% interval; a click opens the algorithm in the Race, beside SGD on the same "
    "cells. k is the rank of an update. “One sum” adds up a batch's outer products and writes the "
    "sum (scheme rank-sum); “sample by sample” writes one after another (rank-sequential). With "
    "mixed precision, Tiki-Taka, AGAD and residual learning, an update goes through a memory (of "
    "rank r, if one is named) or a second array before it reaches the weights."
)
_ABOUT_OWN = "Trains every algorithm on that cell, which takes some minutes, and adds a column."
NONE_FITS = "no algorithm measured here keeps so few numbers."
ACCURACY = next(iter(MEASURES))
_COSTS = [name for name in reversed(MEASURES) if name != ACCURACY]
LONGEST_S = 300.0  # for one algorithm on a cell
_MEASURING = "atlas: a cell is measured"  # for one visitor at a time

published = cache(open_atlas)
_measured = partial(load_and_measure, measure=measure, threads=1)


def device_of_yaml(data: bytes) -> Device:
    """The device in an uploaded file; ValueError if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.yaml"
        path.write_bytes(data)
        return open_device(path)


class Atlas:
    """The page of one visitor, set up from the query of its URL."""

    def __init__(self, query: str = "") -> None:
        self.address, self._visitor = Address(), Visitor()
        self.own: dict[str, list[Row]] = {}  # rows of further cells, as far as they are measured
        self.notice = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._key = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._heat = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._advice = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._make_widgets()
        try:
            asked = parse(query)
            self._state.take(asked)
            if asked:
                raise ValueError(f"{next(iter(asked))[:40]!r} is not a setting of this page.")
        except ValueError as error:
            site.notify(f"This URL is not valid: {error}", also=self.notice)
        self.figure = FigurePane(self._trade_off(published()), height="340px")
        self._draw_table()
        for widget in self._state.widgets.values():
            widget.param.watch(lambda _: self.draw(), "value")

    def _make_widgets(self) -> None:
        wide = {"width": 260, "margin": (8, 6)}
        self._state = Watched(
            {
                "measure": site.select("Show", list(MEASURES), "What the colours show.", **wide),
                "memory": site.select(
                    "Digital memory",
                    {name.replace("m n", "m × n").replace(" %", "%"): name for name in MEMORY},
                    "Most numbers that the advised algorithm, marked by a star, may keep.",
                    **wide,
                ),
                "cell": site.select(
                    "Trade-off on", self._cells(), "Kind of cell in the figure.", width=190
                ),
                "cost": site.select("Cost", _COSTS, "What accuracy is paid with.", width=250),
            }
        )
        others = [name for name in device_names() if name not in published().device.values]
        self.cell = site.select("Another cell", others, "Of the list of devices.", **wide)
        self.begin = site.button("Measure it", variant="outlined")
        self.begin.on_click(self._measure_chosen)
        self.upload = yaml_upload("Measure a device file (YAML)")
        self.upload.param.watch(self._uploaded, "value")
        self.progress = pmui.LinearProgress(value=0, visible=False, **wide)
        self.stage = Text("", width=260, margin=(0, 10))

    # --- layout ------------------------------------------------------------------------------

    def page(self) -> pmui.Page:
        """The whole page."""
        chosen = list(self._state.widgets.values())[:2]
        about = Text(site.small(_ABOUT_OWN), width=260, margin=(4, 10))
        own = [self.cell, self.begin, self.upload, about, self.stage, self.progress]
        return site.page(
            "atlas",
            sidebar=[pn.Column(*chosen, *own, margin=(0, 8))],
            main=[self.view(), self.address],
        )

    def view(self) -> pn.viewable.Viewable:
        """The table, what it says, and its file."""
        about = f'<p style="margin:6px 0;max-width:85em;font-size:14px">{escape(_ABOUT)}</p>'
        return pn.Column(
            self.notice,
            Text(about, sizing_mode="stretch_width", margin=(0, 10)),
            self._key,
            self._heat,
            self._advice,
            pn.FlexBox(self._state.widgets["cell"], self._state.widgets["cost"]),
            self.figure.view,
            export_buttons(self.figure, "atlas-trade-off"),
            Download("Atlas (netCDF)", "atlas.nc", lambda: bytes(_file(self.data()))),
            sizing_mode="stretch_both",
            styles=WHOLE,
            margin=0,
        )

    def draw(self) -> None:
        """Show what is chosen, and all that is measured by now."""
        self._draw_table()
        self.figure.replace(self._trade_off(self.data()))
        self.address.keep(join(self._state.pairs()))

    def _draw_table(self) -> None:
        """Show the chosen measure, with a star where an algorithm is advised."""
        data, measure = self.data(), MEASURES[self._state.widgets["measure"].value]
        advice = {name: self._advised(name, data) for name in map(str, data.device.values)}
        stars = {(name, (one.algorithm, one.rank)) for name, one in advice.items() if one}
        rates = found(data, "learning_rate")
        heat = Heat(found(data, measure.variable), measure, rates, stars)
        self._key.object = heat.key(self._state.widgets["measure"].value)
        self._heat.object = (
            '<div tabindex="0" role="region" aria-label="Atlas" style="overflow-x:auto">'
            f"{heat.html()}</div>"
        )
        self._advice.object = _advice_html(advice, basis_of(data))

    def _trade_off(self, data: xr.Dataset) -> LiveFigure:
        """Accuracy against the chosen cost, on the chosen cell."""
        device, cost = (self._state.widgets[name].value for name in ("cell", "cost"))
        accuracy = entries(data, device)
        spent = entries(data, device, MEASURES[cost].variable)
        points = {
            told(name_of(entry)): (spent[entry].mean, accuracy[entry].mean)
            for entry in accuracy.keys() & spent.keys()
        }
        unit = MEASURES[cost].unit
        label = f"{cost.lower()} ({unit})" if unit else cost.lower()
        return LiveFigure(trade_off(points, label, f"What accuracy costs on {device}"), follow="")

    def _cells(self) -> list[str]:
        return [*map(str, published().device.values), *self.own]

    def data(self) -> xr.Dataset:
        """The atlas, with the cells that were measured here."""
        rows = [row for found in self.own.values() for row in found]
        if not rows:
            return published()
        return xr.concat(
            [published(), to_dataset(rows)], "device", join="outer", combine_attrs="override"
        )

    def _advised(self, device: str, data: xr.Dataset) -> Recommendation | None:
        words = MEMORY[self._state.widgets["memory"].value]
        try:
            return recommend(device, LAYERS, words=words, atlas=data)
        except ValueError:  # nothing measured so far fits
            return None

    # --- a further cell ----------------------------------------------------------------------

    async def _measure_chosen(self, _: Any) -> None:
        await self.measure(get_device(self.cell.value))

    async def _uploaded(self, event: Any) -> None:
        if event.new is None:
            return
        try:
            device = await read_beside(device_of_yaml, event.new)
        except ValueError as error:
            site.notify(f"Device not loaded: {error}", also=self.notice)
        else:
            await self.measure(device)
        finally:
            self.upload.clear()  # frees the bytes, and allows the same file again

    async def measure(self, device: Device) -> None:
        """Train every algorithm on a cell, one after another, and show each when it is done."""
        if pn.state.cache.get(_MEASURING):
            site.notify("A cell is being measured already; try again later.", also=self.notice)
            return
        name = device.name
        while name in self.own or name in published().device.values:
            name += " (yours)"
        pn.state.cache[_MEASURING] = True
        cases = cases_of(replace(device, name=name), FULL)
        try:
            await self._train(name, cases)
        except (TypeError, ValueError) as error:
            site.notify(f"{name} was not measured: {error}", also=self.notice)
        finally:
            pn.state.cache[_MEASURING] = self.progress.visible = False
            self.stage.object = ""

    async def _train(self, name: str, cases: list[Case]) -> None:
        self.progress.visible = True
        for done, case in enumerate(cases):
            if self._visitor.gone():
                return
            self.stage.object = site.small(f"{name}: {done} of {len(cases)} measured")
            self.progress.value = round(100 * done / len(cases))
            rows = await read_beside(_measured, case, deadline=LONGEST_S)
            self.own.setdefault(name, []).extend(rows)
            self._state.widgets["cell"].options = self._cells()
            self.draw()


def _advice_html(advice: dict[str, Recommendation | None], basis: str) -> str:
    lines = "".join(
        f"<li><strong>{escape(name)}</strong>: "
        + (
            escape(told(f"{name_of((one.algorithm, one.rank))}. {one.reason}"))
            if one
            else NONE_FITS
        )
        + "</li>"
        for name, one in advice.items()
    )
    return (
        '<h2 style="font-size:16px;margin:10px 0 4px">Advised ★</h2><ul style="margin:0;'
        f'font-size:14px">{lines}</ul><p style="margin:6px 0;font-size:14px">{escape(basis)}</p>'
    )


def _file(data: xr.Dataset) -> Any:
    return data.to_netcdf(engine="h5netcdf")


def atlas() -> pmui.Page:
    """Create the page of one session."""
    return Atlas(query_asked()).page()
