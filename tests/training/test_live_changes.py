"""Knobs turned between two steps: when they take effect, what is kept, what is refused."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from tests.training.test_experiment import weights_of
from toolkit.crossbar import Crossbar, DigitalArray, device_names, get_device
from toolkit.training import Experiment


def warm(**knobs) -> Experiment:
    run = Experiment(**knobs)
    for _ in range(3):
        run.step()
    return run


CHANGES = {
    **{"rank": 7, "batch_size": 100, "block_size": 16, "passes": 2, "history": 0.0, "core": "full"},
    **{"method": "svd", "learning_rate": 0.05, "scheme": "rank-sum", "device": "EpiRAM"},
    **{"nonlinearity_up": 0.5, "nonlinearity_down": -0.5, "cycle_to_cycle": 0.0},
    **{"device_to_device": 0.4, "levels": 500, "read_noise": 0.3},
}


@pytest.mark.parametrize(("knob", "new"), CHANGES.items(), ids=str)
def test_a_live_knob_changes_the_next_step_and_is_kept_as_an_event(knob, new):
    run, other = (warm(device="Ag:a-Si", seed=2) for _ in range(2))
    old = getattr(run, knob)
    setattr(run, knob, old)  # its own value is no event
    run.change(**{knob: new})
    assert run.record.events == [(3, knob, old, new)]
    changed, unchanged = run.step(), other.step()
    run.step(), other.step()
    alike = torch.equal(weights_of(run)[0], weights_of(other)[0])
    assert asdict(changed) != asdict(unchanged) or not alike
    results = run.results()
    kept = [
        results["events"][name].values.tolist() for name in ("event_step", "knob", "old", "new")
    ]
    assert kept == [[3], [knob], [json.dumps(old)], [json.dumps(new)]]
    assert json.loads(results.attrs["settings"])[knob] == new
    column = {"rank": "rank", "batch_size": "batch_size", "learning_rate": "learning_rate"}.get(
        knob
    )
    if column is not None:
        assert getattr(changed, column) == new
        assert results["training"][column].values.tolist() == [old] * 3 + [new] * 2


@pytest.mark.parametrize(
    ("method", "knob", "new"),
    [
        ("feedback", "memory_rank", 5),
        ("feedback", "decay", 0.5),
        ("lrt", "unbiased", True),
        ("nmf", "iterations", 1),
        ("power", "error_feedback", True),
    ],
)
def test_an_estimators_own_knob_is_live(method, knob, new):
    """As an estimator does in which it was set by hand between the same batches."""
    run, other, by_hand = (warm(method=method, rank=2, hidden=[12]) for _ in range(3))
    setattr(run, knob, new)
    by_hand._optimizer.param_groups[0].pop(knob)
    for estimator in by_hand.estimators.values():
        setattr(estimator, knob, new)
    for one in (run, other, by_hand):
        one.step(), one.step()
    assert run.record.events[0][1:] == (knob, getattr(other, knob), new)
    assert all(map(torch.equal, weights_of(run), weights_of(by_hand)))
    assert not all(map(torch.equal, weights_of(run), weights_of(other)))


def test_former_names_of_knobs_and_numbers_of_numpy_are_understood():
    run = Experiment(
        past=0.0, rank=np.int64(3), learning_rate=np.float32(0.5), hidden=(np.int8(8),)
    )
    run.change(sweeps=np.int16(2))
    run.step()
    assert (run.history, run.passes) == (0.0, 2)
    assert run.results()["events"]["new"].values.tolist() == ["2"]
    assert json.loads(run.results().attrs["settings"])["hidden"] == [8]


def test_a_rank_above_one_layers_limit_is_clipped_there_and_keeps_what_was_learned():
    run = warm(rank=4)
    before = run.estimators["layer1"].state_dict()["left"]
    run.rank = 20
    torch.testing.assert_close(run.estimators["layer1"].state_dict()["left"], before)
    run.step()
    layers = run.results()["layers"]
    assert layers["layer1"]["rank"].values[-1] == 20
    assert layers["layer2"]["rank"].values[-1] == run.layer_rank("layer2") == 10
    sigma = layers["layer1"]["sigma"].values[-1]
    assert np.isfinite(sigma[:20]).all() and np.isnan(sigma[20:]).all()


def test_rank_and_block_size_reach_the_estimator_of_a_later_method():
    run = warm(method="sgd")
    run.change(rank=6, block_size=32)
    run.method = "sbpca"
    estimator = run.estimators["layer1"]
    assert (estimator.rank, estimator.block_size) == (6, 32)
    run.step()
    run.method = "svd"
    run.step()
    assert run.results()["layers/layer1/rank"].values[-1] == 6


@pytest.mark.parametrize("device", device_names())
def test_weights_survive_a_change_of_device(device):
    run = warm(w_max=1.0, seed=6)
    before = weights_of(run)
    assert all(isinstance(array, DigitalArray) for array in run.arrays.values())
    run.device = device
    alike = device == "ideal" or get_device(device).source.startswith("NeuroSim")
    for old, array in zip(before, run.arrays.values(), strict=True):
        assert isinstance(array, Crossbar)
        kept = (array.weights - old.clamp(-1, 1)).abs() < 1e-6
        # cells whose range varies from one to the next cannot all hold every weight
        assert bool(kept.all()) if alike else float(kept.float().mean()) > 0.9
        assert float(array.conductance.min()) >= get_device(device).g_min * (1 - 1e-6)
        assert float(array.conductance.max()) <= get_device(device).g_max * (1 + 1e-6)
    assert np.isfinite([run.step().loss for _ in range(2)]).all()
    written = weights_of(run)
    run.device = "digital"
    assert all(map(torch.equal, weights_of(run), written))


def test_a_nonideality_changes_the_response_and_leaves_the_cells():
    run = warm(device="Ag:a-Si")
    held = [(array.conductance, array.pulse_count) for array in run.arrays.values()]
    run.change(nonlinearity_up=0.0, levels=300, read_noise=0.1)
    for array, (conductance, count) in zip(run.arrays.values(), held, strict=True):
        torch.testing.assert_close(array.conductance, conductance)
        assert torch.equal(array.pulse_count, count)
        device = array.device
        assert (device.nonlinearity_up, device.nonlinearity_down) == (0.0, -4.88)
        assert (device.levels_up, device.levels_down, device.read_noise) == (300, 300, 0.1)


def test_a_nonideality_is_kept_for_a_later_device_and_none_gives_the_presets_back():
    run = warm()
    run.cycle_to_cycle = 0.25  # plain weights have none
    assert run.nonidealities() == {}
    run.device = "FeFET"
    assert run.nonidealities()["cycle_to_cycle"] == 0.25
    assert run.arrays["layer1"].device.cycle_to_cycle == 0.25
    run.cycle_to_cycle = None
    assert run.arrays["layer1"].device.cycle_to_cycle == 0.005


def test_knobs_that_hang_together_change_together():
    run = warm(batch_size=64, block_size=8)
    with pytest.raises(ValueError, match="block_size=8 is above batch_size=4"):
        run.batch_size = 4
    run.change(batch_size=4, block_size=4, rank=4)
    assert run.step().batch_size == 4
    assert run.record.events == [(3, "batch_size", 64, 4), (3, "block_size", 8, 4)]


REFUSED = [
    ("rank", 0, "rank must be a whole number, 1 to 512; got 0"),
    ("rank", 66, r"rank=66 is above min\(m, n\) of every layer; allowed: 1 to 65"),
    ("rank", 2.0, "rank must be a whole number, 1 to 512; got 2.0"),
    ("rank", True, "rank must be a whole number, 1 to 512; got True"),
    ("rank", None, "rank must be a whole number, 1 to 512; got None"),
    ("batch_size", 1348, "batch_size=1348 is above the 1347 training samples; allowed: 1 to"),
    ("block_size", 65, "block_size=65 is above batch_size=64; allowed: 1 to 64"),
    ("learning_rate", math.nan, "learning_rate must be a finite number, above 0.0 to 10.0; got"),
    ("learning_rate", 0.0, "learning_rate must be a finite number, above 0.0 to 10.0; got 0.0"),
    ("learning_rate", "1", "learning_rate must be a finite number, above 0.0 to 10.0; got '1'"),
    ("device", "unobtainium", "device must be one of digital, ideal, .*; got 'unobtainium'"),
    ("device", 3.0, "device must be one of digital, ideal"),
    ("method", "adam", "method must be one of .*sbpca.*; got 'adam'"),
    ("scheme", "all", "scheme must be one of rank-sequential, rank-sum; got 'all'"),
    ("levels", 1, "levels must be a whole number, 2 to 10000; got 1"),
    ("read_noise", -0.1, "read_noise must be a finite number, 0.0 to 0.5; got -0.1"),
    ("nonlinearity_up", 9.5, "nonlinearity_up must be a finite number, -9.0 to 9.0; got 9.5"),
    ("cycle_to_cycle", math.inf, "cycle_to_cycle must be a finite number, 0.0 to 0.5; got inf"),
    ("seed", 3, "seed is fixed during a run; live knobs: method, rank"),
    ("hidden", [3], "hidden is fixed during a run"),
    ("momentum", 0.9, "unknown knob 'momentum'; allowed: dataset, model"),
]


@pytest.mark.parametrize(("knob", "value", "message"), REFUSED)
def test_a_refused_change_says_why_and_changes_nothing(knob, value, message):
    run, other = (warm(device="EpiRAM", method="sbpca", seed=9) for _ in range(2))
    settings = run.knob_values()
    with pytest.raises(ValueError, match=message):
        run.change(**{"device": "FeFET", knob: value})
    with pytest.raises(ValueError, match=message):
        setattr(run, knob, value)
    assert run.knob_values() == settings
    assert run.record.events == []
    assert run.step() == other.step()
    assert all(map(torch.equal, weights_of(run), weights_of(other)))
    if "is fixed" not in message:  # the same at the start
        with pytest.raises(ValueError, match=message):
            Experiment(**{knob: value})


@pytest.mark.parametrize(
    ("knob", "value"), [("seed", -1), ("seed", 1.5), ("w_max", 0.0), ("hidden", [0]), ("hidden", 8)]
)
def test_fixed_knobs_are_checked_at_the_start(knob, value):
    with pytest.raises(ValueError, match=f"{knob} must be .*got") as caught:
        Experiment(**{knob: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)
