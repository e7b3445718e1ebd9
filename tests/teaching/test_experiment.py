"""Notebook 14: right answers pass, typical wrong ones get their own hint."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from toolkit.teaching import check


def interval(x: Any, q: float = 0.975, ddof: int = 1) -> float:
    return float(stats.t.ppf(q, len(x) - 1) * x.std(ddof=ddof) / np.sqrt(len(x)))


def paired(a: Any, b: Any, ddof: int = 1) -> float:
    return float((a - b).std(ddof=ddof) / np.sqrt(len(a)))


RIGHT: dict[str, Any] = {
    "runs": 40,
    "half_width": interval,
    "paired": paired,
    "fewer": 150 * 785 / (4 * (150 + 785 + 1)),  # with or without sigma
    "merged_rank": 16,
}
WRONG: list[tuple[str, Any, str]] = [
    ("runs", 8, "seeds"),
    ("runs", 11, "not added"),
    ("runs", 320, "inside a run"),
    ("runs", 39, "Multiply"),
    ("half_width", lambda x: interval(x, ddof=0), "ddof=1"),
    ("half_width", lambda x: 1.96 * x.std(ddof=1) / np.sqrt(len(x)), "Student"),
    ("half_width", lambda x: interval(x) * np.sqrt(len(x)), "single runs"),
    ("half_width", lambda x: 2 * interval(x), "whole interval"),
    ("half_width", lambda x: x.std(ddof=1) / np.sqrt(len(x)), "standard error"),
    ("half_width", lambda x: interval(x, q=0.95), "each side"),
    ("half_width", lambda x: x.mean(), "0.975"),
    ("paired", lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)), "share their seeds"),
    ("paired", lambda a, b: (a - b).mean(), "How sure"),
    ("paired", lambda a, b: (a - b).std(ddof=1), "their mean"),
    ("paired", lambda a, b: paired(a, b, ddof=0), "ddof=1"),
    ("paired", lambda _a, _b: 0.0, "sample deviation"),
    ("fewer", 4 * 935 / (150 * 785), "Upside down"),
    ("fewer", 150 * 785 / 935, "k of each"),
    ("fewer", 150 * 785, "divide"),
    ("fewer", 20, "sigma"),
    ("merged_rank", 4, "same directions"),
    ("merged_rank", 8, "two workers"),
    ("merged_rank", 256, "do not multiply"),
    ("merged_rank", 12, "side by side"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name: str) -> None:
    verdict = check(f"experiment.{name}", RIGHT[name])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_their_hint(name: str, answer: Any, hint: str) -> None:
    verdict = check(f"experiment.{name}", answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_dots_are_unanswered(name: str) -> None:
    unwritten: Any = (lambda *_: None) if callable(RIGHT[name]) else ...
    assert "Replace the dots" in check(f"experiment.{name}", unwritten).message


def test_the_interval_holds_the_mean_19_times_in_20() -> None:
    """What the right answer of the exercise claims, by trial."""
    rng = np.random.default_rng(0)
    held = [abs(x.mean()) < interval(x) for x in rng.normal(size=(4000, 5))]
    assert abs(np.mean(held) - 0.95) < 0.015
