"""Maps of an array, small enough to travel to a page: area means of at most 200 x 200, in uint8.

What a map shows, between which limits and in which unit is decided here; colours are a page's
business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from toolkit.crossbar import Crossbar
from toolkit.training.layers.modules import Array

MAPS = ("g_plus", "g_minus", "weight", "change", "pulses", "stuck")
LARGEST = 200
NOTHING = 255  # the pixel of a value that is not there
STEPS = NOTHING - 1


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


def map_of(name: str, array: Array, *, first: Tensor, w_max: float) -> Map | None:
    """The map of that name; None where the array has no cells that it could show.

    - ``g_plus``, ``g_minus``: conductances between the ends of the device's range;
    - ``weight``: between ``-w_max`` and ``w_max``; ``change``: from the weights ``first``, between
      ``-w_max / 2`` and ``w_max / 2``;
    - ``pulses``: both cells of a pair together, from 0 to 1, 2 or 5 times a power of ten;
    - ``stuck``: how many cells of a pair no longer move, 0 to 2.
    """
    if name == "weight":
        return reduced(array.weights, limits=(-w_max, w_max), unit="weight")
    if name == "change":
        limits = (-w_max / 2, w_max / 2)
        return reduced(array.weights - first, limits=limits, unit="weight")
    if not isinstance(array, Crossbar):
        return None
    if name == "pulses":
        count = array.pulse_count.sum(0)
        return reduced(count, limits=(0.0, round_limit(float(count.max()))), unit="pulses")
    if name == "stuck":
        return reduced(array.stuck.sum(0), limits=(0.0, 2.0), unit="cells")
    held = array.conductance[("g_plus", "g_minus").index(name)]
    return reduced(held, limits=(array.device.g_min, array.device.g_max), unit="S")


def reduced(values: Tensor, *, limits: tuple[float, float], unit: str) -> Map:
    """``values`` (m, n) as area means of equal blocks, in uint8 between ``limits``."""
    rows, columns = values.shape
    block = (-(-rows // LARGEST), -(-columns // LARGEST))
    means = values.float()
    if block != (1, 1):
        means = functional.avg_pool2d(means[None], block, ceil_mode=True, count_include_pad=False)[
            0
        ]
    return Map(as_pixels(means, limits), limits, unit, (rows, columns), block)


def as_pixels(values: Tensor, limits: tuple[float, float]) -> np.ndarray:
    """``values`` as uint8: 0 and 254 at the limits, clipped to them; 255 for NaN."""
    low, high = limits
    scaled = ((values - low) * (STEPS / (high - low))).round().clamp(0, STEPS)
    return scaled.nan_to_num(nan=NOTHING).to(torch.uint8).cpu().numpy()


def values_of(shown: Map) -> np.ndarray:
    """The values that the pixels stand for, NaN for nothing; exact to half a step."""
    low, high = shown.limits
    values = low + shown.pixels.astype(float) * ((high - low) / STEPS)
    return np.where(shown.pixels == NOTHING, np.nan, values)


def round_limit(largest: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is not below ``largest``."""
    if largest <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= largest)
