"""Curves of several runs in one figure, told apart by colour and dash.

The data are columns from :class:`dashboards.race.track.Track`.
"""

from __future__ import annotations

import holoviews as hv
import numpy as np
from bokeh.models import NumeralTickFormatter

from toolkit.plots.elements import RUN_STYLES

AXES = {
    "samples": "training samples seen",
    "step": "training step",
    "pulses": "pulses written",
    "seconds": "seconds of training",
}
_FONTS = {"title": "11pt", "labels": "10pt", "ticks": "9pt"}


def lane_curves(runs: int, *, title: str, ylabel: str, **options: object) -> hv.Overlay:
    """``runs`` empty curves "x", "y" in one frame, to be filled by a LiveFigure."""
    none = np.zeros(0)
    curves = [
        hv.Curve((none, none), "x", "y").opts(color=colour, line_dash=dash, line_width=2)
        for colour, dash in RUN_STYLES[:runs]
    ]
    return hv.Overlay(curves).opts(
        title=title,
        xlabel=AXES["samples"],
        xformatter=NumeralTickFormatter(format="0,0.[0]a"),
        ylabel=ylabel,
        responsive=True,
        height=270,
        show_grid=True,
        fontsize=_FONTS,
        **options,
    )
