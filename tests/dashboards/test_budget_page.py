"""The Budget page without a browser: what it shows, its address, and what visitors may send."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from dashboards.app import child
from dashboards.budget.networks import (
    layers_by_name,
    layers_of_query,
    layers_of_yaml,
    network_names,
    query_text,
    yaml_of,
)
from dashboards.budget.page import BARS, OWN, Budget, file_of
from dashboards.budget.report import layer_rows, sentence
from dashboards.playground import cost
from tests.dashboards.driving import beside
from toolkit.budget import Chip, Layer, compare, layers_of
from toolkit.crossbar import get_device
from toolkit.teaching.series import FOLDER
from toolkit.training import Experiment
from toolkit.training.models import make_model

TABLE = b"""
- {name: conv, outputs: 16, inputs: 27, positions: 1024}
- {name: fc, outputs: 10, inputs: 65}"""


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    async def read_beside(function, *given):
        return function(*given)

    monkeypatch.setattr("dashboards.budget.page.read_beside", read_beside)


def turned(page, **values):
    """Set widgets and wait for the page."""
    for name, value in values.items():
        page._state.widgets[name].value = value
    beside(page.update())


def test_it_opens_with_figures_a_table_and_a_sentence():
    page = Budget()
    assert page.query() == page.notice.object == ""
    assert page._layers.object.count("<tr>") == 1 + 11  # VGG-11
    assert (
        "computing the low-rank update takes the largest share of the energy"
        in page._sentence.object
    )
    for pane in page.panes.values():
        assert pane.live.columns(0)
    page.page()


def test_what_it_shows_is_the_librarys_budget():
    query = "network=LeNet-5&methods=sbpca,accumulator&rank=8&batch=16&block=4&device=Ag%3Aa-Si"
    query += "&array=64&adc_bits=6&word_bits=16&memory=dram&endurance=1000000000"
    page = Budget(query)
    assert page.notice.object == ""
    chip = Chip(
        get_device("Ag:a-Si"),
        array_size=(64, 64),
        adc_bits=6,
        word_bits=16,
        memory="dram",
        endurance=1e9,
    )
    expected = compare(
        layers_by_name("LeNet-5"),
        chip,
        methods=["sbpca", "accumulator"],
        rank=8,
        batch_size=16,
        block_size=4,
    )
    xr.testing.assert_allclose(page.found, expected)


@pytest.mark.parametrize(
    "query",
    [
        "network=ResNet-18&methods=sbpca,svd&rank=16&memory=sram-large&bars=share of each method",
        "network=mlp, digits&batch=1&block=1&shown=accumulator&endurance=1000000",
        f"network={OWN}&layers=conv%3A1:16:27:1024,fc:10:65:1&word_bits=8",
    ],
)
def test_the_address_comes_back(query):
    page = Budget(query)
    assert page.notice.object == ""
    assert page.query()
    again = Budget(page.query())
    assert again.query() == page.query()
    xr.testing.assert_identical(again.found, page.found)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("network=AlexNet", "network must be one of"),
        ("methods=adam", "methods must be one of"),
        ("rank=1e300", "rank must be a number from 1 to 64"),
        ("rank=0", "rank must be a number"),
        ("batch=3", "batch must be one of"),
        ("device=digital", "device must be one of"),
        ("colour=red", "is not a setting of this page"),
        (f"network={OWN}", "must come together"),
        ("layers=a:1:2:3", "must come together"),
        (f"network={OWN}&layers=a:1", "name:outputs:inputs:positions"),
        (f"network={OWN}&layers=a:1:2:0", "positions of layer"),
        (f"network={OWN}&layers=a:1:2:{10**50}", "too large"),
        (f"network={OWN}&layers=a:{10**9}:{10**9}:{10**9}", "must be below 2^63"),
        (f"network={OWN}&layers=<b>:{10**12}:1:1", "outputs of layer"),
        (f"network={OWN}&layers=" + ",".join(f"a{i}:1:1:1" for i in range(101)), "at most 100"),
        ("&".join(f"a{i}=1" for i in range(300)), "more than 200 fields"),
    ],
)
def test_an_address_that_is_not_allowed_is_one_sentence(query, words):
    page = Budget(query)
    assert words in page.notice.object and "<b>" not in page.notice.object
    assert page.query() == ""
    assert page._layers.object.count("<tr>") == 1 + 11


def test_a_change_is_computed_and_shown():
    page = Budget()
    turned(page, network="LeNet-5", rank=8, methods=["per-sample", "svd"])
    assert page.found["algorithm"].values.tolist() == ["per-sample", "svd"]
    assert page.panes["energy"].live.figure.yaxis[0].major_label_overrides[1.5] == "SVD"
    assert "With SGD, sample by sample, " in page._sentence.object
    turned(page, shown="svd", bars=BARS[1])
    assert "With SVD" in page._sentence.object
    assert page.query().startswith("network=LeNet-5&methods=per-sample,svd&rank=8")
    np.testing.assert_allclose(page.panes["time"].live.columns(4)["right"], 100.0)


@pytest.mark.parametrize("batch", [10**30, 10**400, -1, 2.5, "many"])
def test_what_no_slider_sends_is_one_sentence(batch):
    page = Budget("network=LeNet-5")
    before, shown = page.found, page._layers.object
    asked = page._shown._replace(batch=batch)
    page._asked = lambda: asked
    beside(page.update())
    assert page.notice.object
    assert page.found is before and page._layers.object == shown


def test_no_method_is_the_first_one():
    page = Budget()
    turned(page, methods=[])
    assert page.found["algorithm"].values.tolist() == ["sbpca"]


def test_a_table_of_ones_own_starts_with_the_present_layers():
    page = Budget("network=LeNet-5")
    turned(page, network=OWN)
    assert page._table.visible
    assert page.text.value == yaml_of(layers_by_name("LeNet-5"))
    page.text.value = TABLE.decode()
    beside(page._use_text(None))
    assert page.found["layer"].values.tolist() == ["conv", "fc"]
    assert "layers=conv:16:27:1024,fc:10:65:1" in page.query()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "network must be"),
        (b"[", "not YAML"),
        (b"\xff\xfe", "utf-8"),
        (b"a: &a [*a]", "aliases"),
        (b"- 3", "layers {name"),
        (b"- {name: a, outputs: many, inputs: 3}", "outputs of layer"),
        (b"- {name: a, outputs: 1e99, inputs: 3}", "outputs of layer"),
        (b"- {name: a, outputs: -1, inputs: 3}", "outputs of layer"),
        (b"- {name: a, outputs: 3, inputs: 3, colour: red}", "may have positions"),
        (TABLE + b"\n" + TABLE, "2 named"),
        (b"- {name: " + b"a" * 50 + b", outputs: 3, inputs: 3}", "at most 40 characters"),
        (b"#" * 20_000, "must have at most"),
        (b"- {name: a, outputs: 1000000000, inputs: 1000000000, positions: 1000000}", "2^63"),
    ],
)
def test_a_table_that_is_not_allowed_is_one_sentence(data, words):
    page = Budget("network=LeNet-5")
    before = page.found
    beside(page.load(data))
    assert words in page.notice.object
    assert page.found is before


def test_a_model_with_its_shape_is_a_table_too():
    assert layers_of_yaml(b"{model: lenet, shape: [1, 28, 28], classes: 10}") == layers_by_name(
        "LeNet-5"
    )


def test_tables_are_read_in_a_process_of_their_own():
    assert child.in_child(layers_of_yaml, TABLE)[1] == Layer("fc", 10, 65)
    assert layers_of_yaml.__module__ in child._READERS


@pytest.mark.parametrize("name", network_names())
def test_networks_are_tables_that_come_back_from_text(name):
    layers = layers_by_name(name)
    assert layers_of_query(query_text(layers)) == layers
    assert layers_of_yaml(yaml_of(layers).encode()) == layers


@pytest.mark.parametrize(("name", "weights"), [("VGG-11", 132_863_336), ("ResNet-18", 11_679_912)])
def test_networks_have_their_published_size(name, weights):
    assert sum(each.outputs * each.inputs for each in layers_by_name(name)) == weights


def test_where_factors_do_not_pay_is_said():
    layers = [Layer("small", 8, 8), Layer("conv", 16, 27, 1024), Layer("large", 512, 513)]
    one = compare(layers, Chip(get_device("EpiRAM")), methods=["sbpca"], rank=4, block_size=1)
    text = sentence(one.isel(algorithm=0), "sbpca")
    assert "in small (the factors alone)" in text
    assert "in conv (with the buffer of a block)" in text
    rows = layer_rows(one.isel(algorithm=0))
    assert [row[4] for row in rows] == ["64", "432", "262,656"]
    assert [row[5] for row in rows] == [str(4 * 17), str(4 * 44), f"{4 * 1026:,}"]
    assert ["nothing" in row[7] for row in rows] == [True, True, False]


def test_a_very_long_table_is_left_out_of_the_address():
    page = Budget()
    rows = [Layer("ä" * 30 + str(i), 10**6, 10**6, 10**3) for i in range(60)]
    page._own = tuple(rows)
    turned(page, network=OWN, rank=8)
    assert page.query() == "rank=8"


def test_files_hold_the_budget():
    page = Budget("network=LeNet-5&methods=sbpca")
    with xr.open_dataset(io.BytesIO(file_of(page.found, ".nc")), engine="h5netcdf") as saved:
        np.testing.assert_allclose(saved["energy"].values, page.found["energy"].values)
    table = pd.read_csv(io.BytesIO(file_of(page.found, ".csv")))
    assert table["energy"].sum() == pytest.approx(float(page.found["energy"].sum()))


def test_the_question_marks_lead_to_sections_that_exist():
    page = Budget("network=LeNet-5")
    shown = [pane.view[0][1].object for pane in page.panes.values()]
    text = (FOLDER / "15_designing_with_it.ipynb").read_text("utf-8")
    for about in shown:
        (section,) = re.findall("Notebook 15, “(.*)”", about)
        assert f'"## {section}\\n"' in text


@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_a_run_opens_the_budget_of_its_own_network(model):
    run = Experiment(model=model, hidden=[16], device="EcRam", rank=2, batch_size=32, block_size=4)
    look = SimpleNamespace(run=run, latest=run.latest())
    assert cost.budget_address(look) == ""  # what a layer reads is known after a step
    run.step()
    look.latest = run.latest()
    page = Budget(cost.budget_address(look).partition("?")[2])
    assert page.notice.object == ""
    hidden = [16] if model == "mlp" else None
    plain = make_model(model, run.data, hidden=hidden, generator=torch.Generator())
    sizes = [(e.outputs, e.inputs, e.positions) for e in layers_of(plain, (run.data.features,))]
    assert [(e.outputs, e.inputs, e.positions) for e in page._shown.layers] == sizes
    asked = page._shown
    assert (asked.device, asked.rank, asked.batch, asked.block) == ("EcRam", 2, 32, 4)
