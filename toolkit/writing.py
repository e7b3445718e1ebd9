"""Atomic files: written beside and renamed, flushed to disk, one writer at a time."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A scratch path in the folder of ``target`` that replaces it once the block has succeeded.

    What was written is on the disk before it is in place: after a power cut ``target`` is the old
    or the new whole. Scratch of writers that were killed is removed. A link is followed.

    Raises
    ------
    ValueError
        If something is at ``target`` that is neither a file nor a folder (a device, a pipe), or is
        one of these where the other is written. It is left alone.
    """
    shown, target = target, Path(os.path.realpath(target))
    if (target.exists() or target.is_symlink()) and not (target.is_file() or target.is_dir()):
        raise ValueError(f"path must be a file or a folder; got {str(shown)!r}, another thing")
    _remove_abandoned(target)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise OSError(f"path {str(shown)!r} cannot be written: {error.strerror}") from None
    with locked(folder):
        try:
            scratch = folder / target.name
            yield scratch
            if target.exists() and target.is_dir() != scratch.is_dir():
                kind = "folder" if target.is_dir() else "file"
                raise ValueError(f"path {str(shown)!r} is a {kind} already; it is left alone")
            flush_all(scratch)
            if target.is_dir():
                _exchange(scratch, target)
            else:
                scratch.replace(target)
            flush(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raise the errors that :func:`beside` would raise before writing a file."""
    with suppress(_Unwritten), beside(target):
        if target.is_dir():
            raise ValueError(f"path {str(target)!r} is a folder already; it is left alone")
        raise _Unwritten


class _Unwritten(Exception):
    """Nothing is to be put in place."""


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders: in one go where the system can (Linux), else by way of a third name."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        rename = getattr(libc, "renameat2", None)
        at_cwd, exchange = -100, 2
        if rename and not rename(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange):
            return
    aside = new.with_name("old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise


def flush_all(path: Path) -> None:
    """:func:`flush` for a file, or for a folder and all that is in it."""
    for each in [*path.rglob("*"), path]:
        flush(each)


def flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process; OSError if another holds it."""
    if os.name == "nt":
        yield
        return
    import fcntl

    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)


def _remove_abandoned(target: Path) -> None:
    for folder in target.parent.glob(f".{glob.escape(target.name)}-????????"):
        try:
            with locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its writer lives
            continue
