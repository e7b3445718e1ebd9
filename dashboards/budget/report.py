"""What a budget says, as a sentence, a line of facts and the rows of a table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from dashboards.app.widgets import method_name
from toolkit.budget import DENSE
from toolkit.plots.budget import prefix

HEADERS = (
    *("layer", "outputs m", "inputs n", "positions", "m × n", "numbers kept", "buffered"),
    *("m × n / (kept + buffered)", "pulses", "trainings"),
)
_MOST_NAMED = 4


def layer_rows(one: xr.Dataset) -> list[list[str]]:
    """A row for each layer of one method's budget, under ``HEADERS``."""
    columns = [one[name].values for name in ("outputs", "inputs", "positions")]
    m, n, _ = columns
    kept, buffered = (one[name].values.astype(float) for name in ("words_kept", "words_buffered"))
    saved = m * n / np.maximum(kept + buffered, 1)
    counts = [*columns, m * n, kept, buffered]
    return [
        [
            str(name),
            *(f"{int(column[i]):,}" for column in counts),
            f"{saved[i]:.3g}" if saved[i] > 1 else f"{saved[i]:.2g}: nothing saved",
            _count(one["pulses"].values[i]),
            trainings(one["trainings"].values[i]),
        ]
        for i, name in enumerate(one["layer"].values)
    ]


def trainings(count: float) -> str:
    """A number of trainings as text."""
    if math.isinf(count):
        return "no wear modelled"
    return _count(count)


def _count(value: float) -> str:
    return f"{value:,.0f}" if 10 <= value < 1e10 else f"{value:.3g}"


def facts_of(one: xr.Dataset) -> dict[str, str]:
    """Sums over the network."""
    words = one[["words_kept", "words_buffered", "cells", "arrays"]].astype(float).sum("layer")
    return {
        "Energy of a batch": _with_range(one["energy"].sum(["layer", "part"]).values, "J"),
        "Time of a batch": _with_range(one["time"].sum(["layer", "part"]).values, "s"),
        "Numbers kept": f"{int(words['words_kept']):,}",
        "Numbers buffered": f"{int(words['words_buffered']):,}",
        "Weights (m × n)": f"{int(words['cells']) // 2:,}",
        "Arrays": f"{int(words['arrays']):,}",
        "Trainings until a cell wears out": trainings(float(one["trainings"].min())),
    }


def sentence(one: xr.Dataset, method: str) -> str:
    """What dominates one method's budget, and in which layers factors do not pay."""
    parts = []
    for name in ("energy", "time"):
        shares = one[name].sum("layer").sel(price="typical").to_series()
        largest, whole = str(shares.idxmax()), float(shares.sum())
        share = float(shares.max()) / whole
        amount = "most" if share > 0.5 else "the largest share"
        parts.append(f"{_part(largest, method)} {amount} of the {name} ({share:.0%})")
    name = method_name(method)
    text = f"With {name}, {parts[0]}, and {parts[1]}"
    if method in DENSE:
        gradient = "the whole gradient, m outputs × n inputs numbers, for every layer"
        return f"{text}. It holds {'no gradient' if method == 'per-sample' else gradient}."
    return f"{text}. {_where(one)}."


def _part(name: str, method: str) -> str:
    """A part as subject and verb."""
    if name == "estimate":
        update = "gradient" if method in DENSE else "low-rank update"
        return f"computing the {update} takes"
    if name == "memory":
        return "access to memory takes"
    return f"{name} of the arrays take" if name in ("reads", "writes") else f"{name} take"


def _where(one: xr.Dataset) -> str:
    """Layers whose factors hold as many numbers as the gradient, or more."""
    size = (one["outputs"] * one["inputs"]).values
    kept = one["words_kept"].values.astype(float)
    held = kept + one["words_buffered"].values
    names = one["layer"].values.astype(str)
    alone, together = names[kept >= size].tolist(), names[(held >= size) & (kept < size)].tolist()
    gradient = "the gradient (m outputs × n inputs)"
    if not alone + together:
        return f"In every layer it holds fewer numbers than {gradient}"
    found = [f"in {_listed(alone)} (the factors alone)"] if alone else []
    found += [f"in {_listed(together)} (with the buffer of a block)"] if together else []
    return f"It holds at least as many numbers as {gradient} {' and '.join(found)}"


def _listed(names: list[str]) -> str:
    shown = names[:_MOST_NAMED]
    if rest := len(names) - len(shown):
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _with_range(values: Any, unit: str) -> str:
    low, typical, high = map(float, values)
    factor, text = prefix(typical, unit)
    return f"{typical * factor:.3g} {text} ({low * factor:.3g} to {high * factor:.3g})"
