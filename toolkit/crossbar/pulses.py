"""How a wanted change becomes whole pulses: rounding, coincidence of bit streams, half-select.

A wanted change is the change of the state of the plus cells, as a fraction of the range. A
:class:`Drive` says how many pulses each polarity is asked for; the codings turn it into signed
pulse counts. What a pulse does is in :mod:`toolkit.crossbar.response`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from toolkit.crossbar.device import Device
from toolkit.crossbar.noise import uniform_
from toolkit.crossbar.selection import Selection, places_not_zero
from toolkit.crossbar.thinning import hits

PAIRS = ("differential", "one-sided", "reference")
# Cells, over all ranks, whose pulses are drawn at once: enough to share what every draw costs.
_AT_ONCE = 2**22
# Pulses are drawn where fewer than this are wanted per cell, of more cells than this: then it is
# faster than rounding cell by cell (benchmarks/crossbar_speed.py).
_FEW, _SMALL = 0.06, 2**16


@dataclass(frozen=True)
class Drive:
    """Signed pulses asked of a cell for a wanted change ``s``: ``rise s`` or, below 0, ``fall s``.

    One entry of each for every polarity.
    """

    rise: tuple[float, ...]
    fall: tuple[float, ...]

    @property
    def levels(self) -> Iterator[tuple[float, float]]:
        """Rise and fall, polarity after polarity."""
        return zip(self.rise, self.fall, strict=True)

    @classmethod
    def of(cls, pair: str, device: Device) -> Drive:
        """Plus cells up and minus cells down; one-sided: only up, all by one cell of the pair."""
        up, down = float(device.levels_up), float(device.levels_down)
        if pair == "one-sided":
            return cls((2.0 * up, 0.0), (0.0, -2.0 * up))
        if pair == "reference":
            return cls((up,), (down,))
        return cls((up, -down), (down, -up))


class Coding(Protocol):
    """A way to code wanted changes in pulses."""

    def outers(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,
    ) -> Iterator[Selection | None]:
        """Signed pulses of one rank after another: those of some cells, or None for all in ``out``.

        The change wanted of rank p is the outer product of columns p of ``left`` and ``right``.
        ``out`` (polarities, m, n) is scratch, too, where a selection is given.
        """

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, generator: torch.Generator) -> None:
        """Fill ``out`` (polarities, m, n) with signed pulses for the change ``wanted`` (m, n)."""

    def slots(self, trains: Sequence[Tensor]) -> tuple[float, float]:
        """Pulse slots that one phase of these signed pulses takes: up, down."""


@dataclass(frozen=True)
class WholePulses:
    """Every cell gets its own whole number of pulses.

    ``stochastic`` rounding takes the next number up with the probability of the fraction, so the
    mean is exact; ``deterministic`` takes the nearest and loses every change below half a pulse.
    """

    rounding: str = "stochastic"

    def __post_init__(self) -> None:
        if self.rounding not in ("stochastic", "deterministic"):
            raise ValueError(
                f"rounding must be 'stochastic' or 'deterministic', got {self.rounding!r}"
            )

    def outers(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,
    ) -> Iterator[Selection | None]:
        """Round the outer products cell by cell; where few pulses are wanted, draw those alone."""
        some = max(1, _AT_ONCE // out.numel())
        for start in range(0, left.shape[1], some):
            ranks = slice(start, start + some)
            lines, columns = _lines(left[:, ranks].T, drive), _columns(right[:, ranks].T)
            drawn: list[Selection | None] = [None] * len(lines)
            if self.rounding == "stochastic" and out.numel() > _SMALL:
                drawn = _draw(lines, columns, generator)
            for few, line, column in zip(drawn, lines, columns, strict=True):
                if few is None:
                    self._start(out, generator)
                    out.view(len(line), -1).addmm_(line, column).floor_()
                yield few

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, generator: torch.Generator) -> None:
        """Round ``rise s`` or ``fall s`` cell by cell."""
        self._start(out, generator)
        above, below = wanted.clamp(min=0.0), wanted.clamp(max=0.0)
        for pulses, (rise, fall) in zip(out, drive.levels, strict=True):
            pulses.add_(above, alpha=rise).add_(below, alpha=fall)
        out.floor_()

    def slots(self, trains: Sequence[Tensor]) -> tuple[float, float]:
        """The longest train of each direction."""
        ends = [torch.stack(torch.aminmax(pulses)) for pulses in trains if pulses.numel()]
        least, most = torch.stack(ends).T.tolist() if ends else ([], [])
        return max([0.0, *most]), -min([0.0, *least])

    def _start(self, out: Tensor, generator: torch.Generator) -> None:
        if self.rounding == "stochastic":
            uniform_(out, generator)
        else:
            out.fill_(0.5)


def _lines(left: Tensor, drive: Drive) -> Tensor:
    """What a line of cells wants of columns above and below 0: (ranks, polarities m, 2).

    With :func:`_columns` the pulses wanted are a product of which one term is exactly 0.
    """
    above = [torch.where(left > 0.0, rise, fall) * left for rise, fall in drive.levels]
    below = [torch.where(left > 0.0, fall, rise) * -left for rise, fall in drive.levels]
    return torch.stack([torch.cat(above, 1), torch.cat(below, 1)], 2)


def _columns(right: Tensor) -> Tensor:
    """Magnitudes of what is above and of what is below 0: (ranks, 2, n)."""
    return torch.stack([right.clamp(min=0.0), (-right).clamp(min=0.0)], 1)


def _draw(lines: Tensor, columns: Tensor, generator: torch.Generator) -> list[Selection | None]:
    """``lines @ columns`` at random up or down to whole pulses; None for ranks that want many."""
    means = (lines.abs().mean(1) * columns.mean(2)).sum(1)
    few = (means < _FEW).tolist()
    if not any(few):
        return [None] * len(few)
    # a chance must not come near 1: lines that want more somewhere are rounded cell by cell
    full = lines.abs().amax(2) * columns.amax((1, 2)).unsqueeze(1) > 0.5
    full |= (means >= _FEW).unsqueeze(1)
    drawn = hits(lines.masked_fill(full.unsqueeze(2), 0.0), columns, generator)
    return [
        _with_full(some, whole, line, column, generator) if is_few else None
        for some, whole, line, column, is_few in zip(drawn, full, lines, columns, few, strict=True)
    ]


def _with_full(
    some: Selection, full: Tensor, lines: Tensor, columns: Tensor, generator: torch.Generator
) -> Selection:
    """Pulses of some lines, and those of the ``full`` ones, rounded cell by cell."""
    index = full.nonzero().squeeze(1)
    if not len(index):
        return some
    width = columns.shape[1]
    pulses = uniform_(columns.new_empty(len(index), width), generator)
    pulses.addmm_(lines.index_select(0, index), columns).floor_()
    places = places_not_zero(pulses)
    counts = pulses.view(-1).index_select(0, places)
    skipped = index - torch.arange(len(index), device=index.device)
    places += skipped.mul_(width).index_select(0, places // width)
    return Selection(torch.cat([some.places, places]), torch.cat([some.counts, counts]))


@dataclass(frozen=True)
class Coincidence:
    r"""Stochastic bit streams on rows and columns; a cell is pulsed where both bits coincide.

    Row i fires in a slot with probability ``p_i = sqrt(N/BL) |left_i| g``, column j with
    ``q_j = sqrt(N/BL) |right_j| / g`` (both at most 1), N the levels of the direction, so the count
    of a cell is binomial, of mean ``BL p_i q_j`` (the wanted pulses) and variance
    ``BL p_i q_j (1 - p_i q_j)``. Counts of cells that share a line are correlated, as in an array.
    The two polarities have streams of their own.

    Parameters
    ----------
    bit_length
        BL, slots per phase (with ``adapt_length``: at most).
    update_management
        Choose ``g = sqrt(max|right| / max|left|)``, which makes the largest probabilities equal;
        otherwise g = 1.
    adapt_length
        Use no more slots than the largest wanted count needs, ``ceil(N max|left| max|right|)``.

    Source: Gokmen and Vlasov, Front. Neurosci. 10, 333 (2016); Gokmen et al. (2017) for the
    managements.
    """

    bit_length: int = 31
    update_management: bool = True
    adapt_length: bool = True

    def __post_init__(self) -> None:
        if self.bit_length < 1:
            raise ValueError(f"bit_length must be at least 1, got {self.bit_length}")

    def outers(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,
    ) -> Iterator[Selection | None]:
        """Count coincidences by one matrix product of the bits per polarity and level."""
        tallest, widest = left.abs().amax(0).tolist(), right.abs().amax(0).tolist()
        for row, column, tall, wide in zip(left.T, right.T, tallest, widest, strict=True):
            if tall == 0.0 or wide == 0.0:
                out.zero_()
            else:
                gain = math.sqrt(wide / tall) if self.update_management else 1.0
                lines = torch.cat([row * gain, column / gain])
                self._outer(out, lines, tall * wide, drive, generator)
            yield None

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, generator: torch.Generator) -> None:  # noqa: ARG002
        """Not possible: lines can only write outer products."""
        raise ValueError("coincidence pulses write outer products; use scheme 'rank-sequential'")

    def slots(self, trains: Sequence[Tensor]) -> tuple[float, float]:  # noqa: ARG002
        """The bit length (an upper bound with ``adapt_length``)."""
        return float(self.bit_length), float(self.bit_length)

    def _outer(
        self, out: Tensor, lines: Tensor, most: float, drive: Drive, generator: torch.Generator
    ) -> None:
        """Pulses for rows and then columns of ``lines``, ``most`` their largest product."""
        uniforms = lines.new_empty(len(lines), self.bit_length)
        for pulses, (rise, fall) in zip(out, drive.levels, strict=True):
            uniform_(uniforms, generator)
            self._count(pulses, lines, uniforms, rise, most)
            if abs(rise) != abs(fall):
                falls = torch.empty_like(pulses)
                self._count(falls, lines, uniforms, fall, most)
                torch.add(_of_sign(pulses, rise), _of_sign(falls, -fall), out=pulses)

    def _count(
        self, out: Tensor, lines: Tensor, uniforms: Tensor, level: float, most: float
    ) -> None:
        """Coincidences with the sign of ``level left right^T``, for ``|level|`` pulses per unit."""
        length = self.bit_length
        if self.adapt_length:
            length = max(1, min(length, math.ceil(abs(level) * most)))
        chance = (math.sqrt(abs(level) / length) * lines).clamp_(-1.0, 1.0)
        bits = (uniforms[:, :length] + chance[:, None]).floor_()
        rows, columns = bits.split(out.shape)
        torch.addmm(out, rows, columns.T, beta=0.0, alpha=math.copysign(1.0, level), out=out)


def _of_sign(pulses: Tensor, sign: float) -> Tensor:
    """Those pulses that have the sign of ``sign``, 0 elsewhere."""
    return pulses.clamp(min=0.0) if sign > 0.0 else pulses.clamp(max=0.0)


def half_selected(pulses: Tensor) -> Tensor:
    """Half-selections of every cell by pulses of one direction, (polarities, m, n).

    Every pulse to a cell puts half its voltage on the other cells of its row and its column
    (V/2 scheme, cells addressed one after another): row sum + column sum - 2 own pulses.
    """
    return pulses.sum(-1, keepdim=True) + pulses.sum(-2, keepdim=True) - 2.0 * pulses


def sign_phases(left: Tensor, right: Tensor) -> list[tuple[int, int]]:
    """SET and RESET phases that each outer product of two factors needs, at most 2 and 2.

    A line voltage has one sign at a time, so the four combinations of signs of a row and a column
    are written one after another: ``++`` and ``--`` raise weights, ``+-`` and ``-+`` lower them.
    """
    rows_up, rows_down = (left > 0.0).any(0).long(), (left < 0.0).any(0).long()
    columns_up, columns_down = (right > 0.0).any(0).long(), (right < 0.0).any(0).long()
    raising = rows_up * columns_up + rows_down * columns_down
    lowering = rows_up * columns_down + rows_down * columns_up
    return list(zip(raising.tolist(), lowering.tolist(), strict=True))
