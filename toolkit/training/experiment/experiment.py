"""The experiment: one training run whose knobs may be turned while it goes.

It owns the network, the estimators, the data order and the recorder, and walks one path: batch ->
layers -> (errors, activations) -> estimator -> low-rank update -> array. Threads, queues and pages
are not its business (``live.py``, ``dashboards/``).
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from toolkit.checks import check_choice, check_count
from toolkit.crossbar import Crossbar, DigitalArray
from toolkit.lowrank import Estimator, LowRank, estimator_knobs, make_estimator
from toolkit.results import build_tree, root_attributes, save_results
from toolkit.results.stream import Stream
from toolkit.training.data.batches import SampleOrder
from toolkit.training.data.dataset import Dataset
from toolkit.training.data.datasets import load_dataset
from toolkit.training.experiment import physics
from toolkit.training.experiment.checkpoint import load_checkpoint, save_checkpoint
from toolkit.training.experiment.knobs import is_live, knobs_of
from toolkit.training.experiment.recorder import Recorder, Spectrum, StepRecord, spectrum
from toolkit.training.experiment.settings import DIGITAL, Settings, present_names
from toolkit.training.layers.convert import to_crossbar
from toolkit.training.layers.convolution import Samples
from toolkit.training.layers.guards import crossbar_layers
from toolkit.training.layers.modules import Array, CrossbarLayer, block_samples
from toolkit.training.layers.updates import LayerUpdate, write_all
from toolkit.training.models import make_model

EVALUATED_AT_ONCE = 1000


class DivergenceError(ArithmeticError):
    """Loss, weights or gradient are no longer finite; what was recorded until then is kept."""


class Experiment(Settings):
    """A network trained with rank-k updates, on plain weights or on crossbars.

    Knobs are those of :class:`~toolkit.training.Settings`. A live knob is set like an
    attribute (``run.rank = 8``), or several at once with :meth:`change`; it takes effect at the
    next batch and is kept as an event. The same knobs and seed give the same bits.

    Every Linear and Conv2d layer of ``model`` gets its weights, biases included, in arrays; what
    else learns (batch normalisation) is trained by plain SGD with the same learning rate. In a
    convolution every output position is a sample, and ``block_size`` counts network inputs. An
    ``nn.Module`` of one's own, which begins as it is given, and a
    :class:`~toolkit.training.Dataset` may stand in place of names.

    Raises
    ------
    ValueError
        If a knob has a value that is not allowed; the run goes on with the old one.
    FileNotFoundError
        If the files of the data set are missing; says how to get them.

    Examples
    --------
    >>> run = Experiment(method="sbpca", rank=4, device="Ag:a-Si", seed=0)
    >>> losses = [record.loss for record in run.steps(epochs=1)]
    >>> run.rank = 8
    """

    def __init__(self, **knobs: Any) -> None:
        super().__init__(**knobs)
        self._created = datetime.now(UTC)
        place = _available(self.torch_device)
        given = self.dataset if isinstance(self.dataset, Dataset) else load_dataset(self.dataset)
        self._data = given.to(place)
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
        self._devices_used, self._samples_seen, self._earlier_pulses = 0, 0, 0
        if self.device != DIGITAL:
            self._program_anew()
        self._options = self._new_options()
        self._updates = self._new_updates()
        self.record = Recorder(list(self._slots))
        self._latest: dict[str, tuple[LowRank, Callable[[], list[Samples]]]] = {}
        self._ready = True

    @property
    def _estimators(self) -> dict[str, Estimator]:
        estimators = (estimator for update in self._updates for estimator in update.estimators)
        return dict(zip(self._slots, estimators, strict=True))

    # --- what a user reads -------------------------------------------------------------------

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
        """Samples trained on so far, each as often as it was seen."""
        return self._samples_seen

    @property
    def pulses(self) -> int:
        """Programming pulses issued so far, over all arrays, discarded ones included."""
        return self._earlier_pulses + sum(array.pulses for array in self.arrays.values())

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays by the name of their layer; ``conv1.group2`` where a layer has several."""
        return {name: layer.arrays[i] for name, (layer, i) in self._slots.items()}

    def gradient_words(self) -> tuple[int, int]:
        """Words of the updates, k(m + n + 1) summed over layers, and of the m x n gradients."""
        held = 0
        for name, (rows, columns) in self._shapes.items():
            samples = block_samples(self._slots[name][0], self.batch_size)
            rank = self._estimators[name].written_rank(samples)
            held += rank * (rows + columns + 1)
        return held, sum(rows * columns for rows, columns in self._shapes.values())

    def layer_rank(self, name: str) -> int:
        """The rank that the layer can use: ``rank``, at most its min(m, n)."""
        check_choice("name", name, self._shapes)
        return min(self.rank, *self._shapes[name])

    def latest(self) -> dict[str, tuple[LowRank, Tensor, Tensor]]:
        """The last step's update of every array, with the errors and activations behind it."""
        return {
            name: (update, *samples()[self._slots[name][1]])
            for name, (update, samples) in self._latest.items()
        }

    def outer_products(self, inputs: int) -> tuple[int, int]:
        """Outer products of the last step's updates, and of that many network inputs one by one."""
        check_count("inputs", inputs)
        written = sum(update.rank for update, _ in self._latest.values())
        return written, sum(block_samples(layer, inputs) for layer, _ in self._slots.values())

    def spectra(self) -> dict[str, Spectrum]:
        """The last step's gradient spectrum of every layer; empty before the first step."""
        return {name: spectrum(*found) for name, found in self.latest().items()}

    def results(self) -> xr.DataTree:
        """Everything recorded so far, the present state included (``toolkit.results.schema``)."""
        # after a resume there is no update to look at until the next step
        if self._latest and self.record.last_layer_step < self.step_count:
            self._record_layers(provisional=True)
        return build_tree(
            self._attributes(),
            training=self.record.training(),
            events=self.record.events_dataset(),
            layers={name: self.record.layer_dataset(name) for name in self._slots},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`results` to a ``.nc`` or ``.zarr`` path."""
        return save_results(self.results(), path)

    @contextmanager
    def stream(
        self, path: str | os.PathLike[str], *, conductance_bits: int | None = None
    ) -> Iterator[Stream]:
        """Within ``with run.stream("run.zarr"):``, write what is recorded while it is recorded.

        The store is whole at any moment: a process that is killed leaves everything up to its last
        layer record. Unlike :meth:`results` it drops nothing of a long run. What was recorded
        before comes first; at the end the present state is added. ``conductance_bits`` rounds
        conductances to so many bits of mantissa (:class:`~toolkit.results.stream.Stream`).

        Raises
        ------
        FileNotFoundError, ValueError
            If ``path`` does not end in .zarr or cannot be, or ``conductance_bits`` is not allowed.
        """
        stream = Stream(
            path,
            layers=list(self._slots),
            attributes=self._attributes,
            conductance_bits=conductance_bits,
        )
        self.record.stream_to(stream)
        try:
            yield stream
        finally:
            try:
                if self.record.last_streamed < self.step_count:
                    self.record.finish_stream(self.spectra(), self.arrays)
            finally:
                self.record.stream_to(None)
                stream.close()

    def _attributes(self) -> dict[str, str | int]:
        title = f"SBPCA Toolkit run: {self._data.name}, {self.method}, rank {self.rank}"
        return root_attributes(
            seed=self.seed, settings=self.knob_values(), title=title, created=self._created
        )

    def checkpoint(self, path: str | os.PathLike[str]) -> Path:
        """Write everything that the rest of the run depends on, its recorded past included.

        A run that goes on from it (:meth:`resume`) gives the same bits as one never interrupted.
        The file is written beside and renamed.
        """
        return save_checkpoint(self._state(), path)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], **objects: Any) -> Experiment:
        """Go on from a :meth:`checkpoint`.

        ``objects`` are the knobs that were given as objects (a Dataset, Device or nn.Module of
        one's own); a checkpoint keeps the names of these only.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no file, it is damaged, or an object is missing or does not fit.
        """
        state = load_checkpoint(path)
        if missing := sorted(set(state["objects"]) - set(objects)):
            raise ValueError(
                f"{missing[0]} was {state['objects'][missing[0]]}, given as an object, which no "
                f"file holds: give it again, resume(path, {missing[0]}=...)."
            )
        run = cls(**(state["knobs"] | objects))
        run._restore(state)
        return run

    def _state(self) -> dict[str, Any]:
        knobs = self.knob_values()
        plain = (bool, int, float, str, list, type(None))
        objects = {k: _name_of(v) for k, v in knobs.items() if not isinstance(v, plain)}
        return {
            "knobs": {name: value for name, value in knobs.items() if name not in objects},
            "objects": objects,
            "network": dict(self.network.state_dict()),
            "estimators": {name: e.state_dict() for name, e in self._estimators.items()},
            "order": self._order.state_dict(),
            "history": self.record.state_dict(),
            "counts": [self._devices_used, self._samples_seen, self._earlier_pulses],
            "created": self._created.isoformat(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(self._with_settings(state["network"]))
        for name, estimator in self._estimators.items():
            estimator.load_state_dict(state["estimators"][name])
        self._order.load_state_dict(state["order"])
        self.record.load_state_dict(state["history"])
        self._devices_used, self._samples_seen, self._earlier_pulses = state["counts"]
        self._created = datetime.fromisoformat(state["created"])

    def _with_settings(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """The state with settings of arrays, which earlier checkpoints left to the knobs."""
        complete = dict(network)
        for name, layer in crossbar_layers(self.network).items():
            key = f"{name}._extra_state"
            saved = [
                {k: v for k, v in array.state_dict().items() if k in ("w_max", "settings")} | one
                for array, one in zip(layer.arrays, network[key]["arrays"], strict=True)
            ]
            complete[key] = {**layer.get_extra_state(), **network[key], "arrays": saved}
        return complete

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
        except (ValueError, torch.linalg.LinAlgError) as error:  # how the parts refuse NaN
            raise DivergenceError(
                f"training diverged at step {self.step_count + 1}: {error}; "
                f"try a learning_rate below {self.learning_rate:g}."
            ) from error

    def _train_on_batch(self) -> StepRecord:
        epochs_before = math.floor(self.epoch)
        picked = self._order.take(self.batch_size).to(self._data.train_labels.device)
        labels = self._data.train_labels[picked]
        for layer in self.layers.values():
            layer.clear_samples()
        scores = self.network(self._data.train_inputs[picked])
        loss = functional.cross_entropy(scores, labels)
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()}")
        loss.backward()
        self._update_layers()
        self._update_other_parameters()
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
        loss, hits, labels = 0.0, 0, self._data.test_labels
        self.network.eval()
        with torch.no_grad():
            for start in range(0, len(labels), EVALUATED_AT_ONCE):
                part = slice(start, start + EVALUATED_AT_ONCE)
                scores = self.network(self._data.test_inputs[part])
                loss += float(functional.cross_entropy(scores, labels[part], reduction="sum"))
                hits += int((scores.argmax(1) == labels[part]).sum())
        self.network.train()
        return loss / len(labels), hits / len(labels)

    def _update_layers(self) -> None:
        """Estimate every layer that backward came through, then write all of them or none."""
        samples = [layer.samples_for_later() for layer in self.layers.values()]
        estimates = [update.estimates(self._options) for update in self._updates]
        write_all([(u, e, self._options) for u, e in zip(self._updates, estimates, strict=True)])
        if self.seconds_per_step:
            for array in self.arrays.values():
                if isinstance(array, Crossbar):
                    array.wait(self.seconds_per_step)
        slots = iter(self._slots)
        for layer, of_layer, found in zip(self.layers.values(), samples, estimates, strict=True):
            names = list(islice(slots, len(layer.arrays)))
            self._latest |= {n: (e, of_layer) for n, e in zip(names, found, strict=False)}

    def _update_other_parameters(self) -> None:
        """Plain SGD of what is not in arrays."""
        with torch.no_grad():
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=self.learning_rate)
                    parameter.grad = None

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
        elif name in knobs_of(self) or not hasattr(self, name):  # no misspelt knob in silence
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
        declared, knobs = knobs_of(self), present_names(knobs)
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
            self.record.event(self.step_count, name, present[name], value)
        self._take_up(set(changed))

    def _fit_defaults(self, given: set[str]) -> None:
        """Lower a default that these data or layers are too small for, and say so."""
        most = {"rank": self._largest_rank(), "batch_size": len(self._data.train_labels)}
        for name, largest in most.items():
            if name not in given and getattr(self, name) > largest:
                warnings.warn(f"{name} is lowered to {largest}, the largest here", stacklevel=3)
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

    def _take_up(self, changed: set[str]) -> None:
        """Bring estimators and arrays in line with the knobs that changed."""
        self._options = self._new_options()
        if "method" in changed:
            self._updates = self._new_updates()
        for update in self._updates:
            update.take_up(self._options)
        crossbars = [array for array in self.arrays.values() if isinstance(array, Crossbar)]
        if "device" in changed:
            self._earlier_pulses = self.pulses
            self._program_anew()
        elif device := self.device_with_overrides():
            for array in crossbars if changed & set(knobs_of(self, sets="device")) else ():
                array.device = device
            for array in crossbars if changed & set(knobs_of(self, sets="array")) else ():
                self._set_lines(array)

    # --- making the parts --------------------------------------------------------------------

    def _new_network(self, generator: torch.Generator) -> nn.Module:
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)  # which may be moved to another processor
        hidden = self.hidden if self.model == "mlp" else None
        return make_model(self.model, self._data, hidden=hidden, generator=generator)

    def _program_anew(self) -> None:
        """Put the present weights onto new arrays of the present device."""
        for layer, group in self._slots.values():
            layer.arrays[group] = self._new_array(layer.arrays[group].weights)

    def _new_array(self, weights: Tensor) -> Array:
        """An array of the present device holding ``weights``; every new one has its own draws."""
        device = self.device_with_overrides()
        if device is None:
            return DigitalArray.from_weights(weights)
        self._devices_used += 1
        seed = np.random.SeedSequence([self._array_seed, self._devices_used]).generate_state(1)
        array = Crossbar.from_weights(
            weights, device=device, w_max=self.w_max, seed=int(seed[0]), pair=self.pair
        )
        self._set_lines(array)
        return array

    def _set_lines(self, array: Crossbar) -> None:
        """Give a crossbar the coding, converters and wires of the present knobs."""
        knobs = self.knob_values()
        array.coding = physics.coding(knobs)
        array.periphery, array.wires = physics.periphery(knobs), physics.wires(knobs)

    def _new_options(self) -> dict[str, Any]:
        """The knobs of estimates and writes, by the names that a :class:`LayerUpdate` takes."""
        return {
            **{name: getattr(self, name) for name in knobs_of(self, sets="estimator")},
            "lr": self.learning_rate,
            "scheme": self.scheme,
            "momentum": 0.0,
        }

    def _new_updates(self) -> list[LayerUpdate]:
        """What trains each layer, with new estimators that have seeds of their own."""
        seeds, has_seed = count(self._estimator_seed), "seed" in estimator_knobs(self.method)

        def make() -> Estimator:
            return make_estimator(self.method, **({"seed": next(seeds)} if has_seed else {}))

        updates = [LayerUpdate(name, layer, make) for name, layer in self.layers.items()]
        for update in updates:
            update.take_up(self._options)
        return updates


def _slots(layers: dict[str, CrossbarLayer]) -> dict[str, tuple[CrossbarLayer, int]]:
    """Where each array stands: its layer and its place there."""
    slots = {}
    for name, layer in layers.items():
        for i in range(len(layer.arrays)):
            slots[name if len(layer.arrays) == 1 else f"{name}.group{i + 1}"] = (layer, i)
    return slots


def _available(torch_device: str) -> torch.device:
    """ValueError if this machine has no such processor."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(torch_device, True):
        raise ValueError(f"torch_device={torch_device!r} is not available here; use 'cpu'.")
    return torch.device(torch_device)


def _name_of(thing: Any) -> str:
    return str(getattr(thing, "name", type(thing).__name__))
