"""Figures with captions, side by side as far as the window allows.

Pages here change figures without ``pn.io.hold``: Panel 1.9 drops what is held while a visitor's
browser has the page already and Panel has not heard of it yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from typing import Any

import panel as pn

from dashboards.app.site import Text
from toolkit.plots import LiveFigure

# as high as its content: figures drawn too high would overlap text that appears later
WHOLE = {"flex": "0 0 auto", "height": "auto", "min-height": "fit-content"}
BELOW_TABS = (8, 0, 0, 0)  # labels of the first row stand half above their boxes


class FigurePane:
    """A figure under its caption, in one cell of a grid."""

    def __init__(self, live: LiveFigure, *, height: str = "290px") -> None:
        self.live = live
        self._name: str | None = None
        self._caption = Text(_caption(live.title), margin=0)
        self._pane = pn.pane.Bokeh(live.figure, sizing_mode="stretch_both")
        self.view = pn.Column(
            self._caption, self._pane, sizing_mode="stretch_both", styles={"min-height": height}
        )

    def replace(self, live: LiveFigure) -> None:
        """Show another figure in its place."""
        self.live = live
        live.figure.name = self._name
        self.caption(live.title)
        self._pane.object = live.figure

    def name_figure(self, name: str) -> None:
        """Name this and every later figure for the browser."""
        self._name = self.live.figure.name = name

    def caption(self, text: str) -> None:
        """Set the caption."""
        self._caption.object = _caption(text)


def grid(*panes: FigurePane, least: str = "320px", share: str = "30%") -> pn.Column:
    """The panes in rows, each at least ``least`` wide and a ``share`` of the row."""
    return pn.Column(
        *(pane.view for pane in panes),
        sizing_mode="stretch_both",
        styles={
            "display": "grid",
            "grid-template-columns": f"repeat(auto-fit, minmax(max({least}, {share}), 1fr))",
            "gap": "6px",
            "min-height": "fit-content",  # several rows push what stands below further down
        },
    )


def facts(items: dict[str, Any]) -> str:
    """A line of named values, as HTML."""
    cells = "".join(
        f'<div><dt style="font-size:11px;opacity:.75">{escape(name)}</dt>'
        '<dd style="margin:0;font-weight:600;font-variant-numeric:tabular-nums">'
        f"{escape(str(value))}</dd></div>"
        for name, value in items.items()
    )
    return f'<dl style="display:flex;flex-wrap:wrap;gap:4px 26px;margin:2px 0">{cells}</dl>'


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = "",
    *,
    numbers: bool = False,
    colours: Sequence[str] = (),
) -> str:
    """A table as HTML. Format numbers as text first.

    With ``numbers``, the first column names the rows and the others are right-aligned. ``colours``
    draws a bar before each row.
    """
    side = "right" if numbers else "left"
    sides = ["left", *[side] * (len(headers) - 1)]
    head = "".join(
        f'<th scope="col" style="{_CELL}text-align:{aside}">{escape(name)}</th>'
        for aside, name in zip(sides, headers, strict=True)
    )
    body = "".join(
        f"<tr>{_first(str(row[0]), numbers, colour)}"
        + "".join(
            f'<td style="{_CELL}text-align:{side};overflow-wrap:anywhere">{escape(str(item))}</td>'
            for item in row[1:]
        )
        + "</tr>"
        for row, colour in zip_longest(rows, colours[: len(rows)])
    )
    title = f'<caption style="text-align:left;font-weight:600">{escape(caption)}</caption>'
    return (
        '<table style="border-collapse:collapse;font-variant-numeric:tabular-nums">'
        f"{title if caption else ''}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _first(text: str, is_name: bool, colour: str | None) -> str:
    kind = 'th scope="row"' if is_name else "td"
    bar = f"border-left:6px solid {colour};padding-left:8px;" if colour else ""
    style = f"{_CELL}text-align:left;font-weight:400;white-space:nowrap;{bar}"
    return f'<{kind} style="{style}">{escape(text)}</{kind[:2]}>'


_CELL = "padding:2px 12px 2px 0;border-bottom:1px solid #8884;vertical-align:top;"


def _caption(text: str) -> str:
    return f'<h2 style="margin:0 0 0 58px;font-size:14px">{escape(text)}</h2>'
