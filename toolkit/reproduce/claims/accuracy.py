"""C1: rank-k SBPCA against mini-batch gradient descent at the same batch size and epochs."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, Interval, shortfall
from toolkit.reproduce.study import Case, Data

FULL_GRADIENT = {"method": "MBGD", "rank": 0}
# besides SBPCA, whose past counts as one block: knobs of other ways to the same rank
ONE_BLOCK = "SBPCA, one block"
FULL_CORE = "SBPCA, full core"
FORMS: dict[str, dict[str, Any]] = {
    FULL_CORE: {"method": "sbpca", "core": "full", "history": 4.0},
    ONE_BLOCK: {"method": "sbpca", "history": 0.0},
    "SBPCA, two sweeps": {"method": "sbpca", "passes": 2},
    "FeedbackPCA": {"method": "feedback"},
}


@dataclass(frozen=True)
class Task:
    """A network, its data and its budget; the same for all methods, the ramp included."""

    name: str
    data: Data
    model: str
    hidden: int
    epochs: int
    batch_size: int
    ranks: tuple[int, ...]
    rates: tuple[float, ...]
    seeds: int = 3
    trials: int = 1
    ramped: bool = False
    forms: tuple[str, ...] = ()

    def cases(self) -> list[Case]:
        """MBGD, and SBPCA and the other ``forms`` at every rank."""
        knobs: dict[str, Any] = {
            "model": self.model,
            "hidden": [self.hidden],
            "batch_size": self.batch_size,
            "block_size": min(32, self.batch_size),
        }
        forms = {"SBPCA": {"method": "sbpca"}} | {name: FORMS[name] for name in self.forms}
        if ONE_BLOCK in forms:
            forms[ONE_BLOCK] = {**FORMS[ONE_BLOCK], "block_size": self.batch_size}
        methods: list[tuple[str, int, dict[str, Any]]] = [("MBGD", 0, {"method": "sgd"})]
        methods += [
            (name, rank, {"rank": rank, **form})
            for name, form in forms.items()
            for rank in self.ranks
        ]
        return [
            Case(
                {"task": self.name, "method": method, "rank": rank},
                self.data,
                {**knobs, **more},
                self.epochs,
                self.rates,
                self.seeds,
                self.trials,
                self.ramped,
            )
            for method, rank, more in methods
        ]


# the full form: five seeds, two trials of every rate, one schedule
_full_task = functools.partial(Task, seeds=5, trials=2, ramped=True)
TASKS = {
    FULL: (
        _full_task(
            "MNIST mlp",
            Data("mnist"),
            "mlp",
            150,
            10,
            128,
            (4, 10),
            (0.7, 1.0, 1.4),
            forms=(FULL_CORE, ONE_BLOCK, "FeedbackPCA"),
        ),
        _full_task(
            "Fashion-MNIST mlp",
            Data("fashion-mnist"),
            "mlp",
            150,
            10,
            128,
            (4, 10),
            (0.35, 0.5, 0.7),
            forms=(FULL_CORE, ONE_BLOCK, "FeedbackPCA"),
        ),
        _full_task(
            "MNIST lenet",
            Data("mnist", 10000),
            "lenet",
            120,
            5,
            64,
            (4, 8),
            (0.2, 0.4, 0.8),
            forms=(FULL_CORE,),
        ),
        _full_task(
            "CIFAR-10 vgg",
            Data("cifar-10", 20000),
            "vgg",
            1,
            5,
            64,
            (16,),
            (0.1, 0.2, 0.4),
            forms=(FULL_CORE, "SBPCA, two sweeps", "FeedbackPCA"),
        ),
    ),
    QUICK: (
        Task("digits mlp", Data("digits"), "mlp", 64, 15, 32, (4, 10), (0.2, 0.4)),
        Task("MNIST mlp", Data("mnist", 3000, 2000), "mlp", 64, 4, 64, (4, 10), (0.25, 0.5)),
        Task("digits lenet", Data("digits"), "lenet", 120, 6, 64, (4, 8), (0.2, 0.4)),
    ),
    SMALLEST: (
        Task(
            "digits mlp",
            Data("digits", 300, 100),
            "mlp",
            16,
            2,
            32,
            (4,),
            (0.4,),
            ramped=True,
            forms=(FULL_CORE, ONE_BLOCK),
        ),
    ),
}
# a number of points below MBGD that a rank may lose: of the mlp at that rank, of a CNN at some rank
BARS = {4: 1.0, 10: 0.5}
CNN_BAR = 1.5


def plan(size: str) -> list[Case]:
    """Every task with every method."""
    return [case for task in TASKS[size] for case in task.cases()]


def judge(data: xr.Dataset) -> list[Finding]:
    """Points below MBGD, at the ranks with a bar of their own, or at the best rank of a CNN."""
    findings = []
    methods = [str(method) for method in data.method.values if method != "MBGD"]
    for task, method in itertools.product(data.task.values, methods):
        here = data.sel(task=task)
        losses = {int(rank): _loss(here, method, rank) for rank in data["rank"].values if rank}
        measured = {rank: loss for rank, loss in losses.items() if loss is not None}
        if not str(task).endswith("mlp"):
            best = min(measured, key=lambda rank: measured[rank].mean, default=None)
            bars = {} if best is None else {best: CNN_BAR}
        else:
            bars = {rank: bar for rank, bar in BARS.items() if rank in measured}
        findings += [
            Finding(
                f"{task}: MBGD less {method} of rank {rank}", measured[rank], bar, unit="points"
            )
            for rank, bar in bars.items()
        ]
    return findings


def _loss(here: xr.Dataset, method: str, rank: int) -> Interval | None:
    return shortfall(here, {"method": method, "rank": rank}, FULL_GRADIENT)


CLAIM = Claim(
    name="C1",
    title="Rank-k SBPCA trains as well as mini-batch gradient descent",
    question=(
        "Same network, batch size and epochs: how many points of test accuracy does SBPCA of rank "
        "k lose against the whole gradient (MBGD)? Bars: at most 0.5 points at rank 10 and 1 point "
        "at rank 4 for the fully connected networks, at most 1.5 points at some rank of 16 or less "
        "for the convolutional ones. SBPCA reads blocks of 32 samples, its past counting as one; "
        "in one block it reads the batch at once and keeps only the directions of its past; with "
        "the full core its past counts as four blocks."
    ),
    plan=plan,
    judge=judge,
    draw=lambda data: figures.by_rank(data, over="task"),
)
