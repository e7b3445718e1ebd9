"""Exercises of notebook 12: right answers pass, typical wrong ones get their own hints."""

from dataclasses import replace

import pytest
import torch

from toolkit.crossbar import Crossbar, PowerLawDrift, get_device
from toolkit.crossbar.readout.wires import line_currents
from toolkit.teaching import check


def farthest(R, r, m, n):
    return 1 / (R + (m + n) * r)


def seconds_until(share, nu, t0):
    return t0 * (share ** (-1 / nu) - 1)


RIGHT = {
    "wires_faults_drift.farthest": farthest,
    "wires_faults_drift.weights_hit": lambda p: 1 - (1 - p) ** 2,
    "wires_faults_drift.seconds_until": seconds_until,
    "wires_faults_drift.epochs_left": lambda count, epochs, E: E * epochs / count.max() - epochs,
}
WRONG = {
    "wires_faults_drift.farthest": [
        (lambda R, r, m, n: 1 / (R + (m + n - 2) * r), "segment before"),
        (lambda R, r, m, n: 1 / (R + 2 * r), "suffers least"),
        (lambda R, r, m, n: 1 / (R + m * r), "one line"),
        (lambda R, r, m, n: 1 / (R + n * r), "one line"),
        (lambda R, r, m, n: R + (m + n) * r, "current flows"),
        (lambda R, r, m, n: R / (R + (m + n) * r), "the voltage across"),
        (lambda R, r, m, n: 1 / R, "of the drawing"),
    ],
    "wires_faults_drift.weights_hit": [
        (lambda p: 2 * p, "at p = 1"),
        (lambda p: p**2, "both"),
        (lambda p: p, "share of cells"),
        (lambda p: (1 - p) ** 2, "without a stuck cell"),
        (lambda p: 0.5, "no stuck cell at all"),
    ],
    "wires_faults_drift.seconds_until": [
        (lambda share, nu, t0: t0 * share ** (-1 / nu), "no time at all"),
        (lambda share, nu, t0: t0 * (share ** (1 / nu) - 1), "sign of the exponent"),
        (lambda share, nu, t0: t0 * (share**-nu - 1), "which power"),
        (lambda share, nu, t0: t0, "solve for t"),
    ],
    "wires_faults_drift.epochs_left": [
        (lambda count, epochs, E: E * epochs / count.max(), "How many more"),
        (lambda count, epochs, E: E * epochs / count.mean() - epochs, "the first"),
        (lambda count, epochs, E: E / count.max(), "in one"),
        (lambda count, epochs, E: E - count.max(), "Those are pulses"),
        (lambda count, epochs, E: epochs, "dies first"),
    ],
}
CASES = [(name, *case) for name, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_and_dots_are_unanswered(name):
    assert check(name, RIGHT[name])
    assert "dots" in check(name, ...).message


@pytest.mark.parametrize(("name", "answer", "hint"), CASES)
def test_a_wrong_answer_gets_its_own_hint(name, answer, hint):
    verdict = check(name, answer)
    assert not verdict
    assert hint in verdict.message


def test_the_farthest_cell_is_that_of_the_solver():
    conductance = torch.zeros(3, 2, dtype=torch.float64)
    conductance[2, 0] = 1e-4
    currents = line_currents(conductance, torch.ones(1, 2, dtype=torch.float64), 7.0)
    assert float(currents[0, 2]) == pytest.approx(farthest(1e4, 7.0, 3, 2), rel=1e-12)


def test_weights_shrink_in_the_time_of_the_exercise():
    drifting = replace(get_device("ideal"), retention=PowerLawDrift(nu=0.05))
    array = Crossbar.from_weights(torch.full((2, 2), 0.5, dtype=torch.float64), device=drifting)
    array.wait(seconds_until(0.9, 0.05, 20.0))
    torch.testing.assert_close(array.weights, torch.full((2, 2), 0.45, dtype=torch.float64))
