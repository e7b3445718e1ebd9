"""The experiment: a run that can be saved, streamed to a store, interrupted and resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import xarray as xr

from toolkit.checks import check_instance
from toolkit.crossbar import Device, device_names, get_device
from toolkit.results import build_tree, root_attributes, save_results
from toolkit.results.stream import Stream
from toolkit.training.experiment import physics
from toolkit.training.experiment.checkpoint import load_checkpoint, save_checkpoint
from toolkit.training.experiment.run import Run
from toolkit.training.experiment.settings import present_names
from toolkit.training.layers.guards import crossbar_layers


class Experiment(Run):
    """A network trained with rank-k updates, on plain weights or on crossbars.

    The knobs are those of :class:`~toolkit.training.Settings`. Set a live knob like an attribute
    (``run.rank = 8``), or several at once with :meth:`change`; it takes effect at the next batch
    and is recorded as an event. The same knobs and seed give the same bits.

    The weights of every layer of ``model`` that :func:`~toolkit.training.to_crossbar` supports,
    biases included, are held in arrays. Other parameters (batch normalisation) are trained by plain
    SGD with the same learning rate. In a convolution every output position is a sample, and
    ``block_size`` counts network inputs. Instead of names, you can pass your own ``nn.Module``,
    which keeps its initial weights, and your own :class:`~toolkit.training.Dataset`.

    Raises
    ------
    ValueError
        If the value of a knob is not allowed; the run continues with the old one.
    FileNotFoundError
        If the files of the data set are missing; the message says how to get them.

    Examples
    --------
    >>> run = Experiment(method="sbpca", rank=4, device="Ag:a-Si", seed=0)
    >>> losses = [record.loss for record in run.steps(epochs=1)]
    >>> run.rank = 8
    """

    def results(self) -> xr.DataTree:
        """Everything recorded so far, with the present state (see ``toolkit.results.schema``)."""
        # after a resume there is no update to record until the next step
        if self._latest and self.record.last_layer_step < self.step_count:
            self._record_layers(provisional=True)
        return build_tree(
            self._attributes(),
            training=self.record.training(),
            events=self.record.events_dataset(),
            layers={name: self.record.layer_dataset(name) for name in self.arrays},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`results` to a ``.nc`` or ``.zarr`` path."""
        return save_results(self.results(), path)

    @contextmanager
    def stream(
        self, path: str | os.PathLike[str], *, conductance_bits: int | None = None
    ) -> Iterator[Stream]:
        """Write records to a store as they are made: ``with run.stream("run.zarr"): ...``.

        The store is valid at any moment: a process that is killed leaves everything up to its last
        layer record. Unlike :meth:`results`, it keeps every record of a long run. Records made
        before the call come first; at the end the present state is added. ``conductance_bits``
        rounds conductances to this many bits of mantissa (:class:`~toolkit.results.stream.Stream`).

        Raises
        ------
        FileNotFoundError, ValueError
            If ``path`` does not end in .zarr or is invalid, or ``conductance_bits`` is not allowed.
        """
        stream = Stream(
            path,
            layers=list(self.arrays),
            attributes=self._attributes,
            conductance_bits=conductance_bits,
            absent=self.record.absent,
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

    def checkpoint(self, path: str | os.PathLike[str]) -> Path:
        """Save everything that the rest of the run depends on, its record included.

        A run resumed from it (:meth:`resume`) gives the same bits as one that was never
        interrupted. The file is replaced atomically.
        """
        return save_checkpoint(self._state(), path)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], **objects: Any) -> Experiment:
        """Continue from a :meth:`checkpoint`.

        ``objects`` are the knobs that were passed as objects (your own Dataset or nn.Module, or a
        Device with a response of your own); a checkpoint stores only their names. Other devices
        are stored whole.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file does not exist or is damaged, or an object is missing or does not fit.
        """
        state = load_checkpoint(path)
        if missing := sorted(set(state["objects"]) - set(objects)):
            raise ValueError(
                f"{missing[0]} was {state['objects'][missing[0]]}, given as an object, which "
                f"files do not hold: pass it again, resume(path, {missing[0]}=...)."
            )
        knobs = present_names(state["knobs"])
        if stored := state.get("device"):
            knobs["device"] = _stored_device(stored, knobs.get("device"))
        run = cls(**(knobs | objects))
        run._restore(state)
        return run

    def _attributes(self) -> dict[str, str | int]:
        title = f"SBPCA Toolkit run: {self._data.name}, {self.method}, rank {self.rank}"
        attributes = root_attributes(
            seed=self.seed, settings=self.knob_values(), title=title, created=self._created
        )
        if self._own_devices:
            attributes["devices"] = json.dumps(self._own_devices)
        return attributes

    def _state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; names instead of objects."""
        knobs = self.knob_values()
        plain = (bool, int, float, str, list, type(None))
        objects = {k: _name_of(v) for k, v in knobs.items() if not isinstance(v, plain)}
        device = self._own_device_text()
        if device:
            objects.pop("device", None)
        return {
            "device": device,
            "devices": list(self._own_devices),
            "knobs": {name: value for name, value in knobs.items() if isinstance(value, plain)},
            "objects": objects,
            "network": dict(self.network.state_dict()),
            "estimators": {name: e.state_dict() for name, e in self.estimators.items()},
            "order": self._order.state_dict(),
            "history": self.record.state_dict(),
            "counts": [self._devices_used, self._samples_seen, self._earlier_pulses],
            "created": self._created.isoformat(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Restore the ``state`` from :meth:`_state` in a run with the same knobs."""
        self.network.load_state_dict(self._with_settings(state["network"]))
        for name, estimator in self.estimators.items():
            estimator.load_state_dict(state["estimators"][name])
        self._order.load_state_dict(state["order"])
        self.record.load_state_dict(state["history"])
        self._devices_used, self._samples_seen, self._earlier_pulses = state["counts"]
        self._created = datetime.fromisoformat(state["created"])
        self._own_devices = state.get("devices", self._own_devices)

    def _with_settings(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """Add the settings of arrays, which earlier checkpoints did not store."""
        complete = dict(network)
        for name, layer in crossbar_layers(self.network).items():
            key = f"{name}._extra_state"
            saved = [
                {k: v for k, v in array.state_dict().items() if k in ("w_max", "settings")} | one
                for array, one in zip(layer.arrays, network[key]["arrays"], strict=True)
            ]
            complete[key] = {**layer.get_extra_state(), **network[key], "arrays": saved}
        return complete


def stored_devices(results: xr.DataTree | xr.Dataset) -> list[Device]:
    """The devices of one's own that a run or sweep used, whole, from its results or file.

    Presets are not among them: their names are in the settings.

    Raises
    ------
    ValueError
        If they cannot be read.
    """
    check_instance("results", results, xr.DataTree | xr.Dataset, "results of a run or a sweep")
    try:
        texts = json.loads(results.attrs.get("devices", "[]"))
        texts = [text for text in texts if isinstance(text, str)]
    except (ValueError, TypeError, RecursionError):
        raise ValueError("results must hold devices as JSON; got other text") from None
    return [physics.device_of_text(text) for text in texts]


def _stored_device(text: str, name: str | None) -> Device | str:
    """The stored device; its name if the list has the same one."""
    device = physics.device_of_text(text)
    known = name in device_names() and get_device(str(name)) == device
    return str(name) if known else device


def _name_of(thing: Any) -> str:
    return str(getattr(thing, "name", type(thing).__name__))
