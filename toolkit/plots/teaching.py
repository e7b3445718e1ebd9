"""Figures that several notebooks draw: named curves, bands and bars, with units.

The notebooks compute the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np

from toolkit.plots.elements import COLOURS, GREY, framed

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
    ``ylim`` the frame stays fixed while a slider moves. On a log axis, values that are not positive
    are omitted.
    """
    colours = dict(zip(curves, COLOURS, strict=False))
    layers = []
    for name, (along, values) in {**curves, **(references or {})}.items():
        data = _shown(along, values, logx=logx, logy=logy)
        dash = "solid" if name in colours else "dashed"
        style = {"color": colours.get(name, GREY), "line_width": 2, "line_dash": dash}
        layers.append(hv.Curve(data, "x", "y", label=name).opts(**style))
        if points and name in colours:
            dots = hv.Scatter(data, "x", "y", label=name)
            layers.append(dots.opts(color=colours[name], size=6))
    limits = {key: value for key, value in (("xlim", xlim), ("ylim", ylim)) if value is not None}
    many = len(layers) > 1
    options = {"logx": logx, "logy": logy, "show_legend": many, **limits, **_fixed(width)}
    return framed(hv.Overlay(layers), title, x, y, legend=legend, **options)


def named_bands(
    bands: Mapping[str, tuple[Any, Any, Any]],
    *,
    x: str,
    y: str,
    title: str = "",
    ylim: Limits | None = None,
    legend: str = "bottom_right",
    width: int = 560,
    svg: bool = False,
) -> hv.Overlay:
    """Curves by name, each (x values, means, half-widths), with a band from mean - to mean + half.

    ``svg`` makes the figure's save button write an SVG file, for print.
    """
    layers: list[Any] = []
    for (name, (along, mean, half)), colour in zip(bands.items(), COLOURS, strict=False):
        data = tuple(np.asarray(part, dtype=float) for part in (along, mean, half))
        spread = hv.Spread(data, "x", ["y", "half"], label=name)
        layers.append(spread.opts(color=colour, fill_alpha=0.2, line_alpha=0.0))
        curve = hv.Curve(data[:2], "x", "y", label=name)
        layers.append(curve.opts(color=colour, line_width=2))
    options = {"backend_opts": {"plot.output_backend": "svg" if svg else "canvas"}}
    options |= _fixed(width, height=360) | ({} if ylim is None else {"ylim": ylim})
    return framed(hv.Overlay(layers), title, x, y, legend=legend, **options)


def named_bars(
    bars: Mapping[str, float],
    *,
    y: str,
    x: str = "",
    title: str = "",
    ylim: Limits | None = None,
    width: int = 560,
) -> hv.Bars:
    """One bar per name; ``y`` labels the axis, with its unit."""
    data = {"name": list(bars), "value": [float(value) for value in bars.values()]}
    turned = max(map(len, bars), default=0) * len(bars) > width // 9
    options = _fixed(width) | ({} if ylim is None else {"ylim": ylim})
    shown = hv.Bars(data, "name", "value").opts(color=COLOURS[0], xrotation=35 if turned else 0)
    return framed(shown, title, x or " ", y, **options)


def _fixed(width: int, height: int = 300) -> dict[str, Any]:
    return {"responsive": False, "width": width, "height": height}


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
