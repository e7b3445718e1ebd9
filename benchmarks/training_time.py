"""How long an epoch of MNIST takes with SBPCA of rank 4, against plain torch SGD.

    python -m benchmarks.training_time --data-dir FOLDER

A 784-150-10 network, batch 128, float32. Every way of training it does a few steps in turn, round
after round, so that what else the machine does meets all of them alike. Printed are the medians
over the rounds, scaled to one epoch, and the ratios to torch SGD: of processor time, which other
programs disturb less, and of time on the clock. Crossbars read through ideal converters and write
rank by rank, as an Experiment does unless told otherwise. SBPCA reads blocks of 32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from toolkit.training import Dataset, Experiment, LowRankSGD, load_dataset, make_model

BATCH, HIDDEN, RANK, BLOCK, RATE = 128, 150, 4, 32, 0.1
DEVICES = ("EpiRAM", "FeFET", "Ag:a-Si", "GST PCM")
Step = Callable[[], object]


def batches(data: Dataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of the training samples in random order, without end."""
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(data.train_labels), generator=generator)
        for chosen in order.split(BATCH):
            yield data.train_inputs[chosen], data.train_labels[chosen]


def loop(data: Dataset, make: Callable[[nn.Module], torch.optim.Optimizer]) -> Step:
    """One step of a plain torch loop."""
    generator = torch.Generator().manual_seed(0)
    model = make_model("mlp", data, hidden=[HIDDEN], generator=generator)
    optimiser, source = make(model), batches(data)

    def step() -> None:
        inputs, labels = next(source)
        optimiser.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()

    return step


def experiment(data: Dataset, **knobs: object) -> Step:
    """One step of an Experiment; nothing is recorded after the first."""
    return Experiment(
        dataset=data,
        hidden=[HIDDEN],
        batch_size=BATCH,
        learning_rate=RATE,
        record_every=100_000,
        **knobs,
    ).step


def ways(data: Dataset) -> dict[str, Step]:
    """Every way of training, by name; the first is what the others are measured against."""
    sbpca = {"method": "sbpca", "rank": RANK, "block_size": BLOCK}
    found = {
        "torch SGD": loop(data, lambda model: torch.optim.SGD(model.parameters(), RATE)),
        "LowRankSGD, SBPCA": loop(data, lambda model: LowRankSGD(model, RATE, rank=RANK)),
        "LowRankSGD, SBPCA, one block": loop(
            data, lambda model: LowRankSGD(model, RATE, rank=RANK, block_size=BATCH)
        ),
        "Experiment, full gradient": experiment(data, method="sgd"),
        "Experiment, SBPCA": experiment(data, **sbpca),
    }
    return found | {
        f"Experiment, SBPCA, {device}": experiment(data, device=device, **sbpca)
        for device in DEVICES
    }


def measure(steps: dict[str, Step], rounds: int, count: int) -> dict[str, tuple[float, float]]:
    """Median seconds of a step, on the processor and on the clock."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            processor, clock = time.process_time(), time.perf_counter()
            for _ in range(count):
                step()
            spent = time.process_time() - processor, time.perf_counter() - clock
            times[name].append((spent[0] / count, spent[1] / count))
    return {
        name: (statistics.median(p for p, _ in found), statistics.median(c for _, c in found))
        for name, found in times.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_time")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets' files")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps in a row (10)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_dataset("mnist", data_dir=options.data_dir)
    steps = ways(data)
    measure(steps, 1, 3)  # warm up
    before = os.getloadavg()[0]
    times = measure(steps, options.rounds, options.steps)
    print(f"threads {options.threads}, load {before:.1f} before and {os.getloadavg()[0]:.1f} after")
    print("| | processor, s/epoch | clock, s/epoch | ratio, processor | ratio, clock |")
    print("|---|---|---|---|---|")
    per_epoch = len(data.train_labels) / BATCH
    first = next(iter(times.values()))
    for name, (processor, clock) in times.items():
        print(
            f"| {name} | {processor * per_epoch:.2f} | {clock * per_epoch:.2f} "
            f"| {processor / first[0]:.2f} | {clock / first[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
