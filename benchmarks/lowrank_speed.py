"""How fast the estimators are, as ratios to what they replace.

    python -m benchmarks.lowrank_speed [--threads N]

Alternatives take turns within one run, so that a busy machine slows all of them alike; what is
printed is the median and the least time of each, and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from toolkit.crossbar import DigitalArray
from toolkit.lowrank import SBPCA, FeedbackPCA, TruncatedSVD
from toolkit.training.layers.modules import CrossbarLinear

Work = Callable[[], object]


def timings(
    works: dict[str, Work], *, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, tuple[float, float]]:
    """Return the median and the least time of each piece of work, in milliseconds of ``clock``."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 3):
        for name, work in works.items():
            start = clock()
            work()
            if turn >= 3:  # the first rounds warm caches and allocators
                times[name].append(1e3 * (clock() - start))
    return {name: (statistics.median(values), min(values)) for name, values in times.items()}


def report(title: str, works: dict[str, Work], *, reference: str, rounds: int) -> None:
    """Print median and least time of every alternative, and their ratios to the reference's."""
    results = timings(works, rounds=rounds)
    print(f"\n{title}\n  {'':30s} {'median ms':>10s} {'ratio':>7s} {'least ms':>10s} {'ratio':>7s}")
    for name, values in results.items():
        columns = (
            f"{value:10.3f} {value / base:7.2f}"
            for value, base in zip(values, results[reference], strict=True)
        )
        print(f"  {name:30s} {' '.join(columns)}")


def samples(batch: int, m: int, n: int) -> tuple[Tensor, Tensor]:
    """Return random errors and activations."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, m, generator=generator) / batch,
        torch.randn(batch, n, generator=generator),
    )


def update_against_product(batch: int, size: int, rank: int, *, rounds: int) -> None:
    """Compare updates with the dense product that they replace."""
    errors, activations = samples(batch, size, size)
    sbpca, feedback = SBPCA(rank=rank, block_size=32), FeedbackPCA(rank=rank)
    report(
        f"{size} x {size}, batch {batch}, rank {rank}, block 32",
        {
            "dense product": lambda: errors.T @ activations,
            "SBPCA": lambda: sbpca.update(errors, activations),
            f"FeedbackPCA, memory {feedback.memory_rank}": lambda: feedback.update(
                errors, activations
            ),
        },
        reference="dense product",
        rounds=rounds,
    )


def small_update() -> None:
    """Compare an update of a digits-sized layer with one QR of a 64 x 4 matrix."""
    errors, activations = samples(64, 128, 64)
    tall = torch.randn(64, 4)
    sbpca, feedback, svd = SBPCA(rank=4, block_size=32), FeedbackPCA(rank=4), TruncatedSVD(rank=4)
    report(
        "128 x 64, batch 64, rank 4, block 32",
        {
            "QR of 64 x 4": lambda: torch.linalg.qr(tall),
            "SBPCA": lambda: sbpca.update(errors, activations),
            "FeedbackPCA, memory 12": lambda: feedback.update(errors, activations),
            "TruncatedSVD": lambda: svd.update(errors, activations),
        },
        reference="QR of 64 x 4",
        rounds=500,
    )


def decompositions() -> None:
    """Compare with randomised decompositions of the formed gradient."""
    errors, activations = samples(64, 1024, 1024)
    sbpca, svd = SBPCA(rank=3, block_size=32), TruncatedSVD(rank=3)
    report(
        "1024 x 1024, batch 64, rank 3: decompositions (the formed gradient included)",
        {
            "SBPCA": lambda: sbpca.update(errors, activations),
            "TruncatedSVD (exact)": lambda: svd.update(errors, activations),
            "torch.svd_lowrank": lambda: torch.svd_lowrank(errors.T @ activations, q=7, niter=2),
            "sklearn randomized_svd": lambda: randomized_svd(
                (errors.T @ activations).numpy(), n_components=3, random_state=0
            ),
        },
        reference="SBPCA",
        rounds=30,
    )


def training_step(rank: int = 3, batch: int = 64, width: int = 1024) -> None:
    """Compare a whole step of a 3-layer MLP with plain torch SGD."""
    inputs, targets = torch.randn(batch, width), torch.randint(0, width, (batch,))
    layers = [nn.Linear(width, width) for _ in range(3)]
    plain = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimiser = torch.optim.SGD(plain.parameters(), lr=1e-3)
    arrays = [
        CrossbarLinear(
            DigitalArray.from_weights(
                torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().clone()
            )
        )
        for layer in layers
    ]
    factored = nn.Sequential(arrays[0], nn.ReLU(), arrays[1], nn.ReLU(), arrays[2])
    estimators = [SBPCA(rank=rank, block_size=32, seed=i) for i in range(3)]

    def plain_step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(inputs), targets).backward()
        optimiser.step()

    def factored_step() -> None:
        nn.functional.cross_entropy(factored(inputs), targets).backward()
        for layer, estimator in zip(arrays, estimators, strict=True):
            ((errors, activations),) = layer.samples
            layer.clear_samples()
            update = estimator.update(errors, activations)
            layer.array.apply(update, learning_rate=1e-3)

    report(
        f"training step, MLP of 3 layers {width} x {width}, batch {batch}, rank {rank}",
        {"torch SGD": plain_step, "no dense weight gradient": factored_step},
        reference="torch SGD",
        rounds=40,
    )


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lowrank_speed")
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} thread(s)")
    small_update()
    update_against_product(64, 1024, 3, rounds=60)
    update_against_product(128, 4096, 4, rounds=15)
    decompositions()
    training_step()


if __name__ == "__main__":
    main()
