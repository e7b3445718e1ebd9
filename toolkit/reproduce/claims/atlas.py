"""The atlas: every algorithm on every cell, at a few ranks."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import xarray as xr

from toolkit.crossbar import Device, device_names, get_device
from toolkit.crossbar.devices.presets import is_preset
from toolkit.reproduce import figures
from toolkit.reproduce.atlas import (
    ALGORITHMS,
    NEAR,
    SINGLE,
    SUM,
    entries,
    knobs_of_entry,
    memory_words,
    name_of,
)
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, interval, paired
from toolkit.reproduce.study import Case, Data, Row, accuracy, pulses_of, trained
from toolkit.training import Dataset
from toolkit.training.layers.convert import DIGITAL

CELLS = {  # with the pair that their one-sided cells need
    DIGITAL: "differential",
    "EcRam": "differential",
    "ReRamES": "differential",
    "ReRamSB": "differential",
    "Ag:a-Si": "differential",
    "AlOx/HfO2": "differential",
    "PCM": "one-sided",
}
DEVICES = {FULL: tuple(CELLS), QUICK: (DIGITAL, "EcRam", "Ag:a-Si"), SMALLEST: (DIGITAL, "EcRam")}
RANKS = {FULL: (1, 4), QUICK: (4,), SMALLEST: (1,)}
DATA = {FULL: Data("digits"), QUICK: Data("digits", 600), SMALLEST: Data("digits", 128, 100)}
EPOCHS = {FULL: 8, QUICK: 4, SMALLEST: 1}
RATES = (0.25, 0.5)
LOW_RANK, HALF = 4, 0.5


def plan(size: str) -> list[Case]:
    """Every cell, algorithm and rank; plain weights with the algorithms that need no cells."""
    own = [name for name in device_names() if not is_preset(name)]
    return [case for name in (*DEVICES[size], *own) for case in cases_of(name, size)]


def cases_of(cell: Device | str, size: str) -> list[Case]:
    """The cases of one cell: a published one, one from the list of devices, or your own."""
    name = cell.name if isinstance(cell, Device) else cell
    device = cell if name in CELLS or isinstance(cell, Device) else get_device(cell)
    fixed: dict[str, Any] = {"hidden": [128], "batch_size": 64, "device": device}
    fixed["pair"] = CELLS.get(name, "differential")
    return [
        Case(
            {"device": name, "algorithm": algorithm, "rank": rank},
            DATA[size],
            {**fixed, **knobs_of_entry(algorithm, rank)},
            EPOCHS[size],
            RATES,
            seeds=5 if size == FULL else 3,
        )
        for algorithm, knobs in ALGORITHMS.items()
        for rank in _ranks(algorithm, size)
        if name != DIGITAL or not {"algorithm", "scheme"} & knobs.keys() or algorithm == SUM
    ]


def _ranks(algorithm: str, size: str) -> tuple[int, ...]:
    if algorithm in (SUM, SINGLE):
        return (0,)
    return RANKS[size]


def measure(case: Case, data: Dataset | None, rate: float, seed: int) -> list[Row]:
    """Train once: accuracy, pulses, what the cells spent, and words in digital memory."""
    assert data is not None
    run, whole = trained(case, data, learning_rate=rate, seed=seed)
    arrays: list[Any] = [array for array in run.arrays.values() if array.device is not None]
    spent: dict[str, float] = {}
    if arrays:
        cost = reduce(add, (array.cost() for array in arrays))
        spent = {"write_energy": cost.write_energy, "write_time": cost.write_time}
    shapes = [array.shape for array in run.arrays.values()]
    words = memory_words(str(case.labels["algorithm"]), int(case.labels["rank"]), shapes)
    return [
        {
            "test_accuracy": accuracy(run, whole=whole),
            "diverged": int(not whole),
            "memory_words": words,
            **pulses_of(run),
            **spent,
        }
    ]


def judge(data: xr.Dataset) -> list[Finding]:
    """On each cell, the low-rank algorithm that did best on held-out samples, against MBGD."""
    reference = {"device": DIGITAL, "algorithm": SUM, "rank": 0}
    findings = []
    for device in map(str, data.device.values):
        ranked = [entry for entry in entries(data, device) if 1 <= entry[1] <= LOW_RANK]
        if device == DIGITAL or not ranked:
            continue
        held_out = data.validation_accuracy.sel(device=device).max("trial_rate")
        best, rank = max(ranked, key=lambda e: float(held_out.sel(algorithm=e[0], rank=e[1])))
        place = {"device": device, "algorithm": best, "rank": rank}
        what = f"{best} of rank {rank} on {device}"
        if (pair := paired(data, place, reference)) is not None:
            statement = f"MBGD on plain weights less {what}"
            findings.append(Finding(statement, interval(pair[1] - pair[0]), NEAR, unit="points"))
        single = {"device": device, "algorithm": SINGLE, "rank": 0}
        if (pair := paired(data, place, single, variable="pulses")) is not None:
            statement = f"its pulses over those of samples written one by one, {device}"
            findings.append(Finding(statement, interval(pair[0] / pair[1]), HALF))
    return findings


def draw(data: xr.Dataset) -> Any:
    """A heat map of the mean accuracy: cells across, algorithms and ranks down."""
    hv = figures.holoviews()
    cells = [
        (device, name_of(entry), found.mean, str(found))
        for device in map(str, data.device.values)
        for entry, found in entries(data, device).items()
    ]
    heat = hv.HeatMap(cells, ["cell", "algorithm"], ["test accuracy (%)", "interval"])
    low = float(np.floor(min(mean for _, _, mean, _ in cells)))
    return heat.opts(
        frame_width=620, frame_height=520, colorbar=True, cmap="viridis", clim=(max(low, 50), 100),
        tools=["hover"], invert_yaxis=True, xrotation=30, toolbar=None,
    )  # fmt: skip


CLAIM = Claim(
    name="atlas",
    title="Which algorithm for which cell",
    question=(
        "Digits 64-128-10 on published cells and on plain weights, batches of 64, with every "
        "algorithm at low ranks. The low-rank algorithm of rank 4 or less that did best on "
        "held-out samples is compared with MBGD on plain weights (bar: 1 point), and its pulses "
        "with those of writing the same samples one by one (bar: half)."
    ),
    plan=plan,
    judge=judge,
    draw=draw,
    shown=("test_accuracy", "pulses", "memory_words", "learning_rate"),
    measure=measure,
)
