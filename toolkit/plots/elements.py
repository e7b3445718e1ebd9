"""HoloViews elements from plain arrays: one function per figure, with labels, units and colours.

``runs.py`` draws them from results; ``live.py`` animates them on a page.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh  # registers the backend; hv.extension would load it from a CDN
import numpy as np
import pandas as pd

hv.Store.set_current_backend("bokeh")

# Okabe and Ito's palette, which colour-blind readers can tell apart; grey is for references
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7f7f7f"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
WINDOW = 10  # batches in the running mean of the captured energy
# Colour and dash of the runs in one figure, in order
_DASHES = ("solid", "dashed", "dotdash", "dotted", "solid", "dashed")
RUN_STYLES = tuple(zip(COLOURS, _DASHES, strict=False))
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
_FONTS = {"title": "11pt", "labels": "10pt", "ticks": "9pt", "legend": "9pt", "cticks": "9pt"}
_FRAME = {"responsive": True, "height": 270, "show_grid": True, "fontsize": _FONTS}
_LEGEND = {"background_fill_alpha": 0.6, "padding": 3, "spacing": 0}


def framed(element: Any, title: str, x: str, y: str, *, legend: str = "", **options: Any) -> Any:
    """Return the element with a title and axis labels, in the style of all figures."""
    if legend:
        options |= {"legend_position": legend, "legend_opts": _LEGEND}
    return element.opts(title=title, xlabel=x, ylabel=y, **{**_FRAME, **options})


def loss_curve(
    steps: np.ndarray, losses: np.ndarray, changes: np.ndarray | None = None
) -> hv.Overlay:
    """Training loss per step on a log axis; a vertical line marks each knob change."""
    curve = hv.Curve((steps, losses), "step", "loss").opts(color=BLUE, line_width=1.5)
    marked = curve * _marks(changes)
    return framed(marked, "Loss", "training step", "cross-entropy (nat)", logy=True)


def accuracy_curve(
    steps: np.ndarray, accuracy: np.ndarray, changes: np.ndarray | None = None
) -> hv.Overlay:
    """Test accuracy in percent per step; ``accuracy`` is a fraction. Changes are marked."""
    percent = 100 * np.asarray(accuracy, dtype=float)
    data = (steps, percent)
    curve = hv.Curve(data, "step", "accuracy").opts(color=GREEN, line_width=1.5)
    points = hv.Scatter(data, "step", "accuracy").opts(color=GREEN, size=4)
    marked = curve * points * _marks(changes)
    return framed(marked, "Test accuracy", "training step", "correct (%)", ylim=(0, 100))


def _marks(changes: np.ndarray | None) -> hv.VLines:
    return hv.VLines([] if changes is None else changes).opts(color=GREY, alpha=0.6, line_width=2)


def spectrum_points(singular_value: np.ndarray, sigma: np.ndarray) -> hv.Overlay:
    """Singular values of the gradient and sigma of the estimate on a log axis."""
    true = spectrum_columns(singular_value)
    curve = hv.Curve(true, "component", "value", label="gradient").opts(color=GREY)
    points = hv.Scatter(spectrum_columns(sigma), "component", "value", label="update").opts(
        color=ORANGE, size=7
    )
    labels = "Gradient spectrum", "component", "singular value"
    return framed(curve * points, *labels, legend="top_right", logy=True)


def energy_curves(steps: np.ndarray, captured: np.ndarray, optimal: np.ndarray) -> hv.Overlay:
    """Energy (percent of ``|G|^2``) that the estimate captures, and the most that its rank allows.

    The captured energy is a running mean over ``WINDOW`` batches; a band shows their range.
    """
    best = hv.Curve((steps, 100 * np.asarray(optimal)), "step", "energy", label="optimal")
    mean, band = energy_columns(steps, captured)
    found = hv.Curve(mean, "step", "energy", label="captured (mean)")
    single = hv.Area(band, "step", ["low", "high"]).opts(color=ORANGE, alpha=0.25, line_width=0)
    drawn = single * best.opts(color=GREY) * found.opts(color=ORANGE)
    labels = "Captured energy", "training step", "gradient energy (%)"
    return framed(drawn, *labels, legend="bottom_right", ylim=(-5, 105))


def energy_columns(
    steps: np.ndarray, captured: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Running mean of the captured energy, and its minimum and maximum within the window."""
    rolling = pd.Series(100 * np.asarray(captured, dtype=float)).rolling(WINDOW, min_periods=1)
    mean = {"step": steps, "energy": rolling.mean().to_numpy()}
    return mean, {"step": steps, "low": rolling.min().to_numpy(), "high": rolling.max().to_numpy()}


def angle_curve(steps: np.ndarray, degrees: np.ndarray) -> hv.Curve:
    """Largest principal angle between the estimated and the optimal subspaces."""
    curve = hv.Curve((steps, degrees), "step", "angle").opts(color=ORANGE, line_width=1.5)
    labels = "Angle to the optimum", "training step", "largest angle (degrees)"
    return framed(curve, *labels, ylim=(0, 92))


def conductance_shares(centre: np.ndarray, plus: np.ndarray, minus: np.ndarray) -> hv.Overlay:
    """Percentage of the G+ and G- cells in equal conductance bins; the x axis is in siemens."""
    curves = [
        hv.Curve((centre, share), "conductance", "share", label=name).opts(color=colour)
        for name, share, colour in (("G+", plus, BLUE), ("G−", minus, ORANGE))
    ]
    labels = "Conductance histogram", "conductance (S)", "cells per bin (%)"
    return framed(curves[0] * curves[1], *labels, legend="top_right")


def heat_map(
    values: np.ndarray,
    *,
    title: str,
    unit: str,
    limits: tuple[float, float],
    diverging: bool = False,
) -> hv.Image:
    """Heat map of a matrix (outputs, inputs) between fixed ``limits``, with row 0 on top."""
    labels = title, "input (column)", "output (row)"
    return coloured(values, *labels, unit=unit, limits=limits, diverging=diverging)


def coloured(
    values: np.ndarray,
    *labels: str,
    unit: str,
    limits: tuple[float, float],
    diverging: bool,
) -> hv.Image:
    """Heat map of a matrix with row 0 on top; ``labels`` are title, x and y."""
    rows, columns = values.shape
    image = hv.Image(values[::-1], ["x", "y"], "value", bounds=(0, 0, columns, rows)).opts(
        cmap=DIVERGING if diverging else SEQUENTIAL,
        clim=limits,
        colorbar=True,
        clabel=unit,
        invert_yaxis=True,
    )
    return framed(image, *labels, show_grid=False)


def siemens_prefix(largest: float) -> tuple[float, str]:
    """Return a factor and unit that suit conductances up to ``largest`` siemens."""
    for factor, unit in ((1e9, "nS"), (1e6, "µS"), (1e3, "mS")):
        if largest * factor < 1000:
            return factor, unit
    return 1.0, "S"


def spectrum_columns(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``component``, counted from 1, and ``value`` for a log axis.

    Values below 1e-7 of the largest are float32 rounding errors and are omitted.
    """
    values = np.asarray(values, dtype=float)
    floor = 1e-7 * np.nanmax(values, initial=0.0)
    shown = values > floor
    return {"component": np.flatnonzero(shown) + 1, "value": values[shown]}
