"""Plain weights with the interface of a crossbar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import check_matrix
from toolkit.crossbar.array import Array
from toolkit.lowrank import LowRank


class DigitalArray(Array):
    """Weights ``(m, n)`` in ordinary memory: reads and additions are exact, nothing wears out.

    There is no device: ``device``, ``conductance`` and ``pulse_count`` are None.
    """

    device = None
    conductance = None
    pulse_count = None
    pulses = 0

    def __init__(self, weights: Tensor) -> None:
        self._weights = check_matrix("weights", weights).clone()
        super().__init__(self._weights)

    @classmethod
    def from_weights(cls, weights: Tensor) -> DigitalArray:
        """Create an array that holds a copy of ``weights`` (m, n).

        Raises
        ------
        TypeError, ValueError
            If ``weights`` is not a finite floating-point matrix.
        """
        return cls(weights)

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, (m, n)."""
        return self._weights.clone()

    @property
    def matrix(self) -> Tensor:
        """The weights themselves, (m, n): read only."""
        return self._weights

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:  # noqa: ARG002
        """Compute ``weights -= learning_rate * left @ diag(sigma) @ right.T`` for any scheme."""
        scaled = update.left * update.sigma
        self._weights.addmm_(scaled, update.right.T, alpha=-learning_rate)

    def _saved(self) -> dict[str, Any]:
        return {"weights": self._weights.clone()}

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        return signal @ (self._weights if transposed else self._weights.T)

    def _restore(self, state: Mapping[str, Any]) -> None:
        weights = check_matrix("weights", state["weights"])
        for name in ("shape", "dtype"):
            mine, saved = (getattr(each, name) for each in (self._weights, weights))
            if saved != mine:
                saved, mine = (tuple(v) if name == "shape" else v for v in (saved, mine))
                raise ValueError(f"weights must have {name} {mine}; got {saved} in the state")
        self._weights = torch.empty_like(self._weights).copy_(weights)
