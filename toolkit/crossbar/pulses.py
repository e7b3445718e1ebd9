"""How a wanted change becomes whole pulses: rounding, coincidence of bit streams, half-select.

A wanted change is the change of the state of the plus cells, as a fraction of the range. A
:class:`Drive` says how many pulses each polarity is asked for; the codings turn it into signed
pulse counts. What a pulse does is in :mod:`toolkit.crossbar.devices.responses`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import check_choice, check_count, check_flag, check_real, check_tensor
from toolkit.crossbar import kernels
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.noise import keys, round_

if TYPE_CHECKING:
    from toolkit.crossbar.cells import CellBank, Written

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
    """A way to code wanted changes in pulses."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """Which of ``SCHEMES`` it can write."""

    def outers(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,
    ) -> Iterator[None]:
        """Fill ``out`` (polarities, m, n) with signed pulses of one rank after another.

        The change wanted of rank p is the outer product of columns p of ``left`` and ``right``.
        """

    def write(self, bank: CellBank, left: Tensor, right: Tensor, drive: Drive) -> list[Written]:
        """What :meth:`outers` codes, given to the cells at once by a compiled loop."""

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, generator: torch.Generator) -> None:
        """Fill ``out`` (polarities, m, n) with signed pulses for the change ``wanted`` (m, n)."""

    def slots(self, longest: tuple[float, float]) -> tuple[float, float]:
        """Pulse slots that one phase takes whose longest trains are these: up, down."""


@dataclass(frozen=True)
class WholePulses:
    """Every cell gets its own whole number of pulses.

    ``stochastic`` rounding takes the next number up with the probability of the fraction, so the
    mean is exact; ``deterministic`` takes the nearest and loses every change below half a pulse.
    """

    rounding: str = "stochastic"

    schemes = SCHEMES

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, ("stochastic", "deterministic"))

    def outers(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,
    ) -> Iterator[None]:
        """Round the outer products cell by cell."""
        for line, column in zip(*_demand(left, right, drive), strict=True):
            torch.mm(line, column, out=out.view(len(line), -1))
            self._round_(out, generator)
            yield

    def write(self, bank: CellBank, left: Tensor, right: Tensor, drive: Drive) -> list[Written]:
        """The same in one pass."""
        demand = [part.numpy() for part in _demand(left, right, drive)]
        return bank.write(kernels.write_rounded, demand, self.rounding == "stochastic")

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, generator: torch.Generator) -> None:
        """Round ``rise s`` or ``fall s`` cell by cell."""
        above, below = wanted.clamp(min=0.0), wanted.clamp(max=0.0)
        for pulses, (rise, fall) in zip(out, drive.levels, strict=True):
            torch.mul(above, rise, out=pulses).add_(below, alpha=fall)
        self._round_(out, generator)

    def slots(self, longest: tuple[float, float]) -> tuple[float, float]:
        """The longest train of each direction."""
        return longest

    def _round_(self, out: Tensor, generator: torch.Generator) -> None:
        if self.rounding == "stochastic":
            round_(out, generator)
        else:
            out.add_(0.5).floor_()


def _demand(left: Tensor, right: Tensor, drive: Drive) -> tuple[Tensor, Tensor]:
    """Lines (ranks, polarities m, 2) and columns (ranks, 2, n): pulses wanted of each cell.

    They are the products ``lines[rank] @ columns[rank]``, of two terms one of which is 0: what is
    above 0 of the columns calls for other pulses than what is below.
    """
    left, right = left.T, right.T
    above = [torch.where(left > 0.0, rise, fall) * left for rise, fall in drive.levels]
    below = [torch.where(left > 0.0, fall, rise) * -left for rise, fall in drive.levels]
    lines = torch.stack([torch.cat(above, 1), torch.cat(below, 1)], 2)
    return lines, torch.stack([right.clamp(min=0.0), (-right).clamp(min=0.0)], 1)


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
        left, right = left.abs().double(), right.abs().double()
        tall, wide = float(left.max()), float(right.max())
        if not levels * tall * wide:
            return 1.0
        gain = math.sqrt(wide / tall) if self.update_management else 1.0
        length = self._length(levels * tall * wide)
        scale = math.sqrt(levels / length)
        chances = (scale * gain * left).clamp(max=1.0), (scale / gain * right).clamp(max=1.0)
        wanted = levels * float(left.sum()) * float(right.sum())
        return length * float(chances[0].sum()) * float(chances[1].sum()) / wanted

    def outers(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        drive: Drive,
        generator: torch.Generator,
    ) -> Iterator[None]:
        """Count coincidences by one matrix product of the bits per polarity and level."""
        tallest, widest = left.abs().amax(0).tolist(), right.abs().amax(0).tolist()
        for row, column, tall, wide in zip(left.T, right.T, tallest, widest, strict=True):
            if tall == 0.0 or wide == 0.0:
                out.zero_()
            else:
                gain = math.sqrt(wide / tall) if self.update_management else 1.0
                lines = torch.cat([row * gain, column / gain])
                self._outer(out, lines, tall * wide, drive, generator)
            yield

    def write(self, bank: CellBank, left: Tensor, right: Tensor, drive: Drive) -> list[Written]:
        """The same in one pass; bits that coincide are counted a word at a time."""
        height = len(left)
        tallest, widest = left.abs().amax(0), right.abs().amax(0)
        gain = (widest / tallest).sqrt() if self.update_management else torch.ones_like(tallest)
        lines = torch.cat([left * gain, right / gain]).T.abs().nan_to_num_(0.0, 0.0)
        levels = torch.tensor([drive.rise, drive.fall]).to(lines)  # (2, polarities)
        lengths = torch.full((lines.shape[0], *levels.shape), float(self.bit_length)).to(lines)
        if self.adapt_length:
            wanted = levels.abs() * (tallest * widest)[:, None, None]
            lengths = wanted.ceil().clamp(1.0, float(self.bit_length))
        chances = (levels.abs() / lengths).sqrt().unsqueeze(-1) * lines[:, None, None]
        words = np.empty((*chances.shape, -(-self.bit_length // 64)), np.uint64)
        flat = chances.flatten().numpy(), lengths.long().unsqueeze(-1).expand_as(chances).flatten()
        (key,) = keys(1, bank.generator)
        streams = words.reshape(-1, words.shape[-1])
        kernels.in_parts(
            lambda *part: kernels.draw_bits(flat[0], flat[1].numpy(), key, streams, *part),
            len(streams),
        )
        rows, columns = words[..., :height, :], words[..., height:, :]
        rows = rows.reshape(*rows.shape[:2], -1, rows.shape[-1])
        signs = left.T.sign().contiguous().numpy(), right.T.sign().contiguous().numpy()
        senses = (levels.sign() * torch.tensor([[1.0], [-1.0]])).T.contiguous().numpy()
        by_rank = [np.ascontiguousarray(rows), np.ascontiguousarray(columns), *signs]
        return bank.write(kernels.coincide, by_rank, senses)

    def dense(self, out: Tensor, wanted: Tensor, drive: Drive, generator: torch.Generator) -> None:  # noqa: ARG002
        """Not possible: lines can only write outer products."""
        raise ValueError("coincidence pulses write outer products; use scheme 'rank-sequential'")

    def slots(self, longest: tuple[float, float]) -> tuple[float, float]:  # noqa: ARG002
        """The bit length (an upper bound with ``adapt_length``)."""
        return float(self.bit_length), float(self.bit_length)

    def _length(self, most: float) -> int:
        """Slots of a train for at most so many wanted pulses of a cell."""
        if not self.adapt_length:
            return self.bit_length
        return max(1, math.ceil(min(most, self.bit_length)))

    def _outer(
        self, out: Tensor, lines: Tensor, most: float, drive: Drive, generator: torch.Generator
    ) -> None:
        """Pulses for rows and then columns of ``lines``, ``most`` their largest product."""
        uniforms = lines.new_empty(len(lines), self.bit_length)
        for pulses, (rise, fall) in zip(out, drive.levels, strict=True):
            uniforms.uniform_(generator=generator)
            self._count(pulses, lines, uniforms, rise, most)
            if abs(rise) != abs(fall):
                falls = torch.empty_like(pulses)
                self._count(falls, lines, uniforms, fall, most)
                torch.add(_of_sign(pulses, rise), _of_sign(falls, -fall), out=pulses)

    def _count(
        self, out: Tensor, lines: Tensor, uniforms: Tensor, level: float, most: float
    ) -> None:
        """Coincidences with the sign of ``level left right^T``, for ``|level|`` pulses per unit."""
        length = self._length(abs(level) * most)
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
