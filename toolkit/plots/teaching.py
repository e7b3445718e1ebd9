"""Figures that the notebooks draw again and again: named curves and named bars, with units.

What is drawn is computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh  # registers the backend; hv.extension would load it from a CDN
import numpy as np

hv.Store.set_current_backend("bokeh")

# Okabe and Ito's colours, told apart by colour-blind readers; grey for what is only a reference
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#7f7f7f"
_FONTS = {"title": "11pt", "labels": "10pt", "ticks": "9pt", "legend": "9pt"}
_LEGEND = {"background_fill_alpha": 0.6, "padding": 3, "spacing": 0}
Limits = tuple[float, float]


def named_curves(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    x: str,
    y: str,
    title: str = "",
    references: Mapping[str, tuple[Any, Any]] | None = None,
    logx: bool = False,
    logy: bool = False,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    legend: str = "top_right",
    points: bool = False,
    width: int = 560,
) -> hv.Overlay:
    """Curves by name, each (x values, y values); ``references`` are dashed and grey.

    ``x`` and ``y`` label the axes, with units; ``points`` marks every value. With ``xlim`` and
    ``ylim`` the frame stands still while a slider moves. On a log axis what is not above 0 is
    left out.
    """
    dims = {"kdims": [hv.Dimension("x", label=x)], "vdims": [hv.Dimension("y", label=y)]}
    colours = dict(zip(curves, COLOURS, strict=False))
    layers = []
    for name, (along, values) in {**curves, **(references or {})}.items():
        data = _shown(along, values, logx=logx, logy=logy)
        dash = "solid" if name in colours else "dashed"
        style = {"color": colours.get(name, GREY), "line_width": 2, "line_dash": dash}
        layers.append(hv.Curve(data, label=name, **dims).opts(**style))
        if points and name in colours:
            layers.append(hv.Scatter(data, label=name, **dims).opts(color=colours[name], size=6))
    limits = {key: value for key, value in (("xlim", xlim), ("ylim", ylim)) if value is not None}
    return hv.Overlay(layers).opts(
        title=title,
        logx=logx,
        logy=logy,
        legend_position=legend,
        legend_opts=_LEGEND,
        show_legend=len(layers) > 1,
        **limits,
        **_frame(width),
    )


def named_bars(
    bars: Mapping[str, float],
    *,
    y: str,
    x: str = "",
    title: str = "",
    ylim: Limits | None = None,
    width: int = 560,
) -> hv.Bars:
    """One bar for each name; ``y`` labels the axis, with its unit."""
    data = {"name": list(bars), "value": [float(value) for value in bars.values()]}
    shown = hv.Bars(data, hv.Dimension("name", label=x or " "), hv.Dimension("value", label=y))
    turned = max(map(len, bars), default=0) * len(bars) > width // 9
    return shown.opts(
        title=title,
        color=COLOURS[0],
        xrotation=35 if turned else 0,
        **({} if ylim is None else {"ylim": ylim}),
        **_frame(width),
    )


def _frame(width: int) -> dict[str, Any]:
    return {"width": width, "height": 300, "show_grid": True, "fontsize": _FONTS}


def _shown(
    along: Sequence[float], values: Sequence[float], *, logx: bool, logy: bool
) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(along, dtype=float), np.asarray(values, dtype=float)
    keep = np.ones(xs.shape, dtype=bool)
    if logx:
        keep &= xs > 0
    if logy:
        keep &= ys > 0
    return xs[keep], ys[keep]
