"""Infinite levels: cells move by the exact mean of an update, along the flow of their response."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from toolkit.crossbar import (
    Coincidence,
    Crossbar,
    Device,
    DigitalArray,
    Exponential,
    LinearStep,
    PowStep,
    SoftBounds,
    TikiTaka,
    add_device,
    get_device,
    open_device,
    save_device,
)
from toolkit.crossbar.devices.responses import curvature_from_label
from toolkit.lowrank import LowRank
from toolkit.training import Experiment

RESPONSES = {
    "straight": Exponential(),
    "curved": Exponential(nonlinearity_up=2.4, nonlinearity_down=-4.9),
    "positive labels": Exponential(nonlinearity_up=1.2, nonlinearity_down=1.8),
    "linear": LinearStep(decrease_up=0.6, decrease_down=0.9, zero=0.4, asymmetry=0.2),
    "constant": LinearStep(asymmetry=-0.3),
    "soft": SoftBounds(zero=0.5),
}
OVER = pytest.mark.parametrize("name", RESPONSES)


def device_of(response, levels=math.inf, **more):
    row = {"name": "cell", "g_min": 1e-6, "g_max": 1e-5, "response": response}
    return Device(**row, levels_up=levels, levels_down=levels, **more)


def update_of(m=5, n=7, rank=3, seed=0, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(k, rank, generator=draw).double() for k in (m, n))
    return LowRank(left, size * torch.ones(rank).double(), right)


def array_of(device, pair="differential", seed=1, spread=0.4, **more):
    draw = torch.Generator().manual_seed(seed)
    weights = spread * (2 * torch.rand(5, 7, generator=draw).double() - 1)
    return Crossbar.from_weights(weights, device=device, pair=pair, seed=0, **more)


def states(array):
    return (array.conductance - array.device.g_min) / array.device.span


def flow(response, start, change, levels=20_000.0):
    """The state after ``change`` ranges: the limit of small pulses, integrated numerically."""
    device, way = device_of(response, levels), math.copysign(1.0, change)

    def rate(_, x):
        after = torch.from_numpy(x.copy())
        device.response.cells(device).step(after, torch.full_like(after, way))
        return (after.numpy() - x) * levels

    span = (0.0, abs(change))
    return solve_ivp(rate, span, np.atleast_1d(start), rtol=1e-10, atol=1e-12).y[:, -1]


# --- closed forms -------------------------------------------------------------------------------


@OVER
@pytest.mark.parametrize("change", [0.3, -0.3, 0.01])
def test_a_change_follows_the_flow_of_the_response(name, change):
    response = RESPONSES[name]
    start = np.linspace(0.05, 0.95, 7)
    expected = flow(response, start, change)
    state = torch.from_numpy(start.copy())
    device = device_of(response)
    device.response.cells(device).step(state, torch.full_like(state, change))
    np.testing.assert_allclose(state.numpy(), expected, atol=2e-4)


def test_neurosims_curve_is_the_same_for_any_number_of_levels():
    response = RESPONSES["curved"]
    for levels, change in ((50.0, 10), (97.0, -31)):
        one, state = device_of(response, levels), torch.linspace(0, 1, 9).double()
        endless = device_of(response)
        pulses = torch.full_like(state, change)
        whole = state.clone()
        one.response.cells(one).step(whole, pulses)
        endless.response.cells(endless).step(state, pulses / levels)
        assert torch.allclose(whole, state, atol=1e-12)
    u = float(curvature_from_label(2.4))
    state, endless = torch.tensor([0.2], dtype=torch.float64), device_of(response)
    endless.response.cells(endless).step(state, torch.tensor([0.25]).double())
    top = 1 / (1 - math.exp(-u))
    assert float(state) == pytest.approx(top + (0.2 - top) * math.exp(-0.25 * u), abs=1e-12)


@OVER
@pytest.mark.parametrize("spread", [False, True])
def test_it_is_the_mean_of_many_fine_pulses(name, spread):
    response = RESPONSES[name]
    if spread:
        names = {"device_to_device", "step_spread"} & set(vars(response))
        response = replace(response, **dict.fromkeys(names, 0.2))
    update, fine = update_of(size=0.02), array_of(device_of(response, 20_000.0))
    exact = array_of(device_of(response))
    for array in (fine, exact):
        array.apply(update, learning_rate=1.0)
    moved = (states(exact) - states(array_of(device_of(response)))).abs().max()
    assert moved > 0.01
    assert torch.allclose(states(fine), states(exact), atol=1e-3)


@pytest.mark.parametrize("scheme", ["rank-sequential", "rank-sum"])
@pytest.mark.parametrize("pair", ["differential", "reference"])
@pytest.mark.parametrize("size", [1e-3, 1e-9])
def test_an_ideal_response_is_plain_weights_however_small_the_change(pair, scheme, size):
    array, update = array_of(device_of(Exponential()), pair), update_of(size=size)
    digital = DigitalArray.from_weights(array.weights)
    before = array.weights
    for one in (array, digital):
        one.apply(update, learning_rate=0.5, scheme=scheme)
    change = digital.weights - before
    assert change.abs().max() > 0
    assert torch.allclose(array.weights - before, change, atol=1e-14, rtol=1e-5)


def test_one_sided_pairs_only_rise():
    array = array_of(device_of(Exponential()), "one-sided")
    before, held = states(array), array.weights
    array.apply(update := update_of(size=0.01), learning_rate=1.0)
    assert (states(array) >= before - 1e-15).all()
    assert torch.allclose(array.weights, held - update.dense(), atol=1e-12)


def test_nothing_counts_as_a_pulse_and_the_same_seed_gives_the_same_bits():
    first, second = (array_of(device_of(RESPONSES["soft"], write_noise=0.01)) for _ in range(2))
    for array in (first, second):
        array.apply(update_of(size=0.02), learning_rate=1.0)
    assert torch.equal(first.weights, second.weights)
    assert first.pulses == 0 and not first.pulse_count.any()
    assert first.cost().write_energy == 0.0
    assert (states(first) >= 0).all() and (states(first) <= 1).all()


def test_float32_moves_where_a_billion_levels_would_stand_still():
    array = Crossbar.from_weights(torch.zeros(3, 4), device=device_of(Exponential()), seed=0)
    tiny = LowRank(torch.ones(3, 1), torch.tensor([1e-6]), torch.ones(4, 1))
    for _ in range(1000):
        array.apply(tiny, learning_rate=1.0)
    assert torch.allclose(array.weights, torch.full((3, 4), -1e-3), rtol=0.2)


def test_write_verify_and_a_saved_state():
    array = array_of(device_of(RESPONSES["curved"]))
    goal = 0.5 * torch.ones(5, 7).double()
    report = array.program(goal, tolerance=1e-4)
    assert report.within_tolerance == 1.0 and report.rms_error < 1e-4
    again = array_of(device_of(RESPONSES["curved"]))
    again.load_state_dict(array.state_dict())
    assert torch.equal(again.weights, array.weights)
    with pytest.raises(ValueError, match=r"device.levels_up"):
        array_of(device_of(RESPONSES["curved"], 50.0)).load_state_dict(array.state_dict())


def test_the_device_changes_from_levels_to_none_in_mid_run():
    array = array_of(device_of(Exponential(), 50.0))
    weights = array.weights
    array.device = device_of(Exponential())
    array.apply(update := update_of(size=1e-4), learning_rate=1.0)
    assert torch.allclose(array.weights, weights - update.dense(), atol=1e-12)


@pytest.mark.parametrize("inf", [np.float32("inf"), np.float64("inf")])
def test_numpys_infinity_is_one(inf):
    assert device_of(Exponential(), inf).is_continuous


def test_a_file_keeps_it(tmp_path):
    device = device_of(RESPONSES["linear"])
    save_device(device, tmp_path / "cell.yaml")
    assert open_device(tmp_path / "cell.yaml") == device


def test_training_with_it_is_training_with_plain_weights():
    knobs = {"dataset": "gaussians", "hidden": [8], "rank": 2, "w_max": 4.0, "learning_rate": 0.1}
    plain, cells = Experiment(**knobs), Experiment(device=device_of(Exponential()), **knobs)
    losses = [[record.loss for record in run.steps(epochs=1)] for run in (plain, cells)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert cells.pulses == 0


def test_tiki_taka_takes_it():
    weights = torch.zeros(5, 7).double()
    array = TikiTaka.from_weights(weights, device=device_of(SoftBounds()), seed=0)
    for _ in range(20):
        array.apply(update_of(size=0.01), learning_rate=0.1)
    assert array.weights.abs().max() > 0


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"levels_down": 50.0}, "levels_up and levels_down must both be inf, or neither; got inf"),
        ({"levels_up": -math.inf}, "levels_up must be"),
        ({"levels_up": math.nan}, "levels_up must be"),
        ({"response": PowStep()}, "levels_up and levels_down must be finite .* got inf with PowS"),
        ({"cycle_to_cycle": 0.01}, "cycle_to_cycle must be 0 with infinite levels"),
        ({"step_noise": 0.1}, "step_noise must be 0 with infinite levels"),
        ({"state_noise": 0.1}, "state_noise must be 0 with infinite levels"),
        ({"endurance": 1e6}, "endurance must be 0 with infinite levels"),
    ],
)
def test_what_has_no_such_limit_is_refused(row, said):
    with pytest.raises(ValueError, match=said) as caught:
        replace(device_of(Exponential()), **row)
    assert "\n" not in str(caught.value)


def test_what_needs_pulses_is_refused_and_writes_nothing():
    device = device_of(Exponential())
    for settings in ({"coding": Coincidence()}, {"half_select": 0.1}):
        array = array_of(device, **settings)
        before = array.weights
        with pytest.raises(ValueError, match=r"coding must be WholePulses\(\) and half_select 0"):
            array.apply(update_of(), learning_rate=0.1)
        assert torch.equal(array.weights, before)
    for call in (
        lambda: array_of(device).pulse(torch.ones(2, 5, 7)),
        lambda: device.trace(up=3),
        lambda: device.step(torch.zeros(1), torch.ones(1)),
        lambda: add_device(device),
    ):
        with pytest.raises(ValueError, match="levels_up and levels_down of cell must be finite"):
            call()
    with pytest.raises(ValueError, match="cycle_to_cycle must be 0"):
        replace(get_device("EpiRAM"), levels_up=math.inf, levels_down=math.inf)
