"""The array: pair convention, reads, pulses, noise, ranges, state."""

import dataclasses
import math

import pytest
import torch

from toolkit.crossbar import Crossbar, DigitalArray, TiledCrossbar, device_names, get_device
from toolkit.lowrank import LowRank

IDEAL = get_device("ideal")
SILVER = get_device("Ag:a-Si")


def make_weights(rows=20, columns=30, *, scale=0.2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator, dtype=dtype)


def make_update(rows=20, columns=30, rank=3, *, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=dtype)
    right = torch.randn(columns, rank, generator=generator, dtype=dtype)
    return LowRank(left, torch.arange(rank, 0, -1, dtype=dtype), right)


def constant_update(rows, columns, value, dtype=torch.float64):
    """An update whose every entry is ``value``."""
    left, right = torch.ones(rows, 1, dtype=dtype), torch.ones(columns, 1, dtype=dtype)
    return LowRank(left, torch.tensor([value], dtype=dtype), right)


def pulse_update(array, pulses, *, learning_rate=1.0):
    """An update asking each cell of a pair for ``pulses`` (descending: weights go up)."""
    change = pulses / array.device.levels_up * 2.0 * array.w_max
    rows, columns = array.shape
    return constant_update(rows, columns, -change / learning_rate)


def test_pair_convention():
    weights = make_weights()
    array = Crossbar.from_weights(weights, device=SILVER, w_max=2.0, seed=0)
    plus, minus = array.conductance
    middle, span = (SILVER.g_max + SILVER.g_min) / 2, SILVER.g_max - SILVER.g_min
    assert torch.allclose(plus, middle + weights / 2.0 * span / 2, rtol=1e-12)
    assert torch.allclose(minus, middle - weights / 2.0 * span / 2, rtol=1e-12)
    assert torch.allclose(array.weights, weights, atol=1e-15)


def test_weights_beyond_the_range_are_clipped():
    array = Crossbar.from_weights(torch.tensor([[3.0, -3.0]]), device=SILVER, w_max=1.0)
    assert array.weights.tolist() == [[1.0, -1.0]]


def test_reads_are_matrix_products():
    weights, batch = make_weights(), make_weights(7, 30, seed=2)
    array = Crossbar.from_weights(weights, device=SILVER)
    assert torch.allclose(array.read(batch), batch @ weights.T, atol=1e-13)
    errors = make_weights(7, 20, seed=3)
    assert torch.allclose(array.read_transposed(errors), errors @ weights, atol=1e-13)


def test_read_noise_is_the_sum_of_cell_noises():
    noisy = dataclasses.replace(SILVER, read_noise=0.05)
    array = Crossbar.from_weights(make_weights(4, 5), device=noisy, seed=3)
    voltages = make_weights(1, 5, scale=1.0, seed=4)
    reads = array.read(voltages.expand(20000, 5))
    span = noisy.g_max - noisy.g_min
    power = (array.conductance / span).square().sum(0)
    expected = 0.05 * (voltages.square() @ power.T).sqrt()
    assert torch.allclose(reads.std(0), expected[0], rtol=0.03)
    error = reads.mean(0) - voltages[0] @ array.weights.T
    assert bool((error.abs() < 5 * expected[0] / math.sqrt(20000)).all())


def test_apply_descends():
    device = dataclasses.replace(IDEAL, levels_up=10**6, levels_down=10**6)
    weights, update = make_weights(), make_update()
    array = Crossbar.from_weights(weights, device=device)
    array.apply(update, learning_rate=0.01)
    assert torch.allclose(array.weights, weights - 0.01 * update.dense(), atol=2e-5)


def test_fine_ideal_device_reproduces_digital_training():
    device = dataclasses.replace(IDEAL, levels_up=10**6, levels_down=10**6)
    weights = make_weights()
    array = Crossbar.from_weights(weights, device=device, w_max=4.0)
    digital = DigitalArray.from_weights(weights)
    for step in range(100):
        update = make_update(seed=step)
        array.apply(update, learning_rate=1e-3)
        digital.apply(update, learning_rate=1e-3)
    assert float((array.weights - digital.weights).abs().max()) < 1e-3


def test_rank_sequential_equals_rank_sum_on_an_ideal_device():
    # whole numbers of pulses: rounding has nothing to decide, so the two orders are equal
    weights = make_weights(scale=0.01)
    left = torch.randint(-2, 3, (20, 3), generator=torch.Generator().manual_seed(0)).double()
    right = torch.randint(-2, 3, (30, 3), generator=torch.Generator().manual_seed(1)).double()
    unit = 2.0 / IDEAL.levels_up
    update = LowRank(left, torch.full((3,), unit, dtype=torch.float64), right)
    arrays = [Crossbar.from_weights(weights, device=IDEAL, seed=s) for s in (1, 2)]
    arrays[0].apply(update, learning_rate=1.0, scheme="rank-sequential")
    arrays[1].apply(update, learning_rate=1.0, scheme="rank-sum")
    assert torch.allclose(arrays[0].weights, arrays[1].weights, atol=1e-13)
    assert torch.allclose(arrays[0].weights, weights - update.dense(), atol=1e-12)
    assert bool((arrays[0].pulse_count >= arrays[1].pulse_count).all())
    assert int(arrays[0].pulse_count.sum()) > int(arrays[1].pulse_count.sum())


def test_rank_sequential_differs_from_rank_sum_on_a_nonlinear_device():
    bent = dataclasses.replace(SILVER, cycle_to_cycle=0.0)
    arrays = [Crossbar.from_weights(make_weights(), device=bent, seed=1) for _ in range(2)]
    for array, scheme in zip(arrays, ("rank-sequential", "rank-sum"), strict=True):
        array.apply(make_update(), learning_rate=0.1, scheme=scheme)
    assert float((arrays[0].weights - arrays[1].weights).abs().mean()) > 0.01


@pytest.mark.parametrize("learning_rate", [1.0, 0.1, 1e-3])
def test_one_pulse_is_one_pulse_at_every_learning_rate(learning_rate):
    bent = dataclasses.replace(SILVER, cycle_to_cycle=0.0, levels_down=97)
    array = Crossbar.from_weights(torch.zeros(3, 4, dtype=torch.float64), device=bent)
    array.apply(pulse_update(array, 1.0, learning_rate=learning_rate), learning_rate=learning_rate)
    half = torch.tensor([0.5], dtype=torch.float64)
    up, down = bent.step(half, torch.tensor(1)), bent.step(half, torch.tensor(-1))
    assert torch.equal(array.pulse_count, torch.ones(2, 3, 4, dtype=torch.int64))
    assert torch.allclose(array.weights, (up - down).expand(3, 4), atol=1e-12)


def test_directions_use_their_own_levels():
    device = dataclasses.replace(IDEAL, levels_up=100, levels_down=400)
    array = Crossbar.from_weights(torch.zeros(2, 2, dtype=torch.float64), device=device)
    array.apply(constant_update(2, 2, -0.1), learning_rate=1.0)
    assert array.pulse_count.flatten(1).tolist() == [[5] * 4, [20] * 4]
    assert torch.allclose(array.weights, torch.full((2, 2), 0.1, dtype=torch.float64))
    array.apply(constant_update(2, 2, 0.1), learning_rate=1.0)
    assert array.pulse_count.flatten(1).tolist() == [[25] * 4, [25] * 4]
    assert array.pulses == 200
    assert float(array.weights.abs().max()) < 1e-12


@pytest.mark.parametrize("pulses", [0.02, 0.3, 1.7, -0.4])
def test_stochastic_rounding_is_unbiased(pulses):
    array = Crossbar.from_weights(torch.zeros(200, 200, dtype=torch.float64), device=IDEAL, seed=5)
    array.apply(pulse_update(array, pulses), learning_rate=1.0)
    count = array.pulse_count.double()
    fraction = abs(pulses) % 1.0
    error = math.sqrt(fraction * (1 - fraction) / count[0].numel())
    for polarity in count:
        assert abs(float(polarity.mean()) - abs(pulses)) < 4.5 * error
        assert set(polarity.unique().tolist()) == {math.floor(abs(pulses)), math.ceil(abs(pulses))}
    both = torch.corrcoef(count.flatten(1))[0, 1]
    assert abs(float(both)) < 5 / 200  # the two cells of a pair are rounded independently


@pytest.mark.parametrize("pulses", [1, 4, 25])
def test_cycle_to_cycle_noise_grows_with_the_root_of_the_pulses(pulses):
    noisy = dataclasses.replace(IDEAL, cycle_to_cycle=0.01)
    array = Crossbar.from_weights(torch.zeros(200, 200, dtype=torch.float64), device=noisy, seed=7)
    array.apply(pulse_update(array, float(pulses)), learning_rate=1.0)
    plus = array.conductance[0]
    spread = plus.std() / (noisy.g_max - noisy.g_min)
    assert float(spread) == pytest.approx(0.01 * math.sqrt(pulses), rel=0.02)


def test_cells_without_pulses_stay():
    array = Crossbar.from_weights(make_weights(), device=SILVER, seed=0)
    before = array.conductance
    array.apply(make_update(), learning_rate=1e-3)
    moved = array.conductance != before
    assert bool((array.pulse_count[~moved] <= 0).all())
    assert bool(moved.any()) and not bool(moved.all())
    assert bool((array.pulse_count[moved] > 0).all())


def test_range_is_never_left():
    array = Crossbar.from_weights(make_weights(), device=SILVER, seed=0)
    for step in range(20):
        array.apply(make_update(seed=step), learning_rate=0.5)
    assert float(array.conductance.min()) >= SILVER.g_min * (1 - 1e-12)
    assert float(array.conductance.max()) <= SILVER.g_max * (1 + 1e-12)
    assert float(array.weights.abs().max()) <= 1.0


def test_device_to_device_spreads_the_labels():
    spread = dataclasses.replace(SILVER, cycle_to_cycle=0.0, device_to_device=0.5)
    array = Crossbar.from_weights(torch.zeros(100, 100, dtype=torch.float64), device=spread, seed=3)
    array.apply(pulse_update(array, 5.0), learning_rate=1.0)
    step = (array.conductance[0] - (SILVER.g_min + SILVER.g_max) / 2) / (
        SILVER.g_max - SILVER.g_min
    )
    low, high = (
        dataclasses.replace(spread, nonlinearity_up=label).step(
            torch.tensor(0.5, dtype=torch.float64), torch.tensor(5)
        )
        - 0.5
        for label in (1.9, 2.9)
    )
    share = ((step > low) & (step < high)).double().mean()
    assert float(share) == pytest.approx(0.6827, abs=0.02)  # within one standard deviation


@pytest.mark.parametrize("name", device_names())
def test_same_seed_same_bits(name):
    noisy = dataclasses.replace(get_device(name), device_to_device=0.2, read_noise=0.01)
    runs = []
    for seed in (4, 4, 5):
        array = Crossbar.from_weights(make_weights(), device=noisy, seed=seed)
        for step in range(3):
            array.apply(make_update(seed=step), learning_rate=0.05)
        runs.append((array.conductance, array.read(make_weights(3, 30))))
        assert bool(torch.isfinite(runs[-1][0]).all())
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


def test_generator_may_be_given():
    arrays = [
        Crossbar.from_weights(make_weights(), device=SILVER, seed=torch.Generator().manual_seed(9))
        for _ in range(2)
    ]
    for array in arrays:
        array.apply(make_update(), learning_rate=0.05)
    assert torch.equal(arrays[0].weights, arrays[1].weights)


def test_state_dict_continues_with_the_same_bits():
    noisy = dataclasses.replace(SILVER, device_to_device=0.2)
    array = Crossbar.from_weights(make_weights(), device=noisy, seed=1)
    array.apply(make_update(), learning_rate=0.05)
    other = Crossbar.from_weights(make_weights(seed=8), device=noisy, seed=2)
    other.load_state_dict(array.state_dict())
    for each in (array, other):
        each.apply(make_update(seed=2), learning_rate=0.05)
    assert torch.equal(array.conductance, other.conductance)
    assert torch.equal(array.pulse_count, other.pulse_count)


def test_swap_within_the_range_keeps_conductances_and_cells():
    noisy = dataclasses.replace(SILVER, device_to_device=0.3, cycle_to_cycle=0.0)
    array = Crossbar.from_weights(make_weights(), device=noisy, seed=1)
    twin = Crossbar.from_weights(make_weights(), device=noisy, seed=1)
    array.apply(make_update(), learning_rate=0.05)
    twin.apply(make_update(), learning_rate=0.05)
    before, count = array.conductance, array.pulse_count
    array.device = dataclasses.replace(noisy, device_to_device=0.0)
    assert torch.equal(array.conductance, before)
    assert torch.equal(array.pulse_count, count)
    array.device = noisy  # the same cells as before, not a new draw
    for each in (array, twin):
        each.apply(make_update(seed=2), learning_rate=0.05)
    assert torch.equal(array.conductance, twin.conductance)


def test_swap_to_another_range_keeps_weights_on_new_cells():
    array = Crossbar.from_weights(make_weights(), device=SILVER, seed=1)
    array.apply(make_update(), learning_rate=0.05)
    weights = array.weights
    array.device = get_device("FeFET")
    assert torch.allclose(array.weights, weights, atol=1e-14)
    assert int(array.pulse_count.sum()) == 0
    assert float(array.conductance.max()) <= get_device("FeFET").g_max
    assert float(array.conductance.sum(0).std()) < 1e-15 * 1e-3  # symmetric about mid-range


def test_float32_follows_the_weights():
    array = Crossbar.from_weights(make_weights(dtype=torch.float32), device=SILVER)
    array.apply(make_update(), learning_rate=0.05)
    assert array.weights.dtype == array.conductance.dtype == torch.float32


@pytest.mark.parametrize("kind", [Crossbar, DigitalArray])
def test_bad_input_leaves_the_array_untouched(kind):
    knobs = {"device": SILVER} if kind is Crossbar else {}
    array = kind.from_weights(make_weights(), **knobs)
    before = array.weights
    broken = make_update()
    broken.left[0, 0] = math.nan
    with pytest.raises(ValueError, match="left"):
        array.apply(broken, learning_rate=0.1)
    with pytest.raises(ValueError, match="shape"):
        array.apply(make_update(rows=21), learning_rate=0.1)
    with pytest.raises(ValueError, match="learning_rate"):
        array.apply(make_update(), learning_rate=math.inf)
    with pytest.raises(ValueError, match="scheme"):
        array.apply(make_update(), learning_rate=0.1, scheme="rank-product")
    with pytest.raises(ValueError, match="activations"):
        array.read(torch.zeros(2, 31, dtype=torch.float64))
    with pytest.raises(ValueError, match="errors"):
        array.read_transposed(torch.full((2, 20), math.nan, dtype=torch.float64))
    assert torch.equal(array.weights, before)


def test_bad_construction_is_refused():
    with pytest.raises(ValueError, match="w_max"):
        Crossbar.from_weights(make_weights(), device=SILVER, w_max=0.0)
    with pytest.raises(ValueError, match="weights"):
        Crossbar.from_weights(torch.full((2, 2), math.nan), device=SILVER)
    with pytest.raises(TypeError, match="device"):
        Crossbar.from_weights(make_weights(), device="Ag:a-Si")
    with pytest.raises(TypeError, match="weights"):
        DigitalArray.from_weights([[1.0]])


def test_digital_array_is_exact():
    weights, update = make_weights(), make_update()
    array = DigitalArray.from_weights(weights)
    for scheme in ("rank-sequential", "rank-sum"):
        array.apply(update, learning_rate=0.1, scheme=scheme)
    assert torch.allclose(array.weights, weights - 0.2 * update.dense(), atol=1e-13)
    batch = make_weights(7, 30, seed=2)
    assert torch.equal(array.read(batch), batch @ array.weights.T)
    assert array.conductance is None and array.pulse_count is None and array.device is None
    other = DigitalArray.from_weights(make_weights(seed=4))
    other.load_state_dict(array.state_dict())
    assert torch.equal(other.weights, array.weights)


def test_pulses_of_tiles_add_up():
    array = TiledCrossbar.from_weights(torch.zeros(5, 4), device=IDEAL, tile=(2, 3), seed=0)
    array.apply(constant_update(5, 4, 0.3, torch.float32), learning_rate=1.0)
    assert array.pulses == int(array.pulse_count.sum()) > 0
