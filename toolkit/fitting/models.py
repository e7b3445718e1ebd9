"""Formulas that can be fitted to pulse trains: their parameters, start values and limits.

Adding one is adding a row. The formulas themselves are in ``crossbar/devices/responses.py`` and
``steps.py``, the fit in :mod:`toolkit.fitting.formula_fit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toolkit.crossbar.devices.responses import MAX_LABEL, Exponential
from toolkit.crossbar.devices.steps import LinearStep, SoftBounds
from toolkit.crossbar.devices.stepwise import PowStep
from toolkit.fitting.bounded_steps import BoundedSteps

Limits = tuple[float, float, float]  # start, least, most


@dataclass(frozen=True)
class FormulaModel:
    """A formula: its response, parameters beyond the levels, and what each cell has of its own.

    ``own`` are the parameters that are fitted to each cell, ``spreads`` the properties that take
    their standard deviations.
    """

    response: Callable[..., Any]
    shape: dict[str, Limits]
    own: tuple[str, ...]
    spreads: tuple[str, ...]


STEP_SPREADS = ("step_spread", "asymmetry_spread")
LEVELS = ("levels_up", "levels_down")
MODELS = {
    "neurosim": FormulaModel(
        Exponential,
        {
            "nonlinearity_up": (1.0, -MAX_LABEL, MAX_LABEL),
            "nonlinearity_down": (-1.0, -MAX_LABEL, MAX_LABEL),
        },
        ("nonlinearity_up", "nonlinearity_down"),
        ("device_to_device",),
    ),
    "constant-step": FormulaModel(LinearStep, {}, LEVELS, STEP_SPREADS),
    "linear-step": FormulaModel(
        LinearStep,
        {"decrease_up": (0.5, 0.0, 10.0), "decrease_down": (0.5, 0.0, 10.0)},
        LEVELS,
        STEP_SPREADS,
    ),
    "soft-bounds": FormulaModel(
        SoftBounds,
        {"g_min": (math.nan, math.nan, math.nan), "g_max": (math.nan, math.nan, math.nan)},
        (*LEVELS, "g_min", "g_max"),
        (*STEP_SPREADS, "low_spread", "high_spread"),
    ),
    "pow-step": FormulaModel(
        PowStep,
        {"gamma_up": (1.0, 0.0, 20.0), "gamma_down": (1.0, 0.0, 20.0)},
        LEVELS,
        STEP_SPREADS,
    ),
}


def completed(values: dict[str, float]) -> dict[str, float]:
    """Values of a one-sided device with those of the other polarity: its mirror image."""
    mirrored = {}
    for key, value in values.items():
        name, _, word = key.rpartition("_")
        if word in ("up", "down"):
            sign = -1.0 if name == "nonlinearity" else 1.0
            mirrored[f"{name}_{'down' if word == 'up' else 'up'}"] = sign * value
    return mirrored | values


def start_and_limits(data: BoundedSteps, model: FormulaModel) -> dict[str, Limits]:
    """Start and bounds of every parameter, guessed from the mean steps."""
    steps = data.steps
    moves = (steps.after - steps.before) * steps.polarity / data.span
    limits: dict[str, Limits] = {}
    for key, sign in (("levels_up", 1), ("levels_down", -1)):
        mean = float(moves[steps.polarity == sign].mean()) if data.only in key else 1.0
        limits[key] = (min(max(1.0 / max(mean, 1e-5), 2.0), 1e5), 1.0, 1e7)
    limits |= model.shape
    if data.only:
        other = "_down" if data.only == "up" else "_up"
        limits = {key: limit for key, limit in limits.items() if not key.endswith(other)}
    if "g_min" in limits:
        middle, edge = (data.low + data.high) / 2.0, 0.02 * data.span
        limits["g_min"] = (max(data.low - edge, data.low / 2.0), 1e-3 * data.low, middle)
        limits["g_max"] = (data.high + edge, middle, 100.0 * data.high)
    return limits
