"""Random numbers for whole arrays of cells, several times cheaper than one draw after another.

A draw takes two fresh words from the array's :class:`torch.Generator` and hashes them with every
cell's index, by elementwise integer operations that run on all threads and on any torch device.
The same generator state gives the same bits; the generator's state is the only state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Odd multipliers of the 32-bit integer hash "lowbias32" (C. Wellons, public domain constants),
# as signed numbers.
_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32
# A hair less than 2**-32: no uniform may round to 1 and no normal to infinity in float32.
_UNIT = 2.0**-32 * (1.0 - 2.0**-22)


class CellNoise:
    """Independent uniforms and normals, one per cell of a tensor of a fixed shape."""

    def __init__(self, like: Tensor, generator: torch.Generator) -> None:
        self.generator = generator
        self._index = torch.arange(like.numel(), dtype=torch.int32, device=like.device)
        self._word = torch.empty_like(self._index)
        self._shift = torch.empty_like(self._index)

    def uniform_(self, out: Tensor) -> Tensor:
        """Fill ``out`` with uniforms in (0, 1), in steps of about 2**-24 (float32)."""
        return out.copy_(self._words(out.numel()).view(out.shape)).mul_(_UNIT).add_(0.5)

    def normal_(self, out: Tensor) -> Tensor:
        """Fill ``out`` with standard normals, by the inverse error function (to 5 sigma)."""
        out.copy_(self._words(out.numel()).view(out.shape))
        return out.mul_(2.0 * _UNIT).erfinv_().mul_(math.sqrt(2.0))

    def _words(self, count: int) -> Tensor:
        """Hash of (cell index, two fresh words): 32 random bits per cell."""
        fresh = torch.randint(
            -(2**31), 2**31, (2,), generator=self.generator, device=self.generator.device
        ).tolist()
        word, shift = self._word[:count], self._shift[:count]
        torch.add(self._index[:count], fresh[0], out=word)
        word.mul_(fresh[1] | 1)
        for multiplier, bits in ((_FIRST, 16), (_SECOND, 15)):
            word.bitwise_xor_(torch.bitwise_right_shift(word, bits, out=shift))
            word.mul_(multiplier)
        return word
