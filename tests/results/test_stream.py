"""A run written while it goes: the same as what it records, and whole whenever it is killed."""

import os
import random
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from numcodecs import blosc

from toolkit.results import open_results, stream, zarr_files
from toolkit.results.stream import Stream
from toolkit.training import DivergenceError, Experiment
from toolkit.training.experiment import recorder

SMALL = {"hidden": [8], "record_every": 3, "device": "Ag:a-Si"}


def streamed(path, **knobs) -> Experiment:
    """Digital at first, then on cells, with more records than a chunk has rows."""
    run = Experiment(**SMALL | {"device": "digital"} | knobs)
    with run.stream(path):
        for record in run.steps(epochs=3):
            if record.step == 20:
                run.change(device="Ag:a-Si", rank=2)
    return run


def weights_of(layer: xr.Dataset) -> xr.DataArray:
    pair = layer["conductance"].astype(float)
    plus, minus = pair.sel(polarity="plus"), pair.sel(polarity="minus")
    return (plus - minus) / (layer["g_max"] - layer["g_min"])


def test_a_streamed_run_is_the_run(tmp_path):
    run = streamed(tmp_path / "run.zarr")
    tree, wanted = xr.open_datatree(tmp_path / "run.zarr").load(), run.results()
    assert tree.attrs == wanted.attrs | {"complete": 1}
    assert set(tree.groups) == set(wanted.groups)
    assert wanted["layers/layer1"].sizes["step"] > stream.MOST_ROWS[4]
    for node in wanted.subtree:
        mine, other = node.to_dataset(), tree[node.path].to_dataset()
        assert set(other.coords) == set(mine.coords)
        for name, variable in mine.variables.items():
            if name != "weight":
                assert variable.identical(other.variables[name]), f"{node.path}/{name}"
                assert variable.dtype == other.variables[name].dtype


def test_weights_follow_from_conductances_and_are_stored_where_there_are_none(tmp_path):
    run = streamed(tmp_path / "run.zarr")
    for name in ("layer1", "layer2"):
        layer = open_results(tmp_path / "run.zarr")[f"layers/{name}"].to_dataset()
        wanted = run.results()[f"layers/{name}/weight"].values
        digital = layer["step"].values <= 20
        np.testing.assert_array_equal(layer["weight"].values[digital], wanted[digital])
        assert np.isnan(layer["weight"].values[~digital]).all()
        np.testing.assert_allclose(weights_of(layer)[~digital], wanted[~digital], atol=2e-6)


def test_a_stream_keeps_what_a_run_drops(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_RECORDS", 4)
    monkeypatch.setattr(recorder, "MAX_STEPS", 10)
    run = streamed(tmp_path / "run.zarr")
    tree = open_results(tmp_path / "run.zarr")
    assert tree["training/step"].values.tolist() == [*range(1, 65)]
    assert tree["layers/layer1/step"].values.tolist() == [*range(1, 65, 3)]
    left = Experiment(**SMALL | {"device": "digital"})
    for record in left.steps(epochs=3):
        if record.step == 20:
            left.change(device="Ag:a-Si", rank=2)
    xr.testing.assert_identical(
        run.results()["layers/layer1"].ds, left.results()["layers/layer1"].ds
    )


def test_a_stream_that_begins_late_has_what_was_before(tmp_path):
    late, whole = Experiment(**SMALL), Experiment(**SMALL)
    with whole.stream(tmp_path / "whole.zarr"):
        for step in range(20):
            whole.step(), late.step()
            if step == 10:
                whole.rank = late.rank = 2
                late.results()  # a provisional record, which the stream leaves out
                continued = late.stream(tmp_path / "late.zarr")
                continued.__enter__()
        continued.__exit__(None, None, None)
    ends = [open_results(tmp_path / f"{name}.zarr") for name in ("whole", "late")]
    for node in ends[0].subtree:
        xr.testing.assert_identical(node.to_dataset(), ends[1][node.path].to_dataset())


def test_the_present_state_comes_last_and_later_steps_are_not_written(tmp_path):
    run = Experiment(**SMALL)
    with run.stream(tmp_path / "run.zarr"):
        for _ in range(5):
            run.step()
        assert open_results(tmp_path / "run.zarr").attrs["complete"] == 0
    run.step()
    tree = open_results(tmp_path / "run.zarr")
    assert tree["training"].sizes["step"] == 5
    assert tree["layers/layer1/step"].values.tolist() == [1, 4, 5]


def test_zarr_finds_the_same_without_the_roots_metadata(tmp_path):
    streamed(tmp_path / "run.zarr")
    tree = xr.open_datatree(tmp_path / "run.zarr")
    with xr.open_datatree(tmp_path / "run.zarr", engine="zarr", consolidated=False) as bare:
        assert bare.identical(tree)
    group = zarr.open_group(tmp_path / "run.zarr", mode="r")
    conductance = group["layers/layer1/conductance"]
    assert conductance.shape == tree["layers/layer1/conductance"].shape
    np.testing.assert_array_equal(conductance[:], tree["layers/layer1/conductance"].values)


def test_chunks_that_still_fill_are_compressed_quickly_and_others_well(tmp_path):
    def compressors():
        chunks = (tmp_path / "run.zarr/layers/layer1/conductance/c").glob("*/0/0/0")
        return {int(c.parts[-4]): blosc.cbuffer_complib(c.read_bytes()) for c in chunks}

    run = Experiment(**SMALL)
    with run.stream(tmp_path / "run.zarr"):
        for _ in range(3 * stream.MOST_ROWS[4] + 10):
            run.step()
        assert compressors() == {0: "Zstd", 1: "LZ4"}
    assert compressors() == {0: "Zstd", 1: "Zstd"}


@pytest.mark.parametrize("bits", [1, 8, 13, 14, 23])
def test_conductances_may_be_rounded(tmp_path, bits):
    run = Experiment(**SMALL)
    with run.stream(tmp_path / "run.zarr", conductance_bits=bits):
        for _ in range(9):
            run.step()
    wanted = run.results()["layers/layer1/conductance"].values.astype(float)
    kept = open_results(tmp_path / "run.zarr")["layers/layer1/conductance"].values.astype(float)
    error = np.abs(kept / wanted - 1).max()
    assert error <= 2.0 ** -(bits + 1) * (1 + 1e-6)
    assert error > 2.0 ** -(bits + 2) or bits == 23
    mantissas = np.frexp(kept)[0] * 2 ** (bits + 1)
    np.testing.assert_array_equal(mantissas, np.round(mantissas))


@pytest.mark.parametrize(
    ("name", "message"),
    [("run.nc", "must end in .zarr"), ("photos.zarr", "not changed"), ("no/run.zarr", "folder")],
)
def test_impossible_paths_are_refused(tmp_path, name, message):
    (tmp_path / "photos.zarr").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Experiment().stream(tmp_path / name).__enter__()


def test_an_older_run_at_the_place_is_replaced(tmp_path):
    for steps in (9, 2):
        run = Experiment(**SMALL)
        with run.stream(tmp_path / "run.zarr"):
            for _ in range(steps):
                run.step()
    assert open_results(tmp_path / "run.zarr")["training"].sizes["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_a_run_that_ends_in_an_error_leaves_what_it_recorded(tmp_path):
    run = Experiment(**SMALL)
    with pytest.raises(DivergenceError), run.stream(tmp_path / "run.zarr"):
        for _ in range(5):
            run.step()
        raise DivergenceError
    tree = open_results(tmp_path / "run.zarr")
    assert tree["training"].sizes["step"] == 5 and tree.attrs["complete"] == 1


# --- killed -------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here: nothing that it would have written comes."""


def check_whole(path: Path, done: int, reference: xr.DataTree, every: int = 3) -> int:
    """The store opens and holds all layer records up to step ``done``; returns its steps."""
    tree = open_results(path, lazy=False)
    steps = tree["training"].sizes["step"]
    last = (max(done, 1) - 1) // every * every + 1 if done else 0
    assert steps >= last
    assert tree["training/step"].values.tolist() == [*range(1, steps + 1)]
    for name in ("loss", "pulses"):
        wanted = reference[f"training/{name}"].values[:steps]
        np.testing.assert_array_equal(tree[f"training/{name}"].values, wanted)
    for node in tree["layers"].children.values():
        held = reference[node.path].to_dataset().isel(step=slice(node.sizes["step"]))
        assert node.sizes["step"] >= (last + every - 1) // every
        for variable in node.variables:
            np.testing.assert_array_equal(node[variable].values, held[variable].values)
    return steps


def test_killed_before_any_single_write_it_is_whole(tmp_path, monkeypatch):
    reference = Experiment(**SMALL)
    for _ in range(8):
        reference.step()
    reference, left, writes, done = reference.results(), iter(range(0)), 0, 0

    def counted(whole):
        def write(*given):
            nonlocal writes
            writes += 1
            if next(left, None) is None:
                raise Killed
            whole(*given)

        return write

    # the lock of a process that is killed goes with it
    monkeypatch.setattr(stream, "locked", lambda _: nullcontext())
    for module, name in [(stream, "replace"), (zarr_files, "replace"), (stream, "overwrite")]:
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    for survives in range(70, 270, 24):  # the first 70 make the store
        run, left, done = Experiment(**SMALL), iter(range(survives)), 0
        try:
            made = Stream(tmp_path / "a.zarr", layers=list(run.arrays), attributes=run._attributes)
            run.record.stream_to(made)
            for done in range(8):  # noqa: B007
                run.step()
        except Killed:
            pass
        check_whole(tmp_path / "a.zarr", done, reference)
    assert writes > 200 and done > 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a training process")
def test_a_killed_process_leaves_a_whole_store_10_times(tmp_path):
    """Children are forked from one process that has imported everything."""
    code = """
        import os, sys
        from toolkit.training import Experiment
        Experiment(hidden=[8]).step()
        for line in sys.stdin:
            child = os.fork()
            if not child:
                run = Experiment(hidden=[8], record_every=3, device="Ag:a-Si")
                with run.stream(line.strip()):
                    while True:
                        run.step()
                        os.write(1, b"%d\\n" % run.step_count)
            os.write(1, b"pid %d\\n" % child)
            os.waitpid(child, 0)
            os.write(1, b"dead\\n")
    """
    reference = Experiment(**SMALL)
    for _ in range(120):
        reference.step()
    reference, found = reference.results(), set()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forks:
        for i in range(10):
            store = tmp_path / f"{i}.zarr"
            found.add(check_whole(store, kill_at(forks, store, 1 + 4 * i), reference))
        forks.stdin.close()
    assert len(found) >= 5


def kill_at(forks: subprocess.Popen, store: Path, step: int) -> int:
    """Kill a new child a random moment after that step; the last step that it told of."""
    forks.stdin.write(f"{store}\n")
    forks.stdin.flush()
    child = done = 0
    for line in forks.stdout:
        if line.startswith("pid"):
            child = int(line.split()[1])
        elif line.startswith("dead"):
            return done
        else:
            done = int(line)
        if child and done >= step:
            while random.random() > 0.001:  # a moment that nobody chose
                pass
            os.kill(child, signal.SIGKILL)
            step = sys.maxsize
    raise AssertionError("the process that forks is gone")
