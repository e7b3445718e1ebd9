"""Bands lie where mean and half-width put them."""

import holoviews as hv
import numpy as np
from bokeh.models import VArea

from toolkit.plots.bands import named_bands


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
