"""A run in its worker thread: requests are taken up, refusals are told, and it ends cleanly."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.training.experiment.live import LiveRun
from toolkit.training.experiment.run_limit import RunLimit

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


@pytest.fixture
def live() -> Iterator[LiveRun]:
    run = LiveRun(hidden=[16], seed=0)
    yield run
    run.close()
    assert not run.alive


def message(run: LiveRun) -> str:
    return run.messages.get(timeout=20)


def test_a_new_run_waits(live):
    assert (live.snapshot.step, live.snapshot.running) == (0, False)
    assert live.snapshot.layers["layer1"].spectrum is None
    assert live.snapshot.views == {}
    time.sleep(0.1)
    assert live.snapshot.step == 0


def test_start_and_pause(live):
    live.start()
    until(lambda: live.snapshot.step > 50)
    assert live.snapshot.running
    live.pause()
    until(lambda: not live.snapshot.running)
    stopped = live.snapshot
    time.sleep(0.1)
    assert live.snapshot.step == stopped.step
    assert stopped.loss_steps[-1] == stopped.step
    assert np.isfinite(stopped.losses).all()
    assert stopped.losses[-1] < stopped.losses[0]
    assert len(stopped.evaluations) == int(stopped.epoch)
    live.start()
    until(lambda: live.snapshot.step > stopped.step)


def test_changes_while_running_take_effect(live):
    live.start()
    until(lambda: live.snapshot.step > 5)
    live.change(rank=9)
    live.change(batch_size=32, learning_rate=0.05)
    live.change(device="EpiRAM")
    until(lambda: live.snapshot.knobs["device"] == "EpiRAM" and live.snapshot.pulses > 0)
    now = live.snapshot
    assert now.running
    assert [event[1:] for event in now.events] == [
        ("rank", 4, 9),
        ("batch_size", 64, 32),
        ("learning_rate", 0.3, 0.05),
        ("device", "digital", "EpiRAM"),
    ]
    assert now.layer_ranks == {"layer1": 9, "layer2": 9}
    assert now.nonidealities["levels"] == 64
    assert [turned for _, turned in now.changes] == [
        {"rank": 9},
        {"batch_size": 32, "learning_rate": 0.05},
        {"device": "EpiRAM"},
    ]
    assert now.first_knobs["rank"] == 4
    training = live.results()["training"]
    step = now.events[0][0]
    assert training["rank"].values[step - 1 : step + 1].tolist() == [4, 9]
    assert live.messages.empty()


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"rank": 0}, "rank must be a whole number"),
        ({"block_size": 65}, "block_size=65 is above batch_size=64"),
        ({"device": "stone"}, "device must be one of"),
        ({"momentum": 1}, "unknown knob 'momentum'"),
    ],
)
def test_a_refused_change_is_told_and_the_run_goes_on(live, knobs, text):
    live.start()
    live.change(**knobs)
    assert text in message(live)
    step = live.snapshot.step
    until(lambda: live.snapshot.step > step)
    assert live.snapshot.running
    assert live.snapshot.events == []
    assert live.messages.empty()


def test_one_step_at_a_time(live):
    for expected in (1, 2, 3):
        live.step()
        until(lambda wanted=expected: live.snapshot.step == wanted)
    assert not live.snapshot.running
    live.start()
    until(lambda: live.snapshot.step > 10)
    live.step()
    until(lambda: not live.snapshot.running)
    step = live.snapshot.step
    time.sleep(0.05)
    assert live.snapshot.step == step


def test_reset_begins_anew_with_the_present_knobs_and_those_given(live):
    live.change(rank=7)
    live.start()
    until(lambda: live.snapshot.step > 5)
    live.reset(seed=5)
    until(lambda: live.snapshot.step == 0)
    assert not live.snapshot.running
    assert (live.snapshot.knobs["rank"], live.snapshot.knobs["seed"]) == (7, 5)
    assert live.snapshot.events == []
    live.start()
    until(lambda: live.snapshot.step > 5)
    live.reset(rank=0)
    assert "rank must be" in message(live)
    until(lambda: live.snapshot.step > 10)
    assert live.snapshot.running


def test_a_live_run_is_the_same_run(live):
    """The thread adds nothing: bit for bit what an Experiment does."""
    from toolkit.training import Experiment

    for _ in range(4):
        live.step()
    run = Experiment(hidden=[16], seed=0)
    for _ in range(4):
        run.step()
    for name, layer in live.results()["layers"].items():
        np.testing.assert_array_equal(
            layer["weight"].values[-1], run.layers[name].array.weights.numpy()
        )


def test_snapshots_are_copies(live):
    live.look("layer2", {"weight": lambda look: look.array.weights})
    live.step()
    until(lambda: live.snapshot.step == 1)
    first = live.snapshot
    weight = first.views["weight"].clone()
    assert first.focus.layer == "layer2" and weight.shape == (10, 17)
    live.start()
    until(lambda: live.snapshot.step > 20)
    assert torch.equal(first.views["weight"], weight)
    assert live.snapshot.number > first.number
    assert live.snapshot.layers["layer1"].spectrum.captured_energy <= 1.0


def test_a_long_past_is_shown_in_few_points(live):
    live.start()
    until(lambda: live.snapshot.step > 900, seconds=60)
    now = live.snapshot
    assert len(now.losses) == len(now.loss_steps) <= 800
    assert now.loss_steps[-1] == now.step


def test_divergence_pauses_and_keeps_the_results():
    live = LiveRun(hidden=[128] * 3, learning_rate=10.0, batch_size=8, method="sgd")
    try:
        live.start()
        assert "diverged" in message(live)
        until(lambda: not live.snapshot.running)
        assert live.alive
        results = live.results()
        assert results["training"].sizes["step"] == live.snapshot.step > 0
        time.sleep(0.1)
        assert live.messages.empty()  # said once
        assert live.snapshot.diverged
        step = live.snapshot.step
        for again in (live.step, live.start):
            again()
            assert "diverged" in message(live)
        assert live.snapshot.step == step
        live.reset(learning_rate=0.1)
        live.start()
        until(lambda: live.snapshot.step > 5 and live.snapshot.running)
    finally:
        live.close()
    assert not live.alive


def test_runs_that_share_a_gate_take_turns():
    limit = RunLimit(1)
    runs = [LiveRun(limit=limit, hidden=[16]) for _ in range(3)]
    first, second, third = runs
    try:
        first.start()
        until(lambda: first.snapshot.step > 3)
        second.start()
        until(lambda: second.snapshot.waiting == 1)
        third.start()
        until(lambda: third.snapshot.waiting == 2)
        third.step()  # a single step, which also pauses, takes a place like any other
        until(lambda: not third.messages.empty())
        assert third.messages.get() == "1 runs train already: step a little later."
        assert third.snapshot.step == 0
        assert second.snapshot.step == 0 and second.snapshot.running
        third.start()
        first.close()
        until(lambda: second.snapshot.step > 3 and third.snapshot.waiting == 1)
        assert second.snapshot.waiting == 0
        second.pause()
        until(lambda: third.snapshot.step > 3)
    finally:
        for run in runs:
            run.close()
    with pytest.raises(ValueError, match="most must be at least 1; got 0"):
        RunLimit(0)


def test_shifts_go_round_and_few_work_abreast():
    limit, done, inside = RunLimit(8, threads=2), [0] * 4, []

    def work(number: int) -> None:
        me = object()
        while sum(done) < 80:
            with limit.shift(me):
                inside.append(len(limit._began))
                time.sleep(0.002)
                done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert max(inside) == 2
    assert max(done) - min(done) <= 4, done


def test_long_steps_leave_others_their_share():
    limit = RunLimit(8)
    slow = {"device": "ReRamES", "w_max": 0.01, "learning_rate": 10.0, "levels": 10_000}
    runs = [LiveRun(limit=limit, hidden=[1000, 900], **slow) for _ in range(2)]
    runs.append(LiveRun(limit=limit, hidden=[16]))
    try:
        for run in runs:
            run.start()
        until(lambda: runs[2].snapshot.step > 0)
        before = dict(limit._worked)
        time.sleep(3)
        worked = [limit._worked[run._ticket] - before[run._ticket] for run in runs]
        assert min(worked) > 0.5 * max(worked), worked
        began = time.monotonic()
        runs[0].close()
        assert time.monotonic() - began < 2.0, "it ended within a step of several seconds"
    finally:
        for run in runs:
            run.close()


def test_work_that_cannot_change_shifts_keeps_nobody_waiting():
    limit, ended = RunLimit(8, threads=2), threading.Event()

    def hang() -> None:
        with limit.shift(object()):
            ended.wait(20)

    threads = [threading.Thread(target=hang) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(limit._began) == 2)
    began = time.monotonic()
    with limit.shift(object()):
        waited = time.monotonic() - began
    ended.set()
    for thread in threads:
        thread.join(20)
    assert waited < 5.0


def test_steps_that_wait_end_with_the_run():
    run = LiveRun(hidden=[16])
    for _ in range(100_000):
        run.step()
    began = time.monotonic()
    run.close()
    assert not run.alive and time.monotonic() - began < 4.0


def test_runs_that_train_together_get_on_alike():
    limit = RunLimit(8)
    runs = [LiveRun(limit=limit, hidden=[16], seed=seed) for seed in range(6)]
    try:
        for run in runs:
            run.start()
        until(lambda: min(run.snapshot.step for run in runs) > 5)
        first = [run.snapshot.step for run in runs]
        assert limit.training == 6
        until(lambda: min(run.snapshot.step for run in runs) > 300, 60)
        last = [run.snapshot.step for run in runs]
    finally:
        for run in runs:
            run.close()
    steps = [late - early for early, late in zip(first, last, strict=True)]
    assert max(steps) < 2 * min(steps), steps
    assert limit.training == 0


def test_a_speed_limit_holds_and_can_be_lifted(live):
    live.limit_speed(20)
    live.start()
    until(lambda: live.snapshot.step > 0)
    begun, step = time.monotonic(), live.snapshot.step
    time.sleep(0.5)
    assert live.snapshot.step - step <= 20 * (time.monotonic() - begun) + 2
    live.change(rank=5)
    until(lambda: live.snapshot.knobs["rank"] == 5, seconds=2)
    live.limit_speed(None)
    until(lambda: live.snapshot.step > 100)
    with pytest.raises(ValueError, match="steps_per_second must be above 0"):
        live.limit_speed(0)


def test_an_error_in_training_pauses_instead_of_repeating_itself(live, monkeypatch):
    def broken() -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(live._experiment, "_train_on_batch", broken)
    live.start()
    assert message(live) == "out of memory"
    until(lambda: not live.snapshot.running)
    time.sleep(0.1)
    assert live.messages.empty()
    assert live.alive


def test_bad_knobs_are_refused_at_once():
    with pytest.raises(ValueError, match="rank must be"):
        LiveRun(rank=0)


def test_close_stops_the_thread_also_twice_and_while_training():
    live = LiveRun(hidden=[16])
    live.start()
    until(lambda: live.snapshot.step > 3)
    live.close()
    assert not live.alive
    step = live.snapshot.step
    live.close()
    assert live.snapshot.step == step
    with pytest.raises(TimeoutError, match=r"did not answer within 0\.1 s"):
        live.results(timeout=0.1)


def test_a_closed_run_is_forgotten_whatever_was_still_asked_of_it():
    live = LiveRun(hidden=[16])
    seen = weakref.ref(live)
    live.start()
    live.close()
    live.pause()
    live.start()
    live.change(rank=2)
    live.reset()
    del live
    gc.collect()
    assert seen() is None


def test_results_that_fail_are_told_to_who_asked(live, monkeypatch):
    def broken() -> None:
        raise OSError("no memory")

    monkeypatch.setattr(live._experiment, "results", broken)
    with pytest.raises(OSError, match="no memory"):
        live.results()
    assert live.alive


PROGRAMS = {
    "left training": "run.start()\nwhile run.snapshot.step < 5: time.sleep(0.01)",
    "forgotten while waiting": "del run",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_an_interpreter_ends_cleanly_with_a_live_run(program):
    imports = "import time\nfrom toolkit.training.experiment.live import LiveRun"
    code = f"{imports}\nrun = LiveRun()\n{program}"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
