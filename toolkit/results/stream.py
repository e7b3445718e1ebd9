"""A run written to disk while it trains: a Zarr v3 store that grows and is always valid.

Rows go to the ends of arrays in memory. ``commit`` writes new rows to their chunks and, last, the
root's ``zarr.json``, which holds all metadata at once ("consolidated") and is renamed into place.
Readers use that one file, so a writer that is killed leaves the content of the last commit: rows
beyond it are ignored. The arrays' own metadata, for readers that do not know consolidated
metadata, are written every few seconds and at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd

from toolkit.checks import check_count, check_path_like
from toolkit.results import schema
from toolkit.results.files import check_path
from toolkit.results.schema import Variable
from toolkit.results.zarr_files import (
    LITTLE_ENDIAN,
    TEXT,
    array_metadata,
    chunk_path,
    group_metadata,
    overwrite,
    replace,
    write_metadata,
)
from toolkit.writing import beside, flush_all, locked

CHUNK_BYTES = 32 * 2**20
FEW_BITS = 13  # mantissas of up to this many bits compress best bit by bit
OWN_METADATA_EVERY_S = 5.0
MOST_ROWS = {1: 4096, 2: 64, 3: 20, 4: 20}  # rows of a chunk, by the number of dims
_BLOSC = {"cname": "zstd", "clevel": 3, "blocksize": 0}
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class Stream:
    """A store that grows by rows, created by :meth:`~toolkit.training.Experiment.stream`.

    Weights of arrays with conductances are omitted, because they follow from these:
    w = (G+ - G-) / (g_max - g_min) * w_max.

    Parameters
    ----------
    path
        Path that ends in .zarr; an existing store is replaced.
    layers
        Names of the layers.
    attributes
        Function that returns the attributes of the root; called at every commit.
    conductance_bits
        Mantissa bits of conductances to keep, 1 to 23, rounded to nearest; None: all.
    absent
        Names of variables of the schema that the run does not record.

    Raises
    ------
    FileNotFoundError, ValueError
        If ``path`` or ``conductance_bits`` is invalid.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        layers: list[str],
        attributes: Callable[[], Mapping[str, Any]],
        conductance_bits: int | None = None,
        absent: Collection[str] = (),
    ) -> None:
        check_path_like("path", path)
        self.path, self._attributes, self._bits = Path(path), attributes, conductance_bits
        if conductance_bits is not None:
            check_count("conductance_bits", conductance_bits, 1, 23)
        if self.path.suffix != ".zarr":
            raise ValueError(f"path {str(path)!r} must end in .zarr: only Zarr can grow.")
        check_path(self.path)
        self._columns: dict[str, _Column] = {}
        self._lengths: dict[tuple[str, str], int] = {}
        self._groups = ["training", "events", "layers", *(f"layers/{name}" for name in layers)]
        self._absent = absent
        self._own_metadata_due = 0.0  # at once, because this creates the folders
        with beside(self.path) as self._root:
            self._begin()
        self._root = self.path
        self._lock = ExitStack()
        self._lock.enter_context(locked(self.path))

    def _begin(self) -> None:
        for group in self._groups:
            for variable in schema.group_variables(group).values():
                if variable.name in self._absent:
                    continue
                if len(variable.dims) == 1 and variable.recorded not in (schema.IN_CELLS, "once"):
                    self._column(group, variable, ())
            write_metadata(self._root / group, group_metadata({}))
        self.commit()

    def append(self, group: str, row: Mapping[str, Any]) -> None:
        """Append a row along a dim of ``group``; None marks a missing value.

        Raises
        ------
        KeyError
            If the group has no such variable.
        """
        declared = schema.group_variables(group)
        known = [(declared[name], value) for name, value in row.items() if value is not None]
        dim = known[0][0].dims[0]
        index = self._lengths.get((group, dim), 0)
        for variable, value in known:
            if variable.name == "conductance":
                value = self._conductance(group, value)
            self._column(group, variable, np.shape(value)).put(index, value)
        self._lengths[group, dim] = index + 1

    def commit(self, *, complete: bool = False) -> None:
        """Write all rows to the store; from then on they survive the end of this process.

        The system decides when they reach the disk; only :meth:`close` makes sure, so a power cut
        before that can lose them.
        """
        for name, column in self._columns.items():
            column.write(whole=complete)
            group, _ = name.rsplit("/", 1)
            column.metadata["shape"][0] = self._lengths.get((group, column.variable.dims[0]), 0)
        below = {group: group_metadata({}, {}) for group in self._groups}
        below |= {name: column.metadata for name, column in self._columns.items()}
        attributes = dict(self._attributes()) | {"complete": int(complete)}
        write_metadata(self._root, group_metadata(attributes, below))
        if complete or time.monotonic() > self._own_metadata_due:
            self._own_metadata_due = time.monotonic() + OWN_METADATA_EVERY_S
            for name, column in self._columns.items():
                write_metadata(self._root / name, column.metadata)

    def close(self) -> None:
        """Write the remaining rows, flush to disk and mark the store as complete."""
        try:
            self.commit(complete=True)
            flush_all(self._root)
        finally:
            self._lock.close()

    def _column(self, group: str, variable: Variable, tail: tuple[int, ...]) -> _Column:
        name = f"{group}/{variable.name}"
        if name not in self._columns:
            bits = self._bits if variable.name == "conductance" else None
            self._columns[name] = _Column(lambda: self._root / name, variable, tail, bits)
        return self._columns[name]

    def _conductance(self, group: str, value: np.ndarray) -> np.ndarray:
        """Round the value if requested; the first one adds the coordinate."""
        if f"{group}/polarity" not in self._columns:
            for polarity in ("plus", "minus"):
                self.append(group, {"polarity": polarity})
        return value if self._bits is None else _rounded(value, self._bits)


class _Column:
    """One array: its metadata, and the rows of the chunk that is being filled.

    Conductances, weights and counts are stored cell by cell within a chunk, the records of a cell
    next to each other, because most cells keep their value from one record to the next.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        variable: Variable,
        tail: tuple[int, ...],
        bits: int | None,
    ) -> None:
        self._folder, self.variable = folder, variable
        text = variable.dtype == "str"
        dtype = np.dtype(object if text else variable.dtype).newbyteorder("<")
        self._fill: Any = "" if text else (np.nan if dtype.kind == "f" else 0)
        row_bytes = max(1, int(np.prod(tail)) * dtype.itemsize)
        self.rows = min(max(1, CHUNK_BYTES // row_bytes), MOST_ROWS[len(variable.dims)])
        self._stored = np.full((*tail, self.rows), self._fill, dtype)
        self._chunk = np.moveaxis(self._stored, -1, 0)
        self._number, self._new, self._is_quick = 0, range(0), False
        codecs, self._encode = _codecs(variable, dtype, bits)
        self.metadata = array_metadata(
            variable.dims,
            (0, *tail),
            (self.rows, *tail),
            dtype=variable.dtype,
            attributes=variable.attrs,
            codecs=codecs,
        )

    def put(self, index: int, value: Any) -> None:
        """Set one row; skipped rows hold the fill value."""
        number, place = divmod(index, self.rows)
        if number != self._number:
            self.write(whole=True)
            self._chunk[...], self._number = self._fill, number
        self._chunk[place] = value
        self._new = range(self._new.start if self._new else place, place + 1)

    def write(self, *, whole: bool = False) -> None:
        """Write the new rows of the chunk; uncompressed numbers are written in place.

        A chunk that will get more rows is compressed quickly, a ``whole`` one well.
        """
        whole = whole or self._new.stop == self.rows
        if not self._new and not (whole and self._is_quick):
            return
        file = chunk_path(self._folder(), [self._number, *(0 for _ in self.variable.dims[1:])])
        if self._encode is None and file.is_file():
            first = self._new.start
            rows = self._stored[first : self._new.stop]
            overwrite(file, first * rows.itemsize, rows.tobytes())
        elif self._encode is None:
            replace(file, self._stored.tobytes())
        else:
            replace(file, self._encode(self._stored, whole))
            self._is_quick = not whole
        self._new = range(0)


def _codecs(
    variable: Variable, dtype: np.dtype, bits: int | None
) -> tuple[list[dict[str, Any]], Callable[[np.ndarray, bool], bytes] | None]:
    """The codecs of an array in Zarr's metadata, and the function that encodes a (whole) chunk.

    None: no encoding. Rows of single numbers stay uncompressed, so that they can be written one by
    one; otherwise the whole chunk would be written again for each.
    """
    if dtype.kind == "O":
        zstd, words = Zstd(level=3), VLenUTF8()
        named = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
        return [TEXT, named], lambda chunk, _: zstd.encode(words.encode(chunk))
    dims = len(variable.dims)
    if dims == 1:
        return [LITTLE_ENDIAN], None
    turned = {"name": "transpose", "configuration": {"order": [*range(1, dims), 0]}}
    if dtype == np.float32 and dims > 2:  # maps: unshuffled, equal neighbours compress well
        few = bits is not None and bits <= FEW_BITS  # shuffled, bits that are 0 compress well
        shuffle = "bitshuffle" if few else "noshuffle"
    else:
        shuffle = "shuffle"
    settings = _BLOSC | {"typesize": dtype.itemsize, "shuffle": shuffle}
    blosc = {  # each chunk states which of the two it uses
        whole: Blosc(**_BLOSC | more, shuffle=_SHUFFLES[shuffle])
        for whole, more in ((True, {}), (False, {"cname": "lz4", "clevel": 1}))
    }
    codecs = [turned, LITTLE_ENDIAN, {"name": "blosc", "configuration": settings}]
    return codecs, lambda chunk, whole: blosc[whole].encode(chunk)


def _rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Round float32 to ``bits`` bits of mantissa; relative error at most 2^-(bits + 1)."""
    dropped = 23 - bits
    whole = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = np.uint32((1 << dropped) >> 1)
    mask = np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))
    rounded: np.ndarray = ((whole + half) & mask).view(np.float32)
    return rounded
