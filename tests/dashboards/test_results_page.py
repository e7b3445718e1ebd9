"""The Results page without a browser: reading what is not trusted, showing, comparing, keeping."""

import asyncio
import json
import os
import shutil
import zipfile
from html import unescape
from io import BytesIO, StringIO
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import panel as pn
import pytest
import xarray as xr
from distributed import LocalCluster

from dashboards.results import run_files
from dashboards.results.page import MOST_RUNS, Results, about_html, examples
from dashboards.results.run_files import read_run
from dashboards.results.run_tables import differences, events_table, settings_table
from dashboards.results.saved import saved_runs
from tests.dashboards.driving import beside
from tests.processes import ROOT
from toolkit.results import open_results, to_bytes
from toolkit.results.files import save_results
from toolkit.training import Experiment, sweep


@pytest.fixture(scope="module")
def runs():
    return examples()


@pytest.fixture(scope="module")
def tree(runs):
    return next(iter(runs.values()))


@pytest.fixture
def opened():
    made = Results()
    made.view()
    made.open_examples()
    return made


def zipped(files: dict[str, bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def store_of(tree: xr.DataTree, folder) -> dict[str, bytes]:
    path = save_results(tree, folder / "run.zarr")
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "run.zarr/", "deep/in/run.zarr/"])
def test_a_run_comes_back_from_netcdf_and_from_a_zipped_store(tree, tmp_path, folder):
    assert read_run(to_bytes(tree)).identical(tree)
    files = store_of(tree, tmp_path)
    again = read_run(zipped({folder + name: data for name, data in files.items()}))
    assert again.identical(tree)


def test_a_name_in_a_zip_cannot_lead_out_of_it(tree, tmp_path):
    files = store_of(tree, tmp_path)
    for bad in ("../outside", "a/../../outside", "/etc/outside", "C:\\outside", "..\\outside"):
        with pytest.raises(ValueError, match="names that lead outside it"):
            read_run(zipped(files | {bad: b"x"}))
    assert not list(tmp_path.parent.glob("**/outside"))


def test_a_zip_that_unpacks_to_too_much_is_refused_unread(tree, tmp_path, monkeypatch):
    files = store_of(tree, tmp_path)
    bomb = zipped(files | {"bomb": b"\0" * 30_000_000})
    monkeypatch.setattr(run_files, "MOST_UNPACKED", 20_000_000)
    assert len(bomb) < 2_000_000
    with pytest.raises(ValueError, match="too large when unpacked"):
        read_run(bomb)


def test_a_run_that_is_larger_than_its_file_is_refused_before_it_is_read(monkeypatch):
    big = xr.DataTree(xr.Dataset({"x": ("n", np.zeros(4_000_000))}, attrs={"schema_version": 1}))
    data = to_bytes(big)  # compressed
    assert len(data) < 200_000
    monkeypatch.setattr(run_files, "MOST_UNPACKED", 20_000_000)
    with pytest.raises(ValueError, match=r"chunks that are too large|holds more than"):
        read_run(data)


def test_programs_in_a_store_are_refused(tree, tmp_path):
    files = store_of(tree, tmp_path)
    with pytest.raises(ValueError, match="Zarr format 2 is not read"):
        read_run(zipped(files | {"x/.zarray": b'{"filters": [{"id": "pickle"}]}'}))
    name = next(name for name in files if name.endswith("loss/zarr.json"))
    metadata = json.loads(files[name])
    metadata["codecs"] = [{"name": "numcodecs.pickle"}]
    with pytest.raises(ValueError, match="codec that is not allowed"):
        read_run(zipped(files | {name: json.dumps(metadata).encode()}))


def test_a_netcdf_file_that_names_other_files_is_refused(tree, tmp_path):
    path = tmp_path / "bad.nc"
    path.write_bytes(to_bytes(tree))
    with h5py.File(path, "a") as file:
        file["training"]["stolen"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
    with pytest.raises(ValueError, match="links, which are not followed"):
        read_run(path.read_bytes())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither a netCDF file nor a zipped Zarr store"),
        (b"CDF\x01 an old one", "neither a netCDF file nor a zipped Zarr store"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "damaged or not a netCDF file"),
        (b"PK\x03\x04" + b"\0" * 100, "the zip file is damaged"),
        (zipped({"readme.txt": b"x"}), "no Zarr store"),
    ],
)
def test_what_is_no_run_is_one_message(data, message):
    page = Results()
    beside(page.load([("<i>x</i>/../../etc/passwd.nc", data)]))
    assert message in unescape(page.notice.object) and "<i>" not in page.notice.object
    assert not page.runs


def test_a_file_that_is_no_run_of_ours_is_refused():
    other = xr.DataTree(xr.Dataset({"x": ("n", np.zeros(3))}))
    with pytest.raises(ValueError, match="no schema_version"):
        read_run(to_bytes(other))


# --- the page -----------------------------------------------------------------------------------


def test_runs_are_opened_under_plain_names_and_no_more_than_fit(tree):
    page = Results()
    page.view()
    beside(page.load([("../a<b>.nc", to_bytes(tree))] * (MOST_RUNS + 1)))
    assert list(page.runs)[:2] == ["..ab", "..ab (2)"]
    assert len(page.runs) == MOST_RUNS
    assert "close one first" in page.notice.object
    page.close("..ab")
    assert page.pick.value == "..ab (2)" and "..ab" not in page.pick.options


def test_an_upload_says_how_far_it_is_and_success_only_once_it_is_open(tree):
    page, data = Results("tab=compare"), to_bytes(tree)
    heard = []
    page._progress.param.watch(lambda event: heard.append(event.new), "object")
    page.upload.filename = ["a.nc", "b.nc"]

    def arrive(name, part, chunk):
        told = {"name": name, "chunk": chunk, "total_chunks": 2, "mime_type": ""}
        page.upload._process_chunk({**told, "data": part})

    for chunk in (1, 2):
        arrive("a.nc", data[:100], chunk)
    assert "Receiving a.nc: 50%" in heard[0] and "Receiving a.nc: 100%" in heard[1]

    async def upload():
        page.upload.value = [data, b"no run"]
        while not page.runs:
            await asyncio.sleep(0.01)

    beside(asyncio.wait_for(upload(), 60))
    assert [text.count("Opened") for text in heard] == [0] * (len(heard) - 1) + [1]
    assert "Reading a.nc" in heard[2] and "Reading b.nc" in heard[3] and "Opened a." in heard[4]
    assert page.pick.value == "a" and "b.nc: this is neither" in unescape(page.notice.object)
    assert not page.upload.loading


def test_runs_that_are_too_large_together_are_refused(tree, monkeypatch):
    page = Results()
    page.view()
    monkeypatch.setattr("dashboards.results.page.MOST_TOGETHER", int(1.5 * run_files.size_of(tree)))
    beside(page.load([("a.nc", to_bytes(tree)), ("b.nc", to_bytes(tree))]))
    assert list(page.runs) == ["a"] and "too large with the open" in page.notice.object


def test_a_sweep_is_a_dataset_whose_dims_have_sliders():
    accuracy = np.arange(12.0).reshape(2, 3, 2) / 12
    sweep = xr.Dataset(
        {"test_accuracy": (("method", "rank", "seed"), accuracy, {"units": "1"})},
        coords={"method": ["sbpca", "svd"], "rank": [1, 2, 8], "seed": [0, 1]},
        attrs={"schema_version": 1},
    )
    page = Results()
    page.view()
    beside(page.load([("sweep.nc", to_bytes(xr.DataTree(sweep)))]))
    assert page.explorer.path == "/test_accuracy"
    page.explorer.as_.value = "rank"
    page.explorer._places["method"].value = 1
    page.explorer._places["seed"].value = 1
    curve = page.explorer._pane.live.columns(0)
    np.testing.assert_array_equal(curve["x"], [1, 2, 8])
    np.testing.assert_allclose(curve["y"], accuracy[1, :, 1])
    assert list(page.explorer._places["method"].options) == ["sbpca (method 0)", "svd (method 1)"]


def test_a_stored_sweep_opens_and_so_does_a_streamed_run(tmp_path):
    with LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as here:
        found = sweep(
            {"method": ["sbpca", "svd"], "rank": [1, 99], "hidden": [4]},
            epochs=2,
            out=tmp_path / "sweep.zarr",
            scheduler=here.scheduler_address,
            progress=False,
        )
    run = Experiment(hidden=[4], device="EpiRAM", record_every=1)
    with run.stream(tmp_path / "run.zarr"):
        run.step()
    page = Results()
    page.view()
    files = [("sweep.nc", to_bytes(xr.DataTree(found)))]
    for name in ("sweep", "run"):
        store = shutil.make_archive(str(tmp_path / name), "zip", tmp_path / f"{name}.zarr")
        files.append((f"{name}.zip", Path(store).read_bytes()))
    beside(page.load(files))
    assert list(page.runs) == ["sweep", "sweep (2)", "run"], page.notice.object
    assert page.explorer.path == "/test_accuracy"
    page.explorer.as_.value = "epoch"
    page.explorer._places["method"].value = 1
    curve = page.explorer._pane.live.columns(0)
    np.testing.assert_allclose(curve["y"], found.test_accuracy[1, 0, 0])
    page.explorer.variable.value = "/error"
    page.explorer._places["rank"].value = 1
    assert "rank=99 is above min(m, n)" in unescape(page.explorer.text.object)
    page.pick.value = "run"
    assert page.explorer.path == "/training/loss"


def test_sliders_show_the_place_that_they_stand_at(opened, tree):
    explorer = opened.explorer
    explorer.group.value = "/layers/layer1"
    explorer.variable.value = "/layers/layer1/conductance"
    assert list(explorer._places) == ["step", "polarity"]
    explorer._places["step"].value = 1
    explorer._places["polarity"].value = 1
    expected = tree["layers/layer1/conductance"].isel(step=1, polarity=1).values
    image = explorer._pane.live.columns(0)["image"][0]
    np.testing.assert_allclose(image, 1e6 * expected, rtol=1e-6)
    frame = pd.read_csv(BytesIO(explorer._csv_file()))
    np.testing.assert_allclose(frame["conductance"], expected.ravel())
    assert set(frame["polarity"]) == {"minus"}
    whole = xr.load_dataset(BytesIO(explorer._netcdf_file()), engine="h5netcdf")
    xr.testing.assert_equal(whole["conductance"], tree["layers/layer1"].dataset["conductance"])


def test_a_view_of_other_dims_has_other_sliders(opened, tree):
    explorer = opened.explorer
    explorer.group.value = "/layers/layer2"
    explorer.variable.value = "/layers/layer2/weight"
    explorer.as_.value = "step"
    assert list(explorer._places) == ["output", "input"]
    explorer._places["input"].value = 5
    curve = explorer._pane.live.columns(0)
    layer = tree["layers/layer2"].dataset
    np.testing.assert_allclose(curve["y"], layer["weight"].isel(output=0, input=5))
    np.testing.assert_array_equal(curve["x"], layer["step"])
    explorer.as_.value = ""
    assert f"{float(layer['weight'][-1, 0, 5]):.6g}" in explorer.text.object


def test_another_run_is_shown_at_the_same_place(opened, runs):
    opened.explorer.group.value = "/layers/layer1"
    opened.explorer.variable.value = "/layers/layer1/weight"
    opened.explorer._places["step"].value = 2
    first, second = runs
    opened.pick.value = second
    assert opened.explorer.path == "/layers/layer1/weight"
    image = opened.explorer._pane.live.columns(0)["image"][0]
    np.testing.assert_allclose(image, runs[second]["layers/layer1/weight"][2], rtol=1e-6)
    assert first in opened.pick.options


def test_runs_are_compared_and_the_data_can_be_kept(opened, runs):
    opened.comparison.over.value = "pulses"
    left = opened.comparison._panes[0].live
    for number, tree in enumerate(runs.values()):
        training = tree["training"].dataset
        np.testing.assert_array_equal(left.columns(number)["x"], training["pulses"])
        np.testing.assert_allclose(left.columns(number)["y"], training["loss"])
    text = opened.comparison._csv_file().decode()
    frame = pd.read_csv(StringIO(text))
    sgd = frame[(frame["run"] == "example, SGD") & (frame["variable"] == "loss")]
    np.testing.assert_array_equal(sgd["value"], runs["example, SGD"]["training"].dataset["loss"])


def test_tables_say_what_was_set_what_changed_and_where_runs_differ(runs, tree):
    _, settings, _ = settings_table(tree)
    assert ["method", "sbpca", ""] in settings and ["batch_size", "64", "samples"] in settings
    assert events_table(tree)[1] == [[40, "rank", "1", "4"]]
    headers, rows, _ = differences(dict(runs))
    assert "Method" in headers and "Seed" not in headers
    assert [row[headers.index("Method")] for row in rows] == ["SBPCA", "SGD"]
    assert headers[-1] == "settings changed during the run"
    assert [row[-1] for row in rows] == ["Rank 1 to 4 after step 40", "none"]
    assert rows[0][1] == f"{tree['training'].sizes['step']:,}"
    assert "schema_version" in about_html(tree)
    bare = xr.DataTree(xr.Dataset(attrs={"settings": "<script>", "title": "<script>"}))
    assert "<script>" not in about_html(bare)


def test_the_whole_page_is_in_its_address(opened):
    opened.tabs.active = 1
    opened.explorer.group.value = "/layers/layer1"
    opened.explorer.variable.value = "/layers/layer1/conductance"
    opened.explorer._places["step"].value = 1
    opened.comparison.variables[1].value = "accuracy"
    opened.comparison.over.value = "samples_seen"
    opened.comparison.logs[1].value = opened.comparison.logs[2].value = True
    again = Results(opened.query())
    again.page()
    again.open_examples()
    assert again.query() == opened.query()
    assert again.explorer.places() == {"step": 1, "polarity": 0}
    assert again.comparison.variables[1].value == "accuracy"
    assert [log.value for log in again.comparison.logs] == [True, True, True]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("runs=/etc/passwd", "runs must be example; got '/etc/passwd'"),
        ("record=-1", "record must be a whole number"),
        ("record=" + "9" * 30, "record must be a whole number"),
        ("over=time", "over must be one of step, samples_seen, pulses"),
        ("log=both", "log must name left, right, below or none"),
        ("%3Cscript%3E=1", "'<script>' is not a setting of this page"),
    ],
)
def test_an_address_that_makes_no_sense_is_one_message(query, message):
    page = Results(query)
    assert message in unescape(page.notice.object) and "<script>" not in page.notice.object


def test_an_address_may_ask_for_what_the_run_does_not_have(runs):
    page = Results("variable=/layers/fc/weight&as=output,input&record=99999")
    page.view()
    page.open_examples()
    assert page.explorer.path == "/training/loss"
    assert "This run has no variable=/layers/fc/weight" in page.notice.object
    page.explorer.group.value = "/layers/layer1"
    page.explorer.variable.value = "/layers/layer1/weight"
    last = next(iter(runs.values()))["layers/layer1"].sizes["step"] - 1
    assert page.explorer.places() == {"step": last}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("variable=/training/loss&step=3", ""),
        ("variable=/layers/layer1/weight&step=0002&as=output,input", ""),
        ("variable=/layers/layer1/weight&step=99999", "no step=99999; the page shows step="),
        ("variable=/training/loss&as=output", "no as=output; the page shows as=step"),
        ("variable=/training/loss&banana=3", "no banana=3; the page shows what it has"),
        ("compare_left=<b>", "No open run has '<b>' to compare; 'loss' is shown"),
    ],
)
def test_what_an_address_asks_in_vain_is_said(query, said):
    page = Results(query)
    page.open_examples()
    shown = page.notice.object
    assert said in unescape(shown) and "<b>" not in shown if said else not shown


def test_a_variable_of_the_address_waits_for_a_run_that_has_it():
    page = Results("variable=/layers/layer3/weight&as=output,input&step=0")
    page.open_examples()
    assert page.explorer.path == "/training/loss"
    run = Experiment(dataset="gaussians", hidden=[3, 2], rank=1, record_every=1)
    run.step()
    page._receive([("deep.nc", run.results())])
    assert page.explorer.path == "/layers/layer3/weight"
    assert page.explorer.places() == {"step": 0}


def test_a_run_of_an_earlier_version_differs_only_in_what_both_have():
    old = open_results(ROOT / "tests" / "results" / "data" / "version2.nc", lazy=False)
    run = Experiment(dataset="gaussians", hidden=[2], rank=1, history=0.5)
    run.step()
    headers, _, _ = differences({"old": old, "new": run.results()})
    assert headers[5:] == ["Record every", "Rank", "History", "Device"]  # history was called past


def test_a_folder_of_runs_is_listed_newest_first_and_opens(tmp_path, monkeypatch):
    for place, (method, rank) in enumerate((("sgd", 1), ("sbpca", 3))):
        run = Experiment(hidden=[8], rank=rank, method=method)
        for _ in run.steps(epochs=1):
            pass
        path = tmp_path / f"rank{rank}.nc"
        run.save(path)
        os.utime(path, (place, place))
    (tmp_path / "notes.nc").write_text("no run")
    (tmp_path / "other.txt").write_text("no run either")
    (tmp_path / "link.nc").symlink_to(tmp_path / "rank1.nc")
    listed = list(saved_runs(tmp_path))
    assert [name.split(":")[0] for name in listed] == ["rank3.nc", "rank1.nc"]
    assert "SBPCA, rank 3, digital, " in listed[0] and listed[0].endswith("%")
    assert ": SGD, digital, " in listed[1]

    monkeypatch.setitem(pn.state.cache, "runs", tmp_path)
    page = Results()

    async def choose():
        page.saved.value = "rank1.nc"
        while page.saved.value:
            await asyncio.sleep(0.01)

    beside(asyncio.wait_for(choose(), 30))
    assert list(page.runs) == ["rank1"] and page.saved.value == ""
    for name in ("../rank1.nc", "notes.nc", "/etc/passwd"):
        beside(page._open_saved(name))  # what no list offers
    assert list(page.runs) == ["rank1"]


def test_without_a_folder_the_bare_page_opens_the_examples():
    assert Results()._examples_asked and Results("tab=compare")._examples_asked
    assert not Results().saved.visible
