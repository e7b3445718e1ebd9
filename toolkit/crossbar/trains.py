"""Simulated pulse trains on many cells of a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.crossbar.cells import Cells
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import clip_

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trains:
    """States of cells along pulse trains, ``(G - g_min) / (g_max - g_min)`` as a read shows them.

    Attributes
    ----------
    pulses
        Pulses given up to each point, (points,); the first entry is 0.
    nominal
        States of the noiseless nominal cell, (points,).
    readings
        Reads of every cell, with read noise, (points, cells).
    """

    pulses: Floats
    nominal: Floats
    readings: Floats

    @property
    def mean(self) -> Floats:
        """Mean over the cells, (points,)."""
        return self.readings.mean(axis=1)

    @property
    def deviation(self) -> Floats:
        """Standard deviation over the cells (n - 1 in the denominator), (points,)."""
        return self.readings.std(axis=1, ddof=1)


def follow(
    device: Device, trains: Sequence[int], *, cells: int = 200, start: float = 0.0, seed: int = 0
) -> Trains:
    """Apply one signed train of pulses after another to cells of ``device``; read after each.

    Cells vary and are noisy as the device specifies. A train of n pulses carries the noise of n
    (``sqrt(n)`` times that of one) and is clipped to the range at its end, as in a write.

    Parameters
    ----------
    trains
        Signed numbers of pulses; positive potentiates.
    cells
        Number of cells, at least 2.
    start
        State of all cells before the first pulse, 0 to 1.
    seed
        Seed of the cells' variation and of all noise.

    Raises
    ------
    ValueError
        If ``cells`` is below 2 or ``start`` outside 0..1.
    """
    if cells < 2:
        raise ValueError(f"cells must be at least 2; got {cells}")
    if not 0.0 <= start <= 1.0:
        raise ValueError(f"start must be between 0 and 1; got {start}")
    generator = torch.Generator().manual_seed(seed)
    simulated = Cells(torch.full((cells,), start, dtype=torch.float64), device, generator)
    readings = [simulated.read()]
    for count in trains:
        simulated.pulse(torch.full_like(simulated.state, float(count)))
        readings.append(simulated.read())
    return Trains(
        pulses=np.abs(np.concatenate([[0.0], np.asarray(trains, dtype=float)])).cumsum(),
        nominal=nominal(device, trains, start),
        readings=torch.stack(readings).numpy(),
    )


def nominal(device: Device, trains: Sequence[int], start: float = 0.0) -> Floats:
    """States of one nominal noiseless cell before the first and after every train."""
    cells = device.response.cells(device)
    state = torch.tensor([start], dtype=torch.float64)
    states = [start]
    for count in trains:
        cells.step(state, torch.tensor([float(count)], dtype=torch.float64))
        clip_(state, cells.low, cells.high)
        states.append(float(state))
    return np.array(states)


def up_and_down(device: Device, *, points: int = 40, cells: int = 200, seed: int = 0) -> Trains:
    """All levels up, then all down, from g_min, read at about ``points`` states each way."""
    device.check_pulsed()
    up, down = (round(levels) for levels in (device.levels_up, device.levels_down))
    trains = [*split(up, points), *(-count for count in split(down, points))]
    return follow(device, trains, cells=cells, seed=seed)


def cycled(
    device: Device,
    *,
    pulses: int,
    cycles: int,
    start: float = 0.5,
    points: int = 400,
    cells: int = 100,
    seed: int = 0,
) -> Trains:
    """``pulses`` up, then ``pulses`` down, ``cycles`` times, read at about ``points`` states."""
    each = split(pulses, max(1, points // (2 * cycles)))
    return follow(
        device,
        [*each, *(-count for count in each)] * cycles,
        cells=cells,
        start=start,
        seed=seed,
    )


def split(pulses: int, parts: int) -> list[int]:
    """Split ``pulses`` into at most ``parts`` positive whole numbers, as equal as possible."""
    edges = np.linspace(0, pulses, min(pulses, parts) + 1).round().astype(int)
    return np.diff(edges).tolist()
