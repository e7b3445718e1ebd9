"""The server: its routes, start and shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import panel as pn
import torch
from bokeh.server.views.ico_handler import IcoHandler
from panel.auth import LogoutHandler
from panel.io.server import AutoloadJsHandler, DocHandler, WSHandler
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, PathMatches, ReversibleRuleRouter, Rule
from tornado.web import ErrorHandler, StaticFileHandler
from tornado.websocket import WebSocketClosedError

from dashboards.app import child, site
from dashboards.app.login import Form, login_options, read_password
from dashboards.app.opening import PageHandler, Stock, keep_stock, quicken
from dashboards.app.tutorials import ROUTE, TutorialHandler, tutorials
from toolkit.checks import shown
from toolkit.compiling import compile_loops
from toolkit.training.data.datasets import SHARED_VARIABLE
from toolkit.training.live.process import LINUX
from toolkit.training.live.run_limit import RunLimit

SESSION_MS = 15_000  # a phone needs seconds to read the scripts
MAX_MESSAGE_BYTES = 64 * 2**20  # a visitor's: the largest upload, which the pages limit further
MAX_SESSIONS = 200
MAX_PROCESSES = 60  # of runs, some 25 MiB each; further ones are threads of the server
LONGEST_START_S = 600.0  # of compiling all inner loops on a slow machine
MAX_URL = 4000  # characters; Panel fails on numbers of more than 4300 digits
# The handlers that the server keeps. Panel also has one that imports any module named in the URL,
# and one that lists the pages; neither is needed.
HANDLERS = (IcoHandler, WSHandler, DocHandler, AutoloadJsHandler, Form, LogoutHandler)


def prepare() -> None:
    """Set up Panel and torch for pages that train: no files from CDNs, one torch thread.

    Layers of a page's size run fastest on one thread, and several visitors share the processor.
    """
    quicken()
    pn.extension(notifications=True)
    sys.setswitchinterval(0.001)  # a page's frame holds up the training threads less
    torch.set_num_threads(1)


def serve(
    *,
    port: int = 5006,
    address: str = "127.0.0.1",
    prefix: str = "",
    origin: Sequence[str] = (),
    max_runs: int = site.MAX_RUNS,
    password_file: Path | None = None,
    tour: Path | None = None,
    runs: Path | None = None,
    ready: int = 1,
    show: bool = False,
) -> None:
    """Serve the pages until the process is told to stop (Ctrl-C or SIGTERM).

    Parameters
    ----------
    port, address
        Where to listen.
    prefix
        Path before all pages, where a reverse proxy hands on ``/<prefix>/...``.
    origin
        Names (``host`` or ``host:port``) besides this machine's under which pages are asked for.
    max_runs
        How many runs train at once; one more waits its turn.
    password_file
        File whose first line is the password that visitors are asked for; None asks for none.
    tour
        YAML file of the Playground's tour; None: the toolkit's own.
    runs
        Folder whose saved runs the Results page lists; None: it lists none.
    ready
        How many pages of the Playground are made ahead, 14 MiB each: as many as a class opens at
        once.
    show
        Open a browser.

    Raises
    ------
    ValueError
        If ``prefix``, ``origin``, ``max_runs`` or the password is not allowed.
    """
    prefix = checked_prefix(prefix)
    for host in origin:
        if not re.fullmatch(r"([\w.-]+|\[[\da-f:]+\])(:\d{1,5})?", host, re.ASCII):
            raise ValueError(f"origin must be HOST or HOST:PORT; got {shown(host)}")
    login = login_options(read_password(password_file), prefix) if password_file else {}
    if not login and address in ("0.0.0.0", "::", ""):
        print(
            "Warning: everyone on the network can open these pages; "
            "--password-file FILE asks for a password.",
            file=sys.stderr,
        )
    prepare()
    decoded = TemporaryDirectory(prefix="sbpca-", ignore_cleanup_errors=True)
    os.environ[SHARED_VARIABLE] = decoded.name  # whose memory the runs' processes share
    child.prepare()
    pn.state.cache["run limit"] = RunLimit(max_runs)
    given = {"tour": tour, "runs": runs}
    pn.state.cache.update({name: path for name, path in given.items() if path is not None})
    for name in ("bokeh.server.views.ws", "tornado.access"):  # strangers would fill the log
        logging.getLogger(name).setLevel(logging.ERROR)

    def sessions() -> int:
        return len(server.get_sessions())

    server = pn.serve(
        {site.path(key): _page_function(key, sessions) for key in site.pages()},
        title={site.path(key): site.title(key) for key in site.pages()},
        port=port,
        address=address,
        prefix=prefix,
        show=False,
        start=False,
        verbose=False,
        websocket_origin=[*websocket_origins(address, port), *origin],
        websocket_max_message_size=MAX_MESSAGE_BYTES,
        unused_session_lifetime_milliseconds=SESSION_MS,
        check_unused_sessions_milliseconds=1000,
        sign_sessions=True,  # or a visitor could name another's session and join it
        secret_key=secrets.token_bytes(32),
        **login,
    )
    router = server._tornado.default_router
    keep_routes(router)
    router.rules.insert(0, Rule(_LongURL(), ErrorHandler, {"status_code": 414}))
    lessons = PathMatches(rf"{re.escape(prefix)}/{ROUTE}/(.*)")
    router.rules.insert(1, Rule(lessons, TutorialHandler, {"path": str(tutorials().folder)}))
    loop = server.io_loop.asyncio_loop
    loop.set_exception_handler(_report)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, loop.stop)
    print("Loading the inner loops (the first start compiles them, half a minute)", flush=True)
    compile_loops()  # or a visitor's first step would
    for key in site.pages():
        import_module(f"dashboards.{key}.page")  # or the first visitor would wait for it
    gc.freeze()  # all this stays; pages are collected when they were closed
    gc.set_threshold(10_000, 20, 50)
    server.start()
    stock = Stock(server._tornado, f"{prefix}/", f"{address}:{port}", ready)
    once = ThreadPoolExecutor(1)  # not the loop's, whose threads would stay
    prepared = once.submit(allow_processes)
    keeping = loop.create_task(keep_stock(stock, sessions, prepared))
    once.submit(import_module("dashboards.results.page").examples)  # for Results
    once.shutdown(wait=False)
    print(f"Serving http://{address}:{port}{prefix}/ (Ctrl-C stops)", flush=True)
    if show:
        server.show(f"{prefix}/")
    server.io_loop.start()
    keeping.cancel()
    server.stop()
    child.stop()
    tutorials().close()
    decoded.cleanup()


def allow_processes() -> None:
    """Let runs be processes, once the one that they are forked from has imported and compiled."""
    if LINUX:
        child.in_child(int, deadline=LONGEST_START_S)
        pn.state.cache["processes"] = MAX_PROCESSES


def checked_prefix(prefix: str) -> str:
    """``prefix`` with a leading slash and no trailing one; empty if it names no path.

    Raises
    ------
    ValueError
        If it holds anything but letters, digits, ``-``, ``_``, ``.`` and ``/``.
    """
    path = prefix.strip("/")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*|", path, re.ASCII) or {".", ".."} & {*path.split("/")}:
        allowed = "a path of letters, digits, - _ . and /, without . or .. alone"
        raise ValueError(f"prefix must be {allowed}; got {shown(prefix)}")
    return f"/{path}" if path else ""


def keep_routes(router: ReversibleRuleRouter) -> None:
    """Remove every route except those to static files and to ``HANDLERS``."""
    for rule in list(router.rules):
        if isinstance(rule.target, ReversibleRuleRouter):
            keep_routes(rule.target)
        elif rule.target is DocHandler:
            rule.target = PageHandler
        elif not (isinstance(rule.target, type) and _is_allowed(rule.target)):
            router.rules.remove(rule)


class _LongURL(Matcher):
    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return {} if len(request.uri or "") > MAX_URL else None


def _is_allowed(handler: type) -> bool:
    is_static = handler.__module__.startswith("bokeh.") and issubclass(handler, StaticFileHandler)
    return is_static or issubclass(handler, HANDLERS)


def _page_function(key: str, sessions: Callable[[], int]) -> Callable[[], Any]:
    """Import a page's module and create the page on its first request."""

    def make() -> Any:
        if sessions() > MAX_SESSIONS:
            return pn.pane.Str("The server is full. Try again in a minute.")
        return getattr(import_module(f"dashboards.{key}.page"), key)()

    return make


def websocket_origins(address: str, port: int) -> list[str]:
    """The host names that visitors may use; a server on all networks has several."""
    hosts = {address, "localhost", "127.0.0.1"}
    if address in ("0.0.0.0", ""):
        hosts |= {socket.gethostname(), socket.getfqdn(), _own_address()}
    return sorted(f"{host}:{port}" for host in hosts if host)


def _own_address() -> str:
    """The address of this machine on the network; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report errors, except a visitor leaving while a frame is being sent."""
    if not isinstance(context.get("exception"), WebSocketClosedError):
        loop.default_exception_handler(context)
