"""Writing results: netCDF (through h5netcdf) and Zarr, each replaced atomically.

``schema.py`` declares the contents of a tree, ``stream.py`` writes a run while it trains, and
``opening.py`` reads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import xarray as xr

from toolkit.checks import check_instance, check_path_like
from toolkit.writing import beside, locked

_COMPRESSION = {"zlib": True, "complevel": 4, "shuffle": True}


def save_results(tree: xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write ``tree`` to ``path``: ``.nc`` is netCDF-4 (lossless compression), ``.zarr`` is Zarr.

    The data are written next to ``path`` and renamed, so ``path`` holds either the complete new
    tree or its previous content.

    Raises
    ------
    ValueError
        If ``path`` ends in neither ``.nc`` nor ``.zarr``, or exists as something else.
    FileNotFoundError
        If the folder of ``path`` does not exist.

    Examples
    --------
    >>> run = Experiment(method="sbpca", rank=4)
    >>> records = list(run.steps(epochs=1))
    >>> path = save_results(run.results(), "run.nc")
    """
    check_instance("tree", tree, xr.DataTree, "an xarray.DataTree")
    check_path_like("path", path)
    target = Path(path)
    kind = check_path(target)
    with beside(target) as scratch:
        if kind == ".nc":
            scratch.write_bytes(to_bytes(tree))  # HDF5 itself crashes if the disk is full
        else:
            with warnings.catch_warnings():  # xarray opens consolidated stores without a warning
                warnings.filterwarnings("ignore", "Consolidated metadata")
                tree.to_zarr(scratch, mode="w")
    return target


def to_bytes(tree: xr.DataTree) -> bytes:
    """The bytes of ``tree`` as a netCDF file, for a download."""
    check_instance("tree", tree, xr.DataTree, "an xarray.DataTree")
    return bytes(tree.to_netcdf(engine="h5netcdf", encoding=_encoding(tree)))


def to_zarr_zip(tree: xr.DataTree) -> bytes:
    """The bytes of ``tree`` as a Zarr store in a zip file, for a download."""
    check_instance("tree", tree, xr.DataTree, "an xarray.DataTree")
    with tempfile.TemporaryDirectory() as folder:
        store = save_results(tree, Path(folder) / "run.zarr")
        return Path(shutil.make_archive(str(store), "zip", store)).read_bytes()


def check_path(path: Path) -> str:
    """Return the suffix of ``path``, ``.nc`` or ``.zarr``; raise like :func:`save_results`."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path {str(path)!r}: the folder {str(path.parent)!r} does not exist."
        )
    kind = _kind(path)
    fits = (path / "zarr.json").is_file() if kind == ".zarr" else path.is_file()
    if path.exists() and not fits:
        what = "Zarr store" if kind == ".zarr" else "file"
        raise ValueError(f"path {str(path)!r} exists and is not a {what}; it was not changed.")
    if path.is_dir():
        try:
            with locked(path):
                pass
        except BlockingIOError:
            raise ValueError(f"path {str(path)!r} is being written by another run.") from None
    return kind


def _kind(path: Path) -> str:
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(f"path {str(path)!r} must end in .nc or .zarr.")
    return path.suffix


def _encoding(tree: xr.DataTree) -> dict[str, dict[str, dict[str, object]]]:
    return {
        node.path: {
            str(name): dict(_COMPRESSION)
            for name, variable in node.to_dataset(inherit=False).variables.items()
            if variable.dtype.kind in "fiu" and variable.size > 1
        }
        for node in tree.subtree
    }
