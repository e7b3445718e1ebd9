"""Workers that train as one on the factors of their gradients, which nobody ever forms.

Each keeps estimators of its own over its own (errors, activations); what they say is exchanged,
added up in factors and cut back to rank k.
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
    r"""The sum of low-rank matrices, cut to its best approximation of a rank, from the factors.

    With the factors side by side, :math:`L = [\Delta_1 \Sigma_1, \dots, \Delta_W \Sigma_W]` and
    :math:`R = [X_1, \dots, X_W]`, thin QRs :math:`L = Q_L R_L`, :math:`R = Q_R R_R` and the SVD of
    the core :math:`R_L R_R^T`, whose sides are at most the sum of the ranks. By Eckart and
    Young (1936) no matrix of that rank is nearer to the sum; no m x n matrix is formed.

    Parameters
    ----------
    updates
        At least one, all (m, n).
    rank
        Triplets to keep; None keeps all, as the factors side by side.

    Returns
    -------
    LowRank
        Orthonormal factors and sigma in descending order, if a rank is given.

    Raises
    ------
    ValueError
        If there are no updates, or their shapes differ.
    """
    if len({update.shape for update in updates}) != 1:
        raise ValueError(
            f"updates must be at least one, of one shape; got {[u.shape for u in updates]}"
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
    """Let the workers that hold this optimiser and its model train as one from now on.

    One line more in a training loop, before the first batch::

        optimizer = LowRankSGD(model, lr=0.1, rank=4)
        exchange = synchronise(optimizer)

    Every worker takes over the weights of worker 0 (on crossbars: cells, counts and generators),
    and ``optimizer.step`` exchanges updates from then on: see :class:`FactorExchange`. Each worker
    trains on its own samples; the model is not wrapped in a DistributedDataParallel.

    Parameters
    ----------
    optimizer
        Of this worker; with the same options on all.
    carry_rank
        Rank at which what a merge leaves out is carried over; None: three times the rank of the
        update, 0: it is dropped.
    process_group
        Who takes part; None: everyone.

    Returns
    -------
    FactorExchange
        Its ``traffic`` counts the bytes that this worker has sent.

    Raises
    ------
    TypeError
        If optimizer is no LowRankSGD, or carry_rank no whole number.
    ValueError
        If carry_rank is negative, or the workers' models differ in their parameters or layers.
    RuntimeError
        If no process group was begun.
    WorkerLostError
        If another worker died or did not come within the group's timeout.
    """
    check_instance("optimizer", optimizer, LowRankSGD, "a LowRankSGD")
    exchange = FactorExchange(carry_rank=carry_rank, process_group=process_group)
    exchange.begin(optimizer.grouped_layers())
    optimizer.exchange = exchange
    return exchange


class FactorExchange:
    r"""One step of W workers that send factors of rank k in place of gradients.

    Worker w's estimators give :math:`\hat G_w` for its own samples. All have the factors of all
    (one all-gather for the whole network) and compute

    .. math::
        T = M + \frac1W \sum_w \hat G_w, \qquad \hat G = [T]_k, \qquad
        M \leftarrow [T - \hat G]_r

    exactly from them (:func:`merge`): the W k directions are cut to k, and what that leaves out
    is carried over in M, of rank r, on every worker alike. That is error feedback in factors, and
    it costs no bytes. The momentum and the write follow as with one worker. A
    method without a rank (``method="sgd"``) is not cut: its factors are the samples, and the step
    is that of one worker with all the samples. Biases and other parameters are averaged whole
    (one all-reduce).

    The mean is over workers. With losses that are means over samples, and equal parts of the batch,
    it is the gradient of the mean loss of the whole batch.

    Notes
    -----
    - A header of 32 bytes comes first: the step, the sizes and the options, so that workers that
      differ raise the same error. An empty part of a batch counts as an update of rank 0.
    - A small all-gather comes next: the ranks of this step's factors, and a sum over the bits
      that each worker merged the step before. So parts of a batch may differ in size, and workers
      whose processors round differently are noticed at once instead of drifting apart.
    - Estimators and buffers (of batch normalisation) are each worker's own.
    - Crossbars of all workers are twins: the same cells, the same pulses. They stay so if reads
      draw nothing, or as much on every worker (noisy reads of parts of equal size).
      :func:`check_replicas` makes sure.
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
        self._carried: dict[int, LowRank] = {}  # by place among all matrices

    @property
    def traffic(self) -> Traffic:
        """Bytes that this worker has sent."""
        return self._channel.traffic

    def begin(self, groups: Sequence[Group]) -> None:
        """Take over worker 0's weights. ValueError if the workers' models differ."""
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
        """Estimate, exchange, merge, average and write: a step of all layers.

        Raises
        ------
        WorkerLostError
            If another worker died, did not come within the group's timeout, or came with another
            step, other sizes or other options. No weight has changed then.
        RuntimeError
            If the workers merged different bits the step before.
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
        """What is carried over, to be saved beside the optimiser's state."""
        carried = {place: (u.left, u.sigma, u.right) for place, u in self._carried.items()}
        copies = {place: [part.clone() for part in parts] for place, parts in carried.items()}
        return {"carried": copies, "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._carried = {
            place: LowRank(*(part.clone() for part in parts))
            for place, parts in state["carried"].items()
        }
        self._digest = state["digest"]

    def _agree(
        self, updates: Sequence[LowRank], parameters: Sequence[Tensor]
    ) -> tuple[list[list[int]], list[bool]]:
        """Each worker's ranks, and which parameters have a gradient anywhere."""
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
        """For each matrix what every worker says of it, in one collective for all of them."""
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
        """The mean and what is carried, cut to ``limit``; the rest is carried on."""
        means = [LowRank(u.left, u.sigma / len(updates), u.right) for u in updates]
        if limit is None or not any(update.rank for update in updates):
            return merge(means)
        carry_rank = 3 * limit if self.carry_rank is None else self.carry_rank
        past = [self._carried[place]] if place in self._carried else []
        total = merge([*means, *past], limit + carry_rank)
        self._carried[place] = _columns(total, slice(limit, None))
        return _columns(total, slice(limit))

    def _average(self, parameters: Sequence[Tensor]) -> Tensor:
        """Average gradients in place, zeros where there is none; return them, flat."""
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
    """Make sure that all workers have the same bits in parameters and arrays.

    On crossbars conductances and pulse counts are compared. Buffers are not: those of batch
    normalisation are each worker's own. A hash of 32 bytes is exchanged.

    Raises
    ------
    RuntimeError
        That names the workers whose model is not worker 0's, or are at another exchange.
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
    """All that decides a step and must be the same on every worker; seeds may differ."""
    shared = sorted((name, value) for name, value in group.items() if name != "params")
    return [shared, [layer.options() for layer in layers]]


def _nothing(layer: LayerUpdate) -> list[LowRank]:
    """Updates of rank 0, of a layer that no sample came through."""
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
    """The rank that merged updates are cut to; None for a method whose rank is the batch's."""
    ranks = [
        (estimator.written_rank(1), estimator.written_rank(2)) for estimator in layer.estimators
    ]
    return [
        min(one, *shape) if one == two else None
        for (one, two), shape in zip(ranks, layer.shapes, strict=True)
    ]


def _unpacked(flat: Tensor, like: LowRank) -> LowRank:
    """The factors that were packed as rows, on the device and in the dtype of ``like``."""
    m, n = like.shape
    rank = len(flat) // (m + n)
    rows = flat.to(like.left)
    left, right = rows[: rank * m].view(rank, m), rows[rank * m :].view(rank, n)
    return LowRank(left.T, left.new_ones(rank), right.T)


def _arrays(layers: Iterable[LayerUpdate]) -> list[Array]:
    on_arrays = [layer.layer for layer in layers if isinstance(layer.layer, CrossbarLayer)]
    return [array for layer in on_arrays for array in layer.arrays]


def _digest(*tensors: Tensor) -> int:
    """A sum over all bits, as 32-bit words."""
    words = (tensor.contiguous().view(torch.int32) for tensor in tensors if tensor.numel())
    return sum(int(word.sum()) for word in words) % 2**62
