"""One declaration of a knob serves the command line, the tooltips and the reference table."""

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.crossbar import device_names, get_device
from toolkit.results import open_results
from toolkit.training import Experiment, Settings
from toolkit.training.experiment.knobs import (
    add_arguments,
    describe,
    is_live,
    knobs_of,
    markdown_table,
)

ROOT = Path(__file__).parents[2]
KNOBS = knobs_of(Settings)
LIVE = {
    *("method", "rank", "block_size", "batch_size", "learning_rate", "scheme", "device"),
    *("nonlinearity_up", "nonlinearity_down", "cycle_to_cycle", "device_to_device", "levels"),
    "read_noise",
}


def test_what_may_change_during_a_run():
    assert {name for name, knob in KNOBS.items() if is_live(knob)} >= LIVE
    assert not any(is_live(KNOBS[name]) for name in ("seed", "hidden", "dataset"))


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_says_what_it_is(name):
    knob = KNOBS[name]
    assert knob.doc.strip().endswith(".")
    assert len(describe(knob)) < 110
    assert isinstance(knob.unit, str)
    knob._validate(knob.default)


def test_settings_and_experiment_share_the_knobs_and_instances_no_values():
    assert list(KNOBS) == list(knobs_of(Experiment)) == list(Settings().knob_values())
    assert Experiment().knob_values() == Settings().knob_values()
    first, second = Settings(), Settings()
    first.hidden.append(3)
    first.rank = 9
    assert (second.hidden, second.rank) == ([128], 4)


def test_the_command_line_has_every_knob_and_sets_only_what_was_given():
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings)
    assert vars(parser.parse_args([])) == {}
    words = "--rank 3 --device FeFET --learning-rate 0.5 --hidden 8 9"
    given = parser.parse_args(shlex.split(words))
    assert vars(given) == {"rank": 3, "device": "FeFET", "learning_rate": 0.5, "hidden": [8, 9]}
    for name in KNOBS:
        assert f"--{name.replace('_', '-')}" in parser.format_help()


def test_the_table_has_a_row_for_every_knob():
    rows = markdown_table(Settings).splitlines()
    assert len(rows) == 2 + len(KNOBS)
    assert all(row.count("|") == 7 for row in rows)
    row = "| `rank` | 4 | 1 to 512 |  | yes | Outer products per update: the k of rank-k. |"
    assert row in rows


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", device_names())
def test_a_preset_stays_itself_unless_overridden(device):
    assert Settings(device=device).device_with_overrides() == get_device(device)
    changed = Settings(device=device, levels=77, read_noise=0.2).device_with_overrides()
    assert (changed.levels_up, changed.levels_down, changed.read_noise) == (77, 77, 0.2)
    assert changed.response == get_device(device).response


def test_only_nonidealities_that_apply_are_in_force():
    every = set(knobs_of(Settings, sets="device"))
    missing = {"nonlinearity_up", "nonlinearity_down", "device_to_device"}
    assert set(Settings(device="Ag:a-Si").nonidealities()) == every
    assert set(Settings(device="EcRam").nonidealities()) == every - missing
    assert Settings(device="digital").nonidealities() == {}
    assert Settings(device="digital", levels=5).device_with_overrides() is None


def test_a_nonlinearity_label_is_refused_where_the_response_has_none():
    with pytest.raises(ValueError, match="nonlinearity_up does not apply to EcRam"):
        Settings(device="EcRam", nonlinearity_up=2.0)
    run = Experiment(device="Ag:a-Si", nonlinearity_up=1.0)
    with pytest.raises(ValueError, match="nonlinearity_up does not apply to EcRam"):
        run.device = "EcRam"
    assert run.device == "Ag:a-Si" and run.nonlinearity_up == 1.0
    run.change(device="EcRam", nonlinearity_up=None)
    assert run.device == "EcRam"


def test_a_device_of_ones_own_trains_and_is_described_in_the_file(tmp_path):
    mine = replace(get_device("EpiRAM"), name="mine", levels_up=80)
    run = Experiment(device=mine, hidden=[8], cycle_to_cycle=0.01)
    assert "name='mine'" in json.loads(run.results().attrs["settings"])["device"]
    run.step()
    run.device = "Ag:a-Si"
    run.step()
    old = str(open_results(run.save(tmp_path / "run.nc"))["events"]["old"].values[0])
    assert "name='mine'" in old and "levels_up=80" in old


# --- from outside -------------------------------------------------------------------------------

FROM_OUTSIDE = '''
import argparse, json
from typing import Annotated
from toolkit.lowrank import ESTIMATORS, PowerIteration
from toolkit.lowrank.estimator import Range

class Damped(PowerIteration):
    """Power iteration whose update is shortened.

    Parameters
    ----------
    damping : float
        Factor of the update of Damped.
    """

    name = "damped"

    def __init__(self, *, rank: int = 1, damping: Annotated[float, Range(0.0, 1.0)] = 0.5) -> None:
        super().__init__(rank=rank)
        self.damping = damping

ESTIMATORS["damped"] = Damped
from toolkit.training import Experiment, Settings
from toolkit.training.experiment.knobs import Real, add_arguments, markdown_table

Settings.param.add_parameter(
    "write_noise", Real(None, bounds=(0.0, 0.5), sets="device", group="Cells", doc="Of a write.")
)
run = Experiment(hidden=[8], method="damped", damping=0.25, device="Ag:a-Si", write_noise=0.125)
run.step()
array = next(iter(run.arrays.values()))
assert next(iter(run.estimators.values())).damping == 0.25
assert array.device.write_noise == 0.125
assert json.loads(run.results().attrs["settings"])["damping"] == 0.25
parser = argparse.ArgumentParser()
add_arguments(parser, Settings)
assert "--damping" in parser.format_help() and "--write-noise" in parser.format_help()
row = "| `damping` | 0.5 | 0.0 to 1.0 |  | yes | Factor of the update of Damped. |"
assert row in markdown_table(Settings) and "`write_noise`" in markdown_table(Settings)
from dashboards.app.widgets import groups, live_knobs, live_widgets
widgets = live_widgets(live_knobs())
assert (widgets["damping"].value, widgets["damping"].end) == (0.5, 1.0)
assert widgets["write_noise"].end == 0.5
found = groups(widgets)
assert "damping" in found["Estimators, further"] and "write_noise" in found["Cells"]
'''


def test_a_knob_and_an_estimator_from_outside_appear_everywhere():
    """In the run, its file, the command line, the table and a widget under its heading."""
    command = [sys.executable, "-c", FROM_OUTSIDE]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
