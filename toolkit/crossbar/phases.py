"""One write of an update, split into the phases in which lines are driven."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.checks import check_choice
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.pulses import SCHEMES, Coding, Coincidence, Wanted, WholePulses, bit_trains
from toolkit.lowrank import LowRank

Floats = NDArray[np.float64]
_SIGNS = (("+", "+"), ("−", "−"), ("+", "−"), ("−", "+"))  # the first two raise weights
_DECAY = 0.6  # ratio of consecutive singular values


@dataclass(frozen=True, eq=False)
class Phase:
    """One phase of a write.

    Attributes
    ----------
    title
        Which lines are driven, and whether weights rise or fall.
    rows, columns
        Signed drive of the lines, (m,) and (n,). For an outer product, their product is the number
        of pulses wanted of G+ (whole pulses), or they are the probabilities of a pulse in a slot
        (coincidence). In a row-by-row write: 1 for the row, and the pulses of its cells.
    pulses
        Pulses of this phase, (2, m, n): plus cells, minus cells.
    wanted, written
        Change of the weights from the start of the write to the end of this phase, (m, n).
    """

    title: str
    rows: Floats
    columns: Floats
    pulses: NDArray[np.int64]
    wanted: Floats
    written: Floats


@dataclass(frozen=True, eq=False)
class Write:
    """A whole write: the wanted change of the weights, (m, n), and its phases in order."""

    wanted: Floats
    phases: tuple[Phase, ...]


def make_update(shape: tuple[int, int], *, rank: int, largest: float, seed: int) -> LowRank:
    """Draw a random change of rank ``rank``, scaled so that its largest entry is ``largest``.

    Factors are standard normal; each singular value is 0.6 times the previous one.

    Raises
    ------
    ValueError
        If ``rank`` is not between 1 and min(shape), or ``largest`` is not positive.
    """
    if not 1 <= rank <= min(shape):
        raise ValueError(f"rank must be between 1 and {min(shape)}; got {rank}")
    if not largest > 0.0:
        raise ValueError(f"largest must be above 0; got {largest}")
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(size, rank, generator=generator, dtype=torch.float64))[0]
        for size in shape
    )
    sigma = _DECAY ** torch.arange(rank, dtype=torch.float64)
    scale = largest / float(((left * sigma) @ right.T).abs().max())
    return LowRank(left, sigma * scale, right)


def write_phases(
    update: LowRank,
    device: Device,
    *,
    scheme: str = "rank-sequential",
    coding: Coding | None = None,
    seed: int = 0,
) -> Write:
    """Add ``update`` to the weights (w_max 1) of an array of ``device``, phase by phase.

    Rank-sequential: for each outer product, the cells whose row and column have the signs ++, −−,
    +− and −+, one group after another, because a line voltage has one sign at a time. Rank-sum: row
    by row. Each phase pulses different cells, so together the phases do what one write does, with
    other random numbers. The array starts at random weights between -0.5 and 0.5.

    Raises
    ------
    ValueError
        If the scheme is unknown, or coincidence pulses would have to write a sum.
    """
    check_choice("scheme", scheme, SCHEMES)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(update.shape, generator=generator, dtype=torch.float64) - 0.5
    coding = WholePulses() if coding is None else coding
    array = Crossbar.from_weights(weights, device=device, coding=coding, seed=generator)
    parts = _rows(update) if scheme == "rank-sum" else _sign_phases(update)
    first, asked, phases = array.weights, torch.zeros_like(weights), []
    for title, part in parts:
        before, asked = array.pulse_count, asked + part.dense()
        descending = LowRank(-part.left, part.sigma, part.right)
        array.apply(descending, learning_rate=1.0, scheme=scheme)
        by_row = scheme == "rank-sum"
        lines = _row_drive(part, device) if by_row else drive(part, device, coding)
        pulses, written = array.pulse_count - before, array.weights - first
        phases.append(Phase(title, *lines, pulses.numpy(), asked.numpy(), written.numpy()))
    return Write(update.dense().numpy(), tuple(phases))


def drive(part: LowRank, device: Device, coding: Coding) -> tuple[Floats, Floats]:
    """Signed drive of rows and columns for an outer product of one sign; see :class:`Phase`.

    Whole pulses are scaled like coincidence pulses with update management in a single slot: the
    largest magnitudes of rows and columns are equal.
    """
    device.check_pulsed()
    left, right = part.left[:, :1] * part.sigma[:1] / 2.0, part.right[:, :1]
    raises = float(left.sum()) * float(right.sum()) > 0.0
    levels = (device.levels_up if raises else device.levels_down,)
    most, streams = 1.0, coding
    if not isinstance(streams, Coincidence):
        most, streams = math.inf, Coincidence(bit_length=1, adapt_length=False)
    chances = bit_trains(streams, Wanted(left, right, levels, levels))[0][0, 0, 0]
    signed = chances.clamp(max=most) * torch.cat([left, right])[:, 0].sign()
    rows, columns = signed.split([len(left), len(right)])
    return rows.numpy(), columns.numpy()


def _row_drive(part: LowRank, device: Device) -> tuple[Floats, Floats]:
    """Row-by-row write: the row is on; each column carries the pulses of its plus cell."""
    device.check_pulsed()
    dense = part.dense()
    pulses = torch.where(dense > 0.0, device.levels_up, device.levels_down) * dense / 2.0
    row = dense.abs().sum(1).ne(0.0)
    return row.double().numpy(), pulses.sum(0).numpy()


def _sign_phases(update: LowRank) -> Iterator[tuple[str, LowRank]]:
    """The non-empty parts of every rank whose row and column have one sign each."""
    for rank in range(update.rank):
        one = slice(rank, rank + 1)
        for row, column in _SIGNS:
            left, right = _of_sign(update.left[:, one], row), _of_sign(update.right[:, one], column)
            if bool(left.any()) and bool(right.any()):
                rises = "weights rise" if row == column else "weights fall"
                title = f"rank {rank + 1}: rows {row}, columns {column}; {rises}"
                yield title, LowRank(left, update.sigma[one], right)


def _rows(update: LowRank) -> Iterator[tuple[str, LowRank]]:
    for row in range(update.shape[0]):
        left = torch.zeros_like(update.left)
        left[row] = update.left[row]
        yield f"row {row + 1}: SET, then RESET", LowRank(left, update.sigma, update.right)


def _of_sign(values: Tensor, sign: str) -> Tensor:
    return values.clamp(min=0.0) if sign == "+" else values.clamp(max=0.0)
