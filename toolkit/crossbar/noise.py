"""Random numbers for whole arrays of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_STEP = 2.0**-16


def random_words(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Integers of ``dtype``, every value equally likely: the parts of 64-bit random numbers."""
    count = math.prod(shape)
    words = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(dtype)[:count].view(*shape)


def uniform_(out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``out`` with uniforms in [0, 1), three times faster than usual, and return it.

    Each is a random multiple of 2**-16 plus one offset below 2**-16 that all numbers of a draw
    share and that is drawn anew: every single number is uniform to float32 resolution, and the
    numbers of one draw are independent but for their last bits. Rounding with them is unbiased.
    """
    out.copy_(random_words(out.shape, torch.int16, generator))
    share = torch.rand((), generator=generator, dtype=out.dtype, device=out.device)
    # the offset stays 2**-8 of a step below the next, so that no sum rounds to 1
    offset = share.mul_(_STEP * (1 - 2**-8)).add_(0.5)
    return torch.add(offset, out, alpha=_STEP, out=out)
