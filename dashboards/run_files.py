"""Runs that visitors send: netCDF or a zipped Zarr store, read without trusting either.

A file can name other files (HDF5 links, external and virtual data), programs (Zarr filters that
unpickle) and sizes far beyond its own. All of these are refused before anything is read; what the
file is called plays no part.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from io import BytesIO
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
import xarray as xr

from dashboards.uploads import MEBI
from toolkit.results import open_results

MOST_BYTES = 64 * MEBI
MOST_UNPACKED = 256 * MEBI
MOST_ENTRIES = 20_000
MOST_TEXT = 8 * MEBI
_CODECS = {
    "blosc",
    "bytes",
    "crc32c",
    "gzip",
    "sharding_indexed",
    "transpose",
    "vlen-utf8",
    "zstd",
}
_OLD_ZARR = {".zarray", ".zgroup", ".zattrs", ".zmetadata"}


def read_run(data: bytes) -> xr.DataTree:
    """The run in the bytes of a netCDF file or of a zipped Zarr store.

    Raises
    ------
    ValueError
        If it is neither, too large, not trusted, or no run of this toolkit.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"the file is larger than {MOST_BYTES // MEBI} MiB.")
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_netcdf(data)
    if data.startswith(b"PK\x03\x04"):
        return _read_zip(data)
    raise ValueError("this is neither a netCDF file nor a zipped Zarr store.")


def _read_netcdf(data: bytes) -> xr.DataTree:
    try:
        with h5py.File(BytesIO(data), "r") as file:
            _check_hdf5(file)
        with xr.open_datatree(BytesIO(data), engine="h5netcdf") as tree:
            _check_size(tree)
    except ValueError:
        raise
    except Exception as error:  # a damaged file makes its reader stumble in many ways
        raise ValueError(f"the file is damaged or no netCDF: {_line(error)}") from None
    return open_results(BytesIO(data))


def _check_hdf5(file: h5py.File) -> None:
    """Refuse links and data outside the file, endless groups, and what unpacks to too much."""
    waiting, seen, unpacked = [file["/"]], 0, 0
    while waiting:
        group = waiting.pop()
        for name in group:
            seen += 1
            if seen > MOST_ENTRIES:
                raise ValueError(f"the file has more than {MOST_ENTRIES:,} entries.")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError("the file has links, which are not followed here.")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                unpacked += _checked_bytes(item)
                if unpacked > MOST_UNPACKED:
                    raise ValueError(f"the run holds more than {MOST_UNPACKED // MEBI} MiB.")


def _checked_bytes(item: h5py.Dataset) -> int:
    """Bytes that the dataset declares; those of strings, which may share storage, one by one."""
    if item.is_virtual or item.external:
        raise ValueError("the file has data in other files, which are not opened here.")
    if item.chunks and prod(item.chunks) * item.dtype.itemsize > MOST_UNPACKED:
        raise ValueError("the file has chunks that are too large.")
    declared = int(prod(item.shape or ())) * item.dtype.itemsize
    if item.dtype.kind != "O" or declared > MOST_UNPACKED:
        return declared
    if h5py.check_string_dtype(item.dtype) is None:
        return 8 * declared  # references, as dims have them: nothing behind them is read
    total = 0
    for index in np.ndindex(item.shape or ()):
        total += len(item[index])
        if total > MOST_TEXT:
            raise ValueError(f"the file has more than {MOST_TEXT // MEBI} MiB of text.")
    return total


def _read_zip(data: bytes) -> xr.DataTree:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "run.zarr"
        try:
            _unpack(data, store)
            _check_zarr(store)
            with xr.open_datatree(store, engine="zarr") as tree:
                _check_size(tree)
        except ValueError:
            raise
        except Exception as error:  # as above
            raise ValueError(
                f"the file is damaged or no zipped Zarr store: {_line(error)}"
            ) from None
        return open_results(store, lazy=False)


def _unpack(data: bytes, store: Path) -> None:
    """Write the entries of a zip below ``store``, as plain files, the store's own folder left out.

    Raises
    ------
    ValueError
        If a name leads elsewhere, or the entries are too many or too large.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MOST_ENTRIES or sum(e.file_size for e in entries) > MOST_UNPACKED:
            raise ValueError("the zip file unpacks to more than is allowed here.")
        paths = [_safe(entry.filename) for entry in entries]
        roots = [path.parent for path in paths if path.name == "zarr.json"]
        if not roots:
            raise ValueError("the zip file has no Zarr store (format 3) in it.")
        root = min(roots, key=lambda path: len(path.parts))
        for entry, path in zip(entries, paths, strict=True):
            if path.is_relative_to(root):
                target = store / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise ValueError("the zip file has names that lead out of it.")
    if path.name in _OLD_ZARR:
        raise ValueError("Zarr format 2 is not read here; save with format 3.")
    return path


def _check_zarr(store: Path) -> None:
    """Refuse codecs that are not plain compression, and chunks of absurd size."""
    for path in store.rglob("zarr.json"):
        waiting: list[Any] = [json.loads(path.read_text(encoding="utf-8"))]
        while waiting:
            item = waiting.pop()
            if isinstance(item, list):
                waiting += item
            if not isinstance(item, dict):
                continue
            waiting += item.values()
            for codec in [*item.get("codecs", []), *item.get("index_codecs", [])]:
                if not isinstance(codec, dict) or codec.get("name") not in _CODECS:
                    raise ValueError("the Zarr store uses a codec that is not allowed here.")
            if item.get("storage_transformers"):
                raise ValueError("the Zarr store uses a storage transformer.")
            for shape in (item.get("chunk_shape", []), item.get("shape", [])):
                if not all(type(size) is int and size >= 0 for size in shape):
                    raise ValueError("the Zarr store has a shape that is no list of sizes.")
                if prod(shape) * 8 > 2 * MOST_UNPACKED:
                    raise ValueError("the Zarr store has arrays or chunks that are too large.")


def size_of(tree: xr.DataTree) -> int:
    """Bytes of all variables, once they are read."""
    return sum(
        variable.nbytes
        for node in tree.subtree
        for variable in node.to_dataset(inherit=False).variables.values()
    )


def _check_size(tree: xr.DataTree) -> None:
    if size_of(tree) > MOST_UNPACKED:
        raise ValueError(f"the run holds more than {MOST_UNPACKED // MEBI} MiB.")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
