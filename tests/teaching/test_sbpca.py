"""Notebook 06: right answers pass, typical wrong ones get their own hint."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from toolkit.teaching import check


def qr(matrix: Any) -> Any:
    q, r = np.linalg.qr(matrix)
    return q * np.copysign(1, np.diag(r))


def published(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right + w * scale * (A.T @ (D @ left)) / sigma)
    left = qr((1 - w) * left + w * scale * (D.T @ (A @ right)) / sigma)
    sigma = (1 - w) * sigma + w * scale * np.sum((D @ left) * (A @ right), axis=0)
    return left, sigma, right


def with_the_old_right(left, sigma, right, D, A, w, scale):
    new = qr((1 - w) * right + w * scale * (A.T @ (D @ left)) / sigma)
    left = qr((1 - w) * left + w * scale * (D.T @ (A @ right)) / sigma)
    return left, (1 - w) * sigma + w * scale * np.sum((D @ left) * (A @ new), axis=0), new


def without_qr(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right + w * scale * (A.T @ (D @ left)) / sigma)
    return (1 - w) * left + w * scale * (D.T @ (A @ right)) / sigma, sigma, right


def undivided(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right + w * scale * (A.T @ (D @ left)) / sigma)
    left = qr((1 - w) * left + w * scale * (D.T @ (A @ right)))
    return left, sigma, right


def forgetful_sigma(left, sigma, right, D, A, w, scale):
    left, _, right = published(left, sigma, right, D, A, w, scale)
    return left, scale * np.sum((D @ left) * (A @ right), axis=0), right


def stale_sigma(left, sigma, right, D, A, w, scale):
    said = scale * np.sum((D @ left) * (A @ right), axis=0)
    left, _, right = published(left, sigma, right, D, A, w, scale)
    return left, (1 - w) * sigma + w * said, right


def without_scale(left, sigma, right, D, A, w, scale):  # noqa: ARG001
    return published(left, sigma, right, D, A, w, 1.0)


def unscaled_in_the_second_line(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right + w * scale * (A.T @ (D @ left)) / sigma)
    return qr((1 - w) * left + w * (D.T @ (A @ right)) / sigma), sigma, right


def with_lapacks_signs(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right + w * scale * (A.T @ (D @ left)) / sigma)
    turned = (1 - w) * left + w * scale * (D.T @ (A @ right)) / sigma
    return -qr(turned), sigma, right


def sigma_with_the_old_left(left, sigma, right, D, A, w, scale):
    new_left, _, new_right = published(left, sigma, right, D, A, w, scale)
    said = scale * np.sum((D @ left) * (A @ new_right), axis=0)
    return new_left, (1 - w) * sigma + w * said, new_right


def unscaled_sigma(left, sigma, right, D, A, w, scale):
    new_left, _, new_right = published(left, sigma, right, D, A, w, scale)
    return new_left, (1 - w) * sigma + w * np.sum((D @ new_left) * (A @ new_right), 0), new_right


def transposed(left, sigma, right, D, A, w, scale):
    left, sigma, right = published(left, sigma, right, D, A, w, scale)
    return left.T, sigma, right


def multiplied(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right * sigma + w * scale * (A.T @ (D @ left)))
    left = qr((1 - w) * left * sigma + w * scale * (D.T @ (A @ right)))
    return left, (1 - w) * sigma + w * scale * np.sum((D @ left) * (A @ right), axis=0), right


def with_a_floor(*args: Any) -> Any:
    left, sigma, *rest = args
    return published(left, sigma + 1e-3, *rest)


def with_a_tiny_floor(left, sigma, right, D, A, w, scale):
    new_left, _, new_right = published(left, sigma + 1e-12, right, D, A, w, scale)
    return new_left, multiplied(left, sigma, right, D, A, w, scale)[1], new_right


def skipping(left, sigma, right, D, A, w, scale):
    if not D.any():
        return left, sigma, right
    return multiplied(left, sigma, right, D, A, w, scale)


def multiplied_on_one_side(left, sigma, right, D, A, w, scale):
    right = qr((1 - w) * right + w * scale * (A.T @ (D @ left)))
    left = qr((1 - w) * left * sigma + w * scale * (D.T @ (A @ right)))
    return left, (1 - w) * sigma + w * scale * np.sum((D @ left) * (A @ right), axis=0), right


def contraction(w: float, r: float) -> float:
    matrix = np.array([[1 - w, w * r], [w * r * (1 - w), 1 - w + w**2 * r**2]])
    return float(np.abs(np.linalg.eigvals(matrix)).max())


RIGHT: dict[str, Any] = {
    "by_hand": (0.6, 0.8),
    "block": published,
    "past_weight": lambda batch, block: block / (batch + block),
    "contraction": contraction,
    "silent_block": multiplied,
}
WRONG: list[tuple[str, Any, str]] = [
    ("by_hand", (0.75, 1.0), "What does qr do"),
    ("by_hand", (1 / 5**0.5, 2 / 5**0.5), "too large"),
    ("by_hand", (1 / 17**0.5, 4 / 17**0.5), "weight has the past"),
    ("by_hand", (3 / 10**0.5, 1 / 10**0.5), "side of the activations"),
    ("by_hand", (1.0, 0.0), "Begin with"),
    ("by_hand", (-0.6, -0.8), "Which sign"),
    ("by_hand", 0.6, "one column, n = 2"),
    ("block", with_the_old_right, "needs the new X"),
    ("block", without_qr, "not orthonormal"),
    ("block", undivided, "size of sigma"),
    ("block", unscaled_in_the_second_line, "needs the scale, as in the first"),
    ("block", with_lapacks_signs, "is it qr_positive?"),
    ("block", forgetful_sigma, "The past has 1 - w of it"),
    ("block", stale_sigma, "along the new left"),
    ("block", sigma_with_the_old_left, "needs the new left, too"),
    ("block", unscaled_sigma, "needs the scale."),
    ("block", without_scale, "right has changed"),
    ("block", transposed, "must be (m, k)"),
    ("past_weight", lambda batch, block: block / batch, "With B = b"),
    ("past_weight", lambda batch, block: 0.5 ** (batch / block), "first block only"),
    ("past_weight", lambda batch, block: batch / (batch + block), "all the blocks together"),
    ("past_weight", lambda batch, block: 1 / (batch + 1), "Write out the product"),
    ("contraction", lambda w, r: 1 - w + w * r, "second line of (3)"),
    ("contraction", lambda w, r: r, "one after the other"),
    ("contraction", lambda w, r: r**2, "second row"),
    ("contraction", lambda w, r: np.array([w, r]), "return one number"),
    ("silent_block", published, "not finite"),
    ("silent_block", lambda *state: multiplied(*state)[:2], "left, sigma, right, in this order"),
    ("silent_block", skipping, "shrink sigma"),
    ("silent_block", multiplied_on_one_side, "exactly the old one"),
    ("silent_block", with_a_tiny_floor, "Is there a smallest sigma?"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name: str) -> None:
    verdict = check(f"sbpca.{name}", RIGHT[name])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_their_hint(name: str, answer: Any, hint: str) -> None:
    verdict = check(f"sbpca.{name}", answer)
    assert not verdict
    assert hint in verdict.message


def test_a_floor_under_sigma_changes_the_step() -> None:
    assert not check("sbpca.silent_block", with_a_floor)


def unfinished(left, sigma, right, D, A, w, scale):  # noqa: ARG001
    return ..., sigma, right


@pytest.mark.parametrize("name", RIGHT)
def test_dots_are_unanswered(name: str) -> None:
    answers: dict[str, Callable[..., Any] | tuple[Any, ...]] = {
        "by_hand": (..., ...),
        "block": unfinished,
        "silent_block": unfinished,
    }
    assert "dots" in check(f"sbpca.{name}", answers.get(name, lambda *_: ...)).message
