"""A run in a process of its own is the run that it would be in a thread, and leaves nothing."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from dashboards.app import child
from dashboards.playground.network import network
from dashboards.playground.views import VIEWS
from tests import processes
from toolkit.training import Experiment
from toolkit.training.live.process import LINUX, LiveProcess, _Place
from toolkit.training.live.run_limit import RunLimit

pytestmark = pytest.mark.skipif(not LINUX, reason="elsewhere runs are threads")
ROOT = Path(__file__).parents[2]
Make = Callable[..., LiveProcess]
until = partial(processes.until, seconds=60.0)


@pytest.fixture(scope="module", autouse=True)
def _forks() -> None:
    child.prepare()


@pytest.fixture
def make() -> Iterator[Make]:
    runs: list[LiveProcess] = []

    def made(**knobs: object) -> LiveProcess:
        runs.append(LiveProcess(**{"hidden": [16], "seed": 0, **knobs}))
        return runs[-1]

    yield made
    for run in runs:
        run.close()
        assert not run.alive and not exists(run._process.pid)


def exists(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


def done(run: LiveProcess) -> None:
    until(lambda: run.snapshot.answered == run.asked)


def test_it_trains_as_an_experiment_does_bit_for_bit(make):
    run = make(device="EpiRAM", first_steps=5)
    for knobs in ({"rank": 2}, {"learning_rate": 0.05, "device": "Ag:a-Si"}, {"method": "sgd"}):
        run.change(**knobs)
        run.step()
    done(run)
    alone = Experiment(hidden=[16], seed=0, device="EpiRAM")
    for _ in range(5):
        alone.step()
    for knobs in ({"rank": 2}, {"learning_rate": 0.05, "device": "Ag:a-Si"}, {"method": "sgd"}):
        alone.change(**knobs)
        alone.step()
    found, wanted = run.results(), alone.results()
    assert found["training"].equals(wanted["training"]) and found["events"].equals(wanted["events"])
    assert [snapshot.step for snapshot in run.first_snapshots] == [1, 4]
    assert run.snapshot.step == 8 and run.snapshot.pulses == alone.pulses
    assert run.snapshot.begun == 0
    run.reset(seed=3)
    done(run)
    assert (run.snapshot.begun, run.snapshot.step, run.snapshot.knobs["seed"]) == (1, 0, 3)


def test_every_view_of_the_playground_can_be_asked_for(make):
    run = make(device="EpiRAM", hidden=[8, 8], first_steps=2)
    wanted = {name: view.take for name, view in VIEWS.items() if view.take} | {"network": network}
    run.look("layer2", wanted, compares=True)
    done(run)
    run.step()
    done(run)
    assert run.snapshot.focus.layer == "layer2"
    assert {name for name, taken in run.snapshot.views.items() if taken is not None} == set(wanted)
    assert pickle.dumps(wanted)


def test_what_is_not_allowed_is_refused_and_said(make):
    with pytest.raises(ValueError, match="rank must be a whole number, 1 to 512; got 0"):
        make(rank=0)
    with pytest.raises(FileNotFoundError, match="The data set mnist is not here"):
        make(dataset="mnist")
    run = make()
    with pytest.raises(ValueError, match="steps_per_second must be above 0; got -1"):
        run.limit_speed(-1)
    run.change(rank=400)
    assert "rank=400 is above min(m, n)" in run.messages.get(timeout=60)
    done(run)
    assert run.snapshot.knobs["rank"] == 4


def test_processes_share_a_limit_in_order_of_arrival(make):
    limit = RunLimit(1)
    first, second, third = (make(limit=limit) for _ in range(3))
    first.start()
    until(lambda: first.snapshot.step > 3)
    second.start()
    until(lambda: second.snapshot.waiting == 1)
    third.start()
    until(lambda: third.snapshot.waiting == 2)
    third.step()
    assert third.messages.get(timeout=60) == "1 runs are training now: step again later."
    assert third.snapshot.step == second.snapshot.step == 0 and second.snapshot.running
    done(third)
    third.start()
    first.close()
    until(lambda: second.snapshot.step > 3 and third.snapshot.waiting == 1)
    second.pause()
    until(lambda: third.snapshot.step > 3 and third.snapshot.waiting == 0)
    third.close()
    until(lambda: not limit.training)


def test_a_run_that_diverges_gives_up_its_place(make):
    limit = RunLimit(1)
    worse = {"hidden": [64] * 3, "learning_rate": 10.0, "batch_size": 8, "method": "sgd"}
    run = make(limit=limit, **worse)
    run.start()
    until(lambda: run.snapshot.diverged and not limit.training)
    assert "diverged" in run.messages.get(timeout=60)


def test_a_process_that_dies_is_told_and_keeps_nobody_waiting(make):
    limit = RunLimit(1)
    run, other = make(limit=limit), make(limit=limit)
    run.start()
    until(lambda: run.snapshot.step > 3)
    other.start()
    os.kill(run._process.pid, signal.SIGSTOP)
    answer = run.ask_results()
    os.kill(run._process.pid, signal.SIGKILL)
    until(lambda: not run.alive)
    assert "process has ended: reload the page" in run.messages.get(timeout=60)
    assert not run.snapshot.running
    with pytest.raises(CancelledError):
        answer.result(timeout=60)
    until(lambda: other.snapshot.step > 3)
    other.pause()
    until(lambda: not limit.training)
    run.start()  # nobody is there to be asked
    assert not limit.training
    with pytest.raises(CancelledError):
        run.results()


def test_a_run_that_nobody_holds_ends_and_leaves_its_place():
    limit = RunLimit(1)
    runs = [LiveProcess(hidden=[16], limit=limit)]
    runs[0].start()
    until(lambda: runs[0].snapshot.step > 3)
    pid = runs.pop()._process.pid
    until(lambda: not gc.collect() and not exists(pid) and not limit.training)


def test_runs_outlive_the_process_from_which_they_were_forked(make):
    run = make(limit=RunLimit(1))
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGKILL)
    until(lambda: not run._process.is_alive())  # so it seems
    run.step()
    done(run)
    assert run.snapshot.step == 1
    run.close()  # its exit status is lost with the server
    assert not run.alive
    until(lambda: not exists(run._process.pid))


def test_runs_share_the_processors_and_leave_the_page_its_half(monkeypatch):
    monkeypatch.setattr("toolkit.training.live.process.PROCESSORS", 2)
    place = _Place(8)

    def shift() -> tuple[float, float]:
        began, before = time.monotonic(), time.thread_time()
        with place.shift(None):
            while (worked := time.thread_time() - before) < 0.02:
                pass
            if place.training > 8:
                place.asked.set()  # a request ends the rest
        return worked, time.monotonic() - began

    place.training = 8
    worked, took = shift()
    assert took >= 0.95 * worked * 8 / 1.5
    place.training = 1000
    assert shift()[1] < 5.0  # not 13


def test_a_process_ends_with_the_page_that_is_killed():
    program = (
        "import os, signal\n"
        "from toolkit.training.live.process import LiveProcess\n"
        "run = LiveProcess(hidden=[16])\n"
        "run.start()\n"
        "print(run._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pid = int(ran.stdout)
    until(lambda: not exists(pid))
