"""Exercises of notebook 09: right answers pass, typical wrong ones get their own hints."""

import numpy as np
import pytest
import torch

from toolkit.crossbar import Coincidence, Crossbar, WholePulses, get_device
from toolkit.lowrank import LowRank
from toolkit.teaching import check


def variance(wanted):
    return (wanted - np.floor(wanted)) * (1 - wanted + np.floor(wanted))


def phases(u, v):
    counts = [int((s * u > 0).any() and (t * v > 0).any()) for s in (1, -1) for t in (1, -1)]
    return counts[0] + counts[3], counts[1] + counts[2]


def without_zeros(u, v):
    """Takes a line of zeros for one that goes up."""
    return phases(np.where(u.any(), u, 1.0), np.where(v.any(), v, 1.0))


RIGHT = {
    "writing.pulses": lambda change, w_max, levels: abs(change) / (2 * w_max) * levels,
    "writing.rounding_variance": variance,
    "writing.phases": phases,
    "writing.bit_length": 5,
}
WRONG = [
    ("writing.pulses", lambda d, w_max, levels: abs(d) / w_max * levels, "each of the two"),
    ("writing.pulses", lambda d, w_max, levels: abs(d) / 2 * levels, "w_max = 1 only"),
    ("writing.pulses", lambda d, w_max, levels: abs(d) * levels, "Two things"),
    ("writing.pulses", lambda d, w_max, levels: int(abs(d) / (2 * w_max) * levels), "next section"),
    ("writing.pulses", lambda d, w_max, levels: levels, "share of its range"),
    ("writing.rounding_variance", lambda n: variance(n) ** 0.5, "standard deviation"),
    ("writing.rounding_variance", lambda n: n * (1 - n), "Right below 1"),
    ("writing.rounding_variance", lambda n: n - np.floor(n), "a mean"),
    ("writing.rounding_variance", lambda n: 0.25, "throw of a coin"),
    ("writing.phases", lambda u, v: phases(u, -v), "two minuses"),
    ("writing.phases", lambda u, v: (2, 2), "empty"),
    ("writing.phases", without_zeros, "zeros"),
    ("writing.phases", lambda u, v: (1, 1), "by hand"),
    ("writing.bit_length", 4, "a little longer"),
    ("writing.bit_length", 6, "already above"),
    ("writing.bit_length", 3, "cannot reach"),
    ("writing.bit_length", 31, "scatter more"),
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
