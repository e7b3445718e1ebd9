"""A communication hook for DistributedDataParallel: rank-k factors instead of dense gradients.

Autograd forms the gradients here. ``factor_exchange.py`` does without them.
"""

# no "from __future__ import annotations": DistributedDataParallel inspects the hook's own
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from toolkit.checks import as_generator, check_count, check_flag
from toolkit.lowrank.linalg import orthonormal_rows, random_matrix
from toolkit.training.distributed.workers import Channel, Traffic


class HookState:
    """State of :func:`sbpca_hook` between steps.

    Parameters
    ----------
    rank
        Outer products per matrix, k; None sends whole gradients, as DistributedDataParallel does
        without a hook, and counts them.
    error_feedback
        Each worker adds to its gradient what earlier steps left out of it. This needs a copy of
        every compressed gradient.
    seed
        Seed of the first directions, the same for all workers.
    process_group
        The participating group; None: everyone.

    Raises
    ------
    TypeError, ValueError
        If rank is not a whole number of at least 1, or error_feedback is not a bool.
    RuntimeError
        If no process group was started.
    """

    def __init__(
        self,
        *,
        rank: int | None = 4,
        error_feedback: bool = True,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        check_flag("error_feedback", error_feedback)
        self.rank = None if rank is None else check_count("rank", rank)
        self.error_feedback = error_feedback
        self._generator = as_generator(seed)
        self._channel = Channel(process_group)
        self._exchanges = 0
        # by parameter, not by bucket: DistributedDataParallel refills its buckets after a step
        self._right: dict[Tensor, Tensor] = {}
        self._residual: dict[Tensor, Tensor] = {}

    @property
    def traffic(self) -> Traffic:
        """Bytes that this worker has sent."""
        return self._channel.traffic

    def state_dict(self, model: nn.Module) -> dict[str, Any]:
        """State of this worker by parameter name; save the states of all workers.

        "right", (k, n), holds the directions to start from; "residual", (m, n), what earlier steps
        left out, with error feedback; "generator" the state of the random generator.
        """
        kept: dict[str, Any] = {"generator": self._generator.get_state()}
        for part, tensors in (("right", self._right), ("residual", self._residual)):
            named = model.named_parameters()
            kept[part] = {name: tensors[p].clone() for name, p in named if p in tensors}
        return kept

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module) -> None:
        """Continue from this worker's :meth:`state_dict`.

        Raises
        ------
        ValueError
            If something is missing or not finite, or the model has no parameter with a saved name
            and size. Nothing has changed then.
        """
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        try:
            kept = [dict(state[part]) for part in ("right", "residual")]
            torch.Generator(self._generator.device).set_state(state["generator"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"state must have 'right', 'residual' and 'generator' of a HookState; got {error}"
            ) from error
        for name, tensor in (item for part in kept for item in part.items()):
            columns = parameters[name][0].numel() if name in parameters else None
            if not isinstance(tensor, Tensor) or tensor.shape[-1:] != (columns,):
                raise ValueError(
                    f"state must be of the model's parameters; got {name!r}, "
                    f"which has {columns or 'no'} columns in the model"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"state must be finite; got NaN or infinite entries in {name!r}")
        right, residual = (
            {parameters[name]: tensor.clone() for name, tensor in part.items()} for part in kept
        )
        self._generator.set_state(state["generator"])
        self._right, self._residual = right, residual

    def average(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Replace every gradient by an approximation of its mean over the workers, in place."""
        self._exchanges += 1
        sizes, options = [tuple(p.shape) for p in parameters], (self.rank, self.error_feedback)
        self._channel.agree("sbpca_hook", self._exchanges, sizes=sizes, options=options)
        both = list(zip(parameters, gradients, strict=True))
        rest = [gradient for parameter, gradient in both if not self._is_worth_factors(parameter)]
        large = [(p, gradient) for p, gradient in both if self._is_worth_factors(p)]
        matrices = [self._with_residual(p, gradient) for p, gradient in large]
        right = [self._directions(p, m) for (p, _), m in zip(large, matrices, strict=True)]
        pushed = [rows @ m.T for rows, m in zip(right, matrices, strict=True)]
        means = self._means([*rest, *pushed])
        for gradient, mean in zip(rest, means, strict=False):
            gradient.copy_(mean)
        left = [orthonormal_rows(rows, self._generator)[0] for rows in means[len(rest) :]]
        pulled = self._means([rows @ m for rows, m in zip(left, matrices, strict=True)])
        for (parameter, gradient), matrix, u, v in zip(large, matrices, left, pulled, strict=True):
            approximation = u.T @ v
            self._right[parameter] = v
            if self.error_feedback:
                self._residual[parameter] = matrix - approximation
            gradient.copy_(approximation.view_as(gradient))

    def _is_worth_factors(self, parameter: Tensor) -> bool:
        """Whether the factors have fewer numbers than the matrix."""
        if self.rank is None or parameter.ndim < 2 or not parameter.numel():
            return False
        m, n = len(parameter), parameter[0].numel()
        return min(self.rank, m, n) * (m + n) < m * n

    def _with_residual(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """The gradient as a matrix (m, n), plus the residual of earlier steps."""
        matrix = gradient.reshape(len(gradient), -1)
        if matrix.dtype not in (torch.float32, torch.float64):
            matrix = matrix.float()  # QR has no half precision
        return matrix + self._residual[parameter] if parameter in self._residual else matrix

    def _directions(self, parameter: Tensor, matrix: Tensor) -> Tensor:
        """Orthonormal rows (k, n) to start from: the previous step's, then random ones."""
        assert self.rank is not None
        k, n = min(self.rank, *matrix.shape), matrix.shape[1]
        rows = self._right.get(parameter, matrix.new_zeros(0, n))[:k]
        fresh = random_matrix(k - len(rows), n, self._generator, like=matrix)
        return orthonormal_rows(torch.cat([rows, fresh]), self._generator)[0]

    def _means(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Means over the workers, in one collective; for a NaN, the same ValueError everywhere."""
        if not tensors:
            return []
        flat = self._channel.mean(torch.cat([tensor.flatten() for tensor in tensors]))
        if not math.isfinite(float(flat.sum())) and not bool(torch.isfinite(flat).all()):
            raise ValueError(
                "gradients must be finite on every worker; one has a NaN or an infinity (a "
                "GradScaler causes them: use bfloat16, which does not need one)"
            )
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def sbpca_hook(state: HookState, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    r"""Average the gradients of DistributedDataParallel by exchanging factors of rank k.

    ::

        model = DistributedDataParallel(model)
        state = HookState(rank=4)
        model.register_comm_hook(state, sbpca_hook)
        ...
        print(state.traffic.bytes_sent)

    For each parameter of two or more dimensions, as a matrix (m, n) = (first, all others), W
    workers with gradients :math:`M_w` (with error feedback: plus what earlier steps left out), and
    X (n, k) the right vectors kept from the previous step,

    .. math::
        \Delta = \mathrm{qr}\Big[\frac1W \sum_w M_w X\Big], \qquad
        Y = \frac1W \sum_w M_w^T \Delta, \qquad
        \hat G = \Delta Y^T, \qquad X \leftarrow \mathrm{qr}[Y],

    This is the power iteration of SBPCA's blocks, on whole batches and without the average over the
    past: PowerSGD. Two all-reduces carry k (m + n) numbers instead of m n. Biases, normalisation
    and matrices whose factors would not be smaller are sent uncompressed, with the first of the
    two.

    Parameters
    ----------
    state
        The state between steps, and the options.
    bucket
        The gradients, passed in by DistributedDataParallel.

    Returns
    -------
    torch.futures.Future
        Already done, with the bucket's buffer, which has the same bits on all workers.

    Raises
    ------
    WorkerLostError
        If another worker died, did not answer within the group's timeout, or has other options.
    ValueError
        If a gradient is NaN or infinite; raised on all workers.

    Notes
    -----
    Differences from torch's ``powerSGD_hook``: biases share a collective with the first factors
    (two per bucket, not three); compression starts at the first step; an inactive layer cannot
    cause a NaN; and every collective is awaited where it is called. That gives up the overlap with
    backward, which matters little for so few bytes. In return, workers on gloo call their
    collectives in the same order for any number of buckets.

    References
    ----------
    Vogels, Karimireddy, Jaggi: PowerSGD: Practical Low-Rank Gradient Compression for Distributed
    Optimization. NeurIPS 2019, arXiv:1905.13727.
    """
    buffer = bucket.buffer()
    state.average(bucket.parameters(), bucket.gradients())
    future: torch.futures.Future[Tensor] = torch.futures.Future(
        devices=[buffer.device] if buffer.is_cuda else None
    )
    future.set_result(buffer)
    return future
