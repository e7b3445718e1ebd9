"""C3: accuracy against rank and batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, interval
from toolkit.reproduce.study import Case, Data

RANKS = {FULL: (1, 2, 4, 8, 16), QUICK: (1, 4, 8), SMALLEST: (1, 2)}
BATCHES = {FULL: (32, 128, 512), QUICK: (32, 128), SMALLEST: (32,)}
EPOCHS = {FULL: 5, QUICK: 5, SMALLEST: 2}
DATA = {
    FULL: Data("mnist", 4000, 4000),
    QUICK: Data("mnist", 2000, 2000),
    SMALLEST: Data("digits", 300, 100),
}
RATES = {FULL: (0.4, 0.8), QUICK: (0.3, 0.6), SMALLEST: (0.4,)}


def plan(size: str) -> list[Case]:
    """SBPCA at every rank and the whole gradient, at every batch size."""
    hidden = 150 if size == FULL else 64
    methods: list[tuple[str, int, dict[str, Any]]] = [("MBGD", 0, {"method": "sgd"})]
    methods += [("SBPCA", rank, {"method": "sbpca", "rank": rank}) for rank in RANKS[size]]
    return [
        Case(
            {"method": method, "rank": rank, "batch_size": batch},
            DATA[size],
            {"hidden": [hidden], "batch_size": batch, "block_size": 32, **knobs},
            EPOCHS[size],
            RATES[size],
        )
        for batch in BATCHES[size]
        for method, rank, knobs in methods
    ]


def judge(data: xr.Dataset) -> list[Finding]:
    """Whether accuracy rises with the rank, levels off, and reaches MBGD's.

    Differences are means over the batch sizes, paired by seed.
    """
    accuracy = data.test_accuracy.mean("batch_size", skipna=False)
    by_rank = accuracy.sel({"method": "SBPCA"})
    ranks = [int(rank) for rank in data["rank"].values if rank]
    lowest, middle, highest = ranks[0], ranks[-2], ranks[-1]

    def gain(upper: np.ndarray, rank: int) -> np.ndarray:
        return upper - by_rank.sel(rank=rank).values

    top = by_rank.sel(rank=highest).values
    reference = accuracy.sel({"method": "MBGD", "rank": 0}).values
    return [
        Finding(
            f"rank {highest} less rank {lowest}",
            interval(gain(top, lowest)),
            0.0,
            at_least=True,
            unit="points",
        ),
        Finding(
            f"rank {highest} less rank {middle}", interval(gain(top, middle)), 1.0, unit="points"
        ),
        Finding(
            f"MBGD less rank {highest}", interval(gain(reference, highest)), 1.0, unit="points"
        ),
    ]


CLAIM = Claim(
    name="C3",
    title="Accuracy rises with the rank and levels off, at every batch size",
    question=(
        "How does test accuracy depend on rank and batch size, at equal epochs? Bars, as means "
        "over the batch sizes: the greatest rank is better than the least, the last doubling of "
        "the rank gains at most 1 point, and the greatest rank is within 1 point of MBGD."
    ),
    plan=plan,
    judge=judge,
    draw=lambda data: figures.by_rank(data, over="batch_size"),
)
