"""Everything that a CUDA card changes, by one command: numbers first, then speed as ratios.

    python -m benchmarks.gpu [--skip-tests]

Runs ``tests/test_gpu.py`` (estimators, writes, reads and training against the CPU), then times
SBPCA against the dense product that it replaces, a crossbar's write against one uniform number a
cell, its read against a matrix product, and a step of ``LowRankSGD`` against torch's SGD, all on
the card. Alternatives take turns and each is waited for.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.lowrank_speed import Work, report
from toolkit.crossbar import Crossbar, get_device
from toolkit.lowrank import SBPCA, FeedbackPCA, LowRank
from toolkit.training import Dataset, LowRankSGD, make_model, to_crossbar

CARD = "cuda"


def waited_for(work: Work) -> Work:
    """The work, with the wait for the card to finish it."""

    def call() -> None:
        work()
        torch.cuda.synchronize()

    return call


def compare(title: str, works: dict[str, Work], *, rounds: int = 30) -> None:
    """Print times and their ratios to the first row."""
    timed = {name: waited_for(work) for name, work in works.items()}
    report(title, timed, reference=next(iter(works)), rounds=rounds)


def estimates(batch: int, m: int, n: int, rank: int, block: int) -> None:
    """Compare estimators with the dense product."""
    errors, activations = torch.randn(batch, m, device=CARD), torch.randn(batch, n, device=CARD)
    sbpca = SBPCA(rank=rank, block_size=block)
    whole, feedback = SBPCA(rank=rank, block_size=batch), FeedbackPCA(rank=rank)
    compare(
        f"{m} x {n}, batch {batch}, rank {rank}",
        {
            "dense product": lambda: errors.T @ activations,
            f"SBPCA, blocks of {block}": lambda: sbpca.update(errors, activations),
            "SBPCA, one block": lambda: whole.update(errors, activations),
            "FeedbackPCA": lambda: feedback.update(errors, activations),
        },
    )


def arrays(size: int) -> None:
    """Compare writes and reads with the least that they could be."""
    cells, weights = torch.empty(2, size, size, device=CARD), torch.randn(size, size, device=CARD)
    left, right = torch.randn(size, 3, device=CARD) / size, torch.randn(size, 3, device=CARD)
    update, signal = LowRank(left, torch.ones(3, device=CARD), right), torch.randn_like(weights)
    writes: dict[str, Work] = {"uniforms, one per cell": lambda: cells.uniform_()}
    reads: dict[str, Work] = {"matrix product": lambda: signal @ weights.T}
    for name in ("Ag:a-Si", "EcRam", "ReRamES"):
        array = Crossbar.from_weights(0.1 * weights, device=get_device(name))
        writes[f"write, {name}, rank 3"] = partial(array.apply, update, learning_rate=0.1)
        reads[f"read, {name}"] = partial(array.read, signal)
    compare(f"write {size} x {size} pairs", writes)
    compare(f"read {size} x {size} pairs, batch {size}", reads)


def training(title: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Compare whole steps with torch's SGD."""
    inputs, labels = torch.rand(128, *shape, device=CARD), torch.randint(0, 10, (128,), device=CARD)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> Work:
        def work() -> None:
            optimiser.zero_grad()
            functional.cross_entropy(model(inputs), labels).backward()
            optimiser.step()

        return work

    def low_rank(model: nn.Module) -> Work:
        return step(model, LowRankSGD(model, lr=0.01, rank=4, block_size=32))

    plain = make().to(CARD)
    compare(
        f"a step of {title}, batch 128, rank 4, blocks of 32",
        {
            "torch SGD": step(plain, torch.optim.SGD(plain.parameters(), 0.01)),
            "LowRankSGD": low_rank(make().to(CARD)),
            "LowRankSGD on EpiRAM": low_rank(
                to_crossbar(make().to(CARD), device=get_device("EpiRAM"))
            ),
        },
    )


def mlp(*widths: int) -> nn.Module:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(widths):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def vgg() -> nn.Module:
    """The toolkit's small vgg, for pictures of CIFAR-10's shape."""
    inputs, labels = torch.rand(100, 3 * 32 * 32), torch.arange(100) % 10
    pictures = Dataset("noise", inputs, labels, inputs, labels, classes=10, image_shape=(3, 32, 32))
    return make_model("vgg", pictures, generator=torch.Generator().manual_seed(0))


def main() -> int:
    """Run the tests, then all comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--skip-tests", action="store_true", help="only time")
    skip = parser.parse_args().skip_tests
    if not torch.cuda.is_available():
        print("needs a CUDA card; none is visible to torch", file=sys.stderr)
        return 2
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    status = 0 if skip else int(pytest.main(["-q", "--tb=short", "tests/test_gpu.py"]))
    estimates(64, 128, 65, 4, 8)
    estimates(128, 150, 785, 4, 32)
    estimates(64, 1024, 1024, 3, 32)
    estimates(128, 4096, 4096, 4, 32)
    arrays(1024)
    arrays(4096)
    training("784-150-10", lambda: mlp(784, 150, 10), (784,))
    training("three layers of 1024", lambda: mlp(1024, 1024, 1024, 1024), (1024,))
    training("three layers of 4096", lambda: mlp(4096, 4096, 4096, 4096), (4096,))
    training("vgg on pictures of CIFAR-10's shape", vgg, (3 * 32 * 32,))
    return status


if __name__ == "__main__":
    sys.exit(main())
