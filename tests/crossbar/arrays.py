"""Weights, updates and a response for tests of arrays."""

import dataclasses

import torch

from toolkit.crossbar.devices.responses import CellParameters
from toolkit.crossbar.devices.stepwise import Stepwise, pulse_by_pulse
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


def square(u, own, nodes, line):  # noqa: ARG001
    return u * u


@dataclasses.dataclass(frozen=True)
class Quadratic(Stepwise):
    """A response from outside: pulse by pulse along a curve."""

    compiled = pulse_by_pulse(square)

    def cells(self, device, draw=None):
        scale = 1.0 if draw is None else 1.0 + 0.1 * draw(0)
        up, down = scale / device.levels_up, -scale / device.levels_down
        return CellParameters(self, (up, 1.0, -1.0), (down, 0.0, 1.0))

    def curve(self, u, *shape):  # noqa: ARG002
        return u * u
