"""Cells under pulses: what compiled loops and torch do to them, also by a response of one's own."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from numba.core.errors import TypingError

from toolkit.crossbar import (
    Coincidence,
    Crossbar,
    JumpTable,
    PiecewiseStep,
    PowStep,
    WholePulses,
    get_device,
)
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.devices.jumps import Jumps
from toolkit.crossbar.devices.responses import CellParameters, Law
from toolkit.crossbar.devices.stepwise import Stepwise, pulse_by_pulse
from toolkit.crossbar.kernels import CompiledStep
from toolkit.lowrank import LowRank


def square(u, own, nodes, line):  # noqa: ARG001
    return u * u


@dataclasses.dataclass(frozen=True)
class Quadratic(Stepwise):
    """A response from outside: pulse by pulse along a curve."""

    compiled = pulse_by_pulse(square)

    def cells(self, device, draw=None):
        scale = 1.0 if draw is None else 1.0 + 0.1 * draw(0)
        up, down = scale / device.levels_up, -scale / device.levels_down
        return CellParameters(self, (up, 1.0, -1.0), (down, 0.0, 1.0))

    def curve(self, u, *shape):  # noqa: ARG002
        return u * u


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


QUIET = dataclasses.replace(get_device("Ag:a-Si"), cycle_to_cycle=0.0)
NOISELESS = {"cycle_to_cycle": 0.0, "step_noise": 0.0, "state_noise": 0.0}
SPREAD = {"asymmetry": 0.2, "step_spread": 0.2, "high_spread": 0.2, "low_spread": 0.2}
RESPONSES = {
    "Ag:a-Si": get_device("Ag:a-Si").response,
    "EcRam": get_device("EcRam").response,
    "ReRamES": get_device("ReRamES").response,
    "power": PowStep(**SPREAD, gamma_up=1.4, gamma_down=0.6, gamma_spread=0.2),
    "pieces": PiecewiseStep(**SPREAD, nodes_up=(1.0, 0.3, 0.7), nodes_down=(0.2, 1.0, 0.5, 0.1)),
    "table": JumpTable(
        up=Jumps(nodes=(0.0, 0.1, 1.0), mean=(0.02, 0.01, 0.003), spread=(0.0, 0.0, 0.0)),
        down=Jumps(nodes=(0.0, 1.0), mean=(0.0, 0.02), spread=(0.0, 0.0)),
        scale_spread=0.2,
    ),
    "quadratic": Quadratic(),
    "halving": Halving(),
}
SHARES = [0.0, 0.002, 0.01, 0.05, 0.07, 0.1, 0.24, 0.26, 0.7, 1.0]


def some_pulses(share, shape=(2, 40, 50)):
    """Signed pulses, up to 40, to that share of the cells."""
    generator = torch.Generator().manual_seed(1)
    pulses = torch.randint(1, 41, shape, generator=generator).double()
    pulses *= 1 - 2 * torch.randint(0, 2, shape, generator=generator)
    return pulses * (torch.rand(shape, generator=generator) < share)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("noise", [0.0, 1e-12], ids=["noiseless", "noisy"])
def test_writes_are_the_devices_steps_at_every_density(share, noise):
    pulses = some_pulses(share)
    start = torch.rand(pulses.shape, generator=torch.Generator().manual_seed(2)).double()
    device = dataclasses.replace(QUIET, cycle_to_cycle=noise)
    bank = Cells(start.clone(), device, torch.Generator().manual_seed(3))
    written = bank.pulse(pulses)
    expected = QUIET.step(start, pulses)
    assert torch.allclose(bank.state, expected, rtol=0.0, atol=1e-10)
    assert torch.equal(bank.state[pulses == 0.0], start[pulses == 0.0])
    assert torch.equal(bank.pulse_count, pulses.abs().int())
    sums = [pulses, pulses.abs(), pulses * expected, pulses.abs() * expected]
    assert written.sums == pytest.approx([float(each.sum()) for each in sums], abs=1e-7)
    assert written.longest == (float(pulses.max().clamp(min=0)), float(-pulses.min().clamp(max=0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_compiled_loops_and_torch_do_the_same_to_cells_that_differ(response, dtype, monkeypatch):
    device = dataclasses.replace(get_device("Ag:a-Si"), response=response, **NOISELESS)
    pulses = some_pulses(0.5).to(dtype)
    start = torch.rand(pulses.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    banks = [Cells(start.clone(), device, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert banks[0].is_compiled
    for bank in banks:
        written = bank.pulse(pulses)
        assert float((bank.state - start).abs().max()) > 0.1
        monkeypatch.setattr(Cells, "is_compiled", False)
    precision = 1e-4 if dtype == torch.float32 else 1e-12
    assert torch.allclose(banks[0].state, banks[1].state, rtol=0.0, atol=precision)
    assert torch.equal(banks[0].pulse_count, banks[1].pulse_count)
    assert written.longest == (40.0, 40.0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("coding", [WholePulses(), Coincidence()], ids=["whole", "coincidence"])
@pytest.mark.parametrize("response", [Quadratic(), Halving()])
def test_a_response_from_outside_is_written_like_any_other(response, coding):
    device = dataclasses.replace(get_device("ideal"), response=response)
    array = Crossbar.from_weights(torch.zeros(20, 30), device=device, coding=coding, seed=1)
    before = array.conductance
    array.apply(
        LowRank(-torch.ones(20, 1), torch.ones(1), torch.ones(30, 1)),
        learning_rate=8 / device.levels_up,
    )
    assert 2 * 20 * 30 < array.pulses <= 8 * 20 * 30
    assert bool((array.conductance[0] > before[0]).all())
    assert bool((array.conductance[1] < before[1]).all())
    assert device.trace(up=3, down=0)[-1] > 0.0


def test_a_copy_of_cells_has_memory_of_its_own():
    array = Crossbar.from_weights(torch.zeros(4, 5), device=QUIET)
    array.pulse(torch.ones(2, 4, 5))
    other = copy.deepcopy(array)
    held = array.weights
    other.pulse(-torch.stack([torch.ones(4, 5), torch.zeros(4, 5)]))
    assert torch.equal(array.weights, held) and bool((other.weights < held).all())


def test_a_step_of_other_numbers_is_refused_before_it_runs():
    bank = Cells(torch.zeros(8), QUIET, torch.Generator().manual_seed(0))
    bank.pulse(torch.ones(8))
    state, parameters, nodes, _, *others = bank._arrays
    bank._arrays = state, parameters, nodes, np.zeros(8), *others  # float64 beside float32
    with pytest.raises(TypingError, match="compiled step"):
        bank.pulse(torch.ones(8))
