"""SBPCA on a GPU, in Triton, which comes with torch there.

The torch statement starts some twenty kernels per block and waits for the GPU twice, which takes
far longer than the arithmetic. Here a small layer's batch is one kernel, and a larger one has its
products from torch and nothing to wait for. As with the compiled loops of
:mod:`toolkit.lowrank.compiled.recursions`, what is rare is left to the statement.
"""

import torch
import triton
from torch import Tensor
from triton import language as tl

from toolkit.lowrank.compiled.recursions import doubtful_share

__all__ = ["UnitRows", "fits", "holds", "sbpca"]

# Numbers of a tile of rows x samples x columns: a program holds some of them in registers.
_TILE = 16384
# Numbers of a side that a program holds at most.
_MOST = 2 * _TILE
# Tiles of a batch up to which one program is faster than products on the whole GPU.
_MOST_TILES = 256


@triton.jit
def _orthonormalise(rows, index, rank, doubtful):  # type: ignore[no-untyped-def]
    """Gram-Schmidt of the rows, each projected twice; and whether none may have died."""
    is_whole = True
    for p in range(rank):
        mine = index[:, None] == p
        row = tl.sum(tl.where(mine, rows, 0.0), 0)
        before = tl.sqrt(tl.sum(row * row))
        for _ in tl.static_range(2):
            along = tl.where(index < p, tl.sum(rows * row[None, :], 1), 0.0)
            row -= tl.sum(along[:, None] * rows, 0)
        after = tl.sqrt(tl.sum(row * row))
        is_whole = is_whole & (after > doubtful * before) & (before < float("inf"))
        rows = tl.where(mine, (row / after)[None, :], rows)
    return rows, is_whole


@triton.jit
def _samples(matrix, first, stop, width, chunk, columns):  # type: ignore[no-untyped-def]
    """Rows ``first + chunk`` before ``stop`` of a matrix, zeros beyond."""
    places = first + chunk
    inside = (places < stop)[:, None] & (columns < width)[None, :]
    return tl.load(matrix + places[:, None] * width + columns[None, :], mask=inside, other=0.0)


@triton.jit(do_not_specialize=["batch", "m", "n", "rank", "block", "passes"])
def _blocks(  # type: ignore[no-untyped-def]
    left_at,
    sigma_at,
    right_at,
    errors,
    activations,
    whole_at,
    batch,
    m,
    n,
    rank,
    block,
    passes,
    past: tl.float64,
    next_past: tl.float64,
    doubtful: tl.float64,
    K: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    S: tl.constexpr,
):
    """The recursion of :class:`toolkit.lowrank.SBPCA` over a batch, in place."""
    index, chunk = tl.arange(0, K), tl.arange(0, S)
    outputs, inputs = tl.arange(0, M), tl.arange(0, N)
    left = _samples(left_at, 0, rank, m, index, outputs)
    right = _samples(right_at, 0, rank, n, index, inputs)
    sigma = tl.load(sigma_at + index, mask=index < rank, other=0.0)
    is_whole = True
    for turn in range(passes):
        seen = past if turn == 0 else next_past
        for start in range(0, batch, block):
            stop = tl.minimum(start + block, batch)
            count = (stop - start).to(tl.float64)
            seen += count
            keep, weight = (1.0 - count / seen).to(sigma.dtype), (batch / seen).to(sigma.dtype)
            sign = tl.where(sigma < 0.0, -1.0, 1.0).to(sigma.dtype)  # a keep of 0 would hide it
            sigma *= keep
            right *= sigma[:, None]
            for first in range(start, stop, S):
                d = _samples(errors, first, stop, m, chunk, outputs)
                a = _samples(activations, first, stop, n, chunk, inputs)
                along = weight * tl.sum(left[:, None, :] * d[None, :, :], 2)
                right += tl.sum(along[:, :, None] * a[None, :, :], 1)
            right, right_whole = _orthonormalise(right, index, rank, doubtful)
            right *= sign[:, None]
            added = left * 0.0
            for first in range(start, stop, S):
                d = _samples(errors, first, stop, m, chunk, outputs)
                a = _samples(activations, first, stop, n, chunk, inputs)
                along = weight * tl.sum(right[:, None, :] * a[None, :, :], 2)
                added += tl.sum(along[:, :, None] * d[None, :, :], 1)
            left = left * sigma[:, None] + added
            left, left_whole = _orthonormalise(left, index, rank, doubtful)
            left *= sign[:, None]
            sigma += tl.sum(left * added, 1)
            is_whole = is_whole & right_whole & left_whole
    carried = (index < rank)[:, None]
    tl.store(
        left_at + index[:, None] * m + outputs[None, :], left, carried & (outputs < m)[None, :]
    )
    tl.store(
        right_at + index[:, None] * n + inputs[None, :], right, carried & (inputs < n)[None, :]
    )
    tl.store(sigma_at + index, sigma, index < rank)
    tl.store(whole_at, is_whole.to(tl.float32))  # type: ignore[attr-defined]


@triton.jit(do_not_specialize=["rank", "width"])
def _unit_rows(  # type: ignore[no-untyped-def]
    matrix,
    rows_at,
    whole_at,
    rank,
    width,
    doubtful: tl.float64,
    K: tl.constexpr,
    P: tl.constexpr,
):
    """:func:`_orthonormalise` from one matrix into another, and a note of it."""
    index, columns = tl.arange(0, K), tl.arange(0, P)
    rows, is_whole = _orthonormalise(
        _samples(matrix, 0, rank, width, index, columns), index, rank, doubtful
    )
    inside = (index < rank)[:, None] & (columns < width)[None, :]
    tl.store(rows_at + index[:, None] * width + columns[None, :], rows, inside)
    tl.store(whole_at, tl.load(whole_at) * is_whole.to(tl.float32))


class UnitRows:
    """Orthonormalises rows without waiting for the GPU: what may have died is asked at the end."""

    def __init__(self, like: Tensor) -> None:
        self._whole = torch.ones((), device=like.device)

    @property
    def are_whole(self) -> bool:
        """Whether all rows so far had a direction of their own."""
        return self._whole.item() == 1.0

    def __call__(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Q of the rows, and the signs of diag(R), which are all 1."""
        (k, width), rows = (
            matrix.shape,
            torch.empty_like(matrix, memory_format=torch.contiguous_format),
        )
        K, P = triton.next_power_of_2(k), triton.next_power_of_2(width)
        _unit_rows[(1,)](
            matrix.contiguous(),
            rows,
            self._whole,
            k,
            width,
            doubtful_share(matrix.dtype),
            K=K,
            P=P,
            num_warps=16,
        )
        return rows, rows.new_ones(k)


def _sizes(left: Tensor, right: Tensor) -> tuple[int, int, int, int]:
    """Powers of two that hold the rank, the outputs, the inputs; samples of a tile."""
    sizes = (*left.shape, right.shape[1])
    rows, outputs, inputs = (triton.next_power_of_2(size) for size in sizes)
    samples = _TILE // (rows * max(outputs, inputs))
    return rows, outputs, inputs, min(samples, 16)


def holds(left: Tensor, right: Tensor) -> bool:
    """Whether a program holds each side of the layer."""
    rows, outputs, inputs, _ = _sizes(left, right)
    return rows * max(outputs, inputs) <= _MOST


def fits(left: Tensor, right: Tensor, errors: Tensor, activations: Tensor) -> bool:
    """Whether one program holds the layer, and is faster than torch's products of this batch."""
    samples = _sizes(left, right)[-1]
    is_contiguous = errors.is_contiguous() and activations.is_contiguous()
    return is_contiguous and samples > 0 and len(errors) <= _MOST_TILES * samples


def sbpca(
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    errors: Tensor,
    activations: Tensor,
    block: int,
    pasts: tuple[float, float],
    passes: int,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Run SBPCA's recursion as :func:`toolkit.lowrank.compiled.recursions.sbpca` does, on a GPU.

    The layer must be one that :func:`fits`.
    """
    rows, outputs, inputs, samples = _sizes(left, right)
    carried = [part.clone(memory_format=torch.contiguous_format) for part in (left, sigma, right)]
    is_whole = torch.empty((), device=left.device)
    _blocks[(1,)](
        *carried,
        errors,
        activations,
        is_whole,
        len(errors),
        left.shape[1],
        right.shape[1],
        len(left),
        block,
        passes,
        *map(float, pasts),
        doubtful_share(left.dtype),
        K=rows,
        M=outputs,
        N=inputs,
        S=samples,
        num_warps=16,
    )
    return (carried[0], carried[1], carried[2]) if is_whole.item() else None
