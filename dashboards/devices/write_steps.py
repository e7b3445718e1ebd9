"""One outer-product update written to a small array, phase by phase: part of the Devices page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn

from dashboards.app import site
from dashboards.app.address import Watched
from dashboards.app.figure_pane import BELOW_TABS, FigurePane, explanation, facts, grid
from toolkit.crossbar import SCHEMES, Device
from toolkit.crossbar.phases import Write, make_update, write_phases
from toolkit.crossbar.pulses import CODINGS, make_coding
from toolkit.plots import LiveFigure, heat_map
from toolkit.plots.devices import drive_columns, line_drive

_HEIGHT = "max(212px, calc(50vh - 168px))"  # two rows in the window without the widgets
SHAPE = (8, 6)
_LARGEST = "Largest change of a weight, as a fraction of w_max."
_SCHEME = "Write one outer product after another, or their sum row by row."
_CODING = "Whole pulses, or coincidences of bit streams on the lines."
_SEED = "Seed of the update, the weights, the cells and all pulses."
_LESSON = ("09_writing_outer_products", "Lines, not cells")
_ABOUT = {
    "rows": "What drives each row in this phase. Rows and columns are driven together, so that "
    "all cells of an outer product are written at once, each in proportion to row times column.",
    "columns": "What drives each column in this phase; red and blue are pulses of opposite sign.",
    "pulses": "How many pulses each cell of the positive half of the pairs gets in this phase. "
    "Pulses are whole numbers: what lies between is rounded by chance.",
    "wanted": "The part of the update that the phases so far should have written, as a change of "
    "the weights.",
    "written": "How the weights have changed in fact, by cells that are noisy and whose steps "
    "depend on their state.",
    "error": "The difference of the two. Choose the device ideal: what is left comes from rounding "
    "to whole pulses.",
}
_COMPUTING = '<p role="status" style="margin:12px">Computing the write …</p>'
_FURTHER = (
    "More than 100%: noise and uneven steps have left the weights further from the wanted change "
    "than if nothing had been written."
)
_NEXT, _PREVIOUS = "M9 5l8 7-8 7z", "M15 5l-8 7 8 7z"


class WriteSteps:
    """The settings of the update, the phase shown, and its figures.

    ``changed`` is called whenever a setting changes. Nothing is drawn before the first :meth:`use`.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._make_widgets()
        self._panes: dict[str, FigurePane] = {}
        self._figures = pn.Column(sizing_mode="stretch_both", margin=0)
        self.status = site.Text(_COMPUTING, sizing_mode="stretch_width", margin=(0, 10))

    def _make_widgets(self) -> None:
        width = {"width": 165}
        slider, select = site.slider, site.select
        length = slider(
            "Bit length", 1, 127, 31, "Slots of a phase with coincidence coding (BL).", **width
        )
        length.visible = False
        self._back = site.button("Previous", _PREVIOUS, variant="outlined")
        self._on = site.button("Next", _NEXT)
        self._back.on_click(lambda _: self._go(-1))
        self._on.on_click(lambda _: self._go(1))
        done = "Phases done so far; at 0 nothing is written yet."
        wide = {"sizing_mode": "stretch_width", "margin": (6, 12)}
        self.state = Watched(
            {
                "rank": slider("Rank", 1, 4, 2, "Outer products in the update (k).", **width),
                "largest": slider("Largest Δw", 0.01, 1.0, 0.3, _LARGEST, **width),
                "scheme": select("Scheme", list(SCHEMES), _SCHEME, **width),
                "coding": select("Coding", list(CODINGS), _CODING, **width),
                "seed": slider("Update seed", 0, 99, 0, _SEED, **width),
                "bit_length": length,
                "phase": slider("Phase", 0, 32, 1, done, **wide),
            }
        )

    def view(self) -> pn.viewable.Viewable:
        """Settings, the phase and the six figures."""
        *settings, phase = self.state.widgets.values()
        return pn.Column(
            pn.FlexBox(*settings),
            pn.Row(self._back, self._on, phase, sizing_mode="stretch_width"),
            self.status,
            self._figures,
            sizing_mode="stretch_both",
            margin=BELOW_TABS,
        )

    def use(self, device: Device) -> None:
        """Write the update to an array of ``device`` and show the phase."""
        self._device = device
        if not self._panes:
            self._panes = _figures()
            self._watch()
        self._write = self._written()
        phase = self.state.widgets["phase"]
        phase.end = len(self._write.phases)
        if phase.value > phase.end:
            phase.value = phase.end
        self._draw()
        if not self._figures.objects:  # drawn before they are shown: no data come too early
            self._figures.objects = [grid(*self._panes.values(), least="280px", share="28%")]

    def _watch(self) -> None:
        for name, widget in self.state.widgets.items():
            turned = self._show if name == "phase" else self._rewrite
            widget.param.watch(lambda _, turned=turned: turned(), "value")

    def _go(self, by: int) -> None:
        phase = self.state.widgets["phase"]
        phase.value = min(max(phase.value + by, 0), phase.end)

    def _rewrite(self) -> None:
        self.use(self._device)
        self._changed()

    def _show(self) -> None:
        self._draw()
        self._changed()

    def _written(self) -> Write:
        """The write for the present settings; a sum cannot be written by coincidence."""
        read, widgets = self.state.number, self.state.widgets
        sequential = widgets["scheme"].value == SCHEMES[0]
        if len(widgets["coding"].options) != len(CODINGS) - (not sequential):
            codings = list(CODINGS) if sequential else [CODINGS[0]]
            widgets["coding"].param.update(options=codings, value=codings[0])
        coincident = widgets["coding"].value == CODINGS[1]
        widgets["bit_length"].visible = coincident
        length = int(read("bit_length"))
        update = make_update(
            SHAPE, rank=read("rank"), largest=read("largest"), seed=(seed := read("seed"))
        )
        return write_phases(
            update,
            self._device,
            scheme=widgets["scheme"].value,
            coding=make_coding(widgets["coding"].value, bit_length=length),
            seed=seed,
        )

    def _draw(self) -> None:
        write, done = self._write, min(self.state.widgets["phase"].value, len(self._write.phases))
        nothing = np.zeros(SHAPE)
        now = write.phases[done - 1] if done else None
        wanted, written = (now.wanted, now.written) if now else (nothing, nothing)
        pulses = now.pulses[0] if now else nothing
        lines = (now.rows, now.columns) if now else (np.zeros(SHAPE[0]), np.zeros(SHAPE[1]))
        limit = max(float(np.abs(phase.written).max()) for phase in write.phases)
        limit = max(limit, float(np.abs(write.wanted).max()))
        for name, values, label in zip(
            ("rows", "columns"), lines, self._drive_labels(), strict=True
        ):
            live = self._panes[name].live
            live.set_columns(0, drive_columns(values, rows=name == "rows"))
            axis = live.figure.xaxis if name == "rows" else live.figure.yaxis
            axis.axis_label = label
        most = max(1.0, *(float(phase.pulses[0].max()) for phase in write.phases))
        self._panes["pulses"].live.set_image(
            pulses.astype(float), limits=(0.0, most), unit="pulses"
        )
        for name, change in (
            ("wanted", wanted),
            ("written", written),
            ("error", written - wanted),
        ):
            self._panes[name].live.set_image(change, limits=(-limit, limit), unit="w_max")
        self._back.disabled, self._on.disabled = done == 0, done == len(write.phases)
        self.status.object = _status(write, done)

    def _drive_labels(self) -> tuple[str, str]:
        """Axis labels for the drive of rows and columns."""
        if self.state.widgets["scheme"].value != SCHEMES[0]:
            return "1: row is on", "pulses wanted of G+"
        if self.state.widgets["coding"].value == CODINGS[1]:
            return "chance per slot", "chance per slot"
        return "drive (√pulses)", "drive (√pulses)"


def _figures() -> dict[str, FigurePane]:
    nothing, one = np.zeros(SHAPE), (-1.0, 1.0)

    def change(title: str) -> LiveFigure:
        element = heat_map(nothing, title=title, unit="w_max", limits=one, diverging=True)
        return LiveFigure(element, follow="")

    rows, columns = (
        line_drive(np.zeros(size), rows=is_row, label=" ")
        for size, is_row in zip(SHAPE, (True, False), strict=True)
    )
    pulses = heat_map(nothing, title="Pulses to G+ in this phase", unit="pulses", limits=(0, 1))
    figures = {
        "rows": LiveFigure(rows.opts(title="Row pulses"), follow="x"),
        "columns": LiveFigure(columns.opts(title="Column pulses"), follow="y"),
        "pulses": LiveFigure(pulses, follow=""),
        "wanted": change("Change wanted so far"),
        "written": change("Change written so far"),
        "error": change("Written − wanted"),
    }
    return {
        name: FigurePane(live, about=explanation(_ABOUT[name], _LESSON), height=_HEIGHT)
        for name, live in figures.items()
    }


def _status(write: Write, done: int) -> str:
    items: dict[str, Any] = {"Phase": f"{done} of {len(write.phases)}"}
    if not done:
        return facts(items | {"Now": "nothing is written yet"})
    now = write.phases[done - 1]
    issued = sum(int(phase.pulses.sum()) for phase in write.phases[:done])
    missed = np.linalg.norm(now.written - now.wanted) / np.linalg.norm(now.wanted)
    shown = facts(
        items
        | {
            "Now": now.title,
            "Cells pulsed in it": f"{int((now.pulses > 0).sum())} of {now.pulses.size}",
            "Pulses so far": f"{issued:,}",
            "|written − wanted| / |wanted|": f"{missed:.1%}",
        }
    )
    return shown + site.small(_FURTHER) if missed > 1 else shown
