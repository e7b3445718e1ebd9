"""The command: one YAML file in, a table and a file out."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from toolkit.budget import Chip, Layer, compare
from toolkit.cli import main
from toolkit.crossbar import get_device

PLAN = """
network:
  - {name: a, outputs: 64, inputs: 129}
  - {name: b, outputs: 10, inputs: 65}
device: EpiRAM
array_size: [64, 64]
endurance: 1e9
rank: 2
methods: [sbpca, accumulator]
prices: {sram_energy: 1e-12}
"""


def written(tmp_path, text):
    path = tmp_path / "chip.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("suffix", [".nc", ".csv"])
def test_a_budget_is_printed_and_saved(tmp_path, capsys, suffix):
    out = tmp_path / f"budget{suffix}"
    assert main(["budget", written(tmp_path, PLAN), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "accumulator" in shown
    assert "estimates, not from a run" in shown
    chip = Chip(get_device("EpiRAM"), array_size=(64, 64), endurance=1e9)
    layers = [Layer("a", 64, 129), Layer("b", 10, 65)]
    expected = compare(layers, chip, rank=2, methods=["sbpca", "accumulator"])
    expected = expected.energy.sel(part="writes", price="high")
    if suffix == ".nc":
        with xr.open_dataset(out, engine="h5netcdf") as found:
            saved = found.energy.sel(part="writes", price="high").values
    else:
        table = pd.read_csv(out).query("part == 'writes' and price == 'high'")
        saved = table.pivot(index="algorithm", columns="layer", values="energy")
        saved = saved.loc[["sbpca", "accumulator"], ["a", "b"]].to_numpy()
    np.testing.assert_allclose(saved, expected.values)


def test_models_by_name(tmp_path, capsys):
    plan = "network: {model: lenet, shape: [1, 28, 28], classes: 10}\ndevice: Ag:a-Si"
    assert main(["budget", written(tmp_path, plan)]) == 0
    assert "mixed-precision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold network and device"),
        ("[1, 2]", "must hold network and device"),
        ("network: [\n", "cannot be read"),
        (PLAN + "colour: red", "has 'colour'"),
        (PLAN.replace("EpiRAM", "XYZ"), "XYZ"),
        (PLAN.replace("[64, 64]", "64"), "array_size must be two whole numbers"),
        (PLAN.replace("[sbpca, accumulator]", "[adam]"), "method must be one of"),
        (PLAN.replace("[sbpca, accumulator]", "[]"), "methods must be"),
        (PLAN.replace("[sbpca, accumulator]", "sbpca"), "methods must be a list of some of feedb"),
        (PLAN.replace("accumulator", "sbpca"), "methods must have each method once; got 'sbpca'"),
        (PLAN.replace("EpiRAM", "nobody's"), "device must be one of ideal"),
        (PLAN.replace("outputs: 64", "outputs: many"), "outputs of layer 'a'"),
        (PLAN.replace("1e-12", "-1"), "prices of sram_energy"),
        ("network: {model: alexnet, shape: [3], classes: 2}\ndevice: EpiRAM", "model must be"),
        ("network: {model: mlp, shape: [], classes: 2}\ndevice: EpiRAM", "shape"),
        ("network: {model: mlp, shape: 5, classes: 2}\ndevice: EpiRAM", "shape must be"),
        ("network: {model: mlp, shape: [5], classes: 1}\ndevice: EpiRAM", "classes"),
        ("network: {model: mlp, classes: 2}\ndevice: EpiRAM", "model, shape, classes"),
        ("network: {model: lenet, shape: [5], classes: 2}\ndevice: EpiRAM", "picture"),
        ("network: 5\ndevice: EpiRAM", "network must be"),
    ],
)
def test_what_is_not_allowed_is_one_line(tmp_path, capsys, text, words):
    assert main(["budget", written(tmp_path, text), "--out", str(tmp_path / "b.nc")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "b.nc").exists()


@pytest.mark.parametrize("out", ["b.txt", "nowhere/b.nc"])
def test_a_path_that_cannot_be_written_is_refused_first(tmp_path, capsys, out):
    assert main(["budget", written(tmp_path, PLAN), "--out", str(tmp_path / out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
