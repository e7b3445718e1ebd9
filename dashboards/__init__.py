"""Panel apps: one folder per page, with ``PAGE`` and, in ``page.py``, a function of the same name.

Widgets, layout and the frame loop; no mathematics and no training.
"""

from typing import NamedTuple


class Page(NamedTuple):
    """The declaration of a page: its title, and its place in the row of links."""

    title: str
    place: int
