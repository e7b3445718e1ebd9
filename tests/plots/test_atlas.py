"""What accuracy costs: the front by hand, and what the figure shows of it."""

import holoviews as hv
import pytest

from toolkit.plots.atlas import front, trade_off

POINTS = {
    "free": (0.0, 70.0),
    "cheap": (10.0, 90.0),
    "beaten": (20.0, 89.0),
    "as good, dearer": (30.0, 90.0),
    "best": (100.0, 95.0),
}


def test_the_front_is_what_no_other_beats():
    assert front(POINTS) == ["free", "cheap", "best"]
    assert front({"a": (1.0, 5.0), "b": (1.0, 6.0)}) == ["b"]
    assert front({}) == []


def test_the_figure_joins_the_front_and_shows_every_point():
    drawn = trade_off(POINTS, "words", "title")
    line, rest, corners, labels = drawn
    assert line.array().tolist() == [[pytest.approx(10 / 3), 70.0], [10.0, 90.0], [100.0, 95.0]]
    names = [str(each) for part in (corners, rest) for each in part.dimension_values("algorithm")]
    assert sorted(names) == sorted(POINTS)
    assert list(labels.dimension_values("algorithm")) == ["free", "cheap", "best"]
    assert hv.render(drawn).xaxis[0].axis_label == "words; 0 is drawn at 3.33"


def test_a_cell_without_that_cost_has_an_empty_figure():
    assert hv.render(trade_off({}, "pulses", "title")).xaxis[0].axis_label == "pulses"


def test_what_is_far_below_takes_no_room():
    figure = hv.render(trade_off(POINTS | {"poor": (1e6, 10.0)}, "pulses", "title"))
    assert figure.y_range.start > 10.0
    assert 100.0 < figure.x_range.end < 1e3
