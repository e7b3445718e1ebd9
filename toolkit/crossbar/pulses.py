"""How a wanted change becomes whole pulses: rounding, coincidence of bit streams, half-select.

A wanted change is the change of the state of the plus cells, as a fraction of the range. A
:class:`Drive` says which share of it each polarity is asked for; the codings turn it into signed
pulse counts. What a pulse does is in :mod:`toolkit.crossbar.response`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from toolkit.crossbar.device import Device
from toolkit.crossbar.noise import Uniforms

PAIRS = ("differential", "one-sided", "reference")


@dataclass(frozen=True)
class Drive:
    """Pulses asked of each polarity for a wanted change ``s``: ``signed * s + unsigned * |s|``."""

    signed: tuple[float, ...]
    unsigned: tuple[float, ...]

    @classmethod
    def of(cls, pair: str, device: Device) -> Drive:
        """Plus cells up and minus cells down; one-sided: only up, all by one cell of the pair."""
        up, down = device.levels_up, device.levels_down
        mean, difference = (up + down) / 2.0, (up - down) / 2.0
        if pair == "one-sided":
            return cls((up, -up), (up, up))
        if pair == "reference":
            return cls((mean,), (difference,))
        return cls((mean, -mean), (difference, difference))


class Coding(Protocol):
    """A way to code wanted changes in pulses."""

    def outer(
        self, out: Tensor, left: Tensor, right: Tensor, drive: Drive, uniforms: Uniforms
    ) -> None:
        """Fill ``out`` (polarities, m, n) with signed pulses for the change ``left right^T``."""

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, uniforms: Uniforms) -> None:
        """Fill ``out`` (polarities, m, n) with signed pulses for the change ``wanted`` (m, n)."""

    def slots(self, pulses: Tensor) -> tuple[Tensor, Tensor]:
        """Pulse slots that one phase takes: up, down."""


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

    def outer(
        self, out: Tensor, left: Tensor, right: Tensor, drive: Drive, uniforms: Uniforms
    ) -> None:
        """Round the outer product cell by cell."""
        self._start(out, uniforms)
        sizes = left.abs(), right.abs()
        for pulses, signed, unsigned in zip(out, drive.signed, drive.unsigned, strict=True):
            pulses.addcmul_(left[:, None], right[None, :], value=signed)
            if unsigned != 0.0:
                pulses.addcmul_(sizes[0][:, None], sizes[1][None, :], value=unsigned)
        out.floor_()

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, uniforms: Uniforms) -> None:
        """Round ``signed * s + unsigned * |s|`` cell by cell."""
        self._start(out, uniforms)
        size = wanted.abs() if any(drive.unsigned) else wanted
        for pulses, signed, unsigned in zip(out, drive.signed, drive.unsigned, strict=True):
            pulses.add_(wanted, alpha=signed)
            if unsigned != 0.0:
                pulses.add_(size, alpha=unsigned)
        out.floor_()

    def slots(self, pulses: Tensor) -> tuple[Tensor, Tensor]:
        """The longest train of each direction."""
        least, most = torch.aminmax(pulses)
        return most.clamp(min=0.0), (-least).clamp(min=0.0)

    def _start(self, out: Tensor, uniforms: Uniforms) -> None:
        if self.rounding == "stochastic":
            uniforms.fill(out)
        else:
            out.fill_(0.5)


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

    def outer(
        self, out: Tensor, left: Tensor, right: Tensor, drive: Drive, uniforms: Uniforms
    ) -> None:
        """Count coincidences by one matrix product of the bits per polarity and level."""
        largest_left, largest_right = float(left.abs().max()), float(right.abs().max())
        if largest_left == 0.0 or largest_right == 0.0:
            out.zero_()
            return
        gain = math.sqrt(largest_right / largest_left) if self.update_management else 1.0
        most = largest_left * largest_right
        for pulses, signed, unsigned in zip(out, drive.signed, drive.unsigned, strict=True):
            positive, negative = signed + unsigned, signed - unsigned  # pulses per unit of +s, -s
            bits = self._uniforms(left, uniforms), self._uniforms(right, uniforms)
            if abs(positive) == abs(negative):
                self._count(pulses, left * gain, right / gain, bits, positive, most)
                if positive < 0.0:
                    pulses.neg_()
                continue
            other = torch.empty_like(pulses)
            for level, target in ((positive, pulses), (negative, other)):
                self._count(target, left * gain, right / gain, bits, level, most)
            pulses.copy_(_by_sign(pulses, other, positive, negative))

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, uniforms: Uniforms) -> None:  # noqa: ARG002
        """Not possible: lines can only write outer products."""
        raise ValueError("coincidence pulses write outer products; use scheme 'rank-sequential'")

    def slots(self, pulses: Tensor) -> tuple[Tensor, Tensor]:
        """The bit length (an upper bound with ``adapt_length``)."""
        length = torch.full((), float(self.bit_length), device=pulses.device)
        return length, length

    def _uniforms(self, line: Tensor, uniforms: Uniforms) -> Tensor:
        return torch.rand(
            (line.numel(), self.bit_length),
            generator=uniforms.generator,
            dtype=line.dtype,
            device=line.device,
        )

    def _count(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        uniforms: tuple[Tensor, Tensor],
        level: float,
        most: float,
    ) -> None:
        """Coincidences with the sign of ``left right^T``, for ``|level|`` pulses per unit."""
        length = self.bit_length
        if self.adapt_length:
            length = max(1, min(length, math.ceil(abs(level) * most)))
        scale = math.sqrt(abs(level) / length)
        rows, columns = (
            (uniform[:, :length] < scale * line.abs()[:, None]).to(line.dtype)
            * line.sign()[:, None]
            for uniform, line in zip(uniforms, (left, right), strict=True)
        )
        torch.mm(rows, columns.T, out=out)


def _by_sign(plus: Tensor, minus: Tensor, positive: float, negative: float) -> Tensor:
    """Pulses from the counts of wanted rises (``plus``) and of wanted falls (``minus``)."""
    rises, falls = plus.clamp(min=0.0), minus.clamp(max=0.0)
    return math.copysign(1.0, positive) * rises + math.copysign(1.0, negative) * falls


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
