"""Comparison of several runs: part of the Results page."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import panel as pn
import panel_material_ui as pmui
import xarray as xr

from dashboards.app import site
from dashboards.app.address import value_of
from dashboards.app.downloads import Download, export_buttons
from dashboards.app.figure_pane import BELOW_TABS, WHOLE, FigurePane, explanation, grid, table
from dashboards.results.exploring import LESSON
from dashboards.results.run_tables import differences
from toolkit.plots import LiveFigure
from toolkit.plots.variables import AXES, compared, comparison

_HEIGHT = "max(300px, calc(100vh - 420px))"
_ABOUT = (
    "The same variable of every open run, in the colour of its name. Choose under Over whether "
    "runs are compared at equal steps, samples or pulses: who leads may depend on it. A log axis "
    "below suits runs of unlike length."
)
_DEFAULTS = ("loss", "test_accuracy")
_NAMES = ("left", "right")
_AXES = (*_NAMES, "below")


class Comparison:
    """Two figures of the same runs, each of one training variable, over steps, samples or pulses.

    ``changed`` is called whenever the visitor changes what is shown, ``say`` with what runs lack.
    """

    def __init__(self, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._changed, self._say = changed, say
        self._training: dict[str, xr.Dataset] = {}
        self._trees: dict[str, xr.DataTree] = {}
        self._asked: dict[str, str] = {}
        self._panes: list[FigurePane] = []
        self._figures = pn.Column(sizing_mode="stretch_both", margin=0, visible=False, styles=WHOLE)
        self.text = site.Text(_NOTHING, sizing_mode="stretch_width", margin=(0, 10))
        self._make_widgets()

    def _make_widgets(self) -> None:
        doc = "A training variable, recorded at steps or at evaluations."
        self.variables = [
            site.select(f"Variable on the {side}", list(_DEFAULTS), doc, value=default, width=190)
            for side, default in zip(_NAMES, _DEFAULTS, strict=True)
        ]
        over = {label: name for name, label in AXES.items()}
        doc = "Compare at equal steps, samples or writes."
        self.over = site.select("Over", over, doc, value="step", width=190)
        self.logs = [
            pmui.Checkbox(label=f"log axis, {side}", value=side == "left", margin=(10, 4))
            for side in _AXES
        ]
        for widget in (*self.variables, self.over, *self.logs):
            widget.param.watch(lambda _: self._turn(), "value")
        self._csv = Download("Data (CSV)", "comparison.csv", self._csv_file, margin=(8, 4))
        self._bar = pn.FlexBox(self._csv, visible=False, align_items="center")

    def view(self) -> pn.viewable.Viewable:
        """Choices, the two figures, and a table of the runs."""
        return pn.Column(
            pn.FlexBox(*self.variables, self.over, *self.logs),
            self._bar,
            self._figures,
            self.text,
            sizing_mode="stretch_both",
            margin=BELOW_TABS,
        )

    def use(self, trees: dict[str, xr.DataTree]) -> None:
        """Compare these runs."""
        self._trees = {name: tree for name, tree in trees.items() if "training" in tree}
        self._training = {name: t["training"].to_dataset() for name, t in self._trees.items()}
        names = dict.fromkeys(
            str(name)
            for training in self._training.values()
            for name, array in training.data_vars.items()
            if array.dims in (("step",), ("evaluation_step",)) and array.dtype.kind in "fiu"
        )
        for widget, default in zip(self.variables, _DEFAULTS, strict=True):
            options = list(names) or list(_DEFAULTS)
            asked = self._asked.pop(widget.label, widget.value)
            value = next((name for name in (asked, default) if name in options), options[0])
            if names and asked != value:
                self._say(f"No open run has {asked!r} to compare; {value!r} is shown.")
            widget.param.update(options=options, value=value)
        self._draw()

    def _turn(self) -> None:
        self._draw()
        self._changed()

    def _draw(self) -> None:
        self._bar.visible = self._figures.visible = bool(self._training)
        if not self._training:
            self.text.object, self._figures.objects = _NOTHING, []
            return
        lives = [
            LiveFigure(
                comparison(
                    self._training,
                    one.value,
                    over=self.over.value,
                    log=log.value,
                    log_over=self.logs[-1].value,
                )
            )
            for one, log in zip(self.variables, self.logs, strict=False)
        ]
        if not self._panes:
            self._panes = [
                FigurePane(live, about=explanation(_ABOUT, LESSON), height=_HEIGHT)
                for live in lives
            ]
            for pane, side in zip(self._panes, _NAMES, strict=True):
                self._bar.extend(
                    [site.Text(side, margin=(12, 4)), *export_buttons(pane, f"compare-{side}")]
                )
        else:
            for pane, live in zip(self._panes, lives, strict=True):
                pane.replace(live)
        if not self._figures.objects:
            self._figures.objects = [grid(*self._panes, least="360px", share="40%")]
        self.text.object = table(*differences(self._trees))

    def _csv_file(self) -> bytes:
        """A long table: run, variable, place and value."""
        lines = [f"run,variable,{self.over.value},value"]
        for run, training in self._training.items():
            for name in dict.fromkeys(widget.value for widget in self.variables):
                if name in training:
                    places, values = compared(training, name, self.over.value)
                    pairs = np.stack([places, values], axis=1).tolist()
                    lines += [f'"{run}",{name},{x:.17g},{y:.17g}' for x, y in pairs]
        return ("\n".join(lines) + "\n").encode()

    # --- the address -------------------------------------------------------------------------

    def pairs(self) -> list[tuple[str, str]]:
        """The settings that are not the defaults, for the URL."""
        pairs = [
            (f"compare_{side}", widget.value)
            for side, widget, default in zip(_NAMES, self.variables, _DEFAULTS, strict=True)
            if widget.value != default
        ]
        pairs += [("over", self.over.value)] if self.over.value != "step" else []
        logs = ",".join(s for s, log in zip(_AXES, self.logs, strict=True) if log.value)
        return pairs + ([("log", logs or "none")] if logs != "left" else [])

    def take(self, asked: dict[str, str]) -> None:
        """Apply the settings in ``asked`` from the URL, and remove them from it.

        Raises
        ------
        ValueError
            If a setting is not allowed; the message names it.
        """
        over = value_of("over", self.over, asked.pop("over", "step"))
        logs = asked.pop("log", "left").split(",")
        if not set(logs) <= {*_AXES, "none"}:
            raise ValueError(
                f"log must name left, right, below or none; got {','.join(logs)[:40]!r}"
            )
        for side, widget in zip(_NAMES, self.variables, strict=True):
            if f"compare_{side}" in asked:
                self._asked[widget.label] = asked.pop(f"compare_{side}")
        self.over.value = over
        for side, log in zip(_AXES, self.logs, strict=True):
            log.value = side in logs


_NOTHING = '<p style="margin:12px">Open at least two runs to compare them.</p>'
