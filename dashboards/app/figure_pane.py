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
from dashboards.app.tutorials import link_to
from toolkit.plots import LiveFigure

# as high as its content: figures drawn too high would overlap text that appears later
WHOLE = {"flex": "0 0 auto", "height": "auto", "min-height": "fit-content"}
BELOW_TABS = (8, 0, 0, 0)  # labels of the first row stand half above their boxes


class FigurePane:
    """A figure, or anything else that Panel shows, under its caption: one cell of a grid."""

    def __init__(
        self, drawing: Any, title: str = "", *, about: str = "", height: str = "290px"
    ) -> None:
        self.live = drawing  # usually a LiveFigure
        self._name: str | None = None
        self._caption = Text("", sizing_mode="stretch_width", margin=0)
        if isinstance(drawing, LiveFigure):
            title = title or drawing.title
            drawing = pn.pane.Bokeh(drawing.figure, sizing_mode="stretch_both")
        self._pane = drawing
        heading = (
            pn.Row(self._caption, Text(about, margin=(0, 6, 0, 0))) if about else self._caption
        )
        self.view = pn.Column(heading, drawing, sizing_mode="stretch_both")
        self.caption(title)
        self.set_height(height)

    def replace(self, live: LiveFigure) -> None:
        """Show another figure in its place."""
        self.live = live
        live.figure.name = self._name
        self.caption(live.title)
        self._pane.object = live.figure

    def name_figure(self, name: str) -> None:
        """Name this and every later figure for the browser."""
        self._name = self.live.figure.name = name

    def set_height(self, css: str) -> None:
        """Set the least height of figure and caption, a CSS length."""
        self.view.styles = {"min-height": css}

    def caption(self, text: str) -> None:
        """Show ``text`` above the figure; if it is too long, its end is in the tooltip only."""
        self._caption.object = (
            '<h2 style="margin:0 0 0 58px;font-size:14px;white-space:nowrap;overflow:hidden;'
            f'text-overflow:ellipsis" title="{escape(text)}">{escape(text)}</h2>'
        )


def explanation(text: str, lesson: tuple[str, str]) -> str:
    """A question mark, as HTML, that opens what a figure shows and names the notebook's section."""
    notebook, section = lesson
    source = escape(f"Notebook {notebook[:2]}, “{section}”")
    if pn.state.curdoc and pn.state.curdoc.session_context:  # a page of the server
        address = escape(link_to(notebook, section))
        source = f'<a href="{address}" target="_blank" style="color:inherit">{source}</a>'
    return (
        '<details style="position:relative"><summary title="What am I looking at?" '
        'aria-label="What am I looking at?" style="list-style:none;cursor:pointer;width:18px;'
        "height:18px;line-height:17px;text-align:center;border:1px solid currentColor;"
        'border-radius:50%;font-size:12px;opacity:.8">?</summary><div style="position:absolute;'
        "right:0;top:22px;z-index:9;width:min(300px,70vw);padding:8px 12px;font-size:13px;"
        "line-height:1.45;background:var(--mui-palette-background-paper,Canvas);border:1px solid "
        'currentColor;border-radius:6px;box-shadow:0 4px 12px #0006">'
        f"{escape(text)}<br><em>{source}</em></div></details>"
    )


def grid(*panes: FigurePane, least: str = "320px", share: str = "30%") -> pn.Column:
    """The panes in rows, each at least ``least`` wide and a ``share`` of the row."""
    styles = grid_styles(least=least, share=share)
    return pn.Column(*(pane.view for pane in panes), styles=styles, sizing_mode="stretch_both")


def grid_styles(*, least: str, share: str) -> dict[str, str]:
    """Styles of a grid whose cells are at least ``least`` wide and a ``share`` of the row."""
    return {
        "display": "grid",
        "grid-template-columns": f"repeat(auto-fit, minmax(max({least}, {share}), 1fr))",
        "gap": "6px",
        "min-height": "fit-content",  # several rows push what stands below further down
    }


def facts(items: dict[str, Any], widths: Sequence[int] = ()) -> str:
    """A line of named values, as HTML; each at least as many characters wide as ``widths`` says."""
    cells = "".join(
        f'<div style="min-width:{width}ch"><dt style="font-size:11px;opacity:.85">{escape(name)}'
        '</dt><dd style="margin:0;font-weight:600;font-variant-numeric:tabular-nums">'
        f"{escape(str(value))}</dd></div>"
        for (name, value), width in zip(items.items(), [*widths, *[0] * len(items)], strict=False)
    )
    return f'<dl style="display:flex;flex-wrap:wrap;gap:4px 18px;margin:2px 0">{cells}</dl>'


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
            f'<td style="{_CELL}text-align:{side};{_wrap(str(item), numbers)}">'
            f"{escape(str(item))}</td>"
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


def _wrap(text: str, is_number: bool) -> str:
    """Only long words are broken."""
    if is_number:
        return "white-space:nowrap"
    return "overflow-wrap:anywhere" if max(map(len, text.split()), default=0) > 30 else ""


def _first(text: str, is_name: bool, colour: str | None) -> str:
    kind = 'th scope="row"' if is_name else "td"
    bar = f"border-left:6px solid {colour};padding-left:8px;" if colour else ""
    style = f"{_CELL}text-align:left;font-weight:400;white-space:nowrap;{bar}"
    return f'<{kind} style="{style}">{escape(text)}</{kind[:2]}>'


_CELL = "padding:2px 12px 2px 0;border-bottom:1px solid #8884;vertical-align:top;"
