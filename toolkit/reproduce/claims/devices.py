"""C7: non-ideal devices with stochastic rounding, a few ranks against MBGD, NMF against SBPCA."""

from __future__ import annotations

from typing import Any

import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, Interval, shortfall
from toolkit.reproduce.study import Case, Data, Labels

DEVICES = {FULL: ("EpiRAM", "FeFET"), QUICK: ("EpiRAM",), SMALLEST: ("EpiRAM",)}
RANKS: dict[str, dict[str, tuple[int, ...]]] = {
    FULL: {"SBPCA": (1, 3, 10), "NMF": (1, 3)},
    QUICK: {"SBPCA": (1, 3), "NMF": (1,)},
    SMALLEST: {"SBPCA": (1,), "NMF": (1,)},
}
DATA = {FULL: Data("digits"), QUICK: Data("digits"), SMALLEST: Data("digits", 128, 100)}
EPOCHS = {FULL: 12, QUICK: 5, SMALLEST: 1}
MBGD: Labels = {"method": "MBGD", "rank": 0}
NEAR = 2.0


def plan(size: str) -> list[Case]:
    """On every device: MBGD, its sum written at once, and low ranks, written one by one."""
    methods: list[tuple[Labels, dict[str, Any]]] = [(MBGD, {"method": "sgd", "scheme": "rank-sum"})]
    methods += [
        ({"method": label, "rank": rank}, {"method": label.lower(), "rank": rank})
        for label, ranks in RANKS[size].items()
        for rank in ranks
    ]
    batch: dict[str, Any] = {"batch_size": 64, "block_size": 32, "hidden": [64]}
    return [
        Case(
            {"device": device, **labels},
            DATA[size],
            {"device": device, **batch, **knobs},
            EPOCHS[size],
            (0.2, 0.4),
            seeds=5 if size == FULL else 3,
        )
        for device in DEVICES[size]
        for labels, knobs in methods
    ]


def judge(data: xr.Dataset) -> list[Finding]:
    """The best of ranks 3 to 10 against MBGD, and NMF against SBPCA at the lowest rank."""
    findings = []
    for device in data.device.values:
        here = data.sel(device=device)
        for method in ("SBPCA", "NMF"):
            losses = _losses(here, method)
            if losses:
                rank = min(losses, key=lambda rank: losses[rank].mean)
                statement = f"{device}: MBGD less {method} of rank {rank}"
                findings.append(Finding(statement, losses[rank], NEAR, unit="points"))
        lowest = {"rank": 1}
        gain = shortfall(here, {"method": "SBPCA", **lowest}, {"method": "NMF", **lowest})
        if gain is not None:
            statement = f"{device}: NMF less SBPCA at rank 1"
            findings.append(Finding(statement, gain, 0.0, at_least=True, unit="points"))
    return findings


def _losses(here: xr.Dataset, method: str) -> dict[int, Interval]:
    """Points below MBGD at the ranks from 3 to 10 that were measured."""
    ranks = [int(rank) for rank in here["rank"].values if 3 <= rank <= 10]
    found = {rank: shortfall(here, {"method": method, "rank": rank}, MBGD) for rank in ranks}
    return {rank: loss for rank, loss in found.items() if loss is not None}


CLAIM = Claim(
    name="C7",
    title="On non-ideal devices 3 to 10 ranks come near MBGD, and NMF beats SBPCA at low rank",
    question=(
        "Digits 64-64-10 on crossbars of published devices, pulses rounded at random, outer "
        "products written one after another; MBGD's sum is written at once. Bars: some rank from "
        "3 to 10 is within 2 points of MBGD; NMF is no worse than SBPCA at rank 1. NMF of rank k "
        "writes 2 k outer products."
    ),
    plan=plan,
    judge=judge,
    draw=lambda data: figures.by_rank(data, over="device"),
    shown=("test_accuracy", "pulses", "learning_rate"),
)
