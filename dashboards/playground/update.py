"""Live views of one update: its outer products on the array, and what the cells made of it."""

from __future__ import annotations

from dataclasses import dataclass

import holoviews as hv
import numpy as np
import torch

from dashboards.playground.maps import (
    DIVERGING_COLOURS,
    NOTHING,
    ON_CELLS,
    SEQUENTIAL_COLOURS,
    as_pixels,
    block_means,
    round_limit,
)
from dashboards.playground.view import View
from toolkit.plots import LiveFigure, outer_products
from toolkit.plots.elements import framed
from toolkit.plots.update import boxes, scaled_parts, squares
from toolkit.training.live.snapshot import Look, Snapshot

GAP = 0.08  # between two maps, of their width


@dataclass(frozen=True)
class Factors:
    """An update's sigma, and its vectors as means over equal blocks; ``shape`` is the array's."""

    left: np.ndarray
    sigma: np.ndarray
    right: np.ndarray
    shape: tuple[int, int]


def factors(look: Look) -> Factors | None:
    """Of the last step; None before the first one."""
    if look.layer not in look.latest:
        return None
    update = look.latest[look.layer][0]
    left, right = (
        block_means(part, axes=(0,)).cpu().numpy() for part in (update.left, update.right)
    )
    return Factors(left, update.sigma.cpu().numpy(), right, update.shape)


def _blank_update() -> LiveFigure:
    nothing = np.zeros((2, 1))
    return LiveFigure(outer_products(nothing, np.zeros(1), nothing), follow="", pixels=True)


def _draw_update(live: LiveFigure, snapshot: Snapshot, found: Factors | None) -> str:
    if found is None:
        for glyph in range(3):
            live.place_pixels(glyph, np.full((1, 1), NOTHING, dtype=np.uint8), (0, 0, 1, 1))
        live.set_columns(3, {side: np.zeros(0) for side in ("left", "bottom", "right", "top")})
        return f"Update, {snapshot.focus.layer}: no step yet"
    (rows, columns), rank = found.shape, len(found.sigma)
    parts = scaled_parts(found.left, found.sigma, found.right)
    places = boxes(rows, columns)
    for glyph, (part, box) in enumerate(zip(parts, places, strict=True)):
        live.place_pixels(glyph, as_pixels(torch.from_numpy(part), (-1.0, 1.0)), box)
    corners = np.array(squares(found.sigma, rows, columns)).reshape(rank, 4).T
    live.set_columns(3, dict(zip(("left", "bottom", "right", "top"), corners, strict=True)))
    live.set_ranges((places[1][0], columns), (rows, places[2][1]))
    return f"Update of rank {rank}, {snapshot.focus.layer}"


@dataclass(frozen=True)
class Write:
    """Wanted change, pulses of a pair and change of its weight as pixels, and their limits."""

    pixels: tuple[np.ndarray, np.ndarray, np.ndarray]
    limits: tuple[float, float, float]
    shape: tuple[int, int]


def write(look: Look) -> Write | None:
    """Of the last step; None for plain weights and where the step before is not known."""
    array, before = look.array, look.before
    if array.pulse_count is None or before is None or before[1] is None:
        return None
    wish = -look.run.learning_rate * look.latest[look.layer][0].dense()
    parts = (wish, (array.pulse_count - before[1]).sum(0), array.weights - before[0])
    means = [block_means(part, axes=(0, 1)) for part in parts]
    wanted, pulses, done = (max(float(each.abs().max()), 1e-12) for each in means)
    limits = wanted, round_limit(pulses), done
    signs = (-1.0, 0.0, -1.0)  # pulses are counted
    first, second, third = (
        as_pixels(mean, (sign * limit, limit))
        for mean, sign, limit in zip(means, signs, limits, strict=True)
    )
    return Write((first, second, third), limits, array.shape)


def _blank_write() -> LiveFigure:
    blank = [hv.Image(np.zeros((2, 2)), bounds=(x, 0, x + 1, 1)) for x in range(3)]
    drawn = hv.Overlay([image.opts(cmap="viridis") for image in blank])
    drawn = drawn.opts(invert_yaxis=True, xaxis=None, xlim=(0, 3), ylim=(0, 1))
    live = LiveFigure(
        framed(drawn, " ", " ", "output (row)", show_grid=False), follow="", pixels=True
    )
    for glyph, palette in enumerate((DIVERGING_COLOURS, SEQUENTIAL_COLOURS, DIVERGING_COLOURS)):
        live.set_palette(palette, glyph)
    return live


def _draw_write(live: LiveFigure, snapshot: Snapshot, found: Write | None) -> str:
    if found is None:
        nothing = np.full((1, 1), NOTHING, dtype=np.uint8)
        for glyph in range(3):
            live.place_pixels(glyph, nothing, (0, 0, 1, 1))
        missing = ON_CELLS if snapshot.knobs["device"] == "digital" else "no step yet"
        return f"Write, {snapshot.focus.layer}: {missing}"
    rows, columns = found.shape
    pitch = (1 + GAP) * columns
    for glyph, pixels in enumerate(found.pixels):
        live.place_pixels(glyph, pixels, (glyph * pitch, 0, columns, rows))
    live.set_ranges((0, 2 * pitch + columns), (rows, 0))
    wanted, pulses, done = found.limits
    return f"Wanted (±{wanted:.2g}) | pulses (0–{pulses:g}) | done (±{done:.2g})"


UPDATE = {
    "update": View(
        "Update",
        _blank_update,
        _draw_update,
        "The last update as a crossbar applies it: each component is a vector of voltages on the "
        "rows (left) and one on the columns (top), and the square in the corner is its weight. "
        "The array shows the sum of their outer products; red raises weights, blue lowers them.",
        ("03_outer_products", "A batch"),
        factors,
    ),
    "write": View(
        "Last write",
        _blank_write,
        _draw_write,
        "Left: the change of the weights that was wanted. Middle: the pulses sent to each pair of "
        "cells. Right: the change that the cells made, with their rounding, curvature and noise.",
        ("11_nonideal_devices", "Two ways to write it"),
        write,
        compares=True,
    ),
}
