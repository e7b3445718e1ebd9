"""Notebook 03: right answers pass, typical wrong ones get their own hint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from toolkit.lowrank import SBPCA
from toolkit.teaching import check


def hint(name: str, answer: Any) -> str:
    verdict = check(f"outer_products.{name}", answer)
    assert not verdict
    return verdict.message


def test_the_gradient() -> None:
    assert check("outer_products.gradient", lambda d, a: torch.einsum("bi,bj->ij", d, a))
    assert "its transpose" in hint("gradient", lambda d, a: a.T @ d)
    assert "carry the 1/B" in hint("gradient", lambda d, a: d.T @ a / len(d))
    assert "the last sample" in hint("gradient", lambda d, a: np.outer(d[-1], a[-1]))
    assert "d x^T" in hint("gradient", lambda d, a: d.sum(0)[:, None] * a.sum(0))
    assert "RuntimeError" in hint("gradient", lambda d, a: d @ a)


def test_errors_of_the_outputs() -> None:
    def right(y: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return (y.softmax(1) - torch.eye(4)[c]) / len(y)

    assert check("outer_products.output_errors", right)
    assert "sign" in hint("output_errors", lambda y, c: -right(y, c))
    assert "mean over a batch" in hint("output_errors", lambda y, c: len(y) * right(y, c))
    assert "no probabilities" in hint("output_errors", lambda y, c: (y - torch.eye(4)[c]) / len(y))
    along = lambda y, c: (y.softmax(0) - torch.eye(4)[c]) / len(y)  # noqa: E731
    assert "along which" in hint("output_errors", along)
    assert "should it have said" in hint("output_errors", lambda y, _: y.softmax(1))


def test_errors_of_the_hidden_layer() -> None:
    def right(d: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(y > 0, d @ w[:, :-1], 0.0)

    assert check("outer_products.hidden_errors", right)
    assert "One column too many" in hint("hidden_errors", lambda d, w, _: d @ w)
    assert "nothing passes" in hint("hidden_errors", lambda d, w, _: d @ w[:, :-1])
    assert "not the sum" in hint("hidden_errors", lambda d, w, y: (d @ w)[:, :-1] * y.relu())
    assert "First D W" in hint("hidden_errors", lambda d, w, y: (d @ w)[:, 1:] * (y > 0))


@pytest.mark.parametrize(
    ("answer", "says"),
    [(65, "largest rank there is"), (43, "one more number"), (128 * 65 / 194, "whole"), (10, "G")],
)
def test_the_break_even(answer: float, says: str) -> None:
    assert check("outer_products.break_even", 42)
    assert says in hint("break_even", answer)


def test_the_break_even_is_that_of_the_estimator() -> None:
    assert SBPCA(rank=42).words(128, 65) < 128 * 65 < SBPCA(rank=43).words(128, 65)
    assert SBPCA(rank=4).words(128, 65) == 776
