"""Snapshots: what a run looks like at one moment, as immutable copies that any thread may read.

When to take one is ``live.py``'s business; how it is drawn is ``dashboards/``'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from toolkit.training.experiment import Experiment
from toolkit.training.recorder import Spectrum

HISTORY_POINTS = 800


@dataclass(frozen=True)
class LayerView:
    """One layer now: its spectrum (None before the first step), array contents as float32.

    ``energy`` (points, 3) holds step, captured and optimal energy of the snapshots so far,
    ``first_weight`` the weights that the run began with, ``conductance_range`` siemens.
    """

    spectrum: Spectrum | None
    energy: np.ndarray
    weight: np.ndarray
    first_weight: np.ndarray
    conductance: np.ndarray | None
    conductance_range: tuple[float, float] | None


@dataclass(frozen=True)
class Snapshot:
    """A whole run now; the past is in at most ``HISTORY_POINTS`` points.

    ``loss_steps`` and ``losses`` are means over equal blocks of steps; ``evaluations`` (points, 3)
    are step, test loss and test accuracy; ``gradient_words`` as in ``Experiment``.
    """

    number: int
    running: bool
    step: int
    epoch: float
    loss_steps: np.ndarray
    losses: np.ndarray
    evaluations: np.ndarray
    events: list[tuple[int, str, Any, Any]]
    knobs: Mapping[str, Any]
    nonidealities: Mapping[str, float]
    pulses: int
    gradient_words: tuple[int, int]
    layer_ranks: Mapping[str, int]
    layers: Mapping[str, LayerView]
    steps_per_second: float


class Camera:
    """Takes snapshots of one experiment and remembers what a single moment does not hold."""

    def __init__(self, run: Experiment) -> None:
        self._run = run
        self._first = {name: _copy(array.weights) for name, array in run.arrays.items()}
        self._energy: dict[str, list[tuple[float, float, float]]] = {
            name: [] for name in run.arrays
        }

    def take(self, *, number: int, running: bool, steps_per_second: float) -> Snapshot:
        """Copy what there is to see; to be called from the thread that trains."""
        run = self._run
        history = run.history
        steps, losses = block_means(history.column("step"), history.column("loss"), HISTORY_POINTS)
        return Snapshot(
            number=number,
            running=running,
            step=run.step_count,
            epoch=run.epoch,
            loss_steps=steps,
            losses=losses,
            evaluations=thinned(history.evaluations, HISTORY_POINTS),
            events=history.events,
            knobs=run.knob_values(),
            nonidealities=run.nonidealities(),
            pulses=run.pulses,
            gradient_words=run.gradient_words(),
            layer_ranks={name: run.layer_rank(name) for name in run.arrays},
            layers=self._layers(),
            steps_per_second=steps_per_second,
        )

    def _layers(self) -> dict[str, LayerView]:
        spectra, device = self._run.spectra(), self._run.device_with_overrides()
        return {
            name: LayerView(
                spectrum=spectra.get(name),
                energy=self._energy_of(name, spectra.get(name)),
                weight=_copy(array.weights),
                first_weight=self._first[name],
                conductance=_copy(array.conductance),
                conductance_range=None if device is None else (device.g_min, device.g_max),
            )
            for name, array in self._run.arrays.items()
        }

    def _energy_of(self, name: str, found: Spectrum | None) -> np.ndarray:
        seen = self._energy[name]
        if found is not None and (not seen or seen[-1][0] < self._run.step_count):
            seen.append((self._run.step_count, found.captured_energy, found.optimal_energy))
        if len(seen) > 2 * HISTORY_POINTS:
            del seen[::2]
        return thinned(np.array(seen, dtype=float).reshape(-1, 3), HISTORY_POINTS)


def block_means(
    steps: np.ndarray, values: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """(last step, mean) of each of at most ``points`` equal blocks of the steps kept."""
    block = max(1, -(-len(values) // points))
    starts = np.arange(0, len(values), block)
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    ends = np.minimum(starts + block, len(values))
    return steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts)


def thinned(rows: np.ndarray, points: int) -> np.ndarray:
    """Every so-manieth row, the last one included, at most ``points`` of them."""
    stride = max(1, -(-len(rows) // points))
    return rows[::-1][::stride][::-1]


def _copy(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().float().cpu().numpy().copy()
