"""The cells' random numbers: right distributions, independent, reproducible."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from toolkit.crossbar import get_device, kernels
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.pulses import round_

CELLS = 2**18
STEADY = dataclasses.replace(get_device("ideal"), levels_up=1e12, levels_down=1e12)


def rounded(value, seed=0, cells=CELLS, dtype=torch.float32):
    """Cells that one value is rounded in: 1 where a uniform was large enough."""
    return round_(torch.full((cells,), value, dtype=dtype), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [1e-4, 0.003, 0.25, 0.5, 0.999, 3.4, -2.7])
def test_rounding_is_up_with_the_chance_of_the_fraction(value, dtype):
    out = torch.stack([rounded(value, seed, dtype=dtype) for seed in range(8)])
    low, chance = math.floor(value), value - math.floor(value)
    assert out.dtype == dtype and set(out.unique().tolist()) == {low, low + 1.0}
    error = math.sqrt(chance * (1.0 - chance) / out.numel())
    assert abs(float(out.double().mean()) - value) < 4.5 * error


def test_whole_values_stay():
    for value in (0.0, 3.0, -7.0, 1000.0, -1000.0):  # though 1000 + 0.99999 is 1001 to float32
        assert torch.equal(rounded(value), torch.full((CELLS,), value))


def test_cells_and_draws_are_uncorrelated():
    fields = torch.stack([rounded(0.5, seed) for seed in range(12)]).double() - 0.5
    limit = 5.0 / math.sqrt(CELLS)
    for first in range(12):
        for second in range(first):
            assert abs(float((fields[first] * fields[second]).mean() * 4)) < limit
    for lag in (1, 2, 3, 64, 512, 1024, 2**14):
        moments = (fields[:, lag:] * fields[:, :-lag]).mean(1) * 4
        assert float(moments.abs().max()) < limit


def test_one_generator_draws_anew():
    generator = torch.Generator().manual_seed(0)
    first, second = (round_(torch.full((1000,), 0.5), generator) for _ in range(2))
    assert not torch.equal(first, second)


def words(key, places):
    drawn = [kernels._word(np.uint64(key), np.uint64(place)) for place in places]
    return np.array(drawn, dtype=np.uint64)


def test_words_are_those_of_splitmix64():
    # outputs for the seed 1234567 as published on Rosetta Code
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert words(1234567, [1, 2, 3]).tolist() == published


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_are_box_and_mullers(dtype):
    out = np.empty(20000, dtype)
    kernels._normals(out, np.uint64(77), np.uint64(3))
    drawn = words(77, range(3, 10003))
    low, high = (drawn & np.uint64(2**32 - 1)).astype(float), (drawn >> np.uint64(32)).astype(float)
    radius = np.sqrt(-2.0 * np.log((low + 0.5) / 2**32))
    angle = 2.0 * np.pi * (high / 2**32 - 0.125)
    wanted = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    near_0 = np.tile(radius < 0.01, 2)  # there a float32 of a chance close to 1 is coarse
    assert np.abs(out - wanted)[~near_0].max() < 5e-6
    assert np.abs(out - wanted).max() < 3e-4


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def normals(request):
    """Cycle-to-cycle and write noise of two writes to every cell, in units of the deviation."""
    device = dataclasses.replace(STEADY, cycle_to_cycle=1e-3, write_noise=2e-3)
    start = torch.full((1, 512, 1024), 0.5, dtype=request.param)
    bank = Cells(start, device, torch.Generator().manual_seed(5))
    assert bank.is_compiled
    drawn = []
    for _ in range(2):
        bank.state.fill_(0.5)
        bank.pulse(torch.ones_like(start))
        pulse, offset = bank.state - 0.5, bank.visible() - bank.state
        drawn += [(pulse / 1e-3).flatten(), (offset / 2e-3).flatten()]
    return torch.stack(drawn).double().numpy()


def test_noise_is_normal(normals):
    for sample in normals:
        assert stats.kstest(sample, "norm").pvalue > 1e-4
        assert abs(stats.skew(sample)) < 5.0 * math.sqrt(6.0 / sample.size)
        assert abs(stats.kurtosis(sample)) < 5.0 * math.sqrt(24.0 / sample.size)
        for reach in (2.0, 3.0, 4.0):
            expected = 2.0 * stats.norm.sf(reach) * sample.size
            assert abs((np.abs(sample) > reach).sum() - expected) < 4.5 * math.sqrt(expected)


def test_noise_is_independent_from_cell_to_cell_and_write_to_write(normals):
    limit = 5.0 / math.sqrt(normals.shape[1])
    assert np.abs(np.corrcoef(normals) - np.eye(4)).max() < limit
    for values in (normals, normals**2 - 1.0):  # pairs made of one word, too
        size = values.std(axis=1)
        for lag in (1, 2, 3, 512, 1024, 2**14):
            moments = (values[:, lag:] * values[:, :-lag]).mean(1) / size**2
            assert np.abs(moments).max() < 1.1 * limit
