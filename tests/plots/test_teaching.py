"""Named curves and bars show what they are given."""

import holoviews as hv
import numpy as np

from toolkit.plots.teaching import GREY, named_bars, named_curves


def test_curves_leave_out_what_a_log_axis_cannot_show() -> None:
    overlay = named_curves({"a": ([1, 2, 3], [1.0, 0.0, 4.0])}, x="step", y="loss (nat)", logy=True)
    curve = next(iter(overlay))
    np.testing.assert_array_equal(curve.dimension_values("y"), [1.0, 4.0])
    assert curve.vdims[0].label == "loss (nat)"


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
    assert bars.vdims[0].label == "words"
