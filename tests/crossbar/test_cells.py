"""Cells under pulses: compiled loops and torch do the same, few pulses or many, any response."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from numba.core.errors import TypingError

from tests.crossbar.arrays import Quadratic, pulses_each
from toolkit.crossbar import (
    Coincidence,
    Crossbar,
    IncrementalPulses,
    JumpTable,
    PiecewiseStep,
    PowStep,
    WholePulses,
    device_names,
    get_device,
)
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.devices.jumps import Jumps
from toolkit.crossbar.devices.responses import CellParameters, Law
from toolkit.crossbar.kernels import CompiledStep
from toolkit.lowrank import LowRank


@dataclasses.dataclass(frozen=True)
class Halving(Law):
    """Another, with a step of its own: a pulse goes half way to the end of the range."""

    @CompiledStep
    def compiled(places, pulses, state, parameters, nodes, low, high, after):  # noqa: ARG002
        for index in range(len(places)):
            end = parameters[0, 0] if pulses[index] > 0.0 else parameters[0, 1]
            share = 0.5 ** abs(pulses[index])
            after[index] = end + (state[places[index]] - end) * share

    def cells(self, device, draw=None):  # noqa: ARG002
        return CellParameters(self, (1.0,), (0.0,))

    def advance(self, cells, state, pulses):
        end = torch.where(pulses > 0.0, *cells.up, *cells.down)
        state.copy_(end + (state - end) * 0.5 ** pulses.abs())

    def symmetry_point(self, cells):  # noqa: ARG002
        return torch.tensor(0.5)


NOISELESS = dict.fromkeys(("cycle_to_cycle", "step_noise", "state_noise", "write_noise"), 0.0)
QUIET = dataclasses.replace(get_device("Ag:a-Si"), **NOISELESS)
SPREAD = {"asymmetry": 0.2, "step_spread": 0.2, "high_spread": 0.2, "low_spread": 0.2}
RESPONSES = {
    **{name: get_device(name).response for name in ("Ag:a-Si", "EcRam", "ReRamES")},
    "power": PowStep(**SPREAD, gamma_up=1.4, gamma_down=0.6, gamma_spread=0.2),
    "pieces": PiecewiseStep(**SPREAD, nodes_up=(1.0, 0.3, 0.7), nodes_down=(0.2, 1.0, 0.5, 0.1)),
    "table": JumpTable(
        up=Jumps(nodes=(0.0, 0.1, 1.0), mean=(0.02, 0.01, 0.003), spread=(0.0, 0.0, 0.0)),
        down=Jumps(nodes=(0.0, 1.0), mean=(0.0, 0.02), spread=(0.0, 0.0)),
        scale_spread=0.2,
    ),
    "incremental": IncrementalPulses(
        nonlinearity_up=2.0, nonlinearity_down=-3.0, device_to_device=0.5
    ),
    "quadratic": Quadratic(),
    "halving": Halving(),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def some_pulses(share, shape=(2, 40, 50)):
    """Signed pulses, up to 40, to that share of the cells."""
    generator = seeded(1)
    pulses = torch.randint(1, 41, shape, generator=generator).double()
    pulses *= 1 - 2 * torch.randint(0, 2, shape, generator=generator)
    return pulses * (torch.rand(shape, generator=generator) < share)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.7, 1.0])
@pytest.mark.parametrize("noise", [0.0, 1e-12], ids=["noiseless", "noisy"])
def test_writes_are_the_devices_steps_at_every_density(share, noise):
    pulses = some_pulses(share)
    start = torch.rand(pulses.shape, generator=seeded(2)).double()
    device = dataclasses.replace(QUIET, cycle_to_cycle=noise, write_noise=noise)
    cells = Cells(start.clone(), device, seeded(3))
    written = cells.pulse(pulses)
    expected = QUIET.step(start, pulses)
    assert torch.allclose(cells.state, expected, rtol=0.0, atol=1e-10)
    assert torch.equal(cells.visible()[pulses == 0.0], start[pulses == 0.0])
    assert torch.equal(cells.pulse_count, pulses.abs().int())
    sums = [pulses, pulses.abs(), pulses * expected, pulses.abs() * expected]
    assert written.sums == pytest.approx([float(each.sum()) for each in sums], abs=1e-7)
    assert written.longest == (float(pulses.max().clamp(min=0)), float(-pulses.min().clamp(max=0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_compiled_loops_and_torch_do_the_same_to_cells_that_differ(response, dtype, monkeypatch):
    device = dataclasses.replace(QUIET, response=response)
    pulses = some_pulses(0.5).to(dtype)
    start = torch.rand(pulses.shape, generator=seeded(2)).to(dtype)
    compiled, plain = (Cells(start.clone(), device, seeded(3)) for _ in range(2))
    assert compiled.is_compiled
    compiled.pulse(pulses)
    monkeypatch.setattr(Cells, "is_compiled", False)
    assert plain.pulse(pulses).longest == (40.0, 40.0)
    assert float((plain.state - start).abs().max()) > 0.1
    precision = 1e-4 if dtype == torch.float32 else 1e-12
    assert torch.allclose(compiled.state, plain.state, rtol=0.0, atol=precision)
    assert torch.equal(compiled.pulse_count, plain.pulse_count)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("coding", [WholePulses(), Coincidence()], ids=["whole", "coincidence"])
@pytest.mark.parametrize("response", [Quadratic(), Halving()])
def test_a_response_from_outside_is_written_like_any_other(response, coding):
    device = dataclasses.replace(get_device("ideal"), response=response)
    array = Crossbar.from_weights(torch.zeros(20, 30), device=device, coding=coding, seed=1)
    before = array.conductance
    array.apply(pulses_each(array, 4.0), learning_rate=1.0)
    assert 2 * 20 * 30 < array.pulses <= 8 * 20 * 30
    assert bool((array.conductance[0] > before[0]).all())
    assert bool((array.conductance[1] < before[1]).all())
    assert device.trace(up=3, down=0)[-1] > 0.0


@pytest.mark.parametrize("response", [Quadratic(), RESPONSES["power"]])
@pytest.mark.parametrize("way", [1, -1])
def test_a_fraction_of_a_pulse_is_that_fraction_of_a_step(response, way):
    device = dataclasses.replace(get_device("ideal"), response=response)
    start, quarter = torch.tensor(0.5).double(), torch.tensor(0.25 * way)
    one = device.step(start, torch.tensor(way))
    torch.testing.assert_close(device.step(start, quarter), start + 0.25 * (one - start))
    torch.testing.assert_close(device.step(start, way + quarter), device.step(one, quarter))


def test_a_copy_of_cells_has_memory_of_its_own():
    array = Crossbar.from_weights(torch.zeros(4, 5), device=QUIET)
    array.pulse(torch.ones(2, 4, 5))
    other, held = copy.deepcopy(array), array.weights
    other.pulse(-torch.stack([torch.ones(4, 5), torch.zeros(4, 5)]))
    assert torch.equal(array.weights, held) and bool((other.weights < held).all())


def test_a_step_of_other_numbers_is_refused_before_it_runs():
    cells = Cells(torch.zeros(8), QUIET, seeded(0))
    cells.pulse(torch.ones(8))
    state, parameters, nodes, _, *others = cells._arrays
    cells._arrays = state, parameters, nodes, np.zeros(8), *others  # float64 beside float32
    with pytest.raises(TypingError, match="compiled step"):
        cells.pulse(torch.ones(8))


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("label", [5.0, 9.0, -9.0])
@pytest.mark.parametrize("name", ["ideal", "TaOx/HfOx", "EpiRAM"])
def test_strong_curves_stay_within_the_range(name, label):
    labels = dict.fromkeys(("nonlinearity_up", "nonlinearity_down"), label)
    device = dataclasses.replace(get_device(name), **labels, device_to_device=0.5)
    assert device.trace(up=10, down=20_000).isfinite().all()
    array = Crossbar.from_weights(torch.zeros(8, 8), device=device)
    for pulses in (0, 1, 30, 3000, 10**6, 10**9):
        for sign in (1, -1):
            array.pulse(torch.full((2, 8, 8), float(sign * pulses)))
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
    changes = {f"levels_{way}": levels for way in ("up", "down")}
    changes |= {f"nonlinearity_{way}": label for way in ("up", "down")}
    device = dataclasses.replace(get_device("ideal"), cycle_to_cycle=1e-9, **changes)
    for pulses in (1, 2, 3, 5, 8, 9, 60):
        for sign in (1, -1):
            cells = Cells(torch.full((3,), 0.5, dtype=dtype), device, seeded(0))
            wanted = torch.full((3,), float(sign * pulses), dtype=dtype)
            expected = device.step(cells.state.double(), wanted)
            cells.pulse(wanted)
            torch.testing.assert_close(cells.state.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", device_names())
def test_counts_never_wrap_and_are_copies(name):
    array = Crossbar.from_weights(torch.zeros(2, 2), device=get_device(name))
    before = array.pulse_count
    for _ in range(5):
        array.pulse(torch.full((2, 2, 2), 1e9))
    assert array.pulse_count.unique().tolist() == [5 * 10**9] and not before.any()
    assert array.conductance.isfinite().all()


@pytest.mark.parametrize("name", ["EpiRAM", "EcRam", "ReRamSB"])
def test_many_pulses_are_many_single_ones(name):
    device = dataclasses.replace(get_device(name), **NOISELESS)
    start = torch.full((2, 2), 0.5, dtype=torch.float64)
    together, apart = (Cells(start.clone(), device, seeded(0)) for _ in range(2))
    together.pulse(200.0 * torch.ones_like(start))
    for _ in range(200):
        apart.pulse(torch.ones_like(start))
    torch.testing.assert_close(together.state, apart.state, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("scheme", ["rank-sequential", "rank-sum"])
def test_a_demand_beyond_the_number_range_writes_nothing(scheme):
    array = Crossbar.from_weights(torch.zeros(3, 4), device=get_device("EpiRAM"), w_max=0.01)
    one = LowRank(*(torch.ones(shape) for shape in ((3, 1), (1,), (4, 1))))
    huge = LowRank(1e30 * one.left, one.sigma, 1e30 * one.right)
    for rate, update in ((1.0, huge), (1e38, one)):
        with pytest.raises(ValueError, match="finite number of pulses"):
            array.apply(update, learning_rate=rate, scheme=scheme)
    assert not array.pulses
