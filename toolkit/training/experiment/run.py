"""A run: settings, a network, LowRankSGD and a recorder, with knobs that can change.

One path: batch -> layers -> (errors, activations) -> estimator -> low-rank update -> array.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.checks import ShapeError, check_choice, check_count
from toolkit.crossbar import Array, DigitalArray
from toolkit.lowrank import Estimator, LowRank
from toolkit.training.data.batches import SampleOrder
from toolkit.training.data.dataset import Dataset
from toolkit.training.data.datasets import load_dataset
from toolkit.training.experiment import physics
from toolkit.training.experiment.knobs import is_live, knobs_of
from toolkit.training.experiment.objective import Objective
from toolkit.training.experiment.recorder import Recorder, Spectrum, StepRecord, spectrum
from toolkit.training.experiment.settings import Settings, present_names
from toolkit.training.layers.adapters import Samples
from toolkit.training.layers.convert import DIGITAL, to_crossbar
from toolkit.training.layers.guards import crossbar_layers
from toolkit.training.layers.modules import CrossbarLayer, block_samples
from toolkit.training.layers.optimiser import Group, LowRankSGD
from toolkit.training.layers.updates import LayerUpdate, write_all
from toolkit.training.models import make_model


class DivergenceError(ArithmeticError):
    """Loss, weights or gradient are no longer finite. Everything recorded so far is kept."""


class Run(Settings):
    """A network in training, its arrays, LowRankSGD and recorder; see ``Experiment``."""

    def __init__(self, **knobs: Any) -> None:
        super().__init__(**knobs)
        self._created = datetime.now(UTC)
        place = _available(self.torch_device)
        given = self.dataset if isinstance(self.dataset, Dataset) else load_dataset(self.dataset)
        self._data = given.to(place)
        self._objective = Objective(self._data, self.loss)
        weights, order, self._array_seed, self._estimator_seed = (
            np.random.SeedSequence(self.seed).generate_state(4).tolist()
        )
        self.network = self._new_network(torch.Generator().manual_seed(weights)).to(place)
        self.network = to_crossbar(self.network).train()
        self.layers = crossbar_layers(self.network)
        self._slots = _slots(self.layers)
        self._shapes = {name: array.shape for name, array in self.arrays.items()}
        self._fit_defaults(given=set(knobs))
        self._check_against_data(self)
        self._order = SampleOrder(len(self._data.train_labels), seed=order)
        self._own_devices: list[str] = []
        self._devices_used, self._samples_seen, self._earlier_pulses = 0, 0, 0
        if self.device != DIGITAL:
            self._program_anew()
        self._optimizer = self._new_optimizer()
        self.record = Recorder(list(self._slots), measure=self._objective.measure)
        self._latest: dict[str, tuple[LowRank, Callable[[], list[Samples]]]] = {}
        self._ready = True

    # --- what a user reads -------------------------------------------------------------------

    @property
    def data(self) -> Dataset:
        """The data set that the run learns."""
        return self._data

    @property
    def step_count(self) -> int:
        """Training steps done."""
        return self.record.step_count

    @property
    def epoch(self) -> float:
        """Passes over the training set done, with the fraction of the present one."""
        return self._order.epoch

    @property
    def samples_per_epoch(self) -> int:
        """Samples in the training set."""
        return len(self._data.train_labels)

    @property
    def samples_seen(self) -> int:
        """Samples trained on so far, counting repetitions."""
        return self._samples_seen

    @property
    def pulses(self) -> int:
        """Programming pulses issued so far, over all arrays, discarded ones included."""
        return self._earlier_pulses + sum(array.pulses for array in self.arrays.values())

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays by layer name; ``conv1.group2`` if a layer has several."""
        return {name: layer.arrays[i] for name, (layer, i) in self._slots.items()}

    def gradient_words(self) -> tuple[int, int]:
        """Words of the updates, k(m + n + 1) summed over layers, and of the m x n gradients."""
        held, estimators = 0, self.estimators
        for name, (rows, columns) in self._shapes.items():
            samples = block_samples(self._slots[name][0], self.batch_size)
            rank = estimators[name].written_rank(samples)
            held += rank * (rows + columns + 1)
        return held, sum(rows * columns for rows, columns in self._shapes.values())

    def layer_rank(self, name: str) -> int:
        """Largest useful rank of the layer: ``rank``, at most its min(m, n)."""
        check_choice("name", name, self._shapes)
        return min(self.rank, *self._shapes[name])

    def latest(self) -> dict[str, tuple[LowRank, Tensor, Tensor]]:
        """The last update of every array, with its errors and activations."""
        return {
            name: (update, *samples()[self._slots[name][1]])
            for name, (update, samples) in self._latest.items()
        }

    def outer_products(self, inputs: int) -> tuple[int, int]:
        """Outer products of the last updates, and of the same number of inputs one by one."""
        check_count("inputs", inputs)
        written = sum(update.rank for update, _ in self._latest.values())
        return written, sum(block_samples(layer, inputs) for layer, _ in self._slots.values())

    def spectra(self) -> dict[str, Spectrum]:
        """Gradient spectrum of every layer at the last step; empty before the first step."""
        return {name: spectrum(*found) for name, found in self.latest().items()}

    # --- training ----------------------------------------------------------------------------

    def steps(self, *, epochs: int) -> Iterator[StepRecord]:
        """Train for ``epochs`` more passes over the training set, yielding every step.

        Raises
        ------
        ValueError
            If ``epochs`` is not a whole number of at least 1.
        DivergenceError
            If the loss is no longer finite.
        """
        check_count("epochs", epochs)
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
        except ShapeError:
            raise
        except (ValueError, torch.linalg.LinAlgError) as error:  # raised by the parts for NaN
            raise DivergenceError(
                f"training diverged at step {self.step_count + 1}: {error}; "
                f"try a learning_rate below {self.learning_rate:g}."
            ) from error

    def _train_on_batch(self) -> StepRecord:
        epochs_before = math.floor(self.epoch)
        picked = self._order.take(self.batch_size).to(self._data.train_labels.device)
        labels = self._data.train_labels[picked]
        self._optimizer.zero_grad()
        scores = self.network(self._data.train_inputs[picked])
        loss = self._objective.loss(scores, labels)
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()}")
        loss.backward()
        self._optimizer.descend()  # what step would check, knobs and estimators check
        if self.seconds_per_step:
            for array in self._crossbars():
                array.wait(self.seconds_per_step)
        self._samples_seen += len(labels)
        fit = self._objective.fit(scores.detach(), labels)
        record = StepRecord(
            step=self.step_count + 1,
            epoch=math.ceil(self.epoch),
            loss=loss.item(),
            accuracy=fit if self._data.classes else math.nan,
            learning_rate=self.learning_rate,
            rank=self.rank,
            batch_size=len(labels),
            samples_seen=self._samples_seen,
            pulses=self.pulses,
            r_squared=math.nan if self._data.classes else fit,
        )
        self._keep(record, epoch_ended=math.floor(self.epoch) > epochs_before)
        return record

    def evaluate(self) -> tuple[float, float]:
        """Loss and fit (accuracy or R^2) on the test set, read through the arrays as they are."""
        self.network.eval()
        found = self._objective.on_test_part(self.network, self._data)
        self.network.train()
        return found

    def _estimate_and_write(self, groups: list[Group]) -> None:
        """Do what LowRankSGD does with layers, and keep references for spectra, without copies."""
        samples = [layer.samples_for_later() for layer in self.layers.values()]
        found = [(layer, layer.estimates(g), g) for g, layers in groups for layer in layers]
        write_all(found)
        for (layer, updates, _), later in zip(found, samples, strict=True):
            for group, update in enumerate(updates):
                self._latest[_array_name(layer.name, layer.layer, group)] = update, later

    def _keep(self, record: StepRecord, *, epoch_ended: bool) -> None:
        self.record.step(record)
        if epoch_ended:
            self.record.evaluation(record.step, *self.evaluate())
        if (record.step - 1) % self.record_every == 0 and self.record.wants_layers():
            self._record_layers()

    def _record_layers(self, *, provisional: bool = False) -> None:
        spectra = self.spectra()
        self.record.layers(self.step_count, spectra, self.arrays, provisional=provisional)

    # --- knobs -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        own = name.startswith("_") and hasattr(self, name)
        if own or not self.__dict__.get("_ready"):
            super().__setattr__(name, value)
        elif name in knobs_of(self) or not hasattr(self, name):  # catch misspelt knobs
            self.change(**{name: value})
        else:
            super().__setattr__(name, value)

    def change(self, **knobs: Any) -> None:
        """Set several live knobs at once: all of them or, if one is not allowed, none.

        Raises
        ------
        ValueError
            If a knob is unknown, fixed during a run, or has a value that is not allowed.
        """
        declared, knobs = knobs_of(self), present_names(knobs)
        if fixed := [name for name in knobs if name in declared and not is_live(declared[name])]:
            live = ", ".join(name for name, knob in declared.items() if is_live(knob))
            raise ValueError(f"{fixed[0]} is fixed during a run; live knobs: {live}.")
        present = self.knob_values()
        proposal = Settings(**(present | knobs))
        self._check_against_data(proposal)
        wanted = {name: getattr(proposal, name) for name in knobs}
        changed = {name: value for name, value in wanted.items() if value != present[name]}
        for name, value in changed.items():
            super().__setattr__(name, value)
            self.record.event(self.step_count, name, present[name], value)
        self._apply_knobs(set(changed))

    def _fit_defaults(self, given: set[str]) -> None:
        """Lower defaults that are too large for the data or layers, with a warning."""
        most = {"rank": self._largest_rank(), "batch_size": len(self._data.train_labels)}
        for name, largest in most.items():
            if name not in given and getattr(self, name) > largest:
                warnings.warn(f"{name} is lowered to {largest}, the largest allowed", stacklevel=3)
                setattr(self, name, largest)
        if "block_size" not in given:
            self.block_size = min(self.block_size, self.batch_size)

    def _largest_rank(self) -> int:
        return max(min(shape) for shape in self._shapes.values())

    def _check_against_data(self, settings: Settings) -> None:
        largest = self._largest_rank()
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

    def _apply_knobs(self, changed: set[str]) -> None:
        """Update estimators and arrays for the knobs that changed."""
        if "method" in changed:
            self._optimizer = self._new_optimizer()
        else:
            self._set_options(self._optimizer)
        if changed & physics.PROGRAMMED:
            self._earlier_pulses = self.pulses
            self._program_anew()
        elif device := self.device_with_overrides():
            for array in self._crossbars() if changed & set(knobs_of(self, sets="device")) else ():
                array.device = device
            for array in self._crossbars() if changed & set(knobs_of(self, sets="array")) else ():
                physics.set_array(array, self.knob_values())

    # --- making the parts --------------------------------------------------------------------

    def _new_network(self, generator: torch.Generator) -> nn.Module:
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)  # the copy can be moved to another processor
        hidden = self.hidden if self.model == "mlp" else None
        return make_model(self.model, self._data, hidden=hidden, generator=generator)

    def _program_anew(self) -> None:
        """Program the present weights onto new arrays of the present device."""
        if (text := self._own_device_text()) and text not in self._own_devices:
            self._own_devices.append(text)
        for layer, group in self._slots.values():
            layer.arrays[group] = self._new_array(layer.arrays[group].weights)

    def _own_device_text(self) -> str:
        """The device for files if it is one's own; empty if names or objects must do."""
        own = physics.own_device(self.device, DIGITAL)
        try:
            return physics.device_text(own) if own else ""
        except ValueError:  # a response of one's own
            return ""

    def _new_array(self, weights: Tensor) -> Array:
        """Create an array of the present device with ``weights`` and its own random draws."""
        device = self.device_with_overrides()
        if device is None:
            return DigitalArray.from_weights(weights)
        self._devices_used += 1
        seed = np.random.SeedSequence([self._array_seed, self._devices_used]).generate_state(1)
        return physics.new_array(weights, self.knob_values(), device=device, seed=int(seed[0]))

    def _new_optimizer(self) -> LowRankSGD:
        """Create new estimators for every layer."""
        optimizer = LowRankSGD(
            self.network, lr=self.learning_rate, method=self.method, seed=self._estimator_seed
        )
        optimizer.exchange = self._estimate_and_write
        self._set_options(optimizer)
        return optimizer

    def _set_options(self, optimizer: LowRankSGD) -> None:
        (group,) = optimizer.param_groups
        group |= {name: getattr(self, name) for name in knobs_of(self, sets="estimator")}
        group |= {"lr": self.learning_rate, "scheme": self.scheme, "sample_bits": self.sample_bits}
        for update in _layer_updates(optimizer):
            update.apply_knobs(group)

    def _crossbars(self) -> list[Any]:
        return [array for array in self.arrays.values() if array.device is not None]

    @property
    def estimators(self) -> dict[str, Estimator]:
        """The estimators by the names of :attr:`arrays`."""
        updates = _layer_updates(self._optimizer)
        return dict(zip(self._slots, (e for u in updates for e in u.estimators), strict=True))


def _layer_updates(optimizer: LowRankSGD) -> list[LayerUpdate]:
    return [layer for _, layers in optimizer.grouped_layers() for layer in layers]


def _slots(layers: dict[str, CrossbarLayer]) -> dict[str, tuple[CrossbarLayer, int]]:
    """The layer of each array, and the array's index in it."""
    return {
        _array_name(name, layer, i): (layer, i)
        for name, layer in layers.items()
        for i in range(len(layer.arrays))
    }


def _array_name(name: str, layer: Any, group: int) -> str:
    return name if len(layer.arrays) == 1 else f"{name}.group{group + 1}"


def _available(torch_device: str) -> torch.device:
    """Raise ValueError if this machine has no such processor."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(torch_device, True):
        raise ValueError(f"torch_device={torch_device!r} is not available here; use 'cpu'.")
    return torch.device(torch_device)
