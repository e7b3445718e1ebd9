"""The experiment: one training run whose knobs may be turned while it goes.

It owns the model, the estimators, the data order and the recorder, and walks one path: batch ->
layers -> (errors, activations) -> estimator -> low-rank update -> array. Threads, queues and pages
are not its business (``live.py``, ``dashboards/``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from toolkit.crossbar import Crossbar, DigitalArray
from toolkit.lowrank import Estimator, LowRank, estimator_knobs, make_estimator
from toolkit.results import build_tree, root_attributes, save_results
from toolkit.training.batches import SampleOrder
from toolkit.training.datasets import load_dataset
from toolkit.training.knobs import is_live, knobs_of
from toolkit.training.layers import Array, CrossbarLinear, initial_weights
from toolkit.training.recorder import Recorder, Spectrum, StepRecord, spectrum
from toolkit.training.settings import NONIDEALITIES, Settings

_KNOBS = frozenset(knobs_of(Settings))


class DivergenceError(ArithmeticError):
    """Loss, weights or gradient are no longer finite; what was recorded until then is kept."""


class Experiment(Settings):
    """A multilayer perceptron trained with rank-k updates, on plain weights or on crossbars.

    Knobs are those of :class:`~toolkit.training.settings.Settings`. A live knob is set like an
    attribute (``run.rank = 8``), or several at once with :meth:`change`; it takes effect at the
    next batch and is kept as an event. The same knobs and seed give the same bits.

    Raises
    ------
    ValueError
        If a knob has a value that is not allowed; the run goes on with the old one.

    Examples
    --------
    >>> run = Experiment(method="sbpca", rank=4, device="Ag:a-Si", seed=0)
    >>> losses = [record.loss for record in run.steps(epochs=1)]
    >>> run.rank = 8
    """

    def __init__(self, **knobs: Any) -> None:
        super().__init__(**knobs)
        self._created = datetime.now(UTC)
        self._data = load_dataset(self.dataset)
        widths = [self._data.features, *self.hidden, self._data.classes]
        self._shapes = {
            f"layer{i + 1}": (widths[i + 1], widths[i] + 1) for i in range(len(widths) - 1)
        }
        self._check_against_data(self)
        weights, order, self._array_seed, self._estimator_seed = (
            np.random.SeedSequence(self.seed).generate_state(4).tolist()
        )
        self._order = SampleOrder(len(self._data.train_labels), seed=order)
        self._devices_used = 0
        self.layers = self._new_layers(torch.Generator().manual_seed(weights))
        self.model = nn.Sequential(*_between(list(self.layers.values()), nn.ReLU))
        self._estimators = {name: self._new_estimator(name) for name in self.layers}
        self.history = Recorder(list(self.layers))
        self._latest: dict[str, tuple[LowRank, Tensor, Tensor]] = {}
        self._samples_seen, self._earlier_pulses = 0, 0
        self._ready = True

    # --- what a user reads -------------------------------------------------------------------

    @property
    def step_count(self) -> int:
        """Training steps done."""
        return self.history.step_count

    @property
    def epoch(self) -> float:
        """Passes over the training set done, with the fraction of the present one."""
        return self._order.epoch

    @property
    def samples_per_epoch(self) -> int:
        """Samples in the training set."""
        return len(self._data.train_labels)

    @property
    def pulses(self) -> int:
        """Programming pulses issued so far, over all arrays, discarded ones included."""
        return self._earlier_pulses + sum(_pulses(layer.array) for layer in self.layers.values())

    def gradient_words(self) -> tuple[int, int]:
        """Words of the updates, k(m + n + 1) summed over layers, and of the m x n gradients."""
        held = 0
        for name, (rows, columns) in self._shapes.items():
            rank = self._estimators[name].written_rank(self.batch_size)
            held += rank * (rows + columns + 1)
        return held, sum(rows * columns for rows, columns in self._shapes.values())

    def layer_rank(self, name: str) -> int:
        """The rank that the layer can use: ``rank``, at most its min(m, n)."""
        return min(self.rank, *self._shapes[name])

    def spectra(self) -> dict[str, Spectrum]:
        """The last step's gradient spectrum of every layer; empty before the first step."""
        return {name: spectrum(*latest) for name, latest in self._latest.items()}

    def results(self) -> xr.DataTree:
        """Everything recorded so far, the present state included (``toolkit.results.schema``)."""
        if self.history.last_layer_step < self.step_count:
            self._record_layers(provisional=True)
        title = f"SBPCA Toolkit run: {self.dataset}, {self.method}, rank {self.rank}"
        return build_tree(
            root_attributes(
                seed=self.seed, settings=self.knob_values(), title=title, created=self._created
            ),
            training=self.history.training(),
            events=self.history.events_dataset(),
            layers={name: self.history.layer_dataset(name) for name in self.layers},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`results` to a ``.nc`` or ``.zarr`` path."""
        return save_results(self.results(), path)

    # --- training ----------------------------------------------------------------------------

    def steps(self, *, epochs: int) -> Iterator[StepRecord]:
        """Train for ``epochs`` more passes over the training set, yielding every step.

        Raises
        ------
        ValueError
            If ``epochs`` is no whole number of 1 or more.
        DivergenceError
            If the loss is no longer finite.
        """
        if not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"epochs must be a whole number, 1 or more; got {epochs!r}.")
        last = math.floor(self.epoch) + epochs
        while self.epoch < last:
            yield self.step()

    def step(self) -> StepRecord:
        """Train on one batch; the test set is evaluated when an epoch ends.

        Raises
        ------
        DivergenceError
            If loss, weights or gradient are no longer finite.
        """
        try:
            return self._train_on_batch()
        except (ValueError, torch.linalg.LinAlgError) as error:  # how the parts refuse NaN
            raise DivergenceError(
                f"training diverged at step {self.step_count + 1}: {error}; "
                f"try a learning_rate below {self.learning_rate:g}."
            ) from error

    def _train_on_batch(self) -> StepRecord:
        epochs_before = math.floor(self.epoch)
        picked = self._order.take(self.batch_size)
        labels = self._data.train_labels[picked]
        scores = self.model(self._data.train_inputs[picked])
        loss = functional.cross_entropy(scores, labels)
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()}")
        loss.backward()
        for name, layer in self.layers.items():
            self._update(name, layer)
        self._samples_seen += len(labels)
        record = StepRecord(
            step=self.step_count + 1,
            epoch=math.ceil(self.epoch),
            loss=loss.item(),
            accuracy=float((scores.argmax(1) == labels).float().mean()),
            learning_rate=self.learning_rate,
            rank=self.rank,
            batch_size=len(labels),
            samples_seen=self._samples_seen,
            pulses=self.pulses,
        )
        self._keep(record, epoch_ended=math.floor(self.epoch) > epochs_before)
        return record

    def evaluate(self) -> tuple[float, float]:
        """Loss and accuracy on the test set, read through the arrays as they are."""
        with torch.no_grad():
            scores = self.model(self._data.test_inputs)
        labels = self._data.test_labels
        hits = (scores.argmax(1) == labels).float().mean()
        return float(functional.cross_entropy(scores, labels)), float(hits)

    def _update(self, name: str, layer: CrossbarLinear) -> None:
        ((errors, activations),) = layer.samples
        layer.clear_samples()
        update = self._estimators[name].update(errors, activations)
        layer.array.apply(update, learning_rate=self.learning_rate, scheme=self.scheme)
        self._latest[name] = (update, errors, activations)

    def _keep(self, record: StepRecord, *, epoch_ended: bool) -> None:
        self.history.step(record)
        if epoch_ended:
            self.history.evaluation(record.step, *self.evaluate())
        if (record.step - 1) % self.record_every == 0 and self.history.wants_layers():
            self._record_layers()

    def _record_layers(self, *, provisional: bool = False) -> None:
        arrays = {name: layer.array for name, layer in self.layers.items()}
        self.history.layers(self.step_count, self.spectra(), arrays, provisional=provisional)

    # --- knobs -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.__dict__.get("_ready"):
            super().__setattr__(name, value)
        elif name in _KNOBS or not hasattr(self, name):  # a misspelt knob must not pass in silence
            self.change(**{name: value})
        else:
            super().__setattr__(name, value)

    def change(self, **knobs: Any) -> None:
        """Set several live knobs at once: all of them or, where one is not allowed, none.

        Raises
        ------
        ValueError
            If a knob is unknown, fixed for the length of a run, or has a value not allowed.
        """
        declared = knobs_of(self)
        if fixed := [name for name in knobs if name in declared and not is_live(declared[name])]:
            live = ", ".join(name for name, knob in declared.items() if is_live(knob))
            raise ValueError(f"{fixed[0]} is fixed for the length of a run; live knobs: {live}.")
        present = self.knob_values()
        proposal = Settings(**(present | knobs))
        self._check_against_data(proposal)
        wanted = {name: getattr(proposal, name) for name in knobs}
        changed = {name: value for name, value in wanted.items() if value != present[name]}
        for name, value in changed.items():
            super().__setattr__(name, value)
            self.history.event(self.step_count, name, present[name], value)
        self._take_up(set(changed))

    def _check_against_data(self, settings: Settings) -> None:
        largest = max(min(shape) for shape in self._shapes.values())
        if settings.rank > largest:
            raise ValueError(
                f"rank={settings.rank} is above min(m, n) of every layer; allowed: 1 to {largest}."
            )
        samples = len(self._data.train_labels)
        if settings.batch_size > samples:
            raise ValueError(
                f"batch_size={settings.batch_size} is above the {samples} training samples; "
                f"allowed: 1 to {samples}."
            )

    def _take_up(self, changed: set[str]) -> None:
        """Bring estimators and arrays in line with the knobs that changed."""
        if "method" in changed:
            self._estimators = {name: self._new_estimator(name) for name in self.layers}
        for knob in changed & {"rank", "block_size"} & set(estimator_knobs(self.method)):
            for name, estimator in self._estimators.items():
                setattr(estimator, knob, self._estimator_settings(name)[knob])
        if "device" in changed:
            self._earlier_pulses = self.pulses
            for layer in self.layers.values():
                layer.array = self._new_array(layer.array.weights)
        elif changed & set(NONIDEALITIES) and (device := self.device_with_overrides()):
            for layer in self.layers.values():
                layer.array.device = device

    # --- making the parts --------------------------------------------------------------------

    def _new_layers(self, generator: torch.Generator) -> dict[str, CrossbarLinear]:
        layers = {}
        for name, (outputs, columns) in self._shapes.items():
            weights = initial_weights(outputs, columns - 1, generator)
            layers[name] = CrossbarLinear(self._new_array(weights))
        return layers

    def _new_array(self, weights: Tensor) -> Array:
        """An array of the present device holding ``weights``; every new one has its own draws."""
        device = self.device_with_overrides()
        if device is None:
            return DigitalArray.from_weights(weights)
        self._devices_used += 1
        seed = np.random.SeedSequence([self._array_seed, self._devices_used]).generate_state(1)
        return Crossbar.from_weights(weights, device=device, w_max=self.w_max, seed=int(seed[0]))

    def _estimator_settings(self, name: str) -> dict[str, int]:
        seed = self._estimator_seed + list(self._shapes).index(name)
        return {"rank": self.layer_rank(name), "block_size": self.block_size, "seed": seed}

    def _new_estimator(self, name: str) -> Estimator:
        taken = estimator_knobs(self.method)
        given = {k: v for k, v in self._estimator_settings(name).items() if k in taken}
        return make_estimator(self.method, **given)


def _between(layers: list[CrossbarLinear], separator: type[nn.Module]) -> list[nn.Module]:
    """The layers with a ``separator`` between each two."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [layer, separator()]
    return modules[:-1]


def _pulses(array: Array) -> int:
    return 0 if array.pulse_count is None else int(array.pulse_count.sum())
