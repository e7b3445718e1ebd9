"""The playground's views: how each is drawn from a snapshot, and what its caption says.

Which of them stand on the page, and where, is ``figures.py``'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np
import panel as pn
from bokeh.palettes import RdBu11, Viridis256, interp_palette

from dashboards.app.site import Text
from toolkit.plots import (
    LiveFigure,
    accuracy_curve,
    angle_curve,
    conductance_shares,
    energy_curves,
    heat_map,
    loss_curve,
    spectrum_points,
)
from toolkit.plots.elements import siemens_prefix, spectrum_columns
from toolkit.training.experiment.maps import STEPS
from toolkit.training.experiment.snapshot import LayerView, Snapshot, Spending

_NONE = np.zeros(0)
_SEQUENTIAL = list(interp_palette(Viridis256, STEPS + 1))
_DIVERGING = list(interp_palette(RdBu11, STEPS + 1))
_ON_CELLS = "only a crossbar has cells: choose a device"


class FigureView:
    """A figure that is made when it is first shown; afterwards only its data are replaced."""

    def __init__(
        self, make: Callable[[], LiveFigure], draw: Callable[[LiveFigure, Snapshot], str]
    ) -> None:
        self.live = make()
        self._draw = draw
        self.pane = pn.pane.Bokeh(self.live.figure, sizing_mode="stretch_both")

    def draw(self, snapshot: Snapshot) -> str:
        """Put a snapshot into the figure; returns its caption."""
        return self._draw(self.live, snapshot)


class CostView:
    """The table of what writing has cost."""

    def __init__(self) -> None:
        self.pane = Text("", sizing_mode="stretch_both", margin=(6, 10))

    def draw(self, snapshot: Snapshot) -> str:
        """Write the table anew."""
        if snapshot.spending is not None:
            self.pane.object = cost_html(snapshot.spending, snapshot.pulses)
        return "Cost, all layers"


def make_view(name: str) -> FigureView | CostView:
    """The view of that name, one of :data:`TITLES`."""
    if name == "cost":
        return CostView()
    if name in _CURVES:
        return FigureView(*_CURVES[name])
    return FigureView(_blank_map, lambda live, snapshot: _draw_map(live, snapshot, name))


def change_marks(snapshot: Snapshot) -> dict[str, Any]:
    """One mark a step at which knobs were turned: its place, and in words what changed."""
    words: dict[int, list[str]] = {}
    for step, knob, old, new in snapshot.events:
        words.setdefault(step, []).append(f"{knob} {_name(old)} → {_name(new)}")
    steps = np.array(list(words), dtype=float)
    texts = [f"after step {step}: {', '.join(changed)}" for step, changed in words.items()]
    return {"x": steps, "what": [escape(text) for text in texts]}


def _name(value: Any) -> str:
    return "preset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# --- curves -------------------------------------------------------------------------------------


def _with_marks(live: LiveFigure, glyph: int) -> LiveFigure:
    live.set_columns(glyph, {"x": _NONE, "what": []})
    live.explain(glyph, "what")
    return live


def _blank_loss() -> LiveFigure:
    return _with_marks(LiveFigure(loss_curve(_NONE, _NONE)), 1)


def _blank_accuracy() -> LiveFigure:
    return _with_marks(LiveFigure(accuracy_curve(_NONE, _NONE), follow="x"), 2)


def _draw_loss(live: LiveFigure, snapshot: Snapshot) -> str:
    live.set_columns(0, {"step": snapshot.loss_steps, "loss": snapshot.losses})
    marks = change_marks(snapshot)
    live.set_columns(1, marks)
    return "Loss" + (f" · {marks['what'][-1]}" if marks["what"] else "")


def _draw_accuracy(live: LiveFigure, snapshot: Snapshot) -> str:
    evaluations = snapshot.evaluations
    percent = {"step": evaluations[:, 0], "accuracy": 100 * evaluations[:, 2]}
    live.set_columns(0, percent)
    live.set_columns(1, percent)
    live.set_columns(2, change_marks(snapshot))
    return "Test accuracy"


def _draw_spectrum(live: LiveFigure, snapshot: Snapshot) -> str:
    found = _layer(snapshot).spectrum
    live.set_columns(0, spectrum_columns(found.singular_value if found else _NONE))
    live.set_columns(1, spectrum_columns(found.sigma if found else _NONE))
    return f"Gradient spectrum, {snapshot.focus.layer}"


def _draw_energy(live: LiveFigure, snapshot: Snapshot) -> str:
    steps, captured, optimal, _ = _layer(snapshot).energy.T
    live.set_columns(0, {"step": steps, "energy": 100 * optimal})
    live.set_columns(1, {"step": steps, "energy": 100 * captured})
    return f"Captured energy, {snapshot.focus.layer}"


def _draw_angle(live: LiveFigure, snapshot: Snapshot) -> str:
    steps, _, _, degrees = _layer(snapshot).energy.T
    live.set_columns(0, {"step": steps, "angle": degrees})
    return f"Angle to the optimal subspace, {snapshot.focus.layer}"


def _draw_histogram(live: LiveFigure, snapshot: Snapshot) -> str:
    found, title = snapshot.histogram, f"Conductance histogram, {snapshot.focus.layer}"
    if found is None:
        for glyph in (0, 1):
            live.set_columns(glyph, {"conductance": _NONE, "share": _NONE})
        return f"{title}: {_ON_CELLS}"
    factor, unit = siemens_prefix(float(found.centre[-1]))
    live.label_axes(x=f"conductance ({unit})", y="cells per bin (%)")
    for glyph, share in enumerate((found.plus, found.minus)):
        live.set_columns(glyph, {"conductance": factor * found.centre, "share": share})
    return title


def _layer(snapshot: Snapshot) -> LayerView:
    return snapshot.layers[str(snapshot.focus.layer)]


_CURVES: dict[str, tuple[Callable[[], LiveFigure], Callable[[LiveFigure, Snapshot], str]]] = {
    "loss": (_blank_loss, _draw_loss),
    "accuracy": (_blank_accuracy, _draw_accuracy),
    "spectrum": (lambda: LiveFigure(spectrum_points(_NONE, _NONE)), _draw_spectrum),
    "energy": (
        lambda: LiveFigure(energy_curves(_NONE, _NONE, _NONE), follow="x"),
        _draw_energy,
    ),
    "angle": (lambda: LiveFigure(angle_curve(_NONE, _NONE), follow="x"), _draw_angle),
    "histogram": (
        lambda: LiveFigure(conductance_shares(_NONE, _NONE, _NONE)),
        _draw_histogram,
    ),
}

# --- maps ---------------------------------------------------------------------------------------

_MAP_TITLES = {
    "weight": "Weight",
    "change": "Change since start",
    "g_plus": "Conductance G+",
    "g_minus": "Conductance G−",
    "pulses": "Pulses per pair",
    "stuck": "Stuck cells per pair",
    "waterfall": "Spectrum over time",
}
TITLES: Mapping[str, str] = {
    "loss": "Loss",
    "accuracy": "Test accuracy",
    "energy": "Captured energy",
    "spectrum": "Gradient spectrum",
    "angle": "Angle to the optimum",
    **_MAP_TITLES,
    "histogram": "Conductance histogram",
    "cost": "Cost",
}


def _blank_map() -> LiveFigure:
    blank = heat_map(np.zeros((2, 2)), title=" ", unit=" ", limits=(-1.0, 1.0))
    return LiveFigure(blank, follow="", pixels=True)


def _draw_map(live: LiveFigure, snapshot: Snapshot, name: str) -> str:
    title, shown = f"{_MAP_TITLES[name]}, {snapshot.focus.layer}", snapshot.maps.get(name)
    if shown is None:
        reason = "no step yet" if name == "waterfall" else _ON_CELLS
        return f"{title}: {reason}"
    columns, (high, wide) = shown.shape[1], shown.block
    limits, unit = shown.limits, shown.unit
    if unit == "S":
        factor, unit = siemens_prefix(limits[1])
        limits = (limits[0] * factor, limits[1] * factor)
    live.set_palette(_DIVERGING if unit == "weight" else _SEQUENTIAL)
    if name == "waterfall":
        unit = "log10"
        live.label_axes(x="training step", y="component")
    pixel_rows, pixel_columns = shown.pixels.shape
    covered = columns if name == "waterfall" else pixel_columns * wide
    box = (shown.begin, covered, pixel_rows * high)
    live.set_pixels(shown.pixels, box=box, limits=limits, unit=unit)
    reduced = f" (a pixel: mean of {high} × {wide})" if (high, wide) != (1, 1) else ""
    return title + reduced


# --- the table ----------------------------------------------------------------------------------


def cost_html(spending: Spending, pulses: int) -> str:
    """What writing has cost, against full-gradient training of the same samples."""
    written, full = spending.outer_products
    held, words = spending.gradient_words
    rows = [
        ("Gradient memory (words)", f"{held:,}", f"{words:,}"),
        ("Outer products written", f"{written:,}", f"{full:,} *"),
    ]
    if spending.cost is not None:
        cost = spending.cost
        rows.append(("Pulses written", f"{pulses:,}", "–"))
        if spending.expected_pulses is not None:
            now, sample_wise = spending.expected_pulses
            rows.append(("Pulses of the last step *", f"{now:,.0f}", f"{sample_wise:,.0f}"))
        rows += [
            ("Energy of writes †", _joules(cost.write_energy), "–"),
            ("Energy of reads †", _joules(cost.read_energy), "–"),
            ("Time of writes †", _seconds(cost.write_time), "–"),
            ("Time of reads †", _seconds(cost.read_time), "–"),
        ]
    body = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:400">{name}</th>'
        f"<td>{mine}</td><td>{theirs}</td></tr>"
        for name, mine, theirs in rows
    )
    note = "* computed, not simulated: the same samples, one outer product each"
    if spending.cost is not None:
        note += "; pulses: the average of stochastic rounding.<br>† cells only, since programmed"
    return (
        "<style>td,thead th{text-align:right;padding:3px 8px;font-variant-numeric:tabular-nums}"
        "</style>"
        '<table style="border-collapse:collapse;font-size:13px;width:100%"><thead><tr><td></td>'
        '<th scope="col">this run</th><th scope="col">full gradient</th></tr></thead>'
        f'<tbody>{body}</tbody></table><p style="font-size:12px;margin:6px 0">{note}.</p>'
    )


def _joules(value: float) -> str:
    return _prefixed(value, "J")


def _seconds(value: float) -> str:
    return _prefixed(value, "s")


def _prefixed(value: float, unit: str) -> str:
    for factor, prefix in ((1.0, ""), (1e3, "m"), (1e6, "µ"), (1e9, "n"), (1e12, "p")):
        if abs(value) * factor >= 1:
            return f"{value * factor:,.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
