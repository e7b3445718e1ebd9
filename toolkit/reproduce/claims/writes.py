"""C5: array writes and pulses of SBPCA against SGD and MBGD."""

from __future__ import annotations

from typing import Any

import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, interval, paired, shortfall
from toolkit.reproduce.study import Case, Data, Labels

DATA = {FULL: Data("digits", 600), QUICK: Data("digits", 300), SMALLEST: Data("digits", 100, 100)}
EPOCHS = {FULL: 10, QUICK: 6, SMALLEST: 1}
BATCH = 32
SGD: Labels = {"method": "SGD", "rank": 0}
MBGD: Labels = {"method": "MBGD", "rank": 0}
OURS: Labels = {"method": "SBPCA", "rank": 4}


def plan(size: str) -> list[Case]:
    """The same samples, written one by one, as sums, and at rank k, on linear cells."""
    common: dict[str, Any] = {"hidden": [64], "device": "ideal"}
    batch: dict[str, Any] = {"batch_size": BATCH, "block_size": BATCH}
    methods: list[tuple[Labels, dict[str, Any], tuple[float, ...]]] = [
        (SGD, {"method": "sgd", "batch_size": 1, "block_size": 1}, (0.03, 0.06)),
        (MBGD, {"method": "sgd", "scheme": "rank-sum", **batch}, (0.4, 0.8)),
        ({"method": "SBPCA", "rank": 1}, {"method": "sbpca", "rank": 1, **batch}, (0.4, 0.8)),
        (OURS, {"method": "sbpca", "rank": 4, **batch}, (0.4, 0.8)),
    ]
    return [
        Case(
            labels,
            DATA[size],
            {**common, **knobs},
            EPOCHS[size],
            rates,
            seeds=5 if size == FULL else 3,
        )
        for labels, knobs, rates in methods
    ]


def judge(data: xr.Dataset) -> list[Finding]:
    """Writes saved, and whether accuracy was paid for it, at rank 4."""
    return [
        *(_times(data, other, "array_writes", "array writes", 5.0) for other in (SGD, MBGD)),
        *(_times(data, other, "pulses", "pulses", 1.0) for other in (SGD, MBGD)),
        *(_loss(data, other) for other in (SGD, MBGD)),
    ]


def _times(data: xr.Dataset, other: Labels, variable: str, name: str, bar: float) -> Finding:
    pair = paired(data, other, OURS, variable=variable)
    assert pair is not None
    statement = f"{other['method']}'s {name} over SBPCA's of rank 4"
    return Finding(statement, interval(pair[0] / pair[1]), bar, at_least=True)


def _loss(data: xr.Dataset, other: Labels) -> Finding:
    value = shortfall(data, OURS, other)
    assert value is not None
    return Finding(f"{other['method']} less SBPCA of rank 4", value, 1.0, unit="points")


def draw(data: xr.Dataset) -> Any:
    """Accuracy against array writes and against pulses."""
    return figures.layout(
        [figures.trade(data, variable) for variable in ("array_writes", "pulses")]
    )


CLAIM = Claim(
    name="C5",
    title="SBPCA writes the arrays less often than SGD and MBGD",
    question=(
        "Digits 64-64-10 on linear cells, same samples and epochs. An array write is one outer "
        "product written to one array: SGD writes one a sample, SBPCA k a batch of 32; the sum of "
        "a batch (MBGD) is none and is written row by row, m writes. A pulse is one programming "
        "pulse to one cell. Bars at rank 4: at least 5 times fewer array writes, no more pulses, "
        "and at most 1 point of accuracy lost."
    ),
    plan=plan,
    judge=judge,
    draw=draw,
    shown=("test_accuracy", "array_writes", "pulses", "worst_cell_pulses", "learning_rate"),
)
