"""Runs on disk: the same after a round trip, plain xarray's to open, never half written."""

import shutil
import warnings
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from toolkit.results import open_results, save_results, to_bytes
from toolkit.results.files import check_path

SUFFIXES = (".nc", ".zarr")


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("which", ["tree", "empty_tree"])
def test_round_trip_is_identical(which, suffix, tmp_path, request):
    tree = request.getfixturevalue(which)
    path = save_results(tree, tmp_path / f"run{suffix}")
    again = open_results(path)
    for node in tree.subtree:
        mine, other = node.to_dataset(), again[node.path].to_dataset()
        xr.testing.assert_identical(mine, other)
        for name, variable in mine.variables.items():
            if variable.dtype.kind in "fiu":
                assert other[name].dtype == variable.dtype
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_plain_xarray_opens_it_without_a_warning(tree, suffix, tmp_path):
    path = save_results(tree, str(tmp_path / f"run{suffix}"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xr.open_datatree(path) as opened:
            loss = opened["training/loss"]
            np.testing.assert_array_equal(loss.values, tree["training/loss"].values)
            assert set(loss.attrs) >= {"long_name", "units"}
        with xr.open_dataset(path, group="layers/layer1") as layer:
            assert layer["conductance"].attrs["units"] == "S"
            assert layer["step"].values.tolist() == tree["layers/layer1/step"].values.tolist()


def test_saving_and_opening_warn_of_nothing(tree, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in SUFFIXES:
            open_results(save_results(tree, tmp_path / f"run{suffix}"))
        to_bytes(tree)


def test_bytes_are_a_netcdf_file(tree, tmp_path):
    data = to_bytes(tree)
    assert data[:4] == b"\x89HDF"
    assert open_results(BytesIO(data)).identical(
        open_results(save_results(tree, tmp_path / "a.nc"))
    )
    (tmp_path / "b.nc").write_bytes(data)
    with xr.open_datatree(tmp_path / "b.nc") as opened:
        assert opened["training"].sizes == tree["training"].sizes


def test_files_are_compressed_without_loss(tree, tmp_path):
    with h5py.File(save_results(tree, tmp_path / "run.nc")) as file:
        weight = file["layers/layer1/weight"]
        assert weight.compression == "gzip"
        assert weight.id.get_storage_size() < weight.nbytes
        np.testing.assert_array_equal(weight[:], tree["layers/layer1/weight"].values)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saving_twice_replaces(tree, empty_tree, suffix, tmp_path):
    path = tmp_path / f"run{suffix}"
    save_results(tree, path)
    save_results(empty_tree, path)
    assert open_results(path)["training"].sizes["step"] == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def half_written(path=None, *_, **__):
    if path is not None:  # a netCDF file is made in memory
        path.mkdir()
        (path / "zarr.json").write_bytes(b"half")
    raise OSError("No space left on device")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("there", [True, False])
def test_a_write_that_fails_leaves_what_was_there(tree, suffix, there, tmp_path, monkeypatch):
    path = tmp_path / f"run{suffix}"
    if there:
        save_results(tree, path)
    before = content(path) if there else None
    for writer in ("to_netcdf", "to_zarr"):
        monkeypatch.setattr(xr.DataTree, writer, lambda _self, *a, **k: half_written(*a, **k))
    with pytest.raises(OSError, match="No space left"):
        save_results(tree, path)
    assert (content(path) if there else None) == before
    assert len(list(tmp_path.iterdir())) == there


def test_a_rename_that_fails_puts_the_old_store_back(tree, tmp_path, monkeypatch):
    path = save_results(tree, tmp_path / "run.zarr")
    before = content(path)

    def fail(_self, _target):
        raise OSError("Device or resource busy")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="busy"):
        save_results(tree, path)
    assert content(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize("name", ["run", "run.csv", "run.h5", "nc"])
def test_another_suffix_is_refused(tree, name, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.nc or \.zarr"):
        save_results(tree, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere.* does not exist"):
        save_results(tree, tmp_path / "nowhere" / "run.nc")


def test_folders_that_are_no_runs_are_left_alone(tree, tmp_path):
    for name in ("photos.zarr", "photos.nc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.jpg").write_bytes(b"cat")
        with pytest.raises(ValueError, match=f"{name}' exists and is not a .*not changed"):
            save_results(tree, tmp_path / name)
        assert (tmp_path / name / "cat.jpg").read_bytes() == b"cat"
    (tmp_path / "file.zarr").write_bytes(b"cat")
    with pytest.raises(ValueError, match="exists and is not a Zarr store"):
        check_path(tmp_path / "file.zarr")


def test_a_missing_file_is_said(tmp_path):
    for name in ("run.nc", "run.zarr"):
        with pytest.raises(FileNotFoundError, match=f"{name}': no such file"):
            open_results(tmp_path / name)


def test_a_file_of_somebody_else_is_refused(tmp_path):
    foreign = xr.Dataset({"t": ("x", [1.0, 2.0])})
    foreign.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    foreign.to_zarr(tmp_path / "a.zarr", zarr_format=3)
    foreign.assign_attrs(schema_version="one").to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    for name in ("a.nc", "a.zarr", "b.nc"):
        with pytest.raises(ValueError, match=rf"{name}' is not a run of this toolkit"):
            open_results(tmp_path / name)


def test_a_newer_schema_is_refused(tree, tmp_path):
    newer = tree.copy()
    newer.attrs["schema_version"] = 99
    path = save_results(newer, tmp_path / "run.nc")
    with pytest.raises(ValueError, match="schema_version 99; this toolkit reads 1 to 3"):
        open_results(path)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.7, 0.98])
def test_a_netcdf_file_cut_short_is_refused(tree, keep, tmp_path):
    data = to_bytes(tree)
    (tmp_path / "run.nc").write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=r"run\.nc' is damaged or not a netCDF file"):
        open_results(tmp_path / "run.nc")


def test_bytes_that_are_no_file_are_refused():
    with pytest.raises(ValueError, match="the file is damaged or not a netCDF file"):
        open_results(BytesIO(b"not netCDF at all"))


def test_a_damaged_store_is_refused(tree, tmp_path):
    path = save_results(tree, tmp_path / "run.zarr")
    chunk = next(p for p in sorted(path.rglob("weight/c/*")) if p.is_file() or p.is_dir())
    file = chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"run\.zarr' is damaged"):
        open_results(path, lazy=False)
    shutil.rmtree(path)
    path.mkdir()
    with pytest.raises(ValueError, match=r"run\.zarr' is damaged"):
        open_results(path)
