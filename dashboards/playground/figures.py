"""The Playground's grid of live views with their captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import panel as pn

from dashboards.app.site import Text
from dashboards.playground.views import VIEWS
from toolkit.plots import LiveFigure
from toolkit.training.experiment.snapshot import LOOKS_EVERY, Look, Snapshot

DEFAULT = ("loss", "accuracy", "energy", "spectrum", "waterfall", "weight")
MOST = 6
ALWAYS = ("loss",)
_GAP = 6


class Figures:
    """Up to six live views, created when first shown and then kept."""

    def __init__(self, shown: Sequence[str] = DEFAULT) -> None:
        self.drawings: dict[str, Any] = {}  # figures or panes
        self._captions: dict[str, Text] = {}
        self._cells: dict[str, pn.Column] = {}
        self._turn = 0
        self._drawn: tuple[object, ...] = ()
        self.grid = pn.Column(sizing_mode="stretch_both")
        self.show(shown)

    def show(self, names: Sequence[str]) -> None:
        """Show these views, in the order of ``VIEWS``.

        Raises
        ------
        ValueError
            If a name is unknown, or there are none or more than six.
        """
        self.shown = checked(names)
        for name in self.shown:
            if name not in self.drawings:
                self._make(name)
        columns = {1: 1, 2: 2, 4: 2}.get(len(self.shown), 3)
        rows = -(-len(self.shown) // columns)
        for name in self.shown:
            height = f"max(250px, min(36vw, (100vh - 172px) / {rows} - {_GAP}px))"
            self._cells[name].styles = {"min-height": height}
        each = f"max(240px, {100 // columns - 3}%)"
        self.grid.styles = {
            "display": "grid",
            "grid-template-columns": f"repeat(auto-fit, minmax({each}, 1fr))",
            "gap": f"{_GAP}px",
        }
        self.grid.objects = [self._cells[name] for name in self.shown]

    def wanted(self) -> dict[str, Callable[[Look], Any]]:
        """The functions that take the data of the views shown."""
        takes = {name: VIEWS[name].take for name in self.shown}
        return {name: take for name, take in takes.items() if take}

    def draw(self, snapshot: Snapshot) -> None:
        """Put a snapshot into the views shown.

        While training goes on as it was, all but the loss are drawn in turn, one of
        ``LOOKS_EVERY`` at a time, as snapshots look at them: to paint takes a browser longer than
        all else, and a third of the frames is still five times a second.
        """
        state = (snapshot.running, snapshot.knobs, snapshot.focus, self.shown)
        same, self._drawn = state == self._drawn and snapshot.running, state
        self._turn = (self._turn + 1) % LOOKS_EVERY
        for place, name in enumerate(self.shown):
            if same and name not in ALWAYS and place % LOOKS_EVERY != self._turn:
                continue
            taken = snapshot.views.get(name)
            text = _caption(VIEWS[name].draw(self.drawings[name], snapshot, taken))
            if self._captions[name].object != text:
                self._captions[name].object = text

    def _make(self, name: str) -> None:
        drawing = self.drawings[name] = VIEWS[name].blank()
        self._captions[name] = Text(_caption(VIEWS[name].title), sizing_mode="stretch_width")
        if isinstance(drawing, LiveFigure):
            drawing = pn.pane.Bokeh(drawing.figure, sizing_mode="stretch_both")
        self._cells[name] = pn.Column(self._captions[name], drawing, sizing_mode="stretch_both")


def checked(names: Sequence[str]) -> list[str]:
    """These views in the order of the page."""
    if unknown := sorted(set(names) - set(VIEWS)):
        raise ValueError(f"views must be of {', '.join(VIEWS)}; got {unknown[0][:40]!r}")
    if not 1 <= len(set(names)) <= MOST:
        raise ValueError(f"views must be 1 to {MOST}; got {len(set(names))}")
    return [name for name in VIEWS if name in names]


def _caption(text: str) -> str:
    return (
        '<h2 style="margin:0 0 0 58px;font-size:14px;white-space:nowrap;overflow:hidden;'
        f'text-overflow:ellipsis" title="{text}">{text}</h2>'
    )
