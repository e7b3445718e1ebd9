"""The core against its floor: estimators over the dense product, training over a bare torch loop.

    python -m benchmarks.core_speed [estimators] [steps]

One thread; all of a table's rows take turns in one run. Estimators are over the product
``errors.T @ activations`` that they replace; steps are on the digits, 64-128-10 with batches of 64,
over a torch loop that keeps the same record of each step, and on noise of MNIST's size, 784-150-10
with batches of 128, over torch SGD.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.lowrank_speed import report, samples
from benchmarks.training_time import loop, noise
from toolkit.lowrank import LRT, SBE, SBPCA, FeedbackPCA
from toolkit.training import Dataset, Experiment, LowRankSGD, load_dataset, make_model, to_crossbar

Step = Callable[[], object]


def estimators() -> None:
    """Every estimator at four sizes."""
    for m, n, batch, rank, block, rounds in (
        (128, 65, 64, 4, 8, 300),
        (150, 785, 128, 4, 32, 200),
        (1024, 1024, 64, 3, 32, 60),
        (4096, 4096, 64, 3, 32, 10),
    ):
        errors, activations = samples(batch, m, n)
        made = {
            f"SBPCA, blocks of {block}": SBPCA(rank=rank, block_size=block),
            f"SBPCA, full core, blocks of {block}": SBPCA(rank=rank, block_size=block, core="full"),
            f"FeedbackPCA, blocks of {block}": FeedbackPCA(rank=rank, block_size=block),
            "FeedbackPCA, one block": FeedbackPCA(rank=rank, block_size=batch),
        }
        if m < 1024:
            made |= {"SBE": SBE(), "LRT, unbiased": LRT(rank=rank, unbiased=True)}
        works: dict[str, Step] = {"dense product": lambda d=errors, a=activations: d.T @ a}
        works |= {
            name: lambda e=each, d=errors, a=activations: e.update(d, a)
            for name, each in made.items()
        }
        title = f"{m} x {n}, batch {batch}, rank {rank}"
        report(title, works, reference="dense product", rounds=rounds)


def bare(data: Dataset, model: nn.Module, batch: int, rate: float) -> Step:
    """A torch loop that notes loss and accuracy of every step."""
    optimiser = torch.optim.SGD(model.parameters(), rate)
    generator, notes = torch.Generator().manual_seed(0), list[tuple[float, float]]()

    def step() -> None:
        picked = torch.randint(len(data.train_labels), (batch,), generator=generator)
        labels = data.train_labels[picked]
        optimiser.zero_grad()
        scores = model(data.train_inputs[picked])
        loss = functional.cross_entropy(scores, labels)
        loss.backward()
        optimiser.step()
        notes.append((loss.item(), float((scores.argmax(1) == labels).float().mean())))

    return step


def steps() -> None:
    """Experiment on the digits, LowRankSGD on noise of MNIST's size."""
    digits = load_dataset("digits")
    common = {"dataset": digits, "hidden": [128], "batch_size": 64, "record_every": 1000}
    model = make_model("mlp", digits, hidden=[128], generator=torch.Generator().manual_seed(0))
    works: dict[str, Step] = {"bare torch loop": bare(digits, model, 64, 0.1)}
    for device in ("digital", "Ag:a-Si", "EpiRAM"):
        for method in ("sgd", "sbpca"):
            run = Experiment(**common, method=method, rank=4, block_size=8, device=device)
            works[f"{method}, {device}"] = run.step
    report("Experiment, digits", works, reference="bare torch loop", rounds=400)

    data = noise(784)
    plain = make_model("mlp", data, hidden=[150], generator=torch.Generator().manual_seed(0))
    works = {"torch SGD": loop(data, plain, torch.optim.SGD(plain.parameters(), 0.1))}
    for device in (None, "EpiRAM", "Ag:a-Si"):
        low = make_model("mlp", data, hidden=[150], generator=torch.Generator().manual_seed(0))
        low = low if device is None else to_crossbar(low, device=device)
        optimiser = LowRankSGD(low, 0.1, rank=4, block_size=32)
        works[f"LowRankSGD, {device or 'plain weights'}"] = loop(data, low, optimiser)
    report("784-150-10, batch 128", works, reference="torch SGD", rounds=200)


def main() -> None:
    """Run the tables asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core_speed")
    parser.add_argument("tables", nargs="*", help="estimators, steps; both if none is named")
    asked = parser.parse_args().tables
    torch.set_num_threads(1)
    for name, table in {"estimators": estimators, "steps": steps}.items():
        if not asked or name in asked:
            table()


if __name__ == "__main__":
    main()
