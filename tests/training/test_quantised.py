"""Quantised training: what the estimator gets, and what a run in few bits learns."""

import math

import pytest
import torch

from toolkit.lowrank import SBPCA
from toolkit.training import Experiment

SMALL = {"hidden": [12], "batch_size": 32}


@pytest.mark.parametrize("bits", [2, 4])
def test_the_estimator_gets_whole_numbers_of_steps(bits, monkeypatch):
    seen, update = [], SBPCA.update

    def recorded(self, errors, activations):
        seen.extend((errors.clone(), activations.clone()))
        return update(self, errors, activations)

    monkeypatch.setattr(SBPCA, "update", recorded)
    run = Experiment(sample_bits=bits, **SMALL)
    run.step()
    assert len(seen) == 4  # errors and activations of two layers
    top = 2 ** (bits - 1) - 1
    for values in seen:
        levels = values / values.abs().amax(1, keepdim=True).clamp(min=1e-30) * top
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        assert bool((levels.abs() > 0.5).any())


def test_bits_change_while_a_run_trains_and_come_back(tmp_path):
    run = Experiment(**SMALL)
    run.step()
    run.sample_bits = 3
    run.step()
    run.checkpoint(tmp_path / "run.ckpt")
    again = Experiment.resume(tmp_path / "run.ckpt")
    assert again.sample_bits == 3 and run.step() == again.step()
    other = Experiment(**SMALL)
    other.step()
    other.step()
    assert run.step().loss != other.step().loss


def test_four_bits_throughout_learn_the_digits():
    """Weights, activations, errors and gradients in steps, as in WAGE (Wu et al. 2018)."""

    def accuracy(**knobs):
        run = Experiment(hidden=[64], learning_rate=0.2, record_every=10_000, **knobs)
        for _ in run.steps(epochs=6):
            pass
        return run.evaluate()[1]

    integers = {"device": "ideal", "levels": 255, "dac_bits": 4, "adc_bits": 6, "sample_bits": 4}
    exact, coarse = accuracy(), accuracy(**integers)
    assert math.isclose(coarse, exact, abs_tol=0.04) and exact > 0.85
