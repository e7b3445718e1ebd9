"""Figures that move: an element is drawn once, then only its data travels to the browser.

Redrawing a HoloViews pane at the frame rate slows training several times; replacing the columns of
the rendered figure's data sources does not. No widgets and no callbacks here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.core.property.vectorization import Value
from bokeh.core.property.wrappers import PropertyValueContainer
from bokeh.model import Model
from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    FixedTicker,
    HoverTool,
    Image,
    Line,
    LinearColorMapper,
    Range1d,
    Scatter,
)
from bokeh.models.annotations import ColorBar, Title
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

UNSEEN = np.array([0.1, 1.0])  # on every axis, logarithmic ones included


class LiveFigure:
    """A Bokeh ``figure`` rendered from an element, whose data can be replaced at the frame rate.

    The element's title is kept in ``title`` and left to the page, whose theme colours it.

    ``follow`` names the axes ("x", "y", "xy" or "") that follow the data; the others stay as the
    element fixed them; with ``from_zero`` the x axis begins at 0. With ``pixels`` images take
    :meth:`set_pixels` (and no :meth:`set_image`); their palettes must have 255 colours.
    """

    def __init__(
        self,
        element: hv.Element | hv.Overlay,
        *,
        follow: str = "xy",
        from_zero: bool = False,
        pixels: bool = False,
    ) -> None:
        self.figure: figure = hv.render(element, backend="bokeh")
        self.figure.output_backend = "canvas"  # webgl is many times slower without a GPU
        self.figure.toolbar_location = None  # ranges follow the data: zoom would not last
        self.figure.toolbar.tools = []  # and the wheel scrolls the page
        self.figure.update(sizing_mode="stretch_both", height=None, frame_align=False)
        title = self.figure.title
        self.title = str(title.text if isinstance(title, Title) else title or "")
        self.figure.title = None
        if "x" in follow:
            start: dict[str, Any] = {"start": 0} if from_zero else {}
            self.figure.x_range = DataRange1d(range_padding=0.02, **start)
        if "y" in follow:
            self.figure.y_range = DataRange1d(range_padding=0.08)
        self._find_parts()
        for place, source in enumerate(self._sources):
            self.set_columns(place, dict(source.data))
        self.figure.xaxis.ticker.desired_num_ticks = 5  # labels have room in a narrow cell, too
        for model in self.figure.references():  # ranges and sizes would come back at every frame
            model.syncable = False
        for renderer in self._glyphs if pixels else ():
            if isinstance(image := renderer.glyph, Image):
                own: Any = image.color_mapper
                image.color_mapper = LinearColorMapper(  # a bar keeps its own, in its unit
                    palette=own.palette,
                    low=-0.5,
                    high=254.5,
                    high_color="#00000000",
                )

    def _find_parts(self) -> None:
        self._glyphs = [r for r in self.figure.renderers if isinstance(r, GlyphRenderer)]
        self._bars = [bar for bar in self.figure.right if isinstance(bar, ColorBar)]
        self._sources: list[Any] = [glyph.data_source for glyph in self._glyphs]

    def add_curve(self, x: str, y: str, *, name: str, color: str, legend: str) -> None:
        """Add a curve below the others: the last glyph, in a legend of its own at ``legend``.

        Use :meth:`set_past` for its data; without any, neither of them shows.
        """
        source = ColumnDataSource({x: np.zeros(0), y: np.zeros(0)})
        look: dict[str, Any] = {"color": color, "line_alpha": 0.6, "line_width": 1.5}
        before = self.figure.references()
        line = self.figure.line(x, y, source=source, level="underlay", legend_label=name, **look)
        shown: Any = self.figure.legend[0]
        shown.update(location=legend, background_fill_alpha=0.6, padding=3, visible=False)
        shown.update(label_text_font_size="9pt")
        for model in self.figure.references() - before:
            model.syncable = False
        self._glyphs.append(line)
        self._sources.append(source)

    def set_past(self, columns: dict[str, Any]) -> None:
        """Replace the data of the curve of :meth:`add_curve`."""
        source, shown = self._sources[-1], bool(len(next(iter(columns.values()))))
        if any(not np.array_equal(source.data[name], columns[name]) for name in columns):
            source.data = columns
        legend: Any = self.figure.legend[0]
        if legend.visible != shown:
            legend.visible = shown

    def copy(self) -> LiveFigure:
        """Return the same figure for another page, in a fraction of HoloViews' time.

        Its models have the same ids, so one page cannot show both.
        """
        other = copy(self)
        other.figure = _copied(self.figure, {})
        other._find_parts()
        return other

    def columns(self, glyph: int) -> dict[str, Any]:
        """The columns that the ``glyph``-th glyph shows."""
        held = self._sources[glyph].data
        shown = self._glyphs[glyph].visible
        return {name: values if shown else values[:0] for name, values in held.items()}

    def set_columns(self, glyph: int, columns: dict[str, Any]) -> None:
        """Replace all columns of the ``glyph``-th glyph, counted in the order of the overlay.

        Columns that are what stands there already do not travel. A curve without points hides
        ``UNSEEN`` ones, so that the axes stand.
        """
        source, renderer = self._sources[glyph], self._glyphs[glyph]
        is_curve = isinstance(renderer.glyph, Line | Scatter)
        shown = not is_curve or all(_is_seen(values) for values in columns.values())
        if not shown:
            columns = dict.fromkeys(columns, UNSEEN)
        if renderer.visible != shown:
            renderer.visible = shown
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
        self.set_ranges((0, columns), (rows, 0))
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
        self.place_pixels(0, pixels, (begin, 0, width, height))
        self.set_ranges((begin, begin + width), (height, 0))
        self._label_bars(limits, unit)

    def place_pixels(
        self, glyph: int, pixels: np.ndarray, box: tuple[float, float, float, float]
    ) -> None:
        """Replace one of several images; ``box`` is its x, y, width and height."""
        x, y, width, height = box
        place = {"x": [x], "y": [y], "dw": [width], "dh": [height]}
        self._sources[glyph].data = {"image": [pixels], **place}

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

    def name_curves(self, names: Sequence[str]) -> None:
        """Set the names in the legend."""
        items: Any = self.figure.legend[0].items
        for item, name in zip(items, names, strict=True):
            if item.label != Value(name):
                item.label = Value(name)

    def list_curve(self, place: int, listed: bool) -> None:
        """Show the ``place``-th entry of the legend, or hide it."""
        item: Any = self.figure.legend[0].items[place]
        if item.visible != listed:
            item.visible = listed

    def name_rows(self, names: Sequence[str]) -> None:
        """Name the rows of the y axis, the first on top; a row is 1 high."""
        axis: Any = self.figure.yaxis[0]
        places = [place + 0.5 for place in range(len(names))]
        named = dict(zip(places, names, strict=True))
        if axis.major_label_overrides != named:
            axis.update(ticker=FixedTicker(ticks=places), major_label_overrides=named)
            y: Any = self.figure.y_range
            y.update(start=len(names), end=0, reset_start=len(names), reset_end=0)

    def explain(self, glyph: int, column: str) -> None:
        """Show the text in ``column`` when the pointer is over a line of the ``glyph``-th glyph."""
        hover = HoverTool(renderers=[self._glyphs[glyph]], tooltips=f"@{column}")
        self.figure.add_tools(hover)

    def set_palette(self, palette: list[str], glyph: int = 0) -> None:
        """Replace the colours of an image and of the bar."""
        for coloured in (self._glyphs[glyph].glyph, *self._bars):
            if list(coloured.color_mapper.palette) != palette:
                coloured.color_mapper.palette = palette

    def set_ranges(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Set the ends of both axes, unless they follow the data."""
        for axis, (start, end) in ((self.figure.x_range, x), (self.figure.y_range, y)):
            if isinstance(axis, Range1d) and (axis.start, axis.end) != (start, end):
                axis.update(start=start, end=end, reset_start=start, reset_end=end)


def _copied(value: Any, made: dict[str, Any], owner: Any = None, name: str = "") -> Any:
    """A copy of what a model holds, models included: with equal ids, for no document yet."""
    if isinstance(value, Model):
        return made[value.id] if value.id in made else _copied_model(value, made)
    found: Any
    if isinstance(value, list | tuple):
        found = type(value)(_copied(item, made) for item in value)
    elif isinstance(value, dict):
        found = type(value)({key: _copied(item, made) for key, item in value.items()})
    elif is_dataclass(value) and not isinstance(value, type):  # such as a field with its transform
        parts = {part.name: _copied(getattr(value, part.name), made) for part in fields(value)}
        return replace(value, **parts)
    else:
        return copy(value) if isinstance(value, PropertyValueContainer) else value
    if isinstance(found, PropertyValueContainer):
        found._register_owner(owner, owner.lookup(name))
    return found


def _copied_model(model: Any, made: dict[str, Any]) -> Any:
    other = made[model.id] = object.__new__(type(model))
    other.__dict__.update(model.__dict__, _callbacks={}, _event_callbacks=defaultdict(list))
    for kind in ("_property_values", "_unstable_default_values", "_unstable_themed_values"):
        held = model.__dict__[kind].items()
        other.__dict__[kind] = {name: _copied(value, made, other, name) for name, value in held}
    return other


def _is_seen(values: Any) -> bool:
    values = np.asarray(values)
    return bool(values.dtype.kind not in "fc" or np.isfinite(values).any())
