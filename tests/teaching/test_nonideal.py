"""Exercises of notebook 11: right answers pass, typical wrong ones get their own hints."""

import numpy as np
import pytest
import torch

from tests.teaching.answers import (  # noqa: F401
    test_dots_are_unanswered,
    test_right_answers_pass,
    test_wrong_answers_get_their_hint,
)
from toolkit.crossbar import Crossbar, Device, SoftBounds, get_device
from toolkit.lowrank import LowRank


def parts(left, sigma, right):
    return np.abs(left).sum(0) * np.abs(sigma) * np.abs(right).sum(0)


def whole(left, sigma, right):
    return left * sigma @ right.T


def alpha(left, sigma, right):
    return parts(left, sigma, right).sum() / np.abs(whole(left, sigma, right)).sum()


def largest_columns(u, s, v):
    """Takes numpy's 1-norm for the sum of absolute values."""
    one_by_one = [np.linalg.norm(np.outer(u[:, p], v[:, p]) * s[p], 1) for p in range(len(s))]
    return sum(one_by_one) / np.linalg.norm(whole(u, s, v), 1)


RIGHT = {
    "amplification": alpha,
    "half_life": 35,
    "noise_factor": 1.4,
}
WRONG = [
    ("amplification", lambda u, s, v: 1 / alpha(u, s, v), "Upside down"),
    ("amplification", lambda u, s, v: parts(u, s, v).sum(), "numerator"),
    (
        "amplification",
        lambda u, s, v: np.linalg.norm(parts(u, s, v)) / np.linalg.norm(whole(u, s, v)),
        "1-norm",
    ),
    (
        "amplification",
        lambda u, s, v: (
            (np.abs(u).sum(0) * s * np.abs(v).sum(0)).sum() / np.abs(whole(u, s, v)).sum()
        ),
        "negative",
    ),
    ("amplification", lambda u, s, v: alpha(u, np.ones_like(s), v), "all sigma are equal"),
    ("amplification", largest_columns, "sum of a column"),
    ("amplification", lambda u, s, v: 2.0, "At rank 1"),
    ("amplification", lambda u, s, v: 1.0, "At rank 2"),
    ("half_life", 69, "How many pairs"),
    ("half_life", 34, "half or less"),
    ("half_life", 34.48, "half or less"),
    ("half_life", 34.5, "half or less"),
    ("half_life", 50, "of what is left"),
    ("half_life", 100, "one pulse up"),
    ("noise_factor", 1.96, "variance"),
    ("noise_factor", 1.0, "their noise"),
    ("noise_factor", 1.96**2, "their variances"),
    ("noise_factor", 2.5, "sum of n"),
]


def test_cancelling_pairs_halve_a_weight_when_the_exercise_says_so():
    soft = Device(
        name="soft", g_min=1e-6, g_max=1e-5, levels_up=200, levels_down=200, response=SoftBounds()
    )
    array = Crossbar.from_weights(torch.tensor([[0.8]], dtype=torch.float64), device=soft)
    up = torch.tensor([[[1.0]], [[0.0]]], dtype=torch.float64)
    held = []
    for _ in range(35):
        for pulses in (up, -up, up.flip(0), -up.flip(0)):
            array.pulse(pulses)
        held.append(float(array.weights))
    assert held[33] > 0.4 >= held[34]


def test_the_amplification_is_that_of_the_pulses():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, 4, generator=generator).double() for size in (40, 50))
    sigma = torch.tensor([1.0, -0.5, 0.3, 0.2], dtype=torch.float64)
    ideal = get_device("ideal")
    counts = []
    for scheme in ("rank-sequential", "rank-sum"):
        zeros = torch.zeros(40, 50, dtype=torch.float64)
        array = Crossbar.from_weights(zeros, device=ideal, w_max=10.0, seed=0)
        array.apply(LowRank(left, sigma, right), learning_rate=0.5, scheme=scheme)
        counts.append(int(array.pulse_count.sum()))
    expected = alpha(left.numpy(), sigma.numpy(), right.numpy())
    assert counts[0] / counts[1] == pytest.approx(expected, rel=0.01)
