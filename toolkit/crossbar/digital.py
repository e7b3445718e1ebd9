"""Plain weights behind the interface of a crossbar, so that one path serves both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import check_choice, check_matrix, check_signal
from toolkit.crossbar.array import check_update
from toolkit.crossbar.pulses import SCHEMES
from toolkit.crossbar.states import load_whole
from toolkit.lowrank import LowRank


class DigitalArray:
    """Weights ``(m, n)`` in ordinary memory: exact reads, exact additions, nothing wears out.

    Has no device: ``device``, ``conductance`` and ``pulse_count`` are None.
    """

    device = None
    conductance = None
    pulse_count = None
    pulses = 0

    def __init__(self, weights: Tensor) -> None:
        self._weights = check_matrix("weights", weights).clone()

    @classmethod
    def from_weights(cls, weights: Tensor) -> DigitalArray:
        """Array holding a copy of ``weights`` (m, n).

        Raises
        ------
        TypeError, ValueError
            If ``weights`` is not a finite floating-point matrix.
        """
        return cls(weights)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        rows, columns = self._weights.shape
        return rows, columns

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, (m, n)."""
        return self._weights.clone()

    @property
    def matrix(self) -> Tensor:
        """The weights themselves, (m, n): to be read, not written."""
        return self._weights

    def read(self, activations: Tensor) -> Tensor:
        """``activations @ weights.T``: (batch, n) -> (batch, m)."""
        check_signal("activations", activations, self.shape[1], self._weights.dtype)
        return activations @ self._weights.T

    def read_transposed(self, errors: Tensor) -> Tensor:
        """``errors @ weights``: (batch, m) -> (batch, n)."""
        check_signal("errors", errors, self.shape[0], self._weights.dtype)
        return errors @ self._weights

    def apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """Descend: ``weights -= learning_rate * left @ diag(sigma) @ right.T``, any scheme alike.

        Raises
        ------
        ValueError
            If the shapes differ, a value is not finite or the scheme is unknown.
        """
        self.check_apply(update, learning_rate=learning_rate, scheme=scheme)
        self.write(update, learning_rate=learning_rate, scheme=scheme)

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:  # noqa: ARG002
        """As :meth:`apply`, of what :meth:`check_apply` has passed."""
        scaled = update.left * update.sigma
        self._weights.addmm_(scaled, update.right.T, alpha=-learning_rate)

    def check_apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """ValueError for all that :meth:`apply` refuses. Writes nothing."""
        check_update(update, self.shape, learning_rate)
        self.check_scheme(scheme)

    def check_scheme(self, scheme: str) -> None:
        """ValueError if the scheme is unknown."""
        check_choice("scheme", scheme, SCHEMES)

    def state_dict(self) -> dict[str, Any]:
        """State to save: the weights."""
        return {"weights": self._weights.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises
        ------
        ValueError
            If the shape differs or a weight is not finite. Nothing is changed.
        """
        load_whole(state, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        weights = check_matrix("weights", state["weights"])
        if weights.shape != self._weights.shape:
            raise ValueError(
                f"weights must have shape {self.shape}; got {tuple(weights.shape)} in the state"
            )
        if weights.dtype != self._weights.dtype:
            raise ValueError(
                f"weights must be {self._weights.dtype}; got {weights.dtype} in the state"
            )
        self._weights = torch.empty_like(self._weights).copy_(weights)
