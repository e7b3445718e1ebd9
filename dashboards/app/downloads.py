"""Downloads, prepared outside the thread that serves pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from io import BytesIO
from typing import Any

import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.uploads import MEBI

MOST_BYTES = 64 * MEBI  # they pass through the pages' thread as text

_threads = ThreadPoolExecutor(2, thread_name_prefix="download")


class Download(pmui.FileDownload):
    """A button that downloads the bytes that ``make`` returns, and shows that it is preparing them.

    ``make`` runs in another thread, or is awaited if it is ``async``. Where it raises, ``say`` is
    given one line for the visitor.
    """

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
        super().__init__(label=label, filename=filename, callback=self._made, **params)

    async def _made(self) -> bytes:
        make = self._make
        data: bytes = await (make() if iscoroutinefunction(make) else beside(make))
        return data

    async def _async_sync_data(self) -> None:
        if self.disabled:  # a further click that was on its way
            return
        label = self.label
        self.param.update(label="Preparing the file…", disabled=True)
        try:
            data = await self._made()
            if len(data) > MOST_BYTES:
                raise ValueError(
                    f"it has {len(data) // MEBI} MiB; downloads are at most "
                    f"{MOST_BYTES // MEBI} MiB."
                )
            self._sync_data(BytesIO(data))
            self.data = None  # lets go of the bytes, and the same file can be sent again
        except Exception as error:
            self._say(f"{label}: {error or type(error).__name__}")
        finally:
            self.param.update(label=label, disabled=False)


async def beside(make: Callable[..., bytes], *given: Any) -> bytes:
    """What ``make`` returns, computed in another thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, make, *given)
