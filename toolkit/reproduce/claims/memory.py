"""C2: memory of the update, k (m + n) against m n, as the allocator saw it."""

from __future__ import annotations

from typing import Any

import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from toolkit.reproduce import figures
from toolkit.reproduce.claim import FULL, QUICK, SMALLEST, Claim
from toolkit.reproduce.statistics import Finding, Interval
from toolkit.reproduce.study import Case, Row
from toolkit.training import Dataset, LowRankSGD
from toolkit.training.experiment.memory import peak_bytes

WIDTHS = {FULL: 1024, QUICK: 1024, SMALLEST: 256}
RANKS = {FULL: (1, 4, 16), QUICK: (1, 4, 16), SMALLEST: (1, 4)}
LAYERS, BATCH, BLOCK, BYTES = 3, 128, 32, 4


def plan(size: str) -> list[Case]:
    """Torch's SGD, and SBPCA at every rank; nothing is random that is measured."""
    knobs = {"width": WIDTHS[size]}
    cases = [Case({"method": "torch SGD", "rank": 0}, knobs=knobs, seeds=1)]
    return cases + [
        Case({"method": "SBPCA", "rank": rank}, knobs={**knobs, "rank": rank}, seeds=1)
        for rank in RANKS[size]
    ]


def measure(case: Case, _data: Dataset | None, _rate: float, seed: int) -> list[Row]:
    """What a first step takes beyond activations and errors, at its worst.

    Either of the whole step, less a backward pass that forms no gradient; or of the update alone,
    with the gradients that are there before it. All factors come to be in a first step; in a later
    one the old ones are given back one by one, which ``peak_bytes`` would not see.
    """
    width, rank = case.knobs["width"], case.knobs.get("rank", 0)
    network, optimiser = _training(width, rank, seed)
    _backward(network, width, seed)
    gradients = sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)
    update = peak_bytes(optimiser.step)
    network, optimiser = _training(width, rank, seed)

    def step() -> None:
        _backward(network, width, seed)
        optimiser.step()

    whole = peak_bytes(step) - _peak_of_backward(width, seed)
    factors = BYTES * 2 * width * rank * LAYERS
    bar = {"bar_bytes": 1.2 * factors + BYTES * 2 * width * BLOCK} if rank else {}
    return [{"peak_bytes": max(whole, gradients + update), **bar}]


def _training(width: int, rank: int, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = _network(width, seed)
    if rank:
        return network, LowRankSGD(network, 0.1, rank=rank, block_size=BLOCK)
    return network, torch.optim.SGD(network.parameters(), 0.1)


def _peak_of_backward(width: int, seed: int) -> int:
    """What activations and errors take: both stay until the update."""
    network = _network(width, seed)
    keeps_samples = LowRankSGD(network, 0.1, rank=1)
    peak = peak_bytes(lambda: _backward(network, width, seed))
    keeps_samples.zero_grad()
    return peak


def _network(width: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for _ in range(LAYERS):
            layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _backward(network: nn.Module, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(BATCH, width, generator=generator)
    labels = torch.randint(0, width, (BATCH,), generator=generator)
    functional.cross_entropy(network(inputs), labels).backward()


def judge(data: xr.Dataset) -> list[Finding]:
    """Peak against the bar, at every rank, and against torch's SGD at rank 4."""
    ours = data.sel({"method": "SBPCA"})
    findings = [
        Finding(
            f"rank {rank}: peak bytes over 1.2 x 4 k (m + n) and one block",
            Interval.exact(_ratio(ours.peak_bytes, ours.bar_bytes, int(rank))),
            1.0,
        )
        for rank in data["rank"].values
        if rank
    ]
    dense = float(data.peak_bytes.sel({"method": "torch SGD", "rank": 0}).mean())
    least = dense / float(ours.peak_bytes.sel(rank=4).mean())
    statement = "rank 4: how many times less than torch SGD, which forms m n"
    return [*findings, Finding(statement, Interval.exact(least), 10.0, at_least=True)]


def _ratio(ours: xr.DataArray, bar: xr.DataArray, rank: int) -> float:
    return float((ours.sel(rank=rank) / bar.sel(rank=rank)).mean())


def draw(data: xr.Dataset) -> Any:
    """Bytes against the rank, the bar, and torch's SGD as a level."""
    hv = figures.holoviews()

    ours = data.sel({"method": "SBPCA"}).drop_sel(rank=0)
    dense = float(data.peak_bytes.sel({"method": "torch SGD", "rank": 0}).mean())
    curves = [
        figures.curve(ours[name], "rank", colour=colour, label=label)
        for name, colour, label in (
            ("peak_bytes", figures.PALETTE[0], "SBPCA, measured"),
            ("bar_bytes", figures.PALETTE[4], "bar"),
        )
    ]
    level = hv.HLine(dense).opts(color=figures.PALETTE[1], line_dash="dashed")
    title = "Peak bytes of a step (dashed: torch SGD)"
    ranks = ours["rank"].values
    limits = figures.around(data.peak_bytes.values)
    return figures.panel(
        [*curves, level], title=title, logy=True, ylim=limits, **figures.log_axis(ranks)
    )


CLAIM = Claim(
    name="C2",
    title="An update takes k (m + n) numbers, not m n",
    question=(
        "Three layers of 1024 x 1024 (256 x 256 in the smallest form), batch 128, float32: how "
        "many bytes does a step take at its worst moment beyond weights, activations and errors? "
        "Bars: at most 1.2 x 4 k (m + n) bytes, summed over the layers, and one block of 32 "
        "samples; and at rank 4 at least 10 times less than torch SGD."
    ),
    plan=plan,
    judge=judge,
    draw=draw,
    shown=("peak_bytes", "bar_bytes"),
    measure=measure,
)
