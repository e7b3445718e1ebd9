"""Training steps at rank k against torch's SGD, as ratios, with the memory that they take.

    python -m benchmarks.training_speed [--rounds N] [--devices]

Alternatives take turns within one run. Times are CPU times of the one thread that works, medians:
on a busy machine they say what the work costs, not how long it waited. ``--devices`` adds every
preset.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.lowrank_speed import timings
from toolkit.crossbar import device_names
from toolkit.training import LowRankSGD, to_crossbar
from toolkit.training.memory import peak_bytes

Step = Callable[[], object]


def perceptron() -> nn.Sequential:
    """784-150-10, as on MNIST."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 150), nn.ReLU(), nn.Linear(150, 10))


def convolutional() -> nn.Sequential:
    """Three convolutions of 3 x 3 and a linear layer, as on CIFAR-10."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for channels, wider in ((3, 32), (32, 32), (32, 64)):
        blocks += [nn.Conv2d(channels, wider, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(1024, 10))


def wide() -> nn.Sequential:
    """Three layers of 1024."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)
    )


def step(
    model: nn.Module, optimiser: torch.optim.Optimizer, inputs: Tensor, labels: Tensor
) -> Step:
    """One step of anyone's loop."""

    def work() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()

    return work


def alternatives(
    make: Callable[[], nn.Module], inputs: Tensor, labels: Tensor, devices: list[str]
) -> dict[str, Step]:
    """Return the steps to compare, each of a network of its own."""
    models: dict[str, tuple[nn.Module, dict[str, int | float] | None]] = {
        "torch SGD": (make(), None),
        "SBPCA rank 4, block 32": (make(), {}),
        "SBPCA rank 4, block 128": (make(), {"block_size": 128}),
        "  with momentum": (make(), {"block_size": 128, "momentum": 0.9}),
        "  on digital arrays": (to_crossbar(make()), {"block_size": 128}),
    }
    for name in devices:
        models[f"  on {name}"] = (to_crossbar(make(), device=name), {"block_size": 128})
    return {
        name: step(
            model,
            torch.optim.SGD(model.parameters(), 0.01)
            if knobs is None
            else LowRankSGD(model, 0.01, rank=4, **knobs),
            inputs,
            labels,
        )
        for name, (model, knobs) in models.items()
    }


def report(title: str, works: dict[str, Step], *, rounds: int) -> None:
    """Print CPU time and peak memory of every step, and their ratios to the first one's."""
    times = timings(works, rounds=rounds, clock=time.thread_time)
    print(f"\n{title}\n  {'':26s} {'median ms':>10s} {'ratio':>7s} {'peak MB':>10s}")
    base, _ = next(iter(times.values()))
    for name, (median, _) in times.items():
        peak = peak_bytes(works[name]) / 1e6
        print(f"  {name:26s} {median:10.3f} {median / base:7.2f} {peak:10.3f}")


def main() -> None:
    """Run all comparisons on one thread."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_speed")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--devices", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    devices = list(device_names()) if options.devices else ["Ag:a-Si"]
    labels = torch.randint(0, 10, (128,))
    print(f"torch {torch.__version__}, 1 thread, batch 128")
    for title, make, shape, rounds in (
        ("MLP 784-150-10", perceptron, (784,), 2 * options.rounds),
        ("MLP of 3 layers 1024 x 1024", wide, (1024,), options.rounds // 4),
        ("CNN on 3 x 32 x 32", convolutional, (3, 32, 32), options.rounds // 4),
    ):
        works = alternatives(make, torch.rand(128, *shape), labels, devices)
        report(title, works, rounds=rounds)


if __name__ == "__main__":
    main()
