"""Devices from measured pulse trains: a fitted formula with errors, or a jump table.

Reading and checking of tables is in :mod:`toolkit.fitting.trains`, the fit of a formula in
:mod:`toolkit.fitting.formula_fit`, the jump table in :mod:`toolkit.fitting.table_fit`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.checks import check_choice, check_instance
from toolkit.fitting.bounded_steps import BoundedSteps
from toolkit.fitting.formula_fit import FormulaFit
from toolkit.fitting.models import MODELS
from toolkit.fitting.result import Fit
from toolkit.fitting.table_fit import TABLE_MODEL, fit_table
from toolkit.fitting.trains import PulseTrains


def model_names() -> tuple[str, ...]:
    """Names that ``model`` may have."""
    return (*MODELS, TABLE_MODEL)


def fit_csv(
    path: str | Path,
    *,
    model: str = "neurosim",
    name: str | None = None,
    conductance_range: tuple[float, float] | None = None,
    **layout: Any,
) -> Fit:
    """:func:`fit_device` on a file as :meth:`PulseTrains.from_csv` reads it, named after it.

    ``**layout`` is what the table does not say: ``columns``, ``read_voltage``, ``unit``,
    ``polarities``, ``protocol``.
    """
    trains = PulseTrains.from_csv(path, **layout)
    name = Path(path).stem if name is None else name
    return fit_device(trains, model=model, name=name, conductance_range=conductance_range)


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
    check_instance("trains", trains, PulseTrains, "PulseTrains")
    check_choice("model", model, model_names())
    check_instance("name", name, str, "text")
    data = BoundedSteps.of(trains, conductance_range)
    if model == TABLE_MODEL:
        return fit_table(data, name)
    return FormulaFit(data, model, name).fit()
