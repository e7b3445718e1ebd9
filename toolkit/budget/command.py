"""``python -m toolkit budget``: a chip's budget from a YAML file, as a table and a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import xarray as xr

from toolkit.writing import beside, check_target

_SUFFIXES = (".nc", ".csv")


def add_budget(commands: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "budget", parents=[parent], help="what training a network in crossbars costs a chip"
    )
    parser.add_argument("plan", type=Path, help="YAML file: network, device, methods, rank, ...")
    parser.add_argument("--out", type=Path, help="where to write all of it: .nc or .csv")
    parser.set_defaults(run=_budget)


def _budget(*, plan: Path, out: Path | None) -> int:
    from toolkit.budget.plan import read_budget

    if out is not None:
        if out.suffix not in _SUFFIXES:
            raise ValueError(f"out must be a {' or '.join(_SUFFIXES)} path; got {str(out)!r}")
        check_target(out)
    found = read_budget(plan)
    print(_as_text(found))
    if out is not None:
        save_budget(found, out)
        print(f"saved {out}")
    return 0


def save_budget(found: xr.Dataset, path: Path) -> None:
    """Write a budget as netCDF, or as CSV with a row for each layer, method, part and price."""
    with beside(path) as scratch:
        if path.suffix == ".nc":
            found.to_netcdf(scratch, engine="h5netcdf")
        else:
            scratch.write_text(found.to_dataframe().to_csv(), encoding="utf-8")


def _as_text(found: xr.Dataset) -> str:
    """One line for each method: sums over the network, low to high where prices differ."""
    words = found[["words_kept", "words_buffered", "edge_words", "pulses"]]
    words = words.astype(float).sum("layer")
    table = words.to_dataframe().map("{:,.0f}".format)
    for name, unit in (("energy", "J"), ("time", "s")):
        sums = found[name].sum(["layer", "part"]).transpose("algorithm", "price").values
        table[f"{name}, {unit}"] = [f"{b:.2g} ({a:.2g} to {c:.2g})" for a, b, c in sums]
    table["trainings"] = [f"{value:.3g}" for value in found["trainings"].min("layer").values]
    text = f"Of a batch of {found.attrs['batch_size']}:\n{table.rename_axis(None).to_string()}"
    if not bool(found["is_measured"].all()):
        text += "\nPulses, signals and conductances are estimates, not from a run."
    return text
