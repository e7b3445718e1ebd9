"""Cells under pulse trains: closed forms of the mean, the spread and the fixed point."""

from dataclasses import replace

import numpy as np
import pytest

from toolkit.crossbar import get_device
from toolkit.crossbar.trains import cycled, follow, nominal, split, up_and_down


def test_without_noise_every_cell_follows_the_closed_form():
    device = replace(get_device("Ag:a-Si"), cycle_to_cycle=0.0)
    trains = up_and_down(device, points=100)
    closed = device.trace(up=97, down=100).numpy()
    np.testing.assert_allclose(trains.nominal, closed, atol=1e-12)
    np.testing.assert_allclose(trains.mean, closed, atol=1e-12)
    assert trains.deviation.max() < 1e-12
    assert trains.pulses[-1] == 197


def test_away_from_the_bounds_noise_is_a_random_walk():
    # straight line, 1000 levels: n pulses move n/1000 and spread by sqrt(n) sigma
    device = replace(get_device("ideal"), cycle_to_cycle=0.004)
    trains = follow(device, [1] * 100, cells=4000, start=0.4, seed=3)
    steps = np.arange(1, 101)
    np.testing.assert_allclose(trains.mean[1:], 0.4 + steps / 1000, atol=0.004)
    np.testing.assert_allclose(trains.deviation[1:], 0.004 * np.sqrt(steps), rtol=0.06)


def test_reads_are_noisy_relative_to_the_conductance():
    device = replace(get_device("PCMO"), read_noise=0.1)  # a small on/off ratio: g_min counts
    trains = follow(device, [], cells=20_000, start=0.5)
    of_range = 0.1 * (0.5 + device.g_min / device.span)
    assert trains.deviation[0] == pytest.approx(of_range, rel=0.03)


def test_alternating_pulses_lead_to_the_symmetry_point():
    device = replace(get_device("Ag:a-Si"), cycle_to_cycle=0.0)
    trains = cycled(device, pulses=1, cycles=150, start=1.0)
    point = device.symmetry_point()
    assert min(trains.mean[-2:]) <= point <= max(trains.mean[-2:])
    assert abs(trains.mean[-1] - point) < 0.03


def test_a_seed_gives_the_same_cells():
    device = get_device("ReRamArrayOM")
    first, again, other = (cycled(device, pulses=5, cycles=2, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.readings, again.readings)
    assert not np.array_equal(first.readings, other.readings)


@pytest.mark.parametrize(("pulses", "parts"), [(97, 60), (3, 60), (7400, 60), (1, 1)])
def test_pulses_are_split_without_a_rest(pulses, parts):
    trains = split(pulses, parts)
    assert sum(trains) == pulses and min(trains) > 0 and len(trains) <= parts
    assert max(trains) - min(trains) <= 1


def test_long_trains_at_once_are_the_pulses_one_by_one():
    device = get_device("FeFET")
    one_by_one = nominal(device, [1] * 30)
    np.testing.assert_allclose(nominal(device, [10] * 3), one_by_one[::10], atol=1e-12)


def test_what_makes_no_sense_is_refused():
    device = get_device("ideal")
    with pytest.raises(ValueError, match="cells must be at least 2; got 1"):
        follow(device, [1], cells=1)
    with pytest.raises(ValueError, match=r"start must be between 0 and 1; got 1\.5"):
        follow(device, [1], start=1.5)
