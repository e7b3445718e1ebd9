"""Least squares of one formula over all single steps, with standard errors and spreads.

Every reading predicts the next one through one pulse of the model (see
:mod:`toolkit.fitting.residuals`). The formulas are in :mod:`toolkit.fitting.models`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from toolkit.crossbar.devices.device import Device
from toolkit.fitting.bounded_steps import EXACT, FIRST_MARGIN, MARGIN, BoundedSteps
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

_LAX = 0.2  # significance at which cells differ
_WIDTH = 1e-5  # of a finite step
_ALIKE = 0.05  # share of the range within which pulses start alike
_DEVICE_FIELDS = {item.name for item in fields(Device)}


class FormulaFit:
    """Least squares of one formula: on all cells together, then on each cell's own parameters."""

    def __init__(self, data: BoundedSteps, model_name: str, name: str) -> None:
        self.data, self.model = data, MODELS[model_name]
        self.model_name, self.name = model_name, name
        self.limits = start_and_limits(data, self.model)
        self.fixed = {key: 0.0 for key in self.model.shape if self._is_loose(key)}
        for key in self.fixed:
            del self.limits[key]
        self.own = tuple(key for key in self.model.own if key in self.limits)
        self.parts = [data.steps.of_cell(cell) for cell in range(data.cells)]

    def fit(self) -> Fit:
        """All of it."""
        steps = self.data.steps
        values, solution, used, gain = self._together()
        names = tuple(values)
        covariance, freedom = _covariance(solution, names), math.inf
        own, within, gain, error = self._cells(values, used, gain)
        if self._differ(values, own, used, gain):
            common, self.own = self.own, names
            try:
                own, within, gain, error = self._cells(values, used, gain)
                values, covariance, freedom = _mean_of_cells(names, own)
            except ValueError:  # of single cells
                self.own = common
                covariance, freedom = _grouped(solution, names, steps.cell[used])
        values = self._recentred(values, own)
        variance = dict(zip(names, np.diag(covariance).tolist(), strict=True))
        noise = self._noise_within_cells(values, own, used, (gain, error))
        noise_values = noise.values(self._device(values).span, _span_error(variance))
        spreads = self._spreads(values, own, within)
        residuals = innovations(self._device(values), steps, gain)[used]
        formula = {key: (value, math.sqrt(variance[key])) for key, value in values.items()}
        device = self._finish(self._device(values), best_values(noise_values), best_values(spreads))
        parameters = formula | noise_values | spreads
        return replace(
            Fit.of(device, self.model_name, self.data, parameters, residuals, used),
            covariance=covariance,
            freedom=freedom,
        )

    def _is_loose(self, key: str) -> bool:
        """Whether a shape of one polarity is not to be had: all its pulses start alike."""
        sign = {"up": 1, "down": -1}.get(key.rpartition("_")[2], 0)
        steps = self.data.steps
        before = steps.before[(steps.polarity == sign) & self._off_the_bounds()]
        return len(before) > 0 and bool(np.ptp(before) < _ALIKE * self.data.span)

    def _off_the_bounds(self) -> Booleans:
        """Steps that start away from the bound that may cut them short."""
        data, before = self.data, self.data.steps.before
        room = np.where(data.steps.polarity > 0, data.ceilings - before, before - data.floors)
        return room > FIRST_MARGIN * data.span

    def _together(self) -> tuple[Values, Any, Booleans, float]:
        """Common values, what SciPy says of them, the steps they rest on and the gain."""
        steps = self.data.steps
        values = {key: start for key, (start, _, _) in self.limits.items()}
        used, gain = self._off_the_bounds(), 1.0
        for _ in range(3):
            values, _ = self._solve(steps, used, values, tuple(values), gain)
            device = self._device(values)
            gain, _ = best_gain(partial(innovations, device, steps), steps, used, device.span)
            surprise = innovations(device, steps, gain)
            margin = MARGIN * rms(surprise[used])
            used = self.data.inside(steps.after - surprise, margin)
            for sign in (1, -1):  # pulses that all go to a bound are not left out
                mine = steps.polarity == sign
                used |= mine & self._off_the_bounds() & (not (used & mine).any())
        values, solution = self._solve(steps, used, values, tuple(values), gain)
        return values, solution, used, gain

    def _cells(
        self, values: Values, used: Booleans, gain: float
    ) -> tuple[Floats, Floats, float, float]:
        """Each cell's own parameters, their covariances, and the gain around them (its error).

        Where cells differ, what one curve leaves over hides the noise of the readings; the gain is
        then sought, and the cells fitted, once more.
        """
        own, within = self._cell_by_cell(values, used, gain)
        best, error = self._gain(values, own, used)
        if len(own) > 1 and best != gain:
            own, within = self._cell_by_cell(values, used, best)
            best, error = self._gain(values, own, used)
        return own, within, best, error

    def _gain(self, values: Values, own: Floats, used: Booleans) -> tuple[float, float]:
        surprise = partial(self._surprise, values, own)
        return best_gain(surprise, self.data.steps, used, self._device(values).span)

    def _cell_by_cell(self, values: Values, used: Booleans, gain: float) -> tuple[Floats, Floats]:
        """Each cell's own parameters (cells, own) and their covariances (cells, own, own)."""
        names = self.own
        if self.data.cells == 1:
            own = np.array([[values[key] for key in names]])
            return own, np.zeros((1, len(names), len(names)))
        cells = self.data.steps.cell
        found = [
            self._solve(steps, used[cells == cell], values, names, gain)
            for cell, steps in enumerate(self.parts)
        ]
        own = np.array([[best[key] for key in names] for best, _ in found])
        return own, np.stack([_covariance(solution, names) for _, solution in found])

    def _surprise(self, values: Values, own: Floats, gain: float, *, clip: bool = True) -> Floats:
        """Innovations around each cell's own fit."""
        surprise = np.empty(len(self.data.steps))
        for cell, (point, steps) in enumerate(zip(own, self.parts, strict=True)):
            device = self._device(values | self._named(point))
            surprise[self.data.steps.cell == cell] = innovations(device, steps, gain, clip=clip)
        return surprise

    def _differ(self, values: Values, own: Floats, used: Booleans, gain: float) -> bool:
        """Whether the cells' own parameters fit better than common ones: an F test at 0.2.

        As lax as that: the mean of the cells has right errors whether or not the cells differ.
        """
        from scipy.stats import f

        if len(own) == 1:
            return False
        common = innovations(self._device(values), self.data.steps, gain)[used]
        mine = self._surprise(values, own, gain)[used]
        more = (len(own) - 1) * own.shape[1]
        left = max(len(mine) - len(values) - more, 1)
        noise = max(float(np.square(mine).sum()), left * (EXACT * self.data.span) ** 2) / left
        gained = float(np.square(common).sum() - np.square(mine).sum()) / more
        return bool(f.sf(gained / noise, more, left) < _LAX)

    def _recentred(self, values: Values, own: Floats) -> Values:
        """Levels such that the step scales of the cells are 1 on average, as a response has it."""
        if self.model.spreads[: len(STEP_SPREADS)] != STEP_SPREADS or len(own) == 1:
            return values
        scale, lean, *_ = np.mean([self._traits(point, values) for point in own], axis=0)
        if not scale > abs(lean):  # a cell that a pulse moves backwards, or NaN
            raise ValueError(
                "these trains do not determine levels_up, levels_down of every cell: measure more "
                'of them, or use a simpler model, the jump table or "best"'
            )
        levels = (values["levels_up"] / (scale + lean), values["levels_down"] / (scale - lean))
        found = dict(zip(LEVELS, map(float, levels), strict=True))
        return {key: found.get(key, value) for key, value in values.items()}

    def _solve(
        self, steps: Steps, used: Booleans, values: Values, free: tuple[str, ...], gain: float
    ) -> tuple[Values, Any]:
        """Best values, the others kept, and what SciPy says of them."""
        from scipy.optimize import least_squares  # slow to import

        unit = np.array([self.data.span if key.startswith("g_") else 1.0 for key in free])
        rows = [(values[key], *self.limits[key][1:]) for key in free]
        start, least, most = np.array(rows).T / unit

        def residuals(point: Floats) -> Floats:
            device = self._device(values | dict(zip(free, (point * unit).tolist(), strict=True)))
            return innovations(device, steps, gain)[used] / self.data.span

        if used.sum() <= len(free):
            raise ValueError(
                f"{int(used.sum())} steps away from the bounds cannot give {', '.join(free)}: "
                "measure longer trains, or use a simpler model"
            )
        found = least_squares(
            residuals,
            start,
            partial(_jacobian, residuals, most),
            (least, most),
            method="dogbox",
            x_scale="jac",
            xtol=1e-9,
            ftol=1e-9,
            gtol=None,
        )
        found.x, found.jac = found.x * unit, found.jac / unit
        best = values | dict(zip(free, found.x.tolist(), strict=True))
        return best, found

    def _device(self, values: Values) -> Device:
        """The nominal device without noise."""
        values = completed(self.fixed | values)
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

    def _noise_within_cells(
        self, values: Values, own: Floats, used: Booleans, gain: tuple[float, float]
    ) -> NoiseEstimate:
        """Noise of single steps, around each cell's own fit."""
        surprise = self._surprise(values, own, gain[0], clip=False)[used]
        parameters = len(values) + (len(own) - 1) * own.shape[1]
        count = max(int(used.sum()) - parameters, 1)
        return NoiseEstimate.of(surprise, gain, self.data.steps.after[used], count)

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
            return np.array([self._named(point)[key] for key in self.own if "nonl" in key])
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


def _jacobian(residuals: Callable[[Floats], Floats], most: Floats, point: Floats) -> Floats:
    """Derivatives by finite steps, wide enough for a formula that is a straight line near 0."""
    steps = _WIDTH * np.maximum(np.abs(point), 1.0)
    steps = np.where(point + steps > most, -steps, steps)
    here = residuals(point)
    return np.stack([residuals(p) - here for p in point + np.diag(steps)], axis=1) / steps


def _covariance(found: Any, names: tuple[str, ...]) -> Floats:
    """``(J'J)^-1 S (J'J)^-1 n/(n-p)``, S = J' diag(e^2) J: White's, right for unequal noise."""
    inverse, scores = _influence(found, names)
    count = len(scores)
    return inverse @ (scores.T @ scores) @ inverse.T * count / max(count - len(names), 1)


def _influence(found: Any, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """``(J'J)^-1`` and ``J' diag(e)``, columns of J scaled to be alike."""
    jacobian, residuals = found.jac, found.fun
    scale = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / np.where(scale > 0.0, scale, 1.0)
    normal = scaled.T @ scaled
    sizes, directions = np.linalg.eigh(normal)
    if (loose := sizes <= 1e-12 * sizes[-1]).any():
        shares = np.abs(directions[:, loose]).max(axis=1)
        values = zip(names, found.x, shares > 0.1, strict=True)
        raise ValueError(
            "these trains do not determine "
            f"{', '.join(f'{n} ({v:.3g})' for n, v, is_loose in values if is_loose)}: "
            'measure more of them, or use a simpler model, the jump table or "best"'
        )
    return np.linalg.inv(normal) / scale[:, None], scaled * residuals[:, None]


def _grouped(found: Any, names: tuple[str, ...], cell: Integers) -> tuple[Floats, float]:
    """Covariance with scores summed over each cell before they are squared; degrees of freedom.

    No direction has less than White's variance.
    """
    from scipy.linalg import eigh

    inverse, scores = _influence(found, names)
    sums = np.array([scores[cell == number].sum(axis=0) for number in np.unique(cell)])
    many, alone = len(sums), _covariance(found, names)
    grouped = inverse @ (sums.T @ sums) @ inverse.T * many / (many - 1)
    unit = np.sqrt(np.diag(alone).clip(min=np.finfo(float).tiny))
    floor = alone / np.outer(unit, unit) + 1e-9 * np.eye(len(unit))
    ratio, vectors = eigh(grouped / np.outer(unit, unit), floor)
    back = np.linalg.inv(vectors).T * unit[:, None]
    return back @ np.diag(ratio.clip(min=1.0)) @ back.T, many - 1.0


def _mean_of_cells(names: tuple[str, ...], own: Floats) -> tuple[Values, Floats, float]:
    """Mean of the cells' own parameters, the covariance of that mean, and degrees of freedom.

    Of levels, the mean is that of the step, 1 / levels, as the scale of a response's cells has it.
    """
    is_level = np.array([key in LEVELS for key in names])
    power = np.where(is_level, -1.0, 1.0)  # 1 / own would warn of a shape of 0
    traits = own**power
    mean = traits.mean(axis=0)
    values = mean**power
    slopes = np.where(is_level, -np.square(values), 1.0)
    covariance = np.cov(traits, rowvar=False) / len(own) * np.outer(slopes, slopes)
    return dict(zip(names, values.tolist(), strict=True)), covariance, len(own) - 1.0


def _span_error(variance: Values) -> float:
    """Standard error of a fitted range; 0 for one that was given."""
    return math.sqrt(variance.get("g_min", 0.0) + variance.get("g_max", 0.0))
