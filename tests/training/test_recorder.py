"""What a run keeps: everything per step, layer records within bounds and evenly spread."""

import numpy as np
import pytest
import torch

from toolkit.crossbar import DigitalArray
from toolkit.training import Experiment
from toolkit.training.experiment import recorder
from toolkit.training.experiment.recorder import Recorder, Spectrum, StepRecord


def fill(kept: Recorder, offers: int, asks: tuple[int, ...] = ()) -> None:
    """Offer ``offers`` layer records at steps 0, 1, …; ask for a provisional one at ``asks``."""
    array = DigitalArray.from_weights(torch.zeros(2, 3))
    found = Spectrum(1, np.zeros(2), np.zeros(2), 1.0, 1.0, 0.0)
    for step in range(offers):
        if kept.wants_layers():
            kept.layers(step, {"layer1": found}, {"layer1": array})
        if step in asks:
            kept.layers(step, {"layer1": found}, {"layer1": array}, provisional=True)


def steps_of(kept: Recorder) -> np.ndarray:
    layer = kept.layer_dataset("layer1")
    assert layer.sizes["step"] == len(layer["step"])
    return layer["step"].values


@pytest.mark.parametrize("offers", [1, 2, 199, 200, 201, 202, 400, 401, 3777])
def test_records_are_bounded_and_cover_the_past_evenly(offers):
    kept = Recorder(["layer1"])
    fill(kept, offers)
    steps = steps_of(kept)
    assert len(steps) <= recorder.MAX_RECORDS
    assert len(steps) >= min(offers, recorder.MAX_RECORDS // 2)
    assert steps[0] == 0
    assert len(set(np.diff(steps))) <= 1
    stride = np.diff(steps)[0] if len(steps) > 1 else 1
    assert offers - 1 - steps[-1] < stride


def test_records_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(recorder, "MAX_BYTES", 2000)
    kept = Recorder(["layer1"])
    fill(kept, 500)
    steps = steps_of(kept)
    assert 2 <= len(steps) <= 20
    assert len(set(np.diff(steps))) == 1


@pytest.mark.parametrize("count", [1, 9, 10, 11, 12, 20, 21, 22, 1000])
def test_steps_are_bounded_and_cover_the_past_evenly(monkeypatch, count):
    monkeypatch.setattr(recorder, "MAX_STEPS", 10)
    kept = Recorder([])
    for step in range(1, count + 1):
        kept.step(StepRecord(step, 1, 10.0 * step, 0.5, 0.1, 2, 8, 8 * step, 0))
    steps = kept.column("step")
    assert kept.step_count == count
    assert min(count, 5) <= len(steps) <= 12
    assert steps[0] == 1 and steps[-1] == count  # the newest is always there
    assert len(set(np.diff(steps)[:-1])) <= 1
    np.testing.assert_array_equal(kept.column("loss"), 10 * steps)
    np.testing.assert_array_equal(kept.training()["step"], steps)
    again = Recorder([])
    again.load_state_dict(kept.state_dict())
    for one in (kept, again):
        one.step(StepRecord(count + 1, 1, 10.0 * count + 10, 0.5, 0.1, 2, 8, 8 * count + 8, 0))
    np.testing.assert_array_equal(kept.column("step"), again.column("step"))


def test_asking_for_results_leaves_the_records_as_they_were():
    asked, left = Recorder(["layer1"]), Recorder(["layer1"])
    fill(asked, 1001, asks=tuple(range(3, 1000, 7)))
    fill(left, 1001)
    np.testing.assert_array_equal(steps_of(asked), steps_of(left))


def test_results_show_the_present_state_and_do_not_change_the_run():
    run, other = (Experiment(record_every=10, device="EpiRAM") for _ in range(2))
    for _ in range(25):
        run.step(), other.step()
        tree = run.results()
        layer = tree["layers/layer1"]
        assert layer["step"].values[-1] == run.step_count
        np.testing.assert_array_equal(
            layer["weight"].values[-1], run.layers["layer1"].array.weights.numpy()
        )
    assert layer["step"].values.tolist() == [1, 11, 21, 25]
    assert run.results().identical(run.results())
    assert run.results()["layers"].identical(other.results()["layers"])


def test_a_layer_record_is_a_copy():
    run = Experiment(record_every=1)
    run.step()
    before = run.results()["layers/layer1/weight"].values.copy()
    run.step()
    np.testing.assert_array_equal(run.results()["layers/layer1/weight"].values[0], before[0])
    assert (np.diff(run.results()["layers/layer1/weight"].values, axis=0) != 0).any()


def test_records_with_and_without_conductances_go_together():
    run = Experiment(record_every=1, device="digital")
    run.step()
    run.device = "EpiRAM"
    run.step()
    layer = run.results()["layers/layer2"]
    conductance = layer["conductance"]
    assert conductance.dims == ("step", "polarity", "output", "input")
    assert conductance["polarity"].values.tolist() == ["plus", "minus"]
    assert np.isnan(conductance.values[0]).all()
    held = run.layers["layer2"].array.conductance.numpy()
    np.testing.assert_array_equal(conductance.values[1], held)
    assert layer["pulse_count"].values[0].max() == 0
    assert layer["pulse_count"].values[1].sum() > 0
