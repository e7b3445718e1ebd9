"""Uploaded runs, netCDF or a zipped Zarr store, read without trusting them.

:mod:`toolkit.results.foreign` checks files; this module checks zip files. File names are ignored.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath

import xarray as xr

from toolkit.results.foreign import MEBI, MOST_ENTRIES
from toolkit.results.opening import open_one

MOST_BYTES = 64 * MEBI
MOST_UNPACKED = 256 * MEBI
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    UnicodeDecodeError,
)


def read_run(data: bytes) -> xr.DataTree:
    """Read the run in the bytes of a netCDF file or of a zipped Zarr store.

    Raises
    ------
    ValueError
        If it is neither, too large, not trusted, or not a run of this toolkit.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"the file is larger than {MOST_BYTES // MEBI} MiB.")
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        return open_one(BytesIO(data), lazy=False, most=MOST_UNPACKED, shown="the file")
    if data.startswith(b"PK\x03\x04"):
        return _read_zip(data)
    raise ValueError("this is neither a netCDF file nor a zipped Zarr store.")


def _read_zip(data: bytes) -> xr.DataTree:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "run.zarr"
        try:
            _unpack(data, store)
        except _DAMAGE as error:
            raise ValueError(f"the zip file is damaged: {str(error)[:120]}") from None
        return open_one(store, lazy=False, most=MOST_UNPACKED, shown="the file")


def _unpack(data: bytes, store: Path) -> None:
    """Extract a zip to ``store`` as plain files, without the top folder of the store.

    Raises
    ------
    ValueError
        If a name leads outside, or there are too many or too large entries.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MOST_ENTRIES or sum(e.file_size for e in entries) > MOST_UNPACKED:
            raise ValueError("the zip file is too large when unpacked.")
        paths = [_safe(entry.filename) for entry in entries]
        roots = [path.parent for path in paths if path.name == "zarr.json"]
        if not roots:
            raise ValueError("the zip file has no Zarr store (format 3).")
        root = min(roots, key=lambda path: len(path.parts))
        for entry, path in zip(entries, paths, strict=True):
            if path.is_relative_to(root):
                target = store / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise ValueError("the zip file has names that lead outside it.")
    return path


def size_of(tree: xr.DataTree) -> int:
    """Bytes of all variables once they are loaded."""
    return sum(
        variable.nbytes
        for node in tree.subtree
        for variable in node.to_dataset(inherit=False).variables.values()
    )
