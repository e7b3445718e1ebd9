"""C4: how fast the singular values of the gradients fall, layer by layer, over training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, interval
from toolkit.reproduce.study import Case, Data, Row, trained
from toolkit.training import Dataset

RECORDS = 10
COMPONENTS = (1, 2, 4, 8, 16, 32)
WIDE = 32  # narrower layers have few directions anyhow
BAR = 10.0
# name, data, model, epochs, batch size, learning rate
TASKS: dict[str, tuple[tuple[str, Data, str, int, int, float], ...]] = {
    FULL: (
        ("MNIST mlp", Data("mnist", 6000, 2000), "mlp", 5, 128, 0.5),
        ("MNIST lenet", Data("mnist", 3000, 1000), "lenet", 3, 64, 0.1),
        ("CIFAR-10 vgg", Data("cifar-10", 1000, 500), "vgg", 4, 64, 0.1),
    ),
    QUICK: (
        ("digits mlp", Data("digits"), "mlp", 10, 64, 0.3),
        ("digits lenet", Data("digits"), "lenet", 5, 64, 0.1),
    ),
    SMALLEST: (("digits mlp", Data("digits", 300, 100), "mlp", 2, 32, 0.3),),
}


def plan(size: str) -> list[Case]:
    """One case a network, trained with the whole gradient at a usual learning rate."""
    return [
        Case(
            {"task": name},
            data,
            {"method": "sgd", "model": model, "hidden": [150], "batch_size": batch},
            epochs,
            (rate,),
            seeds=2 if model == "vgg" else 3,
        )
        for name, data, model, epochs, batch, rate in TASKS[size]
    ]


def measure(case: Case, data: Dataset | None, rate: float, seed: int) -> list[Row]:
    """Energy, rank for 90 % of it and stable rank, of every layer at a tenth of the training."""
    assert data is not None
    steps = math.ceil(case.epochs * len(data.train_labels) / case.knobs["batch_size"])
    run, _ = trained(
        case, data, learning_rate=rate, seed=seed, record_every=max(1, steps // RECORDS)
    )
    rows = []
    for name, node in run.results()["layers"].children.items():
        layer = node.to_dataset()
        values = layer["singular_value"].values
        progress = np.round(layer["step"].values / run.step_count, 1)
        last = {p: v for p, v in zip(progress.tolist(), values, strict=True) if v[0] > 0}
        for at, singular in last.items():
            rows += _rows(singular, {"layer": name, "progress": at})
    return rows


def _rows(singular: np.ndarray, place: Row) -> list[Row]:
    energy = singular**2
    held = energy.cumsum() / energy.sum()
    about = {
        "rank_90": int(np.searchsorted(held, 0.9)) + 1,
        "stable_rank": float(energy.sum() / energy[0]),
        "smaller_side": len(singular),
    }
    parts = [
        {**place, "component": count, "energy": float(held[count - 1])}
        for count in COMPONENTS
        if count <= len(singular)
    ]
    return [{**place, **about}, *parts]


def judge(data: xr.Dataset) -> list[Finding]:
    """Rank for 90 % of the energy in every layer that is wide, mean over the training."""
    findings = []
    mean = data.rank_90.mean("progress")
    for task, layer in wide_layers(data):
        here = {"task": task, "layer": layer}
        side = int(data.smaller_side.sel(here).max())
        findings.append(
            Finding(
                f"{task}, {layer} (min(m, n) = {side}): rank for 90 % of the energy",
                interval(mean.sel(here).values),
                BAR,
            )
        )
    return findings


def wide_layers(data: xr.Dataset) -> list[tuple[str, str]]:
    """Task and layer where a gradient could have many directions."""
    return [
        (str(task), str(layer))
        for task in data.task.values
        for layer in data.layer.values
        if float(data.smaller_side.sel({"task": task, "layer": layer}).max()) >= WIDE
    ]


def draw(data: xr.Dataset) -> Any:
    """Energy in the leading directions, and the rank for 90 % of it over training."""
    layers = wide_layers(data)
    energy, ranks = data.energy.mean("progress", keep_attrs=True), data.rank_90
    panels = []
    for values, along, title, log in (
        (energy, "component", "Energy in the leading directions", True),
        (ranks, "progress", "Directions for 90 % of the energy", False),
    ):
        drawn = [
            figures.curve(
                values.sel({"task": task, "layer": layer}),
                along,
                colour=figures.PALETTE[i % len(figures.PALETTE)],
                label=f"{task} {layer}",
            )
            for i, (task, layer) in enumerate(layers)
        ]
        options = figures.log_axis(data.component.values) if log else {}
        panels.append(figures.panel(drawn, title=title, **options))
    return figures.layout(panels)


CLAIM = Claim(
    name="C4",
    title="Gradient spectra fall fast, in every layer and all through training",
    question=(
        "How many directions hold 90 % of the energy (squared singular values) of the batch "
        "gradient? Bar: at most 10, as a mean over training, in every layer with min(m, n) of 32 "
        "or more. Trained with the whole gradient at a rate that was not tuned."
    ),
    plan=plan,
    judge=judge,
    draw=draw,
    shown=("rank_90", "stable_rank", "smaller_side"),
    measure=measure,
)
