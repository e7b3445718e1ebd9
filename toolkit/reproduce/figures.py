"""Figures of the claims, as HoloViews elements, and pages that hold them.

A page is one HTML file with Bokeh inside it, which needs neither a server nor a network.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from toolkit.reproduce.statistics import Interval, interval
from toolkit.writing import beside

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_FRAME = {
    "frame_width": 300,
    "frame_height": 230,
    "padding": 0.08,
    "show_grid": True,
    "toolbar": None,
    "legend_position": "right",
}


def holoviews() -> Any:
    """HoloViews with Bokeh registered, without a CDN; slow to import."""
    import holoviews as hv

    from toolkit.plots import elements  # noqa: F401

    return hv


def intervals(values: xr.DataArray, along: str) -> list[tuple[Any, Interval]]:
    """Return the interval over seeds at each measured value of ``along``."""
    found = []
    for place in values[along].values:
        here = values.sel({along: place}).values
        if np.isfinite(here).any():
            found.append((place, interval(here)))
    return found


def curve(values: xr.DataArray, along: str, *, colour: str, label: str, aside: float = 1.0) -> Any:
    """Means over seeds as a line, with bars of the confidence intervals.

    x is multiplied by ``aside``, so that bars of several curves do not overlap.
    """
    hv = holoviews()

    points = [(aside * x, i.mean, _half(i)) for x, i in intervals(values, along)]
    means = [point[:2] for point in points]
    vdim = _dimension(values)
    line = hv.Curve(means, along, vdim, label=label).opts(color=colour)
    dots = hv.Scatter(means, along, vdim, label=label).opts(color=colour, size=7)
    bars = hv.ErrorBars(points, along, [vdim, "error"]).opts(line_color=colour)
    return line * dots * bars


def level(value: Interval, *, colour: str = "#7f7f7f") -> Any:
    """A horizontal line at a mean, with its interval as a band."""
    hv = holoviews()

    half = _half(value)
    band = hv.HSpan(value.mean - half, value.mean + half).opts(color=colour, alpha=0.2)
    return band * hv.HLine(value.mean).opts(color=colour, line_dash="dashed", line_width=1.5)


def by_rank(data: xr.Dataset, *, over: str) -> Any:
    """Plot test accuracy against rank, one panel per value of ``over``, with MBGD as a level."""
    panels = []
    for place in data[over].values:
        here = data.test_accuracy.sel({over: place})
        drawn: list[Any] = []
        for i, method in enumerate(m for m in data.method.values if m != "MBGD"):
            values = here.sel({"method": method}).drop_sel({"rank": 0}, errors="ignore")
            if np.isfinite(values).any():
                colour, aside = PALETTE[i], 1.03 ** len(drawn)
                drawn.append(curve(values, "rank", colour=colour, label=str(method), aside=aside))
        reference = here.sel({"method": "MBGD", "rank": 0}).values if "MBGD" in data.method else []
        if np.isfinite(reference).any():
            drawn.append(level(interval(reference)))
        title = str(place) if over in ("task", "device") else f"batch size {place}"
        ranks = data["rank"].values[data["rank"].values > 0]
        title, limits = f"{title} (dashed: MBGD)", _with_bars(here)
        panels.append(panel(drawn, title=title, ylim=limits, **log_axis(ranks)))
    return layout(panels)


def by_batch(data: xr.Dataset, variable: str = "test_accuracy", *, logy: bool = False) -> Any:
    """Plot a variable against the batch size, one curve per method."""
    drawn = []
    for i, method in enumerate(data.method.values):
        values = data[variable].sel({"method": method})
        if np.isfinite(values).any():
            drawn.append(curve(values, "batch_size", colour=PALETTE[i], label=str(method)))
    options = {"logy": True, "ylim": around(data[variable].values)} if logy else {}
    title = f"{variable.replace('_', ' ')} by batch size".capitalize()
    return panel(drawn, title=title, **log_axis(data.batch_size.values), **options)


def trade(data: xr.Dataset, variable: str) -> Any:
    """Plot test accuracy against a cost (means over seeds), one point per method and rank."""
    hv = holoviews()

    dims = [_dimension(data[variable]), _dimension(data.test_accuracy)]
    points: list[Any] = []
    for method, rank in itertools.product(data.method.values, data["rank"].values):
        here = data.sel({"method": method, "rank": rank})
        if not np.isfinite(here.test_accuracy).any():
            continue
        place = float(here[variable].mean()), float(here.test_accuracy.mean())
        label = f"{method} {rank}" if rank else str(method)
        half = _half(interval(here.test_accuracy.values))
        dot = hv.Scatter([place], *dims, label=label)
        bars = hv.ErrorBars([(*place, half)], dims[0], [dims[1], "error"])
        points.append(dot.opts(color=PALETTE[len(points) % len(PALETTE)], size=9) * bars)
    title = f"Accuracy against {variable.replace('_', ' ')}"
    limits = around(data[variable].values)
    steps = [m * 10.0**d for d in range(10) for m in (1, 3) if limits[0] <= m * 10**d <= limits[1]]
    ticks = [(step, f"{step:,.0f}") for step in steps]
    return panel(points, title=title, logx=True, xlim=limits, xticks=ticks)


def panel(drawn: Sequence[Any], **options: Any) -> Any:
    """Overlay elements in one frame."""
    hv = holoviews()

    overlay = hv.Overlay(list(drawn)).collate()
    return overlay.opts(hv.opts.Overlay(**_FRAME, **options))


def layout(panels: Sequence[Any]) -> Any:
    """Lay out panels, two in a row."""
    hv = holoviews()

    return hv.Layout(list(panels)).opts(shared_axes=False, toolbar=None).cols(2)


def save_page(drawn: Any, path: Path, *, title: str) -> Path:
    """Write one self-contained HTML page."""
    from bokeh.embed import file_html
    from bokeh.resources import INLINE

    with beside(path) as scratch:
        scratch.write_text(
            file_html(holoviews().render(drawn), INLINE, title=title), encoding="utf-8"
        )
    return path


def log_axis(places: np.ndarray) -> dict[str, Any]:
    """Options of a logarithmic x axis with a tick at every place."""
    return {
        "logx": True,
        "xlim": around(places),
        "xticks": [(place, f"{place:g}") for place in places],
    }


def around(values: np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic axis that leave room on both sides."""
    shown = values[np.isfinite(values) & (values > 0)]
    return 0.7 * float(shown.min()), 1.4 * float(shown.max())


def _with_bars(values: xr.DataArray) -> tuple[float, float]:
    """Return limits that leave room around every mean with its bar."""
    rows = values.transpose(..., "seed").values.reshape(-1, values.sizes["seed"])
    found = [interval(row) for row in rows if np.isfinite(row).any()]
    low = min(i.mean - _half(i) for i in found)
    high = max(i.mean + _half(i) for i in found)
    room = 0.08 * max(high - low, 0.1)
    return low - room, high + room


def _half(value: Interval) -> float:
    half = value.high - value.mean
    return half if np.isfinite(half) else 0.0


def _dimension(values: xr.DataArray) -> Any:
    hv = holoviews()

    unit = str(values.attrs.get("units", "1"))
    label = str(values.name).replace("_", " ")
    return hv.Dimension(str(values.name), label=label, unit=None if unit == "1" else unit)
