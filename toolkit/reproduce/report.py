"""The Markdown report: verdicts, findings, tables and what made them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from toolkit.reproduce.claim import Claim
from toolkit.reproduce.results import DIMENSIONS
from toolkit.reproduce.statistics import interval

_OPENING = """# The papers' claims, measured

Each claim is put as a question with a bar that was fixed before the measurement. A finding is
*supported* if its whole 95 % confidence interval (Student's t over seeds) keeps to the bar, *not
supported* if the whole of it does not, else *mixed*; a claim is what its findings agree on. These
are figures of this toolkit; the papers' own tables were not available, and nothing here speaks of
them. Learning rates are chosen for every case on a sixth of the training samples, held out, with a
seed of its own; where a chosen rate was the least or greatest that was tried, it carries a star.
"""


_INNER = ("seed", "trial_rate", "component", "progress")  # no rows of their own in tables

_SHOWN_KNOBS = ("batch_size", "block_size", "history", "device", "scheme")


def markdown(results: Mapping[Claim, xr.Dataset]) -> str:
    """Return the whole report."""
    summary = ["| claim | | verdict |", "|---|---|---|"]
    summary += [
        f"| {claim.name} | {claim.title} | **{data.attrs['verdict']}** |"
        for claim, data in results.items()
    ]
    parts = [_OPENING, "\n".join(summary)]
    parts += [section(claim, data) for claim, data in results.items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def section(claim: Claim, data: xr.Dataset) -> str:
    """Return the section of one claim: question, verdict, findings, table, provenance."""
    about = data.attrs
    lines = [f"## {claim.name}. {claim.title}", claim.question, f"**{about['verdict']}**"]
    if about["findings"]:
        lines.append("\n".join(f"- {line}" for line in about["findings"].split("\n")))
    if about["missing"]:
        lines.append(f"Left out, because the data set is not here: {about['missing']}.")
    if data.variables:
        lines += [table(data, claim.shown), f"[Figure]({claim.name}.html), [data]({claim.name}.nc)"]
    lines += [_trained(data), _provenance(data)]
    return "\n\n".join(filter(None, lines))


def _trained(data: xr.Dataset) -> str:
    """Say what was trained and for how long: a line for each setting but method and rank."""
    lines: dict[str, None] = {}
    for case in json.loads(data.attrs["cases"]):
        if case["data"]:
            lines["- " + _budget(case)] = None
    return "\n".join(lines)


def _budget(case: dict[str, Any]) -> str:
    part, knobs = case["data"], dict(case["knobs"])
    model, hidden = knobs.get("model", "mlp"), knobs.get("hidden")
    network = f"mlp {'-'.join(map(str, hidden))}" if model == "mlp" and hidden else model
    test = f" and {part['test']} test" if part["test"] else ""
    samples = f" ({part['train']} training{test} samples)" if part["train"] else ""
    if knobs.get("device", "").startswith("{"):  # one of your own, whole
        knobs["device"] = json.loads(knobs["device"])["name"]
    rest = [f"{name} {knobs[name]}" for name in _SHOWN_KNOBS if name in knobs]
    rates = ", ".join(f"{rate:g}" for rate in case["rates"])
    tuned = "learning rate tuned from" if len(case["rates"]) > 1 else "learning rate"
    rates += " at its greatest, reached after a tenth of the run" * case["ramped"]
    details = [f"{part['name']}{samples}", network, *rest, f"{_plural(case['epochs'], 'epoch')}"]
    return ", ".join([*details, f"{tuned} {rates}", f"{case['seeds']} seeds"])


def _plural(count: int, name: str) -> str:
    return f"{count} {name}" + ("s" if count != 1 else "")


def _provenance(data: xr.Dataset) -> str:
    about = data.attrs
    took = float(data.cpu_seconds.sum()) / 60 if "cpu_seconds" in data else math.nan
    return (
        f"`{about['command']}` ({about['size']} form, "
        f"{took:.1f} minutes of processor time), {about['source']}, "
        f"torch {about['torch_version']}, numpy {about['numpy_version']}, {about['machine']}, "
        f"{about['created_at']}."
    )


def table(data: xr.Dataset, shown: tuple[str, ...]) -> str:
    """Return a table with a row per measured place and intervals over seeds in its cells."""
    present = [name for name in shown if name in data]
    dims = [
        name
        for name in DIMENSIONS
        if name not in _INNER and any(name in data[variable].dims for variable in present)
    ]
    lines = [
        "| " + " | ".join([*dims, *(_heading(data, name) for name in present), "runs"]) + " |",
        "|---" * (len(dims) + len(present) + 1) + "|",
    ]
    for places in itertools.product(*(data[dim].values for dim in dims)):
        at = dict(zip(dims, places, strict=True))
        cells = [_cell(data, name, at) for name in present]
        if any(cells):
            runs = str(_runs(data[present[0]], at))
            lines.append("| " + " | ".join([*map(str, places), *cells, runs]) + " |")
    return "\n".join(lines)


def _runs(values: xr.DataArray, at: Mapping[str, object]) -> int:
    found = values.sel({dim: value for dim, value in at.items() if dim in values.dims})
    return found.max([dim for dim in found.dims if dim != "seed"]).count().item()


def _heading(data: xr.Dataset, name: str) -> str:
    units = data[name].attrs.get("units", "1")
    return name.replace("_", " ") + (f" ({units})" if units != "1" else "")


def _cell(data: xr.Dataset, name: str, at: Mapping[str, object]) -> str:
    place = {dim: value for dim, value in at.items() if dim in data[name].dims}
    found = data[name].sel(place)
    values = np.atleast_1d(found.mean("progress").values if "progress" in found.dims else found)
    if not np.isfinite(values).any():
        return ""
    shown = interval(values).short()
    if name == "learning_rate" and bool(data.rate_at_edge.sel(place)):
        shown += "*"
    return shown
