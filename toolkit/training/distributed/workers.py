"""Processes that train together: joining them, and collectives that count bytes and name failures.

What they exchange is the business of ``gradient_hook.py`` and ``factor_exchange.py``.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

# Its functions have the group of their import for a default argument: imported later, by
# torch.optim, they would keep the group alive, and its threads beyond the interpreter's end.
import torch.distributed.nn
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from toolkit.checks import check_real

# What workers meet in, for the header that goes first.
EXCHANGES = ("synchronise", "check_replicas", "LowRankSGD.step", "sbpca_hook")

# Where workers() has the processes meet, and under which name one that fails leaves a note there.
_stores: list[dist.Store] = []
_NOTE = "why a worker left"


class WorkerLostError(RuntimeError):
    """Another process died, did not come in time, or came with something else."""


@dataclass(frozen=True)
class Worker:
    """One process of a group: its ``index`` among ``count``, and the ``device`` to compute on."""

    index: int
    count: int
    device: torch.device

    def share(self, batch: Tensor) -> Tensor:
        """Return every ``count``-th sample of a batch from ``index`` on: this worker's part.

        The parts differ by one sample at most, and the mean of the workers' mean losses is the
        loss of the whole batch exactly when they do not differ at all.
        """
        return batch[self.index :: self.count]


@contextlib.contextmanager
def workers(*, timeout: float = 60.0, backend: str | None = None) -> Iterator[Worker]:
    """Join the processes that ``torchrun`` started, and leave them at the end of the block.

    Parameters
    ----------
    timeout
        Seconds that a worker waits for the others in an exchange before it gives up with a
        :class:`WorkerLostError`. torch's own default is half an hour.
    backend
        "gloo" or "nccl"; None: nccl where there is a GPU for every process of this machine.

    Yields
    ------
    Worker
        Without ``torchrun``: the only one, so that a script runs both ways.

    Raises
    ------
    ValueError
        If the timeout is not above 0.
    """
    check_real("timeout", timeout, above=0.0)
    local, here = (int(os.environ.get(f"LOCAL_{name}", 0)) for name in ("RANK", "WORLD_SIZE"))
    has_gpu = torch.cuda.device_count() >= max(here, 1)
    backend = backend or ("nccl" if has_gpu else "gloo")
    device = torch.device("cuda", local) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    patience = datetime.timedelta(seconds=timeout)
    store, rank, count = _meeting(patience)
    dist.init_process_group(
        backend,
        timeout=patience,
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=count,
    )
    _stores[:] = [store]
    try:
        yield Worker(rank, count, device)
    except BaseException as error:
        _leave_note(store, f"worker {rank} left with {type(error).__name__}: {error}")
        raise
    finally:
        _stores.clear()
        # Gloo's threads need the interpreter to let go of the last collective's tensors. It must
        # neither end meanwhile (an abort) nor take the group apart (a deadlock): let them have it.
        time.sleep(0.2)
        dist.destroy_process_group()


def _meeting(timeout: datetime.timedelta) -> tuple[dist.Store, int, int]:
    """Where the workers meet, this one's index and their number."""
    if "WORLD_SIZE" not in os.environ:
        return dist.HashStore(), 0, 1
    store, rank, count = next(rendezvous("env://", timeout=timeout))
    return store, rank, count


def _leave_note(store: dist.Store, text: str) -> None:
    """Tell the workers that will miss this one why it left; the first note stays."""
    with contextlib.suppress(RuntimeError):  # the store went with the worker that held it
        store.compare_set(_NOTE, "", " ".join(text.split())[:500])


def _note() -> str | None:
    """Why a worker left, if it could say."""
    found: list[str] = []

    def read(store: dist.Store) -> None:
        with contextlib.suppress(RuntimeError):
            if store.check([_NOTE]):
                found.append(store.get(_NOTE).decode())

    if _stores:  # a store whose process is stopped never answers
        reader = threading.Thread(target=read, args=_stores, daemon=True)
        reader.start()
        reader.join(2.0)
    return found[0] if found else None


@dataclass
class Traffic:
    """What one worker has put into collectives so far, in bytes.

    ``reduced`` went into sums (all-reduce), ``gathered`` into collections of what every worker has
    (all-gather); ``collectives`` counts both. Weights copied at the start do not count.
    """

    workers: int
    reduced: int = 0
    gathered: int = 0
    collectives: int = 0

    @property
    def bytes_sent(self) -> int:
        """Bytes that this worker has sent to others, and as many received.

        For W workers in a ring, which is what gloo does and NCCL for large tensors: an all-reduce
        of S bytes sends 2 S (W - 1) / W, an all-gather of S bytes from each S (W - 1).
        """
        share = self.workers - 1
        return round(2 * self.reduced * share / self.workers) + self.gathered * share


@dataclass
class Channel:
    """The collectives of one process group, as seen by one of its workers.

    Raises RuntimeError if no process group was begun.
    """

    group: dist.ProcessGroup | None = None
    traffic: Traffic = field(init=False)

    def __post_init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "no workers have joined: enter toolkit.training.distributed.workers() first, or "
                "call torch.distributed.init_process_group"
            )
        self.index, self.count = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.traffic = Traffic(self.count)
        on_gpu = dist.get_backend(self.group) == "nccl"
        self.device = torch.device("cuda" if on_gpu else "cpu")

    def agree(self, exchange: str, step: int = 0, *, sizes: Any = (), options: Any = ()) -> None:
        """Make sure that all workers are at the same exchange, before anything else is sent.

        A header of fixed length goes first, as collectives of different lengths end the process.

        Raises
        ------
        WorkerLostError
            The same on every worker, if one comes with another of ``EXCHANGES``, another step, or
            sizes or options of another ``repr``.
        """
        header = [EXCHANGES.index(exchange), step, _hashed(sizes), _hashed(options)]
        sent = torch.tensor(header, device=self.device)
        found = [t.tolist() for t in self.gather(sent, f"begin {exchange}")]
        for index, theirs in enumerate(found):
            if theirs != found[0]:
                raise WorkerLostError(_difference(index, theirs, found[0]))

    def mean(self, flat: Tensor) -> Tensor:
        """The mean over the workers of a flat tensor, the same bits for all, in place."""
        if flat.numel():
            with self._named("average gradients"):
                dist.all_reduce(flat, group=self.group)
            self.traffic.reduced += flat.nbytes
            self.traffic.collectives += 1
        return flat.div_(self.count)

    def gather(self, flat: Tensor, what: str = "exchange factors") -> list[Tensor]:
        """The flat tensors of all workers, in their order; all must be of one length."""
        found = [torch.empty_like(flat) for _ in range(self.count)]
        if flat.numel():
            with self._named(what):
                dist.all_gather(found, flat, group=self.group)
            self.traffic.gathered += flat.nbytes
            self.traffic.collectives += 1
        return found

    def objects(self, value: Any) -> list[Any]:
        """The (picklable) values of all workers, in their order. Not counted."""
        found: list[Any] = [None] * self.count
        with self._named("compare notes"):
            dist.all_gather_object(found, value, group=self.group)
        return found

    def copy_from_first(self, tensor: Tensor) -> None:
        """Overwrite a tensor with worker 0's. Not counted."""
        flat = tensor.contiguous().to(self.device)
        with self._named("receive the first weights"):
            dist.broadcast(flat, group=self.group, group_src=0)
        tensor.copy_(flat)

    def object_of_first(self, value: Any) -> Any:
        """The (picklable) value of worker 0. Not counted."""
        found = [value]
        with self._named("receive the first weights"):
            dist.broadcast_object_list(found, group=self.group, group_src=0)
        return found[0]

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            why = _note() or (
                f"another worker has died, or did not come within the timeout. torch says: {error}"
            )
            raise WorkerLostError(
                f"worker {self.index} of {self.count} could not {what}: {why}"
            ) from error


def _hashed(value: Any) -> int:
    """63 bits of the value's repr, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:8]) >> 1


def _difference(index: int, theirs: list[int], first: list[int]) -> str:
    """How a worker's header differs from worker 0's."""
    if theirs[0] != first[0]:
        return (
            f"all workers must make the same exchanges; worker {index} came to "
            f"{EXCHANGES[theirs[0]]}, worker 0 to {EXCHANGES[first[0]]}: one has made fewer steps"
        )
    if theirs[1] != first[1]:
        return (
            f"all workers must make the same exchanges; worker {index} came to step {theirs[1]}, "
            f"worker 0 to step {first[1]}"
        )
    what = "sizes of what they exchange" if theirs[2] != first[2] else "options (lr, rank, ...)"
    return f"all workers must have the same {what}; worker {index} has others than worker 0"
