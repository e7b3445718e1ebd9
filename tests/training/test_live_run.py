"""A run in its worker thread: requests are taken up, refusals are told, and it ends cleanly."""

import gc
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.processes import until
from toolkit.training import Experiment
from toolkit.training.live.live_run import LiveRun, _shut_down
from toolkit.training.live.run_limit import RunLimit

ROOT = Path(__file__).parents[2]
Make = Callable[..., LiveRun]


def steps(run: LiveRun, more_than: int) -> None:
    """Wait until the run has made more steps than that."""
    until(lambda: run.snapshot.step > more_than, 60)


def threads(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    found = [threading.Thread(target=work) for _ in range(count)]
    for thread in found:
        thread.start()
    return found


@pytest.fixture
def make() -> Iterator[Make]:
    """Live runs that are closed after the test."""
    runs: list[LiveRun] = []

    def made(**knobs: object) -> LiveRun:
        runs.append(LiveRun(**{"hidden": [16], "seed": 0, **knobs}))
        return runs[-1]

    yield made
    for run in runs:
        run.close()
        assert not run.alive


@pytest.fixture
def live(make: Make) -> LiveRun:
    return make()


def message(run: LiveRun) -> str:
    return run.messages.get(timeout=20)


def test_first_steps_train_before_other_requests_and_take_no_place(make, monkeypatch):
    monkeypatch.setattr("toolkit.training.live.live_run.FIRST_S", 60.0)
    limit = RunLimit(1)
    other = make(limit=limit)
    other.start()
    steps(other, 3)  # it has the only place
    run = make(limit=limit, first_steps=7)
    run.change(rank=2)
    until(lambda: run.snapshot.answered == run.asked)
    assert run.snapshot.step == 7 and not run.snapshot.running and run.messages.empty()
    assert [step for step, _ in run.snapshot.changes] == [7]
    assert [snapshot.step for snapshot in run.first_snapshots] == [1, 4, 7]
    alone = Experiment(hidden=[16], seed=0)
    for _ in range(7):
        alone.step()
    assert run.results()["training"]["loss"].equals(alone.results()["training"]["loss"])


def test_first_steps_that_take_long_are_fewer_and_those_that_diverge_are_said(make, monkeypatch):
    monkeypatch.setattr("toolkit.training.live.live_run.FIRST_S", 0.0)
    run = make(first_steps=100)
    until(lambda: run.snapshot.answered == run.asked)
    assert run.snapshot.step == 1
    monkeypatch.setattr("toolkit.training.live.live_run.FIRST_S", 60.0)
    worse = make(first_steps=500, hidden=[64] * 3, learning_rate=10.0, batch_size=8, method="sgd")
    assert "diverged" in message(worse)
    until(lambda: worse.snapshot.diverged)


def test_a_new_run_waits_and_starts_and_pauses(live):
    assert live.snapshot.layers["layer1"].spectrum is None
    assert live.snapshot.views == {}
    time.sleep(0.1)
    assert (live.snapshot.step, live.snapshot.running) == (0, False)
    live.start()
    steps(live, 50)
    assert live.snapshot.running
    live.pause()
    until(lambda: not live.snapshot.running)
    stopped = live.snapshot
    time.sleep(0.1)
    assert live.snapshot.step == stopped.step == stopped.loss_steps[-1]
    assert np.isfinite(stopped.losses).all()
    assert stopped.losses[-1] < stopped.losses[0]
    assert len(stopped.evaluations) == int(stopped.epoch)
    live.start()
    steps(live, 900)
    now = live.snapshot  # a long past is shown in few points
    assert len(now.losses) == len(now.loss_steps) <= 800
    assert now.loss_steps[-1] == now.step


def test_changes_while_running_take_effect(live):
    live.start()
    steps(live, 5)
    changes = [{"rank": 9}, {"batch_size": 32, "learning_rate": 0.05}, {"device": "EpiRAM"}]
    for change in changes:
        live.change(**change)
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
    assert [turned for _, turned in now.changes] == changes
    assert now.first_knobs["rank"] == 4
    step = now.events[0][0]
    ranks = live.results()["training"]["rank"].values
    assert ranks[step - 1 : step + 1].tolist() == [4, 9]
    assert live.messages.empty()


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"block_size": 65}, "block_size=65 is above batch_size=64"),
        ({"device": "stone"}, "device must be one of"),
        ({"momentum": 1}, "unknown knob 'momentum'"),
    ],
)
def test_a_refused_change_is_told_and_the_run_goes_on(live, knobs, text):
    live.start()
    live.change(**knobs)
    assert text in message(live)
    steps(live, live.snapshot.step)
    assert live.snapshot.running
    assert live.snapshot.events == []
    assert live.messages.empty()


def test_single_steps_are_those_of_an_experiment_bit_for_bit(live):
    run = Experiment(hidden=[16], seed=0)
    for expected in range(1, 5):
        live.step()
        until(lambda wanted=expected: live.snapshot.step == wanted)
        run.step()
    assert not live.snapshot.running
    for name, layer in live.results()["layers"].items():
        weights = run.layers[name].array.weights.numpy()
        np.testing.assert_array_equal(layer["weight"].values[-1], weights)
    live.start()
    steps(live, 10)
    live.step()
    until(lambda: not live.snapshot.running)
    step = live.snapshot.step
    time.sleep(0.05)
    assert live.snapshot.step == step


def test_reset_begins_anew_with_the_present_knobs_and_those_given(live):
    live.change(rank=7)
    live.start()
    steps(live, 5)
    live.reset(seed=5)
    until(lambda: live.snapshot.step == 0)
    assert not live.snapshot.running
    assert (live.snapshot.knobs["rank"], live.snapshot.knobs["seed"]) == (7, 5)
    assert live.snapshot.events == []
    live.start()
    steps(live, 5)
    live.reset(rank=0)
    assert "rank must be" in message(live)
    steps(live, 10)
    assert live.snapshot.running


def test_snapshots_are_copies(live):
    live.look("layer2", {"weight": lambda look: look.array.weights})
    live.step()
    until(lambda: live.snapshot.step == 1)
    first = live.snapshot
    weight = first.views["weight"].clone()
    assert first.focus.layer == "layer2" and weight.shape == (10, 17)
    live.start()
    steps(live, 20)
    assert torch.equal(first.views["weight"], weight)
    assert live.snapshot.number > first.number
    assert live.snapshot.layers["layer1"].spectrum.captured_energy <= 1.0


def test_divergence_pauses_and_keeps_the_results(make):
    live = make(hidden=[128] * 3, learning_rate=10.0, batch_size=8, method="sgd")
    live.start()
    assert "diverged" in message(live)
    until(lambda: live.snapshot.diverged and not live.snapshot.running)
    assert live.alive
    assert live.results()["training"].sizes["step"] == live.snapshot.step > 0
    time.sleep(0.1)
    assert live.messages.empty()  # said once
    step = live.snapshot.step
    for again in (live.step, live.start):
        again()
        assert "diverged" in message(live)
    assert live.snapshot.step == step
    live.reset(learning_rate=0.1)
    live.start()
    until(lambda: live.snapshot.step > 5 and live.snapshot.running)


@pytest.mark.parametrize(
    ("broken", "error"), [("_train_on_batch", RuntimeError), ("results", OSError)]
)
def test_an_error_is_told_once_and_the_thread_lives(live, monkeypatch, broken, error):
    def fail() -> None:
        raise error("out of memory")

    monkeypatch.setattr(live._experiment, broken, fail)
    if broken == "results":  # told to who asked
        with pytest.raises(error, match="out of memory"):
            live.results()
    else:
        live.start()
        assert message(live) == "out of memory"
        until(lambda: not live.snapshot.running)
        time.sleep(0.1)
    assert live.messages.empty()
    assert live.alive


# --- runs that share the machine ----------------------------------------------------------------


def test_runs_that_share_a_limit_take_turns(make):
    limit = RunLimit(1)
    first, second, third = (make(limit=limit) for _ in range(3))
    first.start()
    steps(first, 3)
    second.start()
    until(lambda: second.snapshot.waiting == 1)
    third.start()
    until(lambda: third.snapshot.waiting == 2)
    third.step()  # a single step, which also pauses, takes a place like any other
    assert message(third) == "1 runs are training now: step again later."
    assert third.snapshot.step == second.snapshot.step == 0 and second.snapshot.running
    third.start()
    first.close()
    until(lambda: second.snapshot.step > 3 and third.snapshot.waiting == 1)
    assert second.snapshot.waiting == 0
    second.pause()
    steps(third, 3)
    with pytest.raises(ValueError, match="most must be at least 1; got 0"):
        RunLimit(0)


def test_shifts_go_round_and_few_work_abreast():
    limit, done, inside = RunLimit(8, threads=2), [], []

    def work() -> None:
        me = object()
        while len(done) < 80:
            with limit.shift(me):
                inside.append(len(limit._began))
                time.sleep(0.002)
                done.append(id(me))

    for thread in threads(4, work):
        thread.join(20)
    counts = [done.count(each) for each in set(done)]
    assert max(inside) == 2
    assert len(counts) == 4 and max(counts) - min(counts) <= 4, counts


def test_who_leaves_within_a_shift_ends_nobody_elses():
    limit, ended = RunLimit(8, threads=1), []

    def work(who: str) -> None:
        with limit.shift(who):
            ended.append(who)

    with limit.shift("leaver"):
        waiting = threads(1, lambda: work("waiting"))
        until(lambda: limit._waiting)
        limit.leave("leaver")
        limit.leave("waiting")
        late = threads(1, lambda: work("late"))
        until(lambda: len(limit._waiting) == 2)
    for thread in waiting + late:
        thread.join(5)
    assert sorted(ended) == ["late", "waiting"]


def test_work_that_cannot_change_shifts_keeps_nobody_waiting():
    limit, ended = RunLimit(8, threads=2), threading.Event()

    def hang() -> None:
        with limit.shift(object()):
            ended.wait(20)

    hanging = threads(2, hang)
    until(lambda: len(limit._began) == 2)
    began = time.monotonic()
    with limit.shift(object()):
        waited = time.monotonic() - began
    ended.set()
    for thread in hanging:
        thread.join(20)
    assert waited < 5.0


def test_long_steps_leave_others_their_share(make):
    limit = RunLimit(8)
    slow = {"device": "ReRamES", "w_max": 0.01, "learning_rate": 10.0, "levels": 10_000}
    runs = [make(limit=limit, hidden=[1000, 900], **slow) for _ in range(2)] + [make(limit=limit)]
    for run in runs:
        run.start()
    steps(runs[2], 0)
    before = dict(limit._worked)
    time.sleep(3)
    worked = [limit._worked[run._ticket] - before[run._ticket] for run in runs]
    assert min(worked) > 0.5 * max(worked), worked
    began = time.monotonic()
    runs[0].close()
    assert time.monotonic() - began < 2.0, "it ended within a step of several seconds"


def test_a_speed_limit_holds_and_can_be_lifted(live):
    live.limit_speed(20)
    live.start()
    steps(live, 0)
    begun, step = time.monotonic(), live.snapshot.step
    time.sleep(0.5)
    assert live.snapshot.step - step <= 20 * (time.monotonic() - begun) + 2
    live.change(rank=5)
    until(lambda: live.snapshot.knobs["rank"] == 5, seconds=2)
    live.limit_speed(None)
    steps(live, 100)
    with pytest.raises(ValueError, match="steps_per_second must be above 0"):
        live.limit_speed(0)


# --- the end ------------------------------------------------------------------------------------


def test_bad_knobs_are_refused_at_once():
    with pytest.raises(ValueError, match="rank must be"):
        LiveRun(rank=0)


def test_close_stops_the_thread_whatever_waits_also_twice_and_while_training(make):
    live, idle = make(), make()
    live.start()
    steps(live, 3)
    for _ in range(100_000):
        idle.step()
    for run in (live, idle):
        began = time.monotonic()
        run.close()
        assert not run.alive and time.monotonic() - began < 4.0
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
    live.pause(), live.start(), live.change(rank=2), live.reset()
    del live
    gc.collect()
    assert seen() is None


PROGRAMS = {
    "left training": "run.start()\nwhile run.snapshot.step < 5: time.sleep(0.01)",
    "forgotten while waiting": "del run",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_an_interpreter_ends_cleanly_with_a_live_run(program):
    imports = "import time\nfrom toolkit.training.live.live_run import LiveRun"
    command = [sys.executable, "-c", f"{imports}\nrun = LiveRun()\n{program}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_run_whose_own_thread_collects_it_ends_quietly():
    def end():
        _shut_down(threading.Event(), queue.SimpleQueue(), threading.current_thread())

    with ThreadPoolExecutor(1) as pool:
        pool.submit(end).result()
