"""Curves of several runs in one figure, with bands, told apart by colour and dash.

The data are columns from :class:`dashboards.race.track.Track`.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
from bokeh.models import NumeralTickFormatter

from toolkit.plots.elements import RUN_STYLES, framed

AXES = {
    "samples": "training samples seen",
    "step": "training step",
    "pulses": "pulses written",
    "seconds": "seconds of training",
}


def lane_curves(
    runs: int, *, title: str, ylabel: str, dots: bool = False, **options: Any
) -> hv.Overlay:
    """``runs`` empty curves "x", "y" in one frame, to be filled and named by a LiveFigure.

    As many bands follow them, whose outlines are "x", "y"; then, with ``dots``, as many scatters
    of single measurements, whose curves are thin.
    """
    none = np.zeros(0)
    curves = [
        hv.Curve((none, none), "x", "y", label=f"run {place}").opts(
            color=colour, line_dash=dash, line_width=1 if dots else 2
        )
        for place, (colour, dash) in enumerate(RUN_STYLES[:runs], 1)
    ]
    bands = [
        hv.Area((none, none, none), "x", ["low", "high"]).opts(
            color=colour, alpha=0.2, line_color=None
        )
        for colour, _ in RUN_STYLES[:runs]
    ]
    points = [
        hv.Scatter((none, none), "x", "y").opts(color=colour, size=5) for colour, _ in RUN_STYLES
    ][: runs if dots else 0]
    options["xformatter"] = NumeralTickFormatter(format="0,0.[0]a")
    return framed(hv.Overlay(curves + bands + points), title, AXES["samples"], ylabel, **options)
