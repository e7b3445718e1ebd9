"""Training steps with SBPCA of rank 4 against plain torch SGD: time and memory, as ratios.

    python -m benchmarks.training_time --data-dir FOLDER
    python -m benchmarks.training_time --network cnn --devices EpiRAM

Networks: ``mlp``, 784-150-10 as on MNIST (of its pictures with --data-dir, else of noise);
``wide``, three layers of 1024 x 1024; ``cnn``, three convolutions as on CIFAR-10. Batch 128,
float32. Every way of training does a few steps in turn, round after round, so that what else the
machine does meets all of them alike. Printed are medians over the rounds of one step, their ratios
to torch SGD (of processor time, which other programs disturb less, and of time on the clock), and
the most memory that a step holds beyond what it began with. 469 steps are an epoch of MNIST.
Crossbars read through ideal converters and write rank by rank.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from toolkit.training import Dataset, Experiment, LowRankSGD, load_dataset, make_model, to_crossbar
from toolkit.training.experiment.memory import peak_bytes

BATCH, RANK, RATE, SAMPLES = 128, 4, 0.1, 2048
DEVICES = ("EpiRAM", "FeFET", "Ag:a-Si", "GST PCM")
Step = Callable[[], object]


def mlp(data: Dataset) -> nn.Module:
    """784-150-10, as on MNIST."""
    return make_model("mlp", data, hidden=[150], generator=torch.Generator().manual_seed(0))


def wide(_data: Dataset) -> nn.Module:
    """Three layers of 1024."""
    torch.manual_seed(0)
    layers = [nn.Linear(1024, 1024) for _ in range(3)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def cnn(_data: Dataset) -> nn.Module:
    """Three convolutions of 3 x 3 and a linear layer, as on CIFAR-10."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = [nn.Unflatten(1, (3, 32, 32))]
    for channels, wider in ((3, 32), (32, 32), (32, 64)):
        blocks += [nn.Conv2d(channels, wider, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(1024, 10))


NETWORKS = {"mlp": (mlp, 784), "wide": (wide, 1024), "cnn": (cnn, 3072)}


def noise(features: int) -> Dataset:
    """Samples that nothing can be learned from; they take as long as others."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(SAMPLES, features, generator=generator)
    labels = torch.randint(0, 10, (SAMPLES,), generator=generator)
    return Dataset("noise", inputs, labels, inputs[:128], labels[:128], classes=10)


def loop(data: Dataset, model: nn.Module, optimiser: torch.optim.Optimizer) -> Step:
    """One step of anyone's loop, on samples in random order."""
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        chosen = torch.randint(0, len(data.train_labels), (BATCH,), generator=generator)
        optimiser.zero_grad()
        scores = model(data.train_inputs[chosen])
        functional.cross_entropy(scores, data.train_labels[chosen]).backward()
        optimiser.step()

    return step


def ways(
    make: Callable[[Dataset], nn.Module], data: Dataset, devices: tuple[str, ...]
) -> dict[str, Step]:
    """Every way of training, by name; the first is what the others are measured against."""
    plain = make(data)
    found = {"torch SGD": loop(data, plain, torch.optim.SGD(plain.parameters(), RATE))}
    whole = {"block_size": BATCH}
    for name, knobs in {
        "SBPCA, blocks of 32": {"block_size": 32},
        "SBPCA, one block": whole,
        "SBPCA, one block, momentum": {**whole, "momentum": 0.9},
    }.items():
        model = make(data)
        found[name] = loop(data, model, LowRankSGD(model, RATE, rank=RANK, **knobs))
    for device in devices:
        model = to_crossbar(make(data), device=device)
        optimiser = LowRankSGD(model, RATE, rank=RANK, **whole)
        found[f"SBPCA, one block, {device}"] = loop(data, model, optimiser)
    common = {"dataset": data, "batch_size": BATCH, "learning_rate": RATE, "record_every": 100_000}
    for name, more in {
        "full gradient": {"method": "sgd"},
        "SBPCA, blocks of 32": {"rank": RANK, "block_size": 32},
        "SBPCA, one block": {"rank": RANK, **whole},
        **{f"SBPCA, one block, {d}": {"rank": RANK, "device": d, **whole} for d in devices},
    }.items():
        found[f"Experiment, {name}"] = Experiment(model=make(data), **common, **more).step
    return found


def measure(steps: dict[str, Step], rounds: int, count: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a step, on the processor and on the clock."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            processor, clock = time.process_time(), time.perf_counter()
            for _ in range(count):
                step()
            spent = time.process_time() - processor, time.perf_counter() - clock
            if turn:  # the first round warms caches and allocators
                times[name].append((1e3 * spent[0] / count, 1e3 * spent[1] / count))
    return {
        name: (statistics.median(p for p, _ in found), statistics.median(c for _, c in found))
        for name, found in times.items()
    }


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_time")
    parser.add_argument("--network", choices=NETWORKS, default="mlp")
    parser.add_argument("--data-dir", type=Path, help="folder of MNIST's files, for mlp")
    parser.add_argument("--devices", nargs="*", default=DEVICES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps in a row (10)")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parsed()
    torch.set_num_threads(options.threads)
    make, features = NETWORKS[options.network]
    is_mnist = options.network == "mlp" and options.data_dir is not None
    data = load_dataset("mnist", data_dir=options.data_dir) if is_mnist else noise(features)
    steps = ways(make, data, tuple(options.devices))
    before = os.getloadavg()[0]
    times = measure(steps, options.rounds, options.steps)
    print(f"torch {torch.__version__}, threads {options.threads}, {data.name}, load {before:.1f}")
    print(
        "| | processor, ms/step | clock, ms/step | ratio, processor | ratio, clock | memory, MB |"
    )
    print("|---|---|---|---|---|---|")
    first = next(iter(times.values()))
    for name, (processor, clock) in times.items():
        print(
            f"| {name} | {processor:.2f} | {clock:.2f} | {processor / first[0]:.2f} "
            f"| {clock / first[1]:.2f} | {peak_bytes(steps[name]) / 1e6:.2f} |"
        )


if __name__ == "__main__":
    main()
