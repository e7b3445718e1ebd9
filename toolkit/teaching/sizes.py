"""Sizes of the notebooks' computations: the only code that reads ``TOOLKIT_FAST``."""

from __future__ import annotations

import os
from typing import TypeVar

_T = TypeVar("_T")


def fast(full: _T, reduced: _T) -> _T:
    """Return ``full`` for a reader, ``reduced`` if ``TOOLKIT_FAST`` is set, as in tests."""
    return reduced if os.environ.get("TOOLKIT_FAST") else full
