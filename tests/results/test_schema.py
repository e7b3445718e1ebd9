"""The tree of a run holds what the schema declares, labelled, with provenance."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import xarray as xr

from toolkit import __version__
from toolkit.results import SCHEMA_VERSION, schema
from toolkit.training import Experiment, Settings

DIMS = {
    "/training": {
        **dict.fromkeys(("loss", "accuracy", "learning_rate", "rank"), ("step",)),
        **dict.fromkeys(("batch_size", "samples_seen", "pulses"), ("step",)),
        **dict.fromkeys(("test_loss", "test_accuracy"), ("evaluation_step",)),
    },
    "/events": dict.fromkeys(("event_step", "knob", "old", "new"), ("event",)),
    "/layers/layer1": {
        **dict.fromkeys(("singular_value", "sigma"), ("step", "component")),
        **dict.fromkeys(("captured_energy", "optimal_energy"), ("step",)),
        **dict.fromkeys(("largest_angle", "rank", "g_min", "g_max"), ("step",)),
        "weight": ("step", "output", "input"),
        **dict.fromkeys(("conductance", "pulse_count"), ("step", "polarity", "output", "input")),
    },
}
UNITS = {"largest_angle": "degree", **dict.fromkeys(("conductance", "g_min", "g_max"), "S")}
TEXT = {"knob", "old", "new", "polarity"}


@pytest.mark.parametrize("group", DIMS)
def test_groups_hold_the_declared_variables_on_their_dims(tree, group):
    found = {str(name): variable.dims for name, variable in tree[group].data_vars.items()}
    assert found == DIMS[group]


def test_every_variable_is_labelled(tree):
    for node in tree.subtree:
        for name, variable in node.variables.items():
            assert variable.attrs.get("long_name"), f"{node.path}/{name} has no long_name"
            expected = None if name in TEXT else UNITS.get(str(name), "1")
            assert variable.attrs.get("units") == expected, f"{node.path}/{name}"


def test_sizes(tree):
    layer = tree["layers/layer2"]
    assert layer.sizes["component"] == 10
    assert (layer.sizes["output"], layer.sizes["input"]) == (10, 17)
    assert (tree["layers/layer1"].sizes["input"], layer.sizes["polarity"]) == (65, 2)
    assert layer["step"].dims == ("step",)
    assert tree["training"]["step"].values.tolist() == [
        *range(1, tree["training"].sizes["step"] + 1)
    ]


def test_conductances_are_siemens_within_the_devices_range(tree):
    held = tree["layers/layer1/conductance"].values
    held = held[np.isfinite(held)]
    assert held.min() >= 1 / 26e6 / 12.5 * (1 - 1e-6)
    assert held.max() <= 1 / 26e6 * (1 + 1e-6)


def test_weights_are_the_pairs_difference(tree):
    layer = tree["layers/layer1"].isel(step=0)
    plus, minus = layer["conductance"].values.astype(float)
    span = 1 / 26e6 * (1 - 1 / 12.5)
    assert float(layer["g_max"] - layer["g_min"]) == pytest.approx(span, rel=1e-12)
    w_max = json.loads(tree.attrs["settings"])["w_max"]
    np.testing.assert_allclose((plus - minus) / span * w_max, layer["weight"], atol=1e-5)


def test_events_tell_what_changed(tree):
    events = tree["events"]
    rows = list(zip(*(events[name].values.tolist() for name in DIMS["/events"]), strict=True))
    assert rows == [
        (4, "rank", "3", "12"),
        (4, "batch_size", "64", "128"),
        (4, "device", '"Ag:a-Si"', '"digital"'),
    ]
    assert tree["training"]["rank"].values.tolist()[3:5] == [3, 12]


def test_root_says_where_the_run_comes_from(tree):
    attributes = tree.attrs
    assert attributes["Conventions"] == "CF-1.11"
    assert attributes["schema_version"] == SCHEMA_VERSION
    assert attributes["seed"] == 0
    assert attributes["toolkit_version"] == __version__
    assert attributes["torch_version"]
    assert attributes["numpy_version"] == np.__version__
    assert "10.1145/3577214" in attributes["references"]
    created = datetime.fromisoformat(attributes["created_at"])
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(hours=1)
    assert {type(value) for value in attributes.values()} <= {str, int, float}


def test_settings_and_events_make_the_run_again(tree):
    settings = json.loads(tree.attrs["settings"])
    assert set(settings) == set(Settings().knob_values())
    events = tree["events"].to_dataset()
    for i in reversed(range(events.sizes["event"])):
        settings[str(events["knob"].values[i])] = json.loads(str(events["old"].values[i]))
    again = Experiment(**settings)
    for step in range(tree["training"].sizes["step"]):
        now = events.isel(event=events["event_step"].values == step)
        names = [str(name) for name in now["knob"].values]
        again.change(**dict(zip(names, map(json.loads, map(str, now["new"].values)), strict=True)))
        again.step()
    np.testing.assert_array_equal(again.results()["training/loss"], tree["training/loss"])


def test_a_run_without_a_step_is_a_tree_too(empty_tree):
    assert empty_tree["training"].sizes == {"step": 0, "evaluation_step": 0}
    assert empty_tree["events"].sizes == {"event": 0}
    assert empty_tree["layers/layer1"].sizes["step"] == 0


def test_an_undeclared_variable_is_refused():
    with pytest.raises(ValueError, match=r"undeclared variables \['speed'\]; allowed: \['accuracy"):
        schema.dataset(schema.TRAINING, {"speed": [1.0]})


def test_names_are_declared_once():
    for group in (schema.TRAINING + schema.EVALUATION, schema.EVENTS, schema.LAYER):
        names = [variable.name for variable in group]
        assert len(set(names)) == len(names)
        assert all(variable.long_name for variable in group)


def test_a_tree_is_made_of_plain_xarray(tree):
    assert isinstance(tree, xr.DataTree)
    assert set(tree.children) == {"training", "events", "layers"}
    assert set(tree["layers"].children) == {"layer1", "layer2"}
