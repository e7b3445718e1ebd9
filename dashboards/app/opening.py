"""How pages are opened: one at a time, the Playground's from a stock of pages made ahead.

A page takes the server's only thread half a second to make. While nobody trains, the server makes
some ahead, whose sessions are given to the first who ask for their address.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from bokeh.core.has_props import HasProps
from bokeh.core.property.descriptors import PropertyDescriptor
from bokeh.server.contexts import ApplicationContext
from bokeh.server.session import ServerSession
from bokeh.settings import settings
from bokeh.util.token import generate_jwt_token, generate_session_id
from panel.io.server import DocHandler
from tornado.httputil import HTTPServerRequest

from dashboards.app import site

MOST_WAITING = 100  # who ask for a page
AT_ONCE_S = 30.0  # of making pages, before the pauses begin
QUIET_S = 2.0  # without requests, before pages are made ahead
LAST = 10  # openings, whose most frequent address is that of the stock

_log = logging.getLogger(__name__)
_find_default = PropertyDescriptor._get_default
_defaults: dict[tuple[type, str], Any] = {}


class Stock:
    """Up to ``most`` pages made ahead, for the address asked for most among the last openings."""

    def __init__(self, tornado: Any, address: str, host: str, most: int) -> None:
        self._most = most
        self._context: ApplicationContext = tornado._applications["/"]
        self._tornado, self._host = tornado, host
        self._asked = deque([address], LAST)
        self._ready: list[ServerSession] = []
        self._address = address

    def take(self, handler: DocHandler) -> ServerSession | None:
        """A page for this request, if there is one; it is the visitor's from now on."""
        address = handler.request.uri or ""
        if handler.application_context is self._context:
            self._asked.append(address)
        if address != self._address or not self._ready:
            return None
        session = self._ready.pop(0)
        session._token = self._token(session.id, handler._generate_token_payload())
        session.unblock_expiration()
        session._last_unsubscribe_time = 1000 * time.monotonic()  # it has as long as any to connect
        callbacks = session.document.session_callbacks
        session._callbacks.add_session_callbacks(
            [session._wrap_session_callback(callback) for callback in callbacks]
        )
        return session

    def __contains__(self, request: HTTPServerRequest) -> bool:
        return bool(self._ready) and request.uri == self._address

    @property
    def is_full(self) -> bool:
        """Whether as many pages are ready as there may be, at the address that is asked for."""
        return not self._most or (len(self) >= self._most and self._address == self._wanted)

    def __len__(self) -> int:
        return len(self._ready)

    def expect(self, address: str) -> None:
        """Make pages of this address from now on."""
        self._asked.extend([address] * LAST)

    async def add(self) -> None:
        """Make one more page. Pages of an address that is no longer asked for are given up."""
        if self._address != self._wanted:
            self._address = self._wanted
            while self._ready:
                self._ready.pop().unblock_expiration()
        name = generate_session_id(self._tornado.secret_key, self._tornado.sign_sessions)
        asked = HTTPServerRequest("GET", self._address, host=self._host)
        payload: Any = {"headers": {}, "cookies": {}, "arguments": asked.arguments}
        token = self._token(name, payload)
        session = await self._context.create_session_if_needed(name, asked, token)
        session.block_expiration()
        session._callbacks.remove_all_callbacks()  # no frames while nobody looks
        self._ready.append(session)

    @property
    def _wanted(self) -> str:
        return Counter(self._asked).most_common(1)[0][0]

    def _token(self, name: Any, payload: Any) -> str:
        of = self._tornado
        given = {"expiration": of.session_token_expiration, "extra_payload": payload}
        return generate_jwt_token(name, of.secret_key, of.sign_sessions, **given)


class PageHandler(DocHandler):
    """Panel's handler, making one page at a time.

    The time that it takes to make pages is the server's own: who asks for many must not stop it.
    Each is followed by a pause as long as it took: at once while somebody trains, else after
    ``AT_ONCE_S`` of making pages, so that a class gets its pages soon.
    """

    stock: Stock | None = None
    asked_at = 0.0  # the last page
    _lock, _free_at, _took, _waiting = asyncio.Lock(), 0.0, 0.0, 0
    _is_gone = False

    def on_connection_close(self) -> None:
        """Note that the client has disconnected."""
        self._is_gone = True
        super().on_connection_close()

    async def get(self, *given: Any, **named: Any) -> None:
        """Send the page in turn; 503 if too many requests are waiting."""
        kind = PageHandler
        kind.asked_at = time.monotonic()
        if kind._waiting >= MOST_WAITING:
            self.set_status(503)
            self.write("The server is busy. Try again in a minute.")
            return
        if kind.stock is not None and self.request in kind.stock:
            await super().get(*given, **named)  # type: ignore[misc]
            return
        kind._waiting += 1
        try:
            async with kind._lock:
                at_once = 0.0 if site.run_limit().training else AT_ONCE_S
                pause = kind._free_at - at_once - time.monotonic()
                await asyncio.sleep(min(pause, kind._took))
                if self._is_gone:
                    return
                began = time.monotonic()
                await super().get(*given, **named)  # type: ignore[misc]
                now = time.monotonic()
                kind._took = now - began
                kind._free_at = max(kind._free_at, began) + 2 * kind._took
                kind.asked_at = now
        finally:
            kind._waiting -= 1

    async def get_session(self) -> Any:
        """A session made ahead, or else a new one."""
        ready = PageHandler.stock.take(self) if PageHandler.stock is not None else None
        return ready or await super().get_session()  # type: ignore[misc]


def expect(address: str) -> None:
    """Make pages of this address ahead, if the server makes any."""
    if PageHandler.stock is not None:
        PageHandler.stock.expect(address)


async def keep_stock(stock: Stock, sessions: Callable[[], int], prepared: Future[None]) -> None:
    """Make pages ahead while nobody trains or asks for one; free the memory of closed ones.

    Begins when the server is ``prepared``.
    """
    PageHandler.stock = stock
    await asyncio.wait([asyncio.wrap_future(prepared)])
    before = 0
    while True:
        await asyncio.sleep(QUIET_S / 4)
        began = time.monotonic()
        visitors = sessions() - len(stock)
        if began < PageHandler.asked_at + QUIET_S:
            before = max(before, visitors)
        elif visitors < before:
            before = visitors
            free_memory()
        elif not stock.is_full and not site.run_limit().training:
            try:
                await stock.add()
            except Exception:  # a page that cannot be made must not end the making of others
                _log.exception("A page could not be made ahead")
                await asyncio.sleep(60 * QUIET_S)


def free_memory() -> None:
    """Collect what closed pages leave behind, and give it back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other systems do it by themselves
        ctypes.CDLL(None).malloc_trim(0)


def quicken() -> None:
    """Let Bokeh compute properties' defaults once, and leave out checks for who writes pages.

    Without this a page takes half as long again to make, and twice as long to send.
    """
    settings.perform_document_validation = False
    settings.perform_error_diagnostics = False
    PropertyDescriptor._get_default = _default  # type: ignore[method-assign, assignment]


def _default(self: Any, model: HasProps) -> Any:
    """The default of a property: kept, unless a theme sets it or every model has its own."""
    themed = model.themed_values()
    if themed is not None and self.name in themed:
        return _find_default(self, model)
    key = type(model), self.name
    if key in _defaults:
        return _defaults[key]
    found = _find_default(self, model)
    if not self.has_unstable_default(model):
        _defaults[key] = found
    return found
