"""Checkpoint files: nested dicts of tensors, arrays and plain values, on disk and back.

Each part of a run defines its own state (``state_dict``). Files are read with
``weights_only=True``, so no code from a file is ever run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.checks import check_file, check_path_like
from toolkit.writing import beside

_VERSION = 1
_ARRAY = "numpy array"


def save_checkpoint(state: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write ``state`` to ``path`` atomically: a crash leaves the old file or the whole new one.

    Raises
    ------
    FileNotFoundError
        If the folder of ``path`` does not exist.
    ValueError
        If ``path`` is a folder.
    """
    check_path_like("path", path)
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path {str(target)!r}: its folder does not exist.")
    if target.is_dir():
        raise ValueError(f"path {str(target)!r} is a folder; a checkpoint is one file.")
    buffer = BytesIO()
    torch.save({"version": _VERSION, "state": _mapped(state, _packed)}, buffer)
    with beside(target) as scratch:
        # torch's own message says little if the disk is full
        scratch.write_bytes(buffer.getvalue())
    return target


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises
    ------
    FileNotFoundError
        If nothing is at ``path``.
    ValueError
        If the file is damaged, not a checkpoint of this toolkit, or of a newer version.
    """
    check_file("path", path)
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
        version, state = read["version"], read["state"]
    except Exception as error:  # damaged files raise many kinds of errors
        # torch's own message would advise to switch off its safeguard
        raise ValueError(f"path {str(path)!r} is damaged or not a checkpoint.") from error
    if version != _VERSION:
        raise ValueError(f"path {str(path)!r} has version {version!r}; allowed: {_VERSION}.")
    unpacked: dict[str, Any] = _mapped(state, _unpacked)
    return unpacked


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` applied to the leaves of its dicts, lists and tuples."""
    value = change(value)
    if isinstance(value, dict) and _ARRAY not in value:
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, change) for item in value)
    return value


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value))}
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value: Any) -> Any:
    return value[_ARRAY].numpy() if isinstance(value, dict) and _ARRAY in value else value
