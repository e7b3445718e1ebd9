"""Checks of what users hand to an array: one clear error, before any state changes."""

from __future__ import annotations

import math

from torch import Tensor

from toolkit.lowrank import LowRank
from toolkit.lowrank.linalg import all_finite


def check_matrix(name: str, matrix: Tensor) -> None:
    """A floating-point matrix (outputs, inputs) that is not empty, or an error."""
    if not isinstance(matrix, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(matrix).__name__}")
    if matrix.ndim != 2 or 0 in matrix.shape or not matrix.is_floating_point():
        raise ValueError(
            f"{name} must be a non-empty floating-point matrix (outputs, inputs), "
            f"got shape {tuple(matrix.shape)}, {matrix.dtype}"
        )


def check_weights(weights: Tensor) -> Tensor:
    """Detached two-dimensional finite floating-point weights, or an error."""
    check_matrix("weights", weights)
    if not all_finite(weights):
        raise ValueError("weights must be finite, got NaN or infinite entries")
    return weights.detach()


def check_signal(name: str, signal: Tensor, width: int) -> None:
    """A finite ``(batch, width)`` input of a read, or an error."""
    if signal.ndim != 2 or signal.shape[1] != width:
        raise ValueError(f"{name} must have shape (batch, {width}), got {tuple(signal.shape)}")
    if not all_finite(signal):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")


def check_finite(**values: float) -> None:
    """Finite numbers, or an error naming the one that is not."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")


def check_positive(**values: float) -> None:
    """Finite positive numbers, or an error naming the one that is not."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def check_update(update: LowRank, shape: tuple[int, int]) -> None:
    """An update of that shape with finite factors, or an error."""
    if tuple(update.shape) != shape:
        raise ValueError(f"update must have shape {shape}, got {tuple(update.shape)}")
    for name in ("left", "sigma", "right"):
        if not all_finite(getattr(update, name)):
            raise ValueError(f"update.{name} must be finite, got NaN or infinite entries")
