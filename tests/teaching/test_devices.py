"""Exercises of notebook 10: right answers pass, typical wrong ones get their own hints."""

import math

import numpy as np
import pytest

from tests.teaching.answers import (  # noqa: F401
    test_dots_are_unanswered,
    test_right_answers_pass,
    test_wrong_answers_get_their_hint,
)
from toolkit.crossbar import Exponential, get_device
from toolkit.crossbar.devices.responses import curvature_from_label
from toolkit.fitting import EXAMPLE_CSV, PulseTrains, fit_device
from toolkit.teaching import check
from toolkit.teaching.checks.devices import instrument_table, mystery_trains


def after(x, pulses, u, levels):
    target = 1 / (1 - math.exp(-u))
    return target + (x - target) * math.exp(-pulses * u / levels)


RIGHT = {
    "after": after,
    "symmetry_point": lambda a, b: a / (a + b),
    "pulses_needed": 12,
    "mystery": "pow-step",
}
WRONG = [
    ("after", lambda x, n, u, levels: x + n / levels, "straight line"),
    ("after", lambda x, n, u, levels: after(0.0, n, u, levels), "from x = 0"),
    ("after", lambda x, n, u, levels: after(x, 1, u, levels), "one pulse"),
    ("after", lambda x, n, u, levels: after(x, n, u, 1.0), "distance to T"),
    ("after", lambda x, n, u: x, "TypeError"),
    ("symmetry_point", lambda a, b: b / (a + b), "pulses up win"),
    ("symmetry_point", lambda a, b: 0.5, "where a = b"),
    ("symmetry_point", lambda a, b: a / b, "may pass 1"),
    ("symmetry_point", lambda a, b: a, "equal to the size"),
    ("pulses_needed", 4, "grows with n"),
    ("pulses_needed", 3.395, "grows with n"),
    ("pulses_needed", 3.395**2, "whole"),
    ("pulses_needed", 11.53, "whole"),
    ("pulses_needed", 11, "a little larger"),
    ("pulses_needed", 97, "divide"),
    ("after", lambda x, n, u, levels: after(x, n, u, levels) - x, "the change"),
    ("after", lambda x, n, u, levels: 1 + (x - 1) * np.exp(-n * u / levels), "not to 1"),
    ("mystery", "constant-step", "scatter about 0"),
    ("mystery", "linear-step", "smaller rms"),
    ("mystery", "jump-table", "Only the three"),
    ("mystery", 3, "in quotes"),
]


def test_the_formula_of_the_exercise_is_that_of_the_cells():
    silver = get_device("Ag:a-Si")
    assert isinstance(silver.response, Exponential)
    bend = float(curvature_from_label(silver.nonlinearity_up))
    trace = silver.trace(up=97, down=0)
    assert float(trace[40]) == pytest.approx(after(float(trace[10]), 30, bend, 97.0), rel=1e-12)


def test_the_mystery_is_told_by_its_residuals():
    models = ("constant-step", "linear-step", "pow-step")
    rms = {
        model: fit_device(mystery_trains(), model=model, conductance_range=(1e-6, 1e-5)).rms
        for model in models
    }
    assert rms["pow-step"] < 0.7 * rms["linear-step"] < 0.7 * rms["constant-step"]


def test_a_state_kept_within_the_range_is_right_too():
    assert check("devices.after", lambda *args: min(1.0, max(0.0, after(*args))))
    assert check("devices.after", lambda *args: np.clip(after(*args), 0, 1))


@pytest.mark.parametrize("name", ["Pow-Step", "pow_step", " pow step "])
def test_the_name_of_a_formula_may_be_written_otherwise(name):
    assert check("devices.mystery", name)


def test_the_instruments_table_is_the_example(tmp_path):
    path = tmp_path / "measured.csv"
    path.write_bytes(instrument_table())
    found, expected = PulseTrains.from_csv(path), PulseTrains.from_csv(EXAMPLE_CSV)
    assert found.conductance == pytest.approx(expected.conductance, rel=1e-5)
    assert found.train.tolist() == expected.train.tolist()
    assert found.polarity.tolist() == expected.polarity.tolist()
    assert "current in µA in 'Iread (µA)'; read voltage of 0.1 V" in found.understood
