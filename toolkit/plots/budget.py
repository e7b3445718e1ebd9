"""Figures of a chip's budget: energy and time by part, and numbers held against m n.

The ``*_columns`` functions return the next data of a :class:`toolkit.plots.live.LiveFigure` of the
same element, glyph after glyph.
"""

from __future__ import annotations

import math
from itertools import pairwise

import holoviews as hv
import numpy as np
import xarray as xr

from toolkit.plots.elements import BLUE, COLOURS, GREY, ORANGE, framed
from toolkit.plots.live import LiveFigure

NAMES = {"energy": ("energy of a batch", "J"), "time": ("time of a batch", "s")}
_PREFIXES = ((1e15, "f"), (1e12, "p"), (1e9, "n"), (1e6, "µ"), (1e3, "m"), (1.0, ""))
_BOX = ["left", "bottom", "right", "top"]

Columns = list[dict[str, np.ndarray]]


def prefix(largest: float, unit: str) -> tuple[float, str]:
    """The factor and unit in which values up to ``largest`` read well."""
    found = next(((f, p) for f, p in _PREFIXES if largest * f < 1000), (1.0, ""))
    return found[0], found[1] + unit


def stacked_parts(found: xr.Dataset, quantity: str, *, shares: bool = False) -> hv.Overlay:
    """A bar for each method, stacked by part; whiskers from the low to the high prices.

    Amounts are on a log axis: a bar ends at its total, and the parts divide its length by their
    shares.

    Parameters
    ----------
    found
        What :func:`toolkit.budget.compare` returns.
    quantity
        "energy" or "time".
    shares
        Percent of each method's total, without whiskers.
    """
    *boxes, whiskers = part_columns(found, quantity, shares=shares)
    names = [str(name) for name in found["algorithm"].values]
    bars = [
        hv.Rectangles(tuple(box[side] for side in _BOX), _BOX, label=str(part)).opts(
            color=colour, line_alpha=0, show_legend=True
        )
        for part, box, colour in zip(found["part"].values, boxes, COLOURS, strict=False)
    ]
    ends = ["x0", "y0", "x1", "y1"]
    lines = hv.Segments(tuple(whiskers[end] for end in ends), ends).opts(color=GREY, line_width=2)
    return framed(
        hv.Overlay([*bars, lines]),
        part_title(quantity, shares=shares),
        part_label(found, quantity, shares=shares),
        " ",
        legend="top",
        legend_cols=2,
        logx=not shares,
        ylim=(0, len(names)),
        invert_yaxis=True,
        yticks=[(place + 0.5, name) for place, name in enumerate(names)],
    )


def part_title(quantity: str, *, shares: bool = False) -> str:
    """The caption of :func:`stacked_parts`."""
    title = NAMES[quantity][0].capitalize()
    return f"{title}, share of each part" if shares else f"{title}, by part"


def part_label(found: xr.Dataset, quantity: str, *, shares: bool = False) -> str:
    """The label of the bars' axis, with its unit."""
    name, _ = NAMES[quantity]
    return f"{name} (%)" if shares else f"{name} ({_scale(found, quantity)[1]})"


def part_columns(found: xr.Dataset, quantity: str, *, shares: bool = False) -> Columns:
    """The boxes of each part and the whiskers, as :func:`stacked_parts` draws them."""
    values = found[quantity].sum("layer").transpose("part", "algorithm", "price").values
    typical, totals = values[:, :, 1], values.sum(0)
    ends = np.cumsum(typical, axis=0) / np.maximum(typical.sum(0), 1e-300)
    ends = np.concatenate([np.zeros_like(ends[:1]), ends])
    if shares:
        ends, totals = 100 * ends, totals[:0]
    else:
        totals = totals * _scale(found, quantity)[0]
        floor = 10.0 ** math.floor(math.log10(totals[totals > 0].min(initial=1e300)))
        totals = np.maximum(totals, floor)
        ends = floor * (totals[:, 1] / floor) ** ends
    place = np.arange(typical.shape[1], dtype=float)
    boxes = [
        dict(zip(_BOX, (start, place + 0.2, end, place + 0.8), strict=True))
        for start, end in pairwise(ends)
    ]
    return [*boxes, _whiskers(totals)]


def show_parts(live: LiveFigure, found: xr.Dataset, quantity: str, *, shares: bool = False) -> None:
    """Put other budgets into a figure of :func:`stacked_parts`, made with ``follow="x"``.

    The figure must have been made with the same ``shares``.
    """
    for glyph, columns in enumerate(part_columns(found, quantity, shares=shares)):
        live.set_columns(glyph, columns)
    live.name_rows([str(name) for name in found["algorithm"].values])
    live.label_axes(x=part_label(found, quantity, shares=shares), y=" ")


def _scale(found: xr.Dataset, quantity: str) -> tuple[float, str]:
    largest = found[quantity].sum(["layer", "part"]).max()
    return prefix(float(largest), NAMES[quantity][1])


def _whiskers(totals: np.ndarray) -> dict[str, np.ndarray]:
    """A line from low to high for each total (methods, prices), and its two ends."""
    low, high = (totals[:, 0], totals[:, 2]) if len(totals) else (np.zeros(0), np.zeros(0))
    middle = np.arange(len(low)) + 0.5
    return {
        "x0": np.concatenate([low, low, high]),
        "y0": np.concatenate([middle, middle - 0.15, middle - 0.15]),
        "x1": np.concatenate([high, low, high]),
        "y1": np.concatenate([middle, middle + 0.15, middle + 0.15]),
    }


def crossing(rank: int) -> int:
    """The side of the smallest square layer in which factors of this rank save numbers.

    k (2 s + 1) < s^2 from s = k + sqrt(k^2 + k) on.
    """
    return math.floor(rank + math.sqrt(rank * rank + rank)) + 1


def numbers_held(one: xr.Dataset, rank: int) -> hv.Overlay:
    """Numbers that a method holds for each layer over m n, on log axes.

    Grey: m n itself, what a gradient takes. Dashed: factors of this rank of square layers; the
    vertical line is where they cross.

    Parameters
    ----------
    one
        One method's budget, such as ``compare(...).sel(algorithm="sbpca")``.
    rank
        k of the factors.
    """
    same, square, cross, kept, both = numbers_columns(one, rank)
    names = numbers_names(rank)
    styles = (("solid", GREY), ("dashed", BLUE), ("dotted", GREY))
    lines = [
        hv.Curve((data["x"], data["y"]), "x", "y", label=name).opts(
            color=colour, line_dash=dash, line_width=2
        )
        for data, name, (dash, colour) in zip((same, square, cross), names, styles, strict=False)
    ]
    points = [
        hv.Scatter((data["x"], data["y"], data["layer"]), "x", ["y", "layer"], label=name).opts(
            color=colour, size=9, marker=marker, alpha=0.8, tools=["hover"]
        )
        for data, name, colour, marker in zip(
            (kept, both), names[3:], (BLUE, ORANGE), ("circle", "diamond"), strict=True
        )
    ]
    return framed(
        hv.Overlay([*lines, *points]),
        numbers_title(rank),
        "weights of the layer, m × n",
        "numbers held",
        legend="top",
        legend_cols=2,
        logx=True,
        logy=True,
    )


def show_numbers(live: LiveFigure, one: xr.Dataset, rank: int) -> None:
    """Put another budget into a figure of :func:`numbers_held`."""
    for glyph, columns in enumerate(numbers_columns(one, rank)):
        live.set_columns(glyph, columns)
    live.name_curves(numbers_names(rank))


def numbers_title(rank: int) -> str:
    """The caption of :func:`numbers_held`."""
    side = crossing(rank)
    return f"Below {side} × {side}, rank {rank} saves nothing"


def numbers_names(rank: int) -> list[str]:
    """The legend of :func:`numbers_held`."""
    side = crossing(rank)
    return [
        "m × n",
        f"rank {rank}, square",
        f"{side} × {side}",
        "kept",
        "kept + buffered",
    ]


def numbers_columns(one: xr.Dataset, rank: int) -> Columns:
    """The three lines and the points of :func:`numbers_held`."""
    size = (one["outputs"] * one["inputs"]).values.astype(float)
    kept, buffered = (one[name].values.astype(float) for name in ("words_kept", "words_buffered"))
    cross = rank + math.sqrt(rank * rank + rank)
    ends = np.array([min(size.min(), cross**2) / 2, max(size.max(), cross**2) * 2])
    x = np.geomspace(ends[0], ends[1], 50)
    low = min(kept[kept > 0].min(initial=np.inf), ends[0])
    layer = one["layer"].values.astype(str)
    return [
        {"x": ends, "y": ends},
        {"x": x, "y": rank * (2 * np.sqrt(x) + 1)},
        {"x": np.full(2, cross**2), "y": np.array([low, ends[1]])},
        *(
            {"x": size, "y": np.where(y > 0, y, np.nan), "layer": layer}
            for y in (kept, kept + buffered)
        ),
    ]
