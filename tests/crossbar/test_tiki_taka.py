"""Tiki-Taka and its second version: what is transferred when, reads, and what they are for."""

import dataclasses
import math

import pytest
import torch

from tests.crossbar.arrays import normals, some_update
from toolkit.crossbar import BufferedTikiTaka, Crossbar, SoftBounds, TikiTaka, get_device
from toolkit.lowrank import LowRank

FINE = dataclasses.replace(get_device("ideal"), levels_up=10**7, levels_down=10**7)
SOFT = dataclasses.replace(
    get_device("ideal"),
    levels_up=400,
    levels_down=400,
    response=SoftBounds(asymmetry_spread=0.1, step_spread=0.1),
)
SILVER = get_device("Ag:a-Si")


def a_change(seed=1):
    return some_update(4, 3, 2, scale=0.1, seed=seed)


def test_columns_of_the_fast_array_go_to_the_slow_one_in_turn():
    weights, update = normals(4, 3, scale=0.1), a_change()
    array = TikiTaka.from_weights(weights, device=FINE, every=2, transfer_rate=0.25)
    fast, slow = torch.zeros_like(weights), weights.clone()
    for step in range(10):
        array.apply(update, learning_rate=0.5)
        fast -= 0.5 * update.dense()
        if step % 2:
            column = step // 2 % 3
            slow[:, column] += 0.25 * fast[:, column]
        assert torch.allclose(array.fast.weights, fast, atol=1e-5)
        assert torch.allclose(array.slow.weights, slow, atol=1e-5)
    assert bool(((slow - weights).abs() > 1e-6).any(0).all())  # every column was transferred


@pytest.mark.parametrize("columns", [2, 3, 7])
def test_several_columns_go_at_once_and_no_column_twice(columns):
    weights, update = normals(4, 3, scale=0.1), a_change()
    array = TikiTaka.from_weights(weights, device=FINE, columns=columns, transfer_rate=0.25)
    fast, slow = torch.zeros_like(weights), weights.clone()
    for step in range(5):
        array.apply(update, learning_rate=0.5)
        fast -= 0.5 * update.dense()
        for column in range(min(columns, 3)):
            turn = (step * min(columns, 3) + column) % 3
            slow[:, turn] += 0.25 * fast[:, turn]
        assert torch.allclose(array.slow.weights, slow, atol=1e-5)


def test_states_from_before_columns_are_of_one_column():
    array = TikiTaka.from_weights(normals(4, 3), device=SILVER)
    saved = array.state_dict()
    del saved["settings"]["columns"]
    array.load_state_dict(saved)
    array.columns = 2
    with pytest.raises(ValueError, match="columns"):
        array.load_state_dict(saved)


def test_reads_are_of_both_arrays():
    array = TikiTaka.from_weights(normals(4, 3), device=FINE, gamma=0.5)
    array.apply(a_change(), learning_rate=1.0)
    expected = array.slow.weights + 0.5 * array.fast.weights
    assert torch.allclose(array.weights, expected)
    assert float(array.fast.weights.abs().max()) > 1e-3
    signal, errors = normals(5, 3, seed=4), normals(5, 4, seed=5)
    assert torch.allclose(array.read(signal), signal @ expected.T, atol=1e-12)
    assert torch.allclose(array.read_transposed(errors), errors @ expected, atol=1e-12)
    array.gamma = 0.0
    assert torch.allclose(array.read(signal), signal @ array.slow.weights.T, atol=1e-12)


def test_it_is_a_crossbar_to_the_user():
    array = TikiTaka.from_weights(normals(4, 3), device=SILVER, seed=2)
    assert array.shape == (4, 3) and array.device is SILVER
    for step in range(6):
        array.apply(a_change(step), learning_rate=3.0, scheme="rank-sum")
    pulses = array.fast.pulse_count + array.slow.pulse_count
    assert torch.equal(array.pulse_count, pulses) and array.conductance.shape == (2, 4, 3)
    cost = array.cost()
    assert cost.pulses_up + cost.pulses_down == array.pulses == int(pulses.sum()) > 0
    assert cost.reads == 6  # one for every transfer
    array.wait(1.0)
    array.device = get_device("EcRam")
    assert array.fast.device is array.slow.device is get_device("EcRam")


def regression_error(array, learning_rate, steps=1200):
    """Mean squared error of the weights of a noisy linear regression, sample by sample."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(3, 8, generator=generator) - 0.5
    errors = []
    for step in range(steps):
        signal = torch.randn(1, 8, generator=generator)
        target = signal @ truth.T + 0.3 * torch.randn(1, 3, generator=generator)
        error = array.read(signal) - target
        array.apply(LowRank(error.T, torch.ones(1), signal.T), learning_rate=learning_rate)
        if step >= steps // 2 and step % 50 == 0:
            errors.append(float((array.weights - truth).square().mean()))
    return sum(errors) / len(errors)


def test_asymmetric_cells_learn_better_than_by_plain_updates():
    zeros = torch.zeros(3, 8)
    plain = [
        regression_error(Crossbar.from_weights(zeros, device=SOFT, pair="reference"), rate)
        for rate in (0.005, 0.01, 0.02)  # the best and its neighbours
    ]
    array = TikiTaka.from_weights(zeros, device=SOFT, every=2, transfer_rate=0.03)
    assert regression_error(array, 0.03) < 0.5 * min(plain)


def test_a_buffered_transfer_is_written_when_a_pulse_is_due():
    """On exact cells, slow array and buffer together hold what plain transfers would add up to."""
    coarse = dataclasses.replace(get_device("ideal"), levels_up=16, levels_down=16)
    weights, update = torch.zeros(4, 3, dtype=torch.float64), a_change()
    array = BufferedTikiTaka.from_weights(weights, device=coarse, transfer_rate=0.04)
    array.fast = Crossbar.from_weights(weights, device=FINE, pair="reference")
    fast, total = torch.zeros_like(weights), torch.zeros_like(weights)
    for step in range(300):
        array.apply(update, learning_rate=0.02)
        fast -= 0.02 * update.dense()
        total[:, step % 3] += 0.04 * fast[:, step % 3]
        torch.testing.assert_close(
            array.slow.weights + array.slow.waiting, total, atol=1e-5, rtol=0
        )
        pulse = 2.0 / 16
        assert float(array.slow.waiting.abs().max()) < pulse
    assert float(array.slow.weights.abs().max()) >= pulse


def test_a_buffer_helps_noisy_coarse_cells():
    """Reads of a noisy fast array average in the buffer, as Gokmen (2021) says."""
    noisy = dataclasses.replace(SOFT, levels_up=60, levels_down=60, read_noise=0.1)
    zeros = torch.zeros(3, 8)
    knobs = {"device": noisy, "every": 2}
    plain = [
        regression_error(TikiTaka.from_weights(zeros, transfer_rate=rate, **knobs), 0.03)
        for rate in (0.01, 0.03, 0.1)
    ]
    array = BufferedTikiTaka.from_weights(zeros, transfer_rate=0.03, **knobs)
    assert regression_error(array, 0.03) < 0.7 * min(plain)


def test_a_buffered_state_comes_back():
    def made():
        return BufferedTikiTaka.from_weights(
            normals(4, 3, scale=0.1), device=SILVER, memory_rank=2, seed=2
        )

    array = made()
    for step in range(6):
        array.apply(a_change(step), learning_rate=3.0)
    other = made()
    other.load_state_dict(array.state_dict())
    for each in (array, other):
        each.apply(a_change(9), learning_rate=3.0)
    assert torch.equal(array.weights, other.weights)
    assert torch.equal(array.slow.waiting, other.slow.waiting)
    assert array.slow.words == 2 * (4 + 3 + 1)


def test_a_buffer_needs_pulses():
    device = dataclasses.replace(get_device("ideal"), levels_up=math.inf, levels_down=math.inf)
    array = BufferedTikiTaka.from_weights(normals(4, 3, scale=0.1), device=device)
    before = array.fast.weights
    with pytest.raises(ValueError, match="levels"):
        array.apply(a_change(), learning_rate=0.1)
    assert torch.equal(array.fast.weights, before)
