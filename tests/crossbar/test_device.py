"""Responses and presets against published values and closed forms."""

import dataclasses
import math

import pytest
import torch

from toolkit.crossbar import Device, device_names, get_device
from toolkit.crossbar.response import curvature_from_label

SILVER = Device(  # NeuroSim's RealDevice
    name="real",
    g_min=3.0769e-9,
    g_max=38.462e-9,
    levels_up=97,
    levels_down=100,
    nonlinearity_up=2.4,
    nonlinearity_down=-4.88,
)


def to_nanosiemens(state):
    return 1e9 * (SILVER.g_min + state * (SILVER.g_max - SILVER.g_min))


def test_neurosim_potentiation_values():
    # G(P) of NeuroSim V3.0 at P = 0, 1, 10, 50, 97
    trace = to_nanosiemens(SILVER.trace(up=97, down=0))
    expected = [3.0769, 3.91297, 10.709, 29.4151, 38.462]
    assert trace[[0, 1, 10, 50, 97]].tolist() == pytest.approx(expected, rel=5e-6)


def test_neurosim_depression_values():
    # the depression curve counts P from g_min: P = 100 - k after k pulses from g_max
    trace = to_nanosiemens(SILVER.trace(up=0, down=100, start=1.0))
    expected = [3.0769, 3.08928, 3.23351, 5.77056, 38.462]
    assert trace[[100, 99, 90, 50, 0]].tolist() == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    ("label", "norm_a"), [(1.0, 1.2517), (2.4, 0.499181), (-4.88, -0.200303), (4.88, 0.200303)]
)
def test_label_gives_neurosim_a(label, norm_a):
    assert 1.0 / float(curvature_from_label(label)) == pytest.approx(norm_a, rel=1e-4)


@pytest.mark.parametrize("label", [0.01, 0.5, 1.75, 3.68, 6.76, 9.0])
def test_label_is_the_largest_deviation_from_the_diagonal(label):
    device = dataclasses.replace(SILVER, levels_up=20000, nonlinearity_up=label)
    trace = device.trace(up=20000, down=0)
    line = torch.linspace(0, 1, 20001, dtype=torch.float64)
    assert float((trace - line).max()) == pytest.approx(0.07 * math.sqrt(2) * label, rel=2e-6)


def test_label_is_odd_and_zero_is_straight():
    labels = torch.tensor([0.0, 0.3, 5.0])
    assert torch.equal(curvature_from_label(-labels), -curvature_from_label(labels))
    straight = dataclasses.replace(SILVER, nonlinearity_up=0.0)
    steps = straight.trace(up=97, down=0).diff()
    assert torch.allclose(steps, torch.full_like(steps, 1 / 97), rtol=1e-12)


@pytest.mark.parametrize("name", device_names())
def test_every_preset_runs_from_end_to_end_and_back(name):
    device = get_device(name)
    up, down = int(device.levels_up), int(device.levels_down)
    trace = device.trace(up=up, down=down)
    assert trace.shape == (up + down + 1,)
    assert trace[[0, up, -1]].tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)
    assert bool((trace[: up + 1].diff() > 0).all())
    assert bool((trace[up:].diff() < 0).all())
    assert device.source


@pytest.mark.parametrize("name", device_names())
def test_pulse_number_and_state_are_inverse(name):
    # inverse of the published curve, P = -A ln(1 - (G - G_min)/B), against the forward steps
    device = get_device(name)
    if device.nonlinearity_up == 0.0:
        pytest.skip("straight line: no A")
    bend = float(curvature_from_label(device.nonlinearity_up))
    count = int(device.levels_up)
    trace = device.trace(up=count, down=0)
    position = -torch.log1p(trace * math.expm1(-bend)) / bend * count
    expected = torch.arange(count + 1, dtype=torch.float64)
    assert torch.allclose(position, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", device_names())
@pytest.mark.parametrize("sign", [1, -1])
def test_many_pulses_at_once_are_one_after_another(name, sign):
    device = get_device(name)
    start = torch.linspace(0.3, 0.7, 5, dtype=torch.float64)
    state = start
    for _ in range(7):
        state = device.step(state, torch.tensor(sign))
    assert torch.allclose(device.step(start, torch.tensor(7 * sign)), state, atol=1e-13)


def test_up_then_down_returns_only_on_a_straight_device():
    start = torch.tensor([0.4], dtype=torch.float64)
    straight = dataclasses.replace(
        SILVER, nonlinearity_up=0.0, nonlinearity_down=0.0, levels_down=97
    )
    for device, drift in ((straight, 0.0), (SILVER, 0.05)):
        back = device.step(device.step(start, torch.tensor(10)), torch.tensor(-10))
        assert float((back - start).abs()) >= drift
        assert drift or float((back - start).abs()) < 1e-15


@pytest.mark.parametrize(
    "change",
    [
        {"g_min": 0.0},
        {"g_max": 1e-9},
        {"levels_up": 0},
        {"nonlinearity_down": -9.5},
        {"cycle_to_cycle": -0.1},
        {"read_noise": math.nan},
    ],
)
def test_bad_device_is_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SILVER, **change)


def test_unknown_device_lists_the_known():
    with pytest.raises(ValueError, match=r"'nonsense'.*Ag:a-Si.*FeFET"):
        get_device("nonsense")


def test_bad_trace_is_refused():
    with pytest.raises(ValueError, match="start"):
        SILVER.trace(start=1.5)
    with pytest.raises(ValueError, match="down"):
        SILVER.trace(down=-1)
