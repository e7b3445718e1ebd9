"""One layer's step: samples, estimator, momentum in factors, and the write to weights or arrays.

Which layers there are and with which settings is for an optimiser to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from toolkit.crossbar import Converter
from toolkit.lowrank import Estimator, FullGradient, LowRank, estimator_knobs
from toolkit.lowrank.linalg import factored_svd
from toolkit.training.layers.capture import PlainLayer, adapter_of, attach, weight_of
from toolkit.training.layers.modules import CrossbarLayer


class LayerUpdate:
    """A layer in training: an estimator and a velocity for each of its matrices.

    Parameters
    ----------
    name
        For messages and saved states.
    layer
        On crossbars, or one of torch's, which is attached (:func:`~.capture.attach`).
    new_estimator
        Makes one estimator after another.
    """

    def __init__(
        self,
        name: str,
        layer: CrossbarLayer | PlainLayer,
        new_estimator: Callable[[], Estimator],
    ) -> None:
        self.name, self.layer = name, layer
        self.shapes = matrix_shapes(layer)
        if isinstance(layer, CrossbarLayer):
            self.adapter, self.capture = layer.adapter, layer.capture
        else:
            self.adapter, self.capture = adapter_of(layer), attach(layer)
        if not self.adapter.is_estimated:
            new_estimator = FullGradient
        self.estimators = [new_estimator() for _ in self.shapes]
        self._knobs = frozenset(estimator_knobs(self.estimators[0].name))
        self.velocities: list[LowRank | None] = [None for _ in self.shapes]

    def estimates(self, group: Mapping[str, Any]) -> list[LowRank]:
        """Use up the samples of the calls so far: an update for each matrix; [] without calls.

        ``group`` holds "rank", "block_size" and any further knobs of the estimators, and may hold
        "sample_bits", to which errors and activations are rounded, sample by sample.
        """
        self.apply_knobs(group)
        bits = group.get("sample_bits")
        samples = self._samples(streamed=bits is None)
        self.capture.clear()
        if not all(len(errors) for errors, _ in samples):  # an empty batch
            return []
        if bits is not None:
            samples = [tuple(map(Converter(bits=bits).quantise, pair)) for pair in samples]
        with in_layer(self.name):
            return [
                estimator.update(*pair)
                for estimator, pair in zip(self.estimators, samples, strict=False)
            ]

    def _samples(self, *, streamed: bool) -> Sequence[Any]:
        """(errors, activations) for each matrix; of a plain layer without its bias."""
        bias = isinstance(self.layer, CrossbarLayer) and self.layer.has_bias
        dtype = held_of(self.layer).dtype
        working = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        take = self.capture.streams if streamed else self.capture.samples
        return take(self.adapter, working, bool(bias))

    def options(self) -> list[Any]:
        """The estimators' method and knobs, except seeds and those that the group sets."""
        own = sorted(self._knobs - {"seed", "rank", "block_size"})
        return [self.name, self.estimators[0].name, [getattr(self.estimators[0], k) for k in own]]

    def steps(self, updates: Sequence[LowRank], group: Mapping[str, Any]) -> list[LowRank]:
        """The writes for one update of each matrix, momentum included.

        ``group`` holds "lr", "rank", "momentum", "momentum_rank" and "scheme". Nothing changes yet.

        Raises
        ------
        ValueError
            If a number of it overflows, or an array would refuse it.
        """
        steps = [self._checked(update, group["lr"]) for update in updates]
        if group["momentum"]:
            for i, update in enumerate(steps):
                whole = not self.adapter.is_estimated
                least = min(self.shapes[i]) if whole else 2 * min(group["rank"], *self.shapes[i])
                rank = group["momentum_rank"] or least
                velocity = merged(self.velocities[i], update, group["momentum"], rank)
                steps[i] = self._checked(velocity, group["lr"])
        if isinstance(self.layer, CrossbarLayer):
            for array, step in zip(self.layer.arrays, steps, strict=False):
                with in_layer(self.name):
                    array.check_apply(step, learning_rate=group["lr"], scheme=group["scheme"])
        return steps

    def write(self, steps: Sequence[LowRank], group: Mapping[str, Any]) -> None:
        """Descend by what :meth:`steps` gave, and so has checked; do nothing if there are none.

        ``group`` holds "lr", "momentum", "weight_decay" and "scheme".
        """
        for i, step in enumerate(steps):
            self.velocities[i] = step if group["momentum"] else None
        if isinstance(self.layer, CrossbarLayer):
            for array, step in zip(self.layer.arrays, steps, strict=False):
                array.write(step, learning_rate=group["lr"], scheme=group["scheme"])
        elif steps:
            self._descend(weight_of(self.layer).detach(), steps, group)

    def state_dict(self) -> dict[str, Any]:
        """Estimators and velocities."""
        return {
            "name": self.name,
            "estimators": [estimator.state_dict() for estimator in self.estimators],
            "velocities": [
                None if v is None else [part.clone() for part in (v.left, v.sigma, v.right)]
                for v in self.velocities
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave. ValueError if it is of other matrices."""
        for (m, n), saved in zip(self.shapes, state["estimators"], strict=True):
            for name, size in (("left", m), ("right", n)):
                rows = saved.get(name)
                if isinstance(rows, Tensor) and size not in rows.shape:
                    raise ValueError(
                        f"layer {self.name!r}: state must be of matrices {m} x {n}; "
                        f"got {name!r} of shape {tuple(rows.shape)}"
                    )
        for (m, n), parts in zip(self.shapes, state["velocities"], strict=True):
            if parts is not None and (len(parts[0]), len(parts[2])) != (m, n):
                raise ValueError(
                    f"layer {self.name!r}: state must have velocities {m} x {n}; "
                    f"got {len(parts[0])} x {len(parts[2])}"
                )
        for estimator, saved in zip(self.estimators, state["estimators"], strict=True):
            estimator.load_state_dict(saved)
        self.velocities = [
            None if parts is None else LowRank(*(part.clone() for part in parts))
            for parts in state["velocities"]
        ]

    def apply_knobs(self, group: Mapping[str, Any]) -> None:
        """Set those of the estimators' knobs that the group names.

        A rank is at most min(m, n) of the matrix; a block counts network inputs.
        """
        for knob in self._knobs & group.keys():
            wanted = group[knob]
            if knob == "block_size":
                wanted *= self.capture.positions
            for estimator, shape in zip(self.estimators, self.shapes, strict=True):
                value = min(wanted, *shape) if knob == "rank" else wanted
                if getattr(estimator, knob) != value:
                    setattr(estimator, knob, value)

    def _checked(self, step: LowRank, lr: float) -> LowRank:
        if not _largest(step) * max(lr, 1.0) <= torch.finfo(held_of(self.layer).dtype).max:
            raise ValueError(
                f"the update of layer {self.name!r} must be finite; got an overflow: its inputs or "
                "errors, or the learning rate, are too large"
            )
        return step

    def _descend(self, weight: Tensor, steps: Sequence[LowRank], group: Mapping[str, Any]) -> None:
        """``weight -= lr * steps``, in place, for a weight in whatever layout."""
        if group["weight_decay"]:
            weight.mul_(1.0 - group["lr"] * group["weight_decay"])
        matrices = self.adapter.matrices(weight)
        for matrix, step in zip(matrices, steps, strict=False):
            left = (step.left * step.sigma).to(matrix)
            matrix.addmm_(left, step.right.T.to(matrix), alpha=-group["lr"])
        if matrices[0].data_ptr() != weight.data_ptr():
            weight.copy_(self.adapter.weight(matrices))


def write_all(layers: Sequence[tuple[LayerUpdate, list[LowRank], Mapping[str, Any]]]) -> None:
    """Write (layer, updates, group) one after another, or none if one of them is refused."""
    steps = [layer.steps(updates, group) for layer, updates, group in layers]
    for (layer, _, group), each in zip(layers, steps, strict=True):
        layer.write(each, group)


@contextmanager
def in_layer(name: str) -> Iterator[None]:
    """Name the layer in a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error


def _largest(update: LowRank) -> float:
    """A bound on the entries of the matrix; infinite or NaN where a factor is."""
    norm, left = torch.linalg.vector_norm, update.left * update.sigma
    bound = float(norm(left)) * float(norm(update.right))  # Cauchy and Schwarz
    if math.isfinite(bound) or not update.rank:
        return bound
    # a sum of squares may overflow where no entry of the matrix does
    return update.rank * float(norm(left, math.inf)) * float(norm(update.right, math.inf))


def merged(velocity: LowRank | None, update: LowRank, momentum: float, rank: int) -> LowRank:
    """The best approximation of ``momentum * velocity + update`` of that rank, from the factors.

    Thin QR of both sides and the SVD of the small core: exact if the sum has no higher rank.
    """
    left, right = update.left * update.sigma, update.right
    if velocity is not None:
        past = (velocity.left * (momentum * velocity.sigma)).to(left)
        left, right = torch.cat([past, left], 1), torch.cat([velocity.right.to(right), right], 1)
    return LowRank(*factored_svd(left.T, right.T, rank))


def matrix_shapes(layer: CrossbarLayer | PlainLayer) -> list[tuple[int, int]]:
    """(outputs, inputs) of each matrix of a layer: one, or one for each group of a convolution."""
    if isinstance(layer, CrossbarLayer):
        return [array.shape for array in layer.arrays]
    matrices = adapter_of(layer).matrices(weight_of(layer).detach())
    return [(matrix.shape[0], matrix.shape[1]) for matrix in matrices]


def held_of(layer: CrossbarLayer | PlainLayer) -> Tensor:
    """The parameter that says in which dtype and where the layer's weights are."""
    return layer.anchor if isinstance(layer, CrossbarLayer) else weight_of(layer)
