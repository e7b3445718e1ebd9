"""Experiments on other networks than the mlp, on one's own data, and with the crossbar's knobs."""

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.crossbar import Coincidence, Crossbar, WholePulses
from toolkit.training import Dataset, Experiment
from toolkit.training.experiment.recorder import spectrum


def pictures(samples: int = 240, classes: int = 3) -> Dataset:
    """Stripes of three directions with noise."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, samples)
    grid = np.add.outer(np.zeros(8), np.arange(8))
    stripes = np.stack([np.sin(grid), np.sin(grid.T), np.sin(grid + grid.T)])
    inputs = stripes[labels] + 0.3 * draw.standard_normal((samples, 8, 8))
    return Dataset.from_arrays(inputs[40:], labels[40:], inputs[:40], labels[:40])


class Odd(nn.Module):
    """Groups, a norm, a skip connection and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.last = nn.Linear(4 * 16, 3)

    def forward(self, inputs):
        maps = torch.relu(self.norm(self.first(inputs.view(-1, 1, 8, 8))))
        maps = maps + torch.relu(self.grouped(self.grouped(maps)))
        return self.last(nn.functional.max_pool2d(maps, 2).flatten(1))


@pytest.mark.parametrize("device", ["digital", "EpiRAM"])
def test_any_module_learns(device):
    model = Odd()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = Experiment(
        dataset=pictures(), model=model, device=device, batch_size=20, learning_rate=0.1, rank=3
    )
    losses = [record.loss for record in run.steps(epochs=8)]
    assert list(run.arrays) == ["first", "grouped.group1", "grouped.group2", "last"]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert run.evaluate()[1] > 0.9
    assert not torch.equal(run.network.norm.weight, before["norm.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    tree = run.results()
    assert set(tree["layers"].children) == set(run.arrays)


def test_a_model_of_ones_own_is_copied_before_it_is_moved():
    class Watched(nn.Sequential):
        moves = 0

        def to(self, *place):
            self.moves += 1
            return super().to(*place)

    model = Watched(nn.Linear(64, 10))
    run = Experiment(model=model)
    assert (model.moves, run.network.moves) == (0, 1)


def test_a_convolution_trains_as_torch_does_with_the_full_gradient():
    data, model = pictures(), Odd()
    run = Experiment(dataset=data, model=model, method="sgd", batch_size=20, learning_rate=0.1)
    ours = [run.step().loss for _ in range(10)]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    order = Experiment(dataset=data, model=model, method="sgd", batch_size=20)._order
    theirs = []
    for _ in range(10):
        picked = order.take(20)
        loss = nn.functional.cross_entropy(
            model(data.train_inputs[picked]), data.train_labels[picked]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        theirs.append(loss.item())
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_spectrum_of_many_samples_is_that_of_their_gradient():
    run = Experiment(dataset=pictures(), model=Odd(), method="svd", rank=2, batch_size=20)
    run.step()
    found = run.spectra()["first"]
    errors, activations = (part.double() for part in run.latest()["first"][1:])
    assert len(errors) == 20 * 64
    exact = np.linalg.svd((errors.T @ activations).numpy(), compute_uv=False)
    assert found.singular_value == pytest.approx(exact, rel=1e-9)
    assert found.captured_energy == pytest.approx(
        (exact[:2] ** 2).sum() / (exact**2).sum(), rel=1e-5
    )


def test_condensing_samples_changes_no_spectrum():
    generator = torch.Generator().manual_seed(0)
    run = Experiment(rank=2)
    run.step()
    update, _ = run._latest["layer2"]  # 10 x 129
    few = [torch.randn(5, size, generator=generator) for size in update.shape]
    padding = torch.zeros(30, update.shape[0]), torch.randn(30, update.shape[1])
    many = [torch.cat(parts) for parts in zip(few, padding, strict=True)]
    found, condensed = spectrum(update, *few), spectrum(update, *many)
    assert found.singular_value == pytest.approx(condensed.singular_value, abs=1e-12)
    assert found.captured_energy == pytest.approx(condensed.captured_energy)


def test_block_size_counts_pictures():
    run = Experiment(dataset=pictures(), model=Odd(), block_size=5, batch_size=20)
    run.step()
    assert run.estimators["first"].block_size == 5 * 64
    assert run.estimators["last"].block_size == 5


def test_evaluation_in_parts_is_evaluation_at_once(monkeypatch):
    run = Experiment()
    run.step()
    whole = run.evaluate()
    monkeypatch.setattr("toolkit.training.experiment.run.EVALUATED_AT_ONCE", 64)
    assert run.evaluate() == pytest.approx(whole, rel=1e-6)


def test_the_crossbars_knobs_reach_every_array_and_turn_live():
    knobs = {"dac_bits": 5, "coding": "coincidence", "bit_length": 7, "pair": "reference"}
    run = Experiment(device="EpiRAM", **knobs)
    arrays = list(run.arrays.values())
    assert all(isinstance(array, Crossbar) and array.pair == "reference" for array in arrays)
    assert {array.coding for array in arrays} == {Coincidence(bit_length=7)}
    assert {array.periphery.dac.bits for array in arrays} == {5}
    run.change(dac_bits=None, adc_bits=9, coding="whole pulses", wire_resistance=1.5)
    assert list(run.arrays.values()) == arrays
    assert {(a.periphery.dac.bits, a.periphery.adc.bits) for a in arrays} == {(None, 9)}
    assert {array.wires.ohms for array in arrays} == {(1.5, 1.5)}
    assert all(isinstance(array.coding, WholePulses) for array in arrays)
    run.change(adc_bits=None, wire_resistance=0.0, stuck_low=0.25)
    assert {array.periphery for array in arrays} == {array.wires for array in arrays} == {None}
    share = np.mean([float((array.stuck[0] != 0).float().mean()) for array in arrays])
    assert 0.15 < share < 0.35
    run.device = "FeFET"
    run.change(adc_bits=4)
    assert {array.periphery.adc.bits for array in run.arrays.values()} == {4}


def test_drift_needs_time_to_pass():
    kept, drifting = (
        Experiment(device="EpiRAM", drift=0.1, seconds_per_step=seconds) for seconds in (0.0, 100.0)
    )
    for run in (kept, drifting):
        run.step()
    sums = [float(run.arrays["layer1"].conductance.sum()) for run in (kept, drifting)]
    assert sums[1] < 0.95 * sums[0]


def test_a_processor_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match="torch_device='cuda' is not available"):
        Experiment(torch_device="cuda")
