"""From a wanted change to whole pulses: rounding, coincidence of bit streams, half-select.

:class:`Wanted` is the change that an update asks for; the codings turn it into signed pulse counts.
The effect of a pulse is in :mod:`toolkit.crossbar.devices.responses`.
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
from toolkit.crossbar.kernels import Demand

SCHEMES = ("rank-sequential", "rank-sum")
#: Longest bit stream of a coincidence write.
MOST_BITS = 1024


@dataclass(frozen=True)
class Wanted:
    """A wanted change: outer products of the columns of ``left`` (m, ranks), ``right`` (n, ranks).

    It refers to the states of the plus cells. A change s needs ``rise * s`` signed pulses from a
    cell of each polarity if it is positive, ``fall * s`` if it is negative. If ``is_continuous``,
    the device has no granularity and nothing is rounded.
    """

    left: Tensor
    right: Tensor
    rise: tuple[float, ...]
    fall: tuple[float, ...]
    is_continuous: bool = False

    def split(self) -> tuple[Tensor, Tensor]:
        """Lines (ranks, polarities m, 2) and columns (ranks, 2, n): pulses wanted of each cell.

        Pulses are the products ``lines[rank] @ columns[rank]``. One of the two terms is 0:
        positive and negative columns need different numbers of pulses.
        """
        left, right = self.left.T, self.right.T
        levels = list(zip(self.rise, self.fall, strict=True))
        above = [torch.where(left > 0.0, rise, fall) * left for rise, fall in levels]
        below = [torch.where(left > 0.0, fall, rise) * -left for rise, fall in levels]
        lines = torch.stack([torch.cat(above, 1), torch.cat(below, 1)], 2)
        return lines, torch.stack([right.clamp(min=0.0), (-right).clamp(min=0.0)], 1)


def largest(factor: Tensor) -> float:
    """The largest magnitude of an entry."""
    low, high = factor.aminmax()
    return max(-float(low), float(high))


@runtime_checkable
class Coding(Protocol):
    """A way to turn wanted changes into pulses."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """The members of ``SCHEMES`` that it can write."""

    @property
    def slots(self) -> int | None:
        """Pulse slots of a phase; None: as many as the longest train of the phase."""

    def demand(self, wanted: Wanted, generator: torch.Generator) -> Demand:
        """All outer products, as input of a compiled loop."""

    def counts(self, wanted: Wanted, generator: torch.Generator) -> Iterator[Tensor]:
        """Signed pulses (polarities, m, n) of one outer product after another."""

    def dense(self, wanted: Wanted, generator: torch.Generator) -> Tensor:
        """Signed pulses (polarities, m, n) for the sum of the outer products."""


@dataclass(frozen=True)
class WholePulses:
    """Every cell gets its own whole number of pulses.

    ``stochastic`` rounding rounds up with the probability of the fraction, so the mean is exact;
    ``deterministic`` rounds to nearest and loses every change below half a pulse.
    """

    rounding: str = "stochastic"

    schemes = SCHEMES
    slots = None

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, ("stochastic", "deterministic"))

    def demand(self, wanted: Wanted, generator: torch.Generator) -> Demand:  # noqa: ARG002
        """Outer products, which the loop rounds cell by cell."""
        left, right = wanted.left.numpy(), wanted.right.numpy()
        levels = [np.array(each, left.dtype) for each in (wanted.rise, wanted.fall)]
        (m, ranks), n = left.shape, len(right)
        lines = np.empty((ranks, len(wanted.rise) * m, 2), left.dtype)
        columns, most = np.empty((ranks, 2, n), left.dtype), np.empty((ranks, 2), left.dtype)
        kernels.split_by_sign(
            np.ascontiguousarray(left), np.ascontiguousarray(right), *levels, lines, columns, most
        )
        is_stochastic = self.rounding == "stochastic"
        return Demand(kernels.rounded_pulses, (lines, columns, most), (is_stochastic,))

    def counts(self, wanted: Wanted, generator: torch.Generator) -> Iterator[Tensor]:
        """Round the outer products cell by cell."""
        shape = len(wanted.rise), len(wanted.left), len(wanted.right)
        for lines, columns in zip(*wanted.split(), strict=True):
            pulses = (lines @ columns).view(shape)
            yield pulses if wanted.is_continuous else self._round(pulses, generator)

    def dense(self, wanted: Wanted, generator: torch.Generator) -> Tensor:
        """Round ``rise s`` or ``fall s`` cell by cell."""
        change = wanted.left @ wanted.right.T
        above, below = change.clamp(min=0.0), change.clamp(max=0.0)
        out = change.new_empty(len(wanted.rise), *change.shape)
        for pulses, rise, fall in zip(out, wanted.rise, wanted.fall, strict=True):
            torch.mul(above, rise, out=pulses).add_(below, alpha=fall)
        return out if wanted.is_continuous else self._round(out, generator)

    def _round(self, values: Tensor, generator: torch.Generator) -> Tensor:
        if self.rounding == "deterministic":
            return values.add_(0.5).floor_()
        return round_(values, generator)


def round_(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round contiguous ``values`` stochastically, in place, and return them."""
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

    Row i fires in a slot with probability ``p_i = sqrt(N/BL) |left_i| g`` and column j with
    ``q_j = sqrt(N/BL) |right_j| / g`` (both at most 1), where N are the levels of the direction.
    The count of a cell is therefore binomial with mean ``BL p_i q_j`` (the wanted pulses) and
    variance ``BL p_i q_j (1 - p_i q_j)``. Counts of cells that share a line are correlated, as in
    an array. The two polarities have separate streams.

    Parameters
    ----------
    bit_length
        BL, slots per phase (with ``adapt_length`` the maximum), 1 to 1024.
    update_management
        Choose ``g = sqrt(max|right| / max|left|)``, which makes the largest probabilities equal;
        otherwise g = 1.
    adapt_length
        Use no more slots than the largest wanted count needs, ``ceil(N max|left| max|right|)``.

    Source: Gokmen and Vlasov, Front. Neurosci. 10, 333 (2016); for both kinds of management, Gokmen
    et al. (2017).

    Notes
    -----
    A probability cannot exceed 1. Where the formula gives more, pulses are lost;
    :meth:`written_share` gives the fraction that remains. With ``update_management`` only a cell
    that wants more than ``bit_length`` pulses loses some. Without it, activations near 1 saturate
    while errors are near 0.001: 5 to 28 % of per-sample updates were written, 41 to 84 % of rank-4
    updates (docs/devices.md). Shorter trains (``adapt_length``) lose more, as their probabilities
    are larger.
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
        r"""Average fraction of the wanted pulses of an outer product that is written.

        ``BL sum(p) sum(q) / (N sum|left| sum|right|)``, with the probabilities of the class.

        Parameters
        ----------
        left, right
            (m,) and (n,); cell (i, j) wants ``levels * |left[i] right[j]|`` pulses. For a
            differential pair, left is ``learning_rate * sigma * update.left / (2 w_max)``.
        levels
            N, the levels of the direction.

        Returns
        -------
        float
            1 if nothing is lost, or nothing is wanted.

        Raises
        ------
        TypeError, ValueError
            If left or right is not a vector of finite numbers, or levels is not positive.
        """
        check_real("levels", levels, above=0.0)
        for name, factor in (("left", left), ("right", right)):
            if check_tensor(name, factor).ndim != 1 or not len(factor):
                raise ValueError(f"{name} must be a vector; got shape {tuple(factor.shape)}")
        left, right = left.double()[:, None], right.double()[:, None]
        wanted = levels * float(left.abs().sum()) * float(right.abs().sum())
        if not wanted:
            return 1.0
        chances, lengths = bit_trains(self, Wanted(left, right, (levels,), (levels,)))
        rows, columns = chances[0, 0, 0].clamp(max=1.0).split([len(left), len(right)])
        return float(lengths[0, 0, 0] * rows.sum() * columns.sum()) / wanted

    def demand(self, wanted: Wanted, generator: torch.Generator) -> Demand:
        """Bits of all streams, for a loop that counts coincidences in 64-bit words."""
        left, right = wanted.left, wanted.right
        chances, lengths = bit_trains(self, wanted)
        slots = lengths.long().unsqueeze(-1).expand_as(chances).flatten().numpy()
        words = np.empty((*chances.shape, -(-self.bit_length // 64)), np.uint64)
        streams, flat = words.reshape(-1, words.shape[-1]), chances.flatten().numpy()
        (key,) = kernels.draw_keys(1, generator)
        kernels.in_parts(
            lambda *part: kernels.draw_bits(flat, slots, key, streams, *part), len(streams)
        )
        rows, columns = words[..., : len(left), :], words[..., len(left) :, :]
        rows = rows.reshape(*rows.shape[:2], -1, rows.shape[-1])
        signs = (factor.T.sign().contiguous().numpy() for factor in (left, right))
        senses = torch.tensor([wanted.rise, [-level for level in wanted.fall]]).to(left).sign()
        by_rank = np.ascontiguousarray(rows), np.ascontiguousarray(columns), *signs
        return Demand(kernels.coincident_pulses, by_rank, (senses.T.contiguous().numpy(),))

    def counts(self, wanted: Wanted, generator: torch.Generator) -> Iterator[Tensor]:
        """Count coincidences by matrix products of signed bits."""
        heights = [len(wanted.left), len(wanted.right)]
        signs = torch.cat([wanted.left, wanted.right]).T.sign()
        for sign, *trains in zip(signs, *bit_trains(self, wanted), strict=True):
            polarities = (each.transpose(0, 1) for each in trains)
            out = sign.new_zeros(len(wanted.rise), *heights)
            for pulses, chances, lengths, *levels in zip(
                out, *polarities, wanted.rise, wanted.fall, strict=True
            ):
                if not chances.any():
                    continue
                bits = sign.new_empty(len(sign), self.bit_length).uniform_(generator=generator)
                for way, chance, slots, level in zip(
                    (1, -1), chances, lengths, levels, strict=True
                ):
                    signed = (chance.clamp(max=1.0) * sign)[:, None]
                    rows, columns = (bits[:, : int(slots)] + signed).floor().split(heights)
                    found = (way * (rows @ columns.T)).clamp(min=0.0)
                    pulses += way * math.copysign(1.0, level) * found
            yield out

    def dense(self, wanted: Wanted, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Not possible: lines can only write outer products."""
        raise ValueError("coincidence pulses write outer products; use scheme 'rank-sequential'")

    @property
    def slots(self) -> int:
        """The bit length (an upper bound with ``adapt_length``)."""
        return self.bit_length


def bit_trains(coding: Coincidence, wanted: Wanted) -> tuple[Tensor, Tensor]:
    """Probabilities of a bit, of rows then columns, and slots of a train, at least 1.

    (ranks, 2, polarities, m + n) and (ranks, 2, polarities), where the 2 are changes up and down.
    """
    left, right = wanted.left, wanted.right
    tallest, widest = left.abs().amax(0), right.abs().amax(0)
    gain = (widest / tallest).sqrt() if coding.update_management else torch.ones_like(tallest)
    lines = torch.cat([left * gain, right / gain]).T.abs().nan_to_num_(0.0, 0.0)
    levels = torch.tensor([wanted.rise, wanted.fall]).to(lines).abs()
    lengths = torch.full((len(lines), *levels.shape), float(coding.bit_length)).to(lines)
    if coding.adapt_length:
        most = levels * (tallest * widest)[:, None, None]
        lengths = most.ceil().clamp(1.0, float(coding.bit_length))
    return (levels / lengths).sqrt().unsqueeze(-1) * lines[:, None, None], lengths


def half_selected(pulses: Tensor) -> Tensor:
    """Half-selections of every cell by pulses of one direction, (polarities, m, n).

    Every pulse puts half its voltage on the other cells of its row and its column
    (V/2 scheme, cells addressed one after another): row sum + column sum - 2 own pulses.
    """
    return pulses.sum(-1, keepdim=True) + pulses.sum(-2, keepdim=True) - 2.0 * pulses


def sign_phases(left: Tensor, right: Tensor) -> list[tuple[int, int]]:
    """SET and RESET phases that each outer product of two factors needs, at most 2 and 2.

    A line voltage has one sign at a time, so the four combinations of signs of a row and a column
    are written one after another: ``++`` and ``--`` raise weights, ``+-`` and ``-+`` lower them.
    """
    rows, columns = left.cpu().numpy(), right.cpu().numpy()  # numpy's extremes are ten times faster
    rows_up, rows_down = rows.max(0) > 0.0, rows.min(0) < 0.0
    columns_up, columns_down = columns.max(0) > 0.0, columns.min(0) < 0.0
    raising = 1 * (rows_up & columns_up) + (rows_down & columns_down)
    lowering = 1 * (rows_up & columns_down) + (rows_down & columns_up)
    return list(zip(raising.tolist(), lowering.tolist(), strict=True))


CODINGS = ("whole pulses", "coincidence")  # names for settings


def make_coding(name: str, *, bit_length: int) -> Coding:
    """Create the coding of that name; only coincidence pulses use ``bit_length``."""
    check_choice("name", name, CODINGS)
    return WholePulses() if name == CODINGS[0] else Coincidence(bit_length=bit_length)
