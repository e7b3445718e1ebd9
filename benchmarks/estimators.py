"""Which estimator should a person choose? Train small networks with every one of them.

    python -m benchmarks.estimators --dataset digits --out digits.nc
    python -m benchmarks.estimators --dataset mnist --data-dir FOLDER --out mnist.nc

A 2-layer ReLU network (64-128-10 on digits, 784-150-10 on MNIST), biases as one more input, is
trained by plain SGD on each estimator's updates, on plain weights or, with --device, on crossbars
of that device, whose pulses are then counted. The learning rate of each case is tuned on a
tenth of the training samples held out, with seeds of its own; then the network is trained on all
of them once for every seed. The result is a table on the screen and an xarray Dataset over
(method, rank, seed) in a netCDF file. MNIST is read from its four .gz files in FOLDER, or in the
folder that the environment variable SBPCA_DATA names.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from toolkit.crossbar import Crossbar, DigitalArray, device_names, get_device
from toolkit.lowrank import Estimator, captured_energy, estimator_knobs, make_estimator
from toolkit.training import Dataset, load_dataset
from toolkit.training.layers.modules import CrossbarLinear, initial_weights

METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "full gradient": ("sgd", {}),
    "truncated SVD": ("svd", {}),
    "SBPCA": ("sbpca", {"block_size": 32}),
    "SBPCA, full core": ("sbpca", {"block_size": 32, "core": "full"}),
    "SBE": ("sbe", {}),
    "LRT, biased": ("lrt", {"block_size": 32}),
    "LRT, unbiased": ("lrt", {"block_size": 32, "unbiased": True}),
    "NMF": ("nmf", {"iterations": 2}),
    "power iteration": ("power", {}),
    "FeedbackPCA": ("feedback", {}),
}
WITHOUT_RANK = ("full gradient", "SBE")
TUNING_SEED = 1000
W_MAX = 1.0


@dataclass(frozen=True)
class Task:
    """A data set and the network and budget for it."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    hidden: int
    batch: int
    epochs: int
    rates: tuple[float, ...]
    device: str | None = None
    tuning_seeds: int = 1

    def for_tuning(self) -> Task:
        """Return the task with a tenth of the training samples as its test."""
        inputs, labels = self.train
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        held, rest = order[: len(order) // 10], order[len(order) // 10 :]
        return dataclasses.replace(
            self, train=(inputs[rest], labels[rest]), test=(inputs[held], labels[held])
        )


@dataclass
class Outcome:
    """What one training gave."""

    accuracy: float
    pulses: float = 0.0
    energy: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def digits() -> Task:
    """Return scikit-learn's digits."""
    train, test = parts(load_dataset("digits"))
    return Task(train, test, hidden=128, batch=64, epochs=20, rates=(0.1, 0.2, 0.4, 0.8, 1.6))


def mnist(folder: Path | None) -> Task:
    """Return MNIST, read from its four canonical files."""
    train, test = parts(load_dataset("mnist", data_dir=folder))
    return Task(train, test, hidden=150, batch=128, epochs=2, rates=(0.25, 0.5, 1.0))


def parts(data: Dataset) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the training and the test samples, with their labels."""
    return (data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)


def estimators(method: str, rank: int, shapes: list[tuple[int, int]], seed: int) -> list[Estimator]:
    """Make one estimator per layer; the rank is clipped to what the layer can have."""
    name, knobs = METHODS[method]
    made = []
    for layer, shape in enumerate(shapes):
        wanted = {**knobs, "rank": min(rank, *shape), "seed": 10 * seed + layer}
        made.append(
            make_estimator(name, **{k: v for k, v in wanted.items() if k in estimator_knobs(name)})
        )
    return made


def array(weights: Tensor, device: str | None, seed: int) -> Crossbar | DigitalArray:
    """Return plain weights, or a crossbar of the named device."""
    if device is None:
        return DigitalArray.from_weights(weights)
    return Crossbar.from_weights(weights, device=get_device(device), w_max=W_MAX, seed=seed)


def network(task: Task, seed: int) -> tuple[nn.Sequential, list[CrossbarLinear]]:
    """Make the network and list its two layers."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (task.train[0].shape[1], task.hidden, 10)
    layers = [
        CrossbarLinear(array(initial_weights(m, n, generator), task.device, 10 * seed + i))
        for i, (n, m) in enumerate(itertools.pairwise(sizes))
    ]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1]), layers


def train(task: Task, method: str, rank: int, rate: float, seed: int, *, watch: bool) -> Outcome:
    """Train once with a method. ``watch`` also measures the energy captured, every 20 steps."""
    return train_with(
        task, lambda shapes: estimators(method, rank, shapes, seed), rate, seed, watch=watch
    )


def train_with(
    task: Task,
    make: Callable[[list[tuple[int, int]]], list[Estimator]],
    rate: float,
    seed: int,
    *,
    watch: bool,
) -> Outcome:
    """Train once with the estimators that ``make`` gives for the layers' shapes."""
    model, layers = network(task, seed)
    workers = make([layer.shape for layer in layers])
    inputs, labels = task.train
    generator = torch.Generator().manual_seed(seed)
    outcome = Outcome(float("nan"))
    for _ in range(task.epochs):
        order = torch.randperm(len(labels), generator=generator)
        for step, chosen in enumerate(order.split(task.batch)):
            loss = nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
            if not torch.isfinite(loss):
                return outcome
            loss.backward()
            measure(outcome, layers, workers, rate, watch=watch and step % 20 == 0)
    with torch.no_grad():
        right = model(task.test[0]).argmax(1) == task.test[1]
    outcome.accuracy = 100 * float(right.float().mean())
    if task.device:
        counts = [layer.array.pulse_count for layer in layers]
        outcome.pulses = sum(float(count.sum()) for count in counts if count is not None)
    return outcome


def seen_by(layer: CrossbarLinear) -> tuple[Tensor, Tensor]:
    """Take the layer's errors and activations of this step."""
    ((errors, activations),) = layer.samples
    layer.clear_samples()
    return errors, activations


def measure(
    outcome: Outcome,
    layers: list[CrossbarLinear],
    workers: list[Estimator],
    rate: float,
    *,
    watch: bool,
) -> None:
    """Update both layers, and note how long the estimators took and what they captured."""
    samples = [seen_by(layer) for layer in layers]
    start = time.perf_counter()
    updates = [
        worker.update(errors, activations)
        for worker, (errors, activations) in zip(workers, samples, strict=True)
    ]
    outcome.times.append(1e3 * (time.perf_counter() - start))
    if watch:
        outcome.energy.append(captured_energy(updates[0], *samples[0]))
    for layer, update in zip(layers, updates, strict=True):
        layer.array.apply(update, learning_rate=rate)


def best_rate(task: Task, method: str, rank: int) -> float:
    """Return the learning rate whose worst accuracy on held-out training samples is best."""
    tuning = task.for_tuning()
    scores = {}
    for rate in task.rates:
        seeds = range(TUNING_SEED, TUNING_SEED + task.tuning_seeds)
        runs = [train(tuning, method, rank, rate, seed, watch=False).accuracy for seed in seeds]
        scores[rate] = float(np.min(np.nan_to_num(runs, nan=0.0)))  # a diverged run counts 0
    return max(scores, key=lambda rate: scores[rate])


def case(task: Task, method: str, rank: int, seeds: int) -> xr.Dataset:
    """Tune and train one method at one rank."""
    rate = best_rate(task, method, rank)
    outcomes = [train(task, method, rank, rate, seed, watch=seed == 0) for seed in range(seeds)]
    shapes = [layer.shape for layer in network(task, 0)[1]]
    workers = estimators(method, rank, shapes, 0)
    costs = list(zip(workers, shapes, strict=True))
    values: dict[str, float] = {
        "learning_rate": rate,
        "captured_energy": float(np.mean(outcomes[0].energy)),
        "words": sum(worker.words(*shape) for worker, shape in costs),
        "buffer_words": sum(worker.buffer_words(*shape, task.batch) for worker, shape in costs),
        "macs": sum(worker.macs(*shape, task.batch) for worker, shape in costs),
        "update_time": statistics.median(outcomes[0].times),
        "pulses": statistics.mean(outcome.pulses for outcome in outcomes),
    }
    data = {name: (("method", "rank"), [[float(value)]]) for name, value in values.items()}
    accuracy = (("method", "rank", "seed"), [[[outcome.accuracy for outcome in outcomes]]])
    return xr.Dataset(
        {"accuracy": accuracy, **data},
        coords={"method": [method], "rank": [rank], "seed": list(range(seeds))},
    )


ATTRIBUTES = {
    "accuracy": {"long_name": "test accuracy", "units": "percent"},
    "learning_rate": {"long_name": "tuned learning rate", "units": "1"},
    "captured_energy": {
        "long_name": "energy of the first layer's gradient captured, mean over the run",
        "units": "1",
    },
    "words": {"long_name": "numbers kept between batches, both layers", "units": "1"},
    "buffer_words": {"long_name": "further numbers held within a batch", "units": "1"},
    "macs": {"long_name": "multiply-accumulates per batch, both layers", "units": "1"},
    "pulses": {"long_name": "pulses written in one training, mean over seeds", "units": "1"},
    "update_time": {"long_name": "median time of both layers' estimates", "units": "ms"},
}


def merged(cases: list[xr.Dataset], task: Task, dataset: str) -> xr.Dataset:
    """Put the cases into one Dataset with its attributes."""
    methods = list(dict.fromkeys(part.method.item() for part in cases))
    whole = xr.merge(cases, join="outer", compat="no_conflicts").reindex({"method": methods})
    for name, attributes in ATTRIBUTES.items():
        whole[name].attrs = attributes
    return whole.assign_attrs(
        title=f"Low-rank gradient estimators on {dataset}",
        dataset=dataset,
        network=f"{task.train[0].shape[1]}-{task.hidden}-10 ReLU",
        batch_size=task.batch,
        epochs=task.epochs,
        device=task.device or "none",
        Conventions="CF-1.11",
    )


def print_row(result: xr.Dataset) -> None:
    """Print one case."""
    row = result.isel(method=0, rank=0)
    spread = float(row.accuracy.std("seed", ddof=1)) if row.sizes["seed"] > 1 else 0.0
    print(
        f"{row.method.item():18s} rank {row['rank'].item():2d}  lr {float(row.learning_rate):5.3g}"
        f"  {float(row.accuracy.mean('seed')):6.2f} ± {spread:4.2f} %"
        f"  energy {float(row.captured_energy):6.2f}  words {float(row.words):8.0f}"
        f"  Mmac {float(row.macs) / 1e6:7.2f}  {float(row.update_time):7.2f} ms"
        f"  Mpulses {float(row.pulses) / 1e6:7.2f}",
        flush=True,
    )


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators")
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets' files")
    parser.add_argument("--device", choices=device_names(), help="train on crossbars of it")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates to choose from")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tuning-seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="netCDF file for the result")
    return parser.parse_args()


def main() -> None:
    """Run the study that the command line asks for."""
    options = parsed()
    torch.set_num_threads(options.threads)
    task = chosen_task(options)
    cases = []
    for method in options.methods:
        for rank in [1] if method in WITHOUT_RANK else options.ranks:
            cases.append(case(task, method, rank, options.seeds))
            print_row(cases[-1])
            if options.out:  # after every case: a long study may be cut short
                merged(cases, task, options.dataset).to_netcdf(options.out, engine="h5netcdf")


def chosen_task(options: argparse.Namespace) -> Task:
    """Return the task with the budget that the command line asks for."""
    try:
        task = digits() if options.dataset == "digits" else mnist(options.data_dir)
    except FileNotFoundError as error:  # it says how to get the files
        sys.exit(str(error))
    return dataclasses.replace(
        task,
        device=options.device,
        tuning_seeds=options.tuning_seeds,
        epochs=options.epochs or task.epochs,
        rates=tuple(options.rates or task.rates),
    )


if __name__ == "__main__":
    main()
