"""Cells without a closed form for many pulses: one pulse after another, along a curve.

A pulse at state x moves it by ``size * curve(u)`` with ``u = offset + tilt * x``. Which parameters
a device has is in :mod:`toolkit.crossbar.devices.steps` and :mod:`toolkit.crossbar.devices.jumps`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar import kernels
from toolkit.crossbar.devices.responses import TableCells, like


class Curve(Protocol):
    """The unsigned shape of a step; ``kind`` and ``nodes`` say the same to compiled loops."""

    kind: ClassVar[int]

    @property
    def nodes(self) -> np.ndarray:
        """Places and values of the nodes up, and of those down: (4, nodes)."""

    def __call__(self, u: Tensor, *shape: Tensor, is_up: bool) -> Tensor:
        """The shape at ``u``, of the cells' own ``shape`` where the curve has such a parameter."""


class _Formula:
    nodes = np.empty((4, 0))


class ExpCurve(_Formula):
    """``max(0, 1 - A exp(u))``, A the cell's shape."""

    kind: ClassVar[int] = kernels.EXPONENTIAL

    def __call__(self, u: Tensor, *shape: Tensor, is_up: bool) -> Tensor:  # noqa: ARG002
        """See the class."""
        (amplitude,) = shape
        return (1.0 - amplitude * u.exp()).clamp(min=0.0)


class PowCurve(_Formula):
    """``u^gamma`` of u clipped to 0..1, gamma the cell's shape."""

    kind: ClassVar[int] = kernels.POWER

    def __call__(self, u: Tensor, *shape: Tensor, is_up: bool) -> Tensor:  # noqa: ARG002
        """See the class."""
        (gamma,) = shape
        return u.clamp(0.0, 1.0).pow(gamma)


@dataclass(frozen=True, eq=False)
class NodeCurve:
    """Straight between ``nodes``, (4, nodes): places that rise from 0 to 1 and values, up and down.

    A polarity of fewer nodes has its last one more than once.
    """

    nodes: np.ndarray
    kind: ClassVar[int] = kernels.NODES

    @classmethod
    def of(
        cls,
        up: tuple[Sequence[float], Sequence[float]],
        down: tuple[Sequence[float], Sequence[float]],
    ) -> NodeCurve:
        """From places and values of either polarity."""
        longest = max(len(up[0]), len(down[0]))
        rows = [[*row, *[row[-1]] * (longest - len(row))] for row in (*up, *down)]
        return cls(np.array(rows, dtype=float))

    @classmethod
    def evenly(cls, up: Sequence[float], down: Sequence[float]) -> NodeCurve:
        """From values at evenly spaced places."""
        return cls.of(
            (np.linspace(0.0, 1.0, len(up)).tolist(), up),
            (np.linspace(0.0, 1.0, len(down)).tolist(), down),
        )

    def __call__(self, u: Tensor, *shape: Tensor, is_up: bool) -> Tensor:  # noqa: ARG002
        """See the class."""
        rows = torch.as_tensor(self.nodes, dtype=u.dtype, device=u.device)
        places, values = rows[:2] if is_up else rows[2:]
        u = u.clamp(0.0, 1.0).contiguous()
        right = torch.searchsorted(places, u).clamp(1, len(places) - 1)
        start, end = places[right - 1], places[right]
        return torch.lerp(values[right - 1], values[right], (u - start) / (end - start))


@dataclass(frozen=True, kw_only=True)
class StepwiseCells(TableCells):
    """Cells along a curve; ``up`` and ``down`` are size, offset, tilt and what the curve needs.

    Sizes of depression are negative.
    """

    curve: Curve

    @property
    def kind(self) -> int:
        """The curve's."""
        return self.curve.kind

    @property
    def nodes(self) -> np.ndarray:
        """The curve's."""
        return self.curve.nodes

    def step(self, state: Tensor, pulses: Tensor) -> None:
        """Pulse by pulse; the last part of a fractional count makes that fraction of a step."""
        self._advance(state, pulses, is_up=True)
        self._advance(state, -pulses, is_up=False)

    def symmetry_point(self) -> Tensor:
        """By bisection of the sum of the steps up and down between the bounds."""
        parameters = (self.low, self.high, *self.up, *self.down)
        place = next((value.device for value in parameters if isinstance(value, Tensor)), None)
        low, high = torch.broadcast_tensors(
            torch.as_tensor(self.low, dtype=torch.float64, device=place),
            torch.as_tensor(self.high, dtype=torch.float64, device=place),
        )
        none = (self._drift(low) <= 0.0) | (self._drift(high) >= 0.0)
        for _ in range(60):
            middle = (low + high) / 2.0
            rising = self._drift(middle) > 0.0
            low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
        return torch.where(none, math.nan, (low + high) / 2.0)

    def _drift(self, state: Tensor) -> Tensor:
        return self._jump(state, is_up=True) + self._jump(state, is_up=False)

    def _jump(self, state: Tensor, *, is_up: bool) -> Tensor:
        size, offset, tilt, *shape = (like(v, state) for v in (self.up if is_up else self.down))
        return size * self.curve(offset + tilt * state, *shape, is_up=is_up)

    def _advance(self, state: Tensor, count: Tensor, *, is_up: bool) -> None:
        places = (count > 0.0).flatten().nonzero().squeeze(1)
        cells = self.take(places)
        left, moved = count.flatten()[places], state.flatten()[places]
        low, high = like(cells.low, moved), like(cells.high, moved)
        for _ in range(int(left.max().ceil()) if left.numel() else 0):
            share, last = left.clamp(0.0, 1.0), moved.clone()
            moved += share * cells._jump(moved, is_up=is_up)
            torch.clamp(moved, low, high, out=moved)
            left -= share
            # where a whole pulse moves nothing, no further one does
            if torch.equal(moved, last) and bool((share[left > 0.0] == 1.0).all()):
                break
        state.view(-1)[places] = moved
