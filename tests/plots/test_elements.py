"""Figures show the numbers they are given, the right way up."""

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.models import LinearColorMapper

from toolkit.plots import (
    LiveFigure,
    accuracy_curve,
    conductance_maps,
    convergence,
    gradient_spectrum,
    heat_map,
)
from toolkit.plots.elements import siemens_prefix, spectrum_columns
from toolkit.training import Experiment


@pytest.fixture(scope="module")
def tree():
    run = Experiment(hidden=[16], device="Ag:a-Si", record_every=10, batch_size=256)
    for _ in run.steps(epochs=2):
        pass
    run.rank = 6
    return run.results()


def test_row_0_is_on_top_and_an_updated_map_keeps_its_place():
    values = np.arange(6.0).reshape(3, 2)
    live = LiveFigure(heat_map(values, title="t", unit="S", limits=(0.0, 5.0)), follow="")
    # Bokeh draws an image from its lowest y upwards, and this y axis runs downwards
    np.testing.assert_array_equal(live.columns(0)["image"][0], values)
    assert live.figure.y_range.start == 3 and live.figure.y_range.end == 0
    wide = np.arange(8.0).reshape(2, 4)
    live.set_image(wide, limits=(-1.0, 9.0), unit="nS")
    assert (live.columns(0)["dw"], live.columns(0)["dh"]) == ([4], [2])
    assert (live.figure.x_range.end, live.figure.y_range.start) == (4, 2)
    mapper = live.figure.select_one(LinearColorMapper)
    assert (mapper.low, mapper.high) == (-1.0, 9.0)


def test_accuracy_is_in_percent():
    points = accuracy_curve(np.array([1.0]), np.array([0.25])).get(1)
    assert points.dimension_values("accuracy") == [25.0]


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(38e-9, (1e9, "nS")), (59e-6, (1e6, "µS")), (212e-6, (1e6, "µS")), (2e-3, (1e3, "mS"))],
)
def test_conductances_read_well(largest, expected):
    assert siemens_prefix(largest) == expected


def test_a_spectrum_keeps_its_components_and_drops_what_a_log_axis_cannot_show():
    columns = spectrum_columns(np.array([2.0, 0.0, 1e-3, np.nan, 1e-9]))
    np.testing.assert_array_equal(columns["component"], [1, 3])
    np.testing.assert_array_equal(columns["value"], [2.0, 1e-3])
    assert len(spectrum_columns(np.zeros(0))["component"]) == 0


def test_a_run_draws_what_it_recorded(tree):
    loss = next(iter(convergence(tree))).get(0)
    np.testing.assert_array_equal(loss.dimension_values("loss"), tree["training/loss"].values)
    true = next(iter(gradient_spectrum(tree))).get(0)
    recorded = tree["layers/layer1/singular_value"].isel(step=-1).values
    np.testing.assert_allclose(
        true.dimension_values("value"), recorded[recorded > 1e-7 * recorded[0]]
    )
    siemens = tree["layers/layer1/conductance"].isel(step=-1).values
    maps = conductance_maps(tree)
    expected = [siemens[0], siemens[1], siemens[0] - siemens[1]]
    for shown, wanted in zip(maps, expected, strict=True):
        values = shown.dimension_values("value", flat=False)
        np.testing.assert_allclose(values, wanted * 1e9, rtol=1e-4, atol=1e-4)
    for layout in (convergence(tree), gradient_spectrum(tree), conductance_maps(tree)):
        assert hv.render(layout, backend="bokeh") is not None


def test_labels_of_a_loss_from_3_to_a_tenth_do_not_meet(tree):
    training = tree["training"].to_dataset()
    training["loss"] = training.loss.copy(data=np.geomspace(3.0, 0.09, training.sizes["step"]))
    shown = tree.copy()
    shown["training"] = xr.DataTree(training)
    figure = hv.render(next(iter(convergence(shown))), backend="bokeh")
    assert figure.yaxis[0].major_label_overrides == {
        0.1: "0.1", 0.2: "0.2", 0.5: "0.5", 1.0: "1", 2.0: "2"
    }  # fmt: skip


def test_maps_of_a_digital_run_show_its_weights():
    run = Experiment(hidden=[8])
    run.step()
    (only,) = conductance_maps(run.results()).values()
    shown = only.dimension_values("value", flat=False)
    np.testing.assert_allclose(shown, run.layers["layer1"].array.weights.numpy())


def test_an_unknown_layer_and_an_empty_run_are_refused(tree):
    with pytest.raises(ValueError, match="layer must be one of layer1, layer2; got 'fc'"):
        gradient_spectrum(tree, layer="fc")
    with pytest.raises(ValueError, match="no record yet"):
        gradient_spectrum(Experiment(hidden=[8]).results())
