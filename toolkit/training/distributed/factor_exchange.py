"""Workers that train one model on the factors of their gradients, which are never formed.

Each worker has its own estimators for its own (errors, activations). Their factors are exchanged,
added and cut back to rank k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from toolkit.checks import check_count, check_instance
from toolkit.crossbar import Array
from toolkit.lowrank import LowRank
from toolkit.lowrank.linalg import factored_svd
from toolkit.training.distributed.workers import Channel, Traffic
from toolkit.training.layers.modules import CrossbarLayer
from toolkit.training.layers.optimiser import Group, LowRankSGD
from toolkit.training.layers.updates import LayerUpdate, held_of, write_all


def merge(updates: Sequence[LowRank], rank: int | None = None) -> LowRank:
    r"""Add low-rank matrices and cut the sum to its best approximation of a given rank.

    With the factors side by side, :math:`L = [\Delta_1 \Sigma_1, \dots, \Delta_W \Sigma_W]` and
    :math:`R = [X_1, \dots, X_W]`, thin QRs :math:`L = Q_L R_L`, :math:`R = Q_R R_R` and the SVD of
    the core :math:`R_L R_R^T`, whose sides are at most the sum of the ranks. By Eckart and
    Young (1936) no matrix of that rank is closer to the sum; no m x n matrix is formed.

    Parameters
    ----------
    updates
        At least one, all (m, n).
    rank
        Triplets to keep; None keeps all, as concatenated factors.

    Returns
    -------
    LowRank
        With orthonormal factors and sigma in descending order if a rank is given.

    Raises
    ------
    ValueError
        If there are no updates, or their shapes differ.
    """
    if len({update.shape for update in updates}) != 1:
        raise ValueError(
            f"updates must be at least one, all of the same shape; got {[u.shape for u in updates]}"
        )
    left = torch.cat([update.left * update.sigma for update in updates], dim=1)
    right = torch.cat([update.right for update in updates], dim=1)
    if rank is None or not left.numel():
        return LowRank(left, left.new_ones(left.shape[1]), right)
    return LowRank(*factored_svd(left.T, right.T, rank))


def synchronise(
    optimizer: LowRankSGD,
    *,
    carry_rank: int | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> FactorExchange:
    """Make the workers that hold this optimiser and its model train as one from now on.

    Add one line to a training loop, before the first batch::

        optimizer = LowRankSGD(model, lr=0.1, rank=4)
        exchange = synchronise(optimizer)

    Every worker copies the weights of worker 0 (on crossbars: cells, counts and generators), and
    ``optimizer.step`` exchanges updates from then on; see :class:`FactorExchange`. Each worker
    trains on its own samples; do not wrap the model in a DistributedDataParallel.

    Parameters
    ----------
    optimizer
        This worker's optimiser; all workers need the same options.
    carry_rank
        Rank at which the remainder of a merge is carried over; None: three times the rank of the
        update, 0: the remainder is dropped.
    process_group
        The participating group; None: everyone.

    Returns
    -------
    FactorExchange
        Its ``traffic`` counts the bytes that this worker has sent.

    Raises
    ------
    TypeError
        If optimizer is not a LowRankSGD, or carry_rank not a whole number.
    ValueError
        If carry_rank is negative, or the workers' models differ in parameters or layers.
    RuntimeError
        If no process group was started.
    WorkerLostError
        If another worker died or did not answer within the group's timeout.
    """
    check_instance("optimizer", optimizer, LowRankSGD, "a LowRankSGD")
    exchange = FactorExchange(carry_rank=carry_rank, process_group=process_group)
    exchange.begin(optimizer.grouped_layers())
    optimizer.exchange = exchange
    return exchange


class FactorExchange:
    r"""One step of W workers that send factors of rank k instead of gradients.

    Worker w's estimators give :math:`\hat G_w` for its own samples. Every worker receives all
    factors (one all-gather for the whole network) and computes

    .. math::
        T = M + \frac1W \sum_w \hat G_w, \qquad \hat G = [T]_k, \qquad
        M \leftarrow [T - \hat G]_r

    exactly from them (:func:`merge`): the W k directions are cut to k, and the remainder is carried
    over in M, of rank r, identically on every worker. This is error feedback in factors, and it
    costs no bytes. Momentum and the write follow as with one worker. A method without a rank
    (``method="sgd"``) is not cut: its factors are the samples, and the step is that of one worker
    with all the samples. Biases and other parameters are averaged without compression (one
    all-reduce).

    The mean is over workers. If losses are means over samples and the parts of the batch are equal,
    it is the gradient of the mean loss over the whole batch.

    Notes
    -----
    - A header of 32 bytes is sent first: the step, the sizes and the options, so that workers that
      differ raise the same error. An empty part of a batch counts as an update of rank 0.
    - A small all-gather follows: the ranks of this step's factors, and a checksum of the bits that
      each worker merged in the previous step. Parts of a batch can therefore differ in size, and
      workers whose processors round differently are noticed at once instead of drifting apart.
    - Each worker has its own estimators and buffers (of batch normalisation).
    - Crossbars are identical on all workers: the same cells, the same pulses. They stay identical
      if reads draw no random numbers, or equally many on every worker (noisy reads of parts of
      equal size). :func:`check_replicas` checks it.
    """

    def __init__(
        self,
        *,
        carry_rank: int | None = None,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        if carry_rank is not None:
            check_count("carry_rank", carry_rank, least=0)
        self.carry_rank = carry_rank
        self._channel = Channel(process_group)
        self._digest = self._step = 0
        self._carried: dict[int, LowRank] = {}  # by index among all matrices

    @property
    def traffic(self) -> Traffic:
        """Bytes that this worker has sent."""
        return self._channel.traffic

    def begin(self, groups: Sequence[Group]) -> None:
        """Copy worker 0's weights; ValueError if the workers' models differ."""
        parameters = [p for group, _ in groups for p in group["params"]]
        layers = [layer for _, layers in groups for layer in layers]
        self._channel.agree("synchronise")
        mine = [tuple(p.shape) for p in parameters], [layer.shapes for layer in layers]
        for index, theirs in enumerate(self._channel.objects(mine)):
            if theirs != mine:
                raise ValueError(
                    f"all workers must have the same model; worker {self._channel.index} has "
                    f"(parameters, layers) of {mine}, worker {index} of {theirs}"
                )
        for parameter in parameters:
            self._channel.copy_from_first(parameter.detach())
        for array in _arrays(layers):
            array.load_state_dict(self._channel.object_of_first(array.state_dict()))
        self._channel.traffic = Traffic(self._channel.count)

    def __call__(self, groups: Sequence[Group]) -> None:
        """Estimate, exchange, merge, average and write: one step of all layers.

        Raises
        ------
        WorkerLostError
            If another worker died, did not answer within the group's timeout, or is at another
            step or has other sizes or options. No weight has changed then.
        RuntimeError
            If the workers merged different bits in the previous step.
        """
        layers = [(layer, group) for group, layers in groups for layer in layers]
        mine = [u for layer, group in layers for u in layer.estimates(group) or _nothing(layer)]
        limits = [limit for layer, _ in layers for limit in _limits(layer)]
        trained = [p for group, _ in groups for p in group["params"] if p.requires_grad]
        sizes = [update.shape for update in mine], [tuple(p.shape) for p in trained]
        self._step += 1
        options = self.carry_rank, [_options(*each) for each in groups]
        self._channel.agree("LowRankSGD.step", self._step, sizes=sizes, options=options)
        ranks, used = self._agree(mine, trained)
        everyones = self._gather(mine, ranks)
        places = range(len(mine))
        merged = [self._merged(*each) for each in zip(places, everyones, limits, strict=True)]
        averaged = self._average([p for p, is_used in zip(trained, used, strict=True) if is_used])
        self._digest = _digest(averaged, *(t for u in merged for t in (u.left, u.sigma, u.right)))
        rest = iter(merged)
        updates = [[next(rest) for _ in layer.shapes] for layer, _ in layers]
        write_all(
            [
                (layer, [u for u in each if u.rank], group)
                for (layer, group), each in zip(layers, updates, strict=True)
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """The carried remainders, to be saved with the optimiser's state."""
        carried = {place: (u.left, u.sigma, u.right) for place, u in self._carried.items()}
        copies = {place: [part.clone() for part in parts] for place, parts in carried.items()}
        return {"carried": copies, "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._carried = {
            place: LowRank(*(part.clone() for part in parts))
            for place, parts in state["carried"].items()
        }
        self._digest = state["digest"]

    def _agree(
        self, updates: Sequence[LowRank], parameters: Sequence[Tensor]
    ) -> tuple[list[list[int]], list[bool]]:
        """The ranks of each worker, and which parameters have a gradient on any worker."""
        has_gradient = [parameter.grad is not None for parameter in parameters]
        note = torch.tensor([self._digest, *(u.rank for u in updates), *has_gradient])
        notes = [t.tolist() for t in self._channel.gather(note.to(self._channel.device))]
        for index, (digest, *_) in enumerate(notes):
            if digest != notes[0][0]:
                raise RuntimeError(
                    f"all workers must merge the same bits; worker {index} did not merge those of "
                    f"worker 0 in the last step: options, processors or thread counts differ"
                )
        ranks = [note[1 : 1 + len(updates)] for note in notes]
        flags = [note[1 + len(updates) :] for note in notes]
        return ranks, [any(column) for column in zip(*flags, strict=True)]

    def _gather(
        self, updates: Sequence[LowRank], ranks: Sequence[Sequence[int]]
    ) -> list[list[LowRank]]:
        """For each matrix, the updates of every worker, in one collective."""
        sizes = [[k * sum(u.shape) for k, u in zip(r, updates, strict=True)] for r in ranks]
        parts = [part for u in updates for part in ((u.left * u.sigma).T, u.right.T)]
        flat = torch.cat([part.flatten().to(self._channel.device) for part in parts])
        padding = max(map(sum, sizes)) - len(flat)
        found = self._channel.gather(torch.cat([flat, flat.new_zeros(padding)]))
        theirs = [flat[: sum(s)].split(s) for flat, s in zip(found, sizes, strict=True)]
        return [
            [_unpacked(part, u) for part in column]
            for u, column in zip(updates, zip(*theirs, strict=True), strict=True)
        ]

    def _merged(self, place: int, updates: Sequence[LowRank], limit: int | None) -> LowRank:
        """The mean plus the carried remainder, cut to ``limit``; carry the new remainder."""
        means = [LowRank(u.left, u.sigma / len(updates), u.right) for u in updates]
        if limit is None or not any(update.rank for update in updates):
            return merge(means)
        carry_rank = 3 * limit if self.carry_rank is None else self.carry_rank
        past = [self._carried[place]] if place in self._carried else []
        total = merge([*means, *past], limit + carry_rank)
        self._carried[place] = _columns(total, slice(limit, None))
        return _columns(total, slice(limit))

    def _average(self, parameters: Sequence[Tensor]) -> Tensor:
        """Average gradients in place, with zeros for missing ones; return them, flat."""
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if not gradients:
            return torch.zeros(0)
        flat = torch.cat([gradient.flatten().to(self._channel.device) for gradient in gradients])
        parts = self._channel.mean(flat).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat


def check_replicas(model: nn.Module, *, process_group: dist.ProcessGroup | None = None) -> None:
    """Check that all workers have the same bits in parameters and arrays.

    On crossbars, conductances and pulse counts are compared. Buffers are not, because batch
    normalisation has its own on each worker. A hash of 32 bytes is exchanged.

    Raises
    ------
    RuntimeError
        If the models of some workers differ from worker 0's (the message names them), or are at
        another exchange.
    """
    digest = hashlib.sha256()
    for tensor in _bits_of(model):
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    channel = Channel(process_group)
    channel.agree("check_replicas")
    found = channel.objects(digest.digest())
    if others := [index for index, theirs in enumerate(found) if theirs != found[0]]:
        raise RuntimeError(f"all workers must have worker 0's model; workers {others} do not")


def _bits_of(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    for layer in model.modules():
        for array in layer.arrays if isinstance(layer, CrossbarLayer) else ():
            yield array.weights
            if array.conductance is not None and array.pulse_count is not None:
                yield from (array.conductance, array.pulse_count)


def _options(group: Mapping[str, Any], layers: Sequence[LayerUpdate]) -> list[Any]:
    """Everything that decides a step and must be equal on all workers; seeds can differ."""
    shared = sorted((name, value) for name, value in group.items() if name != "params")
    return [shared, [layer.options() for layer in layers]]


def _nothing(layer: LayerUpdate) -> list[LowRank]:
    """Updates of rank 0, for a layer that received no sample."""
    like = held_of(layer.layer)
    dtype = like.dtype if like.dtype == torch.float64 else torch.float32
    empty = torch.empty(0, 0, dtype=dtype, device=like.device)
    return [
        LowRank(empty.new_empty(m, 0), empty.new_empty(0), empty.new_empty(n, 0))
        for m, n in layer.shapes
    ]


def _columns(update: LowRank, which: slice) -> LowRank:
    return LowRank(update.left[:, which], update.sigma[which], update.right[:, which])


def _limits(layer: LayerUpdate) -> list[int | None]:
    """The rank that merged updates are cut to; None for methods whose rank is the batch size."""
    ranks = [
        (estimator.written_rank(1), estimator.written_rank(2)) for estimator in layer.estimators
    ]
    return [
        min(one, *shape) if one == two else None
        for (one, two), shape in zip(ranks, layer.shapes, strict=True)
    ]


def _unpacked(flat: Tensor, like: LowRank) -> LowRank:
    """Unpack factors that were packed as rows, to the device and dtype of ``like``."""
    m, n = like.shape
    rank = len(flat) // (m + n)
    rows = flat.to(like.left)
    left, right = rows[: rank * m].view(rank, m), rows[rank * m :].view(rank, n)
    return LowRank(left.T, left.new_ones(rank), right.T)


def _arrays(layers: Iterable[LayerUpdate]) -> list[Array]:
    on_arrays = [layer.layer for layer in layers if isinstance(layer.layer, CrossbarLayer)]
    return [array for layer in on_arrays for array in layer.arrays]


def _digest(*tensors: Tensor) -> int:
    """A sum over all bits, in 32-bit words."""
    words = (tensor.contiguous().view(torch.int32) for tensor in tensors if tensor.numel())
    return sum(int(word.sum()) for word in words) % 2**62
