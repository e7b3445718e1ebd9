"""The schema of a run: every recorded variable, declared once, and the tree built from them.

What is measured, when, and by whom is not decided here (``toolkit.training``); how a tree gets to
disk and back is in ``files.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

SCHEMA_VERSION = 1

REFERENCES = (
    "Huang, Hoskins, Daniels, Stiles, Adam: Low-Rank Gradient Descent for Memory-Efficient "
    "Training of Deep In-Memory Arrays, ACM JETC 19(2), 2023, doi:10.1145/3577214"
)


@dataclass(frozen=True)
class Variable:
    """One recorded variable: its name, dims, unit (CF: "1" is dimensionless), meaning and dtype."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    dtype: str = "float64"


TRAINING = (
    Variable("loss", ("step",), "1", "cross-entropy of the batch before its update"),
    Variable("accuracy", ("step",), "1", "fraction of the batch classified correctly"),
    Variable("learning_rate", ("step",), "1", "learning rate"),
    Variable(
        "rank", ("step",), "1", "rank asked for (a layer clips it to its own largest)", "int64"
    ),
    Variable("batch_size", ("step",), "1", "samples in the batch", "int64"),
    Variable("samples_seen", ("step",), "1", "samples trained on so far", "int64"),
    Variable("pulses", ("step",), "1", "programming pulses issued so far, all arrays", "int64"),
)

EVALUATION = (
    Variable(
        "evaluation_step", ("evaluation",), "1", "training steps done at the evaluation", "int64"
    ),
    Variable("test_loss", ("evaluation",), "1", "cross-entropy on the test set"),
    Variable(
        "test_accuracy", ("evaluation",), "1", "fraction of the test set classified correctly"
    ),
)

EVENTS = (
    Variable("event_step", ("event",), "1", "training steps done when the knob changed", "int64"),
    Variable("knob", ("event",), "", "the knob that changed", "str"),
    Variable("old", ("event",), "", "its value before, as JSON", "str"),
    Variable("new", ("event",), "", "its value after, as JSON", "str"),
)

LAYER = (
    Variable(
        "singular_value", ("record", "component"), "1", "singular values of the true gradient"
    ),
    Variable("sigma", ("record", "component"), "1", "sigma of the rank-k estimate, sorted"),
    Variable("captured_energy", ("record",), "1", "1 - |G - Ghat|^2/|G|^2, Frobenius norm"),
    Variable("optimal_energy", ("record",), "1", "the most any estimate of that rank captures"),
    Variable(
        "largest_angle", ("record",), "degree", "largest principal angle to the optimal subspace"
    ),
    Variable("rank", ("record",), "1", "rank of the applied update", "int64"),
    Variable(
        "weight", ("record", "output", "input"), "1", "weights that the array stands for", "float32"
    ),
    Variable(
        "conductance",
        ("record", "polarity", "output", "input"),
        "S",
        "conductance of the pair",
        "float32",
    ),
    Variable(
        "pulse_count",
        ("record", "polarity", "output", "input"),
        "1",
        "pulses issued to the cell",
        "int32",
    ),
)

POLARITY = Variable("polarity", ("polarity",), "", "cell of the pair", "str")
STEP = Variable("step", ("step",), "1", "training steps done, this one included", "int64")
RECORD_STEP = Variable("step", ("record",), "1", "training steps done at the record", "int64")


def dataset(
    variables: tuple[Variable, ...],
    columns: Mapping[str, Any],
    coords: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """A Dataset of those ``variables`` that ``columns`` holds, with units and long names attached.

    Raises
    ------
    ValueError
        If ``columns`` holds a name that the schema does not declare.
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
    # variable-length strings: the one kind that netCDF and Zarr both hold without a warning
    dtype = np.dtypes.StringDType() if variable.dtype == "str" else np.dtype(variable.dtype)
    array = np.asarray(values, dtype=dtype)
    if array.size == 0:
        array = array.reshape([0] * len(variable.dims))
    attrs = {"long_name": variable.long_name}
    if variable.units:
        attrs["units"] = variable.units
    return xr.Variable(variable.dims, array, attrs)


def root_attributes(
    *, seed: int, settings: Mapping[str, Any], title: str, created: datetime
) -> dict[str, str | int]:
    """Provenance of a run: what made it, when and with which settings (str and numbers only)."""
    from toolkit import __version__

    return {
        "title": title,
        "Conventions": "CF-1.11",
        "source": f"sbpca-toolkit {__version__}",
        "toolkit_version": __version__,
        "created_at": created.astimezone(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "settings": json.dumps(dict(settings), default=str),
        "torch_version": version("torch"),
        "numpy_version": version("numpy"),
        "references": REFERENCES,
        "schema_version": SCHEMA_VERSION,
    }


def build_tree(
    attributes: Mapping[str, str | int],
    *,
    training: xr.Dataset,
    events: xr.Dataset,
    layers: Mapping[str, xr.Dataset],
) -> xr.DataTree:
    """The tree of one run: ``/training``, ``/events`` and ``/layers/<name>``."""
    nodes = {"/": xr.Dataset(attrs=dict(attributes)), "/training": training, "/events": events}
    nodes |= {f"/layers/{name}": layer for name, layer in layers.items()}
    return xr.DataTree.from_dict(nodes)
