"""Which nonidealities a device has."""

import json
from dataclasses import replace

import pytest

from toolkit.crossbar import get_device
from toolkit.results import open_results
from toolkit.training import Experiment, Settings
from toolkit.training.experiment.knobs import knobs_of


def test_a_nonlinearity_label_is_refused_where_the_response_has_none():
    with pytest.raises(ValueError, match="nonlinearity_up does not apply to EcRam"):
        Settings(device="EcRam", nonlinearity_up=2.0)
    run = Experiment(device="Ag:a-Si", nonlinearity_up=1.0)
    with pytest.raises(ValueError, match="nonlinearity_up does not apply to EcRam"):
        run.device = "EcRam"
    assert run.device == "Ag:a-Si" and run.nonlinearity_up == 1.0
    run.change(device="EcRam", nonlinearity_up=None)
    assert run.device == "EcRam"


def test_only_nonidealities_that_apply_are_in_force():
    every = set(knobs_of(Settings, sets="device"))
    assert set(Settings(device="Ag:a-Si").nonidealities()) == every
    assert set(Settings(device="EcRam").nonidealities()) == every - {
        "nonlinearity_up",
        "nonlinearity_down",
        "device_to_device",
    }
    assert Settings(device="digital").nonidealities() == {}


def test_a_device_of_ones_own_trains_and_is_described_in_the_file(tmp_path):
    mine = replace(get_device("EpiRAM"), name="mine", levels_up=80)
    run = Experiment(device=mine, hidden=[8], cycle_to_cycle=0.01)
    run.step()
    run.device = "Ag:a-Si"
    run.step()
    tree = open_results(run.save(tmp_path / "run.nc"))
    assert "name='mine'" in str(tree["events"]["old"].values[0])
    assert "levels_up=80" in str(tree["events"]["old"].values[0])
    settings = json.loads(Experiment(device=mine).results().attrs["settings"])
    assert "name='mine'" in settings["device"]


def test_what_is_no_device_is_refused():
    with pytest.raises(ValueError, match="device must be one of digital, ideal"):
        Experiment(device=3.0)
