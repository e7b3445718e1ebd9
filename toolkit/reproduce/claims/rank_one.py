"""C6: rank-1 updates (SBE) against the SVD of rank 1 and MBGD over batch sizes."""

from __future__ import annotations

from typing import Any

import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, interval
from toolkit.reproduce.study import Case, Data

# batch size: training samples and epochs; larger batches need more epochs for some updates
BATCHES = {
    FULL: {1: (2000, 1), 16: (5000, 1), 256: (5000, 4), 4096: (5000, 12)},
    QUICK: {1: (600, 1), 32: (1300, 3), 1024: (1300, 15)},
    SMALLEST: {16: (160, 1), 128: (160, 2)},
}
METHODS = {"MBGD": "sgd", "SVD": "svd", "SBE": "sbe"}
LARGE = 16


def plan(size: str) -> list[Case]:
    """Each method at each batch size."""
    name, test = ("digits", 100) if size == SMALLEST else ("mnist", 2000)
    return [
        Case(
            {"method": label, "batch_size": batch},
            Data(name, samples, test),
            {"method": method, "hidden": [64], "batch_size": batch, "block_size": 1}
            | ({"rank": 1} if method == "svd" else {}),
            epochs,
            _rates(batch),
        )
        for batch, (samples, epochs) in BATCHES[size].items()
        for label, method in METHODS.items()
    ]


def _rates(batch: int) -> tuple[float, ...]:
    return (0.02, 0.04) if batch == 1 else (0.1, 0.2) if batch <= 32 else (0.5, 1.0)


def judge(data: xr.Dataset) -> list[Finding]:
    """Differences, means over batch sizes, paired by seed."""
    accuracy = data.test_accuracy
    large = accuracy.sel(batch_size=accuracy.batch_size >= LARGE)

    def gap(values: xr.DataArray, upper: str, lower: str) -> Any:
        difference = values.sel({"method": upper}) - values.sel({"method": lower})
        return interval(difference.mean("batch_size", skipna=False).values)

    return [
        Finding(
            f"SVD of rank 1 less SBE, batches of {LARGE} and more",
            gap(large, "SVD", "SBE"),
            0.0,
            unit="points",
        ),
        Finding("MBGD less SVD of rank 1, all batches", gap(accuracy, "MBGD", "SVD"), 2.0),
        Finding("MBGD less SBE, all batches", gap(accuracy, "MBGD", "SBE"), 2.0),
    ]


CLAIM = Claim(
    name="C6",
    title="Rank-1 updates train at every batch size, streamed ones as well as the SVD's",
    question=(
        "784-64-10 on a part of MNIST, the same epochs for all methods at a batch size: what do "
        "updates of one outer product reach? Bars, means over batch sizes: from batches of 16 "
        "upwards SBE is no worse than the best rank-1 approximation (SVD); over all batches each "
        "is within 2 points of MBGD."
    ),
    plan=plan,
    judge=judge,
    draw=figures.by_batch,
    shown=("test_accuracy", "updates", "array_writes", "learning_rate"),
)
