"""Saved runs opened: lazily, many at once, and held against the schema."""

import itertools
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from toolkit.results import open_results, save_results
from toolkit.training import Experiment

EARLIER = Path(__file__).parent / "data" / "version2.nc"  # written by toolkit 0.1.0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three of the four runs over two ranks and two seeds; seed 1 goes further."""
    folder = tmp_path_factory.mktemp("runs")
    for rank, seed in [(4, 0), (1, 1), (1, 0)]:
        run = Experiment(hidden=[4], rank=rank, seed=seed, record_every=10)
        for _ in range(25 + 10 * seed):
            run.step()
        run.save(folder / f"rank{rank}_seed{seed}.{'nc' if rank == 1 else 'zarr'}")
    return folder


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_values_are_read_when_they_are_computed_with(tree, suffix, tmp_path):
    path = save_results(tree, tmp_path / f"run{suffix}")
    with open_results(path) as lazy:
        weight = lazy["layers/layer1/weight"]
        assert weight.chunks is not None and lazy["training/loss"].chunks is not None
        np.testing.assert_array_equal(weight[-1].values, tree["layers/layer1/weight"][-1].values)
        assert lazy.load().identical(tree)
    assert open_results(path, lazy=False)["training/loss"].chunks is None


def test_a_zipped_store_opens(tree, tmp_path):
    store = save_results(tree, tmp_path / "run.zarr")
    path = shutil.make_archive(str(tmp_path / "run"), "zip", store)
    assert open_results(path).load().identical(tree)
    with pytest.raises(ValueError, match=r"run\.zip' is damaged or not a Zarr store"):
        (tmp_path / "run.zip").write_bytes(b"PK no zip at all")
        open_results(path)


@pytest.mark.parametrize("lazy", [True, False])
def test_many_runs_are_one_dataset_along_their_settings(runs, lazy):
    found = open_results(f"{runs}/*", lazy=lazy)
    assert (found.loss.chunks is not None) == lazy
    assert dict(found.sizes) == {"rank": 2, "seed": 2, "step": 35, "evaluation_step": 1}
    for rank, seed in itertools.product((1, 4), (0, 1)):
        loss = found.loss.sel(rank=rank, seed=seed).values
        if (rank, seed) == (4, 1):
            assert np.isnan(loss).all()
            continue
        (path,) = runs.glob(f"rank{rank}_seed{seed}.*")
        one = open_results(path)["training"]
        np.testing.assert_array_equal(loss[: one.sizes["step"]], one.loss.values)
        assert np.isnan(loss[one.sizes["step"] :]).all()
        at = found.sel(rank=rank, seed=seed)
        np.testing.assert_array_equal(at.test_accuracy, one.test_accuracy)
        assert at.rank_used.max() == rank
    assert found.loss.attrs["units"] == "1" and found.attrs["schema_version"] == 3
    assert "settings" not in found.attrs


def test_a_list_and_a_group(runs):
    paths = sorted(runs.glob("*_seed0.*"))
    layer = open_results(paths, group="layers/layer1")
    assert layer.sizes["rank"] == 2 and "seed" not in layer.dims
    one = open_results(runs / "rank4_seed0.zarr")["layers/layer1"].to_dataset()
    np.testing.assert_array_equal(layer.weight.sel(rank=4), one.weight)
    np.testing.assert_array_equal(layer.step, one.step)  # the same in both
    with pytest.raises(ValueError, match="has no group 'layers/fc' of a run"):
        open_results(paths, group="layers/fc")


def test_runs_with_equal_settings_stand_in_a_line(runs):
    path = str(runs / "rank1_seed0.nc")
    found = open_results([path, path])
    assert found.run.values.tolist() == [path, path]
    np.testing.assert_array_equal(found.loss[0], found.loss[1])


def test_settings_that_are_words_lists_or_unset_are_places_too(tmp_path):
    for i, (hidden, levels) in enumerate([([4], None), ([4, 4], 32)]):
        run = Experiment(hidden=hidden, device="EpiRAM", levels=levels)
        run.step()
        run.save(tmp_path / f"{i}.nc")
    found = open_results(f"{tmp_path}/*.nc")
    assert sorted(found.hidden.values.tolist()) == ["[4, 4]", "[4]"]
    assert sorted(found.levels.values.tolist()) == ["32", "None"]
    assert np.isfinite(found.sel(hidden="[4]", levels="None").loss).all()


def test_no_run_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\*\.nc': no file matches"):
        open_results(f"{tmp_path}/*.nc")
    with pytest.raises(ValueError, match="source must name at least one run; got none"):
        open_results([])
    with pytest.raises(FileNotFoundError, match=r"gone\.nc': no such file"):
        open_results([tmp_path / "gone.nc"])


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop_vars("loss"), "/training has no loss"),
        (lambda t: t.assign(loss=t["rank"].astype(str)), "/training/loss is .*; expected: float64"),
        (lambda t: t.assign(loss=t.test_loss), r"\('evaluation_step',\); expected: float64 over"),
    ],
)
def test_what_the_schema_does_not_declare_is_refused(tree, tmp_path, suffix, spoil, message):
    spoilt = tree.copy()
    spoilt["training"] = xr.DataTree(spoil(tree["training"].to_dataset()))
    path = save_results(spoilt, tmp_path / f"run{suffix}")
    with pytest.raises(ValueError, match=f"is damaged: .*{message}"):
        open_results(path)


def test_what_grows_opens_in_plain_xarray_without_a_warning(tmp_path):
    run = Experiment(hidden=[4], device="EpiRAM", record_every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with run.stream(tmp_path / "run.zarr"):
            run.step()
        with xr.open_datatree(tmp_path / "run.zarr") as tree:
            assert tree["training"].sizes["step"] == 1
        with xr.open_dataset(tmp_path / "run.zarr", group="layers/layer1") as layer:
            assert layer["conductance"].attrs["units"] == "S"
        open_results(tmp_path / "run.zarr").load()


@pytest.mark.parametrize(
    ("version", "suffix", "lazy"),
    [(1, ".nc", True), (1, ".zarr", False), (2, ".nc", False), (2, ".zarr", True)],
)
def test_files_of_earlier_versions_open_as_todays(tmp_path, version, suffix, lazy):
    """A file written by version 1 had its steps beside the dims "record" and "evaluation"."""
    with xr.open_datatree(EARLIER) as raw:
        raw = raw.load()
    assert raw["layers/layer1"].sizes["record"] and raw["training"].sizes["evaluation"]
    raw.attrs["schema_version"] = version
    path = tmp_path / f"earlier{suffix}"
    raw.to_netcdf(path, engine="h5netcdf") if suffix == ".nc" else raw.to_zarr(path)
    with open_results(path, lazy=lazy) as found:
        assert found.attrs["schema_version"] == 3
        old, layer = raw["layers/layer1"], found["layers/layer1"]
        step = int(old.step[2])
        np.testing.assert_array_equal(layer.sel(step=step).sigma, old.isel(record=2).sigma)
        done = int(raw["training"].evaluation_step[-1])
        accuracy = found["training"].sel(evaluation_step=done).test_accuracy
        assert accuracy == raw["training"].test_accuracy[-1]
        assert set(layer.variables) == set(old.variables)


def test_runs_of_an_earlier_version_stand_beside_todays(tmp_path):
    """Knobs that only one of them has are no axis."""
    run = Experiment(dataset="gaussians", hidden=[2], device="EpiRAM", record_every=20, rank=1)
    for _ in run.steps(epochs=2):
        pass
    found = open_results([EARLIER, run.save(tmp_path / "new.nc")])
    assert found["rank"].values.tolist() == [1, 2] and "passes" not in found.coords
    assert np.isfinite(found.test_accuracy).all()


def test_what_is_no_path_among_paths_is_refused(tmp_path):
    with pytest.raises(TypeError, match="source must be a path or paths; got 3"):
        open_results([tmp_path / "run.nc", 3])
