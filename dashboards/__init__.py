"""Panel apps: a folder a page, with ``PAGE`` and a function of the folder's name in ``page.py``.

Widgets, layout and the frame loop; no maths and no training here.
"""

from typing import NamedTuple


class Page(NamedTuple):
    """What a page's folder says of it: its title, and its place in the row of links."""

    title: str
    place: int
