"""Notebook 04: right answers pass, typical wrong ones get their own hint."""

from typing import Any

import numpy as np

from tests.teaching.answers import (  # noqa: F401
    test_dots_are_unanswered,
    test_right_answers_pass,
    test_wrong_answers_get_their_hint,
)


def rank_for_energy(values: Any, share: float) -> int:
    return int(np.searchsorted(np.cumsum(values**2) / np.sum(values**2), share)) + 1


RIGHT: dict[str, Any] = {
    "error": 0.488,
    "rank_for_energy": rank_for_energy,
    "stable_rank": lambda values: np.sum(values**2) / values.max() ** 2,
    "last_layer": 9,
}
WRONG: list[tuple[str, Any, str]] = [
    ("error", 5 / 21, "a square"),
    ("error", 3 / 7, "not the values"),
    ("error", 16 / 21, "keeps"),
    ("error", 0.5, "all three"),
    ("error", 0.1, "leave out"),
    ("rank_for_energy", lambda values, share: rank_for_energy(values, share) - 1, "One too few"),
    ("rank_for_energy", lambda values, share: rank_for_energy(values**0.5, share), "square of"),
    ("rank_for_energy", lambda values, _share: len(values), "16/21"),
    (
        "rank_for_energy",
        lambda v, s: int(np.searchsorted(np.cumsum(v**2) / np.sum(v**2), s, side="right")) + 1,
        "no more directions",
    ),
    ("stable_rank", lambda values: values.sum() / values[0], "squared, so all"),
    ("stable_rank", lambda values: (values**2).sum() / values[0], "denominator"),
    ("stable_rank", lambda values: np.sqrt((values**2).sum()) / values[0], "ratio of the norms"),
    ("stable_rank", len, "for a single one"),
    ("last_layer", 10, "10 columns"),
    ("last_layer", 64, "smallest of"),
    ("last_layer", 1, "Every row"),
]
