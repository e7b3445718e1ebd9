"""Processes with limits on memory and time, for work on uploads.

Checks before reading cannot predict what a decoder makes of a few bytes; these limits always hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import panel as pn

from dashboards.app.uploads import MEBI
from toolkit.training.live.process import LINUX

MEMORY = 3 * 1024 * MEBI  # address space, a third of which libraries take
DEADLINE_S = 30.0  # on a busy machine, importing the readers takes some seconds
AT_ONCE = 2  # processes; further uploads wait

_waits = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="child")
# Forked from a server that has already imported the readers, a child starts within milliseconds.
_context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
_READERS = [
    "dashboards.results.run_files",
    "dashboards.devices.measured",
    "dashboards.budget.networks",
    "dashboards.atlas.page",
    "dashboards.app.settings_text",
]


def prepare() -> None:
    """Start the process from which children are forked: what it imports first takes seconds."""
    if sys.platform != "win32":
        _context.set_forkserver_preload(_READERS + ["toolkit.training.live.forked"] * LINUX)
        from multiprocessing import forkserver  # not on Windows

        forkserver.ensure_running()


async def read_beside(
    function: Callable[..., Any], *given: Any, deadline: float = DEADLINE_S
) -> Any:
    """Like :func:`in_child`, without blocking the event loop or its thread pool.

    Cancels the caller if its page was closed meanwhile: there is nothing left to show it on.
    """
    loop = asyncio.get_running_loop()
    page = pn.state.curdoc.session_context if pn.state.curdoc else None
    work = partial(in_child, function, *given, deadline=deadline)
    try:
        return await loop.run_in_executor(_waits, work)
    finally:
        if page is not None and page.destroyed:
            raise asyncio.CancelledError


def in_child(function: Callable[..., Any], *given: Any, deadline: float = DEADLINE_S) -> Any:
    """Compute ``function(*given)`` in another process and wait for the result.

    Raises
    ------
    ValueError
        If ``function`` raises one, or needs more memory or time than allowed.
    """
    prepare()
    receiver, sender = _context.Pipe(duplex=False)
    child = _context.Process(target=_work, args=(sender, function, given), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(deadline):
            raise ValueError(f"reading it takes longer than {deadline:g} s.")
        found = receiver.recv()
    except EOFError:
        raise ValueError("reading it crashed or needed too much memory.") from None
    finally:
        child.kill()
        child.join()
        receiver.close()
    if isinstance(found, ValueError):
        raise found
    return found


def stop() -> None:
    """Stop all children and start no more, because the server is shutting down."""
    _waits.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.kill()


def _work(sender: Connection, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server only
    with contextlib.suppress(AttributeError):  # not on Windows
        os.nice(10)  # pages go first
    _limit_memory()
    try:
        sender.send(function(*given))
    except ValueError as error:
        sender.send(ValueError(_line(str(error))))
    except MemoryError:
        sender.send(ValueError("reading it needs more memory than is allowed."))
    except Exception as error:
        sender.send(ValueError(_line(f"reading it failed: {type(error).__name__}: {error}")))


def _line(text: str) -> str:
    """Shorten to one line, as messages quote uploads."""
    return " ".join(text[:2000].split())[:500]


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # no such limits on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
