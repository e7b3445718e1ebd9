"""Exercises of notebook 13: right answers pass, typical wrong ones get their own hints."""

import pytest

from toolkit.teaching import check


def positions(height, width, size, stride, padding):
    down, across = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    return down * across


def once_padded(height, width, size, stride, padding):
    down, across = ((side + padding - size) // stride + 1 for side in (height, width))
    return down * across


def fractions(height, width, size, stride, padding):
    down, across = ((side + 2 * padding - size) / stride + 1 for side in (height, width))
    return down * across


def fence_posts(height, width, size, stride, padding):
    down, across = ((side + 2 * padding - size) // stride for side in (height, width))
    return down * across


def gradient(activations, errors):
    return errors.permute(0, 2, 3, 1).flatten(0, 2).T @ activations


RIGHT = {
    "convolution.positions": positions,
    "convolution.gradient": gradient,
    "convolution.break_even": 6,
}
WRONG = [
    ("convolution.positions", fence_posts, "as large as the image"),
    ("convolution.positions", once_padded, "both sides"),
    ("convolution.positions", lambda h, w, s, t, p: positions(h, w, s, t, 0), "Where is"),
    ("convolution.positions", fractions, "whole"),
    ("convolution.positions", lambda h, w, s, t, p: h * w, "every pixel"),
    ("convolution.positions", lambda h, w, s, t, p: s * s, "one row first"),
    ("convolution.gradient", lambda a, d: gradient(a, d).T, "Transposed"),
    ("convolution.gradient", lambda a, d: a.T @ a, "shape (4, 18)"),
    ("convolution.gradient", lambda a, d: d.reshape(-1, 4).T @ a, "order is not"),
    ("convolution.gradient", lambda a, d: d.transpose(1, 3).reshape(-1, 4).T @ a, "Nearly"),
    ("convolution.gradient", lambda a, d: gradient(a, d) / len(a), "not a mean"),
    ("convolution.gradient", lambda a, d: 2 * gradient(a, d), "flatten three"),
    ("convolution.break_even", 5, "still smaller"),
    ("convolution.break_even", 144 / 26, "whole"),
    ("convolution.break_even", 144 / 25, "Count again"),
    ("convolution.break_even", 40, "Set k"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_and_dots_are_unanswered(name):
    assert check(name, RIGHT[name])
    assert "dots" in check(name, ...).message


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_own_hint(name, answer, hint):
    verdict = check(name, answer)
    assert not verdict
    assert hint in verdict.message
