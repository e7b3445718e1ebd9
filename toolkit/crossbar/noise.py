"""Random numbers for whole arrays of cells."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar import kernels


def round_(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round contiguous ``values`` in place, up with the chance of the fraction; returns them."""
    if values.device.type != "cpu":
        low = values.floor()
        uniform = torch.empty_like(values).uniform_(generator=generator)
        return values.sub_(low).gt_(uniform).add_(low)
    (key,) = keys(1, generator)
    flat = values.view(-1).numpy()
    kernels.in_parts(lambda *part: kernels.round_up_or_down(flat, key, *part), len(flat))
    return values


def keys(count: int, generator: torch.Generator) -> np.ndarray:
    """Keys of that many sequences of random numbers for :mod:`toolkit.crossbar.kernels`."""
    words = torch.empty(count, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.cpu().numpy().view(np.uint64)
