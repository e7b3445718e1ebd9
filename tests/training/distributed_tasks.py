"""What the worker processes of test_distributed.py do: one function for each question.

Each takes the worker's index and returns plain numbers and tensors; both processes run it at once.
"""

import datetime
import os
import signal
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from toolkit.training import LowRankSGD, crossbar_layers, to_crossbar
from toolkit.training.distributed import HookState, check_replicas, sbpca_hook, synchronise, workers

COUNT = 2
BATCH = 24
Data = list[tuple[Tensor, Tensor]]


def perceptron(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 6)).to(dtype)


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.LayerNorm(24)]
    return nn.Sequential(*layers, nn.Linear(24, 6)).double()


def batches(
    *shape: int, steps: int = 5, size: int = BATCH, dtype: torch.dtype = torch.float64
) -> Data:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, *shape, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(6, (size,), generator=generator),
        )
        for _ in range(steps)
    ]


def descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, index: int | None = None
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


def handed(work: Callable[[], Any]) -> int:
    """The bytes that ``work`` hands to torch's collectives."""
    sizes: list[int] = []

    def spy(original: Callable[..., Any], position: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            sizes.append(args[position].nbytes)
            return original(*args, **kwargs)

        return call

    reduced, gathered = spy(dist.all_reduce, 0), spy(dist.all_gather, 1)
    with patch.object(dist, "all_reduce", reduced), patch.object(dist, "all_gather", gathered):
        work()
    return sum(sizes)


def exchanged(model: nn.Module, carry_rank: int | None = None, **knobs: Any) -> tuple[Any, Any]:
    """An optimiser whose factors are exchanged, and the exchange."""
    optimizer = LowRankSGD(model, **{"lr": 0.1, **knobs})
    return optimizer, synchronise(optimizer, carry_rank=carry_rank)


def hooked(
    model: nn.Module, lr: float = 0.1, momentum: float = 0.0, **knobs: Any
) -> tuple[DistributedDataParallel, torch.optim.SGD, HookState]:
    """A model whose gradients are compressed, its optimiser, and the hook's state."""
    cap = knobs.pop("bucket_cap_mb", 25)
    parallel, state = DistributedDataParallel(model, bucket_cap_mb=cap), HookState(**knobs)
    parallel.register_comm_hook(state, sbpca_hook)
    return parallel, torch.optim.SGD(model.parameters(), lr, momentum), state


# ---------------------------------------------------------------- factors exchanged


def factors_full(index: int) -> list[Tensor]:
    """Momentum, weight decay and a convolution with groups, whole factors."""
    model = convolutional()
    if index == 1:  # worker 0's weights must win
        with torch.no_grad():
            model[0].weight.add_(1.0)
    optimizer, _ = exchanged(model, method="sgd", momentum=0.9, momentum_rank=24)
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
            parts = model, *exchanged(model, carry_rank, lr=0.5, rank=3, block_size=4)
            for target, state in zip(parts, states or (), strict=states is not None):
                target.load_state_dict(state)
            descend(model, parts[1], part, index)
            states = [target.state_dict() for target in parts]
        found.append(weights(model))
    return found


def factors_bytes(index: int) -> dict[str, int]:
    model = perceptron(torch.float32)
    optimizer, exchange = exchanged(model, rank=3, block_size=4)
    data = batches(40, steps=4, dtype=torch.float32)
    total = handed(lambda: descend(model, optimizer, data, index))
    traffic = exchange.traffic
    assert total == traffic.reduced + traffic.gathered
    return {"sent": traffic.bytes_sent, "collectives": traffic.collectives}


def factors_uneven(index: int) -> list[Tensor]:
    """Parts of 3 and 2 samples, fewer than the rank: factors of unequal rank."""
    model = perceptron()
    optimizer, _ = exchanged(model, method="svd", rank=3)
    descend(model, optimizer, batches(40, size=5), index)
    check_replicas(model)
    return weights(model)


def factors_of_one_worker(index: int) -> list[Tensor]:
    """A branch that only worker 1 comes through moves on both."""
    model = nn.ModuleDict({"a": perceptron(), "b": perceptron()})
    optimizer, _ = exchanged(model, method="sgd")
    before = weights(model)
    descend(model["b" if index else "a"], optimizer, batches(40, steps=2), index)
    check_replicas(model)
    assert not any(map(torch.equal, before, weights(model)))
    return weights(model)


def factors_on_crossbars(index: int) -> list[Tensor]:
    """Twins of noisy cells, though worker 1 made its own with another seed."""
    model = to_crossbar(perceptron(torch.float32), device="Ag:a-Si", seed=index)
    descend(model, exchanged(model, rank=2)[0], batches(40, dtype=torch.float32), index)
    check_replicas(model)
    assert model[0].array.pulse_count.sum() > 0
    return [model[0].array.conductance, model[0].array.pulse_count]


def factors_of_an_empty_part(index: int) -> list[Tensor]:
    """The last batch has one sample, worker 0's; plain layers, a convolution and crossbars."""
    found = []
    for make, shape in ((perceptron, (40,)), (convolutional, (4, 4, 4))):
        for device in (None, "EpiRAM"):
            model = make() if device is None else to_crossbar(make(), device=device)
            optimizer, _ = exchanged(model, momentum=0.5)
            descend(model, optimizer, [*batches(*shape), *batches(*shape, steps=1, size=1)], index)
            check_replicas(model)
            layers = crossbar_layers(model).values()
            found += [*weights(model), *(a.weights for layer in layers for a in layer.arrays)]
    return found


# ---------------------------------------------------------------- gradients compressed


def hook_full(index: int) -> list[Tensor]:
    model, optimizer, _ = hooked(convolutional(), momentum=0.9, rank=None)
    descend(model, optimizer, batches(4, 4, 4), index)
    return weights(model)


def hook_of_few_samples(index: int) -> list[Tensor]:
    """Batches of 4 samples: gradients have rank 4, and rank 4 loses nothing."""
    model, optimizer, _ = hooked(perceptron(), rank=4, error_feedback=False)
    descend(model, optimizer, batches(40, size=4), index)
    return weights(model)


def hook_resumed(index: int) -> list[Tensor]:
    """Five steps at once, and with a new model and a new state after three of them."""
    data, found = batches(40), []
    for parts in ((data,), (data[:3], data[3:])):
        saved = None
        for part in parts:
            model = perceptron()
            parallel, optimizer, state = hooked(model, rank=3)
            if saved is not None:
                model.load_state_dict(saved[0])
                state.load_state_dict(saved[1], model)
            descend(parallel, optimizer, part, index)
            saved = model.state_dict(), state.state_dict(model)
        found.append(weights(model))
    assert all(map(torch.equal, *found))
    return found[0]


def hook_repeated(index: int) -> dict[str, Tensor]:
    """One gradient again and again: what is applied, with and without error feedback."""
    found = {}
    for feedback in (False, True):
        model, optimizer, state = hooked(perceptron(), lr=0.0, rank=2, error_feedback=feedback)
        applied = []
        for data in batches(40, steps=1) * 60:
            descend(model, optimizer, [data], index)
            applied.append(model.module[0].weight.grad.clone())
        found["feedback" if feedback else "plain"] = torch.stack(applied)
    (residual, *_) = (t for p, t in state._residual.items() if p.shape == (24, 40))
    return found | {"residual": residual}


def hook_bytes(index: int) -> list[int]:
    """At rank 3 and of whole gradients."""
    found, data = [], batches(40, steps=4, dtype=torch.float32)
    for rank in (3, None):
        model, optimizer, state = hooked(perceptron(torch.float32), rank=rank)
        total = handed(lambda m=model, o=optimizer: descend(m, o, data, index))
        assert total == state.traffic.bytes_sent
        found.append(total)
    return found


def hook_many_buckets(index: int) -> list[Tensor]:
    """A bucket for every parameter, a silent layer, a live change of rank."""
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32) for _ in range(4)]
    with torch.no_grad():
        layers[2].bias.fill_(-1e3)  # its ReLU is shut: no gradient comes through
    model = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())), nn.Linear(32, 6))
    parallel, optimizer, state = hooked(model, rank=2, bucket_cap_mb=1e-6)
    data = batches(32, steps=12, dtype=torch.float32)
    descend(parallel, optimizer, data[:6], index)
    state.rank = 4
    descend(parallel, optimizer, data[6:], index)
    check_replicas(model)
    return weights(model)


# ---------------------------------------------------------------- workers that differ


def message_of(work: Callable[..., Any], *args: Any) -> str:
    try:
        work(*args)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def replicas_differ(index: int) -> list[str]:
    model = perceptron()
    if index == 1:
        with torch.no_grad():
            model[2].bias[3] += 1e-12
    return [message_of(check_replicas, model)]


def models_differ(index: int) -> list[str]:
    return [message_of(exchanged, perceptron() if index else convolutional())]


def bits_differ(index: int) -> list[str]:
    """Worker 1 believes that it merged something else."""
    model = perceptron()
    optimizer, exchange = exchanged(model, rank=2)
    descend(model, optimizer, batches(40, steps=1), index)
    exchange._digest += index
    return [message_of(descend, model, optimizer, batches(40, steps=1), index)]


def hook_nan(index: int) -> list[str]:
    model, optimizer, _ = hooked(perceptron(), rank=2)
    data = batches(40, steps=1)
    data[0][0][1] *= float("nan")  # in worker 1's share
    return [message_of(descend, model, optimizer, data, index)]


def options_differ(index: int) -> list[str]:
    """What each sees whose learning rate, momentum, rank, method, knob or carry rank differs."""
    differing: list[dict[str, Any]] = [
        {"lr": 0.2},
        {"momentum": 0.5},
        {"rank": 2},
        {"method": "feedback"},
        {"passes": 2},
        {"scheme": "rank-sum"},
        {"carry_rank": 1},
    ]
    found = []
    for knobs in differing:
        model = perceptron()
        optimizer, _ = exchanged(model, **{"rank": 3, **(knobs if index else {})})
        before = weights(model)
        found.append(message_of(descend, model, optimizer, batches(40), index))
        assert all(map(torch.equal, before, weights(model)))
    return found


def hooks_differ(index: int) -> list[str]:
    found = []
    for knobs in ({"rank": 2}, {"rank": None}, {"error_feedback": False}):
        model, optimizer, _ = hooked(perceptron(), **{"rank": 3, **(knobs if index else {})})
        found.append(message_of(descend, model, optimizer, batches(40), index))
    return found


def step_skipped(index: int) -> list[str]:
    """Worker 1 makes a step less, by either way of synchronising."""
    model = perceptron()
    optimizer, _ = exchanged(model)

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
        found.append(message_of(descend, model, optimizer, batches(40), index))
    return found


# ---------------------------------------------------------------- a worker is lost


def lost(index: int, model: nn.Module, optimizer: torch.optim.Optimizer, how: int) -> list[Any]:
    """After two steps worker 1 is killed or stopped; what each then saw, and for how long."""
    descend(model, optimizer, batches(40, steps=2), index)
    if index == 1:
        os.kill(os.getpid(), how)
    begun = time.monotonic()
    seen = message_of(descend, model, optimizer, batches(40, steps=50), index)
    return [seen, time.monotonic() - begun]


def factors_killed(index: int) -> list[Any]:
    model = perceptron()
    return lost(index, model, exchanged(model, rank=2)[0], signal.SIGKILL)


def hook_stopped(index: int) -> list[Any]:
    group = dist.new_group(timeout=datetime.timedelta(seconds=2))
    model, optimizer, _ = hooked(perceptron(), rank=2, process_group=group)
    return lost(index, model, optimizer, signal.SIGSTOP)


class Failure(BaseException):
    """What no handler of these tasks catches."""


def leaves(index: int, leaver: int) -> str:
    """After a step one worker fails before its exchange; what the other then saw."""
    model = perceptron()
    optimizer, _ = exchanged(model, rank=2)
    descend(model, optimizer, batches(40, steps=1), index)
    if index == leaver:
        raise Failure("no file\nof data")
    return message_of(descend, model, optimizer, batches(40), index)


def first_leaves(index: int) -> str:
    return leaves(index, 0)


def second_leaves(index: int) -> str:
    return leaves(index, 1)


# ---------------------------------------------------------------- the loop around them


def serve(index: int, port: int, timeout: float, tasks: Any, answers: Any) -> None:
    """Join the group, then do one task after another until told to end with None."""
    torch.set_num_threads(1)
    own = {"MASTER_PORT": str(port), "RANK": str(index), "WORLD_SIZE": str(COUNT)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **own}
    with workers(timeout=timeout, backend="gloo"):
        while (name := tasks.get()) is not None:
            try:
                answers.put(globals()[name](index))
            except Exception as error:
                answers.put(error)
