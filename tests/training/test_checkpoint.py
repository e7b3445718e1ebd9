"""A run that goes on from a checkpoint is the run that was never interrupted."""

import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.crossbar import get_device
from toolkit.training import Dataset, Experiment
from toolkit.training.experiment.checkpoint import load_checkpoint, save_checkpoint

RUNS = [
    {},
    {"device": "EpiRAM", "record_every": 3},
    {"method": "feedback", "device": "EcRam", "scheme": "rank-sum"},
    {"method": "nmf", "rank": 2, "device": "PCM", "pair": "one-sided"},
    {"method": "sgd", "device": "EpiRAM", "drift": 0.02, "seconds_per_step": 1.0, "stuck_low": 0.1},
    {"model": "vgg", "learning_rate": 0.1},
    {"model": "lenet", "device": "FeFET", "dac_bits": 6, "adc_bits": 8},
]


def train(run: Experiment, steps: int) -> list[float]:
    """Some steps, with knobs turned on the way."""
    losses = [run.step().loss for _ in range(steps)]
    run.rank = 3
    return losses + [run.step().loss for _ in range(steps)]


@pytest.mark.parametrize("knobs", RUNS, ids=lambda knobs: "-".join(map(str, knobs.values())))
def test_a_resumed_run_has_the_same_bits(tmp_path, knobs):
    run = Experiment(batch_size=32, hidden=[32], **knobs)
    train(run, 3)
    run.checkpoint(tmp_path / "run.ckpt")
    resumed = Experiment.resume(tmp_path / "run.ckpt")
    assert resumed.results()["training"].sizes["step"] == 6  # before any further step
    assert train(resumed, 3) == train(run, 3)
    assert resumed.results().identical(run.results())
    assert resumed.evaluate() == run.evaluate()


def test_a_change_of_device_in_mid_run_is_kept(tmp_path):
    run = Experiment(device="EpiRAM")
    run.step()
    run.device = "FeFET"
    run.step()
    resumed = Experiment.resume(run.checkpoint(tmp_path / "run.ckpt"))
    for one in (run, resumed):
        one.device = "Ag:a-Si"  # draws the cells of a third set of arrays
    assert train(resumed, 3) == train(run, 3)
    assert resumed.pulses == run.pulses


def test_objects_are_asked_for_again(tmp_path):
    inputs, labels = np.random.default_rng(0).random((90, 6)), np.arange(90) % 3
    own = {
        "dataset": Dataset.from_arrays(inputs, labels, inputs, labels),
        "device": get_device("EpiRAM"),
        "model": nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 3)),
    }
    run = Experiment(batch_size=16, rank=2, **own)
    train(run, 2)
    path = run.checkpoint(tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match=r"dataset was arrays, .* resume\(path, dataset=...\)"):
        Experiment.resume(path, device=own["device"], model=own["model"])
    assert train(Experiment.resume(path, **own), 2) == train(run, 2)


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("what", ["cut", "torch", "pickle", "version", "none"])
def test_a_damaged_or_foreign_file_is_refused_and_nothing_in_it_is_run(tmp_path, what):
    trap, path = Trap(tmp_path / "ran"), tmp_path / "run.ckpt"
    error, message = ValueError, "damaged or not a checkpoint"
    if what == "cut":
        Experiment().checkpoint(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif what == "torch":
        torch.save({"version": 1, "state": trap}, path)
    elif what == "pickle":
        path.write_bytes(pickle.dumps(trap))
    elif what == "version":
        torch.save({"version": 99, "state": {}}, path)
        message = "version 99; allowed: 1"
    else:
        error, message = FileNotFoundError, "must be a file"
    with pytest.raises(error, match=message):
        Experiment.resume(path)
    assert not trap.path.exists()


def test_a_checkpoint_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "state.ckpt"
    save_checkpoint({"value": 1, "array": np.arange(3)}, path)
    with pytest.raises(Exception, match=r"pickle|local"):
        save_checkpoint({"value": lambda: None}, path)
    assert load_checkpoint(path)["value"] == 1
    assert load_checkpoint(path)["array"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_the_version_before_still_resumes(tmp_path):
    run = Experiment(dataset="spirals", device="EpiRAM", rank=1, batch_size=64, seed=1)
    run.step()
    saved = run._state()
    for key, value in saved["network"].items():
        if key.endswith("_extra_state"):
            own = ("cells", "reference", "ledger")
            arrays = [{name: array[name] for name in own} for array in value["arrays"]]
            saved["network"][key] = {"arrays": arrays}
    resumed = Experiment.resume(save_checkpoint(saved, tmp_path / "old.pt"))
    for one, other in zip(run.layers.values(), resumed.layers.values(), strict=True):
        assert torch.equal(one.weight, other.weight)
