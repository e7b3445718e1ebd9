"""Notebook 08: right answers pass, typical wrong ones get their own hint."""

from typing import Any

import numpy as np
import pytest

from toolkit.teaching import check


def merge(left, sigma, right, d, a):
    return np.column_stack([left * sigma, d]), np.column_stack([right, a])


def mix(s1, left1, right1, s2, left2, right2, sign):
    a, b = np.sqrt(s1), sign * np.sqrt(s2)
    return a * left1 + b * left2, a * right1 + b * right2


def feedback(gradient, residual, compress):
    written = compress(gradient + residual)
    return written, gradient + residual - written


RIGHT: dict[str, Any] = {
    "equal_memory": (8, 23),
    "merge": merge,
    "mix": mix,
    "feedback": feedback,
}
WRONG: list[tuple[str, Any, str]] = [
    ("equal_memory", (1, 23), "what it keeps has rank 8"),
    ("equal_memory", (4, 23), "Set that against"),
    ("equal_memory", (8, 12), "right vectors"),
    ("equal_memory", (8, 24), "too many"),
    ("equal_memory", (8, 8), "round down"),
    ("merge", lambda u, s, v, d, a: (np.vstack([u, u[:1]]), v), "not one more row"),
    ("merge", lambda u, s, v, d, a: (u, v), "must be (m, k + 1)"),
    (
        "merge",
        lambda u, s, v, d, a: (np.column_stack([u, d]), np.column_stack([v, a])),
        "sigma is missing",
    ),
    (
        "merge",
        lambda u, s, v, d, a: (np.column_stack([u * s, d]), np.column_stack([v * s, a])),
        "twice",
    ),
    (
        "merge",
        lambda u, s, v, d, a: (np.column_stack([u * s, d]), np.column_stack([a, v])),
        "sum over columns",
    ),
    ("mix", lambda s1, u1, v1, s2, u2, v2, sign: (u1, u2), "One vector for each"),
    ("mix", lambda s1, u1, v1, *rest: (s1 * u1, v1), "Both signs"),
    (
        "mix",
        lambda s1, u1, v1, s2, u2, v2, sign: (s1 * u1 + sign * s2 * u2, s1 * v1 + sign * s2 * v2),
        "squares",
    ),
    (
        "mix",
        lambda s1, u1, v1, s2, u2, v2, sign: (u1 + sign * u2, v1 + sign * v2),
        "shared out",
    ),
    (
        "mix",
        lambda s1, u1, v1, s2, u2, v2, sign: (s1 * u1 + sign * s2 * u2, v1 + v2),
        "both sides",
    ),
    ("feedback", lambda g, e, c: (c(g), g + e - c(g)), "some time"),
    ("feedback", lambda g, e, c: (c(g) + e, g - c(g)), "full rank"),
    ("feedback", lambda g, e, c: (g, e), "compressed sum"),
    ("feedback", lambda g, e, c: (c(g + e), g - c(g + e)), "would be lost"),
    ("feedback", lambda g, e, c: (c(g + e), c(g + e) - g - e), "wrong sign"),
    ("feedback", lambda g, e, c: (c(g + e), g), "Nothing may"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name: str) -> None:
    verdict = check(f"relatives.{name}", RIGHT[name])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_their_hint(name: str, answer: Any, hint: str) -> None:
    verdict = check(f"relatives.{name}", answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_dots_are_unanswered(name: str) -> None:
    dots: Any = (lambda *_: (..., ...)) if callable(RIGHT[name]) else (..., ...)
    assert "dots" in check(f"relatives.{name}", dots).message
