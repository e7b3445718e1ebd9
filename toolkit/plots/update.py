"""A low-rank update as a crossbar applies it: vectors on its rows and columns, and their sum."""

from __future__ import annotations

import holoviews as hv
import numpy as np
from bokeh.models import CustomJSTickFormatter

from toolkit.plots.elements import DIVERGING, ORANGE, framed

STRIP, GAP = 0.22, 0.03  # width of the vectors' strips, and the gap to the array: of its size
_NUMBERS = "return tick < 0 ? '' : tick"  # of rows and columns, not of the strips
Box = tuple[float, float, float, float]  # x, y, width, height


def outer_products(left: np.ndarray, sigma: np.ndarray, right: np.ndarray) -> hv.Overlay:
    """Draw ``left @ diag(sigma) @ right.T`` with its factors along the edges of the array.

    Columns of ``left`` (m, k) stand on the left, one a component; columns of ``right`` (n, k) lie
    on top; a square in the corner has an area in proportion to the component's ``sigma`` (k,).
    Red is positive and blue negative, each vector and the sum scaled to their largest value.
    """
    images = [
        hv.Image(part[::-1], ["x", "y"], "value", bounds=(x, y, x + width, y + height)).opts(
            cmap=DIVERGING, clim=(-1.0, 1.0)
        )
        for part, (x, y, width, height) in zip(
            scaled_parts(left, sigma, right), boxes(len(left), len(right)), strict=True
        )
    ]
    weights = hv.Rectangles(squares(sigma, len(left), len(right))).opts(
        color=ORANGE, line_color=None
    )
    drawn = hv.Overlay([*images, weights]).opts(
        invert_yaxis=True,
        xlim=(-_edge(len(right)), len(right)),
        ylim=(-_edge(len(left)), len(left)),
        xformatter=CustomJSTickFormatter(code=_NUMBERS),
        yformatter=CustomJSTickFormatter(code=_NUMBERS),
    )
    title = f"Update of rank {len(sigma)}"
    return framed(
        drawn, title, "input (column)", "output (row)", show_grid=False, show_legend=False
    )


def scaled_parts(left: np.ndarray, sigma: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """The sum (m, n), ``left`` (m, k) and ``right.T`` (k, n): sum and vectors within -1..1."""
    columns = [
        values / np.maximum(np.abs(values).max(0, initial=0.0), 1e-30) for values in (left, right)
    ]
    change = (left * sigma) @ right.T
    return [change / max(np.abs(change).max(initial=0.0), 1e-30), columns[0], columns[1].T]


def boxes(rows: int, columns: int) -> list[Box]:
    """Where the sum, the left vectors and the right vectors stand."""
    return [
        (0, 0, columns, rows),
        (-_edge(columns), 0, STRIP * columns, rows),
        (0, -_edge(rows), columns, STRIP * rows),
    ]


def squares(sigma: np.ndarray, rows: int, columns: int) -> list[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1) of every component's square, where its two strips would meet."""
    share = np.sqrt(np.abs(sigma) / max(np.abs(sigma).max(initial=0.0), 1e-30)) / 2
    centre = (np.arange(len(sigma)) + 0.5) / max(len(sigma), 1)
    half = 0.9 * share / max(len(sigma), 1)
    ends = [
        (-_edge(size) + STRIP * size * (centre + side * half))
        for size in (columns, rows)
        for side in (-1, 1)
    ]
    left, right, top, bottom = ends
    return list(zip(left, top, right, bottom, strict=True))


def _edge(size: int) -> float:
    """How far the strips reach beyond the array."""
    return (STRIP + GAP) * size
