"""Sweeps: what is run, what is stored, and what is left when a worker or the client is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from distributed import Client, KilledWorker, LocalCluster

from toolkit.cli import main
from toolkit.results import open_results, to_bytes
from toolkit.training import Experiment, read_plan, sweep
from toolkit.training.experiment import sweep as sweeps
from toolkit.training.experiment.sweep import plan_of

ROOT = Path(__file__).parents[2]
GRID = {"method": ["sbpca", "svd"], "rank": [1, 10], "hidden": [8], "batch_size": 256}
SLOW = {"method": ["sbpca", "svd"], "rank": [1, 2, 3], "hidden": [8], "batch_size": 16}


@pytest.fixture(scope="module")
def here():
    """A scheduler whose workers are threads of this process: quick to start."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def swept(here):
    return sweep(GRID, seeds=2, epochs=2, scheduler=here, progress=False)


def put_files(store: Path) -> dict[Path, int]:
    """Every chunk of ``status`` with the time of its last change."""
    return {p: p.stat().st_mtime_ns for p in (store / "status" / "c").rglob("*") if p.is_file()}


# --- plans --------------------------------------------------------------------------------------


def test_a_list_is_an_axis_and_a_value_is_fixed():
    plan = plan_of({"rank": (1, 4), "hidden": [64], "device": "EpiRAM"}, seeds=[3, 5], epochs=2)
    assert plan.axes == {"rank": [1, 4], "seed": [3, 5]}
    runs = dict(plan.runs())
    assert list(runs) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert runs[1, 0] == {"rank": 4, "seed": 3, "hidden": [64], "device": "EpiRAM"}
    assert plan_of({"hidden": [[8], [8, 4]]}).axes["hidden"] == [[8], [8, 4]]
    assert plan_of({"rank": np.arange(1, 3)}).axes["rank"] == [1, 2]


@pytest.mark.parametrize(
    ("grid", "extra", "message"),
    [
        ({"ranks": [1]}, {}, "grid must have knobs of dataset, .*; got 'ranks'"),
        ({"seed": [1]}, {}, "grid must have knobs of .*; got 'seed'"),
        ({"rank": [1, 0]}, {}, "rank must be a whole number, 1 to 512; got 0"),
        ({"rank": []}, {}, r"rank must have at least one value and no repeats; got \[\]"),
        ({"rank": [2, 2]}, {}, r"no repeats; got \[2, 2\]"),
        ({"method": "best"}, {}, "method must be one of"),
        ({"hidden": [[8], 8]}, {}, "hidden must be a list of widths"),
        ({}, {"epochs": 0}, "epochs must be between 1 and 100000; got 0"),
        ({}, {"seeds": 0}, "seeds must be a whole number, 1 to 100000, or a list"),
        ({}, {"seeds": "all"}, "seeds must be a whole number"),
        ({}, {"seeds": [-1]}, "seed must be a whole number"),
    ],
)
def test_a_bad_plan_is_refused(grid, extra, message):
    with pytest.raises(ValueError, match=message):
        plan_of(grid, **extra)


def test_objects_are_refused():
    from toolkit.crossbar import get_device

    with pytest.raises(ValueError, match="device must be given by name in a sweep"):
        plan_of({"device": [get_device("EpiRAM")]})


def test_a_plan_is_read_from_yaml(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("grid:\n  rank: [1, 4]\n  device: EpiRAM\nseeds: 3\nepochs: 2\n")
    wanted = plan_of({"rank": [1, 4], "device": "EpiRAM"}, seeds=3, epochs=2)
    assert read_plan(path) == wanted
    for text, message in (
        ("rank: [1]", "must hold 'grid:'"),
        ("grid: {rank: [1]}\nepoch: 3", "has 'epoch'; allowed: grid, seeds and epochs"),
        ("grid: [", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_plan(path)
    with pytest.raises(FileNotFoundError):
        read_plan(tmp_path / "none.yaml")


# --- results ------------------------------------------------------------------------------------


def test_every_place_has_its_run(swept):
    assert swept.sizes == {"method": 2, "rank": 2, "seed": 2, "epoch": 2}
    run = Experiment(method="svd", rank=1, hidden=[8], batch_size=256, seed=1)
    records = list(run.steps(epochs=2))
    found = swept.sel({"method": "svd", "rank": 1, "seed": 1})
    np.testing.assert_array_equal(found["test_accuracy"], run.record.evaluations[:, 2])
    np.testing.assert_array_equal(found["test_loss"], run.record.evaluations[:, 1])
    np.testing.assert_array_equal(found["steps"], run.record.evaluations[:, 0])
    first = int(found["steps"][0])
    assert float(found["loss"][0]) == pytest.approx(np.mean([r.loss for r in records[:first]]))
    assert float(found["accuracy"][1]) == pytest.approx(
        np.mean([r.accuracy for r in records[first:]])
    )
    assert found["samples_seen"].values.tolist() == [
        records[first - 1].samples_seen,
        run.samples_seen,
    ]


def test_a_run_that_fails_says_why_and_the_others_go_on(swept):
    failed = swept.sel(rank=10)
    assert (failed["status"] == 2).all() and failed["test_loss"].isnull().all()
    assert all("rank=10 is above min(m, n)" in text for text in failed["error"].values.ravel())
    done = swept.sel(rank=1)
    assert (done["status"] == 1).all() and (done["error"] == "").all()
    assert done["test_accuracy"].notnull().all()


def test_it_is_labelled_and_opens_anywhere(here, tmp_path, swept):
    stored = sweep(GRID, seeds=2, epochs=2, scheduler=here, out=tmp_path / "s.zarr", progress=False)
    for opened in (
        xr.open_zarr(tmp_path / "s.zarr"),
        xr.open_dataset(tmp_path / "s.zarr"),
        open_results(tmp_path / "s.zarr").to_dataset(),
    ):
        xr.testing.assert_identical(opened.load(), stored)
    xr.testing.assert_equal(stored, swept)
    assert all(v.attrs["long_name"] for v in stored.variables.values())
    assert stored["test_loss"].attrs["units"] == "1"
    assert json.loads(stored.attrs["settings"]) == {"hidden": [8], "batch_size": 256}
    (tmp_path / "s.nc").write_bytes(to_bytes(xr.DataTree(stored)))
    xr.testing.assert_identical(xr.open_dataset(tmp_path / "s.nc").load(), stored)


def test_a_finished_sweep_is_not_run_again(here, tmp_path, monkeypatch):
    grid, out = {"hidden": [4]}, tmp_path / "s.zarr"
    first = sweep(grid, out=out, scheduler=here, progress=False)
    before = put_files(out)
    monkeypatch.setattr(sweeps, "_run_all", None)
    xr.testing.assert_identical(sweep(grid, out=out, progress=False), first)
    assert put_files(out) == before and len(before) == 1


def test_what_is_missing_is_run_and_nothing_else(here, tmp_path):
    grid, out = {"hidden": [4], "rank": [1, 2]}, tmp_path / "s.zarr"
    whole = sweep(grid, seeds=2, out=out, scheduler=here, progress=False)
    before = put_files(out)
    gone = next(iter(before))
    gone.unlink()
    again = sweep(grid, seeds=2, out=out, scheduler=here, progress=False)
    xr.testing.assert_identical(again, whole)
    changed = {path for path, time in put_files(out).items() if before[path] != time}
    assert changed == {gone}


def test_another_sweep_is_not_overwritten(here, tmp_path):
    sweep({"hidden": [4]}, out=tmp_path / "s.zarr", scheduler=here, progress=False)
    with pytest.raises(ValueError, match="holds another sweep; use another path"):
        sweep({"hidden": [5]}, out=tmp_path / "s.zarr", scheduler=here, progress=False)
    xr.Dataset({"x": 1}).to_zarr(tmp_path / "x.zarr", zarr_format=3)
    with pytest.raises(ValueError, match="holds no sweep"):
        sweep({"hidden": [5]}, out=tmp_path / "x.zarr", scheduler=here, progress=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "s.nc"}, ValueError, "must end in .zarr"),
        ({"out": "nowhere/s.zarr"}, FileNotFoundError, "folder"),
    ],
)
def test_bad_options_are_refused(tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        sweep({"hidden": [4]}, **options, progress=False)


# --- killed -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(here):
    return sweep(SLOW, seeds=2, epochs=3, scheduler=here, progress=False)


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_processes_give_the_same_bits_even_if_one_is_killed(tmp_path, reference):
    """The workers of the reference are threads of this process; here one of two is shot."""
    out, found = tmp_path / "s.zarr", []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        client.run(__import__, "toolkit.training")

        def run():
            address = cluster.scheduler_address
            found.append(sweep(SLOW, seeds=2, epochs=3, out=out, scheduler=address, progress=False))

        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: len(put_files(out)) >= 2)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        assert len(put_files(out)) < 11, "it was over before the worker died"
        thread.join(120)
    xr.testing.assert_equal(found[0], reference)


def test_a_killed_client_goes_on_where_it_stood(tmp_path, reference, here):
    plan, out = tmp_path / "sweep.yaml", tmp_path / "s.zarr"
    plan.write_text(json.dumps({"grid": SLOW, "seeds": 2, "epochs": 3}))
    command = [sys.executable, "-m", "toolkit", "sweep", plan, "--out", out, "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as client:
        wait_for(lambda: len(put_files(out)) >= 2)
        client.kill()
    held = put_files(out)
    assert 2 <= len(held) < 12
    left = xr.open_zarr(out).load()
    assert (left["status"] == 1).sum() == len(held)
    held_loss = left["test_loss"].where(left["status"] == 1)
    xr.testing.assert_equal(held_loss, reference["test_loss"].where(left["status"] == 1))
    again = sweep(read_plan(plan), out=out, scheduler=here, progress=False)
    xr.testing.assert_equal(again, reference)
    after = put_files(out)
    assert len(after) == 12 and all(after[path] == changed for path, changed in held.items())


def test_a_lost_scheduler_is_said(monkeypatch):
    monkeypatch.setattr(sweeps, "CONNECT_S", 1)
    with pytest.raises(OSError, match=r"Timed out|connect"):
        sweep({"hidden": [4]}, scheduler="tcp://127.0.0.1:9", progress=False)


class Ended:
    """A future that has come to an end without a result."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def cancelled(self) -> bool:
        return self._error is None

    def result(self) -> None:
        assert self._error is not None
        raise self._error


def test_runs_whose_workers_die_again_and_again_are_recorded_and_a_lost_scheduler_ends_it():
    killed = KilledWorker("run", SimpleNamespace(address="tcp://w"), 3)
    assert sweeps._row_of(Ended(killed))["error"].startswith("KilledWorker: ")
    with pytest.raises(ConnectionError, match="Start the sweep again to continue"):
        sweeps._row_of(Ended(None))


def test_the_command_sums_up_and_answers_bad_plans_in_one_line(here, tmp_path, capsys):
    plan, out = tmp_path / "sweep.yaml", tmp_path / "s.zarr"
    plan.write_text("grid: {hidden: [4], rank: [1, 99]}\nseeds: [7]\n")
    command = ["sweep", str(plan), "--out", str(out), "--scheduler", here]
    assert main(command) == 0
    said = capsys.readouterr()
    assert f"2 runs, 1 of them failed; saved {out}" in said.out
    assert "failed: ValueError: rank=99 is above min(m, n)" in said.err
    assert xr.open_zarr(out)["seed"].values.tolist() == [7]
    plan.write_text("grid: {hidden: [4], rank: [99]}")
    assert main([*command[:3], str(tmp_path / "t.zarr"), *command[4:]]) == 1
    capsys.readouterr()
    for text, message in (("grid: {ranks: 1}", "got 'ranks'"), ("x", "must hold 'grid:'")):
        plan.write_text(text)
        assert main(command) == 2
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1
