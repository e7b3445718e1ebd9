"""Writes of more pulses than cross the range: within bounds, counted, against float64 by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from toolkit.crossbar import Crossbar, device_names, get_device
from toolkit.lowrank import LowRank


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("label", [5.0, 9.0, -9.0])
@pytest.mark.parametrize("name", ["ideal", "TaOx/HfOx", "EpiRAM"])
def test_strong_curves_stay_within_the_range(name, label):
    device = dataclasses.replace(
        get_device(name), nonlinearity_up=label, nonlinearity_down=label, device_to_device=0.5
    )
    trace = device.trace(up=10, down=20_000)
    assert np.isfinite(np.asarray(trace)).all()
    array = Crossbar.from_weights(torch.zeros(8, 8), device=device)
    for pulses in (0, 1, 30, 3000, 10**6, 10**9):
        for sign in (1, -1):
            wanted = torch.full((2, 8, 8), float(sign * pulses))
            array.pulse(wanted)
            held = array.conductance
            assert held.isfinite().all()
            assert held.min() >= device.g_min * (1 - 1e-6)
            assert held.max() <= device.g_max * (1 + 1e-6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 3, 10, 60])
@pytest.mark.parametrize("label", [9.0, -9.0])
def test_a_few_pulses_of_the_steepest_curves_are_those_of_one_cell(label, levels, dtype):
    """A pulse of label -9 on 2 levels multiplies a state by 3e9, five of them overflow float32."""
    device = dataclasses.replace(
        get_device("ideal"),
        cycle_to_cycle=1e-9,
        **{f"levels_{way}": levels for way in ("up", "down")},
        **{f"nonlinearity_{way}": label for way in ("up", "down")},
    )
    for pulses in (1, 2, 3, 5, 8, 9, 60):
        for sign in (1, -1):
            array = Crossbar.from_weights(torch.zeros(3, 3, dtype=dtype), device=device)
            begin = (array.conductance.double() - device.g_min) / device.span
            wanted = torch.full((2, 3, 3), float(sign * pulses), dtype=dtype)
            array.pulse(wanted)
            found = (array.conductance.double() - device.g_min) / device.span
            torch.testing.assert_close(found, device.step(begin, wanted), rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", device_names())
def test_counts_never_wrap(name):
    array = Crossbar.from_weights(torch.zeros(2, 2), device=get_device(name))
    for _ in range(5):
        array.pulse(torch.full((2, 2, 2), 1e9))
    assert array.pulse_count.unique().tolist() == [5 * 10**9]
    assert array.conductance.isfinite().all()


@pytest.mark.usefixtures("way")
def test_a_count_is_a_copy():
    array = Crossbar.from_weights(torch.zeros(2, 2), device=get_device("EpiRAM"))
    before = array.pulse_count
    array.pulse(torch.ones(2, 2, 2))
    assert not before.any()


@pytest.mark.parametrize("name", ["EpiRAM", "EcRam", "ReRamSB"])
def test_many_pulses_are_many_single_ones(name):
    quiet = ("cycle_to_cycle", "step_noise", "state_noise", "write_noise")
    device = dataclasses.replace(get_device(name), **dict.fromkeys(quiet, 0.0))
    weights = torch.zeros(2, 2, dtype=torch.float64)
    together, apart = (Crossbar.from_weights(weights, device=device) for _ in range(2))
    together.pulse(torch.full((2, 2, 2), 200.0, dtype=torch.float64))
    for _ in range(200):
        apart.pulse(torch.ones(2, 2, 2, dtype=torch.float64))
    torch.testing.assert_close(together.conductance, apart.conductance, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("scheme", ["rank-sequential", "rank-sum"])
def test_a_demand_beyond_the_number_range_writes_nothing(scheme):
    array = Crossbar.from_weights(torch.zeros(3, 4), device=get_device("EpiRAM"), w_max=0.01)
    huge = LowRank(torch.full((3, 1), 1e30), torch.ones(1), torch.full((4, 1), 1e30))
    for rate, update in (
        (1.0, huge),
        (1e38, LowRank(*(torch.ones(s) for s in ((3, 1), (1,), (4, 1))))),
    ):
        with pytest.raises(ValueError, match="finite number of pulses"):
            array.apply(update, learning_rate=rate, scheme=scheme)
    assert not array.pulse_count.any()
