"""A sweep on disk: one Zarr store over the knobs, with a place for every run from the start.

A run is one chunk of every variable, and ``status`` is written last: a sweep that is killed leaves
complete runs and empty places (NaN, status 0).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.vlen import VLenUTF8

from toolkit.results.files import check_path
from toolkit.results.labels import column
from toolkit.results.schema import SWEEP, Variable
from toolkit.results.zarr_files import (
    array_metadata,
    chunk_path,
    group_metadata,
    replace,
    write_metadata,
)
from toolkit.writing import beside, flush

DONE, FAILED = 1, 2
Index = tuple[int, ...]


class GridStore:
    """The store of a sweep; opened if it exists, else created.

    Parameters
    ----------
    path
        Path that ends in .zarr.
    axes
        The values of every knob that varies, as in the coordinates.
    labels
        Attributes of the axes.
    epochs
        Length of the dim ``epoch``.
    attributes
        Attributes of the root; ``attributes["sweep"]`` identifies the sweep and must match that
        of an existing store.

    Raises
    ------
    FileNotFoundError, ValueError
        If ``path`` is invalid or holds something else.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        axes: Mapping[str, Sequence[Any]],
        labels: Mapping[str, Mapping[str, str]],
        epochs: int,
        attributes: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != ".zarr":
            raise ValueError(f"path {str(path)!r} must end in .zarr: only Zarr can grow.")
        check_path(self.path)
        self._axes, self._epochs = {name: list(values) for name, values in axes.items()}, epochs
        if self.path.exists():
            self._check_same(attributes["sweep"])
        else:
            with beside(self.path) as scratch:
                self._make(scratch, labels, attributes)

    def is_done(self, index: Index) -> bool:
        """Whether the run at ``index`` is stored, even as a failed one."""
        return chunk_path(self.path / "status", index).is_file()

    def put(self, index: Index, row: Mapping[str, Any]) -> None:
        """Store a run: (epochs,) of each variable, or ``error`` alone if it failed."""
        failed = "error" in row
        for variable in SWEEP:
            if variable.name in row:
                self._write(variable, index, row[variable.name])
        self._write(_STATUS, index, FAILED if failed else DONE)

    def _write(self, variable: Variable, index: Index, value: Any) -> None:
        if variable.dtype == "str":
            data = bytes(VLenUTF8().encode(np.array([value], dtype=object)))
        else:
            values = np.full(self._epochs if variable.dims else 1, np.nan)
            values[: np.size(value)] = value
            data = values.astype(np.dtype(variable.dtype).newbyteorder("<")).tobytes()
        chunk = chunk_path(self.path / variable.name, [*index, *(0 for _ in variable.dims)])
        replace(chunk, data)
        flush(chunk)  # a status on disk means that the rest is there
        flush(chunk.parent)

    def _check_same(self, sweep: str) -> None:
        try:
            root = json.loads((self.path / "zarr.json").read_text(encoding="utf-8"))
            there = root["attributes"].get("sweep")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"path {str(self.path)!r} is damaged: {error}.") from error
        if there != sweep:
            raise ValueError(
                f"path {str(self.path)!r} holds {'another sweep' if there else 'no sweep'}; "
                f"use another path or move it away. Stored: {there}; requested: {sweep}."
            )

    def _make(
        self, root: Path, labels: Mapping[str, Mapping[str, str]], attributes: Mapping[str, Any]
    ) -> None:
        arrays = {}
        shape = [len(values) for values in self._axes.values()]
        for variable in SWEEP:
            epochs = [self._epochs] if variable.dims else []
            arrays[variable.name] = array_metadata(
                [*self._axes, *variable.dims],
                [*shape, *epochs],
                [*(1 for _ in shape), *epochs],
                dtype=variable.dtype,
                attributes=variable.attrs,
            )
        places = {name: column(values) for name, values in self._axes.items()}
        for name, values in (places | {"epoch": np.arange(1, self._epochs + 1)}).items():
            dtype = "str" if values.dtype.kind == "O" else str(values.dtype)
            arrays[name] = array_metadata(
                [name], values.shape, values.shape, dtype=dtype, attributes=labels.get(name, {})
            )
            data = VLenUTF8().encode(values) if dtype == "str" else values.tobytes()
            replace(chunk_path(root / name, [0]), bytes(data))
        for name, metadata in arrays.items():
            write_metadata(root / name, metadata)
        write_metadata(root, group_metadata(attributes, arrays))


_STATUS = next(variable for variable in SWEEP if variable.name == "status")
