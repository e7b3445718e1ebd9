"""Named curves and bars show what they are given."""

import holoviews as hv
import numpy as np
from bokeh.models import VArea

from toolkit.plots.elements import GREY
from toolkit.plots.teaching import named_bands, named_bars, named_curves


def test_curves_leave_out_what_a_log_axis_cannot_show() -> None:
    overlay = named_curves({"a": ([1, 2, 3], [1.0, 0.0, 4.0])}, x="step", y="loss (nat)", logy=True)
    curve = next(iter(overlay))
    np.testing.assert_array_equal(curve.dimension_values("y"), [1.0, 4.0])
    assert hv.render(overlay).yaxis[0].axis_label == "loss (nat)"


def test_references_are_grey_and_dashed_and_limits_stand_still() -> None:
    overlay = named_curves(
        {"a": ([1, 2], [1, 2])}, references={"r": ([1, 2], [0, 1])}, x="x", y="y", ylim=(0, 9)
    )
    figure = hv.render(overlay)
    own, reference = (renderer.glyph for renderer in figure.renderers)
    assert (own.line_color == GREY, reference.line_color == GREY) == (False, True)
    assert reference.line_dash
    assert (figure.y_range.start, figure.y_range.end) == (0, 9)


def test_points_mark_every_value() -> None:
    overlay = named_curves({"a": ([1, 2], [1, 2])}, x="x", y="y", points=True)
    assert [type(layer) for layer in overlay] == [hv.Curve, hv.Scatter]


def test_bars_stand_in_the_order_given() -> None:
    bars = named_bars({"b": 2, "a": 1}, y="words")
    assert list(bars.dimension_values("name")) == ["b", "a"]
    assert list(bars.dimension_values("value")) == [2, 1]
    assert hv.render(bars).yaxis[0].axis_label == "words"


def test_a_band_reaches_from_mean_minus_to_mean_plus_half() -> None:
    mean, half = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.25, 1.0])
    figure = hv.render(named_bands({"a": ([1, 2, 3], mean, half)}, x="epoch", y="accuracy (%)"))
    areas = [r for r in figure.renderers if "Patch" in type(r.glyph).__name__ or isinstance(r.glyph, VArea)]  # fmt: skip # noqa: E501
    (data,) = [area.data_source.data for area in areas]
    ends = np.concatenate([np.asarray(v, dtype=float) for k, v in data.items() if k != "x"])
    for value in (*(mean - half), *(mean + half)):
        assert np.isclose(ends, value).any()
    assert (figure.xaxis[0].axis_label, figure.yaxis[0].axis_label) == ("epoch", "accuracy (%)")


def test_the_toolbar_saves_svg_where_that_is_asked_for() -> None:
    bands = {"a": ([1, 2], [1.0, 2.0], [0.1, 0.1])}
    assert hv.render(named_bands(bands, x="x", y="y", svg=True)).output_backend == "svg"
    assert hv.render(named_bands(bands, x="x", y="y")).output_backend == "canvas"
