"""A device of one's own travels whole in results, checkpoints, stores and sweeps."""

import argparse
import json
from dataclasses import replace

import pytest

from toolkit.crossbar import Device, add_device, get_device, open_device
from toolkit.crossbar.devices import presets
from toolkit.fitting import EXAMPLE_CSV, fit_csv
from toolkit.results import open_results
from toolkit.training import Experiment, stored_devices, sweep
from toolkit.training.experiment.knobs import add_arguments
from toolkit.training.experiment.settings import DIGITAL, Settings
from toolkit.training.experiment.sweep import plan_of
from toolkit.training.live.live_run import LiveRun


@pytest.fixture(scope="module")
def fitted() -> Device:
    return fit_csv(EXAMPLE_CSV, name="measured cell").device


@pytest.fixture
def listed(fitted, monkeypatch) -> Device:
    """The device in the list, for this test."""
    monkeypatch.setattr(presets, "_DEVICES", dict(presets._DEVICES))
    add_device(fitted)
    return fitted


def whole(one: Device, other: Device) -> bool:
    return one == other and one.provenance == other.provenance


def run_with(device, **knobs) -> Experiment:
    return Experiment(dataset="gaussians", hidden=[4], rank=2, device=device, **knobs)


def test_a_fitted_device_says_where_it_comes_from_and_keeps_it_in_its_file(fitted, tmp_path):
    assert fitted.provenance["file"] == EXAMPLE_CSV.name
    assert {"sha256", "model", "parameters", "errors"} <= set(fitted.provenance)
    fit = fit_csv(EXAMPLE_CSV, name="measured cell")
    fit.save(tmp_path / "cell.yaml")
    back = open_device(tmp_path / "cell.yaml")
    assert back == fitted == replace(fitted, provenance=None)
    assert {k: back.provenance[k] for k in fitted.provenance} == dict(fitted.provenance)
    assert "provenance" not in repr(back)


def test_a_device_that_was_added_is_known_by_its_name_everywhere(fitted, monkeypatch):
    monkeypatch.setattr(presets, "_DEVICES", dict(presets._DEVICES))
    run = run_with("EpiRAM")  # before the device is in the list
    with pytest.raises(ValueError, match="device must be one of digital, ideal"):
        run_with(fitted.name)
    add_device(fitted)
    assert run_with(fitted.name).device == fitted.name
    run.device = fitted.name
    run.step()
    assert whole(stored_devices(run.results())[0], fitted)
    assert fitted.name in Settings.param["device"].objects
    assert fitted.name in add_words()
    with pytest.raises(ValueError, match=f"device must be one of .*{fitted.name} or a Device"):
        run_with("nobody's")


def add_words() -> str:
    """What ``train --help`` says of the knobs."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings)
    return parser.format_help()


@pytest.mark.parametrize("kind", ["object", "name"])
@pytest.mark.parametrize("suffix", ["nc", "zarr", "stream"])
def test_result_files_hold_it_whole(listed, tmp_path, kind, suffix):
    run = run_with(listed if kind == "object" else listed.name)
    path = tmp_path / ("run.zarr" if suffix == "stream" else f"run.{suffix}")
    if suffix == "stream":
        with run.stream(path):
            run.step()
    else:
        run.step()
        run.save(path)
    (back,) = stored_devices(open_results(path))
    assert whole(back, listed)
    assert stored_devices(run_with("EpiRAM").results()) == []


def test_every_device_that_a_run_had_is_in_its_file(listed):
    other = replace(listed, name="another", levels_up=50.0)
    run = run_with("EpiRAM")
    run.step()
    for device in (listed, other, "FeFET", listed):
        run.device = device
        run.step()
    found = stored_devices(run.results())
    assert len(found) == 2 and whole(found[0], listed) and whole(found[1], other)


def test_a_live_run_by_name_holds_it_whole(listed):
    live = LiveRun(dataset="gaussians", hidden=[4], rank=2, device=listed.name)
    try:
        (back,) = stored_devices(live.results())
    finally:
        live.close()
    assert whole(back, listed)


@pytest.mark.parametrize("kind", ["object", "name"])
def test_a_checkpoint_gives_back_the_same_device(listed, tmp_path, kind):
    run = run_with(listed if kind == "object" else listed.name)
    list(run.steps(epochs=1))
    path = run.checkpoint(tmp_path / "run.ckpt")
    again = Experiment.resume(path)
    straight = [record.loss for record in run.steps(epochs=1)]
    assert [record.loss for record in again.steps(epochs=1)] == straight
    # elsewhere: the list has no such device, or another one of that name
    del presets._DEVICES[listed.name]
    for other in (None, replace(listed, levels_up=3.0)):
        if other is not None:
            add_device(other)
        back = Experiment.resume(path)
        assert whole(back.device, listed)
        assert [record.loss for record in back.steps(epochs=1)] == straight
        assert whole(stored_devices(back.results())[0], listed)
    with pytest.raises(ValueError, match=r"state must be of an array with device.levels_up"):
        Experiment.resume(path, device=replace(listed, levels_up=3.0))


def test_a_checkpoint_after_a_change_of_device_resumes(fitted, tmp_path):
    run = run_with("EpiRAM")
    run.step()
    run.device = fitted
    run.step()
    back = Experiment.resume(run.checkpoint(tmp_path / "run.ckpt"))
    assert back.step() == run.step()
    assert whole(back.device, fitted)
    assert whole(stored_devices(back.results())[0], fitted)


def test_a_sweep_holds_it_whole_and_refuses_another_of_its_name(fitted, tmp_path):
    other = replace(fitted, name="few levels", levels_up=6.0, levels_down=6.0)
    grid = {"dataset": "gaussians", "hidden": [4], "rank": 2, "device": [fitted, "EpiRAM", other]}
    out = tmp_path / "sweep.zarr"
    found = sweep(grid, out=out, workers=1, progress=False)
    assert set(found.device.values) == {"measured cell", "EpiRAM", "few levels"}
    assert (found.status == 1).all()
    run = run_with(fitted, record_every=100_000)
    list(run.steps(epochs=1))
    measured = found.sel(device="measured cell").isel(epoch=0, seed=0)
    assert float(measured.test_loss) == run.evaluate()[0]
    assert all(map(whole, stored_devices(found), (fitted, other)))
    assert all(map(whole, stored_devices(open_results(out)), (fitted, other)))
    changed = grid | {"device": [replace(fitted, levels_up=9.0), "EpiRAM", other]}
    with pytest.raises(ValueError, match="holds another sweep"):
        sweep(changed, out=out, progress=False)


def test_a_plan_by_name_holds_the_listed_device(listed):
    plan = plan_of({"device": listed.name})
    ((_, knobs),) = plan.runs()
    assert whole(knobs["device"], listed)
    assert json.loads(plan.as_json())["devices"].keys() == {listed.name}


class Own(type(get_device("EpiRAM").response)):
    """A response that files cannot hold."""


def test_what_cannot_be_stored_or_told_apart_is_refused(fitted, tmp_path):
    two = [fitted, replace(fitted, levels_up=9.0)]
    with pytest.raises(ValueError, match="device must have one device by a name; got two"):
        plan_of({"device": two})
    for name in ("EpiRAM", DIGITAL):
        with pytest.raises(ValueError, match=f"device must be given by name .*'{name}' is taken"):
            plan_of({"device": replace(fitted, name=name)})
    with pytest.raises(ValueError, match="device must have a name of its own; 'digital' is taken"):
        add_device(replace(fitted, name=DIGITAL))
    own = Device(name="own", g_min=1e-6, g_max=1e-5, levels_up=50, levels_down=50, response=Own())
    with pytest.raises(ValueError, match="a Own cannot be written"):
        plan_of({"device": own})
    run = run_with(own)
    run.step()
    assert stored_devices(run.results()) == []
    with pytest.raises(ValueError, match=r"device was own, .* pass it again"):
        Experiment.resume(run.checkpoint(tmp_path / "run.ckpt"))


@pytest.mark.parametrize("text", ["[", "3", '["{"]', '["3"]', '["{\\"name\\": 3}"]', "[" * 10_000])
def test_a_damaged_list_of_devices_is_refused(text):
    tree = run_with("EpiRAM").results()
    tree.attrs["devices"] = text
    with pytest.raises(ValueError, match=r"results must hold devices|stored device cannot be read"):
        stored_devices(tree)
