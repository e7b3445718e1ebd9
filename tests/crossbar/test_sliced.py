"""Bit slicing against sums of ordinary crossbars."""

import dataclasses

import pytest
import torch

from toolkit.crossbar import Crossbar, Device, LinearStep, SlicedCrossbar, WholePulses
from toolkit.lowrank import LowRank

LINEAR = Device(
    name="cell", g_min=1e-6, g_max=1e-5, levels_up=50, levels_down=50, response=LinearStep()
)
NOISY = dataclasses.replace(LINEAR, cycle_to_cycle=0.02)
SHAPE = (6, 5)
ROUNDED = WholePulses("deterministic")
UP = LowRank(torch.ones(6, 1).double(), torch.ones(1).double(), torch.ones(5, 1).double())


def weights_of(seed=0, share=1.0):
    draw = torch.Generator().manual_seed(seed)
    return share * (2 * torch.rand(SHAPE, generator=draw, dtype=torch.float64) - 1)


def update_of(seed=1, rank=2):
    draw = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, rank, generator=draw, dtype=torch.float64) for n in SHAPE)
    return LowRank(left, torch.ones(rank, dtype=torch.float64), right)


def sliced(weights=None, device=LINEAR, **more):
    weights = weights_of() if weights is None else weights
    return SlicedCrossbar.from_weights(weights, device=device, w_max=1.0, **more)


@pytest.mark.parametrize(("slices", "base"), [(1, 2.0), (2, 4.0), (4, 2.0), (3, 1.0)])
def test_slices_hold_and_read_the_weights(slices, base):
    weights, array = weights_of(), sliced(slices=slices, base=base)
    sizes = [one.w_max for one in array.slices]
    assert sum(sizes) == pytest.approx(array.w_max) == pytest.approx(1.0)
    assert sizes == pytest.approx([sizes[0] * base**-index for index in range(slices)])
    assert torch.allclose(array.weights, weights, atol=1e-12)
    signal = torch.randn(4, 5, dtype=torch.float64)
    assert torch.allclose(array.read(signal), signal @ weights.T, atol=1e-12)
    errors = torch.randn(4, 6, dtype=torch.float64)
    assert torch.allclose(array.read_transposed(errors), errors @ weights, atol=1e-12)


@pytest.mark.parametrize("scheme", ["rank-sequential", "rank-sum"])
def test_an_update_is_that_of_the_finest_slice_alone(scheme):
    array, update = sliced(weights_of(share=0.5), coding=ROUNDED), update_of()
    zero = torch.zeros(SHAPE, dtype=torch.float64)
    alone = Crossbar.from_weights(zero, device=LINEAR, w_max=0.2, coding=ROUNDED)  # of 0.8 and 0.2
    before, coarse = array.weights, array.slices[0].weights
    for each in (array, alone):
        each.apply(update, learning_rate=0.01, scheme=scheme)
    assert array.pulses == alone.pulses > 0
    assert torch.allclose(array.weights - before, alone.weights, atol=1e-12)
    assert torch.equal(array.slices[0].weights, coarse)


@pytest.mark.parametrize("base", [2.0, 4.0, 8.0])
def test_each_slice_makes_a_programmed_weight_finer_by_the_base(base):
    for slices in (1, 2, 3):
        array = sliced(torch.zeros(SHAPE, dtype=torch.float64), slices=slices, base=base)
        report = array.program(weights_of(share=0.9), tolerance=0.011)
        # a cell is within half a step of its target, a pair within a step: of the finest slice
        step = 2.0 * array.slices[-1].w_max / 50
        assert (array.weights - weights_of(share=0.9)).abs().max() <= step
        assert report.within_tolerance == 1.0 and report.pulses == array.pulses
        assert report.rms_error <= step / 2.0


def test_carry_empties_the_finest_slice_and_keeps_the_weights():
    array = sliced(weights_of(share=0.4), every=3)
    for _ in range(2):
        array.apply(UP, learning_rate=-0.05)
    before, full = array.weights, array.slices[-1].weights.abs().mean()
    assert full == pytest.approx(0.1, rel=0.1)
    array.carry()
    assert (array.weights - before).abs().max() < 2 * 0.2 * 0.02
    assert array.slices[-1].weights.abs().mean() < 0.3 * full
    counts = array.pulses
    array.apply(UP, learning_rate=-0.05)  # the third: with a carry
    alone = 6 * 5 * 2 * round(0.05 / 0.4 * 50)
    assert array.pulses - counts > alone


def test_updates_that_would_fill_the_finest_slice_arrive():
    ends = {}
    for every in (4, 1000):
        array = sliced(torch.zeros(SHAPE, dtype=torch.float64), every=every)
        for _ in range(40):
            array.apply(UP, learning_rate=-0.016)
        ends[every] = float(array.weights.mean())
    assert ends[4] == pytest.approx(0.64, abs=0.02)
    assert ends[1000] == pytest.approx(0.2, abs=1e-9)  # full


def test_a_saved_state_goes_on_with_the_same_bits():
    array, other = sliced(device=NOISY, every=2), sliced(weights_of(5), device=NOISY, every=2)
    array.apply(update_of(), learning_rate=0.01)
    other.load_state_dict(array.state_dict())
    for each in (array, other):
        each.apply(update_of(2), learning_rate=0.01)
    assert torch.equal(array.weights, other.weights)
    with pytest.raises(ValueError, match="every"):
        sliced(every=3).load_state_dict(array.state_dict())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slices", 0),
        ("slices", 17),
        ("slices", 1.5),
        ("base", 0.5),
        ("base", float("nan")),
        ("base", "two"),
        ("every", 0),
        ("w_max", 0.0),
        ("w_max", float("inf")),
    ],
)
def test_bad_values_are_named(name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        SlicedCrossbar.from_weights(weights_of(), device=LINEAR, **{name: value})
    if name == "every":
        with pytest.raises(ValueError, match="every must be"):
            sliced().every = value


def test_slices_of_one_shape():
    arrays = [Crossbar.from_weights(torch.zeros(n, 3), device=LINEAR) for n in (2, 3)]
    for wrong in ([], arrays):
        with pytest.raises(ValueError, match="slices must be of one shape"):
            SlicedCrossbar(wrong)
    with pytest.raises(ValueError, match=r"base must be smaller with 16 slices, .*; got 1024"):
        sliced(slices=16, base=1024)
    with pytest.raises(ValueError, match="are those of its slices"):
        sliced().save_targets("map.csv")
