"""Gram-Schmidt of a stack of matrices on a GPU, one program a matrix."""

import torch
import triton
from torch import Tensor
from triton import language as tl

from toolkit.lowrank.compiled.gpu import _orthonormalise


@triton.jit
def _unit_rows(matrix, rows_at, rank, width, K: tl.constexpr, P: tl.constexpr):  # type: ignore[no-untyped-def]
    index, columns = tl.arange(0, K), tl.arange(0, P)
    inside = (index < rank)[:, None] & (columns < width)[None, :]
    places = tl.program_id(0) * rank * width + index[:, None] * width + columns[None, :]
    rows = tl.load(matrix + places, mask=inside, other=0.0)
    unit, _ = _orthonormalise(rows, index, rank, 0.0)
    tl.store(rows_at + places, tl.where(unit == unit, unit, 0.0), inside)  # zeros over zero


def orthonormal_rows(matrices: Tensor) -> Tensor:
    """Orthonormal rows that span those of each matrix (stack, k, n); zeros at its end stay."""
    matrices = matrices.contiguous()
    rows, (count, k, width) = torch.empty_like(matrices), matrices.shape
    sizes = {"K": triton.next_power_of_2(k), "P": triton.next_power_of_2(width)}
    _unit_rows[(count,)](matrices, rows, k, width, **sizes, num_warps=8)
    return rows
