"""Uploads: limits on their size, and safe reading.

File names are shown, never opened. Uploads are never unpickled or evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.settings_text import MAX_YAML_BYTES

MEBI = 2**20


def plain_name(filename: str) -> str:
    """The name of an uploaded file without its suffix: at most 40 plain characters."""
    return re.sub(r"[^\w .+-]", "", filename.rsplit(".", 1)[0])[:40].strip()


class Upload(pmui.FileInput):
    """An upload button whose size limit the server also enforces.

    ``max_file_size``, in bytes, is required. A file that is too large is dropped as it arrives.
    ``arriving``, if set, is called with a file's name and the share of it that is here.
    """

    arriving: Callable[[str, float], None] | None = None

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        if msg["status"] == "error":  # the browser's: it does not send a file that is too large
            site.notify(str(msg.get("error"))[:200])
            return
        if msg["status"] == "finished" and not self._buffer:
            site.notify("Nothing arrived: the file is empty, or was refused.")
        super()._handle_msg(msg)

    def _process_chunk(self, msg: dict[str, Any]) -> None:
        data = msg["data"]
        if not isinstance(data, bytes | bytearray):  # Panel would turn n into n bytes
            raise ValueError(f"an upload must be bytes; got {type(data).__name__}")
        waiting = sum(
            len(data) for file in self._file_buffer.values() for data in file["chunks"].values()
        )
        whole = sum(len(file["value"]) for file in self._buffer)
        if waiting + whole + len(data) > (self.max_file_size or 0):
            self._file_buffer.clear()
            self._buffer.clear()
            raise ValueError(f"upload of more than {self.max_file_size} bytes refused")
        super()._process_chunk(msg)
        if self.arriving:
            file = self._file_buffer.get(msg["name"])  # forgotten once it is whole
            share = len(file["chunks"]) / max(1, int(file["total_chunks"])) if file else 1.0
            self.arriving(str(msg["name"]), min(share, 1.0))


def yaml_upload(label: str) -> Upload:
    """A small button for a YAML file of at most ``MAX_YAML_BYTES``."""
    return Upload(
        label=label,
        accept=".yaml,.yml",
        max_file_size=MAX_YAML_BYTES,
        variant="outlined",
        size="small",
        sx={"fontSize": "0.8125rem"},  # as other small buttons have
        margin=(5, 4),
    )
