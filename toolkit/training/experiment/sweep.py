"""Sweeps: a grid over any knobs, run on Dask; each finished run is stored at once.

The result store is in ``results/grid.py``.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import multiprocessing
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from toolkit.checks import (
    check_count,
    check_flag,
    check_instance,
    check_path_like,
    shown,
)
from toolkit.crossbar import Device, device_names
from toolkit.crossbar.devices.presets import is_preset
from toolkit.plain_yaml import open_plain_yaml
from toolkit.results.grid import GridStore, Index
from toolkit.results.schema import root_attributes
from toolkit.training.experiment import physics
from toolkit.training.experiment.experiment import Experiment
from toolkit.training.experiment.knobs import Widths, doc_of, knobs_of
from toolkit.training.experiment.settings import Settings, present_names
from toolkit.training.layers.convert import DIGITAL

CONNECT_S = 20  # longest wait for a scheduler
Row = dict[str, Any]

MOST_RUNS = 100_000
MOST_EPOCHS, MOST_WORKERS = 100_000, 1024


@dataclass(frozen=True)
class Plan:
    """A grid of runs: the knobs that vary, with their values and ``seed`` last, and the fixed ones.

    Create one with :func:`plan_of` or :func:`read_plan`, which check it. ``devices`` holds those of
    your own by name, whole, as workers and the store need them.
    """

    axes: dict[str, list[Any]]
    fixed: dict[str, Any]
    epochs: int
    devices: dict[str, str] = field(default_factory=dict)

    def runs(self) -> Iterator[tuple[Index, dict[str, Any]]]:
        """Every run: its position on the grid and its knobs."""
        for index in itertools.product(*(range(len(values)) for values in self.axes.values())):
            varied = {
                name: values[i] for (name, values), i in zip(self.axes.items(), index, strict=True)
            }
            knobs = self.fixed | varied
            if own := self.devices.get(knobs.get("device", "")):
                knobs["device"] = physics.device_of_text(own)
            yield index, knobs

    def as_json(self) -> str:
        """Everything that the results depend on."""
        plan = {"axes": self.axes, "fixed": self.fixed, "epochs": self.epochs}
        return json.dumps(plan | ({"devices": self.devices} if self.devices else {}))


def plan_of(grid: Mapping[str, Any], *, seeds: int | Sequence[int] = 1, epochs: int = 1) -> Plan:
    """Check a grid: a list of values makes a knob an axis, a single value fixes it.

    The values of ``hidden`` are lists: [64] fixes it, [[64], [128]] is an axis. A device of your
    own can be given as the object, or by its name after :func:`~toolkit.crossbar.add_device`; the
    store holds it whole.

    Raises
    ------
    ValueError
        If a knob is unknown, a value is not allowed, repeated or not a plain value, or ``seeds`` or
        ``epochs`` is not allowed. Values that are invalid only in combination fail in their own
        run.
    """
    check_instance("grid", grid, Mapping, "a mapping of knobs, or a Plan")
    known, grid = knobs_of(Settings), present_names(grid)
    if unknown := [name for name in grid if name not in known or name == "seed"]:
        allowed = ", ".join(name for name in known if name != "seed")
        raise ValueError(f"grid must have knobs of {allowed}; got {unknown[0]!r}")
    check_count("epochs", epochs, 1, MOST_EPOCHS)
    grid, devices = _with_names(grid)
    axes: dict[str, list[Any]] = {}
    fixed: dict[str, Any] = {}
    for name, given in grid.items():
        if _is_axis(known[name], given):
            axes[name] = [_plain(name, value, devices) for value in given]
        else:
            fixed[name] = _plain(name, given, devices)
    if "loss" in axes:
        raise ValueError(
            f"loss must be one value, as losses of two kinds do not compare; got {grid['loss']!r}"
        )
    axes["seed"] = [_plain("seed", seed) for seed in _seeds(seeds)]
    if (runs := math.prod(len(values) for values in axes.values())) > MOST_RUNS:
        raise ValueError(f"grid must have at most {MOST_RUNS} runs; got {runs}")
    for name, values in axes.items():
        if not values or any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError(f"{name} must have at least one value and no repeats; got {values!r}")
    return Plan(axes, fixed, epochs, devices)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan from a YAML file with ``grid`` and, optionally, ``seeds`` and ``epochs``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file does not exist or is not YAML, or :func:`plan_of` rejects it.
    """
    found = open_plain_yaml(path)
    if not isinstance(found, dict) or not isinstance(found.get("grid"), dict):
        raise ValueError(f"{str(path)!r} must hold 'grid:' with knobs below it.")
    if unknown := sorted(set(found) - {"grid", "seeds", "epochs"}, key=str):
        raise ValueError(f"{str(path)!r} has {unknown[0]!r}; allowed: grid, seeds and epochs.")
    try:
        return plan_of(**found)
    except TypeError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def sweep(
    grid: Mapping[str, Any] | Plan,
    *,
    seeds: int | Sequence[int] = 1,
    epochs: int = 1,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Train every combination of ``grid`` and return one Dataset over the knobs that vary.

    Each run gives the same bits wherever it runs and with any number of workers: every worker uses
    one torch thread, and a run depends on its knobs alone. In a script, call this under
    ``if __name__ == "__main__":``, because workers import the script again.

    Parameters
    ----------
    grid
        Knobs of :class:`~toolkit.training.Settings`: a list of values is an axis, a single value
        applies to all runs. Or a :class:`Plan`.
    seeds
        Number of seeds, or a list of them.
    epochs
        Passes over the training set.
    out
        A .zarr store that receives every run when it is finished. Runs that are already in it are
        skipped. None: a temporary store.
    scheduler
        Address of a Dask scheduler, such as "tcp://host:8786", whose workers have this toolkit.
        None: a temporary cluster on this machine.
    workers
        Number of processes of that cluster; None: one per processor.
    progress
        Whether to show a progress bar and the address of Dask's own dashboard.

    Returns
    -------
    xarray.Dataset
        Variables as in ``toolkit.results.schema.SWEEP``. A failed run has NaN, ``status`` 2 and the
        reason in ``error``; the other runs continue.

    Raises
    ------
    ValueError
        If the grid or ``workers`` is not allowed, or ``out`` holds another sweep.
    OSError
        If there is no scheduler at that address, or the connection is lost.

    Examples
    --------
    >>> runs = sweep({"method": "sbpca", "rank": [1, 4]}, seeds=2, workers=1, progress=False)
    >>> dict(runs.test_accuracy.mean("seed").sizes)
    {'rank': 2, 'epoch': 1}
    """
    plan = grid if isinstance(grid, Plan) else plan_of(grid, seeds=seeds, epochs=epochs)
    if workers is not None:
        check_count("workers", workers, 1, MOST_WORKERS)
    if scheduler is not None:
        check_instance("scheduler", scheduler, str, "an address or None")
        if not re.fullmatch(r"\w+://\S+|[\w.-]+:\d+", scheduler):
            raise ValueError(
                f"scheduler must be an address such as tcp://host:8786; got {shown(scheduler)}"
            )
    check_flag("progress", progress)
    if out is not None:
        check_path_like("out", out)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "sweep.zarr"
            return sweep(plan, out=kept, scheduler=scheduler, workers=workers, progress=progress)
    store = _store(out, plan)
    left = [(index, knobs) for index, knobs in plan.runs() if not store.is_done(index)]
    if left:
        if scheduler is None and getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "sweep must be called under if __name__ == '__main__': in a script, which its "
                "workers import again"
            )
        _run_all(left, plan.epochs, store, scheduler, workers, progress)
    with xr.open_dataset(store.path, engine="zarr") as found:
        return found.load()


def run_one(knobs: dict[str, Any], epochs: int) -> Row:
    """Train once, on one torch thread; return the row of a sweep, or its error."""
    import torch

    torch.set_num_threads(1)
    try:
        return _measured(knobs, epochs)
    except Exception as error:  # whatever it is, the other runs continue
        return {"error": f"{type(error).__name__}: {error}"}


def _measured(knobs: dict[str, Any], epochs: int) -> Row:
    run = Experiment(**{"record_every": 100_000} | knobs)
    ends: list[dict[str, float]] = []
    for _ in range(epochs):
        records = list(run.steps(epochs=1))
        _, test_loss, test_accuracy = run.record.evaluations[-1]
        ends.append(
            {
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
                "loss": float(np.mean([record.loss for record in records])),
                "accuracy": float(np.mean([record.accuracy for record in records])),
                "steps": records[-1].step,
                "samples_seen": records[-1].samples_seen,
                "pulses": records[-1].pulses,
            }
        )
    return {name: np.array([end[name] for end in ends], dtype=float) for name in ends[0]}


def _run_all(
    left: list[tuple[Index, dict[str, Any]]],
    epochs: int,
    store: GridStore,
    scheduler: str | None,
    workers: int | None,
    progress: bool,
) -> None:
    from dask.system import CPU_COUNT  # the processors that this process can use
    from distributed import Client, as_completed
    from tqdm import tqdm

    workers = workers or min(CPU_COUNT, len(left))
    with cluster(scheduler, workers) as address, Client(address, timeout=CONNECT_S) as client:
        if progress:
            tqdm.write(f"Dask's dashboard: {client.dashboard_link}")
        futures = {
            client.submit(run_one, knobs, epochs, pure=False): index for index, knobs in left
        }
        bar = tqdm(total=len(futures), unit="run", desc="sweep", disable=not progress or None)
        with bar:
            for future in as_completed(futures):
                store.put(futures[future], _row_of(future))
                future.release()
                bar.update()


def _row_of(future: Any) -> Row:
    """The result of a run, or an error if its workers died repeatedly."""
    from distributed import KilledWorker

    if future.cancelled():
        raise ConnectionError(
            "the scheduler was lost; finished runs are stored. Start the sweep again to continue."
        )
    try:
        row: Row = future.result()
    except KilledWorker as error:
        return {"error": f"KilledWorker: {error}"}
    return row


@contextmanager
def cluster(scheduler: str | None, workers: int) -> Iterator[Any]:
    """The scheduler's address, or a cluster on this machine that exists within the block."""
    if scheduler is not None:
        yield scheduler
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=":0",  # any free port
        silence_logs=logging.ERROR,
    ) as cluster:
        yield cluster


def _store(out: str | os.PathLike[str], plan: Plan) -> GridStore:
    knobs = knobs_of(Settings)
    labels = {name: _attributes(name, knobs[name].unit) for name in plan.axes}
    varied = [name for name, values in plan.axes.items() if len(values) > 1]
    attributes = root_attributes(
        seed=int(plan.axes["seed"][0]),
        settings=plan.fixed,
        title=f"SBPCA Toolkit sweep over {', '.join(varied) or 'one run'}",
        created=datetime.now(UTC),
    )
    devices = {"devices": json.dumps(list(plan.devices.values()))} if plan.devices else {}
    return GridStore(
        out,
        axes=plan.axes,
        labels=labels | {"epoch": {"long_name": "epochs done", "units": "1"}},
        epochs=plan.epochs,
        attributes=attributes | {"sweep": plan.as_json()} | devices,
    )


def _with_names(grid: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The grid with devices by name, and those of one's own whole, by name."""
    if (given := grid.get("device")) is None:
        return dict(grid), {}
    several = isinstance(given, list | tuple | np.ndarray)
    names, devices = [], dict[str, str]()
    for value in given if several else [given]:
        own = value
        if isinstance(value, str) and value in device_names():
            own = physics.own_device(value, DIGITAL)
        if isinstance(own, Device):
            _check_name(own)
            text = physics.device_text(own)
            if devices.setdefault(own.name, text) != text:
                raise ValueError(f"device must have one device by a name; got two {own.name!r}")
            value = own.name
        names.append(value)
    return {**grid, "device": names if several else names[0]}, devices


def _check_name(device: Device) -> None:
    if device.name == DIGITAL or is_preset(device.name):
        raise ValueError(
            f"device must be given by name in a sweep, or have a name of its own; "
            f"{device.name!r} is taken"
        )


def _attributes(name: str, unit: str) -> dict[str, str]:
    return {"long_name": doc_of(knobs_of(Settings)[name]).rstrip(".")} | (
        {"units": unit} if unit else {}
    )


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    if type(seeds) is int and 1 <= seeds <= MOST_RUNS:
        return list(range(seeds))
    if isinstance(seeds, Sequence) and not isinstance(seeds, str) and seeds:
        return list(seeds)
    raise ValueError(
        f"seeds must be a whole number, 1 to {MOST_RUNS}, or a list of seeds; got {seeds!r}"
    )


def _is_axis(knob: Any, given: Any) -> bool:
    if isinstance(knob, Widths):
        return isinstance(given, list | tuple) and all(isinstance(x, list | tuple) for x in given)
    return isinstance(given, list | tuple | range | np.ndarray)


def _plain(name: str, value: Any, devices: Collection[str] = ()) -> Any:
    """``value`` in JSON form; ValueError if the knob does not allow it."""
    knob = knobs_of(Settings)[name]
    plain = knob.plain(value)
    if not (name == "device" and plain in devices):
        knob._validate(plain)
    if not isinstance(plain, bool | int | float | str | list | type(None)):
        raise ValueError(f"{name} must be given by name in a sweep; got {value!r}")
    return plain
