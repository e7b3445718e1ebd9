"""The recorder: a bounded record of a run's measurements, as xarray.

Spectra are computed from factors alone. ``toolkit.results.schema`` declares the variables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from toolkit.crossbar import Array
from toolkit.lowrank import (
    LowRank,
    TruncatedSVD,
    captured_energy,
    principal_angles,
    singular_values,
)
from toolkit.results import schema
from toolkit.results.stream import Stream
from toolkit.training.experiment.series import Series

MAX_RECORDS = 200
MAX_BYTES = 256 * 2**20
MAX_STEPS = 100_000

_STATE = (
    "_evaluations",
    "_events",
    "_layers",
    "_record_steps",
    "_stride",
    "_offered",
    "_provisional",
)
_STREAMED_OF_LAYER = tuple(variable.name for variable in schema.LAYER)


@dataclass(frozen=True)
class StepRecord:
    """One training step, as yielded by ``Experiment.steps``.

    ``accuracy`` is NaN in a regression, ``r_squared`` in a classification.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    rank: int
    batch_size: int
    samples_seen: int
    pulses: int
    r_squared: float = math.nan


@dataclass(frozen=True)
class Spectrum:
    """One layer's gradient at one step, compared with its estimate.

    ``singular_value`` (min(m, n),) is that of the true gradient, zero beyond its rank; ``sigma``
    (min(m, n),) is that of the estimate, sorted, NaN beyond its rank; energies are fractions of
    |G|^2 and ``largest_angle`` is in degrees, all NaN if there is no gradient.
    """

    rank: int
    singular_value: np.ndarray
    sigma: np.ndarray
    captured_energy: float
    optimal_energy: float
    largest_angle: float


def spectrum(update: LowRank, errors: Tensor, activations: Tensor) -> Spectrum:
    """Compare ``update`` with ``errors.T @ activations`` in float64 without forming either.

    For an update of rank above min(m, n) (the full gradient) the gradient's own values are used.
    """
    errors, activations = _condensed(errors, activations)
    update = LowRank(update.left.double(), update.sigma.double(), update.right.double())
    width = min(update.shape)
    rank = min(update.rank, width)
    true = _padded(singular_values(errors, activations), width, fill=0.0)
    exact = update.rank > width
    sigma = (
        true if exact else _padded(update.sigma.sort(descending=True).values, width, fill=np.nan)
    )
    if not true[0] > 0:
        return Spectrum(rank, true, sigma, np.nan, np.nan, np.nan)
    return Spectrum(
        rank,
        true,
        sigma,
        1.0 if exact else float(captured_energy(update, errors, activations)),
        float((true[:rank] ** 2).sum() / (true**2).sum()),
        0.0 if exact else _largest_angle(update, errors, activations),
    )


def _condensed(errors: Tensor, activations: Tensor, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """Samples in float64 with the same gradient, at most m of them.

    A convolution has many more samples than rows; there the pair (I, gradient) is smaller.
    """
    samples, m = errors.shape
    if samples <= m:
        return errors.double(), activations.double()
    gradient = torch.zeros(m, activations.shape[1], dtype=torch.float64, device=errors.device)
    for d, a in zip(errors.split(chunk), activations.split(chunk), strict=True):
        gradient.addmm_(d.double().T, a.double())
    return torch.eye(m, dtype=torch.float64, device=errors.device), gradient


def _largest_angle(update: LowRank, errors: Tensor, activations: Tensor) -> float:
    best = TruncatedSVD(rank=update.rank).update(errors, activations)
    sides = ((update.left, best.left), (update.right, best.right))
    return float(torch.rad2deg(max(principal_angles(*side).max() for side in sides)))


def _padded(values: Tensor, width: int, *, fill: float) -> np.ndarray:
    padded = np.full(width, fill)
    padded[: len(values)] = values[:width].detach().double().cpu().numpy()
    return padded


_OF_STEP = [field.name for field in fields(StepRecord)]


class Recorder:
    """Training steps and layer records, both bounded in number.

    If there are more layer records than ``MAX_RECORDS``, or they hold more than ``MAX_BYTES``,
    every second one is dropped, and from then on only every second new one is kept, so the record
    of a run of any length covers its whole past evenly. The same holds for steps, of which at most
    ``MAX_STEPS`` are kept. A provisional layer record, made because results were requested between
    two regular ones, is replaced by the next. A stream receives every step and every layer record,
    whatever is dropped here. ``measure`` is what says how well the network fits, ``accuracy`` or
    ``r_squared``; the other is not recorded.
    """

    def __init__(self, layer_names: list[str], *, measure: str = "accuracy") -> None:
        absent = {name for name in schema.MEASURES if name != measure}
        self._absent = frozenset(absent | {f"test_{name}" for name in absent})
        self._training = tuple(v for v in schema.TRAINING if v.name not in self._absent)
        self._evaluation = tuple(v for v in schema.EVALUATION if v.name not in self._absent)
        self._streamed = ("step", *(variable.name for variable in self._training))
        self._steps = Series(len(_OF_STEP), MAX_STEPS // 2)
        self._evaluations: list[tuple[int, float, float]] = []
        self._events: list[tuple[int, str, Any, Any]] = []
        self._layers: dict[str, list[dict[str, Any]]] = {name: [] for name in layer_names}
        self._record_steps: list[int] = []
        self._stride, self._offered = 1, 0
        self._provisional = False
        self._stream: Stream | None = None
        self._last_streamed = 0

    def step(self, record: StepRecord) -> None:
        """Record one training step."""
        self._steps.add([getattr(record, name) for name in _OF_STEP])
        if self._stream is not None:
            self._stream.append(
                "training", {name: getattr(record, name) for name in self._streamed}
            )

    def evaluation(self, step: int, loss: float, fit: float) -> None:
        """Record one evaluation on the test set; ``fit`` is accuracy or R^2."""
        self._evaluations.append((step, loss, fit))
        if self._stream is not None:
            self._stream.append("training", self._evaluation_row(self._evaluations[-1]))
            self._stream.commit()

    def event(self, step: int, knob: str, old: Any, new: Any) -> None:
        """Record one change of a knob; an object is recorded as text, which files can hold."""
        old, new = (value if _is_plain(value) else str(value) for value in (old, new))
        self._events.append((step, knob, old, new))
        if self._stream is not None:
            self._stream.append("events", _event_row(self._events[-1]))

    def wants_layers(self) -> bool:
        """Whether the next layer records are kept or streamed; each call counts as one offer."""
        self._offered += 1
        return self._stream is not None or self._in_stride()

    def _in_stride(self) -> bool:
        return (self._offered - 1) % self._stride == 0

    def layers(
        self,
        step: int,
        spectra: dict[str, Spectrum],
        arrays: dict[str, Array],
        *,
        provisional: bool = False,
    ) -> None:
        """Record every layer's spectrum and a copy of its array."""
        records = {name: vars(found) | _copy_of(arrays[name]) for name, found in spectra.items()}
        if not provisional and self._stream is not None:
            self._stream_records(step, records)
            if not self._in_stride():
                return
        if self._provisional:
            self._keep_records(slice(-1))
        self._provisional = provisional
        self._record_steps.append(step)
        for name, record in records.items():
            self._layers[name].append(record)
        full = len(self._record_steps) > MAX_RECORDS or self._bytes() > MAX_BYTES
        if full and not provisional:
            self._keep_records(slice(None, None, 2))
            self._stride *= 2

    # --- a store that grows with the run -----------------------------------------------------

    @property
    def absent(self) -> frozenset[str]:
        """Names of the variables of the schema that are not recorded."""
        return self._absent

    @property
    def last_streamed(self) -> int:
        """Step of the newest layer record in the stream, or 0."""
        return self._last_streamed

    def stream_to(self, stream: Stream | None) -> None:
        """Write the record so far, then every new one, to ``stream``; None stops this."""
        self._stream, self._last_streamed = stream, 0
        if stream is None:
            return
        for values in zip(*(self.column(name) for name in self._streamed), strict=True):
            stream.append("training", dict(zip(self._streamed, values, strict=True)))
        for found in self._evaluations:
            stream.append("training", self._evaluation_row(found))
        for event in self._events:
            stream.append("events", _event_row(event))
        kept = len(self._record_steps) - self._provisional
        for i, step in enumerate(self._record_steps[:kept]):
            self._stream_records(step, {name: rows[i] for name, rows in self._layers.items()})
        stream.commit()

    def finish_stream(self, spectra: dict[str, Spectrum], arrays: dict[str, Array]) -> None:
        """Write the present state to the stream as its last record."""
        records = {name: vars(found) | _copy_of(arrays[name]) for name, found in spectra.items()}
        self._stream_records(self.step_count, records)

    def _stream_records(self, step: int, records: dict[str, dict[str, Any]]) -> None:
        """Weights are omitted if conductances determine them."""
        assert self._stream is not None
        for name, record in records.items():
            row = {key: record.get(key) for key in _STREAMED_OF_LAYER}
            if row["conductance"] is not None:
                del row["weight"]
            self._stream.append(f"layers/{name}", {"step": step} | row)
        self._stream.commit()
        self._last_streamed = step

    def _keep_records(self, which: slice) -> None:
        self._record_steps = self._record_steps[which]
        self._layers = {name: kept[which] for name, kept in self._layers.items()}

    def _bytes(self) -> int:
        """Bytes held by layer records, which all have the same size within a layer."""
        last = [kept[-1] for kept in self._layers.values()]
        each = sum(np.size(value) * 8 for record in last for value in record.values())
        return each * len(self._record_steps)

    @property
    def step_count(self) -> int:
        """Training steps done, whether recorded or not."""
        return self._steps.count

    @property
    def last_layer_step(self) -> int:
        """Step of the newest layer record, or 0."""
        return self._record_steps[-1] if self._record_steps else 0

    def column(self, name: str) -> np.ndarray:
        """A copy of one column of the recorded steps, float64."""
        return self._steps.column(_OF_STEP.index(name))

    @property
    def evaluations(self) -> np.ndarray:
        """(evaluations, 3): step, test loss, test accuracy (or R^2)."""
        return np.array(self._evaluations, dtype=float).reshape(-1, 3)

    @property
    def events(self) -> list[tuple[int, str, Any, Any]]:
        """Every change of a knob: step, knob, old and new value."""
        return list(self._events)

    def state_dict(self) -> dict[str, Any]:
        """Everything recorded, for a checkpoint."""
        return {name: getattr(self, name) for name in _STATE} | {
            "_steps": {name: self.column(name) for name in _OF_STEP},
            "_steps_done": self._steps.count,
            "_step_stride": self._steps.stride,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        for name in _STATE:
            setattr(self, name, state[name])
        held = state["_steps"]  # earlier checkpoints have no r_squared
        missing = np.full(len(held["step"]), np.nan)
        columns = np.stack([held.get(name, missing) for name in _OF_STEP], axis=1)
        self._steps.restore(columns, state["_step_stride"], state["_steps_done"])

    def training(self) -> xr.Dataset:
        """The ``/training`` group."""
        step, *evaluation = self.evaluations.T
        coords = {
            "step": schema.labelled(schema.STEP, self.column("step")),
            "evaluation_step": schema.labelled(schema.EVALUATION_STEP, step),
        }
        columns = {variable.name: self.column(variable.name) for variable in self._training}
        columns |= _row(self._evaluation, evaluation)
        return schema.dataset((*self._training, *self._evaluation), columns, coords=coords)

    def _evaluation_row(self, values: Sequence[Any]) -> dict[str, Any]:
        return _row((schema.EVALUATION_STEP, *self._evaluation), values)

    def events_dataset(self) -> xr.Dataset:
        """The ``/events`` group."""
        rows = [_event_row(event) for event in self._events]
        columns = {v.name: [row[v.name] for row in rows] for v in schema.EVENTS}
        return schema.dataset(schema.EVENTS, columns)

    def layer_dataset(self, name: str) -> xr.Dataset:
        """The ``/layers/<name>`` group; ``sigma`` is NaN beyond the rank of its record."""
        kept = self._layers[name]
        columns = {
            variable.name: _stack(variable, kept)
            for variable in schema.LAYER
            if any(record.get(variable.name) is not None for record in kept)
        }
        coords: dict[str, Any] = {"step": schema.labelled(schema.RECORD_STEP, self._record_steps)}
        if "conductance" in columns:
            coords["polarity"] = schema.labelled(schema.POLARITY, ["plus", "minus"])
        return schema.dataset(schema.LAYER, columns, coords=coords)


def _copy_of(array: Array) -> dict[str, np.ndarray | float | None]:
    """Weights, conductances, pulse counts and range as numpy; None if the array has none."""
    found = {
        "weight": array.weights,
        "conductance": array.conductance,
        "pulse_count": array.pulse_count,
    }
    copied = {
        name: None if tensor is None else tensor.detach().cpu().numpy().copy()
        for name, tensor in found.items()
    }
    held = array.device
    limits = (None, None) if held is None else (held.g_min, held.g_max)
    return copied | dict(zip(("g_min", "g_max"), limits, strict=True))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list)


def _row(variables: tuple[schema.Variable, ...], values: Sequence[Any]) -> dict[str, Any]:
    return {variable.name: value for variable, value in zip(variables, values, strict=True)}


def _event_row(event: tuple[int, str, Any, Any]) -> dict[str, Any]:
    step, knob, *values = event
    return _row(schema.EVENTS, (step, knob, *(json.dumps(v, default=str) for v in values)))


def _stack(variable: schema.Variable, records: list[dict[str, Any]]) -> np.ndarray:
    """Stack records along a new first axis; missing values are NaN (0 for counts)."""
    missing = np.nan if np.dtype(variable.dtype).kind == "f" else 0
    values = [record.get(variable.name) for record in records]
    shape = next(np.shape(value) for value in values if value is not None)
    return np.stack([np.full(shape, missing) if value is None else value for value in values])
