"""Zarr v3 metadata and files, written directly, for stores that grow.

Zarr's own calls take about 2.5 ms per array; a file takes 0.1 ms. A record of two layers (128 x 65,
10 x 129) takes 7.4 ms this way and 71 ms with ``to_zarr(append_dim="step")``. Twenty records at a
time take 16.5 ms each, but are all lost if the process is killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}
TEXT = {"name": "vlen-utf8"}


def array_metadata(
    dims: Sequence[str],
    shape: Sequence[int],
    chunk: Sequence[int],
    *,
    dtype: str,
    attributes: Mapping[str, str],
    codecs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The ``zarr.json`` of an array; missing values are NaN, 0 or "", by ``dtype`` (or "str").

    ``codecs`` replaces the default encoding, plain bytes.
    """
    text = dtype == "str"
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "string" if text else dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "" if text else ("NaN" if dtype.startswith("float") else 0),
        "codecs": list(codecs) or [TEXT if text else LITTLE_ENDIAN],
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def group_metadata(
    attributes: Mapping[str, Any], below: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The ``zarr.json`` of a group; with ``below``, also the metadata of everything in it.

    Those are "consolidated" and sorted by name, as zarr-python writes them and readers prefer.
    """
    group = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    if below is None:
        return group
    held = dict(sorted(below.items()))
    inline = {"kind": "inline", "must_understand": False, "metadata": held}
    return group | {"consolidated_metadata": inline}


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write ``metadata`` as the ``zarr.json`` of ``folder``, atomically."""
    text = json.dumps(metadata, default=lambda number: number.item())  # numpy numbers
    replace(folder / "zarr.json", text.encode())


def chunk_path(array: Path, index: Sequence[int]) -> Path:
    """The file of a chunk."""
    return array.joinpath("c", *map(str, index))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write within a file; the rest stays unchanged, whatever happens to the writer."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def replace(path: Path, data: bytes) -> None:
    """Replace a file atomically: ``path`` holds the old bytes or all of the new ones.

    This can take a few ms for an existing file, as file systems then write to disk at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_bytes(data)
    scratch.replace(path)
