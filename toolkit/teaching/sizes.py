"""How much a notebook computes: the one place that reads ``TOOLKIT_FAST``."""

from __future__ import annotations

import os
from typing import TypeVar

_T = TypeVar("_T")


def fast(full: _T, reduced: _T) -> _T:
    """``full`` for a reader; ``reduced`` where ``TOOLKIT_FAST`` is set, as the tests do."""
    return reduced if os.environ.get("TOOLKIT_FAST") else full
