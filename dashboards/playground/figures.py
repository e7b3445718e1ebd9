"""The Playground's grid of live views with their captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import panel as pn

from dashboards.app.figure_pane import FigurePane, explanation, grid_styles
from dashboards.playground.view import View
from dashboards.playground.views import VIEWS
from toolkit.plots import LiveFigure
from toolkit.training.layers.convert import DIGITAL
from toolkit.training.live.snapshot import LOOKS_EVERY, Look, Snapshot

DEFAULT = ("loss", "accuracy", "spectrum", "predictions", "update", "g_plus")
MOST = 6
ALWAYS = ("loss",)


def default_views(device: object) -> list[str]:
    """The views with which a page opens: plain weights have no conductances."""
    instead = {"g_plus": "weight"} if device == DIGITAL else {}
    return checked([instead.get(name, name) for name in DEFAULT])


class Figures:
    """Up to six live views, created when first shown and then kept.

    Each has a cell of its own from the start: a browser that is given two lists of cells in a row
    may lose one of them.
    """

    def __init__(self, shown: Sequence[str] = DEFAULT) -> None:
        self.panes: dict[str, FigurePane] = {}
        self._turn = 0
        self._drawn: tuple[object, ...] = ()
        self._last: Snapshot | None = None
        self._past: Snapshot | None = None  # the last of the run before
        self._cells = {
            name: pn.Column(visible=False, margin=0, sizing_mode="stretch_both") for name in VIEWS
        }
        self.grid = pn.Column(*self._cells.values(), sizing_mode="stretch_both")
        self.show(shown)

    def show(self, names: Sequence[str]) -> None:
        """Show these views, in the order of ``VIEWS``.

        Raises
        ------
        ValueError
            If a name is unknown, or there are none or more than six.
        """
        self.shown = checked(names)
        columns = {1: 1, 2: 2, 4: 2}.get(len(self.shown), 3)
        rows = -(-len(self.shown) // columns)
        height = f"max(234px, min(36vw, (100vh - 288px) / {rows} - 6px))"
        for name in self.shown:
            if name not in self.panes:
                view = VIEWS[name]
                about = explanation(view.about, view.lesson)
                self.panes[name] = FigurePane(blank(name), view.title, about=about)
                self._cells[name].objects = [self.panes[name].view]
            self.panes[name].set_height(height)
        for name, cell in self._cells.items():
            cell.visible = name in self.shown
        self.grid.styles = grid_styles(least="240px", share=f"{100 // columns - 3}%")

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
        last, self._last = self._last, snapshot
        if last and last.step and last.begun != snapshot.begun:
            self._past = last
        for place, name in enumerate(self.shown):
            if same and name not in ALWAYS and place % LOOKS_EVERY != self._turn:
                continue
            pane, view = self.panes[name], VIEWS[name]
            taken = self._past if view.recalls else snapshot.views.get(name)
            pane.caption(view.draw(pane.live, snapshot, taken))


def blank(name: str) -> Any:
    """The drawing of a view before there is anything to draw."""
    view = VIEWS[name]
    first = _first_of(view)
    return first.copy() if isinstance(first, LiveFigure) else view.blank()


@cache
def _first_of(view: View) -> Any:
    """Drawn once by HoloViews, then copied for every page."""
    return view.blank()


def checked(names: Sequence[str]) -> list[str]:
    """These views in the order of the page."""
    if unknown := sorted(set(names) - set(VIEWS)):
        raise ValueError(f"views must be of {', '.join(VIEWS)}; got {unknown[0][:40]!r}")
    if not 1 <= len(set(names)) <= MOST:
        raise ValueError(f"views must be 1 to {MOST}; got {len(set(names))}")
    return [name for name in VIEWS if name in names]
