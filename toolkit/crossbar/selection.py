"""Some cells of many: finding them. On the CPU by numpy, which is some times faster."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def places_not_zero(values: Tensor) -> Tensor:
    """Rising places of the flattened ``values`` that are true or not 0."""
    if values.device.type != "cpu":
        return values.flatten().nonzero().squeeze(1)
    flat = values.numpy().ravel()
    return torch.from_numpy(_true_places(flat if values.dtype == torch.bool else flat != 0.0))


def _true_places(mask: np.ndarray) -> np.ndarray:
    """Places where a mask is true; where they are few, words of 8 entries are looked at first."""
    if len(mask) % 8 or np.count_nonzero(mask) > 0.1 * len(mask):
        return np.flatnonzero(mask)
    words = mask.view(np.int64)
    hit = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words.take(hit).view(np.bool_))
    return (hit.take(inside >> 3) << 3) + (inside & 7)
