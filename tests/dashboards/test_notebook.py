"""The playground in a notebook: the view that moves inside a cell."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import panel as pn
import pytest
from bokeh.document import Document
from bokeh.models import UIElement
from panel.io.notebook import patch_inline_stylesheets
from pyviz_comms import Comm

from dashboards.notebook import NotebookView, said_once


class RecordingComm(Comm):
    """A connection to a page that is not there; keeps what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self._comm = self
        self.sent: list[Any] = []

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = ()) -> None:  # noqa: ARG002
        self.sent += [data, *buffers]

    def bytes(self) -> int:
        return sum(len(part) for part in self.sent if part)


@pytest.fixture
def view() -> Any:
    shown = NotebookView(hidden=[8], record_every=1000, seconds=0.3)
    yield shown
    shown.page.run.close()
    pn.state._views.clear()


def frames(view: NotebookView, until: Any) -> None:
    for _ in range(1500):
        view.frame()
        if until():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def test_figures_move_in_a_notebook_and_fetch_nothing(view: NotebookView) -> None:
    comm, document = RecordingComm(), Document()
    with pn.config.set(inline=True):
        model = view.view._render_model(document, comm)
        for part in model.select({"type": UIElement}):
            patch_inline_stylesheets(part)
    document.hold()  # as Panel does in a notebook: nothing leaves that is not pushed
    before = view.page._shown_number
    view.page.run.step()
    frames(view, until=lambda: view.page._shown_number > before)
    assert view.page.run.snapshot.step == 1
    sent = "".join(part for part in comm.sent if isinstance(part, str))
    assert '"attr":"data"' in sent
    assert "stylesheets" not in sent, "a style sheet sent again would be fetched from a CDN"
    quiet = comm.bytes()
    view.frame()
    assert comm.bytes() == quiet, "a frame without news sends nothing"
    view.page.figures.panes["loss"].live.set_columns(
        0, {"step": np.arange(3.0), "loss": np.ones(3)}
    )
    view.frame()
    assert comm.bytes() > quiet, "a figure changed alone is sent, too"


def test_a_widget_is_heard_between_frames_and_not_during_one(
    view: NotebookView, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = threading.Event()
    monkeypatch.setattr(pn.Row, "_on_msg", lambda *_: heard.set())
    with view.view.lock:  # as a frame holds it
        message = threading.Thread(target=view.view._on_msg)
        message.start()
        assert not heard.wait(0.2)
    message.join(10)
    assert heard.is_set()


def test_a_forgotten_run_pauses_by_itself(view: NotebookView) -> None:
    view.page.run.start()
    frames(view, until=lambda: view.page.run.snapshot.running)
    frames(view, until=lambda: not view.page.run.snapshot.running)
    assert view.page.run.snapshot.step > 0


def test_a_long_string_is_said_once() -> None:
    code = '"' + 'a \\" b' * 20_000 + '"'
    html = f'<script>var docs_json = {{"esm": {code}, "n": [1, {code}], "short": "x"}};</script>'
    once = said_once(html)
    assert once.count(code) == 1
    assert once.replace(f"var s0 = {code};\n", "").replace("s0", code) == html


def test_frames_run_once_the_view_is_displayed(view: NotebookView) -> None:
    async def display() -> int:
        bundle, _ = view._repr_mimebundle_()
        assert len(bundle["text/html"]) < 5_000_000
        shown = view.page._shown_number
        view.page.run.step()
        for _ in range(500):
            await asyncio.sleep(0.01)
            if view.page._shown_number > shown:
                break
        view._frames.cancel()
        return view.page._shown_number - shown

    pn.extension._loaded, before = True, pn.extension._loaded
    try:
        with ThreadPoolExecutor(1) as elsewhere:  # browser tests hold this thread's event loop
            assert elsewhere.submit(asyncio.run, display()).result() > 0
    finally:
        pn.extension._loaded = before


def test_the_views_can_be_chosen() -> None:
    shown = NotebookView(query="views=loss,energy", hidden=[8])
    assert shown.page.figures.shown == ["loss", "energy"]
    shown.page.run.close()
    pn.state._views.clear()
