"""Figures that move: an element is drawn once, then only its data travels to the browser.

Redrawing a HoloViews pane at the frame rate slows training several times; replacing the columns of
the rendered figure's data sources does not. No widgets and no callbacks here.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
from bokeh.models import DataRange1d, Range1d
from bokeh.models.annotations import ColorBar, Title
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure


class LiveFigure:
    """A Bokeh ``figure`` rendered from an element, whose data can be replaced at the frame rate.

    The element's title is kept in ``title`` and left to the page, whose theme colours it.

    ``follow`` names the axes ("x", "y", "xy" or "") that follow the data; the others stay as the
    element fixed them.
    """

    def __init__(self, element: hv.Element | hv.Overlay, *, follow: str = "xy") -> None:
        self.figure: figure = hv.render(element, backend="bokeh")
        self.figure.output_backend = "canvas"  # webgl is many times slower without a GPU
        self.figure.toolbar_location = None  # ranges follow the data: zoom would not last
        self.figure.update(sizing_mode="stretch_both", height=None, frame_align=False)
        title = self.figure.title
        self.title = str(title.text if isinstance(title, Title) else title or "")
        self.figure.title = None
        if "x" in follow:
            self.figure.x_range = DataRange1d(range_padding=0.02)
        if "y" in follow:
            self.figure.y_range = DataRange1d(range_padding=0.08)
        self._glyphs = [r for r in self.figure.renderers if isinstance(r, GlyphRenderer)]
        self._bars = [bar for bar in self.figure.right if isinstance(bar, ColorBar)]
        self._sources: list[Any] = [glyph.data_source for glyph in self._glyphs]

    def columns(self, glyph: int) -> dict[str, Any]:
        """The columns that the ``glyph``-th glyph shows."""
        return dict(self._sources[glyph].data)

    def set_columns(self, glyph: int, columns: dict[str, Any]) -> None:
        """Replace all columns of the ``glyph``-th glyph, counted in the order of the overlay."""
        self._sources[glyph].data = columns

    def set_image(self, values: np.ndarray, *, limits: tuple[float, float], unit: str) -> None:
        """Replace a heat map's matrix, and its limits and unit where they changed."""
        rows, columns = values.shape
        box = {"x": [0], "y": [0], "dw": [columns], "dh": [rows]}
        self._sources[0].data = {"image": [values], **box}
        self._fit(columns, rows)
        mapper = self._glyphs[0].glyph.color_mapper
        if (mapper.low, mapper.high) != limits:
            mapper.update(low=limits[0], high=limits[1])
        for bar in self._bars:
            if bar.title != unit:
                bar.title = unit

    def set_palette(self, palette: list[str]) -> None:
        """Replace a heat map's colours."""
        mapper = self._glyphs[0].glyph.color_mapper
        if list(mapper.palette) != palette:
            mapper.palette = palette

    def _fit(self, columns: int, rows: int) -> None:
        x, y = self.figure.x_range, self.figure.y_range
        if (
            isinstance(x, Range1d)
            and isinstance(y, Range1d)
            and (x.end, y.start) != (columns, rows)
        ):
            x.update(start=0, end=columns, reset_start=0, reset_end=columns)
            y.update(start=rows, end=0, reset_start=rows, reset_end=0)
