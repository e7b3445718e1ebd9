"""The Devices page: one kind of cell with its curves and noise, a write, and a fit to measurements.

``parameters.py`` makes the sliders, ``toolkit.crossbar`` computes and ``toolkit.plots`` draws. This
module connects them and keeps the page's URL.
"""

from __future__ import annotations

from html import escape

import panel as pn
import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.address import Address, Watched, join, number, one_of, parse, query_asked
from dashboards.app.downloads import Download
from dashboards.app.figure_pane import BELOW_TABS, FigurePane, explanation, grid
from dashboards.devices.measured import MeasuredData
from dashboards.devices.parameters import limits_of, parameters, python_of, sliders, with_parameters
from dashboards.devices.write_steps import WriteSteps
from toolkit.checks import check_choice
from toolkit.crossbar import Device, device_names, get_device
from toolkit.crossbar.trains import Trains, cycled, up_and_down
from toolkit.plots import LiveFigure
from toolkit.plots.devices import (
    SCALES,
    cycling,
    cycling_columns,
    response_bands,
    response_columns,
)
from toolkit.training import Settings
from toolkit.training.experiment.knobs import knobs_of

TABS = ("curves", "write", "measured")
_HEIGHT = "max(340px, calc(100vh - 380px))"  # the window without the widgets above
_MOST_OVERLAID = 12
_SCALE = "Fraction of each device's range, or siemens on a log axis."
_PULSES = "Each cycle has this many potentiating pulses, then as many depressing pulses."
_START = "State of all cells before the first pulse, as a fraction of the range."
_SEED = "Seed of the cells and all noise; the same seed gives the same cells."
_INTRO = (
    "A memory cell stores a weight as its conductance. Voltage pulses raise and lower it in steps "
    "that shrink towards the ends of its range, vary, and differ from cell to cell.",
    "Choose a device or move its sliders, and watch how its curves change.",
)
_ABOUT_CURVES = (
    "The conductance of a cell that gets as many pulses up as it has levels, then as many down: "
    "the mean of many cells, and a band of one standard deviation. The ideal cell draws a "
    "triangle. Diamonds mark the symmetry point, where a pulse up and one down cancel.",
    ("10_real_devices", "The effect of a pulse depends on the state"),
)
_ABOUT_CYCLES = (
    "The same kind of cell under repeated pulses up and down: three cells (thin, grey), and mean "
    "and band of many. The mean ends around the symmetry point (dashed), wherever it began: pulses "
    "to and fro erase what a cell has stored.",
    ("10_real_devices", "Up and down are not opposites"),
)
_RUN_KNOBS = tuple(knobs_of(Settings, sets="device"))


class Devices:
    """The page of one visitor, set up from the query of its URL."""

    def __init__(self, query: str = "") -> None:
        self.address = Address()
        self.notice = site.Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.measured: dict[str, Device] = {}
        self._overrides: dict[str, float | bool] = {}
        self._bands: dict[str, tuple[Device, Trains]] = {}
        self._make_widgets()
        self.write = WriteSteps(self._keep_address)
        self.fit = MeasuredData(self._explore, self._say)
        self._take(query)
        self._set_up()
        lives = self._curves(), LiveFigure(cycling(*self._cycles()))
        self._panes = [
            FigurePane(live, about=explanation(*about), height=_HEIGHT)
            for live, about in zip(lives, (_ABOUT_CURVES, _ABOUT_CYCLES), strict=True)
        ]
        self._watch()

    # --- layout ------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        slider, select, width = site.slider, site.select, {"width": 200}
        self._pick = select(
            "Device",
            device_names(),
            "The cell to explore; the sliders set its parameters.",
            value="Ag:a-Si",
            width=250,
            margin=(5, 10),
        )
        self._overlay = pmui.MultiChoice(
            label="Overlaid presets",
            options=device_names(),
            value=["ideal", "EpiRAM"],
            max_items=_MOST_OVERLAID,
            description="Presets to draw beside the explored device, unchanged.",
            sizing_mode="stretch_width",
            margin=(6, 6),
        )
        self._scale = select("Conductance as", list(SCALES), _SCALE, width=190)
        self._seed = slider("Seed", 0, 99, 0, _SEED, **width)
        self._state = Watched(
            {
                "overlay": self._overlay,
                "scale": self._scale,
                "pulses": slider("Pulses each way", 1, 200, 20, _PULSES, **width),
                "cycles": slider("Cycles", 1, 50, 10, "Number of cycles.", **width),
                "start": slider("Start", 0.0, 1.0, 0.9, _START, **width),
                "cells": self._seed,
            }
        )
        self._sliders = pn.Column(margin=0)
        self._preset = site.button("Back to the preset", variant="outlined")
        self._preset.on_click(lambda _: self._choose())
        self._python = Download(
            "Python (.py)",
            "device.py",
            lambda: python_of(self.device).encode(),
            description="Code that creates this device in a notebook or script.",
        )
        self._link = site.Text("", margin=(4, 6))
        self._about = site.Text("", sizing_mode="stretch_width", margin=(0, 6))

    def controls(self) -> pn.viewable.Viewable:
        """The device and its parameters."""
        return pn.Column(
            self._pick,
            self._about,
            self._sliders,
            pn.FlexBox(self._preset, self._python),
            self._link,
            margin=(0, 8),
        )

    def view(self) -> pn.viewable.Viewable:
        """The three tabs."""
        names = ("pulses", "cycles", "start", "cells")
        cycles = pn.FlexBox(*(self._state.widgets[name] for name in names))
        curves = pn.Column(
            pn.Row(self._overlay, self._scale, sizing_mode="stretch_width"),
            cycles,
            grid(*self._panes, least="360px", share="40%"),
            sizing_mode="stretch_both",
            margin=BELOW_TABS,
        )
        self.tabs = pmui.Tabs(
            ("Curves and cycling", curves),
            ("Write an update", self.write.view()),
            ("Measured data", self.fit.view()),
            active=self._tab,
            sizing_mode="stretch_both",
        )
        self._redraw()
        self.tabs.param.watch(lambda event: self._open(event.new), "active")
        parts = self.address, site.intro(*_INTRO), self.notice, self.tabs
        return pn.Column(*parts, sizing_mode="stretch_both", margin=0)

    def page(self) -> pmui.Page:
        """The whole page."""
        return site.page("devices", sidebar=[self.controls()], main=[self.view()])

    # --- what the visitor does ---------------------------------------------------------------

    def _watch(self) -> None:
        self._pick.param.watch(lambda _: self._choose(), "value")
        for name in ("overlay", "scale"):
            self._state.widgets[name].param.watch(lambda _: self._redraw_bands(), "value")
        for name in ("pulses", "cycles", "start"):
            self._state.widgets[name].param.watch(lambda _: self._draw_cycles(), "value")
        self._seed.param.watch(lambda _: self._reseed(), "value")

    def _choose(self) -> None:
        """Explore another device, or reset the present one."""
        self._overrides.clear()
        self._set_up()
        self._redraw_bands()
        self._redraw()

    def turn(self, name: str, value: float | bool) -> None:
        """Apply the movement of one slider."""
        try:
            self.device = with_parameters(self._base(), {**self._overrides, name: value})
        except ValueError as error:
            self._say(str(error))
            self._sliders.objects = sliders(self.device, self.turn)  # back to valid values
            return
        self._overrides[name] = value
        self._describe()
        self._redraw()

    def _explore(self, device: Device) -> None:
        """Add a measured device to the list and explore it."""
        self.measured[device.name] = device
        self._pick.options = [*device_names(), *self.measured]
        if self._pick.value == device.name:
            self._choose()
        else:
            self._pick.value = device.name
        self.tabs.active = 0

    def _open(self, tab: int) -> None:
        self._tab = tab
        self._redraw()

    # --- what the page shows -----------------------------------------------------------------

    def _base(self) -> Device:
        name = self._pick.value
        return self.measured.get(name) or get_device(name)

    def _set_up(self) -> None:
        """Update sliders and text for the device with its overrides."""
        self.device = with_parameters(self._base(), self._overrides)
        self._sliders.objects = sliders(self.device, self.turn)
        self._describe()

    def _describe(self) -> None:
        point = self.device.symmetry_point()
        where = f"at {point:.3f} of the range" if point is not None else "none, or everywhere"
        kind = type(self.device.response).__name__
        self._about.object = (
            f'<p style="margin:2px 0;font-size:12px"><b>{kind}</b>. Symmetry point: {where}. '
            f"{escape(self.device.source)}</p>"
        )
        query = self._run_query()
        self._link.object = (
            f'<a href="{site.link("playground", query)}" style="color:inherit">'
            "Use in the Playground</a>"
            if query is not None
            else '<span style="font-size:12px">The Playground only runs presets; '
            "use the Python code in a script.</span>"
        )

    def _run_query(self) -> str | None:
        """The Playground's query for this device; None if its knobs cannot express it."""
        turned = dict(self._overrides)
        levels = {turned.pop(name, None) for name in ("levels_up", "levels_down")} - {None}
        if self._pick.value in self.measured or set(turned) - set(_RUN_KNOBS):
            return None
        if levels:
            if self.device.levels_up != self.device.levels_down:
                return None
            turned["levels"] = round(self.device.levels_up)
        pairs = [("device", self._pick.value)] + [(k, f"{v:g}") for k, v in turned.items()]
        return join(pairs)

    def _redraw(self) -> None:
        """The figures of the open tab, for the explored device."""
        if self._tab == 0:
            columns = response_columns(*self._explored(), self._scale.value)
            for glyph, column in enumerate(columns):
                self._panes[0].live.set_columns(glyph, column)
            self._draw_cycles()
        elif self._tab == 1:
            self.write.use(self.device)
        self._keep_address()

    def _redraw_bands(self) -> None:
        """Redraw the curves for other presets or another axis."""
        self._panes[0].replace(self._curves())
        self._keep_address()

    def _reseed(self) -> None:
        self._bands.clear()
        self._redraw_bands()
        self._draw_cycles()

    def _draw_cycles(self) -> None:
        for glyph, column in enumerate(cycling_columns(*self._cycles())):
            self._panes[1].live.set_columns(glyph, column)
        self._keep_address()

    def _curves(self) -> LiveFigure:
        return LiveFigure(response_bands(self._chosen(), self._scale.value))

    def _explored(self) -> tuple[Device, Trains]:
        return self.device, up_and_down(self.device, seed=self._state.number("cells"))

    def _chosen(self) -> dict[str, tuple[Device, Trains]]:
        """The explored device, then the overlaid presets, each simulated once."""
        seed, overlaid = self._state.number("cells"), (self._overlay.value or [])[:_MOST_OVERLAID]
        for name in overlaid:
            if name not in self._bands:
                preset = get_device(name)
                self._bands[name] = (preset, up_and_down(preset, seed=seed))
        shown = {name: self._bands[name] for name in overlaid}
        return {f"{self.device.name} (explored)": self._explored()} | shown

    def _cycles(self) -> tuple[Device, Trains]:
        trains = cycled(
            self.device,
            pulses=self._state.number("pulses"),
            cycles=self._state.number("cycles"),
            start=self._state.number("start"),
            points=120,
            cells=64,
            seed=self._state.number("cells"),
        )
        return self.device, trains

    # --- the address -------------------------------------------------------------------------

    def query(self) -> str:
        """The query that holds the page's state; it cannot contain a measured device."""
        pairs: list[tuple[str, str]] = []
        if self._pick.value not in self.measured:
            pairs += [("device", self._pick.value)]
            pairs += [(name, f"{float(value):.6g}") for name, value in self._overrides.items()]
        if self._tab:
            pairs += [("tab", TABS[self._tab])]
        return join(pairs + self._state.pairs() + self.write.state.pairs())

    def _keep_address(self) -> None:
        self.address.keep(self.query())

    def _take(self, query: str) -> None:
        """Set up the page from its URL, or show one message if that fails."""
        self._tab = 0
        try:
            asked = parse(query)
            tab = TABS.index(one_of("tab", TABS, asked.pop("tab", TABS[0])))
            name = asked.pop("device", self._pick.value)
            preset = get_device(check_choice("device", name, device_names()))
            self._state.take(asked)
            self.write.state.take(asked)
            overrides = _overrides(preset, asked)
            with_parameters(preset, overrides)
        except ValueError as error:
            self._say(f"This URL is not valid: {error}")
            return
        self._tab, self._pick.value, self._overrides = tab, name, overrides

    def _say(self, text: str) -> None:
        site.notify(text, also=self.notice)


def _overrides(preset: Device, asked: dict[str, str]) -> dict[str, float | bool]:
    """Parameters in the URL: every name that is not one of the page's widgets."""
    known, found = parameters(preset), {}
    for name, text in asked.items():
        if name not in known:
            raise ValueError(f"{name[:40]!r} is not a parameter of {preset.name}.")
        limits = limits_of(preset, name)
        value = number(name, text, limits.low, limits.high)
        found[name] = bool(value) if isinstance(known[name], bool) else value
    return found


def devices() -> pmui.Page:
    """Create the page of one session."""
    return Devices(query_asked()).page()
