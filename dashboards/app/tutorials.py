"""The notebooks as pages of the server, without outputs: what the figures' explanations link to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import quote

from tornado.web import StaticFileHandler

from toolkit.teaching.series import notebooks

ROUTE, INDEX = "tutorials", "index.html"
_RENDER = """
import sys
from pathlib import Path
from toolkit.teaching.pages import render
from toolkit.teaching.series import notebooks
render(notebooks(), Path(sys.argv[1]), run=False)
"""


def link_to(notebook: str, section: str) -> str:
    """Address of a section, from any page: ``notebook`` is the file's name without its end."""
    return f"{ROUTE}/{notebook}.html#{quote(section.replace(' ', '-'), safe=',')}"


class Tutorials:
    """A folder of pages, written by a process of its own when one is first asked for."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="sbpca-tutorials-")
        self.folder = Path(self._scratch.name)
        self._names = {INDEX} | {f"{path.stem}.html" for path in notebooks()}
        self._writer: subprocess.Popen[bytes] | None = None

    async def wait_for(self, name: str) -> None:
        """Wait until the page is there, if it is one of the series."""
        if name in self._names and self._writer is None:
            command = [sys.executable, "-c", _RENDER, str(self.folder)]
            self._writer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while name in self._names and not (self.folder / name).exists():
            if self._writer is None or self._writer.poll() is not None:
                return
            await asyncio.sleep(0.1)

    def close(self) -> None:
        """End the process, if it still writes, and remove the pages."""
        if self._writer is not None:
            self._writer.kill()
            self._writer.wait()
        self._scratch.cleanup()


@cache
def tutorials() -> Tutorials:
    """Those of this server."""
    return Tutorials()


class TutorialHandler(StaticFileHandler):
    """Serves the pages and their scripts; 404 for all else."""

    async def get(self, path: str, include_body: bool = True) -> None:
        """Send a file, once it was written; the list of tutorials if none is named."""
        path = path or INDEX
        await tutorials().wait_for(path)
        await super().get(path, include_body)
