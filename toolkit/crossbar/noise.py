"""Random numbers for whole arrays of cells."""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = 2.0**-16


def uniform_(out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``out`` with uniforms in [0, 1), three times faster than one full draw per cell.

    Each is a random multiple of 2**-16 plus one offset below 2**-16 that all of ``out`` share and
    that is drawn anew: every single number is uniform to float32 resolution, and the numbers of one
    draw are independent but for their last bits. Rounding a wanted change with them is unbiased.
    """
    words = torch.empty((out.numel() + 3) // 4, dtype=torch.int64, device=out.device)
    words.random_(-(2**63), None, generator=generator)
    # up to 1 - 2**-8 of a step, so that no sum rounds to 1
    offset = float(torch.rand((), generator=generator, device=generator.device)) * (1 - 2**-8)
    out.view(-1).copy_(words.view(torch.int16)[: out.numel()])
    return out.mul_(_STEP).add_(0.5 + _STEP * offset)
