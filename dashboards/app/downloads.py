"""Files, prepared outside the thread that serves pages, and figures, saved by the browser."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from dashboards.app import site
from dashboards.app.figure_pane import FigurePane
from dashboards.app.uploads import MEBI

MOST_BYTES = 64 * MEBI  # downloads pass through the pages' thread as text

_ARROW = "M19 9h-4V3H9v6H5l7 7zM5 18v2h14v-2z"
_threads = ThreadPoolExecutor(2, thread_name_prefix="download")
#: Makes the browser save bytes; the URL must exist until it has read them.
SAVE_BLOB = """
function save(blob, file_name) {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(blob)
  link.download = file_name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60000)
}
"""
# Watches the model, which outlives the view, so a redrawn page loses no file.
_SAVE = f"""{SAVE_BLOB}
if (cb_obj.file) {{
  save(new Blob([Uint8Array.from(atob(cb_obj.file), (c) => c.charCodeAt(0))]), file_name)
}}
"""

_EXPORT = f"""{SAVE_BLOB}
for (const document_ of Bokeh.documents) {{
  // by its view: a figure that another has replaced keeps its name
  const shown = (view) => view.model.name == figure_name && view.el.isConnected
  const view = document_.views_manager.query_one(shown)
  if (view) {{
    view.export(kind).to_blob().then((blob) => save(blob, file_name + '.' + kind))
    break
  }}
}}
"""


class Download(pmui.Button):
    """A button that downloads the bytes returned by ``make`` and shows that it is preparing them.

    ``make`` runs in another thread, or is awaited if it is ``async``. If it raises, ``say`` gets
    one line for the visitor.
    """

    file = param.String(doc="The bytes for the browser in base64; empty except during a download.")

    def __init__(
        self,
        label: str,
        filename: str,
        make: Callable[[], bytes] | Callable[[], Awaitable[bytes]],
        *,
        say: Callable[[str], None] = site.notify,
        **params: Any,
    ) -> None:
        self._make: Callable[[], Any] = make
        self._say = say
        params = {"variant": "outlined", "size": "small", "margin": (5, 4)} | params
        super().__init__(label=label, icon=site.svg(_ARROW), on_click=self._send, **params)
        self.jscallback(args={"file_name": filename}, file=_SAVE)

    async def made(self) -> bytes:
        """The file. ValueError if it is too large to send."""
        make = self._make
        data: bytes = await (make() if iscoroutinefunction(make) else beside(make))
        if len(data) > MOST_BYTES:
            raise ValueError(
                f"it has {len(data) // MEBI} MiB; downloads are at most {MOST_BYTES // MEBI} MiB."
            )
        return data

    async def _send(self, _: Any) -> None:
        if self.disabled:  # a second click that was already on its way
            return
        label = self.label
        self.param.update(label="Preparing the file…", disabled=True)
        try:
            self.file = b64encode(await self.made()).decode()
            self.file = ""  # frees the bytes, and allows the same file to be sent again
        except Exception as error:
            self._say(f"{label}: {error or type(error).__name__}")
        finally:
            self.param.update(label=label, disabled=False)


async def beside(make: Callable[..., bytes], *given: Any) -> bytes:
    """The result of ``make``, computed in another thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, make, *given)


def export_buttons(pane: FigurePane, name: str) -> pn.Row:
    """Buttons that save the pane's current figure as ``name``.png and ``name``.svg."""
    pane.name_figure(name)
    buttons = []
    for kind in ("png", "svg"):
        button = site.button(kind.upper(), variant="outlined")
        button.js_on_click(
            args={"figure_name": name, "file_name": name, "kind": kind}, code=_EXPORT
        )
        buttons.append(button)
    return pn.Row(*buttons, margin=0)
