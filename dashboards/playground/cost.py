"""The live view of what writing has cost, against full-gradient training of the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from html import escape
from operator import add
from typing import Any

import torch

from dashboards.app.address import join
from dashboards.app.figure_pane import table
from dashboards.app.site import Text, link
from dashboards.playground.view import View
from toolkit.crossbar.cost import Cost, expected_pulses
from toolkit.crossbar.devices.presets import is_preset
from toolkit.lowrank import LowRank
from toolkit.training.live.snapshot import Look, Snapshot

_POWERS = [2**i for i in range(11)]  # that the Budget page has


@dataclass(frozen=True)
class Spending:
    """What writing has cost, against full-gradient training of the same samples, one by one.

    ``outer_products`` (written, of the full gradient) and ``gradient_words`` (held, m x n) are
    exact. ``expected_pulses`` of the last step's update and of its samples written one by one are
    computed; None where the formula does not hold (coincidences, sums, other pairs). ``cost`` is
    what the arrays' cells have spent since they were last programmed.
    """

    outer_products: tuple[int, int]
    gradient_words: tuple[int, int]
    expected_pulses: tuple[float, float] | None
    cost: Cost | None
    budget: str  # address of the Budget page with this network; empty before the first step


def spending(look: Look) -> Spending:
    """Of all layers."""
    arrays: list[Any] = [a for a in look.run.arrays.values() if a.device is not None]
    return Spending(
        outer_products=look.outer_products,
        gradient_words=look.run.gradient_words(),
        expected_pulses=_expected(look),
        cost=reduce(add, (array.cost() for array in arrays)) if arrays else None,
        budget=budget_address(look),
    )


def budget_address(look: Look) -> str:
    """The Budget page with the run's network; empty before the first step."""
    run = look.run
    if not look.latest:
        return ""
    layers = []
    for name, (update, errors, _) in look.latest.items():
        m, n = update.shape
        layers.append(f"{name}:{m}:{n}:{-(-len(errors) // run.batch_size)}")
    pairs = [
        ("network", "your own table"),
        ("layers", ",".join(layers)),
        ("rank", str(min(run.rank, 64))),
    ]
    pairs += [
        (name, str(size))
        for name, size in (("batch", run.batch_size), ("block", run.block_size))
        if size in _POWERS
    ]
    if isinstance(run.device, str) and is_preset(run.device):
        pairs.append(("device", run.device))
    return link("budget", join(pairs))


def _expected(look: Look) -> tuple[float, float] | None:
    run, device = look.run, look.run.device_with_overrides()
    settings = (run.algorithm, run.coding, run.pair, run.scheme)
    known = ("direct", "whole pulses", "differential", "rank-sequential")
    if device is None or settings != known:
        return None
    scale = {"learning_rate": run.learning_rate, "w_max": run.w_max}
    asked = full = 0.0
    for update, errors, activations in look.latest.values():
        asked += expected_pulses(update, device, **scale)
        each = LowRank(errors.T, torch.ones_like(errors[:, 0]), activations.T)
        full += expected_pulses(each, device, **scale)
    return (asked, full) if look.latest else None


def _draw(pane: Text, snapshot: Snapshot, found: Spending | None) -> str:
    if found is not None:
        pane.object = cost_html(found, snapshot.pulses)
    return "Cost, all layers"


COST = View(
    "Cost",
    lambda: Text("", sizing_mode="stretch_both", margin=(6, 10)),
    _draw,
    "What training has used so far, beside writing the full gradient sample by sample. Memory and "
    "outer products are what a low rank saves.",
    ("09_writing_outer_products", "What a write costs"),
    spending,
)


def cost_html(spending: Spending, pulses: int) -> str:
    """What writing has cost, against full-gradient training of the same samples."""
    written, full = spending.outer_products
    held, words = spending.gradient_words
    rows = [
        ("Gradient memory (words)", f"{held:,}", f"{words:,}"),
        ("Outer products written", f"{written:,}", f"{full:,} *"),
    ]
    if spending.cost is not None:
        cost = spending.cost
        rows.append(("Pulses written", f"{pulses:,}", "–"))
        if spending.expected_pulses is not None:
            now, sample_wise = spending.expected_pulses
            rows.append(("Pulses of the last step *", f"{now:,.0f}", f"{sample_wise:,.0f}"))
        rows += [
            ("Energy of writes †", _joules(cost.write_energy), "–"),
            ("Energy of reads †", _joules(cost.read_energy), "–"),
            ("Time of writes †", _seconds(cost.write_time), "–"),
            ("Time of reads †", _seconds(cost.read_time), "–"),
        ]
    note = "* computed, not simulated: the same samples, one outer product each"
    if spending.cost is not None:
        note += "; pulses: the average of stochastic rounding.<br>† cells only, since programmed"
    shown = table(["", "this run", "full gradient"], rows, numbers=True)
    if spending.budget:
        address = escape(spending.budget)
        note += f'.<br><a href="{address}" style="color:inherit">The budget of a chip for it</a>'
    return f'{shown}<p style="font-size:12px;margin:6px 0">{note}.</p>'


def _joules(value: float) -> str:
    return _prefixed(value, "J")


def _seconds(value: float) -> str:
    return _prefixed(value, "s")


def _prefixed(value: float, unit: str) -> str:
    for factor, prefix in ((1.0, ""), (1e3, "m"), (1e6, "µ"), (1e9, "n"), (1e12, "p")):
        if abs(value) * factor >= 1:
            return f"{value * factor:,.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
