"""Least squares of one formula over all single steps, with standard errors and spreads.

Every reading predicts the next one through one pulse of the model (see
:mod:`toolkit.fitting.residuals`). The formulas are in :mod:`toolkit.fitting.models`.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np

from toolkit.crossbar.devices.device import Device
from toolkit.fitting.bounded_steps import FIRST_MARGIN, MARGIN, BoundedSteps
from toolkit.fitting.models import LEVELS, MODELS, STEP_SPREADS, completed, start_and_limits
from toolkit.fitting.residuals import NoiseEstimate, best_gain, innovations, predict
from toolkit.fitting.result import (
    Fit,
    Parameters,
    Values,
    best_values,
    rms,
    root_with_error,
)
from toolkit.fitting.trains import Booleans, Floats, Integers, Steps

_DEVICE_FIELDS = {item.name for item in fields(Device)}


class FormulaFit:
    """Least squares of one formula: on all cells together, then on each cell's own parameters."""

    def __init__(self, data: BoundedSteps, model_name: str, name: str) -> None:
        self.data, self.model = data, MODELS[model_name]
        self.model_name, self.name = model_name, name
        self.limits = start_and_limits(data, self.model)
        self.own = tuple(key for key in self.model.own if key in self.limits)

    def fit(self) -> Fit:
        """All of it."""
        steps = self.data.steps
        values, solution, used, gain = self._together()
        names, cell = tuple(values), steps.cell[used]
        own, own_covariances = self._cell_by_cell(values, used, gain)
        between = dict(zip(self.own, _between(own, own_covariances), strict=True))
        alone = dict(zip(names, np.diag(_covariance(solution, names)), strict=True))
        grouped = dict(zip(names, np.diag(_covariance(solution, names, cell)), strict=True))
        variance = {
            key: alone[key] + between[key] / self.data.cells
            if key in between
            else max(alone[key], grouped[key])
            for key in names
        }
        values = self._recentred(values, own)
        noise = self._noise_within_cells(values, own, used)
        noise_values = noise.values(self._device(values).span, _span_error(variance))
        spreads = self._spreads(values, own, own_covariances)
        residuals = innovations(self._device(values), steps, gain)[used]
        errors = {key: math.sqrt(square) for key, square in variance.items()}
        formula = {key: (value, errors[key]) for key, value in values.items()}
        device = self._finish(self._device(values), best_values(noise_values), best_values(spreads))
        return Fit.of(
            device, self.model_name, self.data, formula | noise_values | spreads, residuals, used
        )

    def _together(self) -> tuple[Values, Any, Booleans, float]:
        """Common values, what SciPy says of them, the steps they rest on and the gain."""
        steps = self.data.steps
        values = {key: start for key, (start, _, _) in self.limits.items()}
        used, gain = self.data.inside(steps.before, FIRST_MARGIN * self.data.span), 1.0
        for _ in range(3):
            values, _ = self._solve(steps, used, values, tuple(values), gain)
            device = self._device(values)
            gain, _ = best_gain(device, steps, used)
            surprise = innovations(device, steps, gain)
            margin = MARGIN * rms(surprise[used])
            used = self.data.inside(steps.after - surprise, margin)
        values, solution = self._solve(steps, used, values, tuple(values), gain)
        return values, solution, used, gain

    def _cell_by_cell(self, values: Values, used: Booleans, gain: float) -> tuple[Floats, Floats]:
        """Each cell's own parameters (cells, own) and their covariances (cells, own, own)."""
        names = self.own
        if self.data.cells == 1 or not names:
            own = np.array([[values[key] for key in names]] * self.data.cells)
            return own, np.zeros((self.data.cells, len(names), len(names)))
        found = []
        for cell in range(self.data.cells):
            mine = self.data.steps.cell == cell
            steps = _take(self.data.steps, mine)
            found.append(self._solve(steps, used[mine], values, names, gain))
        own = np.array([[best[key] for key in names] for best, _ in found])
        return own, np.stack([_covariance(solution, names) for _, solution in found])

    def _recentred(self, values: Values, own: Floats) -> Values:
        """Levels such that the step scales of the cells are 1 on average, as a response has it."""
        if self.model.spreads[: len(STEP_SPREADS)] != STEP_SPREADS or len(own) == 1:
            return values
        scale, lean, *_ = np.mean([self._traits(point, values) for point in own], axis=0)
        if not scale > abs(lean):  # a cell that a pulse moves backwards, or NaN
            raise ValueError(
                "these trains do not determine levels_up, levels_down of every cell: measure more "
                "of them, or use a simpler model or the jump table"
            )
        levels = (values["levels_up"] / (scale + lean), values["levels_down"] / (scale - lean))
        found = dict(zip(LEVELS, map(float, levels), strict=True))
        return {key: found.get(key, value) for key, value in values.items()}

    def _solve(
        self, steps: Steps, used: Booleans, values: Values, free: tuple[str, ...], gain: float
    ) -> tuple[Values, Any]:
        """Best values, the others kept, and what SciPy says of them."""
        from scipy.optimize import least_squares  # slow to import

        def residuals(point: Floats) -> Floats:
            device = self._device(values | dict(zip(free, point.tolist(), strict=True)))
            return innovations(device, steps, gain)[used] / self.data.span

        if used.sum() <= len(free):
            raise ValueError(
                f"{int(used.sum())} steps away from the bounds cannot give {', '.join(free)}"
            )
        least = [self.limits[key][1] for key in free]
        most = [self.limits[key][2] for key in free]
        start = [values[key] for key in free]
        found = least_squares(
            residuals, start, bounds=(least, most), x_scale="jac", xtol=1e-12, ftol=1e-12
        )
        best = values | dict(zip(free, found.x.tolist(), strict=True))
        return best, found

    def _device(self, values: Values) -> Device:
        """The nominal device without noise."""
        values = completed(values)
        row: dict[str, Any] = {"g_min": self.data.low, "g_max": self.data.high}
        row |= {key: value for key, value in values.items() if key in _DEVICE_FIELDS}
        shape = {key: value for key, value in values.items() if key not in _DEVICE_FIELDS}
        return Device(name=self.name, response=self.model.response(**shape), **row)

    def _finish(self, device: Device, noise: dict[str, Any], spreads: Values) -> Device:
        """The device with noise, spreads and source."""
        of_response = {k: value for k, value in spreads.items() if k not in _DEVICE_FIELDS}
        of_device: dict[str, Any] = {k: v for k, v in spreads.items() if k in _DEVICE_FIELDS}
        response: Any = device.response
        return replace(
            device,
            response=replace(response, **of_response),
            source=f"{self.model_name} fitted to {self.data.origin}",
            **noise,
            **of_device,
        )

    def _noise_within_cells(self, values: Values, own: Floats, used: Booleans) -> NoiseEstimate:
        """Noise of single steps, around each cell's own fit."""
        steps, surprise = self.data.steps, np.empty(len(self.data.steps))
        gain = best_gain(self._device(values), steps, used)
        for cell, point in enumerate(own):
            mine = steps.cell == cell
            device = self._device(values | self._named(point))
            surprise[mine] = innovations(device, _take(steps, mine), gain[0], clip=False)
        parameters = len(values) + (len(own) - 1) * own.shape[1]
        count = max(int(used.sum()) - parameters, 1)
        return NoiseEstimate.of(surprise[used], gain, steps.after[used], count)

    def _named(self, point: Floats) -> Values:
        return dict(zip(self.own, point.tolist(), strict=True))

    def _spreads(self, values: Values, own: Floats, covariances: Floats) -> Parameters:
        """Standard deviations from cell to cell, less what the errors of the fits make."""
        names = self.model.spreads
        if len(own) == 1:
            return {}
        traits = np.array([self._traits(point, values) for point in own])
        slopes = np.array([self._slopes(point, values) for point in own])
        noise = np.einsum("cti,cij,ctj->ct", slopes, covariances, slopes).mean(axis=0)
        total = traits.var(axis=0, ddof=1)
        between, doubt = total - noise, math.sqrt(2.0 / (len(own) - 1)) * total
        if len(names) == 1:  # one spread for all traits
            doubt = doubt.mean(keepdims=True) / math.sqrt(len(total))
            between = between.mean(keepdims=True)
        return {
            name: root_with_error(square, error)
            for name, square, error in zip(names, between, doubt, strict=True)
        }

    def _traits(self, point: Floats, common: Values) -> Floats:
        """Labels; or step scale, asymmetry and bounds relative to the common device."""
        if self.model.spreads == ("device_to_device",):
            return point
        device, nominal = self._device(common | self._named(point)), self._device(common)
        middle = (nominal.g_min + nominal.g_max) / 2.0
        here, both = np.array([middle, middle]), np.array([1, -1])
        up, down = (predict(device, here, both) - here) / (predict(nominal, here, both) - here)
        traits = [(up + down) / 2.0, (up - down) / 2.0]
        if "g_min" in self.own:
            half = nominal.span / 2.0
            traits += [(middle - device.g_min) / half, (device.g_max - middle) / half]
        return np.array(traits)

    def _slopes(self, point: Floats, common: Values) -> Floats:
        """Derivatives of the traits by the cell's own parameters, (traits, own)."""
        at, columns = self._traits(point, common), []
        for index, value in enumerate(point):
            moved = point.copy()
            moved[index] = value * (1.0 + 1e-6) if value else 1e-6
            columns.append((self._traits(moved, common) - at) / (moved[index] - value))
        return np.stack(columns, axis=1)


def _take(steps: Steps, where: Booleans) -> Steps:
    return Steps(**{item.name: getattr(steps, item.name)[where] for item in fields(Steps)})


def _covariance(found: Any, names: tuple[str, ...], cell: Integers | None = None) -> Floats:
    """``(J'J)^-1 S (J'J)^-1 n/(n-p)``, S = J' diag(e^2) J: White's, right for unequal noise.

    Given the ``cell`` of every residual, S sums over cells before it squares, and n counts cells:
    right where residuals of a cell hang together, as far as the cells are many.
    """
    jacobian, residuals = found.jac, found.fun
    scale = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / np.where(scale > 0.0, scale, 1.0)
    normal = scaled.T @ scaled
    if not scale.all() or np.linalg.cond(normal) > 1e12:
        values = zip(names, found.x, strict=True)
        raise ValueError(
            f"these trains do not determine {', '.join(f'{n} ({v:.3g})' for n, v in values)}: "
            "measure more of them, or use a simpler model or the jump table"
        )
    inverse = np.linalg.inv(normal) / scale[:, None]
    score, count = scaled * residuals[:, None], len(residuals)
    correction = count / max(count - len(names), 1)
    if cell is not None:
        cells = np.unique(cell)
        score = np.array([score[cell == number].sum(axis=0) for number in cells])
        correction = len(cells) / max(len(cells) - 1, 1)
    return inverse @ (score.T @ score) @ inverse.T * correction


def _between(own: Floats, covariances: Floats) -> Floats:
    """Variance from cell to cell of the cells' own parameters, less that of their fits."""
    if len(own) == 1:
        return np.zeros(own.shape[1])
    within = np.diagonal(covariances, axis1=1, axis2=2).mean(axis=0)
    return np.maximum(own.var(axis=0, ddof=1) - within, 0.0)


def _span_error(variance: Values) -> float:
    """Standard error of a fitted range; 0 for one that was given."""
    return math.sqrt(variance.get("g_min", 0.0) + variance.get("g_max", 0.0))
