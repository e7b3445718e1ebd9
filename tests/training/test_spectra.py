"""Spectra and energies of a run against torch's dense SVD of the dense gradient in float64."""

import numpy as np
import pytest
import torch

from toolkit.lowrank import LowRank
from toolkit.training import Experiment
from toolkit.training.experiment.recorder import spectrum


def dense(run: Experiment, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient and estimate of the last step as float64 matrices."""
    update, samples = run._latest[name]
    ((errors, activations),) = samples()
    estimate = update.left.double() @ torch.diag(update.sigma.double()) @ update.right.double().T
    return errors.double().T @ activations.double(), estimate


def brute_angle(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest principal angle in degrees, from the difference of projectors: |P - Q|_2 = sin."""
    p, q = (torch.linalg.qr(side)[0] for side in (first, second))
    sine = torch.linalg.matrix_norm(p @ p.T - q @ q.T, 2).clamp(max=1)
    return float(torch.rad2deg(torch.asin(sine)))


@pytest.mark.parametrize("method", ["sbpca", "svd"])
@pytest.mark.parametrize("device", ["digital", "EpiRAM"])
def test_spectra_are_those_of_the_dense_gradient(method, device):
    run = Experiment(method=method, device=device, rank=3, seed=8)
    for _ in range(12):
        run.step()
    for name, found in run.spectra().items():
        gradient, estimate = dense(run, name)
        u, s, vh = torch.linalg.svd(gradient)
        values = torch.linalg.svdvals(gradient).numpy()
        np.testing.assert_allclose(found.singular_value, values, atol=1e-10 * values[0])
        energy = float(gradient.square().sum())
        captured = 1 - float((gradient - estimate).square().sum()) / energy
        assert found.captured_energy == pytest.approx(captured, abs=1e-10)
        assert found.optimal_energy == pytest.approx(float(s[:3].square().sum()) / energy)
        assert found.captured_energy <= found.optimal_energy + 1e-6
        update = run._latest[name][0]
        sides = ((update.left.double(), u[:, :3]), (update.right.double(), vh[:3].T))
        angle = max(brute_angle(*side) for side in sides)
        assert found.largest_angle == pytest.approx(angle, abs=1e-4)
        assert found.rank == 3
        ordered = np.sort(update.sigma.numpy())[::-1]
        np.testing.assert_array_equal(found.sigma[:3], ordered)
        assert np.isnan(found.sigma[3:]).all()


@pytest.mark.parametrize("batch_size", [4, 64, 500])
def test_the_full_gradient_captures_all(batch_size):
    run = Experiment(method="sgd", batch_size=batch_size, block_size=4)
    for _ in range(3):
        run.step()
    for name, found in run.spectra().items():
        assert found.captured_energy == pytest.approx(1.0, abs=1e-6)
        assert found.optimal_energy == pytest.approx(1.0)
        assert found.rank == min(batch_size, *run._shapes[name])
        filled = np.isfinite(found.sigma)
        assert filled.sum() >= found.rank


def test_svd_is_the_optimum():
    run = Experiment(method="svd", rank=5)
    for _ in range(5):
        run.step()
    for found in run.spectra().values():
        assert found.captured_energy == pytest.approx(found.optimal_energy, abs=1e-6)
        assert found.largest_angle < 0.1
        np.testing.assert_allclose(found.sigma[:5], found.singular_value[:5], rtol=1e-4)


def test_a_gradient_of_zero_has_no_energy_to_speak_of():
    update = LowRank(torch.eye(4, 2), torch.zeros(2), torch.eye(6, 2))
    found = spectrum(update, torch.zeros(8, 4), torch.ones(8, 6))
    assert found.singular_value.tolist() == [0.0] * 4
    assert np.isnan([found.captured_energy, found.optimal_energy, found.largest_angle]).all()


def test_no_spectrum_before_the_first_step():
    assert Experiment().spectra() == {}


def test_results_hold_the_spectra_of_their_steps():
    run = Experiment(record_every=5, seed=1)
    seen = {}
    for _ in range(11):
        record = run.step()
        seen[record.step] = run.spectra()
    for name in run.layers:
        layer = run.results()["layers"][name].to_dataset()
        assert layer["step"].values.tolist() == [1, 6, 11]
        for step in (1, 6, 11):
            row = layer.isel(step=layer["step"].values.tolist().index(step))
            for variable, value in vars(seen[step][name]).items():
                np.testing.assert_array_equal(row[variable], value)
