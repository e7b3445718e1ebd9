"""What the worker processes of test_distributed.py do: one function for each question.

Each takes the worker's index and returns plain numbers and tensors; both processes run it at once.
"""

import datetime
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from toolkit.training import LowRankSGD, crossbar_layers, to_crossbar
from toolkit.training.distributed import HookState, check_replicas, sbpca_hook, synchronise, workers

COUNT = 2
BATCH = 24


def perceptron(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 6)).to(dtype)


def convolutional(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LayerNorm(24),
        nn.Linear(24, 6),
    ).to(dtype)


def batches(
    *shape: int, steps: int = 5, size: int = BATCH, dtype: torch.dtype = torch.float64
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, *shape, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(6, (size,), generator=generator),
        )
        for _ in range(steps)
    ]


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: list[tuple[Tensor, Tensor]],
    index: int | None = None,
) -> None:
    """Train on whole batches, or on a worker's share of each."""
    for inputs, labels in data:
        if index is not None:
            inputs, labels = inputs[index::COUNT], labels[index::COUNT]
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def spied(work: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
    """What ``work`` returns, and the bytes that it handed to torch's collectives."""
    handed = {"all_reduce": 0, "all_gather": 0}
    originals = {name: getattr(dist, name) for name in handed}

    def spy(name: str, position: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            handed[name] += args[position].nbytes
            return originals[name](*args, **kwargs)

        return call

    dist.all_reduce, dist.all_gather = spy("all_reduce", 0), spy("all_gather", 1)
    try:
        return work(), handed
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def hooked(model: nn.Module, **knobs: Any) -> tuple[DistributedDataParallel, HookState]:
    parallel = DistributedDataParallel(model)
    state = HookState(**knobs)
    parallel.register_comm_hook(state, sbpca_hook)
    return parallel, state


# ---------------------------------------------------------------- factors exchanged


def factors_full(index: int) -> list[Tensor]:
    """Momentum, weight decay and a convolution with groups, whole factors."""
    model = convolutional()
    if index == 1:  # worker 0's weights must win
        with torch.no_grad():
            model[0].weight.add_(1.0)
    optimizer = LowRankSGD(model, 0.1, method="sgd", momentum=0.9, momentum_rank=24)
    synchronise(optimizer)
    descend(model, optimizer, batches(4, 4, 4), index)
    check_replicas(model)
    return weights(model)


def factors_cut(index: int) -> list[list[Tensor]]:
    """SBPCA at rank 3, with and without what is carried over; the test repeats it densely.

    After three of the four steps a new model goes on from saved states.
    """
    found = []
    for carry_rank in (None, 0):
        data, states = batches(40, steps=4), None
        for part in (data[:3], data[3:]):
            model = perceptron()
            optimizer = LowRankSGD(model, 0.5, rank=3, block_size=4)
            exchange = synchronise(optimizer, carry_rank=carry_rank)
            if states is not None:
                for target, state in zip((model, optimizer, exchange), states, strict=True):
                    target.load_state_dict(state)
            descend(model, optimizer, part, index)
            states = [target.state_dict() for target in (model, optimizer, exchange)]
        found.append(weights(model))
    return found


def factors_bytes(index: int) -> dict[str, int]:
    model = perceptron(torch.float32)
    optimizer = LowRankSGD(model, 0.1, rank=3, block_size=4)
    exchange = synchronise(optimizer)
    data = batches(40, steps=4, dtype=torch.float32)
    _, handed = spied(lambda: descend(model, optimizer, data, index))
    traffic = exchange.traffic
    return {
        "sent": traffic.bytes_sent,
        "collectives": traffic.collectives,
        "counted": traffic.reduced + traffic.gathered,
        "handed": sum(handed.values()),
    }


def factors_uneven(index: int) -> list[Tensor]:
    """Parts of 3 and 2 samples, fewer than the rank: factors of unequal rank."""
    model = perceptron()
    optimizer = LowRankSGD(model, 0.1, method="svd", rank=3)
    synchronise(optimizer)
    descend(model, optimizer, batches(40, size=5), index)
    check_replicas(model)
    return weights(model)


def factors_of_one_worker(index: int) -> list[Tensor]:
    """A branch that only worker 1 comes through."""
    model = nn.ModuleDict({"a": perceptron(), "b": perceptron()})
    optimizer = LowRankSGD(model, 0.1, method="sgd")
    synchronise(optimizer)
    descend(model["b" if index else "a"], optimizer, batches(40, steps=2), index)
    check_replicas(model)
    return weights(model)


def factors_on_crossbars(index: int) -> dict[str, Any]:
    """Twins of noisy cells, though worker 1 made its own with another seed."""
    model = to_crossbar(perceptron(torch.float32), device="Ag:a-Si", seed=index)
    optimizer = LowRankSGD(model, 0.1, rank=2)
    synchronise(optimizer)
    descend(model, optimizer, batches(40, dtype=torch.float32), index)
    check_replicas(model)
    array = model[0].arrays[0]
    return {"conductance": array.conductance, "pulses": int(array.pulse_count.sum())}


def replicas_differ(index: int) -> str:
    model = perceptron()
    if index == 1:
        with torch.no_grad():
            model[2].bias[3] += 1e-12
    return message_of(lambda: check_replicas(model))


def models_differ(index: int) -> str:
    model = perceptron() if index else convolutional()
    return message_of(lambda: synchronise(LowRankSGD(model, 0.1)))


def bits_differ(index: int) -> str:
    """Worker 1 believes that it merged something else."""
    model = perceptron()
    optimizer = LowRankSGD(model, 0.1, rank=2)
    exchange = synchronise(optimizer)
    descend(model, optimizer, batches(40, steps=1), index)
    exchange._digest += index
    return message_of(lambda: descend(model, optimizer, batches(40, steps=1), index))


# ---------------------------------------------------------------- gradients compressed


def hook_full(index: int) -> list[Tensor]:
    model, _ = hooked(convolutional(), rank=None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    descend(model, optimizer, batches(4, 4, 4), index)
    return weights(model)


def hook_of_few_samples(index: int) -> list[Tensor]:
    """Batches of 4 samples: gradients have rank 4, and rank 4 loses nothing."""
    model, _ = hooked(perceptron(), rank=4, error_feedback=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    descend(model, optimizer, batches(40, size=4), index)
    return weights(model)


def hook_resumed(index: int) -> list[list[Tensor]]:
    """Five steps at once, and with a new model and a new state after three of them."""
    data, found = batches(40), []
    for parts in ((data,), (data[:3], data[3:])):
        saved = None
        for part in parts:
            model = perceptron()
            parallel, state = hooked(model, rank=3)
            if saved is not None:
                model.load_state_dict(saved[0])
                state.load_state_dict(saved[1], model)
            descend(parallel, torch.optim.SGD(model.parameters(), 0.1), part, index)
            saved = model.state_dict(), state.state_dict(model)
        found.append(weights(model))
    return found


def hook_repeated(index: int) -> dict[str, Tensor]:
    """One gradient again and again: what is applied, with and without error feedback."""
    found = {}
    for feedback in (False, True):
        model, state = hooked(perceptron(), rank=2, error_feedback=feedback)
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        applied = []
        for data in batches(40, steps=1) * 60:
            descend(model, optimizer, [data], index)
            applied.append(model.module[0].weight.grad.clone())
        found["feedback" if feedback else "plain"] = torch.stack(applied)
    (residual, *_) = (t for p, t in state._residual.items() if p.shape == (24, 40))
    return found | {"residual": residual}


def hook_bytes(index: int) -> dict[str, int]:
    found = {}
    for rank in (3, None):
        model, state = hooked(perceptron(torch.float32), rank=rank)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        data = batches(40, steps=4, dtype=torch.float32)
        _, handed = spied(lambda m=model, o=optimizer, d=data: descend(m, o, d, index))
        found[f"sent {rank}"] = state.traffic.bytes_sent
        found[f"handed {rank}"] = sum(handed.values())
    return found


def hook_many_buckets(index: int) -> list[Tensor]:
    """A bucket for every parameter, a silent layer, a live change of rank."""
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32) for _ in range(6)]
    with torch.no_grad():
        layers[3].bias.fill_(-1e3)  # its ReLU is shut: no gradient comes through
    model = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())), nn.Linear(32, 6))
    parallel = DistributedDataParallel(model, bucket_cap_mb=1e-6)
    state = HookState(rank=2)
    parallel.register_comm_hook(state, sbpca_hook)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.1)
    data = batches(32, steps=12, dtype=torch.float32)
    descend(parallel, optimizer, data[:6], index)
    state.rank = 4
    descend(parallel, optimizer, data[6:], index)
    check_replicas(model)
    return weights(model)


def hook_nan(index: int) -> str:
    model, _ = hooked(perceptron(), rank=2)
    ((inputs, labels),) = batches(40, steps=1)
    inputs[1] *= float("nan")  # in worker 1's share
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return message_of(lambda: descend(model, optimizer, [(inputs, labels)], index))


# ---------------------------------------------------------------- workers that differ


def options_differ(index: int) -> list[str]:
    """What each sees whose learning rate, momentum, rank, method, knob or carry rank differs."""
    differing: list[tuple[dict[str, Any], int | None]] = [
        ({"lr": 0.2}, None),
        ({"momentum": 0.5}, None),
        ({"rank": 2}, None),
        ({"method": "feedback"}, None),
        ({"passes": 2}, None),
        ({"scheme": "rank-sum"}, None),
        ({}, 1),
    ]
    found = []
    for knobs, carry_rank in differing:
        model = perceptron()
        optimizer = LowRankSGD(model, **{"lr": 0.1, "rank": 3, **(knobs if index else {})})
        synchronise(optimizer, carry_rank=carry_rank if index else None)
        before = weights(model)
        found.append(message_of(lambda m=model, o=optimizer: descend(m, o, batches(40), index)))
        assert all(map(torch.equal, before, weights(model)))
    return found


def step_skipped(index: int) -> list[str]:
    """Worker 1 makes a step less, by either way of synchronising."""
    model = perceptron()
    optimizer = LowRankSGD(model, 0.1)
    synchronise(optimizer)

    def work() -> None:
        descend(model, optimizer, batches(40, steps=3 - index), index)
        check_replicas(model)

    return [message_of(work)]


def exchange_renewed(index: int) -> list[str]:
    """Worker 1's exchange has made steps already, worker 0's is new."""
    found = []
    for first in (0, 1):
        model = perceptron()
        optimizer = LowRankSGD(model, 0.1)
        exchanges = [synchronise(optimizer) for _ in range(2)]
        optimizer.exchange = exchanges[0]
        descend(model, optimizer, batches(40, steps=1), index)
        optimizer.exchange = exchanges[index == first]
        found.append(message_of(lambda m=model, o=optimizer: descend(m, o, batches(40), index)))
    return found


def hooks_differ(index: int) -> list[str]:
    found = []
    for knobs in ({"rank": 2}, {"rank": None}, {"error_feedback": False}):
        model, _ = hooked(perceptron(), **{"rank": 3, **(knobs if index else {})})
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        found.append(message_of(lambda m=model, o=optimizer: descend(m, o, batches(40), index)))
    return found


def empty_part(index: int) -> list[list[Tensor]]:
    """The last batch has one sample, worker 0's; plain layers, a convolution and crossbars."""
    found = []
    for make, shape in ((perceptron, (40,)), (convolutional, (4, 4, 4))):
        for device in (None, "EpiRAM"):
            model = make() if device is None else to_crossbar(make(), device=device)
            optimizer = LowRankSGD(model, 0.1, momentum=0.5)
            synchronise(optimizer)
            descend(model, optimizer, [*batches(*shape), *batches(*shape, steps=1, size=1)], index)
            check_replicas(model)
            found.append([*weights(model), *(a.weights for a in _arrays(model))])
    return found


def _arrays(model: nn.Module) -> list[Any]:
    return [array for layer in crossbar_layers(model).values() for array in layer.arrays]


# ---------------------------------------------------------------- a worker is lost


def lost(index: int, model: nn.Module, optimizer: torch.optim.Optimizer, how: int) -> list[Any]:
    """After two steps worker 1 is killed or stopped; what each then saw, and for how long."""
    descend(model, optimizer, batches(40, steps=2), index)
    if index == 1:
        os.kill(os.getpid(), how)
    begun = time.monotonic()
    seen = message_of(lambda: descend(model, optimizer, batches(40, steps=50), index))
    return [seen, time.monotonic() - begun]


def factors_killed(index: int) -> list[Any]:
    model = perceptron()
    optimizer = LowRankSGD(model, 0.1, rank=2)
    synchronise(optimizer)
    return lost(index, model, optimizer, signal.SIGKILL)


class Failure(BaseException):
    """What no handler of these tasks catches."""


def leaves(index: int, leaver: int) -> str:
    """After a step one worker fails before its exchange; what the other then saw."""
    model = perceptron()
    optimizer = LowRankSGD(model, 0.1, rank=2)
    synchronise(optimizer)
    descend(model, optimizer, batches(40, steps=1), index)
    if index == leaver:
        raise Failure("no file\nof data")
    return message_of(lambda: descend(model, optimizer, batches(40), index))


def first_leaves(index: int) -> str:
    return leaves(index, 0)


def second_leaves(index: int) -> str:
    return leaves(index, 1)


def hook_stopped(index: int) -> list[Any]:
    group = dist.new_group(timeout=datetime.timedelta(seconds=2))
    model, _ = hooked(perceptron(), rank=2, process_group=group)
    return lost(index, model, torch.optim.SGD(model.parameters(), 0.1), signal.SIGSTOP)


# ---------------------------------------------------------------- the loop around them


def message_of(work: Callable[[], Any]) -> str:
    try:
        work()
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def serve(index: int, port: int, timeout: float, tasks: Any, answers: Any) -> None:
    """Join the group, then do one task after another until told to end with None."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(index),
        "WORLD_SIZE": str(COUNT),
    }
    with workers(timeout=timeout, backend="gloo"):
        while (name := tasks.get()) is not None:
            try:
                answers.put(globals()[name](index))
            except Exception as error:
                answers.put(error)
