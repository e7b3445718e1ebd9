"""A jump table estimated from pulse trains: no formula, the mean step at every state.

The table as a response of cells, and its estimate from steps, are in
:mod:`toolkit.crossbar.devices.jumps`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.jumps import Jumps, JumpTable
from toolkit.fitting.bounded_steps import EXACT, FIRST_MARGIN, MARGIN, BoundedSteps
from toolkit.fitting.jumps import measure_jumps, mirrored
from toolkit.fitting.residuals import NoiseEstimate, best_gain, innovations
from toolkit.fitting.result import (
    Fit,
    Parameters,
    Values,
    best_values,
    rms,
    root_with_error,
)
from toolkit.fitting.trains import Booleans, Floats, Steps

TABLE_MODEL = "jump-table"
_WORDS = {1: "up", -1: "down"}


def fit_table(data: BoundedSteps, name: str) -> Fit:
    """Mean step on a grid of states for each polarity; noise that follows the spread."""
    steps, used = data.steps, data.inside(data.steps.before, FIRST_MARGIN * data.span)
    for _ in range(3):
        tables = {
            sign: _jumps(data, used, sign) for sign in _WORDS if data.only in ("", _WORDS[sign])
        }
        up, down = (tables[s][0] if s in tables else mirrored(tables[-s][0]) for s in _WORDS)
        device = _table_device(data, up, down, name)
        predicted = _predict_table(device, steps)
        residuals = steps.after - predicted
        used = data.inside(predicted, MARGIN * rms(residuals[used]))
    parameters = sum(len(jumps.nodes) for jumps, _ in tables.values())
    walk = partial(innovations, device, steps)
    gain = best_gain(walk, steps, used, device.span)
    surprise = walk(gain[0], clip=False)[used]
    noise = NoiseEstimate.of(surprise, gain, steps.after[used], max(len(surprise) - parameters, 1))
    spreads = _scale_spread(data, predicted - steps.before, residuals, used)
    fitted: dict[str, Any] = _table_noise(up, down, noise, data)
    response = JumpTable(up=up, down=down, **best_values(spreads))
    means: Parameters = {}
    for sign, (jumps, errors) in tables.items():
        for node, mean, error in zip(jumps.nodes, jumps.mean, errors, strict=True):
            means[f"{_WORDS[sign]}[{node:.4f}]"] = (mean, error)
    device = replace(
        device,
        response=response,
        source=f"jump table of {data.origin}",
        **fitted,
    )
    return Fit.of(device, TABLE_MODEL, data, means | spreads, residuals[used], used)


def _jumps(data: BoundedSteps, used: Booleans, sign: int) -> tuple[Jumps, list[float]]:
    steps = data.steps
    mine = used & (steps.polarity == sign)
    state = (steps.before[mine] - data.low) / data.span
    return measure_jumps(state, sign * (steps.after - steps.before)[mine] / data.span)


def _table_device(data: BoundedSteps, up: Jumps, down: Jumps, name: str) -> Device:
    """Levels are one over the mean step, taken evenly over the range."""
    levels = []
    for word, jumps in (("up", up), ("down", down)):
        mean = float(np.trapezoid(jumps.mean, jumps.nodes))
        if mean <= 0.0:
            raise ValueError(f"{word} pulses do not move these cells {word}")
        levels.append(max(1.0 / mean, 1.0))
    return Device(
        name=name,
        g_min=data.low,
        g_max=data.high,
        levels_up=levels[0],
        levels_down=levels[1],
        response=JumpTable(up=up, down=down),
    )


def _predict_table(device: Device, steps: Steps) -> Floats:
    """As :func:`predict`, but not clipped to the bounds."""
    table: Any = device.response
    state = (steps.before - device.g_min) / device.span
    up, down = (np.interp(state, jumps.nodes, jumps.mean) for jumps in (table.up, table.down))
    return steps.before + device.span * np.where(steps.polarity > 0, up, -down)


def _table_noise(up: Jumps, down: Jumps, noise: NoiseEstimate, data: BoundedSteps) -> Values:
    """The device's noise law fitted to the spread of the tables, read noise taken out."""
    from scipy.optimize import nnls

    spread, mean, state = (
        np.array([*getattr(up, key), *getattr(down, key)]) for key in ("spread", "mean", "nodes")
    )
    seen = 2.0 * np.square(noise.read * (data.low / data.span + state))
    spread = np.sqrt(np.maximum(np.square(spread) - seen, 0.0))
    law, _ = nnls(np.stack([np.ones_like(state), mean, state], axis=1), spread)
    keys = ("cycle_to_cycle", "step_noise", "state_noise")
    law = np.where(law < EXACT, 0.0, law)
    return dict(zip(keys, law.tolist(), strict=True)) | {"read_noise": noise.read}


def _scale_spread(
    data: BoundedSteps, moves: Floats, residuals: Floats, used: Booleans
) -> Parameters:
    """Spread of the cells' step sizes, each the regression of its steps on the table's."""
    if data.cells == 1:
        return {}
    scales, variances = [], []
    for cell in range(data.cells):
        mine = used & (data.steps.cell == cell)
        if not mine.any():
            raise ValueError(f"cell number {cell} (in order of name) has no step off the bounds")
        weight = np.square(moves[mine]).sum()
        scales.append(float((moves[mine] * residuals[mine]).sum() / weight))
        variances.append(float(np.square(moves[mine] * residuals[mine]).sum() / weight**2))
    total = float(np.var(scales, ddof=1))
    doubt = math.sqrt(2.0 / (data.cells - 1)) * total
    return {"scale_spread": root_with_error(total - float(np.mean(variances)), doubt)}
