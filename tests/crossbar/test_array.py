"""Arrays: pair convention, reads, pulses, noise, ranges, state; digital weights behind the same."""

import dataclasses
import math

import pytest
import torch

from tests.crossbar.arrays import (
    normals,
    outer_update,
    pulses_each,
    same_change,
    some_update,
    zeros,
)
from toolkit.crossbar import (
    Crossbar,
    DigitalArray,
    Exponential,
    TikiTaka,
    TiledCrossbar,
    WholePulses,
    device_names,
    get_device,
)
from toolkit.lowrank import LowRank

IDEAL, SILVER = get_device("ideal"), get_device("Ag:a-Si")
FINE = dataclasses.replace(IDEAL, levels_up=10**6, levels_down=10**6)
STEADY = dataclasses.replace(SILVER, cycle_to_cycle=0.0)


def test_pair_convention():
    weights = normals(20, 30)
    array = Crossbar.from_weights(weights, device=SILVER, w_max=2.0, seed=0)
    plus, minus = array.conductance
    middle, span = (SILVER.g_max + SILVER.g_min) / 2, SILVER.g_max - SILVER.g_min
    assert torch.allclose(plus, middle + weights / 2.0 * span / 2, rtol=1e-12)
    assert torch.allclose(minus, middle - weights / 2.0 * span / 2, rtol=1e-12)
    assert torch.allclose(array.weights, weights, atol=1e-15)


def test_weights_beyond_the_range_are_clipped():
    array = Crossbar.from_weights(torch.tensor([[3.0, -3.0]]), device=SILVER, w_max=1.0)
    assert array.weights.tolist() == [[1.0, -1.0]] and array.weights.dtype == torch.float32


@pytest.mark.parametrize("kind", [Crossbar, DigitalArray])
def test_reads_are_matrix_products(kind):
    weights, batch, errors = normals(20, 30), normals(7, 30, seed=2), normals(7, 20, seed=3)
    array = kind.from_weights(weights, **({"device": SILVER} if kind is Crossbar else {}))
    assert torch.allclose(array.read(batch), batch @ weights.T, atol=1e-13)
    assert torch.allclose(array.read_transposed(errors), errors @ weights, atol=1e-13)


def test_read_noise_is_the_sum_of_cell_noises():
    noisy = dataclasses.replace(SILVER, read_noise=0.05)
    array = Crossbar.from_weights(normals(4, 5), device=noisy, seed=3)
    voltages = normals(1, 5, scale=1.0, seed=4)
    reads = array.read(voltages.expand(20000, 5))
    power = (array.conductance / (noisy.g_max - noisy.g_min)).square().sum(0)
    expected = 0.05 * (voltages.square() @ power.T).sqrt()
    assert torch.allclose(reads.std(0), expected[0], rtol=0.03)
    error = reads.mean(0) - voltages[0] @ array.weights.T
    assert bool((error.abs() < 5 * expected[0] / math.sqrt(20000)).all())


def test_fine_ideal_device_reproduces_digital_training():
    array = Crossbar.from_weights(normals(20, 30), device=FINE, w_max=4.0)
    digital, exact = DigitalArray.from_weights(normals(20, 30)), normals(20, 30)
    for step in range(100):
        scheme = ("rank-sequential", "rank-sum")[step % 2]
        update = some_update(seed=step)
        for each in (array, digital):
            each.apply(update, learning_rate=1e-3, scheme=scheme)
        exact -= 1e-3 * update.dense()
    assert torch.allclose(digital.weights, exact, atol=1e-12)
    assert float((array.weights - exact).abs().max()) < 1e-3
    assert digital.conductance is digital.pulse_count is digital.device is None


def test_rank_sequential_equals_rank_sum_on_an_ideal_device():
    # whole numbers of pulses: rounding has nothing to decide, so the two orders are equal
    weights, generator = normals(20, 30, scale=0.01), torch.Generator().manual_seed(0)
    left, right = (
        torch.randint(-2, 3, (size, 3), generator=generator).double() for size in (20, 30)
    )
    update = LowRank(left, 2.0 / IDEAL.levels_up * torch.ones(3).double(), right)
    one, two = (Crossbar.from_weights(weights, device=IDEAL, seed=seed) for seed in (1, 2))
    one.apply(update, learning_rate=1.0, scheme="rank-sequential")
    two.apply(update, learning_rate=1.0, scheme="rank-sum")
    for array in (one, two):
        assert torch.allclose(array.weights, weights - update.dense(), atol=1e-12)
    assert bool((one.pulse_count >= two.pulse_count).all()) and one.pulses > two.pulses


def test_rank_sequential_differs_from_rank_sum_on_a_nonlinear_device():
    one, two = (Crossbar.from_weights(normals(20, 30), device=STEADY, seed=1) for _ in range(2))
    one.apply(some_update(), learning_rate=1.0, scheme="rank-sequential")
    two.apply(some_update(), learning_rate=1.0, scheme="rank-sum")
    assert float((one.weights - two.weights).abs().mean()) > 0.01


@pytest.mark.parametrize("learning_rate", [1.0, 0.1, 1e-3])
def test_one_pulse_is_one_pulse_at_every_learning_rate(learning_rate):
    bent = dataclasses.replace(STEADY, levels_down=97)
    array = Crossbar.from_weights(zeros(3, 4), device=bent)
    update = same_change(3, 4, 2.0 / bent.levels_up / learning_rate)
    array.apply(update, learning_rate=learning_rate)
    half = torch.tensor([0.5], dtype=torch.float64)
    up, down = bent.step(half, torch.tensor(1)), bent.step(half, torch.tensor(-1))
    assert torch.equal(array.pulse_count, torch.ones(2, 3, 4, dtype=torch.int64))
    assert torch.allclose(array.weights, (up - down).expand(3, 4), atol=1e-12)


def test_directions_use_their_own_levels():
    device = dataclasses.replace(IDEAL, levels_up=100, levels_down=400)
    array = Crossbar.from_weights(zeros(2, 2), device=device)
    array.apply(same_change(2, 2, 0.1), learning_rate=1.0)
    assert array.pulse_count.flatten(1).tolist() == [[5] * 4, [20] * 4]
    assert torch.allclose(array.weights, torch.full((2, 2), 0.1, dtype=torch.float64))
    array.apply(same_change(2, 2, -0.1), learning_rate=1.0)
    assert array.pulse_count.flatten(1).tolist() == [[25] * 4, [25] * 4]
    assert array.pulses == 200 and float(array.weights.abs().max()) < 1e-12


@pytest.mark.parametrize("pulses", [0.02, 0.3, 1.7, -0.4])
def test_stochastic_rounding_is_unbiased(pulses):
    array = Crossbar.from_weights(zeros(200, 200), device=IDEAL, seed=5)
    array.apply(pulses_each(array, pulses), learning_rate=1.0)
    count = array.pulse_count.double()
    fraction = abs(pulses) % 1.0
    error = math.sqrt(fraction * (1 - fraction) / count[0].numel())
    for polarity in count:
        assert abs(float(polarity.mean()) - abs(pulses)) < 4.5 * error
        assert set(polarity.unique().tolist()) == {math.floor(abs(pulses)), math.ceil(abs(pulses))}
    both = torch.corrcoef(count.flatten(1))[0, 1]
    assert abs(float(both)) < 5 / 200  # the two cells of a pair are rounded independently


def test_deterministic_rounding_loses_small_updates():
    array = Crossbar.from_weights(zeros(2, 3), device=IDEAL, coding=WholePulses("deterministic"))
    unit = 2.0 / IDEAL.levels_up  # weight change of one pulse to each cell
    array.apply(outer_update([0.49, -0.49], [unit] * 3), learning_rate=1.0)
    assert array.pulses == 0
    array.apply(outer_update([0.51, -1.7], [unit] * 3), learning_rate=1.0)
    assert array.pulse_count.tolist() == [[[1] * 3, [2] * 3]] * 2
    assert torch.allclose(array.weights[:, 0] / unit, torch.tensor([1.0, -2.0]).double())


@pytest.mark.parametrize("pulses", [1, 4, 25])
def test_cycle_to_cycle_noise_grows_with_the_root_of_the_pulses(pulses):
    noisy = dataclasses.replace(IDEAL, cycle_to_cycle=0.01)
    array = Crossbar.from_weights(zeros(200, 200), device=noisy, seed=7)
    array.apply(pulses_each(array, float(pulses)), learning_rate=1.0)
    spread = array.conductance[0].std() / (noisy.g_max - noisy.g_min)
    assert float(spread) == pytest.approx(0.01 * math.sqrt(pulses), rel=0.02)


def test_device_to_device_spreads_the_labels():
    spread = dataclasses.replace(STEADY, device_to_device=0.5)
    array = Crossbar.from_weights(zeros(100, 100), device=spread, seed=3)
    array.apply(pulses_each(array, 5.0), learning_rate=1.0)
    span = SILVER.g_max - SILVER.g_min
    states = (array.conductance[0] - SILVER.g_min) / span
    half, five = torch.tensor(0.5, dtype=torch.float64), torch.tensor(5)
    low, high = (
        dataclasses.replace(spread, nonlinearity_up=label).step(half, five) for label in (1.9, 2.9)
    )
    share = ((states > low) & (states < high)).double().mean()
    assert float(share) == pytest.approx(0.6827, abs=0.02)  # within one standard deviation


@pytest.mark.parametrize("name", device_names())
def test_same_seed_same_bits(name):
    noisy = dataclasses.replace(get_device(name), read_noise=0.01)
    if isinstance(noisy.response, Exponential):
        noisy = dataclasses.replace(noisy, device_to_device=0.2)
    runs = []
    for seed in (4, torch.Generator().manual_seed(4), 5):
        array = Crossbar.from_weights(normals(20, 30), device=noisy, seed=seed)
        for step in range(3):
            array.apply(some_update(seed=step), learning_rate=1.0)
        runs.append((array.conductance, array.read(normals(3, 30))))
        assert bool(torch.isfinite(runs[-1][0]).all())
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


@pytest.mark.parametrize("kind", [Crossbar, TiledCrossbar, TikiTaka, DigitalArray])
def test_state_dict_continues_with_the_same_bits(kind):
    noisy = dataclasses.replace(SILVER, device_to_device=0.2)
    knobs = {Crossbar: {}, TiledCrossbar: {"tile": (8, 9)}, TikiTaka: {"every": 2}}.get(kind)
    seeds = (1, 2) if knobs is not None else (None, None)
    arrays = [
        kind.from_weights(
            normals(20, 30, seed=seed or 0),
            **({} if seed is None else {**knobs, "device": noisy, "seed": seed}),
        )
        for seed in seeds
    ]
    for step in range(3):
        arrays[0].apply(some_update(seed=step), learning_rate=1.0)
    arrays[1].load_state_dict(arrays[0].state_dict())
    for array in arrays:
        for step in range(3, 9):
            array.apply(some_update(seed=step), learning_rate=1.0)
    assert torch.equal(arrays[0].weights, arrays[1].weights)
    if kind is not DigitalArray:
        assert torch.equal(arrays[0].conductance, arrays[1].conductance)
        assert torch.equal(arrays[0].pulse_count, arrays[1].pulse_count)
        assert arrays[0].cost() == arrays[1].cost()


def test_swap_within_the_range_keeps_conductances_and_cells():
    noisy = dataclasses.replace(STEADY, device_to_device=0.3)
    array, twin = (Crossbar.from_weights(normals(20, 30), device=noisy, seed=1) for _ in range(2))
    for each in (array, twin):
        each.apply(some_update(), learning_rate=1.0)
    before, count = array.conductance, array.pulse_count
    array.device = dataclasses.replace(noisy, device_to_device=0.0)
    assert torch.equal(array.conductance, before) and torch.equal(array.pulse_count, count)
    array.device = noisy  # the same cells as before, not a new draw
    for each in (array, twin):
        each.apply(some_update(seed=2), learning_rate=1.0)
    assert torch.equal(array.conductance, twin.conductance)


def test_swap_to_another_range_keeps_weights_on_new_cells():
    array = Crossbar.from_weights(normals(20, 30), device=SILVER, seed=1)
    array.apply(some_update(), learning_rate=1.0)
    weights = array.weights
    array.device = get_device("FeFET")
    assert torch.allclose(array.weights, weights, atol=1e-14) and array.pulses == 0
    assert float(array.conductance.max()) <= get_device("FeFET").g_max
    assert float(array.conductance.sum(0).std()) < 1e-15 * 1e-3  # symmetric about mid-range


@pytest.mark.parametrize("kind", [Crossbar, TiledCrossbar, TikiTaka, DigitalArray])
def test_bad_input_leaves_the_array_untouched(kind):
    knobs = {} if kind is DigitalArray else {"device": SILVER}
    knobs |= {"tile": (8, 9)} if kind is TiledCrossbar else {}
    array = kind.from_weights(normals(20, 30), **knobs)
    before, broken = array.weights, some_update()
    broken.left[0, 0] = math.nan
    for update, wrong, said in (
        (broken, {}, "left"),
        (some_update(rows=21), {}, "shape"),
        (some_update(), {"learning_rate": math.inf}, "learning_rate"),
        (some_update(), {"scheme": "rank-product"}, "scheme"),
    ):
        with pytest.raises(ValueError, match=said):
            array.apply(update, **{"learning_rate": 0.1, **wrong})
    with pytest.raises(ValueError, match="activations"):
        array.read(zeros(2, 31))
    with pytest.raises(ValueError, match="errors"):
        array.read_transposed(torch.full((2, 20), math.nan, dtype=torch.float64))
    assert torch.equal(array.weights, before) and not array.pulses


def test_bad_construction_is_refused():
    with pytest.raises(ValueError, match="w_max"):
        Crossbar.from_weights(normals(20, 30), device=SILVER, w_max=0.0)
    with pytest.raises(ValueError, match="weights"):
        Crossbar.from_weights(torch.full((2, 2), math.nan), device=SILVER)
    with pytest.raises(TypeError, match="device"):
        Crossbar.from_weights(normals(20, 30), device="Ag:a-Si")
    with pytest.raises(TypeError, match="weights"):
        DigitalArray.from_weights([[1.0]])


def test_pulses_of_tiles_add_up():
    array = TiledCrossbar.from_weights(torch.zeros(5, 4), device=IDEAL, tile=(2, 3), seed=0)
    array.apply(same_change(5, 4, -0.3), learning_rate=1.0)
    assert array.pulses == int(array.pulse_count.sum()) > 0
