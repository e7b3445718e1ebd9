"""A link for a class: a title, the settings that its pages begin with, and a QR code.

Nothing about visitors is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import panel as pn
import panel_material_ui as pmui
import segno

from dashboards.app.address import parse
from dashboards.app.opening import expect
from dashboards.app.site import Text, button, small

MOST_CHARACTERS = 60
_LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")
_ONLY_HERE = (
    "This address works on this machine only. Serve with --address 0.0.0.0 and open this page by "
    "the machine's name in your network."
)


class ClassLink:
    """A form: a title and a button that shows the link. ``query`` gives the query with a title."""

    def __init__(self, query: Callable[[str], str]) -> None:
        self._query = query
        self.title = pmui.TextInput(
            label="Title for a class",
            description="Shown above the page that the link opens.",
            max_length=MOST_CHARACTERS,
            size="small",
            width=220,
        )
        self.button = button("Link and QR code for a class", variant="outlined")
        self.button.on_click(lambda _: self.show())
        self.card = Text("", sizing_mode="stretch_width")

    def parts(self) -> list[pn.viewable.Viewable]:
        """The form, and where the link will be."""
        return [self.title, self.button, self.card]

    def show(self) -> None:
        """Show the link with the page's present settings."""
        location = pn.state.location
        query = self._query(checked_title(self.title.value[:MOST_CHARACTERS]))
        if location is None:  # in a notebook
            self.card.object = small("Only pages of a server have an address.")
            return
        port = f":{location.port}" if location.port else ""
        site = f"{location.protocol}//{location.hostname}{port}{location.pathname}"
        here = location.hostname in _LOCAL
        expect(f"{location.pathname}?{query}")
        self.card.object = link_html(f"{site}?{query}", _ONLY_HERE if here else "")


def checked_title(title: str) -> str:
    """A title in one line of at most 60 characters; raises ValueError if it is longer."""
    title = " ".join(title.split())
    if len(title) > MOST_CHARACTERS:
        raise ValueError(f"title must have at most {MOST_CHARACTERS} characters; got {len(title)}")
    return title


def link_html(address: str, warning: str = "") -> str:
    """The link as text and QR code, and the settings in it."""
    try:
        code = segno.make(address, error="m", micro=False)
        picture = code.svg_inline(light="#fff", omitsize=True, title="QR code of the link")
    except segno.DataOverflowError:
        picture = "The link is too long for a QR code."
    asked = parse(address.partition("?")[2])
    begin = ", ".join(f"{name} {value}" for name, value in asked.items() if name != "title")
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:center;padding:6px 0">'
        f'<div style="width:200px">{picture}</div><div style="flex:1 1 260px;min-width:0">'
        f'<p style="overflow-wrap:anywhere;margin:0 0 6px"><a href="{escape(address)}" '
        f'style="color:inherit">{escape(address)}</a></p>{small(f"Pages begin with: {begin}")}'
        f"{small(warning) if warning else ''}</div></div>"
    )
