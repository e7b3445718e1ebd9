"""One declaration of a knob serves the command line, the tooltips and the reference table."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.crossbar import device_names, get_device
from toolkit.training import Experiment, Settings
from toolkit.training.experiment.knobs import (
    add_arguments,
    describe,
    is_live,
    knobs_of,
    markdown_table,
)

ROOT = Path(__file__).parents[2]
LIVE = {
    *("method", "rank", "block_size", "batch_size", "learning_rate", "scheme", "device"),
    *("nonlinearity_up", "nonlinearity_down", "cycle_to_cycle", "device_to_device", "levels"),
    "read_noise",
}


def test_what_may_change_during_a_run():
    assert {name for name, knob in knobs_of(Settings).items() if is_live(knob)} >= LIVE
    assert not any(is_live(knobs_of(Settings)[name]) for name in ("seed", "hidden", "dataset"))


@pytest.mark.parametrize("name", knobs_of(Settings))
def test_every_knob_says_what_it_is(name):
    knob = knobs_of(Settings)[name]
    assert knob.doc.strip().endswith(".")
    assert len(describe(knob)) < 110
    assert isinstance(knob.unit, str)
    knob._validate(knob.default)


def test_settings_and_experiment_share_the_knobs():
    assert list(knobs_of(Settings)) == list(knobs_of(Experiment)) == list(Settings().knob_values())
    assert Experiment().knob_values() == Settings().knob_values()


def test_instances_do_not_share_values():
    first, second = Settings(), Settings()
    first.hidden.append(3)
    first.rank = 9
    assert (second.hidden, second.rank) == ([128], 4)


def test_the_command_line_has_every_knob_and_sets_only_what_was_given():
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings)
    assert vars(parser.parse_args([])) == {}
    given = parser.parse_args(
        ["--rank", "3", "--device", "FeFET", "--learning-rate", "0.5", "--hidden", "8", "9"]
    )
    assert vars(given) == {"rank": 3, "device": "FeFET", "learning_rate": 0.5, "hidden": [8, 9]}
    for name in knobs_of(Settings):
        assert f"--{name.replace('_', '-')}" in parser.format_help()


def test_the_table_has_a_row_for_every_knob():
    rows = markdown_table(Settings).splitlines()
    assert len(rows) == 2 + len(knobs_of(Settings))
    assert (
        "| `rank` | 4 | 1 to 512 |  | yes | Outer products per update: the k of rank-k. |" in rows
    )
    assert all(row.count("|") == 7 for row in rows)


@pytest.mark.parametrize("device", device_names())
def test_a_preset_stays_itself_unless_overridden(device):
    assert Settings(device=device).device_with_overrides() == get_device(device)
    changed = Settings(device=device, levels=77, read_noise=0.2).device_with_overrides()
    assert (changed.levels_up, changed.levels_down, changed.read_noise) == (77, 77, 0.2)
    assert changed.response == get_device(device).response


def test_plain_weights_have_no_device():
    assert Settings(device="digital", levels=5).device_with_overrides() is None


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
print(next(iter(run.estimators.values())).damping, array.device.write_noise)
print(json.loads(run.results().attrs["settings"])["damping"])
parser = argparse.ArgumentParser()
add_arguments(parser, Settings)
print("--damping" in parser.format_help(), "--write-noise" in parser.format_help())
print("| `damping` | 0.5 | 0.0 to 1.0 |  | yes | Factor of the update of Damped. |"
      in markdown_table(Settings), "`write_noise`" in markdown_table(Settings))
from dashboards.app.widgets import groups, live_widgets
widgets = live_widgets()
print(widgets["damping"].value, widgets["damping"].end, widgets["write_noise"].end)
found = groups(widgets)
print("damping" in found["Estimators, further"], "write_noise" in found["Cells"])
'''


def test_a_knob_and_an_estimator_from_outside_appear_everywhere():
    """In the run, its file, the command line, the table and a widget under its heading."""
    command = [sys.executable, "-c", FROM_OUTSIDE]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        "0.25 0.125",
        "0.25",
        "True True",
        "True True",
        "0.5 1.0 0.5",
        "True True",
    ]
