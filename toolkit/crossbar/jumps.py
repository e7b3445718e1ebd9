"""The jump table: the measured mean step dG(G, polarity) itself as a response, no formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar.response import Draw, Parameter
from toolkit.crossbar.steps import StepwiseCells

if TYPE_CHECKING:
    from toolkit.crossbar.device import Device


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """Steps of one polarity: their size ``mean`` at the states ``nodes``, linear in between.

    ``nodes`` rise from 0 to 1 (normalised state), ``mean`` (not negative) and ``spread`` (standard
    deviation of one pulse) are fractions of the conductance range.
    """

    nodes: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.nodes) == len(self.mean) == len(self.spread) >= 2:
            raise ValueError(
                "nodes, mean and spread must have the same length, 2 or more, "
                f"got {len(self.nodes)}, {len(self.mean)}, {len(self.spread)}"
            )
        if self.nodes[0] != 0.0 or self.nodes[-1] != 1.0 or not np.all(np.diff(self.nodes) > 0.0):
            raise ValueError(f"nodes must rise from 0 to 1, got {self.nodes}")
        for name in ("mean", "spread"):
            values = np.array(getattr(self, name))
            if not np.all(np.isfinite(values) & (values >= 0.0)):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")

    def size(self, state: Tensor) -> Tensor:
        """Mean size of a step from ``state``, any shape."""
        nodes = torch.tensor(self.nodes, dtype=state.dtype, device=state.device)
        mean = torch.tensor(self.mean, dtype=state.dtype, device=state.device)
        right = torch.searchsorted(nodes, state.contiguous()).clamp(1, len(self.nodes) - 1)
        start, end = nodes[right - 1], nodes[right]
        share = ((state - start) / (end - start)).clamp(0.0, 1.0)
        return torch.lerp(mean[right - 1], mean[right], share)


@dataclass(frozen=True, kw_only=True)
class JumpTable:
    """A pulse moves the state up by ``up`` or down by ``down`` at that state, clipped to 0..1.

    ``scale_spread`` is the standard deviation, from cell to cell, of a factor around 1 on all steps
    of a cell. The noise of a pulse is the device's (:func:`toolkit.crossbar.measured.fit_device`
    sets it to follow the tables' ``spread``).

    There is no closed form for many pulses: a write loops over its longest train, each turn
    vectorised over the cells still to be pulsed, about ten memory passes over those.
    """

    up: Jumps
    down: Jumps
    scale_spread: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale_spread >= 0.0:
            raise ValueError(f"scale_spread must be at least 0, got {self.scale_spread}")

    def cells(self, device: Device, draw: Draw | None = None) -> StepwiseCells:  # noqa: ARG002
        """Cells pulsed one pulse after another."""
        scale: Parameter = 1.0
        if draw is not None and self.scale_spread > 0.0:
            scale = (1.0 + self.scale_spread * draw(0)).abs()
        return StepwiseCells(self._size, scale, scale, 0.0, 1.0)

    def _size(self, state: Tensor, up: bool, low: Parameter, high: Parameter) -> Tensor:  # noqa: ARG002
        return (self.up if up else self.down).size(state)
