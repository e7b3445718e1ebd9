"""From rows to one xarray Dataset a claim, and the files of a study.

A row is a flat dict of dimensions, which give its place, and variables. Both are declared here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from toolkit.reproduce.study import Row
from toolkit.writing import beside

# name: (units, long name); CF: "1" is dimensionless
DIMENSIONS = {
    "task": ("", "data set and network"),
    "device": ("", "cell of the crossbar"),
    "algorithm": ("", "how the gradient is estimated and reaches the cells"),
    "method": ("", "how the gradient is estimated"),
    "rank": ("1", "outer products per update; 0 is the whole gradient"),
    "batch_size": ("1", "samples per update"),
    "layer": ("", "layer of the network"),
    "progress": ("1", "fraction of the training done"),
    "component": ("1", "number of leading directions"),
    "trial_rate": ("1", "learning rate tried in tuning"),
    "seed": ("1", "seed of the run"),
}
VARIABLES = {
    "test_accuracy": ("percent", "test accuracy at the end of training; a diverged run counts 0"),
    "diverged": ("1", "1 if the run ended before its time because it diverged"),
    "updates": ("1", "weight updates in the whole training"),
    "array_writes": ("1", "array writes in the whole training: outer products, or rows of a sum"),
    "pulses": ("1", "programming pulses issued in the whole training"),
    "worst_cell_pulses": ("1", "pulses issued to the cell that got most"),
    "write_energy": ("J", "energy of all pulses"),
    "write_time": ("s", "time of all writes, arrays one after another"),
    "memory_words": ("1", "numbers kept between batches, over all layers"),
    "learning_rate": ("1", "learning rate chosen on held-out training samples"),
    "rate_at_edge": ("1", "1 if the chosen rate is the least or greatest that was tried"),
    "validation_accuracy": ("percent", "accuracy on held-out training samples"),
    "cpu_seconds": ("s", "processor time of the case, tuning included"),
    "peak_bytes": ("byte", "peak memory of a step beyond weights, activations and errors"),
    "bar_bytes": ("byte", "1.2 x 4 k (m + n) bytes, summed over layers, and one block"),
    "energy": ("1", "share of the gradient's energy in its leading directions"),
    "rank_90": ("1", "directions that hold 90 % of the gradient's energy"),
    "stable_rank": ("1", "|G|_F^2 / |G|_2^2"),
    "smaller_side": ("1", "min(m, n) of the layer"),
}


def to_dataset(rows: Sequence[Row]) -> xr.Dataset:
    """Put all rows on one grid, with NaN where nothing was measured.

    Raises
    ------
    ValueError
        If a row holds a name that is not declared, or a variable was measured twice at one place.
    """
    if unknown := {name for row in rows for name in row} - set(DIMENSIONS) - set(VARIABLES):
        raise ValueError(f"rows hold undeclared names {sorted(unknown)}.")
    grid = {dim: _places(dim, rows) for dim in DIMENSIONS if any(dim in row for row in rows)}
    data: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for row in rows:
        dims = tuple(dim for dim in grid if dim in row)
        at = tuple(grid[dim].index(row[dim]) for dim in dims)
        for name in set(row) - set(dims):
            shape = [len(grid[dim]) for dim in dims]
            known_dims, values = data.setdefault(name, (dims, np.full(shape, np.nan)))
            if known_dims != dims or np.isfinite(values[at]):
                raise ValueError(f"{name} was measured twice at {row}, or over other dimensions.")
            values[at] = row[name]
    found = xr.Dataset({name: data[name] for name in VARIABLES if name in data}, coords=grid)
    for name, (units, long_name) in (DIMENSIONS | VARIABLES).items():
        if name in found.variables:
            found[name].attrs = {"long_name": long_name} | ({"units": units} if units else {})
    return found


def _places(dim: str, rows: Sequence[Row]) -> list[str | int | float]:
    """Return the values of a dimension: numbers sorted, text in order of appearance."""
    values = list(dict.fromkeys(row[dim] for row in rows if dim in row))
    return values if isinstance(values[0], str) else sorted(values)


def save_dataset(data: xr.Dataset, path: Path) -> Path:
    """Write ``data`` as netCDF next to ``path``, then rename it."""
    with beside(path) as scratch:
        scratch.write_bytes(data.to_netcdf(engine="h5netcdf"))
    return path


def open_dataset(path: Path) -> xr.Dataset:
    """Read a dataset into memory."""
    with xr.open_dataset(path, engine="h5netcdf") as data:
        return data.load()


class Journal:
    """The cases measured so far, one per line, so that an interrupted study can resume.

    A case counts as measured if its settings and its number of seeds are the same.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        if fresh:
            path.unlink(missing_ok=True)
        self._rows: dict[str, list[Row]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # cut short by an interruption: that case is measured again
                continue
            self._rows[entry["key"]] = entry["rows"]

    def find(self, settings: dict[str, Any]) -> list[Row] | None:
        """Return the rows of a case, or None if it has not been measured."""
        return self._rows.get(_key(settings))

    def add(self, settings: dict[str, Any], rows: list[Row]) -> None:
        """Append a case to the file at once."""
        self._rows[_key(settings)] = rows
        with self._path.open("a", encoding="utf-8") as file:
            # newline first: the line before may have been cut short
            file.write("\n" + json.dumps({"key": _key(settings), "rows": rows}))


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
