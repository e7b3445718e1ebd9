"""Figures that move: an element is drawn once, then only its data travels to the browser.

Redrawing a HoloViews pane at the frame rate slows training several times; replacing the columns of
the rendered figure's data sources does not. No widgets and no callbacks here.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
from bokeh.models import DataRange1d, HoverTool, LinearColorMapper, Range1d
from bokeh.models.annotations import ColorBar, Title
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure


class LiveFigure:
    """A Bokeh ``figure`` rendered from an element, whose data can be replaced at the frame rate.

    The element's title is kept in ``title`` and left to the page, whose theme colours it.

    ``follow`` names the axes ("x", "y", "xy" or "") that follow the data; the others stay as the
    element fixed them. With ``pixels`` a heat map takes :meth:`set_pixels` (and no
    :meth:`set_image`); its palettes must have 255 colours.
    """

    def __init__(
        self, element: hv.Element | hv.Overlay, *, follow: str = "xy", pixels: bool = False
    ) -> None:
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
        self.figure.xaxis.ticker.desired_num_ticks = 5  # labels have room in a narrow cell, too
        for model in self.figure.references():  # ranges and sizes would come back at every frame
            model.syncable = False
        if pixels:  # the bar keeps a mapper of its own, in the unit of what is shown
            self._glyphs[0].glyph.color_mapper = LinearColorMapper(
                palette=self._bars[0].color_mapper.palette,
                low=-0.5,
                high=254.5,
                high_color="#00000000",
            )

    def columns(self, glyph: int) -> dict[str, Any]:
        """The columns that the ``glyph``-th glyph shows."""
        return dict(self._sources[glyph].data)

    def set_columns(self, glyph: int, columns: dict[str, Any]) -> None:
        """Replace all columns of the ``glyph``-th glyph, counted in the order of the overlay.

        Columns that are what stands there already do not travel.
        """
        source = self._sources[glyph]
        held = source.data
        if held.keys() != columns.keys() or not all(
            np.array_equal(held[name], values) for name, values in columns.items()
        ):
            source.data = columns

    def set_image(self, values: np.ndarray, *, limits: tuple[float, float], unit: str) -> None:
        """Replace a heat map's matrix, and its limits and unit where they changed."""
        rows, columns = values.shape
        box = {"x": [0], "y": [0], "dw": [columns], "dh": [rows]}
        self._sources[0].data = {"image": [values], **box}
        self._fit(columns, rows)
        self._label_bars(limits, unit)

    def set_pixels(
        self,
        pixels: np.ndarray,
        *,
        box: tuple[float, float, float],
        limits: tuple[float, float],
        unit: str,
    ) -> None:
        """Replace a heat map by uint8 pixels: 0 and 254 at the limits, 255 nothing.

        A quarter of the bytes of a matrix of float32 travel. For figures made for ``pixels``.
        ``box`` is the first column's x, the width and the height that the pixels cover.
        """
        begin, width, height = box
        columns = {"x": [begin], "y": [0], "dw": [width], "dh": [height]}
        self._sources[0].data = {"image": [pixels], **columns}
        self._fit(width, height, begin=begin)
        self._label_bars(limits, unit)

    def _label_bars(self, limits: tuple[float, float], unit: str) -> None:
        for bar in self._bars:
            mapper: Any = bar.color_mapper
            if (mapper.low, mapper.high) != limits:
                mapper.update(low=limits[0], high=limits[1])
            if bar.title != unit:
                bar.title = unit

    def label_axes(self, *, x: str, y: str) -> None:
        """Say what the axes count."""
        for axis, text in ((self.figure.xaxis[0], x), (self.figure.yaxis[0], y)):
            if axis.axis_label != text:
                axis.axis_label = text

    def explain(self, glyph: int, column: str) -> None:
        """Show the text in ``column`` when the pointer is over a line of the ``glyph``-th glyph."""
        hover = HoverTool(renderers=[self._glyphs[glyph]], tooltips=f"@{column}")
        self.figure.add_tools(hover)

    def set_palette(self, palette: list[str]) -> None:
        """Replace a heat map's colours."""
        for coloured in (self._glyphs[0].glyph, *self._bars):
            if list(coloured.color_mapper.palette) != palette:
                coloured.color_mapper.palette = palette

    def _fit(self, width: float, height: float, *, begin: float = 0) -> None:
        x, y = self.figure.x_range, self.figure.y_range
        if not (isinstance(x, Range1d) and isinstance(y, Range1d)):
            return
        end = begin + width
        if (x.start, x.end, y.start) != (begin, end, height):
            x.update(start=begin, end=end, reset_start=begin, reset_end=end)
            y.update(start=height, end=0, reset_start=height, reset_end=0)
