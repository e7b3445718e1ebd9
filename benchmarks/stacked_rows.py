"""Gram-Schmidt of a stack of matrices on a GPU, one program a matrix."""

import torch
import triton
from torch import Tensor
from triton import language as tl


@triton.jit
def _unit_rows(matrix, rows_at, rank, width, K: tl.constexpr, P: tl.constexpr):  # type: ignore[no-untyped-def]
    index, columns = tl.arange(0, K), tl.arange(0, P)
    inside = (index < rank)[:, None] & (columns < width)[None, :]
    places = tl.program_id(0) * rank * width + index[:, None] * width + columns[None, :]
    rows = tl.load(matrix + places, mask=inside, other=0.0)
    for p in range(rank):
        mine = index[:, None] == p
        row = tl.sum(tl.where(mine, rows, 0.0), 0)
        before = tl.sqrt(tl.sum(row * row))
        row = row / tl.where(before > 0.0, before, 1.0)
        for _ in tl.static_range(2):
            along = tl.where(index < p, tl.sum(rows * row[None, :], 1), 0.0)
            row -= tl.sum(along[:, None] * rows, 0)
        after = tl.sqrt(tl.sum(row * row))
        row = row / tl.where(after > 0.0, after, 1.0)
        rows = tl.where(mine, row[None, :], rows)
    tl.store(rows_at + places, rows, inside)


def orthonormal_rows(matrices: Tensor) -> Tensor:
    """Orthonormal rows that span those of each matrix (stack, k, n); rows of zeros stay."""
    matrices = matrices.contiguous()
    rows, (count, k, width) = torch.empty_like(matrices), matrices.shape
    sizes = {"K": triton.next_power_of_2(k), "P": triton.next_power_of_2(width)}
    _unit_rows[(count,)](matrices, rows, k, width, **sizes, num_warps=8)
    return rows
