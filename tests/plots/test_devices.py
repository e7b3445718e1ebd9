"""Figures of devices show the numbers they are given."""

import numpy as np
import pytest

from toolkit.crossbar import device_names, get_device
from toolkit.crossbar.trains import cycled, up_and_down
from toolkit.fitting import EXAMPLE_CSV, PulseTrains, fit_csv
from toolkit.plots import LiveFigure
from toolkit.plots.devices import (
    STYLES,
    cycling,
    cycling_columns,
    drive_columns,
    fit_curve,
    fit_residuals,
    line_drive,
    response_bands,
    response_columns,
)


@pytest.fixture(scope="module")
def bands():
    devices = [get_device(name) for name in ("Ag:a-Si", "EpiRAM")]
    return {device.name: (device, up_and_down(device)) for device in devices}


@pytest.mark.parametrize("scale", ["share of the range", "siemens"])
def test_bands_are_mean_plus_and_minus_one_deviation(bands, scale):
    live = LiveFigure(response_bands(bands, scale))
    device, trains = bands["EpiRAM"]
    outline, mean, _ = response_columns(device, trains, scale)
    points = len(trains.pulses)
    low, high = outline["y"][:points], outline["y"][points:][::-1]
    factor = 1e6 * device.span if scale == "siemens" else 1.0
    inside = (trains.mean - trains.deviation) > 0  # a log axis cannot show the rest
    np.testing.assert_allclose(
        (high - low)[inside], 2 * factor * trains.deviation[inside], atol=1e-12
    )
    np.testing.assert_allclose(live.columns(4)["y"], mean["y"])  # second band: glyphs 3 to 5
    assert set(map(tuple, np.c_[live.columns(3)["x"], live.columns(3)["y"]])) == set(
        map(tuple, np.c_[outline["x"], outline["y"]])
    )


def test_the_axis_counts_levels_and_the_marks_are_at_the_symmetry_point(bands):
    device, trains = bands["Ag:a-Si"]
    _, mean, marks = response_columns(device, trains)
    assert mean["x"][0] == 0 and mean["x"][-1] == pytest.approx(2.0)
    assert mean["x"][np.flatnonzero(trains.pulses == 97)] == pytest.approx(1.0)
    np.testing.assert_allclose(marks["y"], device.symmetry_point())
    assert 0 < marks["x"][0] < 1 < marks["x"][1] < 2
    np.testing.assert_allclose(np.interp(marks["x"], mean["x"], mean["y"]), marks["y"])


def test_a_device_without_a_symmetry_point_has_no_mark():
    device = get_device("ideal")
    assert response_columns(device, up_and_down(device))[2]["x"].size == 0
    *_, point = cycling_columns(device, cycled(device, pulses=3, cycles=2))
    assert point["y"].size == 0


def test_every_preset_has_a_style_of_its_own():
    assert len(set(STYLES)) >= len(device_names())


def test_cycling_shows_the_columns_in_the_order_of_its_glyphs():
    device = get_device("PCMO")
    first = LiveFigure(cycling(device, cycled(device, pulses=5, cycles=3)))
    columns = cycling_columns(device, cycled(device, pulses=8, cycles=4, seed=1))
    for glyph, column in enumerate(columns):
        assert first.columns(glyph).keys() == column.keys()
        first.set_columns(glyph, column)
    np.testing.assert_array_equal(first.columns(5)["y"], [device.symmetry_point()])


def test_bars_of_rows_lie_beside_their_rows():
    values = np.array([1.0, -2.0, 0.5])
    rows = LiveFigure(line_drive(values, rows=True, label="p"), follow="x")
    ends = rows.columns(0)
    np.testing.assert_array_equal(ends["left"] + ends["right"], values)  # one of them is 0
    np.testing.assert_allclose(ends["bottom"], [0.1, 1.1, 2.1])
    assert rows.figure.y_range.start == 3 and rows.figure.y_range.end == 0
    assert (drive_columns(values, rows=False)["top"] == values).all()


def test_a_fit_is_drawn_over_its_measurements():
    fit, trains = fit_csv(EXAMPLE_CSV), PulseTrains.from_csv(EXAMPLE_CSV)
    measured, curve = fit_curve(trains, fit).values()
    np.testing.assert_allclose(measured.dimension_values("G"), 1e6 * trains.conductance)
    assert measured.dimension_values("pulse").max() == 130  # 70 up, 60 down, from 0
    fitted = curve.dimension_values("G")
    mean = [
        measured.dimension_values("G")[measured.dimension_values("pulse") == pulse].mean()
        for pulse in (30, 60, 100)
    ]
    np.testing.assert_allclose(fitted[[30, 60, 100]], mean, rtol=0.1)
    points = fit_residuals(fit).get(0).dimension_values("residual")
    assert np.sqrt(np.square(points).mean()) == pytest.approx(100 * fit.rms)
