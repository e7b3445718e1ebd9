"""Opening of saved runs, one or many, lazily and checked against the schema.

``files.py`` and ``stream.py`` write them.
"""

from __future__ import annotations

import glob
import json
import os
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
import xarray as xr

from toolkit.checks import check_flag, check_instance
from toolkit.results import schema
from toolkit.results.foreign import Refused, check_hdf5, check_zarr
from toolkit.results.labels import column

Source = str | os.PathLike[str] | BytesIO
_KINDS = {"str": "TOUS", "float": "f", "int": "iu"}


@overload
def open_results(
    source: list[Any] | tuple[Any, ...], *, lazy: bool = True, group: str = "training"
) -> xr.Dataset: ...
@overload
def open_results(source: BytesIO | os.PathLike[str], *, lazy: bool = True) -> xr.DataTree: ...
@overload
def open_results(source: str, *, lazy: bool = True, group: str = "training") -> Any: ...
def open_results(
    source: Source | list[Any] | tuple[Any, ...],
    *,
    lazy: bool = True,
    group: str = "training",
) -> xr.DataTree | xr.Dataset:
    """Open a saved run as a tree, or many as one Dataset along the settings that differ.

    Parameters
    ----------
    source
        A path that ends in .nc, .zarr or .zip (of a Zarr store), or the bytes of a netCDF file.
        For many runs: a pattern such as ``"runs/*.nc"``, or a list of paths.
    lazy
        If true, values are Dask arrays in the chunks of the file, read when they are computed, so
        keep the file. Otherwise everything is read now, which also finds damaged values.
    group
        For many runs, the group to read: "training", "layers/layer1" and so on.

    Notes
    -----
    Metadata are checked first. Links, data in other files, codecs other than plain compression,
    Zarr format 2, and coordinates, chunks or text above 256, 256 and 8 MiB are rejected.

    Raises
    ------
    FileNotFoundError
        If nothing exists at that path.
    ValueError
        If it cannot be read, is rejected, is not a run of this toolkit, does not match the schema,
        or has a newer schema than this version.

    Examples
    --------
    >>> run = Experiment(method="sbpca", rank=4)
    >>> records = list(run.steps(epochs=1))
    >>> path = run.save("run.nc")
    >>> tree = open_results(path)
    >>> len(records) == tree["training"].sizes["step"]
    True
    """
    check_instance("source", source, str | os.PathLike | BytesIO | list | tuple, "a path or paths")
    check_flag("lazy", lazy)
    check_instance("group", group, str, "the name of a group")
    if isinstance(source, str) and not Path(source).exists() and glob.has_magic(source):
        found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207, may be absolute
        if not found:
            raise FileNotFoundError(f"source {source!r}: no file matches.")
        return _together(found, group, lazy=lazy)
    if isinstance(source, str | os.PathLike | BytesIO):
        return open_one(source, lazy=lazy)
    for each in source:
        check_instance("source", each, str | os.PathLike | BytesIO, "a path or paths")
    return _together(list(source), group, lazy=lazy)


def open_one(
    source: Source, *, lazy: bool, most: int | None = None, shown: str | None = None
) -> xr.DataTree:
    """Open one run whose variables declare at most ``most`` bytes in total (None: any number).

    Messages call it ``shown`` (None: by its path).
    """
    by_path = "the file" if isinstance(source, BytesIO) else f"path {str(source)!r}"
    shown = by_path if shown is None else shown
    if not isinstance(source, BytesIO) and not Path(source).exists():
        raise FileNotFoundError(f"{shown}: no such file.")
    if not isinstance(source, BytesIO) and not (Path(source).is_file() or Path(source).is_dir()):
        raise ValueError(f"{shown} is neither a file nor a folder.")
    engine = "h5netcdf" if isinstance(source, BytesIO) else _engine(Path(source))
    lazy = lazy and not isinstance(source, BytesIO)
    what = "netCDF file" if engine == "h5netcdf" else "Zarr store"
    try:
        _check_metadata(source, engine, most)
        tree = xr.open_datatree(_store(source), engine=engine, chunks={} if lazy else None)
        if not lazy:
            with tree:
                tree = tree.load()
    except Refused as error:
        raise ValueError(f"{shown} is refused: {error}") from None
    except Exception as error:  # damaged files raise many kinds of errors
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{shown} is damaged or not a {what}: {reason}") from error
    try:
        _check(tree, shown)
    except ValueError:
        tree.close()
        raise
    return tree


def _check_metadata(source: Source, engine: str, most: int | None) -> None:
    if engine == "h5netcdf":
        with h5py.File(source, "r") as file:
            check_hdf5(file, most)
    elif Path(str(source)).suffix == ".zip":
        with zipfile.ZipFile(str(source)) as archive:
            sizes = ((entry.filename, entry.file_size) for entry in archive.infolist())
            check_zarr(sizes, archive.read, most)
    else:
        store = Path(str(source))
        files = (Path(at) / name for at, _, names in os.walk(store) for name in names)
        metadata = (path for path in files if path.name.startswith((".z", "zarr.json")))
        sizes = ((str(path), path.stat().st_size) for path in metadata)
        check_zarr(sizes, lambda name: Path(name).read_bytes(), most)


def _engine(path: Path) -> str:
    engines = {".nc": "h5netcdf", ".zarr": "zarr", ".zip": "zarr"}
    if path.suffix not in engines:
        raise ValueError(f"path {str(path)!r} must end in .nc, .zarr or .zip.")
    return engines[path.suffix]


def _store(source: Source) -> Any:
    """The input of xarray, which does not look into zip files by itself."""
    if isinstance(source, BytesIO) or Path(source).suffix != ".zip":
        return source
    from zarr.storage import ZipStore

    return ZipStore(Path(source), read_only=True)


def _check(tree: xr.DataTree, shown: str) -> None:
    """Raise ValueError unless the tree was written by this version or an earlier one."""
    version = tree.attrs.get("schema_version")
    if not isinstance(version, int | np.integer):
        raise ValueError(f"{shown} is not a run of this toolkit: it has no schema_version.")
    if not 1 <= version <= schema.SCHEMA_VERSION:
        raise ValueError(
            f"{shown} has schema_version {version}; this toolkit reads 1 to "
            f"{schema.SCHEMA_VERSION}."
        )
    if tree.to_dataset(inherit=False).data_vars:  # a sweep, or one variable taken out of a run
        return
    _bring_up_to_date(tree)
    held = set(tree["training"].variables) if "training" in tree else set()
    other = {"accuracy"} if "r_squared" in held else {"r_squared"}
    wanted = {variable.name for variable in schema.TRAINING} - other
    if missing := sorted(wanted - held):
        raise ValueError(f"{shown} is damaged: /training has no {', '.join(missing)}.")
    for node in tree.subtree:
        _check_group(node, shown)


def _bring_up_to_date(tree: xr.DataTree) -> None:
    """Give layers and evaluations the step indices that they have had since version 3."""
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        for dim, index in (("record", "step"), ("evaluation", "evaluation_step")):
            if dim in data.dims and index in data.variables and data[index].dims == (dim,):
                data = data.swap_dims({dim: index})
        node.dataset = data
    tree.attrs["schema_version"] = schema.SCHEMA_VERSION


def _check_group(node: xr.DataTree, shown: str) -> None:
    for name, declared in schema.group_variables(node.path).items():
        if name not in node.variables:
            continue
        found = node.variables[name]
        kind = declared.dtype.rstrip("0123456789")
        if found.dims != declared.dims or found.dtype.kind not in _KINDS[kind]:
            raise ValueError(
                f"{shown} is damaged: {node.path}/{name} is {found.dtype} over "
                f"{found.dims}; expected: {declared.dtype} over {declared.dims}."
            )


# --- many runs ----------------------------------------------------------------------------------


def _together(paths: Sequence[str | os.PathLike[str]], group: str, *, lazy: bool) -> xr.Dataset:
    """One group of many runs along the settings that differ, NaN where a run is missing."""
    if not paths:
        raise ValueError("source must name at least one run; got none.")
    trees = [open_one(path, lazy=lazy) for path in paths]
    found = [_group(tree, group, path) for tree, path in zip(trees, paths, strict=True)]
    settings = [json.loads(tree.attrs["settings"]) for tree in trees]
    bare = [dim for dim in found[0].dims if dim not in found[0].indexes]
    together = xr.concat(
        [_indexed(part) for part in found],
        "run",
        join="outer",
        data_vars="all",
        coords="different",
        compat="equals",
        combine_attrs="override",
    ).drop_vars(bare)
    together.attrs = _common([dict(tree.attrs) for tree in trees])
    return _along_settings(together, settings, [str(path) for path in paths])


def _group(tree: xr.DataTree, group: str, path: str | os.PathLike[str]) -> xr.Dataset:
    name = f"/{group.strip('/')}"
    if name not in tree.groups or "settings" not in tree.attrs:
        raise ValueError(f"path {str(path)!r} has no group {group!r} of a run.")
    node: Any = tree[name]
    found: xr.Dataset = node.to_dataset(inherit=False)
    return found


def _indexed(data: xr.Dataset) -> xr.Dataset:
    """Add an index to every dim, so that runs of different lengths can be aligned."""
    numbers = {dim: np.arange(n) for dim, n in data.sizes.items() if dim not in data.indexes}
    return data.assign_coords(numbers)


def _along_settings(
    data: xr.Dataset, settings: list[dict[str, Any]], names: list[str]
) -> xr.Dataset:
    """Runs on the grid of the settings that differ, or on a line if two have the same."""
    differ = [
        knob
        for knob in settings[0]
        if all(knob in one for one in settings)  # earlier versions had fewer knobs
        and len({json.dumps(one[knob], sort_keys=True) for one in settings}) > 1
    ]
    places = {knob: column([one[knob] for one in settings]) for knob in differ}
    coords = {knob: ("run", values) for knob, values in places.items()}
    # rename per-step values of these settings, which keep their place
    data = data.rename({knob: f"{knob}_used" for knob in differ if knob in data.variables})
    if not differ or len(set(zip(*places.values(), strict=True))) < len(names):
        return data.assign_coords(coords, run=names)
    if len(differ) == 1:
        return data.assign_coords(coords).swap_dims(run=differ[0]).sortby(differ[0])
    grid = data.assign_coords(coords).set_index(run=differ).unstack("run")
    return grid.transpose(*differ, ...)


def _common(attributes: list[dict[Any, Any]]) -> dict[Any, Any]:
    """The attributes shared by all."""
    first, *others = attributes
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}
