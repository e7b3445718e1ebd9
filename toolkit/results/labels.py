"""Settings as coordinates: numbers stay numbers, everything else becomes text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np


def label(value: Any) -> bool | int | float | str:
    """One setting: lists as JSON, None as "None"."""
    if value is None:
        return "None"
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def column(values: Sequence[Any]) -> np.ndarray:
    """Many settings as an array; if one is text, all are (dtype object)."""
    labels = [label(value) for value in values]
    if any(isinstance(one, str) for one in labels):
        return np.array([str(one) for one in labels], dtype=object)
    return np.array(labels)
