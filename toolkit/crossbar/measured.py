r"""Devices from measured pulse trains: a fitted formula with errors, or a jump table.

The fit is of single steps. Every reading predicts the next one through one pulse of the model, and
least squares over all steps of all trains gives the parameters. Noise of the pulses (random, and
kept by the cell) makes exactly such residuals, independent from step to step. Noise of the readings
makes neighbouring residuals anticorrelated, ``cov(e_k, e_k+1) = -(read_noise G)^2``. Where that is
significant, predictions start from a running estimate of the true state instead of the reading,
which would bias the slopes: a Kalman filter whose gain is that of least residuals, and which tells
the two kinds of noise apart (Ljung, System Identification, 1999: the prediction-error method).

Reading and checking of tables is in :mod:`toolkit.crossbar.trains`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.crossbar.device import Device
from toolkit.crossbar.jumps import Jumps, JumpTable, measure_jumps
from toolkit.crossbar.response import MAX_LABEL, Exponential
from toolkit.crossbar.steps import LinearStep, PowStep, SoftBounds
from toolkit.crossbar.trains import Booleans, Floats, Integers, PulseTrains, Steps

Limits = tuple[float, float, float]  # start, least, most
Values = dict[str, float]
Parameters = dict[str, tuple[float, float]]  # value, standard error

# Standard deviations: steps predicted closer to a hard bound are left out, for they may be clipped.
_MARGIN = 3.0
# The first time, before the noise is known, those that start within this share of the range.
_FIRST_MARGIN = 0.05
# Points of the table of a formula where a loop over pulses needs it (exact for affine steps).
_GRID = 1025
_LEAST_GAIN = 0.005
# Standard errors that an anticorrelation must have to be taken for read noise.
_SIGNIFICANT = 3.0


@dataclass(frozen=True)
class _Model:
    """A formula: its response, parameters beyond the levels, and what each cell has of its own.

    ``own`` are the parameters that are fitted to each cell, ``spreads`` the properties that take
    their standard deviations.
    """

    response: Callable[..., Any]
    shape: dict[str, Limits]
    own: tuple[str, ...]
    spreads: tuple[str, ...]


_STEP_SPREADS = ("step_spread", "asymmetry_spread")
_LEVELS = ("levels_up", "levels_down")
_MODELS = {
    "neurosim": _Model(
        Exponential,
        {
            "nonlinearity_up": (1.0, -MAX_LABEL, MAX_LABEL),
            "nonlinearity_down": (-1.0, -MAX_LABEL, MAX_LABEL),
        },
        ("nonlinearity_up", "nonlinearity_down"),
        ("device_to_device",),
    ),
    "constant-step": _Model(LinearStep, {}, _LEVELS, _STEP_SPREADS),
    "linear-step": _Model(
        LinearStep,
        {"decrease_up": (0.5, 0.0, 10.0), "decrease_down": (0.5, 0.0, 10.0)},
        _LEVELS,
        _STEP_SPREADS,
    ),
    "soft-bounds": _Model(
        SoftBounds,
        {"g_min": (math.nan, math.nan, math.nan), "g_max": (math.nan, math.nan, math.nan)},
        (*_LEVELS, "g_min", "g_max"),
        (*_STEP_SPREADS, "low_spread", "high_spread"),
    ),
    "pow-step": _Model(
        PowStep,
        {"gamma_up": (1.0, 0.0, 20.0), "gamma_down": (1.0, 0.0, 20.0)},
        _LEVELS,
        _STEP_SPREADS,
    ),
}
_TABLE = "jump-table"
_DEVICE_FIELDS = {item.name for item in fields(Device)}


def model_names() -> tuple[str, ...]:
    """Names that ``model`` may have."""
    return (*_MODELS, _TABLE)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A device made from measurements, and how well it describes them.

    Attributes
    ----------
    device
        The device, its noise and spreads included.
    model
        Name of the formula, or "jump-table".
    parameters, errors
        Fitted values and their standard errors, by name: the formula's (siemens or plain numbers),
        then noise and spreads. For a jump table ``up[x]``, ``down[x]``: mean step at the state x.
        Errors of the formula's parameters allow for steps of unequal noise and for the finite
        number of cells; an error of 0 belongs to data without noise.
    residuals
        Measured minus predicted conductance after each step used, siemens, (steps,).
    rms
        Root mean square of the residuals as a fraction of the conductance range.
    cells, trains, left_out
        Cells and trains measured; steps not used because a bound may have cut them short.
    """

    device: Device
    model: str
    parameters: Values
    errors: Values
    residuals: Floats = field(repr=False)
    rms: float
    cells: int
    trains: int
    left_out: int

    @classmethod
    def of(
        cls, device: Device, model: str, data: _Data, parameters: Parameters, residuals: Floats
    ) -> Fit:
        """Assemble the result; ``parameters`` with their errors, ``residuals`` in siemens."""
        return cls(
            device=device,
            model=model,
            parameters=_first(parameters),
            errors={key: error for key, (_, error) in parameters.items()},
            residuals=residuals,
            rms=_rms(residuals) / device.span,
            cells=data.cells,
            trains=data.trains,
            left_out=len(data.steps) - len(residuals),
        )

    def summary(self) -> str:
        """A few lines to print."""
        device = self.device
        lines = [
            f"{device.name}: {self.model} fitted to {self.cells} cells, {self.trains} trains, "
            f"{len(self.residuals)} steps ({self.left_out} left out near the bounds)",
            f"range {device.g_min:.4g} to {device.g_max:.4g} S, "
            f"rms residual {100.0 * self.rms:.3g} % of it",
        ]
        width = max(map(len, self.parameters))
        for name, value in self.parameters.items():
            lines.append(f"  {name:{width}} {value:11.5g} ± {self.errors[name]:.2g}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def fit_csv(path: str | Path, *, model: str = "neurosim", name: str | None = None) -> Fit:
    """:func:`fit_device` on a file as :meth:`PulseTrains.from_csv` reads it, named after it."""
    trains = PulseTrains.from_csv(path)
    return fit_device(trains, model=model, name=Path(path).stem if name is None else name)


def fit_device(
    trains: PulseTrains,
    *,
    model: str = "neurosim",
    name: str = "measured",
    conductance_range: tuple[float, float] | None = None,
) -> Fit:
    """Fit a device to pulse trains by least squares over all single steps.

    Parameters
    ----------
    trains
        What was measured.
    model
        "neurosim" (levels, labels), "constant-step", "linear-step" (levels, decreases),
        "soft-bounds" (levels, and the range itself: its bounds are where steps vanish),
        "pow-step" (levels, gammas) or "jump-table" (mean step on a grid of states).
    name
        Of the device.
    conductance_range
        g_min, g_max in siemens; None: the lowest and highest reading. With noisy readings give it:
        levels and labels are relative to it.

    Notes
    -----
    ``cycle_to_cycle`` is the standard deviation of a single step around the fit of its own cell, as
    a fraction of the range: n pulses carry sqrt(n) of it. A jump table's noise may depend on
    state: ``cycle_to_cycle + step_noise |dx| + state_noise x`` is fitted to its spread
    (non-negative least squares). Spread from cell to cell is that of the cells' own fits, less the
    variance of those fits.

    A bound is taken as hard, and steps near it as possibly clipped and left out, if it is given or
    if more than one reading is exactly there. A jump table is not corrected for the pull that noise
    of the readings has on its ends.

    Raises
    ------
    ValueError
        If the model is unknown, the range is not ``0 < g_min < g_max``, a polarity is missing, or
        the data do not determine the parameters.
    """
    if model not in model_names():
        raise ValueError(f"model must be one of {', '.join(model_names())}, got {model!r}")
    data = _Data.of(trains, conductance_range)
    if model == _TABLE:
        return _fit_table(data, name)
    return _CurveFit(data, model, name).fit()


@dataclass(frozen=True)
class _Data:
    """Steps, the range, and between which hard bounds each step took place (infinite: none)."""

    steps: Steps
    low: float
    high: float
    floors: Floats
    ceilings: Floats
    cells: int
    trains: int

    @classmethod
    def of(cls, trains: PulseTrains, given: tuple[float, float] | None) -> _Data:
        steps, readings = trains.steps(), trains.conductance
        low, high = given or (float(readings.min()), float(readings.max()))
        if not 0.0 < low < high < math.inf:
            raise ValueError(f"conductance_range must be 0 < g_min < g_max, got {low} to {high}")
        for sign, word in ((1, "up"), (-1, "down")):
            if not (steps.polarity == sign).any():
                raise ValueError(f"no {word} pulses: a device needs trains of both polarities")
        names, cell = np.unique(trains.cell, return_inverse=True)
        ends = (low, high) if given else (-math.inf, math.inf)
        bounds = [_hard_bounds(readings[cell == number], ends) for number in range(len(names))]
        floors, ceilings = np.array(bounds)[steps.cell].T
        return cls(steps, low, high, floors, ceilings, len(names), int(trains.train[-1]) + 1)

    @property
    def span(self) -> float:
        return self.high - self.low

    def inside(self, conductance: Floats, margin: float) -> Booleans:
        """Where ``conductance`` keeps ``margin`` from every hard bound."""
        margin = max(margin, 1e-9 * self.span)
        return (conductance > self.floors + margin) & (conductance < self.ceilings - margin)


def _hard_bounds(readings: Floats, ends: tuple[float, float]) -> tuple[float, float]:
    """Extreme readings of a cell where they recur to the last digit, else ``ends``."""
    low, high = readings.min(), readings.max()
    return (
        float(low) if (readings == low).sum() > 1 else ends[0],
        float(high) if (readings == high).sum() > 1 else ends[1],
    )


@dataclass(frozen=True)
class _Noise:
    """Standard deviations with errors: ``pulse`` of a step (S), ``read`` relative."""

    pulse: float
    pulse_error: float
    read: float = 0.0
    read_error: float = 0.0

    @classmethod
    def of(cls, surprise: Floats, gain: tuple[float, float], level: Floats, count: int) -> _Noise:
        """From the residuals at that ``gain`` (with its error), of ``count`` degrees of freedom.

        A random walk seen through noise has, at the best gain K, residuals of variance S with
        ``read^2 = S (1 - K)`` and ``pulse^2 = S K^2``. ``level`` are the readings.
        """
        total, (share, error) = math.sqrt(float(np.square(surprise).sum()) / count), gain
        pulse = total * share
        pulse_error = pulse * math.hypot(1.0 / math.sqrt(2.0 * count), error / share)
        if share == 1.0:
            return cls(pulse, pulse_error)
        read = total * math.sqrt(1.0 - share) / _rms(level)
        doubt = math.hypot(1.0 / math.sqrt(2.0 * count), error / (2.0 * (1.0 - share)))
        return cls(pulse, pulse_error, read, read * doubt)

    def values(self, span: float, span_error: float) -> Parameters:
        """As properties of a device, the pulse's noise relative to ``span``."""
        share = self.pulse / span
        error = math.hypot(self.pulse_error / span, share * span_error / span)
        values = {"cycle_to_cycle": (share, error)}
        return values | ({"read_noise": (self.read, self.read_error)} if self.read > 0.0 else {})


def _best_gain(device: Device, steps: Steps, used: Booleans) -> tuple[float, float]:
    """Share of a residual that the state takes over, for least residuals; and its error.

    1 unless neighbouring residuals are significantly anticorrelated.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    residuals = _innovations(device, steps, 1.0)
    second = 1 + np.flatnonzero(used[:-1] & used[1:] & ~steps.first[1:])
    products = residuals[second - 1] * residuals[second]
    if not -products.sum() > _SIGNIFICANT * math.sqrt(np.square(products).sum()) > 0.0:
        return 1.0, 0.0
    scale = _rms(residuals)

    def loss(gain: float) -> float:
        return float(np.square(_innovations(device, steps, gain, clip=False)[used] / scale).sum())

    best = float(minimize_scalar(loss, bounds=(_LEAST_GAIN, 0.999), method="bounded").x)
    change = 0.01 * best
    here = _innovations(device, steps, best, clip=False)[used]
    slope = _innovations(device, steps, best - change, clip=False)[used] - here
    return best, _rms(here) * change / math.sqrt(float(np.square(slope).sum()))


class _CurveFit:
    """Least squares of one formula: on all cells together, then on each cell's own parameters."""

    def __init__(self, data: _Data, model_name: str, name: str) -> None:
        self.data, self.model = data, _MODELS[model_name]
        self.model_name, self.name = model_name, name
        self.limits = _limits(data, self.model)

    def fit(self) -> Fit:
        """All of it."""
        steps = self.data.steps
        values, solution, used, gain = self._together()
        names, cell = tuple(values), steps.cell[used]
        own, own_covariances = self._cell_by_cell(values, used, gain)
        between = dict(zip(self.model.own, _between(own, own_covariances), strict=True))
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
        residuals = _innovations(self._device(values), steps, gain)[used]
        errors = {key: math.sqrt(square) for key, square in variance.items()}
        formula = {key: (value, errors[key]) for key, value in values.items()}
        device = self._finish(self._device(values), _first(noise_values), _first(spreads))
        return Fit.of(
            device, self.model_name, self.data, formula | noise_values | spreads, residuals
        )

    def _together(self) -> tuple[Values, Any, Booleans, float]:
        """Common values, what SciPy says of them, the steps they rest on and the gain."""
        steps = self.data.steps
        values = {key: start for key, (start, _, _) in self.limits.items()}
        used, gain = self.data.inside(steps.before, _FIRST_MARGIN * self.data.span), 1.0
        for _ in range(3):
            values, _ = self._solve(steps, used, values, tuple(values), gain)
            device = self._device(values)
            gain, _ = _best_gain(device, steps, used)
            surprise = _innovations(device, steps, gain)
            margin = _MARGIN * _rms(surprise[used])
            used = self.data.inside(steps.after - surprise, margin)
        values, solution = self._solve(steps, used, values, tuple(values), gain)
        return values, solution, used, gain

    def _cell_by_cell(self, values: Values, used: Booleans, gain: float) -> tuple[Floats, Floats]:
        """Each cell's own parameters (cells, own) and their covariances (cells, own, own)."""
        names = self.model.own
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
        if self.model.spreads[: len(_STEP_SPREADS)] != _STEP_SPREADS or len(own) == 1:
            return values
        scale, lean, *_ = np.mean([self._traits(point, values) for point in own], axis=0)
        levels = (values["levels_up"] / (scale + lean), values["levels_down"] / (scale - lean))
        return values | dict(zip(_LEVELS, map(float, levels), strict=True))

    def _solve(
        self, steps: Steps, used: Booleans, values: Values, free: tuple[str, ...], gain: float
    ) -> tuple[Values, Any]:
        """Best values, the others kept, and what SciPy says of them."""
        from scipy.optimize import least_squares  # slow to import

        def residuals(point: Floats) -> Floats:
            device = self._device(values | dict(zip(free, point.tolist(), strict=True)))
            return _innovations(device, steps, gain)[used] / self.data.span

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
            source=f"{self.model_name} fitted to pulse trains of {self.data.cells} cells",
            **noise,
            **of_device,
        )

    def _noise_within_cells(self, values: Values, own: Floats, used: Booleans) -> _Noise:
        """Noise of single steps, around each cell's own fit."""
        steps, surprise = self.data.steps, np.empty(len(self.data.steps))
        gain = _best_gain(self._device(values), steps, used)
        for cell, point in enumerate(own):
            mine = steps.cell == cell
            device = self._device(values | self._named(point))
            surprise[mine] = _innovations(device, _take(steps, mine), gain[0], clip=False)
        parameters = len(values) + (len(own) - 1) * own.shape[1]
        count = max(int(used.sum()) - parameters, 1)
        return _Noise.of(surprise[used], gain, steps.after[used], count)

    def _named(self, point: Floats) -> Values:
        return dict(zip(self.model.own, point.tolist(), strict=True))

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
            name: _root(square, error)
            for name, square, error in zip(names, between, doubt, strict=True)
        }

    def _traits(self, point: Floats, common: Values) -> Floats:
        """Labels; or step scale, asymmetry and bounds relative to the common device."""
        if self.model.spreads == ("device_to_device",):
            return point
        device, nominal = self._device(common | self._named(point)), self._device(common)
        middle = (nominal.g_min + nominal.g_max) / 2.0
        here, both = np.array([middle, middle]), np.array([1, -1])
        up, down = (_predict(device, here, both) - here) / (_predict(nominal, here, both) - here)
        traits = [(up + down) / 2.0, (up - down) / 2.0]
        if "g_min" in self.model.own:
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


def _limits(data: _Data, model: _Model) -> dict[str, Limits]:
    """Start and bounds of every parameter, guessed from the mean steps."""
    steps = data.steps
    moves = (steps.after - steps.before) * steps.polarity / data.span
    limits: dict[str, Limits] = {}
    for key, sign in (("levels_up", 1), ("levels_down", -1)):
        mean = float(moves[steps.polarity == sign].mean())
        limits[key] = (min(max(1.0 / max(mean, 1e-5), 2.0), 1e5), 1.0, 1e7)
    limits |= model.shape
    if "g_min" in limits:
        middle, edge = (data.low + data.high) / 2.0, 0.02 * data.span
        limits["g_min"] = (max(data.low - edge, data.low / 2.0), 1e-3 * data.low, middle)
        limits["g_max"] = (data.high + edge, middle, 100.0 * data.high)
    return limits


def _predict(device: Device, before: Floats, polarity: np.ndarray) -> Floats:
    """Conductance after one pulse, bounds of affine responses not applied."""
    state = torch.from_numpy((before - device.g_min) / device.span)
    pulses = torch.from_numpy(np.asarray(polarity, dtype=np.float64))
    device.response.cells(device).step(state, pulses)
    return state.numpy() * device.span + device.g_min


def _innovations(device: Device, steps: Steps, gain: float, *, clip: bool = True) -> Floats:
    """Readings minus predictions; with a gain below 1, predictions from the estimated state.

    The estimate is clipped to the range, as states are. The gain itself is sought without: clipped,
    a state is known better for a while than a steady gain tells.
    """
    if gain == 1.0:
        return steps.after - _predict(device, steps.before, steps.polarity)
    grid = np.linspace(steps.before.min(), steps.before.max(), _GRID)  # a loop over pulses is slow
    rise, fall = (_predict(device, grid, np.full(_GRID, sign)) for sign in (1, -1))
    level, surprise = steps.before.copy(), np.empty(len(steps))
    for turn, (rows, following) in enumerate(_turns(steps)):
        share = max(gain, 1.0 / (turn + 2.0))  # a train starts from a single noisy reading
        state, up = level[rows], steps.polarity[rows] > 0
        predicted = np.where(up, np.interp(state, grid, rise), np.interp(state, grid, fall))
        surprise[rows] = steps.after[rows] - predicted
        estimate = predicted + share * surprise[rows]
        if clip:
            estimate = estimate.clip(device.g_min, device.g_max)
        level[following] = estimate[: len(following)]
    return surprise


def _turns(steps: Steps) -> list[tuple[Integers, Integers]]:
    """First steps of all trains and the steps that follow them, second steps, and so on.

    Longer trains come first, so that those which go on are the first of each turn.
    """
    starts = np.flatnonzero(steps.first)
    lengths = np.diff(starts, append=len(steps))
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    rows = [starts[lengths > turn] + turn for turn in range(int(lengths.max()) + 1)]
    return list(itertools.pairwise(rows))


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


def _root(square: float, error: float) -> tuple[float, float]:
    """Root of an estimated variance (0 if it came out negative) and its standard error."""
    root = math.sqrt(max(float(square), 0.0))
    bound = math.sqrt(float(error))
    return root, bound if root <= bound else float(error) / (2.0 * root)


def _span_error(variance: Values) -> float:
    """Standard error of a fitted range; 0 for one that was given."""
    return math.sqrt(variance.get("g_min", 0.0) + variance.get("g_max", 0.0))


def _rms(values: Floats) -> float:
    return math.sqrt(float(np.square(values).mean()))


def _first(parameters: Parameters) -> Values:
    return {key: value for key, (value, _) in parameters.items()}


def _fit_table(data: _Data, name: str) -> Fit:
    """Mean step on a grid of states for each polarity; noise that follows the spread."""
    steps, used = data.steps, data.inside(data.steps.before, _FIRST_MARGIN * data.span)
    for _ in range(3):
        tables = {sign: _jumps(data, used, sign) for sign in (1, -1)}
        device = _table_device(data, tables[1][0], tables[-1][0], name)
        predicted = _predict_table(device, steps)
        residuals = steps.after - predicted
        used = data.inside(predicted, _MARGIN * _rms(residuals[used]))
    parameters = sum(len(jumps.nodes) for jumps, _ in tables.values())
    gain = _best_gain(device, steps, used)
    surprise = _innovations(device, steps, gain[0], clip=False)[used]
    noise = _Noise.of(surprise, gain, steps.after[used], max(len(surprise) - parameters, 1))
    spreads = _scale_spread(data, predicted - steps.before, residuals, used)
    fitted: dict[str, Any] = _table_noise(tables[1][0], tables[-1][0], noise, data)
    response = JumpTable(up=tables[1][0], down=tables[-1][0], **_first(spreads))
    means: Parameters = {}
    for word, (jumps, errors) in zip(("up", "down"), tables.values(), strict=True):
        for node, mean, error in zip(jumps.nodes, jumps.mean, errors, strict=True):
            means[f"{word}[{node:.4f}]"] = (mean, error)
    device = replace(
        device,
        response=response,
        source=f"jump table of pulse trains of {data.cells} cells",
        **fitted,
    )
    return Fit.of(device, _TABLE, data, means | spreads, residuals[used])


def _jumps(data: _Data, used: Booleans, sign: int) -> tuple[Jumps, list[float]]:
    steps = data.steps
    mine = used & (steps.polarity == sign)
    state = (steps.before[mine] - data.low) / data.span
    return measure_jumps(state, sign * (steps.after - steps.before)[mine] / data.span)


def _table_device(data: _Data, up: Jumps, down: Jumps, name: str) -> Device:
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
    """As :func:`_predict`, but not clipped to the bounds."""
    table: Any = device.response
    state = (steps.before - device.g_min) / device.span
    up, down = (np.interp(state, jumps.nodes, jumps.mean) for jumps in (table.up, table.down))
    return steps.before + device.span * np.where(steps.polarity > 0, up, -down)


def _table_noise(up: Jumps, down: Jumps, noise: _Noise, data: _Data) -> Values:
    """The device's noise law fitted to the spread of the tables, read noise taken out."""
    from scipy.optimize import nnls

    spread, mean, state = (
        np.array([*getattr(up, key), *getattr(down, key)]) for key in ("spread", "mean", "nodes")
    )
    seen = 2.0 * np.square(noise.read * (data.low / data.span + state))
    spread = np.sqrt(np.maximum(np.square(spread) - seen, 0.0))
    law, _ = nnls(np.stack([np.ones_like(state), mean, state], axis=1), spread)
    keys = ("cycle_to_cycle", "step_noise", "state_noise")
    return dict(zip(keys, law.tolist(), strict=True)) | {"read_noise": noise.read}


def _scale_spread(data: _Data, moves: Floats, residuals: Floats, used: Booleans) -> Parameters:
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
    return {"scale_spread": _root(total - float(np.mean(variances)), doubt)}
