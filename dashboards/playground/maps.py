"""Live views of matrices: area means of at most 200 x 200 pixels in uint8, a byte a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from bokeh.palettes import RdBu11, Viridis256, interp_palette
from torch import Tensor
from torch.nn import functional

from dashboards.playground.view import View
from toolkit.plots import LiveFigure, heat_map
from toolkit.plots.elements import siemens_prefix
from toolkit.training.live.snapshot import Look, Snapshot

LARGEST = 200
NOTHING = 255  # the pixel of a value that is not there
STEPS = NOTHING - 1
WATERFALL_COLUMNS = 200
WATERFALL_LIMITS = (-6.0, 1.0)  # log10 of singular values
ON_CELLS = "only a crossbar has cells: choose a device"
SEQUENTIAL_COLOURS = list(interp_palette(Viridis256, STEPS + 1))
DIVERGING_COLOURS = list(interp_palette(RdBu11, STEPS + 1))


@dataclass(frozen=True)
class Map:
    """A matrix as pixels: 0 is the lower limit, 254 the upper, 255 nothing; row 0 first.

    ``shape`` counts what the pixels stand for, ``block`` how much of it one pixel is the mean of.
    ``unit`` is "S", "weight", "pulses", "cells" or "1"; ``begin`` is the first column's number.
    """

    pixels: np.ndarray
    limits: tuple[float, float]
    unit: str
    shape: tuple[int, int]
    block: tuple[int, int] = (1, 1)
    begin: int = 0


def reduced(values: Tensor, *, limits: tuple[float, float], unit: str) -> Map:
    """``values`` (m, n) as area means of equal blocks, in uint8 between ``limits``."""
    rows, columns = values.shape
    block = (-(-rows // LARGEST), -(-columns // LARGEST))
    return Map(as_pixels(block_means(values), limits), limits, unit, (rows, columns), block)


def block_means(values: Tensor, axes: tuple[int, ...] = (0, 1)) -> Tensor:
    """Means over equal blocks along these axes of a matrix, so that at most 200 are left."""
    block = [-(-size // LARGEST) if axis in axes else 1 for axis, size in enumerate(values.shape)]
    means = values.float()
    if block != [1, 1]:
        pool = partial(functional.avg_pool2d, ceil_mode=True, count_include_pad=False)
        means = pool(means[None], block)[0]
    return means


def as_pixels(values: Tensor, limits: tuple[float, float]) -> np.ndarray:
    """``values`` as uint8: 0 and 254 at the limits, clipped to them; 255 for NaN."""
    low, high = limits
    scaled = ((values - low) * (STEPS / (high - low))).round().clamp(0, STEPS)
    return scaled.nan_to_num(nan=NOTHING).to(torch.uint8).cpu().numpy()


def round_limit(largest: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is not below ``largest``."""
    if largest <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= largest)


def waterfall(values: np.ndarray) -> Map | None:
    """log10 of the singular values: a row a component, columns evenly spaced in steps.

    ``values`` (points, 1 + components) are step and singular values. Between two records the
    earlier one stands. None before the first step.
    """
    if not len(values):
        return None
    steps = values[:, 0]
    first, last = int(steps[0]), int(steps[-1])
    columns = min(WATERFALL_COLUMNS, last - first + 1)
    at = np.searchsorted(steps, np.linspace(first, last, columns), side="right") - 1
    stacked = values[at, 1:].T
    logs = np.full(stacked.shape, np.nan)
    np.log10(stacked, out=logs, where=stacked > 1e-7 * stacked.max(0, initial=0.0))
    pixels = as_pixels(torch.from_numpy(logs), WATERFALL_LIMITS)
    shape = (len(stacked), last - first + 1)
    return Map(pixels, WATERFALL_LIMITS, "1", shape, begin=first)


# --- what each map shows --------------------------------------------------------------------------


def _weight(look: Look) -> Map:
    w_max = look.run.w_max
    return reduced(look.array.weights, limits=(-w_max, w_max), unit="weight")


def _change(look: Look) -> Map:
    """Since the start, between half the largest weights."""
    half = look.run.w_max / 2
    return reduced(look.array.weights - look.first, limits=(-half, half), unit="weight")


def _on_cells(take: Callable[[Any], Map]) -> Callable[[Look], Map | None]:
    """None where the layer has plain weights."""
    return partial(_if_cells, take)


def _if_cells(take: Callable[[Any], Map], look: Look) -> Map | None:
    return take(look.array) if look.array.device is not None else None


def _conductance(polarity: int, array: Any) -> Map:
    limits = (array.device.g_min, array.device.g_max)
    return reduced(array.conductance[polarity], limits=limits, unit="S")


def _waterfall(look: Look) -> Map | None:
    return waterfall(look.past_values)


def _pulses(array: Any) -> Map:
    """Both cells of a pair together."""
    count = array.pulse_count.sum(0)
    return reduced(count, limits=(0.0, round_limit(float(count.max()))), unit="pulses")


def _stuck(array: Any) -> Map:
    """How many cells of a pair no longer move."""
    return reduced(array.stuck.sum(0), limits=(0.0, 2.0), unit="cells")


# --- how a map is drawn ---------------------------------------------------------------------------


def _blank() -> LiveFigure:
    blank = heat_map(np.zeros((2, 2)), title=" ", unit=" ", limits=(-1.0, 1.0))
    return LiveFigure(blank, follow="", pixels=True)


def _map_view(
    title: str,
    take: Callable[[Look], Map | None],
    about: str,
    lesson: tuple[str, str],
    *,
    missing: str = ON_CELLS,
    over_time: bool = False,
) -> View:
    def draw(live: LiveFigure, snapshot: Snapshot, shown: Map | None) -> str:
        caption = f"{title}, {snapshot.focus.layer}"
        if shown is None:
            live.place_pixels(0, np.full((1, 1), NOTHING, dtype=np.uint8), (0, 0, 1, 1))
            return f"{caption}: {missing}"
        columns, (high, wide) = shown.shape[1], shown.block
        limits, unit = shown.limits, shown.unit
        if unit == "S":
            factor, unit = siemens_prefix(limits[1])
            limits = (limits[0] * factor, limits[1] * factor)
        live.set_palette(DIVERGING_COLOURS if unit == "weight" else SEQUENTIAL_COLOURS)
        if over_time:
            unit = "log10"
            live.label_axes(x="training step", y="component")
        pixel_rows, pixel_columns = shown.pixels.shape
        box = (shown.begin, columns if over_time else pixel_columns * wide, pixel_rows * high)
        live.set_pixels(shown.pixels, box=box, limits=limits, unit=unit)
        reduced = f" (a pixel: mean of {high} × {wide})" if (high, wide) != (1, 1) else ""
        return caption + reduced

    return View(title, _blank, draw, about, lesson, take)


_CELLS = ("02_crossbar", "A weight can be negative")

MAPS = {
    "weight": _map_view(
        "Weight",
        _weight,
        "The weights that the network computes with, one row for every output of the layer and "
        "one column for every input. On a crossbar each is the difference of two conductances.",
        _CELLS,
    ),
    "change": _map_view(
        "Change since start",
        _change,
        "What training has changed since the start. Rows and columns that stand out are outputs "
        "and inputs that learned more than others.",
        ("03_outer_products", "A batch"),
    ),
    "g_plus": _map_view(
        "Conductance G+",
        _on_cells(partial(_conductance, 0)),
        "The conductance of the positive cell of every pair, within the range that the device "
        "has. A weight is the difference of G+ and G−.",
        _CELLS,
    ),
    "g_minus": _map_view(
        "Conductance G−",
        _on_cells(partial(_conductance, 1)),
        "The conductance of the negative cell of every pair, within the range that the device "
        "has. A weight is the difference of G+ and G−.",
        _CELLS,
    ),
    "pulses": _map_view(
        "Pulses per pair",
        _on_cells(_pulses),
        "How many pulses each pair of cells has received. Every pulse costs energy and wears the "
        "cell.",
        ("09_writing_outer_products", "What a write costs"),
    ),
    "stuck": _map_view(
        "Stuck cells per pair",
        _on_cells(_stuck),
        "Cells that no longer move: broken from the start (knobs 'Stuck low' and 'Stuck high') or "
        "worn out. Training works around them.",
        ("12_wires_faults_drift", "Stuck cells"),
    ),
    "waterfall": _map_view(
        "Spectrum over time",
        _waterfall,
        "The gradient's spectrum at every step so far: a column is a step, the strongest direction "
        "is on top. The colour is the logarithm of the singular value.",
        ("04_spectra", "Over layers, activations and training"),
        missing="no step yet",
        over_time=True,
    ),
}
