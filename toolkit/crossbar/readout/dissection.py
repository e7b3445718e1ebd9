"""Direct solution of resistive lines: the effective conductance, by nested dissection.

The geometry and the public functions are in :mod:`toolkit.crossbar.readout.wires`.

A tile of the array is a linear network that touches the rest only at the ends of its lines. Its
matrix H takes, for every line, the potential at its near end (towards the terminal) and the current
that leaves at its far end; it gives the current that enters at the near end and the potential at
the far end. Bit-line potentials count as negative, which makes both families of lines alike and H
symmetric. Joining two tiles eliminates the ends that meet; nothing is ever divided by a wire
resistance, so small ones cost no accuracy. Ports are ordered [near, others' near, others' far,
far], where near and far are the ends of the lines along which tiles are joined next.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Largest side of the smallest tiles. Sides of 4 to 7, doubled, cover any size with little padding.
_SIDE = 7
# Number of smallest tiles computed at a time: bounds the scratch memory.
_CHUNK = 4096


def dissect(conductance: Tensor, word: float, bit: float) -> Tensor:
    """Effective conductance (m, n) of a float64 matrix; ohm per segment of word and bit lines.

    Tiles are joined two by two, alternately along the word lines (axis 0) and the bit lines (1).
    """
    m, n = conductance.shape
    lines, counts = _cover(m, n)  # word and bit lines of a tile; tiles along word, along bit lines
    tiles = _small_tiles(conductance, word, bit, lines, counts)
    ends = [2, 2]  # of every line of a tile; 1 where nothing lies beyond the far ends
    axis = 0
    while tiles.shape[:2] != (1, 1):
        shared, others, count = lines[axis], lines[1 - axis], tiles.shape[axis]
        *near, far = tiles.unflatten(axis, (-1, min(count, 2))).unbind(axis + 1)
        if count <= 2 and ends[axis] == 2:
            far, ends[axis] = far[..., :-shared, :-shared], 1
        tiles = _join(near[0], far, shared) if near else far
        parts = 1 + len(near)
        order = _turned(shared, parts, ends[1 - axis], others, tiles.shape[-1])
        tiles = tiles[..., order[:, None], order]
        lines[1 - axis] *= parts
        axis = 1 - axis
    shared, others = lines[axis], lines[1 - axis]
    block = tiles[0, 0, shared : shared + others, :shared]
    # Bit lines were numbered from their terminals, last input first; padding is at the far ends.
    return (block if axis == 0 else block.T)[:m, :n].flip(1)


def _join(near: Tensor, far: Tensor, lines: int) -> Tensor:
    """Join the far ends of ``near`` to the near ends of ``far``; both (..., ports, ports).

    The potential u and the current c at the joint obey ``u = a - Z c`` in the near tile and
    ``c = b + Y u`` in the far one, so ``c = (1 + Y Z)^-1 (Y a + b)``.
    """
    a, b = near[..., -lines:, :-lines], far[..., :lines, lines:]
    impedance, admittance = -near[..., -lines:, -lines:], far[..., :lines, :lines]
    system = admittance @ impedance
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)
    current = torch.linalg.solve(system, torch.cat([admittance @ a, b], -1))
    kept, ports = a.shape[-1], current.shape[-1]
    by_near, by_far = current[..., :kept], current[..., kept:]
    joined = near.new_empty(*near.shape[:-2], ports, ports)
    joined[..., :kept, :kept] = near[..., :-lines, :-lines] + a.mT @ by_near
    joined[..., :kept, kept:] = a.mT @ by_far
    joined[..., kept:, :kept] = joined[..., :kept, kept:].mT
    joined[..., kept:, kept:] = far[..., lines:, lines:] - b.mT @ (impedance @ by_far)
    return joined


def _turned(lines: int, parts: int, ends: int, others: int, ports: int) -> Tensor:
    """Order of the ports for the other direction: [near, others of every part, far]."""
    every = torch.arange(ports)
    middle = lines + parts * ends * others
    other = every[lines:middle].view(parts, ends, others)
    far = other[:, 1:].flatten()
    return torch.cat([other[:, 0].flatten(), every[:lines], every[middle:], far])


def _cover(m: int, n: int) -> tuple[list[int], list[int]]:
    """Word and bit lines of the smallest tiles, and the number (a power of 2) along each axis."""
    counts = [2 ** max(0, math.ceil(math.log2(size / _SIDE))) for size in (m, n)]
    return [math.ceil(n / counts[1]), math.ceil(m / counts[0])], counts


def _small_tiles(
    conductance: Tensor, word: float, bit: float, lines: list[int], counts: list[int]
) -> Tensor:
    """H of the smallest tiles, (*counts, ports, ports): ``H_ideal + (S X0)^T (1 + S K S)^-1 S X0``.

    S is the square root of the conductances, X0 the voltages that each port alone puts over the
    cells, and K the drops caused by the currents of the cells.
    """
    p, q = lines
    cells = conductance.new_zeros(counts[0] * q, counts[1] * p)  # padding: open cells at far ends
    cells[: conductance.shape[0], : conductance.shape[1]] = conductance.flip(1)
    cells = cells.view(counts[0], q, counts[1], p).transpose(1, 2).reshape(-1, q * p)
    ideal, voltages, drops = (x.to(cells) for x in _tile_network(p, q, word, bit))
    tiles = []
    for root in cells.sqrt().unsqueeze(-1).split(_CHUNK):
        system = root * drops * root.mT
        system.diagonal(dim1=-2, dim2=-1).add_(1.0)
        half = torch.linalg.solve_triangular(
            torch.linalg.cholesky(system), root * voltages, upper=False
        )
        tiles.append(ideal + half.mT @ half)
    return torch.cat(tiles).view(*counts, *ideal.shape)


def _tile_network(p: int, q: int, word: float, bit: float) -> tuple[Tensor, Tensor, Tensor]:
    """H of p word and q bit lines without cells; X0 (cells, ports) and K of their q x p cells."""
    one_p, one_q = torch.ones(p, 1, dtype=torch.float64), torch.ones(q, 1, dtype=torch.float64)
    eye_p, eye_q = torch.eye(p, dtype=torch.float64), torch.eye(q, dtype=torch.float64)
    bit_ohm, word_ohm = bit * one_p.cumsum(0), word * one_q.cumsum(0)  # from the near ends
    voltages = [
        torch.kron(one_q, eye_p),
        torch.kron(eye_q, one_p),
        torch.kron(eye_q, -bit_ohm),
        torch.kron(-word_ohm, eye_p),
    ]
    along_word = torch.kron(torch.minimum(word_ohm, word_ohm.T), eye_p)
    along_bit = torch.kron(eye_q, torch.minimum(bit_ohm, bit_ohm.T))
    ideal = torch.zeros(2 * (p + q), 2 * (p + q), dtype=torch.float64)
    near = torch.arange(p + q)
    far = torch.cat([p + 2 * q + near[:p], p + q + near[:q]])
    ideal[near, far] = ideal[far, near] = 1.0
    ideal[far[:p], far[:p]], ideal[far[p:], far[p:]] = -word * q, -bit * p
    return ideal, torch.cat(voltages, 1), along_word + along_bit
