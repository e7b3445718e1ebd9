"""What an accuracy costs on a kind of cell: the algorithms that nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import holoviews as hv
import numpy as np

from toolkit.plots.elements import BLUE, GREY, framed

_APART = 2.0  # ratio of costs from which names have room
Point = tuple[float, float]  # what it costs, accuracy in percent


def front(points: Mapping[str, Point]) -> list[str]:
    """The names of the points that no other one beats, by cost: none is cheaper and as accurate."""
    best, names = -np.inf, []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if points[name][1] > best:
            best = points[name][1]
            names.append(name)
    return names


def trade_off(points: Mapping[str, Point], cost: str, title: str) -> hv.Overlay:
    """Accuracy against cost; a line joins the points of :func:`front`, by name.

    Costs are on a log axis; one of 0 is drawn at a third of the next, as the axis says.
    Where names would overlap, the later one is left to the tooltip.
    """
    least = min((x for x, _ in points.values() if x > 0), default=1.0)
    placed = {name: (x or least / 3, y) for name, (x, y) in points.items()}
    label = (
        f"{cost}; 0 is drawn at {least / 3:.3g}" if 0 in (x for x, _ in points.values()) else cost
    )
    tips = [("", "@algorithm"), ("accuracy", "@accuracy %"), (cost, "@spent")]
    ahead = front(points)
    corners = [(*placed[name], name, points[name][0]) for name in ahead]
    named = corners[:1]
    named += [b for a, b in pairwise(corners) if b[0] > _APART * a[0]]
    rest = [(*placed[name], name, points[name][0]) for name in placed if name not in ahead]
    dims = {"kdims": "cost", "vdims": ["accuracy", "algorithm", "spent"]}
    hover = {"tools": ["hover"], "hover_tooltips": tips}
    drawn = [
        hv.Curve([corner[:2] for corner in corners], "cost", "accuracy").opts(
            color=BLUE, interpolation="steps-post", line_width=1.5
        ),
        hv.Scatter(rest, **dims).opts(color=GREY, size=7, **hover),
        hv.Scatter(corners, **dims).opts(color=BLUE, size=9, **hover),
        hv.Labels([corner[:3] for corner in named], ["cost", "accuracy"], "algorithm").opts(
            text_font_size="9pt", text_align="right", text_baseline="bottom", xoffset=0,
            text_color=BLUE,
        ),
    ]  # fmt: skip
    heights = [y for _, y in placed.values()] or [100.0]
    low = max(min(heights), max(heights) - 30)
    costs = [x for x, y in placed.values() if y >= low] or [1.0]
    room = max(2.5, (max(costs) / min(costs)) ** 0.35)  # for the name of the cheapest, on its left
    return framed(hv.Overlay(drawn), title, label, "test accuracy (%)", logx=True).opts(
        xlim=(min(costs) / room, 1.5 * max(costs)), ylim=(low - 2, 101)
    )
