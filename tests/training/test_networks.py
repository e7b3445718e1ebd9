"""A run's network, gradients and spectra against torch: the mlp, other networks, other data."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from toolkit.crossbar import Coincidence, Crossbar, WholePulses
from toolkit.lowrank import LowRank
from toolkit.training import Dataset, Experiment, load_dataset, to_digital
from toolkit.training.experiment.recorder import spectrum


def pictures(samples: int = 240) -> Dataset:
    """Stripes of three directions with noise."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, samples)
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


def odd(**knobs) -> Experiment:
    knobs = {"batch_size": 20, "learning_rate": 0.1, "rank": 3, **knobs}
    return Experiment(dataset=pictures(), model=Odd(), **knobs)


def mlp(**knobs) -> Experiment:
    return Experiment(**{"batch_size": 32, "learning_rate": 0.4, "seed": 5, **knobs})


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "data"), [(mlp, load_dataset("digits")), (odd, pictures())])
def test_sgd_is_torchs_sgd(make, data):
    run, knobs = make(method="sgd", device="digital"), make()
    model, order = to_digital(run.network), knobs._order
    optimiser = torch.optim.SGD(model.parameters(), lr=knobs.learning_rate)
    for _ in range(45):  # past an epoch: the second permutation too
        picked = order.take(knobs.batch_size)
        loss = functional.cross_entropy(model(data.train_inputs[picked]), data.train_labels[picked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert run.step().loss == pytest.approx(loss.item(), rel=1e-4)
    found = to_digital(run.network).state_dict()
    torch.testing.assert_close(found, model.state_dict(), atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        scores = model.eval()(data.test_inputs)
    loss, accuracy = run.evaluate()
    assert loss == pytest.approx(float(functional.cross_entropy(scores, data.test_labels)), 1e-4)
    assert accuracy == pytest.approx(float((scores.argmax(1) == data.test_labels).float().mean()))


@pytest.mark.parametrize("device", ["digital", "EpiRAM"])
def test_any_module_learns_and_the_one_given_is_left_alone(device):
    run = odd(device=device)
    losses = [record.loss for record in run.steps(epochs=6)]
    assert list(run.arrays) == ["first", "grouped.group1", "grouped.group2", "last"]
    assert set(run.results()["layers"].children) == set(run.arrays)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert run.evaluate()[1] > 0.9
    assert not torch.equal(run.network.norm.weight, torch.ones(4))

    class Watched(nn.Sequential):
        moves = 0

        def to(self, *place):
            self.moves += 1
            return super().to(*place)

    model = Watched(nn.Linear(64, 10))
    before = model[0].weight.detach().clone()
    run = Experiment(model=model, device=device)
    run.step()
    assert (model.moves, run.network.moves) == (0, 1)
    assert torch.equal(model[0].weight, before)


def test_block_size_counts_pictures():
    run = odd(block_size=5)
    run.step()
    assert run.estimators["first"].block_size == 5 * 64
    assert run.estimators["last"].block_size == 5


def test_evaluation_in_parts_is_evaluation_at_once(monkeypatch):
    run = Experiment()
    whole = run.evaluate()
    monkeypatch.setattr("toolkit.training.experiment.objective.EVALUATED_AT_ONCE", 64)
    assert run.evaluate() == pytest.approx(whole, rel=1e-6)


# --- the crossbars' knobs -----------------------------------------------------------------------


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
    sums = []
    for seconds in (0.0, 100.0):
        run = Experiment(device="EpiRAM", drift=0.1, seconds_per_step=seconds)
        run.step()
        sums.append(float(run.arrays["layer1"].conductance.sum()))
    assert sums[1] < 0.95 * sums[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
def test_a_processor_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="torch_device='cuda' is not available"):
        Experiment(torch_device="cuda")


# --- spectra ------------------------------------------------------------------------------------


def brute_angle(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest principal angle in degrees, from the difference of projectors: |P - Q|_2 = sin."""
    p, q = (torch.linalg.qr(side)[0] for side in (first, second))
    sine = torch.linalg.matrix_norm(p @ p.T - q @ q.T, 2).clamp(max=1)
    return float(torch.rad2deg(torch.asin(sine)))


@pytest.mark.parametrize(
    ("make", "method", "device"),
    [
        (mlp, "sbpca", "digital"),
        (mlp, "svd", "EpiRAM"),
        (mlp, "sgd", "EpiRAM"),
        (odd, "sbpca", "EpiRAM"),
        (odd, "svd", "digital"),
        (odd, "sgd", "digital"),
    ],
)
def test_spectra_are_those_of_the_dense_gradient(make, method, device):
    """Against torch's dense SVD of the dense gradient in float64; in a convolution too."""
    run = make(method=method, device=device, rank=3, batch_size=20)
    for _ in range(6):
        run.step()
    for name, found in run.spectra().items():
        update, samples = run._latest[name]
        ((errors, activations),) = ((e.double(), a.double()) for e, a in [run.latest()[name][1:]])
        assert len(samples()[0][0]) == len(errors)
        gradient = errors.T @ activations
        estimate = update.left.double() * update.sigma.double() @ update.right.double().T
        u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
        count = len(found.singular_value)
        close = {"rtol": 0, "atol": 1e-10 * s[0]}
        np.testing.assert_allclose(found.singular_value, s[:count], **close)
        energy = float(gradient.square().sum())
        captured = 1 - float((gradient - estimate).square().sum()) / energy
        assert found.captured_energy == pytest.approx(captured, abs=1e-10)
        optimum = float(s[: found.rank].square().sum()) / energy
        assert found.optimal_energy == pytest.approx(optimum)
        assert found.captured_energy <= found.optimal_energy + 1e-6
        if method != "sgd":  # whose outer products are no directions
            rank = min(3, *update.shape)
            sides = (update.left.double(), u[:, :rank]), (update.right.double(), vh[:rank].T)
            angle = max(brute_angle(*side) for side in sides)
            assert found.largest_angle == pytest.approx(angle, abs=1e-4)
            assert found.rank == rank
            np.testing.assert_array_equal(found.sigma[:rank], update.sigma.sort(descending=True)[0])
            assert np.isnan(found.sigma[rank:]).all()
        if method == "svd":  # the optimum
            assert found.captured_energy == pytest.approx(found.optimal_energy, abs=1e-6)
            # a direction of no length has no angle
            assert found.largest_angle < 0.1 or s[found.rank - 1] < 1e-6 * s[0]


@pytest.mark.parametrize("batch_size", [4, 64, 500])
def test_the_full_gradient_captures_all(batch_size):
    run = Experiment(method="sgd", batch_size=batch_size, block_size=4)
    run.step()
    for name, found in run.spectra().items():
        assert found.captured_energy == pytest.approx(1.0, abs=1e-6)
        assert found.optimal_energy == pytest.approx(1.0)
        assert found.rank == min(batch_size, *run._shapes[name])
        assert np.isfinite(found.sigma).sum() >= found.rank


def test_a_gradient_of_zero_has_no_energy_to_speak_of():
    update = LowRank(torch.eye(4, 2), torch.zeros(2), torch.eye(6, 2))
    found = spectrum(update, torch.zeros(8, 4), torch.ones(8, 6))
    assert found.singular_value.tolist() == [0.0] * 4
    assert np.isnan([found.captured_energy, found.optimal_energy, found.largest_angle]).all()
    assert Experiment().spectra() == {}  # before the first step


def test_results_hold_the_spectra_of_their_steps():
    run, seen = Experiment(record_every=5, seed=1), {}
    for _ in range(11):
        step = run.step().step
        seen[step] = run.spectra()
    for name in run.layers:
        layer = run.results()["layers"][name].to_dataset()
        assert layer["step"].values.tolist() == [1, 6, 11]
        for step in (1, 6, 11):
            row = layer.sel(step=step)
            for variable, value in vars(seen[step][name]).items():
                np.testing.assert_array_equal(row[variable], value)


def test_a_model_for_other_inputs_has_not_diverged():
    run = Experiment(dataset="gaussians", model=nn.Linear(5, 4), rank=1)
    with pytest.raises(ValueError, match=r"^input must have shape \(\.\.\., 5\); got \(64, 2\)"):
        run.step()
