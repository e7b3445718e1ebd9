"""Checks of untrusted files: their metadata are checked before anything is read.

A file can name other files (HDF5 links, external and virtual data), programs (Zarr filters that
unpickle) and sizes far beyond its own. All of these are rejected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import h5py
import numpy as np

MEBI = 2**20
# Limits of what is read at once: a coordinate, a chunk, the text of a file.
MOST_AT_ONCE = 256 * MEBI
MOST_TEXT = 8 * MEBI
MOST_ENTRIES = 20_000
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


class Refused(ValueError):
    """A file is not read, although it can be intact."""


def check_hdf5(file: h5py.File, most: int | None) -> None:
    """Raise Refused for links, data outside the file, endless groups or absurd sizes.

    ``most`` bounds the bytes of all variables together; None leaves this to a reader that reads
    chunk by chunk. Coordinates, chunks and text are bounded either way.
    """
    waiting, seen, unpacked = [file["/"]], 0, 0
    while waiting:
        group = waiting.pop()
        for name in group:
            seen += 1
            if seen > MOST_ENTRIES:
                raise Refused(f"the file has more than {MOST_ENTRIES:,} entries")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Refused("the file has links, which are not followed here")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                unpacked += _checked_bytes(item)
                if most is not None and unpacked > most:
                    raise Refused(f"the run holds more than {most // MEBI} MiB")


def _checked_bytes(item: h5py.Dataset) -> int:
    """Bytes that the dataset declares; strings, which can share storage, are counted one by one."""
    if item.is_virtual or item.external:
        raise Refused("the file has data in other files, which are not opened here")
    declared = int(prod(item.shape or ())) * item.dtype.itemsize
    at_once = prod(item.chunks) * item.dtype.itemsize if item.chunks else declared
    if item.ndim == 1 and (item.is_scale or item.dtype.kind == "O"):  # read whole when opened
        at_once = max(at_once, declared)
    if at_once > MOST_AT_ONCE:
        raise Refused(f"the run holds more than {MOST_AT_ONCE // MEBI} MiB in one piece")
    if item.dtype.kind != "O":
        return declared
    if h5py.check_string_dtype(item.dtype) is None:
        return 8 * declared  # references, as in dims: their targets are not read
    total = 0
    for index in np.ndindex(item.shape or ()):
        total += len(item[index])
        if total > MOST_TEXT:
            raise Refused(f"the file has more than {MOST_TEXT // MEBI} MiB of text")
    return total


def check_zarr(
    sizes: Iterable[tuple[str, int]], read: Callable[[str], bytes], most: int | None
) -> None:
    """Raise Refused for format 2, codecs other than plain compression, or absurd sizes.

    ``sizes`` holds names and bytes of all files of the store. Consolidated metadata of a node are
    checked, too; ``most`` is as for :func:`check_hdf5`.
    """
    for name, size in sizes:
        last = name.rpartition("/")[2]
        if last in (".zarray", ".zgroup", ".zattrs", ".zmetadata"):
            raise Refused("Zarr format 2 is not read here; save with format 3")
        if last == "zarr.json":
            if size > MOST_TEXT:
                raise Refused(f"the Zarr store has more than {MOST_TEXT // MEBI} MiB of metadata")
            _check_node(read(name), most)


def _check_node(document: bytes, most: int | None) -> None:
    unpacked = 0
    for item in _mappings(json.loads(document)):
        for codec in [*item.get("codecs", []), *item.get("index_codecs", [])]:
            if not isinstance(codec, dict) or codec.get("name") not in _CODECS:
                raise Refused("the Zarr store uses a codec that is not allowed here")
        if item.get("storage_transformers"):
            raise Refused("the Zarr store uses a storage transformer")
        sizes = [_product(item.get(name, [])) for name in ("chunk_shape", "shape")]
        named = item.get("dimension_names") or []
        read_whole = len(item.get("shape", [])) == len(named) == 1 or most is not None
        unpacked += 8 * sizes[1]
        if 8 * max(sizes if read_whole else sizes[:1]) > MOST_AT_ONCE:
            raise Refused("the Zarr store has arrays or chunks that are too large")
        if most is not None and unpacked > 2 * most:
            raise Refused(f"the run holds more than {most // MEBI} MiB")


def _mappings(found: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a JSON document."""
    waiting = [found]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        if isinstance(item, dict):
            waiting += item.values()
            yield item


def _product(shape: Any) -> int:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise Refused("the Zarr store has a shape that is not a list of sizes")
    return prod(shape)
