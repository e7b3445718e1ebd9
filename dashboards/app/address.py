"""Conversion of widgets to a URL query and back, checked against the widgets.

``settings_text.py`` checks the settings of a run by their own declarations.
"""

# Not ``pn.state.location.sync``: it accepts values outside a slider's bounds or a select's options,
# ignores unknown names, adds defaults to the URL, and each change adds a step for Back.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import panel as pn
import panel_material_ui as pmui

from dashboards.app.site import Text

_MOST_FIELDS = 200
_REPLACE_ADDRESS = (
    "const query = cb_obj.text.replaceAll('&amp;', '&');"
    "history.replaceState(history.state, '', query ? '?' + query : location.pathname)"
)


class Address(Text):
    """The URL of the page, which holds the page's settings. Put it anywhere on the page.

    A changed knob replaces the URL in place, so the Back button leaves the page.
    """

    def __init__(self) -> None:
        super().__init__("", styles={"display": "none"})
        self.jscallback(text=_REPLACE_ADDRESS)

    def keep(self, query: str) -> None:
        """Set the query of the URL."""
        self.object = query


def query_asked() -> str:
    """The query of the requested URL."""
    location = pn.state.location
    return (location.search or "").removeprefix("?") if location else ""


class Watched:
    """The widgets of a page by their names in the URL."""

    def __init__(self, widgets: Mapping[str, Any]) -> None:
        self.widgets = dict(widgets)
        self.defaults = {name: widget.value for name, widget in widgets.items()}

    def pairs(self) -> list[tuple[str, str]]:
        """Name and text of every widget that is not at its default."""
        return [
            (name, as_text(widget.value))
            for name, widget in self.widgets.items()
            if widget.value != self.defaults[name]
        ]

    def take(self, asked: dict[str, str]) -> None:
        """Set the widgets named in ``asked``, and remove those names from it.

        Raises
        ------
        ValueError
            If the text of a widget is not allowed; the message names the first. No widget changes.
        """
        mine = {name: asked.pop(name) for name in list(asked) if name in self.widgets}
        values = {name: value_of(name, self.widgets[name], text) for name, text in mine.items()}
        for name, value in values.items():
            self.widgets[name].value = value

    def number(self, name: str) -> Any:
        """The value of a slider within its own bounds, whatever the browser sent."""
        widget = self.widgets[name]
        value = widget.value if widget.value is not None else widget.start
        return type(value)(min(max(value, widget.start), widget.end))


def parse(query: str) -> dict[str, str]:
    """The names and texts in a query.

    Raises
    ------
    ValueError
        If it has more than 200 fields.
    """
    try:
        return dict(parse_qsl(query.removeprefix("?"), max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise ValueError(f"the URL has more than {_MOST_FIELDS} fields.") from None


def join(pairs: list[tuple[str, str]]) -> str:
    """Names and texts as a query."""
    return urlencode(pairs, quote_via=quote, safe=",:/")


def value_of(name: str, widget: Any, text: str) -> Any:
    """The value of a widget for ``text``.

    Raises
    ------
    ValueError
        If the widget cannot show that value.
    """
    if isinstance(widget.value, list):
        return [one_of(name, widget.options, part) for part in text.split(",") if part]
    if hasattr(widget, "options"):
        return one_of(name, widget.options, text)
    value = number(name, text, widget.start, widget.end)
    if isinstance(widget, pmui.IntSlider | pmui.IntInput):
        if not value.is_integer():
            raise ValueError(f"{name} must be a whole number; got {value:g}")
        return int(value)
    return value


def number(name: str, text: str, low: float, high: float) -> float:
    """``text`` as a finite number between the bounds; ValueError otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}; got {text[:40]!r}")
    return value


def one_of(name: str, options: Any, text: str) -> Any:
    """The option whose text is ``text``; ValueError if there is none."""
    known = list(options.values()) if isinstance(options, dict) else list(options)
    for option in known:
        if str(option) == text:
            return option
    allowed = ", ".join(map(str, known)) or "nothing yet"
    raise ValueError(f"{name} must be one of {allowed}; got {text[:40]!r}")


def as_text(value: Any) -> str:
    """A value as URL text; list items are separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
