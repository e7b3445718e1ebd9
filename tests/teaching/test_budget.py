"""Notebook 15: right answers pass, typical wrong ones get their own hint."""

from typing import Any

import pytest

from toolkit.teaching import check

RIGHT: dict[str, Any] = {
    "largest_rank": lambda m, n: (m * n - 1) // (m + n + 1),
    "buffered": lambda m, n, p, b: b * p * (m + n),
    "memory_ratio": 115.1787,
    "trainings": lambda e, p, f, s, b: e * b / (p * f * s),
}
WRONG: list[tuple[str, Any, str]] = [
    ("largest_rank", lambda m, n: m * n / (m + n + 1), "whole number"),
    ("largest_rank", lambda m, n: m * n // (m + n + 1), "2 x 3"),
    ("largest_rank", lambda m, n: m * n // (m + n), "singular values"),
    ("largest_rank", min, "can be"),
    ("largest_rank", lambda m, n: m + n, "safe side"),
    ("buffered", lambda m, n, p, b: b * (m + n), "each position"),
    ("buffered", lambda m, n, p, b: b * p * n, "errors"),
    ("buffered", lambda m, n, p, b: b * p * m * n, "Factors, not products"),
    ("buffered", lambda m, n, p, b: b * p * (m + n + 1), "not buffered"),
    ("buffered", lambda m, n, p, b: p, "How many samples"),
    ("memory_ratio", 1 / 115.1787, "above 1"),
    ("memory_ratio", 57.589, "in both"),
    ("memory_ratio", 512 * 4609 / (512 + 4609 + 1), "rank 1"),
    ("memory_ratio", 7, "Divide"),
    ("trainings", lambda e, p, f, s, b: e * b / (p * s), "fails first"),
    ("trainings", lambda e, p, f, s, b: e / (p * f * s), "How many batches"),
    ("trainings", lambda e, p, f, s, b: p * f * s / (e * b), "other way round"),
    ("trainings", lambda e, p, f, s, b: e, "against its endurance"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name: str) -> None:
    verdict = check(f"budget.{name}", RIGHT[name])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_their_hint(name: str, answer: Any, hint: str) -> None:
    verdict = check(f"budget.{name}", answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_dots_are_unanswered(name: str) -> None:
    dots: Any = (lambda *_: ...) if callable(RIGHT[name]) else ...
    assert "dots" in check(f"budget.{name}", dots).message
