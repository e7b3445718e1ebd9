"""Means with a band of uncertainty: several curves, each with what its seeds leave open.

The means and half-widths are computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np

from toolkit.plots.teaching import COLOURS

Band = tuple[Any, Any, Any]


def named_bands(
    bands: Mapping[str, Band],
    *,
    x: str,
    y: str,
    title: str = "",
    ylim: tuple[float, float] | None = None,
    legend: str = "bottom_right",
    width: int = 560,
    svg: bool = False,
) -> hv.Overlay:
    """Curves by name, each (x values, means, half-widths), with a band from mean - to mean + half.

    ``svg`` makes the save button of the figure's toolbar write an SVG file, for print.
    """
    layers: list[Any] = []
    for (name, (along, mean, half)), colour in zip(bands.items(), COLOURS, strict=False):
        data = tuple(np.asarray(part, dtype=float) for part in (along, mean, half))
        dims = [hv.Dimension("y", label=y), "half"]
        spread = hv.Spread(data, hv.Dimension("x", label=x), dims, label=name)
        layers.append(spread.opts(color=colour, fill_alpha=0.2, line_alpha=0.0))
        curve = hv.Curve(data[:2], hv.Dimension("x", label=x), dims[0], label=name)
        layers.append(curve.opts(color=colour, line_width=2))
    return hv.Overlay(layers).opts(
        title=title,
        width=width,
        height=360,
        show_grid=True,
        legend_position=legend,
        backend_opts={"plot.output_backend": "svg" if svg else "canvas"},
        **({} if ylim is None else {"ylim": ylim}),
    )
