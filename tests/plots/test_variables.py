"""Any variable as a figure: by its dims, the right way up, with its units; runs compared."""

import numpy as np
import pytest
import xarray as xr

from toolkit.plots import LiveFigure
from toolkit.plots.variables import (
    compared,
    comparison,
    limits,
    readable,
    recorded,
    thinned,
    value_text,
    variable_figure,
    views,
)
from toolkit.training import Experiment


@pytest.fixture(scope="module")
def tree():
    run = Experiment(hidden=[8], device="EpiRAM", record_every=10, batch_size=256)
    for _ in run.steps(epochs=3):
        pass
    return run.results()


def test_every_variable_of_every_group_is_listed(tree):
    found = {one.path: one for one in recorded(tree)}
    assert found["/layers/layer1/conductance"].dims == ("step", "polarity", "output", "input")
    assert found["/layers/layer1/conductance"].units == "S"
    assert "/training/loss" in found and "/events/knob" in found
    assert len(found) == sum(len(node.data_vars) for node in tree.subtree)


def test_every_kind_of_variable_can_be_drawn_in_every_way(tree):
    kinds = {one.dims: one for one in recorded(tree) if one.units != "" and 0 not in one.shape}
    for one in kinds.values():
        dataset = tree[one.group].to_dataset()
        for view in views(dataset[one.name]):
            at = dict.fromkeys(set(one.dims) - set(view), 0)
            if dataset[one.name].dtype.kind in "fiu":
                LiveFigure(variable_figure(dataset, one.name, at))


def test_an_image_has_row_0_on_top_and_the_unit_that_reads_well(tree):
    layer = tree["layers/layer1"].to_dataset()
    element = variable_figure(layer, "conductance", {"step": 1, "polarity": 0})
    siemens = layer["conductance"].isel(step=1, polarity=0).values
    shown = element.dimension_values("value", flat=False)
    np.testing.assert_allclose(shown, 1e6 * siemens, rtol=1e-6)
    assert readable(layer["conductance"])[1] == "µS"
    low, high = limits(layer["conductance"])
    assert low == pytest.approx(1e6 * float(layer["conductance"].min()))
    assert high == pytest.approx(1e6 * float(layer["conductance"].max()))


def test_a_curve_over_records_stands_at_its_training_steps(tree):
    layer = tree["layers/layer1"].to_dataset()
    curve = variable_figure(layer, "captured_energy", {}).get(0)
    np.testing.assert_array_equal(curve.dimension_values("x"), layer["step"].values)
    np.testing.assert_array_equal(curve.dimension_values("y"), layer["captured_energy"].values)


def test_a_value_has_its_unit_and_too_many_dims_are_refused(tree):
    layer = tree["layers/layer1"].to_dataset()
    assert value_text(layer["largest_angle"][0]).endswith("degree")
    with pytest.raises(ValueError, match=r"conductance has dims .* left; fix all but 2"):
        variable_figure(layer, "conductance", {"step": 0})


def test_colours_are_symmetric_about_0_where_both_signs_occur():
    assert limits(xr.DataArray([-1.0, 3.0, np.nan])) == (-3.0, 3.0)
    assert limits(xr.DataArray([2.0, 3.0])) == (2.0, 3.0)
    assert limits(xr.DataArray([2.0, 2.0])) == (1.5, 2.5)
    assert limits(xr.DataArray([np.nan])) == (0.0, 1.0)


def test_runs_are_compared_at_equal_samples_and_equal_writes():
    # by hand: 3 steps; evaluated before the first, after the second
    training = xr.Dataset(
        {
            "loss": ("step", [3.0, 2.0, 1.0]),
            "pulses": ("step", [10, 25, 60]),
            "evaluation_step": ("evaluation_step", [0, 2]),
            "test_accuracy": ("evaluation_step", [0.1, 0.7]),
        },
        coords={"step": [1, 2, 3]},
    )
    x, y = compared(training, "test_accuracy", "pulses")
    np.testing.assert_array_equal(x, [0, 25])
    np.testing.assert_array_equal(y, [0.1, 0.7])
    np.testing.assert_array_equal(compared(training, "loss", "pulses")[0], [10, 25, 60])
    np.testing.assert_array_equal(compared(training, "test_accuracy", "step")[0], [0, 2])
    both = comparison({"a": training, "b": training.drop_vars("test_accuracy")}, "test_accuracy")
    assert [line.label for line in both] == ["a"]
    (line,) = comparison({"a": training}, "test_accuracy", log_over=True)
    np.testing.assert_array_equal(line["x"], [2])  # an evaluation before the first step is at 0


def test_a_long_curve_is_thinned_and_keeps_its_end():
    x, y = thinned(np.arange(10_001.0), np.arange(10_001.0) * 2)
    assert len(x) <= 2000 and x[-1] == 10_000 and (y == 2 * x).all()
    assert np.ptp(np.diff(x)) == 0
    x, _ = thinned(np.arange(1.0, 10_001.0), np.zeros(10_000), log=True)
    assert len(x) <= 2000 and x[:9].tolist() == list(range(1, 10)) and x[-1] == 10_000
