"""Non-identical pulses against the closed form of two NeuroSim curves."""

import dataclasses

import pytest
import torch

from toolkit.crossbar import (
    Crossbar,
    Device,
    Exponential,
    IncrementalPulses,
    LinearStep,
    open_device,
    save_device,
)

LABELS = {"nonlinearity_up": 2.0, "nonlinearity_down": -3.0}
ROW = {"name": "cell", "g_min": 1e-6, "g_max": 1e-5, "levels_up": 60, "levels_down": 40}
EVEN = Device(**ROW, response=IncrementalPulses(**LABELS))


def test_a_nominal_cell_moves_straight_whatever_its_labels():
    straight = Device(**ROW, response=LinearStep())
    for labels in (LABELS, {"nonlinearity_up": 0.0}, {"nonlinearity_up": -5.0}):
        even = Device(**ROW, response=IncrementalPulses(**labels))
        gap = even.trace(up=60, down=40) - straight.trace(up=60, down=40)
        assert float(gap.abs().max()) < 1e-12


def test_a_cell_keeps_what_it_differs_by():
    own = {"nonlinearity_up": 2.4, "nonlinearity_down": -3.4}  # of a cell, both 0.4 off
    spread = dataclasses.replace(EVEN.response, device_to_device=0.4)
    signs = iter((1.0, -1.0))
    cells = spread.cells(EVEN, lambda _: torch.tensor([next(signs)], dtype=torch.float64))
    identical, its_own = (Device(**ROW, response=Exponential(**each)) for each in (LABELS, own))
    state = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    for sign, levels in ((1.0, 60), (-1.0, 40)):
        pulse = torch.full_like(state, sign)
        ratio = (its_own.step(state, pulse) - state) / (identical.step(state, pulse) - state)
        moved = state.clone()
        cells.step(moved, pulse)
        assert torch.allclose(moved - state, sign * ratio / levels, rtol=1e-9)


def test_updates_arrive_evenly_from_every_state():
    weights = torch.linspace(-0.8, 0.6, 12, dtype=torch.float64).reshape(3, 4)
    array = Crossbar.from_weights(weights, device=EVEN)
    pulses = torch.zeros(2, 3, 4)
    pulses[0] = 6.0
    array.pulse(pulses)
    assert torch.allclose(array.weights - weights, torch.full((3, 4), 0.1).double(), atol=1e-9)


def test_it_is_kept_as_yaml_and_found_by_its_name(tmp_path):
    save_device(EVEN, tmp_path / "even.yaml")
    assert open_device(tmp_path / "even.yaml") == EVEN
    assert "IncrementalPulses" in (tmp_path / "even.yaml").read_text()


def test_what_it_cannot_do_is_said():
    with pytest.raises(ValueError, match=r"nonlinearity_up must be .*5.*; got 6"):
        IncrementalPulses(nonlinearity_up=6)
    with pytest.raises(ValueError, match=r"levels_up and levels_down must be finite .* Incremen"):
        dataclasses.replace(EVEN, levels_up=float("inf"), levels_down=float("inf"))
