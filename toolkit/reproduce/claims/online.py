"""C8: online training with LRT against a write for every sample."""

from __future__ import annotations

from typing import Any

import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, interval, paired, shortfall
from toolkit.reproduce.study import Case, Data, Labels

DATA = {FULL: Data("digits"), QUICK: Data("digits", 400), SMALLEST: Data("digits", 130, 100)}
EPOCHS = {FULL: 5, QUICK: 3, SMALLEST: 1}
BATCHES = (10, 100)
RANK = 4
SGD: Labels = {"method": "SGD", "batch_size": 1}


def plan(size: str) -> list[Case]:
    """Samples one by one: written at once, or summed at rank 4 and written now and then."""
    common: dict[str, Any] = {"hidden": [64], "device": "ideal", "block_size": 1}
    methods: list[tuple[Labels, dict[str, Any], tuple[float, ...]]] = [
        (SGD, {"method": "sgd", "batch_size": 1}, (0.03, 0.06))
    ]
    methods += [
        (
            {"method": "LRT", "batch_size": batch},
            {"method": "lrt", "rank": RANK, "batch_size": batch},
            (0.2, 0.4) if batch <= 10 else (0.5, 1.0),
        )
        for batch in BATCHES
    ]
    return [
        Case(labels, DATA[size], {**common, **knobs}, EPOCHS[size], rates)
        for labels, knobs, rates in methods
    ]


def judge(data: xr.Dataset) -> list[Finding]:
    """Writes saved and accuracy paid, for sums over 100 samples."""
    ours: Labels = {"method": "LRT", "batch_size": max(BATCHES)}
    findings = []
    for variable, name in (
        ("array_writes", "array writes"),
        ("worst_cell_pulses", "pulses to the cell that got most"),
    ):
        pair = paired(data, SGD, ours, variable=variable)
        if pair is not None:
            ratio = interval(pair[0] / pair[1])
            findings.append(Finding(f"SGD's {name} over LRT's", ratio, 100.0, at_least=True))
    loss = shortfall(data, ours, SGD)
    if loss is not None:
        findings.append(Finding("SGD less LRT", loss, 2.0, unit="points"))
    return findings


def draw(data: xr.Dataset) -> Any:
    """Accuracy, array writes and the worst cell's pulses against the samples per write."""
    names = ("test_accuracy", "array_writes", "worst_cell_pulses")
    return figures.layout(
        [figures.by_batch(data, name, logy=name != "test_accuracy") for name in names]
    )


CLAIM = Claim(
    name="C8",
    title="Online low-rank training (LRT) writes orders of magnitude less often",
    question=(
        "Digits 64-64-10 on linear cells, samples seen one by one: SGD writes each at once, LRT "
        "of rank 4 merges each into its sum and writes that after 10 or 100 samples. Bars for "
        "100: 100 times fewer array writes, 100 times fewer pulses to the cell that gets most, and "
        "at most 2 points of accuracy lost. Of the published method only the sum is tested: no "
        "quantisation, no normalisation of gradients, no write that is held back."
    ),
    plan=plan,
    judge=judge,
    draw=draw,
    shown=(
        "test_accuracy",
        "updates",
        "array_writes",
        "pulses",
        "worst_cell_pulses",
        "learning_rate",
    ),
)
