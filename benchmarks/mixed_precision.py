"""Mixed precision with and without its m x n memory, on cells, against writing at once.

    python -m benchmarks.mixed_precision [--seeds 5] [--epochs 10] [--devices ...]

Digits, 64-128-10, SBPCA of rank 4 in blocks of 8, batch 64. The learning rate of each case is
chosen by the mean accuracy on every fifth training sample, held out; the table is the test set's.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import nn
from torch.nn import functional

from toolkit.crossbar import MixedPrecision, get_device
from toolkit.training import CrossbarLinear, Dataset, LowRankSGD, load_dataset, to_crossbar

RATES = (0.03, 0.1, 0.3)
DEVICES = ("Ag:a-Si", "AlOx/HfO2", "EcRam", "ReRamSB")
CASES = {"at once": "none", "memory m n": None, "memory of rank 12": 12, "memory of rank 4": 4}


def network(device: str, memory: int | str | None, seed: int) -> nn.Module:
    """The digits network on cells, with a memory if one is asked for."""
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model = to_crossbar(plain, device=get_device(device), seed=seed)
    if memory != "none":
        for layer in model:
            if isinstance(layer, CrossbarLinear):
                rank = None if memory is None else min(int(memory), *layer.shape)
                layer.array = MixedPrecision(layer.array, memory_rank=rank)
    return model


def train(
    data: Dataset, device: str, memory: int | str | None, rate: float, seed: int, epochs: int
) -> tuple[float, float, int]:
    """Accuracy on held-out samples and on the test set, and pulses."""
    model = network(device, memory, seed)
    optimiser = LowRankSGD(model, lr=rate, method="sbpca", rank=4, block_size=8, seed=seed)
    held = torch.arange(len(data.train_labels)) % 5 == 0
    inputs, labels = data.train_inputs[~held], data.train_labels[~held]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for picked in torch.randperm(len(labels), generator=generator).split(64):
            optimiser.zero_grad()
            functional.cross_entropy(model(inputs[picked]), labels[picked]).backward()
            optimiser.step()
    pulses = sum(layer.array.pulses for layer in model if isinstance(layer, CrossbarLinear))
    with torch.no_grad():
        right = [
            float((model(x).argmax(1) == y).double().mean())
            for x, y in (
                (data.train_inputs[held], data.train_labels[held]),
                (data.test_inputs, data.test_labels),
            )
        ]
    return right[0], right[1], pulses


def main() -> None:
    """Print a table, a row for each device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_precision")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--devices", nargs="+", default=["Ag:a-Si", "AlOx/HfO2", "EcRam", "ReRamSB"]
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset("digits")
    print(f"{'cells':12}" + "".join(f"{name:>38}" for name in CASES))
    for device in options.devices:
        row = ""
        for memory in CASES.values():
            by_rate = {
                rate: [
                    train(data, device, memory, rate, seed, options.epochs)
                    for seed in range(options.seeds)
                ]
                for rate in RATES
            }
            rate, runs = max(
                by_rate.items(), key=lambda each: statistics.fmean(run[0] for run in each[1])
            )
            _, tests, pulses = zip(*runs, strict=True)
            mean, deviation = statistics.fmean(tests), statistics.stdev(tests)
            accuracy = f"{100 * mean:.1f} ± {100 * deviation:.1f}"
            row += f"{f'{accuracy} ({statistics.fmean(pulses):,.0f}; {rate})':>38}"
        print(f"{device:12}{row}", flush=True)


if __name__ == "__main__":
    main()
