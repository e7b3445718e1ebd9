"""One variable of a run, with sliders over its dims: part of the Results page."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import xarray as xr

from dashboards.app import site
from dashboards.app.downloads import Download, export_buttons
from dashboards.app.figure_pane import BELOW_TABS, FigurePane, explanation, grid
from toolkit.plots import LiveFigure
from toolkit.plots.variables import (
    Recorded,
    limits,
    place_of,
    readable,
    recorded,
    value_text,
    variable_figure,
    views,
)

_MOST_ROWS = 1_000_000  # rows of a downloaded table
_FIRST = ("/training/loss", "/test_accuracy")  # shown first for a run, for a sweep
_HEIGHT = "max(360px, calc(100vh - 330px))"
LESSON = ("14_your_own_experiment", "Save it")
_ABOUT = (
    "What the run recorded under this name; its meaning and unit are at the axis or the colour "
    "bar. If it has more dimensions than a figure, the sliders above choose the step, layer, row "
    "or column."
)
NOTHING = (
    '<p style="margin:12px">Nothing is open yet. Open a saved run, or the two examples, on the '
    "left.</p>"
)


class Explorer:
    """The choice of what to show: group, variable, view and position along the other dims.

    ``changed`` is called whenever the visitor changes one of them, ``say`` with what a run lacks.
    Settings from a URL wait until a run that has them is open.
    """

    def __init__(self, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._keep, self._say = changed, say
        self._tree: xr.DataTree | None = None
        self._found: dict[str, Recorded] = {}
        self._asked: dict[str, str] = {}
        self._places: dict[str, Any] = {}
        self._last: dict[str, int] = {}  # last position along each dim
        self._filling = False
        self._pane: FigurePane | None = None
        self._make_widgets()

    def _make_widgets(self) -> None:
        doc = "The dimensions on the axes; the others have sliders."
        self.group = site.select("Group", [], "Part of the run.", width=170)
        self.variable = site.select(
            "Variable", [], "A recorded variable and its dimensions.", width=340
        )
        self.as_ = site.select("Shown as", [], doc, width=230)
        self.group.param.watch(lambda _: self._pick_group(), "value")
        self.variable.param.watch(lambda _: self._pick_variable(), "value")
        self.as_.param.watch(lambda _: self._pick_view(), "value")
        self._dims: tuple[Any, ...] = ()  # dims of the variable whose view was chosen
        self._choices = pn.FlexBox(self.group, self.variable, self.as_, visible=False)
        self._sliders = pn.FlexBox(margin=0)
        self.text = site.Text(NOTHING, sizing_mode="stretch_width", margin=(0, 10))
        self._figure = pn.Column(sizing_mode="stretch_both", margin=0)
        self._csv = Download("Data shown (CSV)", "shown.csv", self._csv_file)
        self._netcdf = Download("Variable (netCDF)", "variable.nc", self._netcdf_file)
        self._bar = pn.FlexBox(self._csv, self._netcdf, visible=False, align_items="center")

    def view(self) -> pn.viewable.Viewable:
        """Choices, sliders, figure and downloads."""
        return pn.Column(
            self._choices,
            self._sliders,
            self._bar,
            self.text,
            self._figure,
            sizing_mode="stretch_both",
            margin=BELOW_TABS,
        )

    # --- choosing ----------------------------------------------------------------------------

    def use(self, tree: xr.DataTree | None) -> None:
        """Show a run, and keep the chosen variable if the run has it; None shows nothing."""
        self._tree = tree
        self._choices.visible = tree is not None
        self._found = {one.path: one for one in recorded(tree)} if tree is not None else {}
        path = self._asked.get("variable", self.path)
        if path not in self._found:
            first = [path for path in _FIRST if path in self._found]
            path = next(iter([*first, *self._found]), "")
        self._last |= {name: int(text) for name, text in self._asked.items() if text.isdecimal()}
        self._fill(path)
        if tree is not None:
            self._settle()

    def _settle(self) -> None:
        """Say what the URL asks for and this run does not have; a variable waits for a run."""
        shown = dict(self.pairs())
        for name, text in self._asked.items():
            if shown.get(name) != text and name not in self.axes():
                instead = f"{name}={shown[name]}" if name in shown else "what it has"
                self._say(f"This run has no {name}={text}; the page shows {instead}.")
                break
        if self._asked.get("variable") in (None, self.path):
            self._asked = {}

    @property
    def path(self) -> str:
        """Group and name of the variable shown; "" if none is."""
        return self.variable.value or ""

    def _changed(self) -> None:
        self._asked = {}
        self._keep()

    def _fill(self, path: str) -> None:
        groups = list(dict.fromkeys(one.group for one in self._found.values()))
        self._quietly(self.group, groups, self._found[path].group if path else None)
        self._fill_variables(path)

    def _fill_variables(self, path: str) -> None:
        mine = [one for one in self._found.values() if one.group == self.group.value]
        options = {_entry(one): one.path for one in mine}
        self._quietly(self.variable, options, path or None)
        self._fill_views()

    def _fill_views(self) -> None:
        array = self.array()
        found = views(array) if array is not None else []
        options = {_shown_as(view): ",".join(view) for view in found}
        dims = array.dims if array is not None else ()
        before = self._asked.get("as", self.as_.value if dims == self._dims else None)
        self._dims = dims
        keys = list(options.values())
        kept = before if before in keys else (keys[0] if keys else None)
        self._quietly(self.as_, options, kept)
        self._make_sliders()
        self._draw()

    def _quietly(self, widget: Any, options: Any, value: Any) -> None:
        self._filling = True
        widget.param.update(options=options, value=value)
        self._filling = False

    def _pick_group(self) -> None:
        if not self._filling:
            first = (one.path for one in self._found.values() if one.group == self.group.value)
            self._fill_variables(next(first, ""))
            self._changed()

    def _pick_variable(self) -> None:
        if not self._filling:
            self._fill_views()
            self._changed()

    def _pick_view(self) -> None:
        if not self._filling:
            self._make_sliders()
            self._draw()
            self._changed()

    def _make_sliders(self) -> None:
        """One slider for each dim that is not on an axis, with labels if positions have names."""
        self._places = {}
        array, dataset = self.array(), self.dataset()
        if array is not None and dataset is not None and self.as_.value is not None:
            for dim in map(str, array.dims):
                if dim not in self.axes():
                    self._places[dim] = self._place_widget(dataset, dim)
        self._sliders.objects = list(self._places.values())

    def _place_widget(self, dataset: xr.Dataset, dim: str) -> Any:
        count, place = dataset.sizes[dim], place_of(dataset, dim)
        index = min(self._last.get(dim, count if dim == "step" else 0), count - 1)
        where: dict[str, Any] = {"label": dim, "description": "Position along this dimension."}
        where |= {"size": "small", "width": 240, "margin": (6, 6)}
        if place is None or count > 200:
            kind: Any = pmui.IntSlider if count > 1 else pmui.Select
            span: dict[str, Any] = {"start": 0, "end": count - 1} if count > 1 else {"options": [0]}
        else:
            kind = pmui.Select if place.dtype.kind not in "iuf" else pmui.DiscreteSlider
            name = f"{place.name} " if place.name != dim else ""
            span = {"options": {f"{name}{place.values[i]} ({dim} {i})": i for i in range(count)}}
        widget = kind(value=index, **span, **where)
        widget.param.watch(lambda _: self._move(), "value")
        return widget

    def _move(self) -> None:
        """Redraw for a moved slider: new data in the same figure."""
        self._last |= self.places()
        self._draw(moved=True)
        self._changed()

    # --- showing -----------------------------------------------------------------------------

    def dataset(self) -> xr.Dataset | None:
        """The group shown."""
        one = self._found.get(self.path)
        return self._tree[one.group].to_dataset() if one and self._tree is not None else None

    def array(self) -> xr.DataArray | None:
        """The whole variable of which a part is shown."""
        dataset = self.dataset()
        return dataset[self._found[self.path].name] if dataset is not None else None

    def axes(self) -> tuple[str, ...]:
        """The dims on the axes."""
        return tuple(part for part in (self.as_.value or "").split(",") if part)

    def places(self) -> dict[str, int]:
        """Index along every other dim, within the variable's bounds."""
        array = self.array()
        sizes = dict(array.sizes) if array is not None else {}
        return {
            dim: min(max(int(widget.value or 0), 0), sizes[dim] - 1)
            for dim, widget in self._places.items()
        }

    def shown(self) -> xr.DataArray | None:
        """The part of the variable that is shown."""
        array = self.array()
        return array.isel(self.places()) if array is not None and array.size else None

    def _draw(self, *, moved: bool = False) -> None:
        shown, dataset, array = self.shown(), self.dataset(), self.array()
        self._bar.visible = shown is not None
        if shown is None or dataset is None or array is None:
            self.text.object = NOTHING if self._tree is None else _EMPTY
            self._figure.objects = []
        elif shown.ndim == 0:
            self.text.object = (
                f'<p style="font-size:28px;margin:16px">{escape(value_text(shown))}</p>'
            )
            self._figure.objects = []
        else:
            self.text.object = ""
            live = LiveFigure(
                variable_figure(dataset, str(array.name), self.places()),
                follow="xy" if shown.ndim == 1 else "",
            )
            if moved and self._pane is not None and self._figure.objects:
                self._update(live, array, shown)
            else:
                self._place(live)

    def _update(self, live: LiveFigure, array: xr.DataArray, shown: xr.DataArray) -> None:
        """Put new data into the present figure."""
        assert self._pane is not None
        if shown.ndim == 2:
            image, unit = live.columns(0)["image"][0], readable(array)[1] or "1"
            self._pane.live.set_image(image, limits=limits(array), unit=unit)
        else:
            for glyph in (0, 1):
                self._pane.live.set_columns(glyph, live.columns(glyph))

    def _place(self, live: LiveFigure) -> None:
        if self._pane is None:
            self._pane = FigurePane(live, about=explanation(_ABOUT, LESSON), height=_HEIGHT)
            self._bar.insert(0, export_buttons(self._pane, "variable"))
        else:
            self._pane.replace(live)
        if not self._figure.objects:
            self._figure.objects = [grid(self._pane, share="100%")]

    # --- keeping -----------------------------------------------------------------------------

    def _csv_file(self) -> bytes:
        shown = self.shown()
        if shown is None:
            return b""
        if shown.size > _MOST_ROWS:
            raise ValueError(f"a table has at most {_MOST_ROWS:,} values; got {shown.size:,}.")
        if not shown.ndim:
            return f"{shown.name}\n{shown.values.item()}\n".encode()
        named = shown.to_dataset(name=str(shown.name)).drop_attrs()
        return named.to_dataframe().to_csv().encode()

    def _netcdf_file(self) -> bytes:
        array = self.array()
        if array is None:
            return b""
        return bytes(array.to_dataset(name=str(array.name)).to_netcdf(engine="h5netcdf"))

    # --- the address -------------------------------------------------------------------------

    def pairs(self) -> list[tuple[str, str]]:
        """What is shown, for the URL; until a run is open, the settings from the URL."""
        if self._tree is None:
            return list(self._asked.items())
        if not self.path:
            return []
        places = [(dim, str(index)) for dim, index in self.places().items()]
        return [("variable", self.path), ("as", self.as_.value or ""), *places]

    def take(self, asked: dict[str, str]) -> None:
        """Keep the settings in ``asked`` until a run is open, and remove them from it.

        Raises
        ------
        ValueError
            If a place is not a whole number.
        """
        for name in ("variable", "as"):
            if name in asked:
                self._asked[name] = asked.pop(name)[:120]
        for dim in [name for name in asked if re.fullmatch(r"[a-z_]{1,40}", name)]:
            text = asked.pop(dim)
            if not text.isdecimal() or len(text) > 9:
                raise ValueError(f"{dim} must be a whole number of at least 0; got {text[:40]!r}")
            name = "step" if dim == "record" else dim  # former name of steps
            self._asked[name] = str(int(text))


_EMPTY = '<p style="margin:12px">This variable has no recorded values.</p>'


def _entry(one: Recorded) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in zip(one.dims, one.shape, strict=True))
    units = f" [{one.units}]" if one.units not in ("", "1") else ""
    return f"{one.name} ({sizes}){units}"


def _shown_as(view: tuple[str, ...]) -> str:
    if not view:
        return "value"
    return f"curve over {view[0]}" if len(view) == 1 else f"image, {view[0]} × {view[1]}"
