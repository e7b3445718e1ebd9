"""One declaration of a knob serves the command line, the tooltips and the reference table."""

import argparse

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
    assert changed.nonlinearity_up == get_device(device).nonlinearity_up


def test_plain_weights_have_no_device():
    assert Settings(device="digital", levels=5).device_with_overrides() is None
