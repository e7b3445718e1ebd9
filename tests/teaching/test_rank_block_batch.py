"""Notebook 07: right answers pass, typical wrong ones get their own hint."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from toolkit.teaching import check


def captured(gradients: Any, estimates: Any) -> float:
    true, found = sum(gradients), sum(estimates)
    return 1 - float(((true - found) ** 2).sum() / (true**2).sum())


def by_batch(gradients: Any, estimates: Any) -> float:
    pairs = zip(gradients, estimates, strict=True)
    return float(np.mean([captured([g], [e]) for g, e in pairs]))


RIGHT: dict[str, Any] = {
    "break_even": 42,
    "macs": lambda m, n, k: k * (3 * m + 2 * n),
    "writes": (16, 32),
    "captured_by_sum": captured,
}
WRONG: list[tuple[str, Any, str]] = [
    ("break_even", 43, "8,342"),
    ("break_even", 65, "how large a rank"),
    ("break_even", 40, "safe side"),
    ("macs", lambda m, n, k: 3 * k * (m + n), "line before"),
    ("macs", lambda m, n, k: k * (2 * m + 3 * n), "D or A"),
    ("macs", lambda m, n, k: k * (m + n), "two products"),
    ("macs", lambda m, n, k: 2 * k * (m + n), "third asks"),
    ("macs", lambda m, n, k: m * n * k, "Go on"),
    ("writes", (1 / 16, 1 / 32), "above 1"),
    ("writes", (32, 16), "other way round"),
    ("writes", (64, 32), "each of the 64"),
    ("writes", (16, 16.25), "How many rows"),
    ("captured_by_sum", lambda g, e: 1 - captured(g, e), "lost"),
    ("captured_by_sum", lambda g, e: 1 - (1 - captured(g, e)) ** 0.5, "squared"),
    ("captured_by_sum", by_batch, "Sum first"),
    ("captured_by_sum", lambda *_: 0.5, "Sum each list"),
]
ACCURACY = xr.DataArray(
    [[[70.0, 72.0], [94.0, 94.6], [95.0, 95.0]], [[80.0, 82.0], [90.0, 92.0], [94.0, 94.0]]],
    coords={"estimator": ["truncated SVD", "SBPCA"], "rank": [1, 4, 8], "seed": [0, 1]},
)


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name: str) -> None:
    verdict = check(f"rank_block_batch.{name}", RIGHT[name])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_their_hint(name: str, answer: Any, hint: str) -> None:
    verdict = check(f"rank_block_batch.{name}", answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_dots_are_unanswered(name: str) -> None:
    right = RIGHT[name]
    dots: Any = (lambda *_: ...) if callable(right) else (..., ...) if name == "writes" else ...
    assert "dots" in check(f"rank_block_batch.{name}", dots).message


@pytest.mark.parametrize(("full", "answer"), [(95.0, 8), (93.0, 4), (82.0, 1), (99.0, None)])
def test_the_smallest_rank_is_that_of_the_readers_own_run(full: float, answer: int | None) -> None:
    assert check("rank_block_batch.smallest_rank", answer, accuracy=ACCURACY, full=full)


@pytest.mark.parametrize(
    ("full", "answer", "hint"),
    [
        (95.0, 1, "the mean is 81.0 %"),
        (82.0, 4, "a smaller one"),
        (95.0, None, "Take the mean"),
        (95.0, 4, "the truncated SVD's"),
    ],
)
def test_the_smallest_rank_hints(full: float, answer: int | None, hint: str) -> None:
    verdict = check("rank_block_batch.smallest_rank", answer, accuracy=ACCURACY, full=full)
    assert not verdict
    assert hint in verdict.message
