"""Work on what a visitor sent, in a process of its own with limits of memory and time.

Checks before reading cannot know what a decoder will make of a few bytes; the limits hold anyway.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from dashboards.uploads import MEBI

MEMORY = 3 * 1024 * MEBI  # of address space: libraries alone take a third of it
DEADLINE_S = 30.0  # importing the readers takes some seconds of it on a busy machine


def in_child(function: Callable[[bytes], Any], data: bytes, *, deadline: float = DEADLINE_S) -> Any:
    """Return ``function(data)``, computed by another process; call it beside the event loop.

    Raises
    ------
    ValueError
        What ``function`` raises, or that it needs more memory or time than is allowed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(sender, function, data), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(deadline):
            raise ValueError(f"reading it takes more than the {deadline:g} s allowed.")
        found = receiver.recv()
    except EOFError:
        raise ValueError("reading it ended in a crash or needs too much memory.") from None
    finally:
        child.kill()
        child.join()
        receiver.close()
    if isinstance(found, ValueError):
        raise found
    return found


def _work(sender: Connection, function: Callable[[bytes], Any], data: bytes) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:  # no such limits on Windows
        pass
    try:
        sender.send(function(data))
    except ValueError as error:
        sender.send(ValueError(str(error)))
    except MemoryError:
        sender.send(ValueError("reading it needs more memory than is allowed."))
