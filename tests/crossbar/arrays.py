"""Weights, updates and cells for tests of arrays."""

import torch

from toolkit.lowrank import LowRank


def normals(rows, columns, *, scale=0.2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator, dtype=dtype)


def zeros(rows, columns):
    return torch.zeros(rows, columns, dtype=torch.float64)


def some_update(rows=20, columns=30, rank=3, *, scale=1.0, seed=1):
    left, right = (
        normals(size, rank, scale=scale, seed=seed + 100 * turn)
        for turn, size in enumerate((rows, columns))
    )
    return LowRank(left, torch.arange(rank, 0, -1).double(), right)


def outer_update(left, right):
    """One outer product that raises weights by ``left right^T`` at learning rate 1."""
    left, right = torch.as_tensor(left).double(), torch.as_tensor(right).double()
    return LowRank(-left[:, None], torch.ones(1, dtype=torch.float64), right[:, None])


def same_change(rows, columns, value):
    """An update that raises every weight by ``value``."""
    return outer_update(torch.ones(rows), torch.full((columns,), value))


def pulses_each(array, pulses):
    """An update that asks each cell of a differential pair for ``pulses``."""
    return same_change(*array.shape, 2.0 * array.w_max * pulses / array.device.levels_up)
