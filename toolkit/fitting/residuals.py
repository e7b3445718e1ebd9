"""Innovations: what each reading of a pulse train adds to its prediction from the reading before.

Noise of the pulses (random, and kept by the cell) makes innovations that are independent from step
to step. Noise of the readings makes neighbouring ones anticorrelated,
``cov(e_k, e_k+1) = -(read_noise G)^2``. Where that is significant, predictions start from a running
estimate of the true state instead of the reading, which would bias the slopes: a Kalman filter
whose gain is that of least residuals, and which tells the two kinds of noise apart (Ljung, System
Identification, 1999: the prediction-error method).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from toolkit.crossbar.devices.device import Device
from toolkit.fitting.bounded_steps import EXACT
from toolkit.fitting.result import Parameters, rms
from toolkit.fitting.trains import Booleans, Floats, Steps

# Points of the table of a formula where a loop over pulses needs it (exact for affine steps).
_GRID = 1025
_LEAST_GAIN = 0.005
# Standard errors that an anticorrelation must have to be taken for read noise.
_SIGNIFICANT = 3.0


@dataclass(frozen=True)
class NoiseEstimate:
    """Standard deviations with errors: ``pulse`` of a step (S), ``read`` relative."""

    pulse: float
    pulse_error: float
    read: float = 0.0
    read_error: float = 0.0

    @classmethod
    def of(
        cls, surprise: Floats, gain: tuple[float, float], level: Floats, count: int
    ) -> NoiseEstimate:
        """From the residuals at that ``gain`` (with its error), of ``count`` degrees of freedom.

        A random walk seen through noise has, at the best gain K, residuals of variance S with
        ``read^2 = S (1 - K)`` and ``pulse^2 = S K^2``. ``level`` are the readings.
        """
        total, (share, error) = math.sqrt(float(np.square(surprise).sum()) / count), gain
        pulse = total * share
        pulse_error = pulse * math.hypot(1.0 / math.sqrt(2.0 * count), error / share)
        if share == 1.0:
            return cls(pulse, pulse_error)
        read = total * math.sqrt(1.0 - share) / rms(level)
        doubt = math.hypot(1.0 / math.sqrt(2.0 * count), error / (2.0 * (1.0 - share)))
        return cls(pulse, pulse_error, read, read * doubt)

    def values(self, span: float, span_error: float) -> Parameters:
        """As properties of a device, the pulse's noise relative to ``span``."""
        share = self.pulse / span
        error = math.hypot(self.pulse_error / span, share * span_error / span)
        values = {"cycle_to_cycle": (share, error) if share >= EXACT else (0.0, 0.0)}
        return values | ({"read_noise": (self.read, self.read_error)} if self.read > 0.0 else {})


def best_gain(
    surprise: Callable[..., Floats], steps: Steps, used: Booleans, span: float
) -> tuple[float, float]:
    """Share of a residual that the state takes over, for least residuals; and its error.

    ``surprise(gain, clip=...)`` gives the residuals. 1 unless neighbours are significantly
    anticorrelated.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    residuals = surprise(1.0)
    second = 1 + np.flatnonzero(used[:-1] & used[1:] & ~steps.first[1:])
    products = residuals[second - 1] * residuals[second]
    scale = rms(residuals)
    is_rounding = scale < EXACT * span
    if is_rounding or -products.sum() <= _SIGNIFICANT * math.sqrt(np.square(products).sum()):
        return 1.0, 0.0

    def loss(gain: float) -> float:
        return float(np.square(surprise(gain, clip=False)[used] / scale).sum())

    bounds, options = (_LEAST_GAIN, 0.999), {"xatol": 1e-4}
    best = float(minimize_scalar(loss, bounds=bounds, method="bounded", options=options).x)
    change = 0.01 * best
    here = surprise(best, clip=False)[used]
    slope = surprise(best - change, clip=False)[used] - here
    steepness = math.sqrt(float(np.square(slope).sum()))
    # where all noise is the readings', trains of this length cannot tell the gain from 0
    return best, min(best, rms(here) * change / steepness) if steepness > 0.0 else best


def predict(device: Device, before: Floats, polarity: np.ndarray) -> Floats:
    """Conductance after one pulse, bounds of affine responses not applied."""
    state = torch.from_numpy((before - device.g_min) / device.span)
    pulses = torch.from_numpy(np.asarray(polarity, dtype=np.float64))
    device.response.cells(device).step(state, pulses)
    return state.numpy() * device.span + device.g_min


def innovations(device: Device, steps: Steps, gain: float, *, clip: bool = True) -> Floats:
    """Readings minus predictions; with a gain below 1, predictions from the estimated state.

    The estimate is clipped to the range, as states are. The gain itself is sought without: clipped,
    a state is known better for a while than a steady gain tells.
    """
    if gain == 1.0:
        return steps.after - predict(device, steps.before, steps.polarity)
    grid = np.linspace(steps.before.min(), steps.before.max(), _GRID)
    tables = predict(device, np.tile(grid, (2, 1)), np.repeat([[1], [-1]], _GRID, axis=1))
    bounds = (device.g_min, device.g_max) if clip else (-math.inf, math.inf)
    place = grid[0], max(grid[1] - grid[0], sys.float_info.min)
    up = steps.polarity > 0
    return _walk(steps.before, steps.after, up, steps.first, tables, place, gain, bounds)


@njit(nogil=True, cache=True)
def _walk(before, after, up, first, tables, place, gain, bounds):  # type: ignore[no-untyped-def]
    """Innovations of all steps in turn; ``tables`` (2, points): up, down on an even grid."""
    surprise, state, turn = np.empty(len(before)), 0.0, 0
    for step in range(len(before)):
        if first[step]:
            state, turn = before[step], 0
        where = min(max((state - place[0]) / place[1], 0.0), tables.shape[1] - 1.0)
        node = min(int(where), tables.shape[1] - 2)
        row = tables[0 if up[step] else 1]
        predicted = row[node] + (where - node) * (row[node + 1] - row[node])
        surprise[step] = after[step] - predicted
        share = max(gain, 1.0 / (turn + 2.0))  # a train starts from a single noisy reading
        state = min(max(predicted + share * surprise[step], bounds[0]), bounds[1])
        turn += 1
    return surprise
