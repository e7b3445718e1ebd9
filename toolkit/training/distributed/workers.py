"""Processes that train together: joining, and collectives that count bytes and name failures.

``gradient_hook.py`` and ``factor_exchange.py`` define what they exchange.
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

# Its functions take the group at import time as a default argument: if torch.optim imported it
# later, it would keep the group alive, and its threads beyond the interpreter's exit.
import torch.distributed.nn
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from toolkit.checks import check_real

# The exchanges, by number, for the header that is sent first.
EXCHANGES = ("synchronise", "check_replicas", "LowRankSGD.step", "sbpca_hook")

# The store in which workers() joins processes, and the key for the note of a failing one.
_stores: list[dist.Store] = []
_NOTE = "why a worker left"
_READERS = "workers that have read it"
_PATIENCE_S = 2.0  # with a note's readers, or with its store


class WorkerLostError(RuntimeError):
    """Another process died, did not answer in time, or sent something else."""


@dataclass(frozen=True)
class Worker:
    """One process of a group: its ``index`` out of ``count``, and its compute ``device``."""

    index: int
    count: int
    device: torch.device

    def share(self, batch: Tensor) -> Tensor:
        """Return this worker's part of a batch: every ``count``-th sample from ``index`` on.

        The parts differ by at most one sample. The mean of the workers' mean losses is exactly the
        loss of the whole batch if all parts are equal.
        """
        return batch[self.index :: self.count]


@contextlib.contextmanager
def workers(*, timeout: float = 60.0, backend: str | None = None) -> Iterator[Worker]:
    """Join the processes started by ``torchrun``, and leave them at the end of the block.

    Parameters
    ----------
    timeout
        Seconds that a worker waits for the others in an exchange before it raises
        :class:`WorkerLostError`. torch's own default is half an hour.
    backend
        "gloo" or "nccl"; None: nccl if there is a GPU for every process of this machine.

    Yields
    ------
    Worker
        Without ``torchrun``: the only one, so a script runs both ways.

    Raises
    ------
    ValueError
        If the timeout is not positive.
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
    has_news = False
    try:
        yield Worker(rank, count, device)
    except BaseException as error:
        has_news = not isinstance(error, WorkerLostError)
        _leave_note(store, f"worker {rank} left with {type(error).__name__}: {error}")
        raise
    finally:
        _stores.clear()
        # Gloo's threads need the interpreter to release the last collective's tensors. Exiting
        # meanwhile would abort, and taking the group apart would deadlock, so let them run.
        time.sleep(0.2)
        dist.destroy_process_group()
        if has_news and rank == 0:
            _wait_for_readers(store, count - 1)


def _meeting(timeout: datetime.timedelta) -> tuple[dist.Store, int, int]:
    """The store in which the workers meet, this one's index and their number."""
    if "WORLD_SIZE" not in os.environ:
        return dist.HashStore(), 0, 1
    store, rank, count = next(rendezvous("env://", timeout=timeout))
    return store, rank, count


def _leave_note(store: dist.Store, text: str) -> None:
    """Tell the other workers why this one left; the first note stays."""
    with contextlib.suppress(RuntimeError):  # the store ended with the worker that held it
        store.compare_set(_NOTE, "", " ".join(text.split())[:500])


def _wait_for_readers(store: dist.Store, others: int) -> None:
    """Keep worker 0, whose process holds the store, until the others know why it left."""
    end = time.monotonic() + _PATIENCE_S
    with contextlib.suppress(RuntimeError):
        while store.add(_READERS, 0) < others and time.monotonic() < end:
            time.sleep(0.02)


def _note() -> str | None:
    """Why a worker left, if it could leave a note."""
    found: list[str] = []

    def read(store: dist.Store) -> None:
        with contextlib.suppress(RuntimeError):
            if store.check([_NOTE]):
                found.append(store.get(_NOTE).decode())
                store.add(_READERS, 1)

    if _stores:  # a store whose process is suspended never answers
        reader = threading.Thread(target=read, args=_stores, daemon=True)
        reader.start()
        reader.join(_PATIENCE_S)
    return found[0] if found else None


@dataclass
class Traffic:
    """Bytes that one worker has put into collectives.

    ``reduced`` counts sums (all-reduce), ``gathered`` collections from every worker (all-gather),
    and ``collectives`` both. Weights copied at the start are not counted.
    """

    workers: int
    reduced: int = 0
    gathered: int = 0
    collectives: int = 0

    @property
    def bytes_sent(self) -> int:
        """Bytes that this worker has sent to others; it received as many.

        For W workers in a ring (gloo; NCCL for large tensors), an all-reduce of S bytes sends
        2 S (W - 1) / W, and an all-gather of S bytes from each sends S (W - 1).
        """
        share = self.workers - 1
        return round(2 * self.reduced * share / self.workers) + self.gathered * share


@dataclass
class Channel:
    """The collectives of one process group, as seen by one of its workers.

    Raises RuntimeError if no process group was started.
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
        """Check that all workers are at the same exchange before anything else is sent.

        Sends a header of fixed length first, as collectives of different lengths end the process.

        Raises
        ------
        WorkerLostError
            The same on every worker, if one is at another of ``EXCHANGES`` or at another step, or
            the ``repr`` of its sizes or options differs.
        """
        header = [EXCHANGES.index(exchange), step, _hashed(sizes), _hashed(options)]
        sent = torch.tensor(header, device=self.device)
        found = [t.tolist() for t in self.gather(sent, f"begin {exchange}")]
        for index, theirs in enumerate(found):
            if theirs != found[0]:
                raise WorkerLostError(_difference(index, theirs, found[0]))

    def mean(self, flat: Tensor) -> Tensor:
        """Replace a flat tensor by its mean over the workers, with the same bits for all."""
        if flat.numel():
            with self._named("average gradients"):
                dist.all_reduce(flat, group=self.group)
            self.traffic.reduced += flat.nbytes
            self.traffic.collectives += 1
        return flat.div_(self.count)

    def gather(self, flat: Tensor, what: str = "exchange factors") -> list[Tensor]:
        """The flat tensors of all workers, in order; all must have the same length."""
        found = [torch.empty_like(flat) for _ in range(self.count)]
        if flat.numel():
            with self._named(what):
                dist.all_gather(found, flat, group=self.group)
            self.traffic.gathered += flat.nbytes
            self.traffic.collectives += 1
        return found

    def objects(self, value: Any) -> list[Any]:
        """The (picklable) values of all workers, in order. Not counted."""
        found: list[Any] = [None] * self.count
        with self._named("compare options"):
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
                f"another worker has died or did not answer within the timeout. torch says: {error}"
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
            f"all workers must make the same exchanges; worker {index} is at "
            f"{EXCHANGES[theirs[0]]}, worker 0 at {EXCHANGES[first[0]]}: one has done fewer steps"
        )
    if theirs[1] != first[1]:
        return (
            f"all workers must make the same exchanges; worker {index} is at step {theirs[1]}, "
            f"worker 0 at step {first[1]}"
        )
    what = "sizes of exchanged data" if theirs[2] != first[2] else "options (lr, rank, ...)"
    return f"all workers must have the same {what}; worker {index} differs from worker 0"
