"""Two workers on MNIST: accuracy, bytes and step time of every way of sending gradients.

    python -m benchmarks.distributed --data-dir FOLDER [--write docs/distributed.md]

A 784-150-10 ReLU network, batch 128 in two halves, plain SGD at one learning rate, two processes on
gloo, one thread each. All ways take turns within one run, some steps each, so that what else the
machine does meets all of them alike. Bytes are counted where torch's collectives are called, the
same for ours and torch's own hooks. torch's powerSGD_hook starts to compress at its second step,
the earliest it can. Printed is a table in Markdown; --write puts it into a page.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.blocks import conditions, rewrite, table
from toolkit.training import Dataset, LowRankSGD, load_dataset, make_model
from toolkit.training.distributed import HookState, check_replicas, sbpca_hook, synchronise, workers

WORKERS, HIDDEN, BATCH = 2, 150, 128
FULL = "whole gradients (torch)"
Optimiser = torch.optim.Optimizer
Way = Callable[[nn.Module, argparse.Namespace], tuple[nn.Module, Optimiser]]


def hooked(make: Callable[[argparse.Namespace], tuple[Any, Callable[..., Any]]]) -> Way:
    """DistributedDataParallel with a hook, and torch's SGD."""

    def way(model: nn.Module, options: argparse.Namespace) -> tuple[nn.Module, Optimiser]:
        parallel = DistributedDataParallel(model)
        parallel.register_comm_hook(*make(options))
        return parallel, torch.optim.SGD(parallel.parameters(), options.lr)

    return way


def exchanged(method: str, *, carry_rank: int | None = None, **knobs: Any) -> Way:
    """LowRankSGD whose workers exchange factors."""

    def way(model: nn.Module, options: argparse.Namespace) -> tuple[nn.Module, Optimiser]:
        optimiser = LowRankSGD(model, options.lr, method=method, rank=options.rank, **knobs)
        synchronise(optimiser, carry_rank=carry_rank)
        return model, optimiser

    return way


def power_sgd(options: argparse.Namespace) -> tuple[Any, Callable[..., Any]]:
    """Compress as torch does."""
    state = PowerSGDState(None, options.rank, start_powerSGD_iter=2, use_error_feedback=True)
    return state, powerSGD_hook


WAYS: dict[str, Way] = {
    FULL: hooked(lambda _: (None, default_hooks.allreduce_hook)),
    "whole gradients (`sbpca_hook`, rank None)": hooked(
        lambda _: (HookState(rank=None), sbpca_hook)
    ),
    "torch's `powerSGD_hook`": hooked(power_sgd),
    "`sbpca_hook`": hooked(lambda o: (HookState(rank=o.rank), sbpca_hook)),
    "`sbpca_hook`, no error feedback": hooked(
        lambda o: (HookState(rank=o.rank, error_feedback=False), sbpca_hook)
    ),
    "factors of SBPCA, nothing carried over": exchanged("sbpca", carry_rank=0),
    "factors of SBPCA": exchanged("sbpca"),
    "factors of FeedbackPCA": exchanged("feedback"),
    "factors of FeedbackPCA, memory and carry 32": exchanged(
        "feedback", carry_rank=32, memory_rank=32
    ),
}


@dataclass
class Trainer:
    """One way in training, and what it took."""

    model: nn.Module
    optimiser: Optimiser
    seconds: list[float] = field(default_factory=list)
    sent: int = 0

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """One step, timed; its bytes are counted."""
        with counted() as handed:
            begun = time.perf_counter()
            self.optimiser.zero_grad()
            functional.cross_entropy(self.model(inputs), labels).backward()
            self.optimiser.step()
            self.seconds.append(time.perf_counter() - begun)
        self.sent += handed[0]

    def accuracy(self, data: Dataset) -> float:
        """Percent of the test samples."""
        model = getattr(self.model, "module", self.model)
        with torch.no_grad():
            guesses = model(data.test_inputs).argmax(1)
        return 100.0 * float((guesses == data.test_labels).double().mean())


@contextmanager
def counted() -> Iterator[list[int]]:
    """Bytes that one of two workers sends: what it hands to all-reduce or all-gather, by rings."""
    handed, reduce, gather = [0], dist.all_reduce, dist.all_gather

    def all_reduce(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        handed[0] += 2 * tensor.nbytes * (WORKERS - 1) // WORKERS
        return reduce(tensor, *args, **kwargs)

    def all_gather(found: list[Tensor], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        handed[0] += tensor.nbytes * (WORKERS - 1)
        return gather(found, tensor, *args, **kwargs)

    dist.all_reduce, dist.all_gather = all_reduce, all_gather
    try:
        yield handed
    finally:
        dist.all_reduce, dist.all_gather = reduce, gather


def trained(
    index: int, seed: int, data: Dataset, options: argparse.Namespace
) -> dict[str, Trainer]:
    """Train by all ways, turn by turn, from the same weights on the same samples."""
    trainers = {}
    for name, way in WAYS.items():
        generator = torch.Generator().manual_seed(seed)
        trainers[name] = Trainer(
            *way(make_model("mlp", data, hidden=[HIDDEN], generator=generator), options)
        )
    order = torch.Generator().manual_seed(seed)
    for _ in range(options.epochs):
        samples = torch.randperm(len(data.train_labels), generator=order)
        whole = [batch for batch in samples.split(BATCH) if len(batch) == BATCH]
        for begin in range(0, len(whole), options.turn):
            for trainer in trainers.values():
                dist.barrier()
                for batch in whole[begin : begin + options.turn]:
                    mine = batch[index::WORKERS]
                    trainer.step(data.train_inputs[mine], data.train_labels[mine])
    for trainer in trainers.values():
        check_replicas(trainer.model)
    return trainers


def work(index: int, port: int, options: argparse.Namespace) -> None:
    """What one process does: all seeds; worker 0 reports."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(index)}
    os.environ["WORLD_SIZE"] = str(WORKERS)
    torch.set_num_threads(1)
    data = load_dataset("mnist", data_dir=options.data_dir)
    with workers(timeout=300.0, backend="gloo"):
        runs = [trained(index, seed, data, options) for seed in range(options.seeds)]
    if index == 0:
        report(runs, data, options)


def report(runs: list[dict[str, Trainer]], data: Dataset, options: argparse.Namespace) -> None:
    """Print the table, and write it."""
    steps = len(runs[0][FULL].seconds)
    full_bytes = runs[0][FULL].sent / steps
    full_time = median_ms(runs, FULL)
    full_accuracy = statistics.mean(run[FULL].accuracy(data) for run in runs)
    rows = []
    for name in WAYS:
        found = [run[name].accuracy(data) for run in runs]
        spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
        sent, time_ms = runs[0][name].sent / steps, median_ms(runs, name)
        rows.append(
            [
                name,
                f"{statistics.mean(found):.2f}{spread}",
                f"{statistics.mean(found) - full_accuracy:+.2f}",
                f"{sent:,.0f}",
                f"{full_bytes / sent:.1f}",
                f"{time_ms:.2f}",
                f"{time_ms / full_time:.2f}",
            ]
        )
    head = ["way", "test accuracy, %", "against whole", "bytes sent a step", "times fewer"]
    text = (
        f"784-150-10 on MNIST, rank {options.rank}, learning rate {options.lr}, batch {BATCH} "
        f"in two halves, {options.epochs} epochs, {options.seeds} seed(s): mean ± standard "
        f"deviation; median time of a step. {conditions(1)}.\n\n"
        + table([*head, "step, ms", "ratio"], rows)
    )
    print(text)
    if options.write:
        rewrite(options.write, "distributed", text)


def median_ms(runs: list[dict[str, Trainer]], name: str) -> float:
    """Median step over all seeds, without the first steps, which warm up."""
    return 1e3 * statistics.median(s for run in runs for s in run[name].seconds[20:])


def main() -> None:
    """Start the two processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distributed")
    parser.add_argument("--data-dir", type=Path, help="folder of MNIST's files")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turn", type=int, default=20, help="steps of each way in a row (20)")
    parser.add_argument("--write", type=Path, help="page whose table to renew")
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, args=(port, options), nprocs=WORKERS)


if __name__ == "__main__":
    main()
