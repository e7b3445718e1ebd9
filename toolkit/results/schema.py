"""The schema of a run: every recorded variable, declared once, and the tree built from them.

``toolkit.training`` measures; ``files.py`` writes trees to disk and ``opening.py`` reads them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from toolkit.checks import check_count, check_instance

SCHEMA_VERSION = 3  # 2: g_min, g_max; 3: indices "step" of layers, "evaluation_step"

REFERENCES = (
    "Huang, Hoskins, Daniels, Stiles, Adam: Low-Rank Gradient Descent for Memory-Efficient "
    "Training of Deep In-Memory Arrays, ACM JETC 19(2), 2023, doi:10.1145/3577214"
)


EVERY_STEP = "every training step"
EVERY_EPOCH = "at the end of every epoch"
EVERY_CHANGE = "when a knob is changed during the run"
EVERY_RECORD = "every `record_every` steps"
IN_CELLS = "every `record_every` steps, of weights in crossbars; NaN (counts: 0) at other records"


@dataclass(frozen=True)
class Variable:
    """One recorded variable: its name, dims, unit (CF: "1" is dimensionless), meaning and dtype.

    ``recorded`` says when its values are recorded.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    dtype: str = "float64"
    recorded: str = ""

    @property
    def attrs(self) -> dict[str, str]:
        """Its attributes in a file."""
        attrs = {"long_name": self.long_name, "units": self.units}
        return {name: text for name, text in attrs.items() if text}


def _over(*dims: str, recorded: str) -> Callable[..., Variable]:
    """Return a maker of variables with the same dims and recording time."""

    def make(name: str, units: str, long_name: str, dtype: str = "float64") -> Variable:
        return Variable(name, dims, units, long_name, dtype, recorded)

    return make


_training = _over("step", recorded=EVERY_STEP)
TRAINING = (
    _training("loss", "1", "loss of the batch before its update"),
    _training("accuracy", "1", "fraction of the batch classified correctly"),
    _training("r_squared", "1", "R^2 of the batch, in place of accuracy in a regression"),
    _training("learning_rate", "1", "learning rate"),
    _training("rank", "1", "rank asked for (a layer clips it to its own largest)", "int64"),
    _training("batch_size", "1", "samples in the batch", "int64"),
    _training("samples_seen", "1", "samples trained on so far", "int64"),
    _training("pulses", "1", "programming pulses issued so far, all arrays", "int64"),
)

_evaluation = _over("evaluation_step", recorded=EVERY_EPOCH)
EVALUATION = (
    _evaluation("test_loss", "1", "loss on the test set"),
    _evaluation("test_accuracy", "1", "fraction of the test set classified correctly"),
    _evaluation("test_r_squared", "1", "R^2 on the test set, in a regression"),
)

_event = _over("event", recorded=EVERY_CHANGE)
EVENTS = (
    _event("event_step", "1", "training steps done when the knob changed", "int64"),
    _event("knob", "", "the knob that changed", "str"),
    _event("old", "", "its value before, as JSON", "str"),
    _event("new", "", "its value after, as JSON", "str"),
)

_spectrum = _over("step", "component", recorded=EVERY_RECORD)
_scalar = _over("step", recorded=EVERY_RECORD)
_range = _over("step", recorded=IN_CELLS)
_pairs = _over("step", "polarity", "output", "input", recorded=IN_CELLS)
LAYER = (
    _spectrum("singular_value", "1", "singular values of the true gradient"),
    _spectrum("sigma", "1", "sigma of the rank-k estimate, sorted"),
    _scalar("captured_energy", "1", "1 - |G - Ghat|^2/|G|^2, Frobenius norm"),
    _scalar("optimal_energy", "1", "the most any estimate of that rank captures"),
    _scalar("largest_angle", "degree", "largest principal angle to the optimal subspace"),
    _scalar("rank", "1", "rank of the applied update", "int64"),
    _over("step", "output", "input", recorded=EVERY_RECORD)(
        "weight", "1", "weights that the array stands for", "float32"
    ),
    _pairs("conductance", "S", "conductance of the pair", "float32"),
    _pairs("pulse_count", "1", "pulses issued to the cell", "int32"),
    _range("g_min", "S", "least conductance of the device"),
    _range("g_max", "S", "largest conductance of the device"),
)

POLARITY = Variable("polarity", ("polarity",), "", "cell of the pair", "str", "once")
STEP = _training("step", "1", "training step, counted from 1", "int64")
EVALUATION_STEP = _evaluation(
    "evaluation_step", "1", "training steps done at the evaluation", "int64"
)
RECORD_STEP = _scalar("step", "1", "training steps done at the record", "int64")

_of_run = _over(recorded="at the end of the run")
_epoch = _over("epoch", recorded=EVERY_EPOCH)
# over the knobs that vary, and these dims
SWEEP = (
    _epoch("test_loss", "1", "loss on the test set"),
    _epoch("test_accuracy", "1", "fraction of the test set classified correctly"),
    _epoch("loss", "1", "loss of the batches, mean over the epoch"),
    _epoch("accuracy", "1", "fraction of the batches classified correctly, mean over the epoch"),
    _epoch("steps", "1", "training steps done"),
    _epoch("samples_seen", "1", "samples trained on so far"),
    _epoch("pulses", "1", "programming pulses issued so far, all arrays"),
    _of_run("status", "1", "0: not run yet, 1: done, 2: failed", "int64"),
    _of_run("error", "", "why the run failed", "str"),
)


GROUPS: dict[str, tuple[Variable, ...]] = {
    "training": (STEP, *TRAINING, EVALUATION_STEP, *EVALUATION),
    "events": EVENTS,
    "layers/<name>": (RECORD_STEP, *LAYER, POLARITY),
}


#: What says how well a network fits: accuracy, or R^2 of a regression.
MEASURES = ("accuracy", "r_squared")


def last_fit(training: xr.Dataset) -> str:
    """The last test accuracy ("93.2%") or R^2 ("R² 0.876") of a run; empty if there is none."""
    for measure, form in zip(MEASURES, ("{:.1%}", "R² {:.3f}"), strict=True):
        found = training.get(f"test_{measure}")
        if found is not None and found.size:
            return form.format(float(found[-1]))
    return ""


def group_variables(group: str) -> dict[str, Variable]:
    """The variables declared for a group of a run, by name; none for an unknown group."""
    group = group.strip("/")
    known = "layers/<name>" if group.startswith("layers/") else group
    return {variable.name: variable for variable in GROUPS.get(known, ())}


def markdown_table() -> str:
    """The table of ``docs/results.md``: one row per variable."""
    rows = ["| group | variable | dims | unit | type | what it is | when recorded |"]
    rows.append("|" + " --- |" * 7)
    for group, variables in (GROUPS | {"": SWEEP}).items():
        for v in variables:
            unit = "" if v.units == "1" else v.units
            name = f"`/{group}`" if group else "a sweep"
            dims = v.dims if group else ("the knobs", *v.dims)
            cells = (name, f"`{v.name}`", ", ".join(dims), unit, v.dtype, v.long_name)
            shown = (cell.replace("|", "\\|") for cell in (*cells, v.recorded))
            rows.append("| " + " | ".join(shown) + " |")
    return "\n".join(rows) + "\n"


def dataset(
    variables: tuple[Variable, ...],
    columns: Mapping[str, Any],
    coords: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a Dataset of the ``variables`` in ``columns``, with units and long names.

    Raises
    ------
    ValueError
        If ``columns`` has a name that the schema does not declare.
    """
    known = {variable.name: variable for variable in variables}
    if unknown := set(columns) - set(known):
        raise ValueError(
            f"columns holds undeclared variables {sorted(unknown)}; allowed: {sorted(known)}."
        )
    data = {name: labelled(known[name], values) for name, values in columns.items()}
    return xr.Dataset(data, coords=coords)


def labelled(variable: Variable, values: Any) -> xr.Variable:
    """``values`` as an xarray variable with its dims, dtype, unit and long name."""
    # variable-length strings: the only kind that netCDF and Zarr both store without a warning
    dtype = np.dtypes.StringDType() if variable.dtype == "str" else np.dtype(variable.dtype)
    array = np.asarray(values, dtype=dtype)
    if array.size == 0:
        array = array.reshape([0] * len(variable.dims))
    return xr.Variable(variable.dims, array, variable.attrs)


def root_attributes(
    *, seed: int, settings: Mapping[str, Any], title: str, created: datetime
) -> dict[str, str | int]:
    """Provenance of a run: its maker, time and settings (str and numbers only)."""
    from toolkit import __version__

    check_count("seed", seed, 0)
    check_instance("settings", settings, Mapping, "a mapping")
    check_instance("title", title, str, "text")
    check_instance("created", created, datetime, "a datetime")
    return {
        "title": title,
        "Conventions": "CF-1.11",
        "source": f"sbpca-toolkit {__version__}",
        "toolkit_version": __version__,
        "created_at": created.astimezone(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "settings": json.dumps(dict(settings), default=str),
        "torch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "references": REFERENCES,
        "schema_version": SCHEMA_VERSION,
    }


@functools.cache
def _version(package: str) -> str:
    return version(package)


def build_tree(
    attributes: Mapping[str, str | int],
    *,
    training: xr.Dataset,
    events: xr.Dataset,
    layers: Mapping[str, xr.Dataset],
) -> xr.DataTree:
    """The tree of one run: ``/training``, ``/events`` and ``/layers/<name>``."""
    check_instance("attributes", attributes, Mapping, "a mapping")
    check_instance("training", training, xr.Dataset, "an xarray.Dataset")
    check_instance("events", events, xr.Dataset, "an xarray.Dataset")
    check_instance("layers", layers, Mapping, "a mapping of xarray.Datasets")
    nodes = {"/": xr.Dataset(attrs=dict(attributes)), "/training": training, "/events": events}
    nodes |= {f"/layers/{name}": layer for name, layer in layers.items()}
    return xr.DataTree.from_dict(nodes)
