"""Processes that tests start: the command line, what a full disk does to any, and waits."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def files_limited_to(size: int | None) -> Callable[[], None] | None:
    """For ``preexec_fn``: no file may grow beyond so many bytes, as on a full disk."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return None if size is None else limited


def toolkit(
    *arguments: str, cwd: Path, limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m toolkit`` with these arguments; ``limit`` bounds its files, in bytes."""
    return subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=files_limited_to(limit),
        check=False,
    )


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)
