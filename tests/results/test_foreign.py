"""A file on a path is judged as an upload is: by its metadata, before anything is read."""

import json
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr

from toolkit.results import open_results, save_results


def hdf5(path, **made):
    with h5py.File(path, "w") as file:
        for name, options in made.items():
            file.create_dataset(name, **options)
    return path


def linked(path):
    hdf5(path.with_name("other.nc"), x={"data": [1.0]})
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("other.nc", "x")


def soft(path):
    with h5py.File(path, "w") as file:
        file["x"] = h5py.SoftLink("/y")


def external(path):
    secret = path.with_name("secret")
    secret.write_bytes(bytes(80))
    hdf5(
        path,
        x={"shape": (10,), "dtype": "f8", "external": [(str(secret), 0, 80)]},
    )


def virtual(path):
    hdf5(path.with_name("other.nc"), x={"data": np.ones(4)})
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.nc")), "x", shape=(4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


def long_coordinate(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("step", shape=(10**9,), dtype="f8", chunks=(1000,)).make_scale("step")


def large_chunk(path):
    hdf5(path, x={"shape": (2**26,), "dtype": "f8", "chunks": (2**26,), "compression": "gzip"})


def much_text(path):
    text = np.full(2100, "x" * 2**12, dtype=object)
    hdf5(path, x={"data": text, "dtype": h5py.string_dtype()})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (linked, "links"),
        (soft, "links"),
        (external, "data in other files"),
        (virtual, "data in other files"),
        (long_coordinate, "in one piece"),
        (large_chunk, "in one piece"),
        (much_text, "of text"),
    ],
)
def test_a_netcdf_file_that_reaches_too_far_is_refused(tmp_path, make, said):
    make(tmp_path / "run.nc")
    with pytest.raises(ValueError, match=rf"run\.nc' is refused: .*{said}"):
        open_results(tmp_path / "run.nc")


@pytest.fixture(scope="module")
def saved(tree, tmp_path_factory):
    return save_results(tree, tmp_path_factory.mktemp("saved") / "run.zarr")


PICKLE = [{"name": "numcodecs.pickle"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codecs": PICKLE}, "codec"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": PICKLE}}]}, "codec"),
        ({"shape": [10**9], "dimension_names": ["step"]}, "too large"),
        ({"chunk_grid": {"configuration": {"chunk_shape": [2**30]}}}, "too large"),
        ({"storage_transformers": [{"name": "x"}]}, "transformer"),
        ({"shape": [-1]}, "not a list of sizes"),
        ({"shape": ["1"]}, "not a list of sizes"),
    ],
)
@pytest.mark.parametrize("where", ["node", "consolidated", "zip"])
def test_a_store_whose_metadata_reach_too_far_is_refused(tmp_path, saved, change, said, where):
    store = shutil.copytree(saved, tmp_path / "run.zarr")
    file = store / ("training/loss/zarr.json" if where != "consolidated" else "zarr.json")
    metadata = json.loads(file.read_bytes())
    node = metadata
    if where == "consolidated":
        node = metadata["consolidated_metadata"]["metadata"]["training/loss"]
    node.update(change)
    file.write_text(json.dumps(metadata))
    if where == "zip":
        store = shutil.make_archive(str(store), "zip", store)
    with pytest.raises(ValueError, match=rf"is refused: .*{said}"):
        open_results(store)


def test_zarr_of_format_2_is_refused_wherever_it_lies(tmp_path, saved):
    xr.Dataset({"x": ("y", [1.0])}).to_zarr(tmp_path / "old.zarr", zarr_format=2)
    store = shutil.copytree(saved, tmp_path / "run.zarr")
    shutil.copytree(tmp_path / "old.zarr", store / "training" / "old")
    for path in (tmp_path / "old.zarr", store):
        with pytest.raises(ValueError, match="format 2 is not read"):
            open_results(path)
