"""The playground's figures: which there are, their layout, and what a snapshot puts in them."""

from __future__ import annotations

import numpy as np
import panel as pn
from bokeh.palettes import RdBu11, Viridis256, interp_palette

from dashboards.site import Text
from toolkit.plots import (
    LiveFigure,
    accuracy_curve,
    energy_curves,
    heat_map,
    loss_curve,
    spectrum_points,
)
from toolkit.plots.elements import siemens_prefix, spectrum_columns
from toolkit.training.snapshot import LayerView, Snapshot

_NONE = np.zeros(0)
_CELL = {"min-height": "max(290px, calc(50vh - 95px))"}  # two rows fill the window
_SEQUENTIAL, _DIVERGING = list(Viridis256), list(interp_palette(RdBu11, 255))


class Figures:
    """Six figures whose data follow the snapshots; drawn once, updated in place."""

    MAPS = ("conductance", "weights")

    def __init__(self) -> None:
        blank = heat_map(np.zeros((2, 2)), title=" ", unit=" ", limits=(-1.0, 1.0))
        self.loss = LiveFigure(loss_curve(_NONE, _NONE))
        self.accuracy = LiveFigure(accuracy_curve(_NONE, _NONE), follow="x")
        self.energy = LiveFigure(energy_curves(_NONE, _NONE, _NONE), follow="x")
        self.spectrum = LiveFigure(spectrum_points(_NONE, _NONE))
        self.left = LiveFigure(blank, follow="")
        self.right = LiveFigure(blank, follow="")
        figures = (self.loss, self.accuracy, self.energy, self.spectrum, self.left, self.right)
        self._captions = {live: Text(_caption(live.title)) for live in figures}

    def grid(self) -> pn.viewable.Viewable:
        """The figures under their captions, two or three a row as the window allows."""
        return pn.Column(
            *(
                pn.Column(
                    self._captions[live],
                    pn.pane.Bokeh(live.figure, sizing_mode="stretch_both"),
                    sizing_mode="stretch_both",
                    styles=_CELL,
                )
                for live in self._captions
            ),
            sizing_mode="stretch_both",
            styles={
                "display": "grid",
                "grid-template-columns": "repeat(auto-fit, minmax(max(320px, 30%), 1fr))",
                "gap": "6px",
            },
        )

    def draw(self, snapshot: Snapshot, *, layer: str, maps: str) -> None:
        """Put a snapshot into the figures; spectrum, energy and maps are of ``layer``."""
        view = snapshot.layers[layer]
        self.loss.set_columns(0, {"step": snapshot.loss_steps, "loss": snapshot.losses})
        self.loss.set_columns(1, {"x": np.array([float(event[0]) for event in snapshot.events])})
        evaluations = snapshot.evaluations
        percent = {"step": evaluations[:, 0], "accuracy": 100 * evaluations[:, 2]}
        self.accuracy.set_columns(0, percent)
        self.accuracy.set_columns(1, percent)
        self._draw_gradient(view, layer)
        if view.conductance is None or maps == "weights":
            self._draw_weights(view, layer, snapshot.knobs["w_max"])
        else:
            self._draw_conductances(view, layer)

    def _draw_gradient(self, view: LayerView, layer: str) -> None:
        steps, captured, optimal = view.energy.T
        self.energy.set_columns(0, {"step": steps, "energy": 100 * optimal})
        self.energy.set_columns(1, {"step": steps, "energy": 100 * captured})
        self._set_caption(self.energy, f"Captured energy, {layer}")
        self._set_caption(self.spectrum, f"Gradient spectrum, {layer}")
        found = view.spectrum
        self.spectrum.set_columns(0, spectrum_columns(found.singular_value if found else _NONE))
        self.spectrum.set_columns(1, spectrum_columns(found.sigma if found else _NONE))

    def _draw_conductances(self, view: LayerView, layer: str) -> None:
        assert view.conductance is not None and view.conductance_range is not None
        low, high = view.conductance_range
        factor, unit = siemens_prefix(high)
        for live, values, name in zip(
            (self.left, self.right), view.conductance, ("G+", "G−"), strict=True
        ):
            live.set_palette(_SEQUENTIAL)
            live.set_image(values * factor, limits=(low * factor, high * factor), unit=unit)
            self._set_caption(live, f"Conductance {name}, {layer}")

    def _draw_weights(self, view: LayerView, layer: str, w_max: float) -> None:
        change = view.weight - view.first_weight
        for live, values, name, limit in (
            (self.left, view.weight, "Weight", w_max),
            (self.right, change, "Change since start", w_max / 2),
        ):
            live.set_palette(_DIVERGING)
            live.set_image(values, limits=(-limit, limit), unit="weight")
            self._set_caption(live, f"{name}, {layer}")

    def _set_caption(self, live: LiveFigure, text: str) -> None:
        self._captions[live].object = _caption(text)


def _caption(text: str) -> str:
    return f'<h2 style="margin:0 0 0 58px;font-size:14px">{text}</h2>'
