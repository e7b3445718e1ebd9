"""Devices from measured pulse trains: a fitted formula with errors, or a jump table.

Reading and checking of tables is in :mod:`toolkit.fitting.trains`, the fit of a formula in
:mod:`toolkit.fitting.formula_fit`, the jump table in :mod:`toolkit.fitting.table_fit`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.checks import check_choice, check_flag, check_instance
from toolkit.fitting.bounded_steps import EXACT, BoundedSteps
from toolkit.fitting.formula_fit import FormulaFit
from toolkit.fitting.models import MODELS
from toolkit.fitting.result import Fit, rms
from toolkit.fitting.table_fit import TABLE_MODEL, fit_table
from toolkit.fitting.trains import Booleans, PulseTrains

BEST = "best"


def model_names() -> tuple[str, ...]:
    """Names of the models: ``model`` may be one of them, or "best"."""
    return (*MODELS, TABLE_MODEL)


def fit_csv(
    path: str | Path,
    *,
    model: str = "neurosim",
    name: str | None = None,
    conductance_range: tuple[float, float] | None = None,
    robust: bool = False,
    **layout: Any,
) -> Fit:
    """:func:`fit_device` on a file as :meth:`PulseTrains.from_csv` reads it, named after it.

    ``**layout`` is what the table does not say: ``columns``, ``read_voltage``, ``unit``,
    ``polarities``, ``protocol``.

    Examples
    --------
    >>> from toolkit.fitting import EXAMPLE_CSV
    >>> device = fit_csv(EXAMPLE_CSV).device  # made with 60 and 50 levels
    >>> round(device.levels_up), round(device.levels_down)
    (60, 50)
    """
    trains = PulseTrains.from_csv(path, **layout)
    name = Path(path).stem if name is None else name
    fit = fit_device(
        trains, model=model, name=name, conductance_range=conductance_range, robust=robust
    )
    return with_origin(fit, Path(path).name, Path(path).read_bytes())


def with_origin(fit: Fit, file: str, data: bytes) -> Fit:
    """The fit, and its device's source, with the name and checksum of the table."""
    digest = hashlib.sha256(data).hexdigest()
    source = f"{fit.device.source}; {file}, SHA-256 {digest[:16]}"
    device = replace(fit.device, source=source)
    return replace(fit, device=device, origin={"file": file, "sha256": digest}).signed()


def fit_device(
    trains: PulseTrains,
    *,
    model: str = "neurosim",
    name: str = "measured",
    conductance_range: tuple[float, float] | None = None,
    robust: bool = False,
) -> Fit:
    """Fit a device to pulse trains by least squares over all single steps.

    Parameters
    ----------
    trains
        What was measured.
    model
        "neurosim" (levels, labels), "constant-step", "linear-step" (levels, decreases),
        "soft-bounds" (levels, and the range itself: its bounds are where steps vanish),
        "pow-step" (levels, gammas) or "jump-table" (mean step on a grid of states). "best" fits
        all of them and takes that of the least AIC: ``fit.comparison`` has the table.
    name
        Of the device.
    conductance_range
        g_min, g_max in siemens; None: the lowest and highest reading. With noisy readings give it:
        levels and labels are relative to it.
    robust
        Leave out readings that stand alone (:meth:`PulseTrains.without_outliers`).

    Notes
    -----
    ``cycle_to_cycle`` is the standard deviation of a single step around the fit of its own cell, as
    a fraction of the range: n pulses carry sqrt(n) of it. A jump table's noise may depend on
    state: ``cycle_to_cycle + step_noise |dx| + state_noise x`` is fitted to its spread
    (non-negative least squares). Spread from cell to cell is that of the cells' own fits, less the
    variance of those fits. Where cells differ (F test), a formula's parameters are the mean of the
    cells' own fits and their errors those of that mean, with one degree of freedom less than cells;
    else one fit to all of them, with White's errors.

    A bound is taken as hard, and steps near it as possibly clipped and left out, if it is given or
    if more than one reading is exactly there. A jump table is not corrected for the pull that noise
    of the readings has on its ends.

    Where all pulses of a polarity start within 5 % of the range, as those of an abrupt RESET, its
    shape (nonlinearity, decrease or gamma) is not fitted and 0.

    Trains of one polarity make a one-sided device: the other polarity is its mirror image and means
    nothing; use ``pair="one-sided"``. Of more than 100 cells or 100,000 readings, that many are
    fitted, as whole trains; the range is that of all.

    Raises
    ------
    ValueError
        If the model is unknown, the range is not ``0 < g_min < g_max``, or the data do not
        determine the parameters.
    """
    check_instance("trains", trains, PulseTrains, "PulseTrains")
    check_choice("model", model, (*model_names(), BEST))
    check_instance("name", name, str, "text")
    check_flag("robust", robust)
    trains = trains.without_outliers() if robust else trains.with_outliers_said()
    part = trains.thinned()
    data = BoundedSteps.of(part, conductance_range, trains.conductance)
    try:
        fit = _best(data, name) if model == BEST else _fit(data, model, name)
    except ValueError as error:
        if robust or not (said := trains.outliers_said()):
            raise
        raise ValueError(f"{error}; {said}") from error
    return replace(fit, understood=part.understood).signed()


def _fit(data: BoundedSteps, model: str, name: str) -> Fit:
    if model == TABLE_MODEL:
        return fit_table(data, name)
    return FormulaFit(data, model, name).fit()


def _best(data: BoundedSteps, name: str) -> Fit:
    """The fit of the least AIC, compared on the steps that all of them use."""
    fits: dict[str, Fit] = {}
    failed: dict[str, str] = {}
    for model in model_names():
        try:
            fits[model] = _fit(data, model, name)
        except ValueError as error:
            failed[model] = str(error)
    if not fits:
        raise ValueError(f"no model fits these trains: {next(iter(failed.values()))}")
    common = np.logical_and.reduce([fit.used for fit in fits.values()])
    scores = {model: _aic(fit, common, data.span) for model, fit in fits.items()}
    ranked = sorted(scores, key=lambda model: round(scores[model], 1))
    best, rest = ranked[0], ranked[1:]
    lines = [f"{'model':<14} {'AIC':>10} {'rms (%)':>9} {'numbers':>8}"]
    for model in ranked:
        share, count = rms(fits[model].residuals) / data.span, _numbers(fits[model])
        behind = scores[model] - scores[best]
        lines.append(f"{model:<14} {behind:>+10.1f} {100.0 * share:>9.3g} {count:>8}")
    lines += [f"{model:<14} not fitted: {why}" for model, why in failed.items()]
    reason = f"{best}: the least AIC over {int(common.sum()):,} common steps"
    if rest:
        reason += f", by {scores[rest[0]] - scores[best]:.1f} before {rest[0]}"
    return replace(fits[best], comparison="\n".join([*lines, reason]))


def _numbers(fit: Fit) -> int:
    """Parameters of the mean step: not the noise, not the spreads."""
    return (
        sum("cycle" not in key and "spread" not in key for key in fit.parameters)
        - ("read_noise" in fit.parameters)
        - ("device_to_device" in fit.parameters)
    )


def _aic(fit: Fit, common: Booleans, span: float) -> float:
    """``n ln(RSS / n) + 2 k``, residuals as a share of the span, the same one for all models."""
    residuals = fit.residuals[common[fit.used]]
    square = float(np.square(residuals / span).mean()) if len(residuals) else 0.0
    return len(residuals) * math.log(max(square, EXACT**2)) + 2.0 * (_numbers(fit) + 1)
