"""Writes to few cells and to many go other ways through the bank and must do the same."""

import dataclasses

import pytest
import torch

from toolkit.crossbar import JumpTable, PiecewiseStep, PowStep, get_device
from toolkit.crossbar.cells import CellBank
from toolkit.crossbar.devices.jumps import Jumps
from toolkit.crossbar.selection import places_not_zero

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
    bank = CellBank(start.clone(), device, torch.Generator().manual_seed(3))
    bank.pulses.copy_(pulses)
    written = bank.pulse()
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
    banks = [CellBank(start.clone(), device, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert banks[0].is_compiled
    for bank in banks:
        bank.pulses.copy_(pulses)
        written = bank.pulse()
        assert float((bank.state - start).abs().max()) > 0.1
        monkeypatch.setattr(CellBank, "is_compiled", False)
    precision = 1e-4 if dtype == torch.float32 else 1e-12
    assert torch.allclose(banks[0].state, banks[1].state, rtol=0.0, atol=precision)
    assert torch.equal(banks[0].pulse_count, banks[1].pulse_count)
    assert written.longest == (40.0, 40.0)


@pytest.mark.parametrize("cells", [4000, 4001])
@pytest.mark.parametrize("share", SHARES)
def test_places_of_a_mask(share, cells):
    mask = torch.rand(cells, generator=torch.Generator().manual_seed(0)) < share
    assert torch.equal(places_not_zero(mask), mask.nonzero().squeeze(1))
