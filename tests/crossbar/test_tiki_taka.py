"""Tiki-Taka: what is transferred when, the interface of a crossbar, and what it is for."""

import dataclasses

import pytest
import torch

from toolkit.crossbar import Crossbar, Device, SoftBounds, TikiTaka, get_device
from toolkit.lowrank import LowRank

FINE = dataclasses.replace(get_device("ideal"), levels_up=10**7, levels_down=10**7)
SOFT = Device(
    name="asymmetric soft bounds",
    g_min=1e-6,
    g_max=1e-5,
    levels_up=400,
    levels_down=400,
    response=SoftBounds(asymmetry_spread=0.1, step_spread=0.1),
)
SILVER = get_device("Ag:a-Si")


def normal(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def some_update(rows, columns, seed=1):
    return LowRank(normal(rows, 2, seed), torch.ones(2).double(), normal(columns, 2, seed + 1))


def test_columns_of_the_fast_array_go_to_the_slow_one_in_turn():
    weights, update = normal(4, 3), some_update(4, 3)
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
    assert float((slow - weights).abs().min()) > 1e-4  # every column was transferred


def test_reads_are_of_both_arrays():
    array = TikiTaka.from_weights(normal(4, 3), device=FINE, gamma=0.5)
    array.apply(some_update(4, 3), learning_rate=1.0)
    expected = array.slow.weights + 0.5 * array.fast.weights
    assert torch.allclose(array.weights, expected)
    assert float(array.fast.weights.abs().max()) > 1e-3
    signal, errors = normal(5, 3, 4), normal(5, 4, 5)
    assert torch.allclose(array.read(signal), signal @ expected.T, atol=1e-12)
    assert torch.allclose(array.read_transposed(errors), errors @ expected, atol=1e-12)
    array.gamma = 0.0
    assert torch.allclose(array.read(signal), signal @ array.slow.weights.T, atol=1e-12)


def test_it_is_a_crossbar_to_the_user():
    array = TikiTaka.from_weights(normal(4, 3), device=SILVER, seed=2)
    assert array.shape == (4, 3) and array.device is SILVER
    for step in range(6):
        array.apply(some_update(4, 3, step), learning_rate=3.0, scheme="rank-sum")
    pulses = array.fast.pulse_count + array.slow.pulse_count
    assert torch.equal(array.pulse_count, pulses) and array.pulse_count.shape == (2, 4, 3)
    cost = array.cost()
    assert cost.pulses_up + cost.pulses_down == int(pulses.sum()) > 0
    assert cost.reads == 6  # one for every transfer
    assert array.conductance.shape == (2, 4, 3)
    array.wait(1.0)
    array.device = get_device("EcRam")
    assert array.fast.device is array.slow.device is get_device("EcRam")


def test_state_dict_continues_with_the_same_bits():
    arrays = [TikiTaka.from_weights(normal(4, 3), device=SILVER, seed=s, every=2) for s in (1, 2)]
    for step in range(3):
        arrays[0].apply(some_update(4, 3, step), learning_rate=1.0)
    arrays[1].load_state_dict(arrays[0].state_dict())
    for array in arrays:
        for step in range(3, 9):
            array.apply(some_update(4, 3, step), learning_rate=1.0)
    assert torch.equal(arrays[0].weights, arrays[1].weights)
    assert torch.equal(arrays[0].fast.weights, arrays[1].fast.weights)
    assert torch.equal(arrays[0].pulse_count, arrays[1].pulse_count)


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


def test_a_bad_update_leaves_both_arrays_untouched():
    array = TikiTaka.from_weights(normal(4, 3), device=SILVER)
    before = array.weights
    with pytest.raises(ValueError, match="shape"):
        array.apply(some_update(5, 3), learning_rate=1.0)
    assert torch.equal(array.weights, before) and int(array.pulse_count.sum()) == 0
