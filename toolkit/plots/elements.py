"""Elements from plain arrays: one function a figure, with its labels, units and colours.

``runs.py`` draws them from results, ``live.py`` keeps them moving in a page.
"""

from __future__ import annotations

import holoviews as hv
import holoviews.plotting.bokeh  # registers the backend; hv.extension would load it from a CDN
import numpy as np

hv.Store.set_current_backend("bokeh")

# Okabe and Ito's colours, told apart by colour-blind readers
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7f7f7f"
# Runs in one figure, in their order: colour and dash
RUN_STYLES = (
    (BLUE, "solid"),
    (ORANGE, "dashed"),
    (GREEN, "dotdash"),
    ("#CC79A7", "dotted"),
    ("#E69F00", "solid"),
    ("#56B4E9", "dashed"),
)
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
_FONTS = {"title": "11pt", "labels": "10pt", "ticks": "9pt", "legend": "9pt", "cticks": "9pt"}
_LEGEND = {"legend_opts": {"background_fill_alpha": 0.6, "padding": 3, "spacing": 0}}
_FRAME = {"responsive": True, "height": 270, "show_grid": True, "fontsize": _FONTS}


def loss_curve(
    steps: np.ndarray, losses: np.ndarray, changes: np.ndarray | None = None
) -> hv.Overlay:
    """Training loss over steps, on a log axis; a vertical line marks each knob change."""
    curve = hv.Curve((steps, losses), "step", "loss").opts(color=BLUE, line_width=1.5)
    return (curve * _marks(changes)).opts(
        logy=True, xlabel="training step", ylabel="cross-entropy (nat)", title="Loss", **_FRAME
    )


def accuracy_curve(
    steps: np.ndarray, accuracy: np.ndarray, changes: np.ndarray | None = None
) -> hv.Overlay:
    """Test accuracy in percent over steps; ``accuracy`` is a fraction; changes are marked."""
    percent = 100 * np.asarray(accuracy, dtype=float)
    data = (steps, percent)
    curve = hv.Curve(data, "step", "accuracy").opts(color=GREEN, line_width=1.5)
    points = hv.Scatter(data, "step", "accuracy").opts(color=GREEN, size=4)
    return (curve * points * _marks(changes)).opts(
        ylim=(0, 100), xlabel="training step", ylabel="correct (%)", title="Test accuracy", **_FRAME
    )


def _marks(changes: np.ndarray | None) -> hv.VLines:
    return hv.VLines([] if changes is None else changes).opts(color=GREY, alpha=0.6, line_width=2)


def spectrum_points(singular_value: np.ndarray, sigma: np.ndarray) -> hv.Overlay:
    """Singular values of the true gradient against sigma of the estimate, on a log axis."""
    true = spectrum_columns(singular_value)
    curve = hv.Curve(true, "component", "value", label="true").opts(color=GREY)
    points = hv.Scatter(spectrum_columns(sigma), "component", "value", label="sigma").opts(
        color=ORANGE, size=7
    )
    return (curve * points).opts(
        logy=True,
        legend_position="top_right",
        **_LEGEND,
        xlabel="component",
        ylabel="singular value",
        title="Gradient spectrum",
        **_FRAME,
    )


def energy_curves(steps: np.ndarray, captured: np.ndarray, optimal: np.ndarray) -> hv.Overlay:
    """Energy (percent of |G|^2) that the estimate captures, and the most that its rank can."""
    best = hv.Curve((steps, 100 * np.asarray(optimal)), "step", "energy", label="optimal")
    found = hv.Curve((steps, 100 * np.asarray(captured)), "step", "energy", label="captured")
    return (best.opts(color=GREY) * found.opts(color=ORANGE)).opts(
        ylim=(-5, 105),
        legend_position="bottom_right",
        **_LEGEND,
        xlabel="training step",
        ylabel="gradient energy (%)",
        title="Captured energy",
        **_FRAME,
    )


def angle_curve(steps: np.ndarray, degrees: np.ndarray) -> hv.Curve:
    """Largest principal angle between the estimate's subspaces and the optimal ones."""
    return hv.Curve((steps, degrees), "step", "angle").opts(
        color=ORANGE,
        line_width=1.5,
        ylim=(0, 92),
        xlabel="training step",
        ylabel="largest angle (degrees)",
        title="Angle to the optimum",
        **_FRAME,
    )


def conductance_shares(centre: np.ndarray, plus: np.ndarray, minus: np.ndarray) -> hv.Overlay:
    """Percent of the cells in equal bins of conductance, G+ and G-; the x axis in siemens."""
    curves = [
        hv.Curve((centre, share), "conductance", "share", label=name).opts(color=colour)
        for name, share, colour in (("G+", plus, BLUE), ("G−", minus, ORANGE))
    ]
    return (curves[0] * curves[1]).opts(
        legend_position="top_right",
        **_LEGEND,
        xlabel="conductance (S)",
        ylabel="cells per bin (%)",
        title="Conductance histogram",
        **_FRAME,
    )


def heat_map(
    values: np.ndarray,
    *,
    title: str,
    unit: str,
    limits: tuple[float, float],
    diverging: bool = False,
) -> hv.Image:
    """A matrix (outputs, inputs) as colours between fixed ``limits``, row 0 on top."""
    rows, columns = values.shape
    return hv.Image(
        values[::-1], kdims=["input", "output"], vdims=["value"], bounds=(0, 0, columns, rows)
    ).opts(
        cmap=DIVERGING if diverging else SEQUENTIAL,
        clim=limits,
        colorbar=True,
        clabel=unit,
        invert_yaxis=True,
        xlabel="input (column)",
        ylabel="output (row)",
        title=title,
        **{**_FRAME, "show_grid": False},
    )


def siemens_prefix(largest: float) -> tuple[float, str]:
    """The factor and unit in which conductances up to ``largest`` siemens read well."""
    for factor, unit in ((1e9, "nS"), (1e6, "µS"), (1e3, "mS")):
        if largest * factor < 1000:
            return factor, unit
    return 1.0, "S"


def spectrum_columns(values: np.ndarray) -> dict[str, np.ndarray]:
    """``component`` counted from 1 and ``value``, without what a log axis cannot show.

    Values below 1e-7 of the largest are rounding (float32) and left out.
    """
    values = np.asarray(values, dtype=float)
    floor = 1e-7 * np.nanmax(values, initial=0.0)
    shown = values > floor
    return {"component": np.flatnonzero(shown) + 1, "value": values[shown]}
