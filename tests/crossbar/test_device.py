"""Responses and presets against published values and closed forms."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch

from toolkit.crossbar import (
    Device,
    Exponential,
    ExpStep,
    LinearStep,
    PiecewiseStep,
    PowStep,
    SoftBounds,
    device_names,
    get_device,
)
from toolkit.crossbar.devices.responses import curvature_from_label

SILVER = Device(  # NeuroSim's RealDevice
    name="real",
    g_min=3.0769e-9,
    g_max=38.462e-9,
    levels_up=97,
    levels_down=100,
    nonlinearity_up=2.4,
    nonlinearity_down=-4.88,
)
NEUROSIM = ["Ag:a-Si", "TaOx/HfOx", "PCMO", "AlOx/HfO2", "GST PCM", "EpiRAM", "FeFET"]


def test_neurosim_conductances():
    # G(P) of NeuroSim V3.0; depression counts P from g_min: P = 100 - k after k pulses from g_max
    trace = 1e9 * (SILVER.g_min + SILVER.trace(up=97, down=100) * SILVER.span)
    rise, fall = trace[[0, 1, 10, 50, 97]].tolist(), trace[[197, 196, 187, 147, 97]].tolist()
    assert rise == pytest.approx([3.0769, 3.91297, 10.709, 29.4151, 38.462], rel=5e-6)
    assert fall == pytest.approx([3.0769, 3.08928, 3.23351, 5.77056, 38.462], rel=2e-6)


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


@pytest.mark.parametrize("name", NEUROSIM)
def test_pulse_number_and_state_are_inverse(name):
    # inverse of the published curve, P = -A ln(1 - (G - G_min)/B), against the forward steps
    device = get_device(name)
    trace = device.trace(up=int(device.levels_up), down=int(device.levels_down))
    rise, fall = trace.split([int(device.levels_up) + 1, int(device.levels_down)])
    for label, states in (
        (device.nonlinearity_up, rise),
        (device.nonlinearity_down, torch.cat([rise[-1:], fall]).flip(0)),
    ):
        bend, count = float(curvature_from_label(label)), len(states) - 1
        position = -torch.log1p(states * math.expm1(-bend)) / bend * count
        assert torch.allclose(position, torch.arange(count + 1.0).double(), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", device_names())
@pytest.mark.parametrize("sign", [1, -1])
def test_many_pulses_at_once_are_one_after_another(name, sign):
    device = get_device(name)
    start = torch.linspace(0.3, 0.7, 5, dtype=torch.float64)
    state = start
    for _ in range(7):
        state = device.step(state, torch.tensor(sign))
    assert torch.allclose(device.step(start, torch.tensor(7 * sign)), state, atol=1e-13)


@pytest.mark.parametrize("name", device_names())
def test_every_preset_rises_and_falls_within_its_range(name):
    device = get_device(name)
    trace = device.trace(up=400, down=400)
    assert bool((trace[:401].diff() >= -1e-15).all())
    assert bool((trace[400:].diff() <= 1e-15).all())
    assert float(trace.min()) >= 0.0 and float(trace.max()) <= 1.0
    assert float(trace[1]) > 0.0 and float(trace[401]) < float(trace[400])
    assert device.name == name and device.source


POW = PowStep(gamma_up=2.0, gamma_down=2.0)
# w after 1 up, 400 up, then 400 down of noiseless cells from w = 0, as another simulator gives them
CHECKPOINTS = {
    "SoftBounds": (0.01, (-0.6, 0.6), SoftBounds(), (0.010000, 0.599278, -0.598557)),
    "PowStep": (0.01, (-0.6, 0.6), POW, (0.002500, 0.375345, -0.337684)),
    "EcRam": (0.002, (-0.8276, 1.1724), "EcRam", (0.002000, 0.769412, -0.161807)),
    "Capacitor": (0.005, (-1.0, 1.0), "Capacitor", (0.005000, 1.000000, -0.998652)),
    "ReRamSB": (0.002, (-0.75, 1.25), "ReRamSB", (0.002000, 0.591222, -0.289071)),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_step_models_at_published_checkpoints(name):
    step, (low, high), response, expected = CHECKPOINTS[name]
    width = high - low
    if isinstance(response, str):
        device = get_device(response)
        assert width / device.levels_up == pytest.approx(step)
    else:
        device = dataclasses.replace(
            SILVER, levels_up=width / step, levels_down=width / step, response=response
        )
    weights = device.trace(400, 400, start=-low / width) * width + low
    assert weights[[1, 400, 800]].tolist() == pytest.approx(expected, abs=1.5e-6)


def scalar_reference(kind, w, up, beta, low=-0.8, high=1.2):
    """One pulse of the published formulas in plain floats, weight units."""
    step = 0.004 * (1 + min(beta, 0) if up else 1 - max(beta, 0))
    if kind == "LinearStep":
        step *= 1 - 0.4 * w / high if up else 1 - 0.7 * w / low
    elif kind == "SoftBounds":
        step *= 1 - w / high if up else 1 - w / low
    elif kind == "ExpStep":
        z = 2 * -0.5 * w / (high - low) - 0.3
        step *= max(0.0, 1 + 1.2 * math.exp(5 * z) if up else 1 - 0.3 * math.exp(-4 * z))
    elif kind == "PowStep":
        omega = (high - w) / (high - low)
        step *= omega**1.5 if up else (1 - omega) ** 2.5
    elif kind == "PiecewiseStep":
        nodes = NODES_UP if up else NODES_DOWN
        place = (w - low) / (high - low) * (len(nodes) - 1)
        left = min(int(place), len(nodes) - 2)
        step *= nodes[left] + (place - left) * (nodes[left + 1] - nodes[left])
    return min(max(w + step if up else w - step, low), high)


NODES_UP, NODES_DOWN = (1.0, 0.7, 0.2), (0.1, 0.5, 0.6, 1.0)
EXP = {"amplitude_up": -1.2, "amplitude_down": 0.3, "gamma_up": 5.0, "gamma_down": 4.0}
STEP_MODELS = {
    LinearStep: {"decrease_up": 0.4, "decrease_down": 0.7},
    SoftBounds: {},
    ExpStep: {**EXP, "a": -0.5, "b": -0.3},
    PowStep: {"gamma_up": 1.5, "gamma_down": 2.5},
    PiecewiseStep: {"nodes_up": NODES_UP, "nodes_down": NODES_DOWN},
}


@pytest.mark.parametrize("kind", STEP_MODELS)
@pytest.mark.parametrize("beta", [0.0, 0.3, -0.2])
def test_step_models_against_a_scalar_loop(kind, beta):
    response = kind(zero=0.4, asymmetry=beta, **STEP_MODELS[kind])
    device = dataclasses.replace(SILVER, levels_up=500, levels_down=500, response=response)
    expected = [0.0]
    for pulse in range(800):
        expected.append(scalar_reference(kind.__name__, expected[-1], pulse < 400, beta))
    weights = device.trace(400, 400, start=0.4) * 2.0 - 0.8
    assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("name", device_names())
def test_symmetry_point(name):
    device = get_device(name)
    point = device.symmetry_point()
    if point is None:
        start = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
        rise = device.step(start, torch.tensor(1)) - start
        fall = start - device.step(start, torch.tensor(-1))
        difference = (rise - fall)[40:-40]
        balanced = bool((difference.abs() < 1e-6).all())
        assert balanced or bool((difference > 0).all()) or bool((difference < 0).all())
        return
    state = torch.tensor([point], dtype=torch.float64)
    rise = device.step(state, torch.tensor(1)) - state
    fall = state - device.step(state, torch.tensor(-1))
    assert float(rise) == pytest.approx(float(fall), rel=1e-9)


@pytest.mark.parametrize("labels", [(0.0, -3.0), (2.0, 0.0), (1e-7, -3.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_straight_direction_beside_a_curved_one(labels, dtype):
    device = dataclasses.replace(SILVER, nonlinearity_up=labels[0], nonlinearity_down=labels[1])
    curved = dataclasses.replace(SILVER, nonlinearity_up=2.0, nonlinearity_down=-3.0)
    straight = dataclasses.replace(SILVER, nonlinearity_up=0.0, nonlinearity_down=0.0)
    start = torch.linspace(0.2, 0.8, 7, dtype=dtype)
    for count, label in ((3, labels[0]), (-3, labels[1])):
        like = straight if abs(label) < 1e-3 else curved
        expected = like.step(start.double(), torch.tensor(count))
        moved = device.step(start, torch.tensor(count)).double()
        assert torch.allclose(moved, expected, atol=3e-7)


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
    with pytest.raises(ValueError, match=r"name must be one of .*Ag:a-Si.*FeFET.*; got 'nonsense'"):
        get_device("nonsense")


def test_bad_trace_is_refused():
    with pytest.raises(ValueError, match="start"):
        SILVER.trace(start=1.5)
    with pytest.raises(ValueError, match="down"):
        SILVER.trace(down=-1)


class Draws:
    """Standard normals of some cells, the same for the same index."""

    def __init__(self, cells):
        self.cells = cells

    def __call__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(self.cells, generator=generator, dtype=torch.float64)


def test_shapes_of_steps_differ_from_cell_to_cell():
    # every cell moves as a nominal cell with its own gammas and amplitudes
    draws = Draws(40)
    base = dataclasses.replace(SILVER, levels_up=100, levels_down=100)
    spread = PowStep(gamma_up=1.5, gamma_down=2.5, gamma_spread=0.4)
    bent = ExpStep(
        amplitude_up=-1.2, amplitude_down=0.1, gamma_up=2.0, gamma_down=3.0, shape_spread=0.2
    )
    start = torch.linspace(0.05, 0.95, 40, dtype=torch.float64)
    for pulses in (3.0, -3.0):
        powers, exponentials = start.clone(), start.clone()
        count = torch.full_like(start, pulses)
        spread.cells(base, draws).step(powers, count)
        bent.cells(base, draws).step(exponentials, count)
        for cell in range(40):
            lean = [1.0 + 0.2 * float(draws(4 + index)[cell]) for index in range(4)]
            own = ExpStep(
                amplitude_up=-1.2 * (2.0 - lean[0]),
                amplitude_down=0.1 * lean[1],
                gamma_up=2.0 * lean[2],
                gamma_down=3.0 * lean[3],
            )
            gammas = [
                abs(mean + 0.4 * float(draws(index)[cell])) for mean, index in ((1.5, 4), (2.5, 5))
            ]
            other = PowStep(gamma_up=gammas[0], gamma_down=gammas[1])
            for response, found in ((own, exponentials), (other, powers)):
                device = dataclasses.replace(base, response=response)
                alone = device.step(start[cell], torch.tensor(pulses))
                assert float(found[cell]) == pytest.approx(float(alone), abs=1e-12)
    symmetric = spread.cells(base, draws).symmetry_point()
    assert symmetric.shape == (40,) and float(symmetric.std()) > 0.01


def test_nodes_stretch_with_the_bounds_of_a_cell():
    response = PiecewiseStep(
        low_spread=0.3, high_spread=0.2, nodes_up=(1.0, 0.5), nodes_down=(0.2, 1.0)
    )
    cells = response.cells(dataclasses.replace(SILVER, levels_up=100, levels_down=100), Draws(40))
    share = torch.linspace(0.1, 0.9, 40, dtype=torch.float64)
    start = cells.low + share * (cells.high - cells.low)
    for pulse, size in ((1.0, 1.0 - 0.5 * share), (-1.0, 0.2 + 0.8 * share)):
        state = start.clone()
        cells.step(state, torch.full_like(start, pulse))
        assert torch.allclose(state, start + pulse * size / 100, atol=1e-12)


def test_parameters_of_the_response_are_the_devices_too():
    """Given, replaced and read by the device; refused where its response has none of that name."""
    row = {"name": "mine", "g_min": 1e-6, "g_max": 1e-5, "levels_up": 50, "levels_down": 50}
    device = Device(**row, nonlinearity_up=2.0)
    assert device == Device(**row, response=Exponential(nonlinearity_up=2.0))
    changed = dataclasses.replace(device, device_to_device=0.3)
    assert changed.response == Exponential(nonlinearity_up=2.0, device_to_device=0.3)
    assert (changed.nonlinearity_up, changed.device_to_device) == (2.0, 0.3)
    soft = dataclasses.replace(device, response=SoftBounds(zero=0.4))
    assert soft.zero == 0.4 and not hasattr(soft, "nonlinearity_up")
    with pytest.raises(TypeError, match=r"nonlinearity_up does not apply to mine, .* SoftBounds"):
        dataclasses.replace(soft, nonlinearity_up=1.0)
    with pytest.raises(ValueError, match="nonlinearity_up must be"):
        dataclasses.replace(device, nonlinearity_up=9.5)
    assert copy.deepcopy(changed) == pickle.loads(pickle.dumps(changed)) == changed
