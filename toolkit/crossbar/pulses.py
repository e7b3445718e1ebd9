"""How a wanted change becomes whole pulses: rounding, coincidence of bit streams, half-select.

A wanted change is the change of the state of the plus cells, as a fraction of the range. A
:class:`Drive` says how many pulses each polarity is asked for; the codings turn it into signed
pulse counts. What a pulse does is in :mod:`toolkit.crossbar.devices.responses`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import check_choice, check_count, check_flag, check_real, check_tensor
from toolkit.crossbar import kernels
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.kernels import Demand

PAIRS = ("differential", "one-sided", "reference")
SCHEMES = ("rank-sequential", "rank-sum")
#: Longest bit stream of a coincidence write.
MOST_BITS = 1024


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


@runtime_checkable
class Coding(Protocol):
    """A way to code wanted changes in pulses.

    The change wanted of rank p is the outer product of columns p of ``left`` (m, ranks) and
    ``right`` (n, ranks).
    """

    @property
    def schemes(self) -> tuple[str, ...]:
        """Which of ``SCHEMES`` it can write."""

    @property
    def slots(self) -> int | None:
        """Pulse slots of a phase; None: as many as its longest train."""

    def demand(
        self, left: Tensor, right: Tensor, drive: Drive, generator: torch.Generator
    ) -> Demand:
        """All outer products, for a compiled loop."""

    def counts(
        self, left: Tensor, right: Tensor, drive: Drive, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Signed pulses (polarities, m, n) of one outer product after another."""

    def dense(self, wanted: Tensor, drive: Drive, generator: torch.Generator) -> Tensor:
        """Signed pulses (polarities, m, n) for the change ``wanted`` (m, n)."""


@dataclass(frozen=True)
class WholePulses:
    """Every cell gets its own whole number of pulses.

    ``stochastic`` rounding takes the next number up with the probability of the fraction, so the
    mean is exact; ``deterministic`` takes the nearest and loses every change below half a pulse.
    """

    rounding: str = "stochastic"

    schemes = SCHEMES
    slots = None

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, ("stochastic", "deterministic"))

    def demand(
        self,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Demand:
        """Outer products that the loop rounds cell by cell."""
        lines, columns = _signed_factors(left, right, drive)
        by_rank = lines.numpy(), columns.numpy()
        return Demand(kernels.rounded_pulses, by_rank, (self.rounding == "stochastic",))

    def counts(
        self, left: Tensor, right: Tensor, drive: Drive, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Round the outer products cell by cell."""
        for line, column in zip(*_signed_factors(left, right, drive), strict=True):
            wanted = (line @ column).view(len(drive.rise), len(left), len(right))
            yield self._round(wanted, generator)

    def dense(self, wanted: Tensor, drive: Drive, generator: torch.Generator) -> Tensor:
        """Round ``rise s`` or ``fall s`` cell by cell."""
        above, below = wanted.clamp(min=0.0), wanted.clamp(max=0.0)
        out = wanted.new_empty(len(drive.rise), *wanted.shape)
        for pulses, (rise, fall) in zip(out, drive.levels, strict=True):
            torch.mul(above, rise, out=pulses).add_(below, alpha=fall)
        return self._round(out, generator)

    def _round(self, wanted: Tensor, generator: torch.Generator) -> Tensor:
        if self.rounding == "deterministic":
            return wanted.add_(0.5).floor_()
        return round_(wanted, generator)


def _signed_factors(left: Tensor, right: Tensor, drive: Drive) -> tuple[Tensor, Tensor]:
    """Lines (ranks, polarities m, 2) and columns (ranks, 2, n): pulses wanted of each cell.

    They are the products ``lines[rank] @ columns[rank]``, of two terms one of which is 0: what is
    above 0 of the columns calls for other pulses than what is below.
    """
    left, right = left.T, right.T
    above = [torch.where(left > 0.0, rise, fall) * left for rise, fall in drive.levels]
    below = [torch.where(left > 0.0, fall, rise) * -left for rise, fall in drive.levels]
    lines = torch.stack([torch.cat(above, 1), torch.cat(below, 1)], 2)
    return lines, torch.stack([right.clamp(min=0.0), (-right).clamp(min=0.0)], 1)


def round_(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round contiguous ``values`` in place, up with the chance of the fraction; returns them."""
    if values.device.type != "cpu":
        low = values.floor()
        uniform = torch.empty_like(values).uniform_(generator=generator)
        return values.sub_(low).gt_(uniform).add_(low)
    (key,) = kernels.draw_keys(1, generator)
    flat = values.view(-1).numpy()
    kernels.in_parts(lambda *part: kernels.round_up_or_down(flat, key, *part), len(flat))
    return values


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
        BL, slots per phase (with ``adapt_length``: at most), 1 to 1024.
    update_management
        Choose ``g = sqrt(max|right| / max|left|)``, which makes the largest probabilities equal;
        otherwise g = 1.
    adapt_length
        Use no more slots than the largest wanted count needs, ``ceil(N max|left| max|right|)``.

    Source: Gokmen and Vlasov, Front. Neurosci. 10, 333 (2016); Gokmen et al. (2017) for the
    managements.

    Notes
    -----
    A line cannot fire more often than always. Where a chance would be above 1, pulses are lost:
    :meth:`written_share` says how many are left. With ``update_management`` only a cell that wants
    more than ``bit_length`` loses some. Without it, activations near 1 saturate beside errors near
    0.001: of updates sample by sample 5 to 28 % were written, of rank-4 ones 41 to 84 %
    (docs/devices.md). Shorter trains (``adapt_length``) lose more, as their chances are larger.
    """

    bit_length: int = 31
    update_management: bool = True
    adapt_length: bool = True

    schemes = ("rank-sequential",)

    def __post_init__(self) -> None:
        check_count("bit_length", self.bit_length, 1, MOST_BITS)
        check_flag("update_management", self.update_management)
        check_flag("adapt_length", self.adapt_length)

    def written_share(self, left: Tensor, right: Tensor, levels: float) -> float:
        r"""The share of the wanted pulses of an outer product that is written, on average.

        .. math:: \frac{BL \sum_i p_i \sum_j q_j}{N \sum_i |l_i| \sum_j |r_j|}

        with the chances p and q of the class, at most 1: what coincides of independent streams.

        Parameters
        ----------
        left, right
            (m,) and (n,), so that cell (i, j) wants ``levels * |left[i] right[j]|`` pulses. For an
            update of weights in a differential pair, left is
            ``learning_rate * sigma * update.left / (2 w_max)``.
        levels
            N, of the direction.

        Returns
        -------
        float
            1 where nothing is lost, or wanted.

        Raises
        ------
        TypeError, ValueError
            If left or right is no vector of finite numbers, or levels not above 0.
        """
        check_real("levels", levels, above=0.0)
        for name, factor in (("left", left), ("right", right)):
            if check_tensor(name, factor).ndim != 1 or not len(factor):
                raise ValueError(f"{name} must be a vector; got shape {tuple(factor.shape)}")
        left, right = left.double()[:, None], right.double()[:, None]
        wanted = levels * float(left.abs().sum()) * float(right.abs().sum())
        if not wanted:
            return 1.0
        chances, lengths = self._trains(left, right, Drive((levels,), (levels,)))
        rows, columns = chances[0, 0, 0].clamp(max=1.0).split([len(left), len(right)])
        return float(lengths[0, 0, 0] * rows.sum() * columns.sum()) / wanted

    def demand(
        self, left: Tensor, right: Tensor, drive: Drive, generator: torch.Generator
    ) -> Demand:
        """Bits of all streams, for a loop that counts coincidences a word of 64 bits at a time."""
        chances, lengths = self._trains(left, right, drive)
        slots = lengths.long().unsqueeze(-1).expand_as(chances).flatten().numpy()
        words = np.empty((*chances.shape, -(-self.bit_length // 64)), np.uint64)
        streams, flat = words.reshape(-1, words.shape[-1]), chances.flatten().numpy()
        (key,) = kernels.draw_keys(1, generator)
        kernels.in_parts(
            lambda *part: kernels.draw_bits(flat, slots, key, streams, *part), len(streams)
        )
        rows, columns = words[..., : len(left), :], words[..., len(left) :, :]
        rows = rows.reshape(*rows.shape[:2], -1, rows.shape[-1])
        signs = left.T.sign().contiguous().numpy(), right.T.sign().contiguous().numpy()
        senses = torch.tensor([drive.rise, drive.fall]).to(left).sign()
        senses = (senses * senses.new_tensor([[1.0], [-1.0]])).T.contiguous()
        by_rank = np.ascontiguousarray(rows), np.ascontiguousarray(columns), *signs
        return Demand(kernels.coincident_pulses, by_rank, (senses.numpy(),))

    def counts(
        self, left: Tensor, right: Tensor, drive: Drive, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Count coincidences by matrix products of signed bits."""
        signs = torch.cat([left, right]).T.sign()
        for sign, chances, lengths in zip(signs, *self._trains(left, right, drive), strict=True):
            out = left.new_zeros(len(drive.rise), len(left), len(right))
            for pulses, levels, chance, length in zip(
                out, drive.levels, chances.transpose(0, 1), lengths.T.tolist(), strict=True
            ):
                if not chance.any():
                    continue
                bits = left.new_empty(len(sign), self.bit_length).uniform_(generator=generator)
                for level, each, slots, rising in zip(
                    levels, chance, length, (True, False), strict=True
                ):
                    signed = (each.clamp(max=1.0) * sign)[:, None]
                    fired = (bits[:, : int(slots)] + signed).floor().split([len(left), len(right)])
                    found = fired[0] @ fired[1].T
                    found = found.clamp(min=0.0) if rising else found.clamp(max=0.0)
                    pulses.add_(found, alpha=math.copysign(1.0, level))
            yield out

    def dense(self, wanted: Tensor, drive: Drive, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Not possible: lines can only write outer products."""
        raise ValueError("coincidence pulses write outer products; use scheme 'rank-sequential'")

    @property
    def slots(self) -> int:
        """The bit length (an upper bound with ``adapt_length``)."""
        return self.bit_length

    def _trains(self, left: Tensor, right: Tensor, drive: Drive) -> tuple[Tensor, Tensor]:
        """Chances of a bit, of rows then columns, and slots of a train, at least 1.

        (ranks, 2, polarities, m + n) and (ranks, 2, polarities), the 2 being changes up and down.
        """
        tallest, widest = left.abs().amax(0), right.abs().amax(0)
        gain = (widest / tallest).sqrt() if self.update_management else torch.ones_like(tallest)
        lines = torch.cat([left * gain, right / gain]).T.abs().nan_to_num_(0.0, 0.0)
        levels = torch.tensor([drive.rise, drive.fall]).to(lines).abs()
        lengths = torch.full((len(lines), *levels.shape), float(self.bit_length)).to(lines)
        if self.adapt_length:
            wanted = levels * (tallest * widest)[:, None, None]
            lengths = wanted.ceil().clamp(1.0, float(self.bit_length))
        return (levels / lengths).sqrt().unsqueeze(-1) * lines[:, None, None], lengths


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


CODINGS = ("whole pulses", "coincidence")  # by name, where settings are words


def make_coding(name: str, *, bit_length: int) -> Coding:
    """The coding of that name; ``bit_length`` is of coincidences only."""
    check_choice("name", name, CODINGS)
    return WholePulses() if name == CODINGS[0] else Coincidence(bit_length=bit_length)
