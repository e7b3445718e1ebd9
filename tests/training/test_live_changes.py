"""Knobs turned between two steps: when they take effect, what is kept, what is refused."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from toolkit.crossbar import Crossbar, DigitalArray, device_names, get_device
from toolkit.training import Experiment


def weights_of(run: Experiment) -> list[torch.Tensor]:
    return [layer.array.weights for layer in run.layers.values()]


def warm(**knobs) -> Experiment:
    run = Experiment(**knobs)
    for _ in range(3):
        run.step()
    return run


CHANGES = [
    ("rank", 7),
    ("batch_size", 100),
    ("block_size", 16),
    ("passes", 2),
    ("history", 0.0),
    ("core", "full"),
    ("method", "svd"),
    ("learning_rate", 0.05),
    ("scheme", "rank-sum"),
    ("device", "EpiRAM"),
    ("nonlinearity_up", 0.5),
    ("nonlinearity_down", -0.5),
    ("cycle_to_cycle", 0.0),
    ("device_to_device", 0.4),
    ("levels", 500),
    ("read_noise", 0.3),
]


OF_ESTIMATORS = [
    ("feedback", "memory_rank", 5),
    ("feedback", "decay", 0.5),
    ("lrt", "unbiased", True),
    ("nmf", "iterations", 1),
    ("power", "error_feedback", True),
]


@pytest.mark.parametrize(("method", "knob", "new"), OF_ESTIMATORS)
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
    pairs = list(zip(weights_of(run), weights_of(other), weights_of(by_hand), strict=True))
    assert all(torch.equal(mine, his) for mine, _, his in pairs)
    assert not all(torch.equal(mine, old) for mine, old, _ in pairs)


def test_former_names_of_knobs_are_understood():
    run = Experiment(past=0.0, hidden=[8])
    run.change(sweeps=2)
    assert (run.history, run.passes) == (0.0, 2)


@pytest.mark.parametrize(("knob", "new"), CHANGES, ids=lambda value: str(value))
def test_a_live_knob_changes_the_next_step_and_is_kept_as_an_event(knob, new):
    run, other = (warm(device="Ag:a-Si", seed=2) for _ in range(2))
    old = getattr(run, knob)
    setattr(run, knob, new)
    assert run.record.events == [(3, knob, old, new)]
    changed, unchanged = run.step(), other.step()
    run.step(), other.step()
    assert asdict(changed) != asdict(unchanged) or not torch.equal(
        weights_of(run)[0], weights_of(other)[0]
    )
    events = run.results()["events"]
    kept = [events[name].values.tolist() for name in ("event_step", "knob", "old", "new")]
    assert kept == [[3], [knob], [json.dumps(old)], [json.dumps(new)]]
    assert json.loads(run.results().attrs["settings"])[knob] == new


def test_the_record_of_the_next_step_shows_the_change():
    run = warm()
    run.rank, run.batch_size, run.learning_rate = 9, 80, 0.125
    record = run.step()
    assert (record.rank, record.batch_size, record.learning_rate) == (9, 80, 0.125)
    training = run.results()["training"]
    assert training["rank"].values.tolist() == [4, 4, 4, 9]
    assert training["batch_size"].values.tolist() == [64, 64, 64, 80]
    assert training["samples_seen"].values.tolist() == [64, 128, 192, 272]


def test_a_rank_above_one_layers_limit_is_clipped_there_and_shown():
    run = warm(rank=4)
    run.rank = 20
    run.step()
    layers = run.results()["layers"]
    assert layers["layer1"]["rank"].values[-1] == 20
    assert layers["layer2"]["rank"].values[-1] == 10
    assert run.layer_rank("layer2") == 10
    sigma = layers["layer1"]["sigma"].values[-1]
    assert np.isfinite(sigma[:20]).all()
    assert np.isnan(sigma[20:]).all()


def test_a_rank_change_keeps_what_was_learned():
    run = warm(seed=1)
    before = run.estimators["layer1"].state_dict()
    run.rank = 6
    after = run.estimators["layer1"]
    assert after.rank == 6
    torch.testing.assert_close(after.state_dict()["left"], before["left"])


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
    assert all(isinstance(layer.array, DigitalArray) for layer in run.layers.values())
    run.device = device
    assert all(isinstance(layer.array, Crossbar) for layer in run.layers.values())
    alike = device == "ideal" or get_device(device).source.startswith("NeuroSim")
    for old, new in zip(before, weights_of(run), strict=True):
        kept = (new - old.clamp(-1, 1)).abs() < 1e-6
        # cells whose range varies from one to the next cannot all hold every weight
        assert bool(kept.all()) if alike else float(kept.float().mean()) > 0.9
    for layer in run.layers.values():
        held = layer.array.conductance
        assert float(held.min()) >= get_device(device).g_min * (1 - 1e-6)
        assert float(held.max()) <= get_device(device).g_max * (1 + 1e-6)
    trained = [run.step().loss for _ in range(2)]
    written = weights_of(run)
    run.device = "digital"
    assert all(map(torch.equal, weights_of(run), written))
    assert np.isfinite(trained).all()


def test_a_nonideality_changes_the_response_and_leaves_the_cells():
    run = warm(device="Ag:a-Si")
    held = [layer.array.conductance for layer in run.layers.values()]
    counts = [layer.array.pulse_count for layer in run.layers.values()]
    run.change(nonlinearity_up=0.0, levels=300, read_noise=0.1)
    for layer, conductance, count in zip(run.layers.values(), held, counts, strict=True):
        torch.testing.assert_close(layer.array.conductance, conductance)
        assert torch.equal(layer.array.pulse_count, count)
        device = layer.array.device
        assert (device.nonlinearity_up, device.nonlinearity_down) == (0.0, -4.88)
        assert (device.levels_up, device.levels_down, device.read_noise) == (300, 300, 0.1)


def test_a_nonideality_is_kept_for_a_later_device_and_none_gives_the_presets_back():
    run = warm()
    run.cycle_to_cycle = 0.25  # plain weights have none
    assert run.nonidealities() == {}
    run.device = "FeFET"
    assert run.nonidealities()["cycle_to_cycle"] == 0.25
    assert run.layers["layer1"].array.device.cycle_to_cycle == 0.25
    run.cycle_to_cycle = None
    assert run.layers["layer1"].array.device.cycle_to_cycle == 0.005


def test_knobs_that_hang_together_change_together():
    run = warm(batch_size=64, block_size=8)
    with pytest.raises(ValueError, match="block_size=8 is above batch_size=4"):
        run.batch_size = 4
    run.change(batch_size=4, block_size=4)
    assert run.step().batch_size == 4
    assert run.record.events == [(3, "batch_size", 64, 4), (3, "block_size", 8, 4)]


def test_a_knob_set_to_its_own_value_is_no_event():
    run = warm(rank=4)
    run.rank = 4
    run.change(rank=4, learning_rate=0.1)
    assert [event[1] for event in run.record.events] == ["learning_rate"]


def test_numbers_of_numpy_are_numbers():
    run = Experiment(rank=np.int64(3), learning_rate=np.float32(0.5), hidden=(np.int32(16),))
    run.step()
    run.rank = np.int16(5)
    run.step()
    assert run.results()["events"]["new"].values.tolist() == ["5"]
    assert json.loads(run.results().attrs["settings"])["hidden"] == [16]


REFUSED = [
    ({"rank": 0}, "rank must be a whole number, 1 to 512; got 0"),
    ({"rank": 66}, r"rank=66 is above min\(m, n\) of every layer; allowed: 1 to 65"),
    ({"rank": 2.0}, "rank must be a whole number, 1 to 512; got 2.0"),
    ({"rank": True}, "rank must be a whole number, 1 to 512; got True"),
    ({"rank": None}, "rank must be a whole number, 1 to 512; got None"),
    ({"batch_size": -1}, "batch_size must be a whole number, 1 to 4096; got -1"),
    ({"batch_size": 1348}, "batch_size=1348 is above the 1347 training samples; allowed: 1 to"),
    ({"block_size": 65}, "block_size=65 is above batch_size=64; allowed: 1 to 64"),
    ({"learning_rate": math.nan}, "learning_rate must be a finite number, above 0.0 to 10.0; got"),
    ({"learning_rate": 0.0}, "learning_rate must be a finite number, above 0.0 to 10.0; got 0.0"),
    ({"learning_rate": "1"}, "learning_rate must be a finite number, above 0.0 to 10.0; got '1'"),
    ({"device": "unobtainium"}, "device must be one of digital, ideal, .*; got 'unobtainium'"),
    ({"method": "adam"}, "method must be one of .*sbpca.*; got 'adam'"),
    ({"scheme": "all"}, "scheme must be one of rank-sequential, rank-sum; got 'all'"),
    ({"levels": 1}, "levels must be a whole number, 2 to 10000; got 1"),
    ({"read_noise": -0.1}, "read_noise must be a finite number, 0.0 to 0.5; got -0.1"),
    ({"nonlinearity_up": 9.5}, "nonlinearity_up must be a finite number, -9.0 to 9.0; got 9.5"),
    ({"cycle_to_cycle": math.inf}, "cycle_to_cycle must be a finite number, 0.0 to 0.5; got inf"),
    ({"seed": 3}, "seed is fixed for the length of a run; live knobs: method, rank"),
    ({"hidden": [3]}, "hidden is fixed for the length of a run"),
    ({"momentum": 0.9}, "unknown knob 'momentum'; allowed: dataset, model"),
]
SHOWN = [str(knobs) for knobs, _ in REFUSED]


@pytest.mark.parametrize(("knobs", "message"), REFUSED, ids=SHOWN)
def test_a_refused_change_says_why_and_changes_nothing(knobs, message):
    run, other = (warm(device="EpiRAM", method="sbpca", seed=9) for _ in range(2))
    settings = run.knob_values()
    with pytest.raises(ValueError, match=message):
        run.change(device="FeFET", **knobs) if "device" not in knobs else run.change(**knobs)
    [(name, value)] = knobs.items()
    with pytest.raises(ValueError, match=message):
        setattr(run, name, value)
    assert run.knob_values() == settings
    assert run.record.events == []
    assert run.step() == other.step()
    assert all(map(torch.equal, weights_of(run), weights_of(other)))


@pytest.mark.parametrize(
    ("knobs", "message"), [pair for pair in REFUSED if not pair[0].keys() & {"seed", "hidden"}]
)
def test_an_experiment_refuses_the_same_at_the_start(knobs, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**knobs)


@pytest.mark.parametrize(
    "knobs", [{"seed": -1}, {"seed": 1.5}, {"w_max": 0.0}, {"hidden": [0]}, {"hidden": 8}]
)
def test_fixed_knobs_are_checked_at_the_start(knobs):
    [(name, value)] = knobs.items()
    with pytest.raises(ValueError, match=f"{name} must be .*got") as caught:
        Experiment(**knobs)
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)
