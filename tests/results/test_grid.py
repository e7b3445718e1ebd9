"""The store of a sweep: whole runs or empty places, whatever happens to the one that writes."""

import warnings

import numpy as np
import pytest
import xarray as xr

from toolkit.results import grid, schema
from toolkit.results.grid import GridStore
from toolkit.results.labels import column, label

AXES = {"method": ["a", "b"], "rank": [1, 2, 4], "levels": [None, 32], "seed": [0]}
ROW = {v.name: np.array([1.5, 2.5]) for v in schema.SWEEP if v.dims}


def new(path, **changed) -> GridStore:
    given = {
        "axes": AXES,
        "labels": {"rank": {"long_name": "rank", "units": "1"}},
        "epochs": 2,
        "attributes": {"sweep": "this one"},
    }
    return GridStore(path, **given | changed)


def test_a_run_stands_at_its_place_and_the_others_are_empty(tmp_path):
    store = new(tmp_path / "s.zarr")
    store.put((1, 2, 0, 0), ROW)
    store.put((0, 0, 1, 0), {"error": "ValueError: größer"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xr.open_zarr(tmp_path / "s.zarr").load()
    there = found.sel({"method": "b", "rank": 4, "levels": "None", "seed": 0})
    assert there["test_loss"].values.tolist() == [1.5, 2.5] and there["status"] == 1
    failed = found.sel({"method": "a", "rank": 1, "levels": "32", "seed": 0})
    assert failed["status"] == 2 and failed["error"].item() == "ValueError: größer"
    assert found["test_loss"].notnull().sum() == 2
    assert (found["status"] != 0).sum() == 2 and found["epoch"].values.tolist() == [1, 2]
    assert found["rank"].attrs == {"long_name": "rank", "units": "1"}
    for variable in schema.SWEEP:
        assert found[variable.name].dims == (*AXES, *variable.dims)
        assert found[variable.name].attrs == variable.attrs


def test_a_store_is_opened_again_and_knows_what_it_holds(tmp_path):
    new(tmp_path / "s.zarr").put((0, 1, 0, 0), ROW)
    again = new(tmp_path / "s.zarr")
    assert again.is_done((0, 1, 0, 0)) and not again.is_done((0, 0, 0, 0))
    with pytest.raises(ValueError, match="holds another sweep; use another path or move it away"):
        new(tmp_path / "s.zarr", attributes={"sweep": "that one"})
    (tmp_path / "s.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        new(tmp_path / "s.zarr")


class Killed(BaseException):
    pass


def test_a_run_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """The writer is killed before each of the files of a run in turn."""
    whole, left = grid.replace, 0

    def counted(path, data):
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        whole(path, data)

    monkeypatch.setattr(grid, "replace", counted)
    left, files = 100, len(ROW) + 1
    store = new(tmp_path / "s.zarr")
    for survives in range(files):
        left = survives
        with pytest.raises(Killed):
            store.put((0, 0, 0, 0), ROW)
        assert not store.is_done((0, 0, 0, 0))
        assert (xr.open_zarr(tmp_path / "s.zarr")["status"] == 0).all()
    left = files
    store.put((0, 0, 0, 0), ROW)
    assert store.is_done((0, 0, 0, 0)) and left == 0


def test_labels_are_numbers_or_words():
    assert [label(x) for x in (None, 3, 0.5, True, "a", [8, 4])] == [
        *("None", 3, 0.5, True, "a", "[8, 4]")
    ]
    assert column([1, 2]).dtype.kind == "i" and column([0.5, 2]).tolist() == [0.5, 2.0]
    assert column([None, 2]).tolist() == ["None", "2"]
