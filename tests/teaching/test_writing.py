"""Exercises of notebook 09: right answers pass, typical wrong ones get their own hints."""

import numpy as np
import pytest
import torch

from tests.teaching.answers import (  # noqa: F401
    test_dots_are_unanswered,
    test_right_answers_pass,
    test_wrong_answers_get_their_hint,
)
from toolkit.crossbar import Coincidence, Crossbar, WholePulses, get_device
from toolkit.lowrank import LowRank


def variance(wanted):
    return (wanted - np.floor(wanted)) * (1 - wanted + np.floor(wanted))


def phases(u, v):
    counts = [int((s * u > 0).any() and (t * v > 0).any()) for s in (1, -1) for t in (1, -1)]
    return counts[0] + counts[3], counts[1] + counts[2]


def without_zeros(u, v):
    """Takes a line of zeros for one that goes up."""
    return phases(np.where(u.any(), u, 1.0), np.where(v.any(), v, 1.0))


RIGHT = {
    "pulses": lambda change, w_max, levels: abs(change) / (2 * w_max) * levels,
    "rounding_variance": variance,
    "phases": phases,
    "bit_length": 5,
}
WRONG = [
    ("pulses", lambda d, w_max, levels: abs(d) / w_max * levels, "each of the two"),
    ("pulses", lambda d, w_max, levels: abs(d) / 2 * levels, "w_max = 1 only"),
    ("pulses", lambda d, w_max, levels: abs(d) * levels, "Two things"),
    ("pulses", lambda d, w_max, levels: int(abs(d) / (2 * w_max) * levels), "next section"),
    ("pulses", lambda d, w_max, levels: levels, "share of its range"),
    ("rounding_variance", lambda n: variance(n) ** 0.5, "standard deviation"),
    ("rounding_variance", lambda n: n * (1 - n), "Right below 1"),
    ("rounding_variance", lambda n: n - np.floor(n), "a mean"),
    ("rounding_variance", lambda n: 0.25, "throw of a coin"),
    ("phases", lambda u, v: phases(u, -v), "two minuses"),
    ("phases", lambda u, v: (2, 2), "empty"),
    ("phases", without_zeros, "zeros"),
    ("phases", lambda u, v: (1, 1), "by hand"),
    ("phases", lambda u, v: [(s > 0).any() + (s < 0).any() for s in (u, v)], "True + True"),
    ("phases", lambda u, v: 2, "SET phases, RESET phases"),
    ("pulses", lambda d, w_max, levels: (d, levels), "return one number"),
    ("bit_length", 5.33, "whole"),
    ("bit_length", 4, "a little longer"),
    ("bit_length", 6, "already above"),
    ("bit_length", 3, "cannot reach"),
    ("bit_length", 31, "scatter more"),
]


def counts(wanted, coding):
    """Pulses of the plus cells of an array that wants as many of each."""
    device = get_device("ideal")
    array = Crossbar.from_weights(torch.zeros(300, 300), device=device, coding=coding, seed=1)
    size = torch.tensor([wanted * 2.0 / device.levels_up])
    array.apply(LowRank(-torch.ones(300, 1), size, torch.ones(300, 1)), learning_rate=1.0)
    return array.pulse_count[0].double()


def test_the_answers_are_what_the_array_does():
    rounded = counts(2.3, WholePulses())
    assert float(rounded.mean()) == pytest.approx(2.3, abs=0.01)
    assert float(rounded.var()) == pytest.approx(variance(2.3), rel=0.02)
    streams = counts(4.0, Coincidence(bit_length=5, adapt_length=False))
    assert float(streams.std() / streams.mean()) == pytest.approx(0.2**0.5 / 2, rel=0.1)
