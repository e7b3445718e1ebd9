"""Faults, endurance, retention, write noise, costs, tiles."""

import dataclasses
import math

import pytest
import torch

from tests.crossbar.arrays import normals, some_update, zeros
from toolkit.crossbar import (
    Crossbar,
    PCMDrift,
    PowerLawDrift,
    Relaxation,
    TiledCrossbar,
    get_device,
)
from toolkit.crossbar.devices.steps import LinearStep
from toolkit.lowrank import LowRank

IDEAL = get_device("ideal")
SILVER = get_device("Ag:a-Si")


def random_weights(rows=20, columns=30, *, scale=0.3, seed=0):
    return normals(rows, columns, scale=scale, seed=seed)


def all_pulsed(array, count, columns=None):
    """Pulses for the plus cells of an array, of its first columns."""
    pulses = torch.zeros(2, *array.shape)
    pulses[0, :, :columns] = count
    return pulses


@pytest.mark.parametrize("write_noise", [0.0, 0.05])
def test_stuck_cells_never_move(write_noise):
    faulty = dataclasses.replace(
        SILVER, stuck_low=0.1, stuck_high=0.2, write_noise=write_noise, device_to_device=0.2
    )
    array = Crossbar.from_weights(random_weights(100, 100), device=faulty, seed=3)
    stuck, before = array.stuck, array.conductance
    low, high = torch.isclose(before, torch.tensor(SILVER.g_min).double()), stuck & (before > 30e-9)
    assert float((stuck & low).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(high.double().mean()) == pytest.approx(0.2, abs=0.01)
    for step in range(5):
        array.apply(some_update(100, 100, seed=step), learning_rate=0.1)
    array.wait(1e3)
    array.refresh(0.5)
    assert torch.equal(array.conductance[stuck], before[stuck])
    assert bool((array.conductance[~stuck] != before[~stuck]).any())
    more = dataclasses.replace(faulty, stuck_low=0.2)
    array.device = more
    assert bool(array.stuck[stuck].all())  # raising the fraction keeps those that were stuck


def test_stuck_conductance_may_lie_outside_the_range():
    faulty = dataclasses.replace(get_device("Daffodil"), stuck_low=0.3, stuck_high=0.3)
    array = Crossbar.from_weights(random_weights(30, 30), device=faulty, seed=3)
    values = array.conductance[array.stuck].unique() * 1e6
    assert values.tolist() == pytest.approx([10.0, 500.0])


def test_cells_wear_out_after_their_pulses():
    mortal = dataclasses.replace(
        SILVER, endurance=50.0, endurance_spread=0.3, levels_up=1000, levels_down=1000
    )
    array = Crossbar.from_weights(random_weights(60, 60), device=mortal, seed=3)
    pulse = torch.ones(2, 60, 60)
    fallen = []
    for count in range(1, 101):
        array.pulse(pulse if count % 2 else -pulse)
        fallen.append(float(array.stuck.double().mean()))
        if count == 50:
            stuck, before = array.stuck, array.conductance
    assert fallen == sorted(fallen)
    # log-normal: half are dead at the median, 16 % at one standard deviation below
    assert fallen[49] == pytest.approx(0.5, abs=0.025)
    assert fallen[int(50 * math.exp(-0.3)) - 1] == pytest.approx(0.16, abs=0.03)
    assert torch.equal(array.conductance[stuck], before[stuck])
    other = Crossbar.from_weights(random_weights(60, 60), device=mortal, seed=4)
    other.load_state_dict(array.state_dict())
    assert torch.equal(other.stuck, array.stuck)


def test_power_law_drift_is_the_formula():
    drifting = dataclasses.replace(SILVER, retention=PowerLawDrift(nu=0.05, reference_time=10.0))
    array = Crossbar.from_weights(random_weights(scale=0.1), device=drifting)
    start = array.conductance
    array.wait(90.0)
    assert torch.allclose(array.conductance, start * 10.0**-0.05, rtol=1e-9)
    array.wait(900.0)  # waiting twice is waiting once for the sum
    assert torch.allclose(array.conductance, start * 100.0**-0.05, rtol=1e-9)


def test_drift_stops_at_the_range():
    drifting = dataclasses.replace(SILVER, retention=PowerLawDrift(nu=1.0, reference_time=1.0))
    array = Crossbar.from_weights(random_weights(), device=drifting)
    array.wait(1e6)
    assert torch.allclose(array.conductance, torch.tensor(SILVER.g_min).double(), rtol=1e-9)


def test_pcm_drift_has_the_published_statistics():
    device = dataclasses.replace(
        get_device("PCM"), write_noise=0.0, retention=PCMDrift(), cycle_to_cycle=0.0
    )
    array = Crossbar.from_weights(zeros(150, 150), device=device, seed=1)
    start = array.conductance
    array.wait(20.0 * (math.e**4 - 1))  # ((t + t0)/t0) = e^4: nu = -ln(ratio)/4
    middle = start / device.g_max
    free = array.conductance > device.g_min * 1.0001
    nu = -(array.conductance / start).log() / 4.0
    log_g = float(middle.mean().log())
    mean = min(max(-0.0155 * log_g + 0.0244, 0.049), 0.1)
    spread = min(max(-0.0125 * log_g - 0.0059, 0.008), 0.045)
    assert bool(free.all())
    assert float(nu.mean()) == pytest.approx(mean, abs=4.5 * spread / math.sqrt(45000))
    assert float(nu.std()) == pytest.approx(spread, rel=0.02)


def test_relaxation_and_the_clock_of_written_cells():
    leaky = dataclasses.replace(
        IDEAL, retention=Relaxation(time_constant=2.0, target=0.5), levels_up=100, levels_down=100
    )
    weights = torch.full((2, 2), 0.4, dtype=torch.float64)
    array = Crossbar.from_weights(weights, device=leaky)
    array.wait(2.0)
    assert torch.allclose(array.weights, weights / math.e)
    pulses = torch.zeros(2, 2, 2)
    pulses[0, 0, 0] = 10.0
    array.pulse(pulses)
    written = 0.4 / math.e + 0.1
    assert float(array.weights[0, 0]) == pytest.approx(written)
    array.wait(2.0)
    assert float(array.weights[1, 1]) == pytest.approx(0.4 / math.e**2)
    assert float(array.weights[0, 0]) == pytest.approx(written / math.e)
    with pytest.raises(ValueError, match="seconds"):
        array.wait(-1.0)


def test_waiting_changes_nothing_without_a_law():
    array = Crossbar.from_weights(random_weights(), device=SILVER)
    before = array.conductance
    array.wait(1e9)
    assert torch.equal(array.conductance, before)


def test_clocks_and_offsets_survive_a_state_dict():
    device = dataclasses.replace(
        SILVER, retention=PowerLawDrift(nu=0.05, nu_spread=0.01), write_noise=0.02
    )
    array = Crossbar.from_weights(random_weights(), device=device, seed=1)
    array.apply(some_update(), learning_rate=0.02)
    array.wait(50.0)
    array.apply(some_update(seed=2), learning_rate=0.005)
    other = Crossbar.from_weights(random_weights(seed=5), device=device, seed=2)
    other.load_state_dict(array.state_dict())
    for each in (array, other):
        each.wait(100.0)
        each.apply(some_update(seed=3), learning_rate=0.02)
    assert torch.equal(array.conductance, other.conductance)
    assert array.cost() == other.cost()
    with pytest.raises(ValueError, match="age"):
        broken = array.state_dict()
        del broken["cells"]["age"]
        other.load_state_dict(broken)


def test_write_noise_is_redrawn_for_pulsed_cells_only():
    noisy = dataclasses.replace(IDEAL, write_noise=0.03)
    array = Crossbar.from_weights(zeros(100, 100), device=noisy, seed=1)
    pulses = all_pulsed(array, 1.0, 50)
    array.pulse(pulses)
    first = array.weights
    assert float(first[:, :50].std()) == pytest.approx(0.03, rel=0.05)
    assert float(first[:, 50:].abs().max()) == 0.0
    array.pulse(pulses)
    second = array.weights - first
    assert float(second[:, :50].std()) == pytest.approx(0.03 * math.sqrt(2), rel=0.05)
    assert float(second[:, :50].mean()) == pytest.approx(1e-3, abs=4 * 0.0424 / math.sqrt(5000))


@pytest.mark.parametrize("count", [1, 9])
def test_noise_of_a_step_follows_its_size_and_state(count):
    noisy = dataclasses.replace(
        IDEAL, cycle_to_cycle=0.002, step_noise=0.5, state_noise=0.01, levels_up=100
    )
    array = Crossbar.from_weights(zeros(200, 200), device=noisy, seed=1)
    array.pulse(all_pulsed(array, count))
    spread = (array.conductance[0] / (IDEAL.g_max - IDEAL.g_min)).std()
    expected = math.sqrt(count) * (0.002 + 0.5 * 0.01 + 0.01 * 0.5)
    assert float(spread) == pytest.approx(expected, rel=0.02)
    assert float(array.weights.mean()) == pytest.approx(count * 0.01, abs=4.5 * expected / 200)


def test_step_spread_varies_the_cells():
    device = dataclasses.replace(get_device("GokmenVlasov"), step_noise=0.0)
    array = Crossbar.from_weights(zeros(150, 150), device=device, seed=1)
    array.pulse(all_pulsed(array, 100))
    steps = array.weights * 2.0 / 100  # weight units of the preset: a range of 2
    assert float(steps.mean()) == pytest.approx(0.0016, rel=0.01)
    assert float(steps.std()) == pytest.approx(0.3 * 0.0016, rel=0.03)


def test_cost_is_the_sum_over_pulses_and_reads():
    device = dataclasses.replace(SILVER, cycle_to_cycle=0.0)
    array = Crossbar.from_weights(random_weights(3, 4), device=device)
    generator = torch.Generator().manual_seed(0)
    energy = 0.0
    for _ in range(5):
        pulses = torch.randint(-3, 4, (2, 3, 4), generator=generator).double()
        array.pulse(pulses)
        after = array.conductance
        energy += float((pulses.clamp(min=0) * after).sum() * 3.2**2 * 300e-6)
        energy += float(((-pulses).clamp(min=0) * after).sum() * 2.8**2 * 300e-6)
    cost = array.cost()
    assert cost.write_energy == pytest.approx(energy, rel=1e-9)
    assert cost.pulses_up + cost.pulses_down == int(array.pulse_count.sum())
    signal = torch.tensor([[1.0, -2.0, 0.0, 0.5]], dtype=torch.float64)
    array.read(signal)
    array.read_transposed(torch.ones(2, 3, dtype=torch.float64))
    lines = array.conductance.sum(0)
    power = float((signal.square() @ lines.T).sum()) + 2 * float(lines.sum())
    spent = array.cost()
    assert spent.read_energy == pytest.approx(power * device.v_read**2 * device.width_read)
    assert spent.reads == 3 and spent.read_time == pytest.approx(3 * device.width_read)


def test_write_time_counts_phases_and_slots():
    array = Crossbar.from_weights(zeros(2, 3), device=IDEAL)
    unit = 2.0 / IDEAL.levels_up
    left = torch.tensor([[-2.0], [1.0]], dtype=torch.float64)
    right = torch.tensor([[unit], [unit], [3 * unit]], dtype=torch.float64)
    array.apply(LowRank(left, torch.ones(1).double(), right), learning_rate=1.0)
    cost = array.cost()  # rises 2, 2, 6 in row 0, falls 1, 1, 3 in row 1 (of the plus cells)
    assert (cost.set_phases, cost.reset_phases) == (1, 1)
    assert cost.write_time == pytest.approx((6 + 6) * 1e-8)
    array.apply(LowRank(left, torch.ones(1).double(), right), learning_rate=1.0, scheme="rank-sum")
    more = array.cost()  # row by row: rises up to 6 and 3, falls up to 6 and 3
    assert (more.set_phases, more.reset_phases) == (3, 3)
    assert more.write_time - cost.write_time == pytest.approx((9 + 9) * 1e-8)


def test_tiles_are_one_array_to_the_user():
    weights, update = random_weights(25, 33), some_update(25, 33)
    fine = dataclasses.replace(IDEAL, levels_up=10**7, levels_down=10**7)
    whole = Crossbar.from_weights(weights, device=fine)
    tiled = TiledCrossbar.from_weights(weights, tile=(10, 16), device=fine, seed=3)
    assert [array.shape for array in tiled.tiles[0]] == [(10, 16), (10, 16), (10, 1)]
    assert tiled.shape == (25, 33) and len(tiled.tiles) == 3
    for each in (whole, tiled):
        each.apply(update, learning_rate=0.01)
    assert torch.allclose(tiled.weights, whole.weights, atol=1e-5)
    assert tiled.conductance.shape == tiled.pulse_count.shape == (2, 25, 33)
    signal, errors = random_weights(4, 33, seed=7), random_weights(4, 25, seed=8)
    assert torch.allclose(tiled.read(signal), signal @ tiled.weights.T)
    assert torch.allclose(tiled.read_transposed(errors), errors @ tiled.weights)
    assert tiled.cost().pulses_up == sum(a.cost().pulses_up for row in tiled.tiles for a in row)
    other = TiledCrossbar.from_weights(random_weights(25, 33, seed=2), tile=(10, 16), device=fine)
    other.load_state_dict(tiled.state_dict())
    assert torch.equal(other.weights, tiled.weights)
    tiled.device = SILVER
    assert tiled.device is SILVER and tiled.tiles[2][1].device is SILVER
    with pytest.raises(ValueError, match="tile"):
        TiledCrossbar.from_weights(weights, tile=(0, 4), device=fine)


def test_tiles_are_programmed_and_pulsed_as_one():
    weights = random_weights(9, 7)
    tiled = TiledCrossbar.from_weights(torch.zeros_like(weights), tile=(4, 5), device=SILVER)
    report = tiled.program(weights, tolerance=0.05, max_pulses=300)
    assert report.pulses == int(tiled.pulse_count.sum())
    target = torch.stack([0.5 + weights / 2.0, 0.5 - weights / 2.0])
    miss = (tiled.conductance - SILVER.g_min) / SILVER.span - target
    assert report.within_tolerance == pytest.approx(float((miss.abs() <= 0.05).double().mean()))
    assert report.rms_error == pytest.approx(float(miss.square().mean().sqrt()))
    before, count = tiled.conductance, tiled.pulse_count
    pulses = torch.zeros(2, 9, 7)
    pulses[1, 8, 6] = 2.0
    tiled.pulse(pulses)
    assert torch.equal(tiled.pulse_count - count, pulses.long())
    assert int((tiled.conductance != before).sum()) == 1
    for wrong in (lambda: tiled.pulse(pulses[:, 1:]), lambda: tiled.program(weights[1:])):
        with pytest.raises(ValueError, match="shape"):
            wrong()


def test_tiles_draw_their_own_cells():
    spread = dataclasses.replace(SILVER, device_to_device=0.5, cycle_to_cycle=0.0)
    tiled = TiledCrossbar.from_weights(torch.zeros(8, 8), tile=(4, 4), device=spread, seed=0)
    tiled.apply(LowRank(-torch.ones(8, 1), torch.ones(1), torch.ones(8, 1)), learning_rate=0.1)
    assert not torch.equal(tiled.tiles[0][0].weights, tiled.tiles[1][1].weights)


@pytest.mark.parametrize("log_normal", [False, True])
def test_gain_and_asymmetry_of_a_cell_add_up(log_normal):
    # aihwkit's rule for its pulsed devices: up |gain + min(b, 0) + r|, down |gain - max(b, 0) - r|
    response = LinearStep(
        asymmetry=0.26, asymmetry_spread=0.2, step_spread=0.4, step_log_normal=log_normal
    )
    device = dataclasses.replace(IDEAL, levels_up=100, levels_down=100, response=response)
    draws = {0: torch.tensor([0.0, 1.0, -2.0]), 1: torch.tensor([0.5, -1.0, -2.5])}
    cells = response.cells(device, lambda index: draws[index].double())
    for cell, (lean, spread) in enumerate(zip(*draws.values(), strict=True)):
        r, s = 0.2 * float(lean), 0.4 * float(spread)
        gain = math.exp(s) if log_normal else 1.0 + s
        assert float(cells.up[0][cell]) == pytest.approx(abs(gain + r) / 100)
        assert float(cells.down[0][cell]) == pytest.approx(-abs(gain - 0.26 - r) / 100)
