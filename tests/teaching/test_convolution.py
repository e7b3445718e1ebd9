"""Exercises of notebook 13: right answers pass, typical wrong ones get their own hints."""

from tests.teaching.answers import (  # noqa: F401
    test_dots_are_unanswered,
    test_right_answers_pass,
    test_wrong_answers_get_their_hint,
)


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
    "positions": positions,
    "gradient": gradient,
    "break_even": 6,
}
WRONG = [
    ("positions", fence_posts, "as large as the image"),
    ("positions", once_padded, "both sides"),
    ("positions", lambda h, w, s, t, p: positions(h, w, s, t, 0), "Where is"),
    ("positions", fractions, "whole"),
    ("positions", lambda h, w, s, t, p: h * w, "every pixel"),
    ("positions", lambda h, w, s, t, p: s * s, "one row first"),
    ("gradient", lambda a, d: gradient(a, d).T, "Transposed"),
    ("gradient", lambda a, d: a.T @ a, "shape (4, 18)"),
    ("gradient", lambda a, d: d.reshape(-1, 4).T @ a, "order is not"),
    ("gradient", lambda a, d: d.transpose(1, 3).reshape(-1, 4).T @ a, "Nearly"),
    ("gradient", lambda a, d: gradient(a, d) / len(a), "not a mean"),
    ("gradient", lambda a, d: 2 * gradient(a, d), "flatten three"),
    ("break_even", 5, "still smaller"),
    ("break_even", 144 / 26, "whole"),
    ("break_even", 144 / 25, "Count again"),
    ("break_even", 40, "Set k"),
]
