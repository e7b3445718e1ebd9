"""Random hits for outer products of small chances, at the cost of the hits, not of all cells.

A Poisson process of ``-ln(1 - p)`` points per cell leaves each cell empty with chance ``1 - p``,
independently of the others. Its points are drawn where they fall, by thinning (Lewis and Shedler,
Naval Res. Logist. Q. 26, 403, 1979): a process with more points in every cell, but with the same
law in all rows, is simple to draw; each of its points is kept with the ratio of the two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.crossbar.noise import random_words
from toolkit.crossbar.selection import Selection, places_not_zero, sort_


def hits(rows: Tensor, columns: Tensor, generator: torch.Generator) -> list[Selection]:
    """Cells hit with chance ``|p|``, ``p = rows @ columns``, independently; and the signs of p.

    Parameters
    ----------
    rows
        (ranks, m, 2); no ``|p|`` may be above 1/2.
    columns
        (ranks, 2, n), not negative; in any column one of the two is 0.
    generator
        Of all randomness, on the device of ``rows``.

    Returns
    -------
    list[Selection]
        For every rank the rising places of the flattened (m, n) cells, and 1 or -1 for each.
    """
    ranks, height, _ = rows.shape
    width = columns.shape[2]
    level = torch.cat([rows, rows.new_zeros(ranks, 1, 2)], 1)
    size = torch.cat([columns, columns.new_zeros(ranks, 2, 1)], 2).transpose(1, 2).flatten(1)
    reach = level.abs().amax(2)
    most = reach * size.amax(1, keepdim=True)
    # up to ``most``, -ln(1 - p) is at most p times this
    bend = torch.where(most > 0.0, -torch.log1p(-most) / most, 1.0)
    row_of, row_offer, row_mean = _offer(reach * bend)
    column_of, column_offer, column_mean = _offer(size)

    points = torch.poisson(row_mean * column_mean, generator=generator).int()
    index = torch.arange(ranks, dtype=torch.int32, device=rows.device)
    rank = torch.repeat_interleave(index, points)
    random = random_words((3, len(rank)), torch.int32, generator)
    row, column = _entry(row_of, random[0], rank), _entry(column_of, random[1], rank)
    side = column & 1
    chance = level.view(-1).index_select(0, (2 * row).add_(side))
    chance.mul_(size.view(-1).index_select(0, column))
    choice = random[2].to(rows).mul_(2.0**-32).add_(0.5)
    choice.mul_(row_offer.index_select(0, row)).mul_(column_offer.index_select(0, column))
    kept = places_not_zero(choice < torch.log1p(-chance.abs()).neg_())

    # twice the place, one more for a positive sign: sorted, equal ones are one hit
    cells = height * width
    wide = torch.int32 if 2 * ranks * cells < 2**31 else torch.int64
    keys = row.to(wide).mul_(2 * width).add_(column).sub_(side).sub_(rank, alpha=4 * width + 2)
    keys = keys.add_(chance > 0.0).index_select(0, kept)
    keys = torch.unique_consecutive(sort_(keys))
    ends = torch.searchsorted(
        keys, 2 * cells * torch.arange(1, ranks, dtype=wide, device=rows.device)
    )
    places, signs = (keys >> 1).long(), (keys & 1).to(rows).mul_(2.0).sub_(1.0)
    parts = zip(places.tensor_split(ends.cpu()), signs.tensor_split(ends.cpu()), strict=True)
    return [Selection(part.sub_(number * cells), sign) for number, (part, sign) in enumerate(parts)]


def _offer(sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Laws over indices (ranks, indices) by tables whose random entry is in proportion to sizes.

    Returns the tables (ranks, a power of two) of places in the flattened ``sizes``, int32; what
    they offer each place: a multiple of an entry's offer, at least the size; and the offers of a
    whole table (ranks,), float64. The last index takes the entries that are left; its size is 0.
    """
    ranks, count = sizes.shape
    entries = 1 << (16 * count - 1).bit_length()
    unit = sizes.sum(1, keepdim=True, dtype=torch.float64) / (entries - count)
    shares = torch.where(sizes > 0.0, sizes / unit, 0.0).ceil_()
    shares[:, -1] = entries - shares.sum(1)
    index = torch.arange(ranks * count, dtype=torch.int32, device=sizes.device)
    table = torch.repeat_interleave(index, shares.view(-1).int(), output_size=ranks * entries)
    offer = (shares * unit).to(sizes).view(-1)
    return table.view(ranks, entries), offer, unit.squeeze(1) * entries


def _entry(table: Tensor, word: Tensor, rank: Tensor) -> Tensor:
    """A random entry, by the last bits of ``word``, of that rank's table."""
    entries = table.shape[1]
    return table.view(-1).index_select(0, (word & (entries - 1)).add_(rank, alpha=entries))
