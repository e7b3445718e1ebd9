"""Two processes that train as one, over gloo, against one process, dense algebra and closed forms.

What the processes do is in distributed_tasks.py; they are started once for all tests of this file.
"""

import os
import queue
import re
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from tests.training import distributed_tasks as tasks
from toolkit.lowrank import LowRank
from toolkit.lowrank.sbpca import SBPCA
from toolkit.training import LowRankSGD
from toolkit.training.distributed import HookState, Traffic, merge, synchronise, workers
from toolkit.training.experiment.memory import peak_bytes

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Pair:
    """Two processes that wait for tasks."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        port = free_port()
        self.asked = [context.Queue() for _ in range(tasks.COUNT)]
        self.answered = [context.Queue() for _ in range(tasks.COUNT)]
        self.processes = [
            context.Process(
                target=tasks.serve,
                args=(index, port, PATIENCE, self.asked[index], self.answered[index]),
                daemon=True,
            )
            for index in range(tasks.COUNT)
        ]
        for process in self.processes:
            process.start()

    def ask(self, name: str) -> None:
        for asked in self.asked:
            asked.put(name)

    def answer(self, index: int) -> Any:
        # longer than an exchange waits, so that a worker says itself what it waited for
        try:
            return self.answered[index].get(timeout=2.0 * PATIENCE)
        except queue.Empty:
            codes = [process.exitcode for process in self.processes]
            pytest.fail(f"worker {index} did not answer; exit codes (None: alive): {codes}")

    def both(self, name: str) -> list[Any]:
        self.ask(name)
        found = [self.answer(index) for index in range(tasks.COUNT)]
        for value in found:
            if isinstance(value, Exception):
                raise value
        return found

    def end(self) -> None:
        for asked in self.asked:
            asked.put(None)
        for process in self.processes:
            process.join(3.0)
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def started() -> Iterator[list[Pair]]:
    pairs: list[Pair] = []
    yield pairs
    for pair in pairs:
        pair.end()


@pytest.fixture
def pair(started) -> Pair:
    """The pair of the tests before, or a new one if it lost a process."""
    if not (started and all(process.is_alive() for process in started[-1].processes)):
        started.append(Pair())
    return started[-1]


def assert_same_bits(one: list[Tensor], other: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(bool(values.isfinite().all()) for values in one)


def assert_close(mine: list[Tensor], theirs: list[Tensor], atol: float = 1e-10) -> None:
    torch.testing.assert_close(mine, theirs, rtol=0, atol=atol)


def random_update(m: int, n: int, rank: int, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((m, rank), (rank,), (n, rank))
    return LowRank(*(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes))


def truncated(dense: Tensor, rank: int) -> Tensor:
    u, s, vh = torch.linalg.svd(dense, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("ranks", [(3, 3), (2, 5, 1), (4,), (0, 3), (9, 9, 9)])
@pytest.mark.parametrize("shape", [(30, 20), (7, 50)])
def test_merged_factors_are_the_truncated_svd_of_the_dense_sum(shape, ranks):
    updates = [random_update(*shape, rank, seed) for seed, rank in enumerate(ranks)]
    dense = sum(update.dense() for update in updates)
    for rank in (1, 3, 6):
        found = merge(updates, rank)
        assert_close([found.dense()], [truncated(dense, rank)], 1e-12)
        assert found.rank <= rank
    assert_close([merge(updates).dense()], [dense], 1e-12)


def test_merging_forms_no_matrix_of_the_layers_size():
    m = n = 2000
    updates = [random_update(m, n, 4, seed) for seed in range(2)]
    assert peak_bytes(lambda: merge(updates, 4)) < m * n * 8 / 10


def test_merging_refuses_what_does_not_fit():
    with pytest.raises(
        ValueError, match=r"updates must be at least one, all of the same shape.*\(3, 4\)"
    ):
        merge([random_update(3, 4, 1, 0), random_update(4, 3, 1, 0)], 1)
    with pytest.raises(ValueError, match="at least one"):
        merge([], 1)


# ---------------------------------------------------------------- against one process


SMALL = ("factors_full", tasks.convolutional, 0.9, (4, 4, 4), tasks.BATCH, 1e-12)


@pytest.mark.parametrize(
    ("task", "make", "momentum", "shape", "size", "atol"),
    [
        SMALL,
        ("hook_full", *SMALL[1:]),
        ("hook_of_few_samples", tasks.perceptron, 0.0, (40,), 4, 1e-10),
    ],
)
def test_what_loses_nothing_trains_as_one_process_with_the_whole_batch(
    pair, task, make, momentum, shape, size, atol
):
    one, other = pair.both(task)
    alone = make()
    optimizer = torch.optim.SGD(alone.parameters(), 0.1, momentum)
    tasks.descend(alone, optimizer, tasks.batches(*shape, size=size))
    assert_same_bits(one, other)
    assert_close(one, tasks.weights(alone), atol)


@pytest.mark.parametrize(
    "task",
    [
        "factors_uneven",
        "factors_of_one_worker",
        "factors_on_crossbars",
        "factors_of_an_empty_part",
        "hook_many_buckets",
        "hook_resumed",
    ],
)
def test_workers_stay_twins(pair, task):
    assert_same_bits(*pair.both(task))


def test_workers_apply_the_best_rank_of_the_mean_of_their_own_estimates(pair):
    """And carry over the next best ranks, or nothing: all of it again in dense float64."""
    one, other = pair.both("factors_cut")
    for carried, mine, theirs in zip((9, 0), one, other, strict=True):
        assert_same_bits(mine, theirs)
        assert_close(mine, tasks.weights(densely_trained(carried)))


def densely_trained(carried: int) -> nn.Sequential:
    model, estimators = tasks.perceptron(), own_estimators()
    left_out: list[Any] = [0.0, 0.0]
    for inputs, labels in tasks.batches(40, steps=4):
        totals, biases = list(left_out), [0.0, 0.0]
        for index in range(tasks.COUNT):
            x = inputs[index :: tasks.COUNT]
            first = model[0](x)
            hidden = model[1](first)
            scores = model[2](hidden)
            loss = nn.functional.cross_entropy(scores, labels[index :: tasks.COUNT])
            errors = torch.autograd.grad(loss, [first, scores])
            for layer, sample in enumerate(zip(errors, (x, hidden.detach()), strict=True)):
                update = estimators[index][layer].update(*sample)
                totals[layer] = totals[layer] + update.dense() / tasks.COUNT
                biases[layer] = biases[layer] + sample[0].sum(0) / tasks.COUNT
        with torch.no_grad():
            for layer, linear in enumerate((model[0], model[2])):
                written = truncated(totals[layer], 3)
                left_out[layer] = truncated(totals[layer], 3 + carried) - written
                linear.weight -= 0.5 * written
                linear.bias -= 0.5 * biases[layer]
    return model


def own_estimators() -> list[list[SBPCA]]:
    """What every worker's LowRankSGD makes: SBPCA with seeds drawn from seed 0."""
    found = []
    for _ in range(tasks.COUNT):
        generator = torch.Generator().manual_seed(0)
        seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(2)]
        found.append([SBPCA(rank=3, block_size=4, seed=seed) for seed in seeds])
    return found


STEPS, BIASES = 4, 24 + 6


def test_bytes_of_factors_are_k_times_m_plus_n_and_the_biases(pair):
    note = 8 * (4 + 1 + 2 + 4)  # header, digest, two ranks, four flags
    factors = 4 * 3 * ((24 + 40) + (6 + 24))
    sent = STEPS * (note + factors + 4 * BIASES)
    assert pair.both("factors_bytes") == [{"sent": sent, "collectives": STEPS * 4}] * 2


def test_bytes_of_compressed_gradients(pair):
    """The output layer, 6 x 24, is worth 3 (6 + 24) numbers."""
    numbers = 3 * (24 + 40) + 3 * (6 + 24) + BIASES, 24 * 40 + 6 * 24 + BIASES
    assert pair.both("hook_bytes") == [[4 * 32 + 4 * STEPS * each for each in numbers]] * 2


def test_bytes_of_larger_groups_are_those_of_a_ring():
    traffic = Traffic(workers=5, reduced=1000, gathered=100)
    assert traffic.bytes_sent == 2 * 1000 * 4 / 5 + 100 * 4


SAME = r"WorkerLostError: all workers must "
OTHERS = SAME + r"have the same options .*; worker 1 differs"
STEP = SAME + r"make the same .*; worker 1 is at "


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("replicas_differ", r"RuntimeError: .*workers \[1\] do not"),
        ("models_differ", r"ValueError: all workers must have the same model"),
        ("bits_differ", r"RuntimeError: .*worker 1 did not merge those of worker 0"),
        ("hook_nan", r"gradients must be finite on every worker"),
        ("options_differ", OTHERS),
        ("hooks_differ", OTHERS),
        ("step_skipped", STEP + r"check_replicas, worker 0 at"),
        ("exchange_renewed", STEP + r"step \d, worker 0 at"),
    ],
)
def test_every_worker_raises_the_same_sentence(pair, task, message):
    one, other = pair.both(task)
    assert one == other or task == "models_differ"  # where each begins with its own
    assert all(re.search(message, each) for each in one), one


def test_one_gradient_again_and_again(pair):
    """Warm starts find its truncated SVD; error feedback applies all of it in the end."""
    one, other = pair.both("hook_repeated")
    model = tasks.perceptron()
    tasks.descend(model, torch.optim.SGD(model.parameters(), 0.0), tasks.batches(40, steps=1))
    gradient = model[0].weight.grad
    torch.testing.assert_close(one["plain"][-1], truncated(gradient, 2), rtol=0, atol=1e-6)
    applied = one["feedback"].sum(0) + (one["residual"] + other["residual"]) / 2
    torch.testing.assert_close(applied, 60 * gradient, rtol=0, atol=1e-10)
    missing = (one["feedback"].mean(0) - gradient).norm() / gradient.norm()
    assert missing < 0.2 < (truncated(gradient, 2) - gradient).norm() / gradient.norm()


# ---------------------------------------------------------------- bad input, and one process


def factors(**knobs: Any) -> Any:
    return synchronise(LowRankSGD(tasks.perceptron(), 0.1), **knobs)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: HookState(rank=2), "no workers have joined"),
        (factors, "no workers have joined"),
        (lambda: HookState(rank=0), "rank must be at least 1"),
        (lambda: HookState(error_feedback=1), "error_feedback must be True or False"),
        (
            lambda: synchronise(torch.optim.SGD(tasks.perceptron().parameters(), 0.1)),
            "optimizer must be a LowRankSGD; got SGD",
        ),
        (lambda: factors(carry_rank=-1), "carry_rank must be at least 0; got -1"),
        (lambda: workers(timeout=0.0).__enter__(), "timeout must be above 0"),
    ],
)
def test_wrong_arguments_and_missing_workers_are_clear_errors(work, message):
    with pytest.raises((RuntimeError, ValueError, TypeError), match=message):
        work()


def test_one_process_is_a_group_of_its_own():
    alone, synchronised = tasks.perceptron(), tasks.perceptron()
    with workers(backend="gloo") as worker:
        assert (worker.index, worker.count) == (0, 1)
        optimizer, exchange = tasks.exchanged(synchronised, rank=2)
        tasks.descend(synchronised, optimizer, tasks.batches(40))
        assert exchange.traffic.bytes_sent == 0
        wrapped = nn.parallel.DistributedDataParallel(tasks.perceptron())
        with pytest.raises(ValueError, match="must not be wrapped in DistributedDataParallel"):
            LowRankSGD(wrapped, 0.1)
    tasks.descend(alone, LowRankSGD(alone, 0.1, rank=2), tasks.batches(40))
    assert_close(tasks.weights(alone), tasks.weights(synchronised))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of threads")
def test_nothing_of_a_group_is_left_after_its_block():
    # a thread of it that outlives the interpreter aborts the process, now and then
    code = """if True:
        import os, weakref
        import torch
        import torch.distributed as dist
        from toolkit.training import LowRankSGD
        from toolkit.training.distributed import synchronise, workers

        threads = len(os.listdir("/proc/self/task"))
        with workers(backend="gloo"):
            group = weakref.ref(dist.group.WORLD)
            optimizer = LowRankSGD(torch.nn.Linear(20, 10), 0.1)
            synchronise(optimizer)
            assert len(os.listdir("/proc/self/task")) > threads
        assert group() is None and len(os.listdir("/proc/self/task")) == threads
    """
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


# ---------------------------------------------------------------- a worker is lost


def test_a_stopped_worker_is_an_error_on_both_after_the_timeout(pair):
    pair.ask("hook_stopped")
    message, seconds = pair.answer(0)
    os.kill(pair.processes[1].pid, signal.SIGCONT)
    assert "WorkerLostError: worker 0 of 2 could not begin sbpca_hook" in message
    assert 1.5 < seconds < 20.0
    assert "worker 1 of 2 could not begin sbpca_hook" in pair.answer(1)[0]


def test_a_killed_worker_is_an_error_on_the_other_not_a_hang(pair):
    pair.ask("factors_killed")
    message, seconds = pair.answer(0)
    lost = "WorkerLostError: worker 0 of 2 could not begin LowRankSGD.step: "
    assert re.match(f"{lost}.*died", message)
    assert seconds < 20.0
    pair.processes[1].join()  # it may be dying still, and the next test must see that it is dead


@pytest.mark.parametrize(("leaver", "task"), [(0, "first_leaves"), (1, "second_leaves")])
def test_the_others_are_told_which_worker_left_and_why(pair, leaver, task):
    pair.ask(task)
    assert pair.answer(1 - leaver) == (
        f"WorkerLostError: worker {1 - leaver} of 2 could not begin LowRankSGD.step: "
        f"worker {leaver} left with Failure: no file of data"
    )
    pair.processes[leaver].join(10.0)


# ---------------------------------------------------------------- the example


def test_example_runs_under_torchrun():
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-port", str(free_port()), "examples/distributed_training.py"),
        *("--epochs", "2", "--hidden", "32"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    epochs = re.findall(r"^epoch \d: ([\d.]+) %.* ([\d.]+) times fewer", run.stdout, re.MULTILINE)
    assert len(epochs) == 2  # worker 0 alone speaks
    accuracy, ratio = map(float, epochs[-1])
    assert accuracy > 70.0
    assert ratio > 2.0


@pytest.mark.parametrize("sync", ["hook", "full"])
def test_example_runs_in_one_process(sync, monkeypatch, capsys):
    arguments = ["example", "--sync", sync, "--epochs", "1", "--hidden", "16"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(ROOT / "examples/distributed_training.py"), run_name="__main__")
    assert "epoch 1: " in capsys.readouterr().out
