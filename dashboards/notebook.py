"""The Playground in a notebook cell: the same widgets and figures, without a server.

A server sends changes of a figure by itself; a notebook needs a push for every frame. This module
pushes them, and pauses the run if nobody is likely to be looking.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import Any

import panel as pn

from dashboards.playground.page import FRAME_MS, Playground

# Panel 1.9's notebook connection echoes every change: with moving figures, knobs wait behind the
# echo and old data return. Mark arrived changes so that they are not sent again.
_NO_ECHO = """<script>
const connection = Bokeh.Models.get("panel.models.comm_manager.CommManager").prototype
if (connection.sent_on === undefined) {
  connection.sent_on = connection._document_changed
  connection._document_changed = function (event) { if (event.sync !== false) this.sent_on(event) }
}
</script>"""


_STRING = re.compile(r'"(?>[^"\\]+|\\.)*+"')
_LONG = 100_000  # characters


def said_once(html: str) -> str:
    """The output of a cell, with each long string of its script stored once.

    With ``inline=True`` Panel 1.9 repeats the code of its widgets, 1.5 MB, in every widget: a
    playground would be an output of 74 MB.
    """
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        return match[0] if len(match[0]) < _LONG else names.setdefault(match[0], f"s{len(names)}")

    html = _STRING.sub(name, html)
    said = "".join(f"var {name} = {text};\n" for text, name in names.items())
    return html.replace("var docs_json", f"{said}var docs_json", 1)


class _Output(pn.Row):
    """A row that handles widget events between frames, never during one.

    JupyterLab handles messages from widgets in a separate thread (a subshell of the kernel);
    otherwise their replies would end up in the middle of a frame.
    """

    def __init__(self, *objects: Any, **params: Any) -> None:
        super().__init__(*objects, **params)
        self.lock = threading.Lock()

    def _on_msg(self, *args: Any) -> None:
        with self.lock:
            super()._on_msg(*args)


class NotebookView:
    """A playground as the last value of a cell, after ``pn.extension(inline=True)``.

    ``knobs`` are the initial knobs of the experiment; ``query`` is as in the page's address and
    can choose the views, ``"views=loss,energy"``. A started run pauses by itself after
    ``seconds``, because nobody may be looking at the cell any more.
    """

    def __init__(self, *, seconds: float = 120.0, query: str = "", **knobs: Any) -> None:
        pn.config.respect_explicit_sizing = True
        self.page = Playground(query, **knobs)
        self.view = _Output(
            self.page.controls(),
            self.page.view(),
            pn.pane.HTML(_NO_ECHO, width=0, height=0, margin=0),
            sizing_mode="stretch_width",
        )
        self._seconds = seconds
        self._started: float | None = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        bundle, metadata = self.view._repr_mimebundle_(include, exclude)
        bundle["text/html"] = said_once(bundle["text/html"])
        self._frames = asyncio.get_running_loop().create_task(self._show_frames())
        return bundle, metadata

    async def _show_frames(self) -> None:
        """Draw frames forever; rest after each as long as it took, so that knobs are handled."""
        while self.page.run.alive:
            began = time.monotonic()
            self.frame()
            await asyncio.sleep(max(FRAME_MS / 1000, time.monotonic() - began))

    def frame(self) -> None:
        """Draw one frame, and pause a run after its time limit."""
        with self.view.lock:
            with pn.io.block_comm():
                self.page.refresh()
            pn.io.push_notebook(self.view)
        now = time.monotonic()
        if not self.page.run.snapshot.running:
            self._started = None
        elif self._started is None:
            self._started = now
        elif now - self._started > self._seconds:
            self.page.run.pause()
