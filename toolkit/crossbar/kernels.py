"""Loops compiled for the CPU: pulses of outer products, their effect on cells, inputs of reads.

They do in one pass what torch does in about fifteen, on flat numpy views of CPU tensors, and
release Python's lock. Cells are a tuple of arrays with one entry per cell: state, parameters
(cells, columns), nodes, lower and upper bounds, pulse counts, the offset between state and
conductance, the state at the last write, the seconds since. Parameters and bounds have a single
entry if all cells are alike, nodes are those of the response, and those of the last three that the
device does not need are empty. Noise is four numbers of the same dtype: the device's
cycle_to_cycle, step_noise, state_noise and write_noise.

Work is cut into chunks of :data:`CHUNK` entries that threads share. Random numbers are functions of
a key and the place of an entry, so results do not depend on the number of threads.

The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which passes BigCrush: word i is a
mix of ``key + i * 0x9E3779B97F4A7C15``; normals are made from words by Box and Muller's method.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, from_dtype, njit, uint64, void
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

#: Cells of one chunk of work.
CHUNK = 2**14
#: Most pulses given to a cell in one write.
MOST_PULSES = 1e9

_BLOCK = 1024  # cells processed at a time, so that their data stay in the cache
# Below this chance of a row's likeliest cell, jumping from hit to hit is faster.
_RARE = 0.03
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_3, _11, _24, _27, _30, _31, _32 = (np.uint64(bits) for bits in (3, 11, 24, 27, 30, 31, 32))
_LOW_24, _LOW_32 = np.uint64(2**24 - 1), np.uint64(2**32 - 1)
_8, _NONE = np.uint32(8), np.uint32(0)
_F = np.float32
# of the bits of a float32, sqrt(1/2) and the mantissa; of a turn in 2^32 steps
_ROOT_HALF, _MANTISSA, _MANTISSA_BITS = np.int32(0x3F3504F3), np.int32(0x7FFFFF), np.int32(23)
_LOW_30, _QUARTER_TURN, _HALF_TURN = np.uint32(2**30 - 1), np.uint32(2**30), np.uint32(2**31)

compiled: Any = functools.partial(njit, nogil=True, cache=True)
#: If set, called between chunks of long work, so that a server can let other runs work.
between_chunks: ContextVar[Callable[[], None] | None] = ContextVar("between_chunks", default=None)


# Loops take only arrays, numbers and plain tuples of them: a class would be stored in numba's disk
# cache, which could not be read once the class had moved.
Cells = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Demand:
    """Pulses wanted of cells, one outer product after another: a loop and its first arguments.

    ``by_rank`` holds arrays (ranks, ...); ``rest`` is shared by all ranks.
    """

    loop: Callable[..., None]
    by_rank: Sequence[np.ndarray]
    rest: tuple[Any, ...] = ()

    @property
    def ranks(self) -> int:
        """Number of outer products."""
        return len(self.by_rank[0])

    def __iter__(self) -> Iterator[Demand]:
        """Yield every outer product by itself."""
        for rank in range(self.ranks):
            yield replace(self, by_rank=[array[rank : rank + 1] for array in self.by_rank])


class CompiledStep:
    """Effect of pulses on cells, without noise; compiled when first needed.

    The function is called as ``step(places, pulses, state, parameters, nodes, low, high, after)``
    and fills ``after[i]`` with the state of cell ``places[i]`` after ``pulses[i]`` signed pulses;
    the middle five are the first arrays of the cells. It must not raise. With ``cache`` it is kept
    on disk until its own file changes, so it must not call functions from other files.
    """

    def __init__(self, function: Callable[..., None], *, cache: bool = False) -> None:
        self._function, self._cache, self._compiled = function, cache, dict[type, Any]()

    def address(self, real: type[np.floating]) -> int:
        """Memory address of the step for cells of this dtype, an argument of the loops."""
        if real not in self._compiled:
            signature = void(*_step_arguments(from_dtype(np.dtype(real))))
            self._compiled[real] = cfunc(signature, cache=self._cache)(self._function)
        return int(self._compiled[real].address)


def _step_arguments(real: Any) -> tuple[Any, ...]:
    """Numba types of a compiled step's arguments."""
    values, table = real[::1], real[:, ::1]
    return uint64[::1], values, values, table, table, values, values, values


@intrinsic
def _call_step(_typing, address, arguments):  # type: ignore[no-untyped-def]
    """Call the step at that address: indirectly, so that loops are compiled once for all steps."""
    if tuple(arguments) != _step_arguments(arguments[1].dtype):
        raise TypingError(f"a compiled step cannot take {arguments}")

    def generate(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        given = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return void(address, arguments), generate


def in_parts(job: Callable[[int, int], Any], entries: int) -> None:
    """Call ``job(start, stop)`` for all chunks of the entries, on as many threads as torch uses."""
    chunks, rest = -(-entries // CHUNK), between_chunks.get()
    at_once = torch.get_num_threads() if rest else max(chunks, 1)
    for start in range(0, chunks, at_once):
        if rest and start:
            rest()
        _on_threads(job, start, min(start + at_once, chunks))


def _on_threads(job: Callable[[int, int], Any], start: int, stop: int) -> None:
    chunks = stop - start
    threads = min(torch.get_num_threads(), chunks)
    ends = [start + chunks * part // max(threads, 1) for part in range(threads + 1)]
    parts = list(itertools.pairwise(ends))
    others = [_threads().submit(job, *part) for part in parts[1:]]
    if parts:
        job(*parts[0])
    for other in others:
        other.result()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="cells")


def draw_keys(count: int, generator: torch.Generator) -> np.ndarray:
    """Keys for ``count`` sequences of random numbers."""
    words = torch.empty(count, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.cpu().numpy().view(np.uint64)


# a forked process does not inherit its parent's threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


@compiled(inline="always")
def _word(key, place):  # type: ignore[no-untyped-def]
    """The random 64-bit word at that place of the key's sequence."""
    word = key + place * _GOLDEN
    word = (word ^ (word >> _30)) * _FIRST
    word = (word ^ (word >> _27)) * _SECOND
    return word ^ (word >> _31)


@compiled
def _normals(out, key, place):  # type: ignore[no-untyped-def]
    """Fill ``out``, of even length, with standard normals made from the words from ``place`` on.

    From a word's low and high halves l and h, ``r = sqrt(-2 ln((l + 1/2) / 2^32))`` and
    ``a = (h / 2^32 - 1/8) 2 pi``; ``r cos a`` goes to the first half of ``out``, ``r sin a`` to the
    second. In float32 and without branches, so that the compiler can vectorise it.
    """
    pairs = len(out) // 2
    mantissas, turns = np.empty(pairs, np.float32), np.empty(pairs, np.uint32)
    exponents, bits = np.empty(pairs, np.int32), mantissas.view(np.int32)
    for pair in range(pairs):
        word = _word(key, place + np.uint64(pair))
        mantissas[pair] = (np.float32(np.uint32(word & _LOW_32)) + _F(0.5)) * _F(2.0**-32)
        turns[pair] = np.uint32(word >> _32)
    for pair in range(pairs):  # chance = 2^exponent mantissa, the latter from sqrt(1/2) to sqrt(2)
        above = bits[pair] - _ROOT_HALF
        exponents[pair] = above >> _MANTISSA_BITS
        bits[pair] = (above & _MANTISSA) + _ROOT_HALF
    for pair in range(pairs):
        turn = turns[pair]
        log = _log_near_1(mantissas[pair] - _F(1.0)) + _F(math.log(2.0)) * exponents[pair]
        radius = np.sqrt(_F(-2.0) * min(log, _F(0.0)))
        angle = np.float32(turn & _LOW_30) * _F(math.pi * 2.0**-31) - _F(math.pi / 4)
        cosine, sine = _cosine_and_sine(angle)
        sign = radius if turn < _HALF_TURN else -radius
        is_turned = (turn & _QUARTER_TURN) != _NONE
        out[pair] = sign * (-sine if is_turned else cosine)
        out[pairs + pair] = sign * (cosine if is_turned else sine)


@compiled(inline="always")
def _log_near_1(x):  # type: ignore[no-untyped-def]
    """ln(1 + x) for 1 + x from sqrt(1/2) to sqrt(2) (Cephes, logf)."""
    y = _F(7.0376836292e-2) * x - _F(1.1514610310e-1)
    y = y * x + _F(1.1676998740e-1)
    y = y * x - _F(1.2420140846e-1)
    y = y * x + _F(1.4249322787e-1)
    y = y * x - _F(1.6668057665e-1)
    y = y * x + _F(2.0000714765e-1)
    y = y * x - _F(2.4999993993e-1)
    y = y * x + _F(3.3333331174e-1)
    return x + x * x * (x * y - _F(0.5))


@compiled(inline="always")
def _cosine_and_sine(x):  # type: ignore[no-untyped-def]
    """Cosine and sine of x from -pi / 4 to pi / 4 (Cephes, sinf and cosf)."""
    z = x * x
    c = (_F(2.443315711809948e-5) * z - _F(1.388731625493765e-3)) * z + _F(4.166664568298827e-2)
    s = (_F(-1.9515295891e-4) * z + _F(8.3321608736e-3)) * z - _F(1.6666654611e-1)
    return _F(1.0) + z * (z * c - _F(0.5)), x + x * z * s


@compiled
def round_up_or_down(values, key, first, last):  # type: ignore[no-untyped-def]
    """Round the values of these chunks up with the probability of their fraction, else down."""
    words = np.empty(_BLOCK // 2, np.uint64)
    stop = min(last * CHUNK, len(values))
    for start in range(first * CHUNK, stop, _BLOCK):
        _round(values[start : min(start + _BLOCK, stop)], key, np.uint64(start), words)


@compiled
def _round(values, key, place, words):  # type: ignore[no-untyped-def]
    """Round by comparing fractions with 24-bit uniforms; ``words`` is scratch for their bits."""
    real = values.dtype.type
    pairs = (len(values) + 1) // 2
    for pair in range(pairs):
        words[pair] = _word(key, place + np.uint64(pair))
    halves = words.view(np.uint32)
    for entry in range(len(values)):
        low = np.floor(values[entry])
        is_up = values[entry] - low > real(halves[entry] >> _8) * real(2.0**-24)
        values[entry] = low + real(is_up)


@compiled
def counted_pulses(pulses, step, cells, noise, keys, sums, first, last):  # type: ignore[no-untyped-def]
    """Apply ``pulses`` (1, cells) to the cells; for ``sums`` (1, chunks, 6), see ``_move``."""
    places = np.empty(_BLOCK, np.uint64)
    counts = np.empty(_BLOCK, pulses.dtype)
    for chunk in range(first, last):
        stop = min((chunk + 1) * CHUNK, pulses.shape[1])
        random = np.uint64(chunk * CHUNK)
        for start in range(chunk * CHUNK, stop, _BLOCK):
            block = pulses[0, start : min(start + _BLOCK, stop)]
            count = _gather(block, start, places, counts, 0)
            some = places[:count], counts[:count]
            _move(*some, step, cells, noise, keys, random, sums[0, chunk])
            random += np.uint64(_BLOCK)


@compiled
def rounded_pulses(  # type: ignore[no-untyped-def]
    lines, columns, most, is_stochastic, step, cells, noise, keys, sums, first, last
):
    """Round one outer product after another to whole pulses and apply them to the cells.

    ``lines[rank, i] @ columns[rank]``, (lines, 2) and (2, n), is what row i of cells wants; one of
    the two terms is 0 in every column. ``most`` (ranks, 2) are the maxima of the columns. For
    ``sums`` (ranks, chunks, 6), see ``_move``.
    """
    ranks, rows, _ = lines.shape
    width = columns.shape[2]
    places = np.empty(2 * _BLOCK, np.uint64)
    counts = np.empty(2 * _BLOCK, lines.dtype)
    wanted = np.empty(_BLOCK, lines.dtype)
    room = np.empty((2, _BLOCK // 8), np.uint64)
    for chunk in range(first, last):
        stop = min((chunk + 1) * CHUNK, rows * width)
        for rank in range(ranks):
            base = np.uint64((rank * sums.shape[1] + chunk) * CHUNK)
            random = base
            count, start = 0, chunk * CHUNK
            while start < stop:
                row, column, size = _piece(start, stop, width)
                above, below = lines[rank, row]
                reach = max(abs(above) * most[rank, 0], abs(below) * most[rank, 1])
                risen = columns[rank, 0, column : column + size]
                fallen = columns[rank, 1, column : column + size]
                terms = above, below, risen, fallen
                place = base + np.uint64(start - chunk * CHUNK)
                if is_stochastic and reach < _RARE:
                    if reach > 0.0:
                        count = _jump(terms, reach, keys[2], place, start, places, counts, count)
                elif is_stochastic:
                    count = _thin(terms, keys[2:], place, start, room, places, counts, count)
                elif reach >= 0.5:
                    want = wanted[:size]
                    for entry in range(size):
                        want[entry] = above * risen[entry] + below * fallen[entry]
                        want[entry] = np.floor(want[entry] + want.dtype.type(0.5))
                    count = _gather(want, start, places, counts, count)
                start += size
                if count > _BLOCK or start == stop:
                    some = places[:count], counts[:count]
                    _move(*some, step, cells, noise, keys, random, sums[rank, chunk])
                    random += np.uint64(_BLOCK)
                    count = 0


@compiled
def split_by_sign(left, right, rise, fall, lines, columns, most):  # type: ignore[no-untyped-def]
    """Fill the arguments of :func:`rounded_pulses` from factors (m, ranks) and (n, ranks).

    A positive change gives a cell of polarity p ``rise[p]`` pulses, a negative one ``fall[p]``.
    """
    rows = left.shape[0]
    most[:] = 0.0
    for rank in range(left.shape[1]):
        for p in range(rise.shape[0]):
            for i in range(rows):
                value = left[i, rank]
                is_up = value > 0.0
                lines[rank, p * rows + i, 0] = value * (rise[p] if is_up else fall[p])
                lines[rank, p * rows + i, 1] = -value * (fall[p] if is_up else rise[p])
        for j in range(right.shape[0]):
            columns[rank, 0, j] = max(right[j, rank], 0.0)
            columns[rank, 1, j] = max(-right[j, rank], 0.0)
            most[rank, 0] = max(most[rank, 0], right[j, rank])
            most[rank, 1] = max(most[rank, 1], -right[j, rank])


@compiled(inline="always")
def _piece(start, stop, width):  # type: ignore[no-untyped-def]
    """Row, column and length of the part of a row that starts at ``start``, at most one block."""
    row, column = start // width, start % width
    return row, column, min(width - column, stop - start, _BLOCK)


@compiled
def add_squares(total, rows):  # type: ignore[no-untyped-def]
    """Add the squared columns of ``rows`` (batch, n) to ``total`` (n,)."""
    squares = np.zeros(rows.shape[1], rows.dtype)
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            squares[column] += rows[row, column] * rows[row, column]
    for column in range(rows.shape[1]):
        total[column] += squares[column]


@compiled
def draw_bits(chances, lengths, key, words, first, last):  # type: ignore[no-untyped-def]
    """Draw streams of random bits: bit t of ``words`` (lines, words) is 1 with the line's chance.

    Bits beyond the length of the line are 0.
    """
    slots = 64 * words.shape[1]
    for line in range(first * CHUNK, min(last * CHUNK, len(chances))):
        words[line] = np.uint64(0)
        for slot in range(0, lengths[line], 2):
            word = _word(key, np.uint64((line * slots + slot) // 2))
            for side in range(min(2, lengths[line] - slot)):
                half = (word >> (_32 * np.uint64(side))) & _LOW_32
                if float(half) * 2.0**-32 < chances[line]:
                    at = slot + side
                    words[line, at // 64] |= np.uint64(1) << np.uint64(at % 64)


@compiled
def coincident_pulses(  # type: ignore[no-untyped-def]
    rows, columns, row_signs, column_signs, senses, step, cells, noise, keys, sums, first, last
):
    """Apply as many pulses as bits of a cell's lines coincide, one outer product after another.

    ``rows`` (ranks, 2, polarities m, words) and ``columns`` (ranks, 2, polarities, n, words) are
    streams of bits: first for cells whose line and column have equal signs, then for the others.
    ``senses`` (polarities, 2) are the signs of the pulses of the two.
    """
    ranks, _, height, length = rows.shape
    width = columns.shape[3]
    places = np.empty(2 * _BLOCK, np.uint64)
    counts = np.empty(2 * _BLOCK, row_signs.dtype)
    wanted = np.empty(_BLOCK, row_signs.dtype)
    for chunk in range(first, last):
        stop = min((chunk + 1) * CHUNK, height * width)
        for rank in range(ranks):
            random = np.uint64((rank * sums.shape[1] + chunk) * CHUNK)
            count, start = 0, chunk * CHUNK
            while start < stop:
                row, column, size = _piece(start, stop, width)
                polarity = row // row_signs.shape[1]
                side = row_signs[rank, row % row_signs.shape[1]]
                wanted[:size] = 0.0
                for word in range(length):
                    same, other = rows[rank, 0, row, word], rows[rank, 1, row, word]
                    for entry in range(size):
                        at = column + entry
                        sign = side * column_signs[rank, at]
                        alike = _ones(same & columns[rank, 0, polarity, at, word])
                        apart = _ones(other & columns[rank, 1, polarity, at, word])
                        if sign > 0.0:
                            wanted[entry] += senses[polarity, 0] * alike
                        elif sign < 0.0:
                            wanted[entry] += senses[polarity, 1] * apart
                count = _gather(wanted[:size], start, places, counts, count)
                start += size
                if count > _BLOCK or start == stop:
                    some = places[:count], counts[:count]
                    _move(*some, step, cells, noise, keys, random, sums[rank, chunk])
                    random += np.uint64(_BLOCK)
                    count = 0


@compiled(inline="always")
def _ones(word):  # type: ignore[no-untyped-def]
    """Number of 1 bits."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    twos = np.uint64(0x3333333333333333)
    word = (word & twos) + ((word >> np.uint64(2)) & twos)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled
def _gather(pulses, start, places, counts, count):  # type: ignore[no-untyped-def]
    """Append the cells that get pulses to the lists and return their new length."""
    for entry in range(len(pulses)):  # no branch: it would be mispredicted too often
        places[count] = start + entry
        counts[count] = pulses[entry]
        count += pulses[entry] != 0.0
    return count


@compiled
def _thin(terms, keys, place, start, room, places, counts, count):  # type: ignore[no-untyped-def]
    """Like ``_gather`` on magnitudes rounded up with the chance of their fraction, else down.

    One random byte rules out most cells: those whose value is at most byte / 256. For the others
    it is the first byte of a uniform number; the rest is drawn with the second key.
    ``room`` is for the bytes and for the cells that they leave.
    """
    above, below, risen, fallen = terms
    real, size = risen.dtype.type, risen.shape[0]
    words = (size + 7) // 8
    for word in range(words):
        room[0, word] = _word(keys[0], place + np.uint64(word))
    room[1, words - 1] = 0
    random, left = room[0].view(np.uint8), room[1].view(np.uint8)
    up, down = abs(above), abs(below)
    for entry in range(size):
        left[entry] = real(2.0**-8) * real(random[entry]) < up * risen[entry] + down * fallen[entry]
    found, first = count, np.uint64(start)
    for word in range(words):
        flags = room[1, word]
        while flags:
            places[found] = np.uint64(8 * word) + (_ones((flags & -flags) - np.uint64(1)) >> _3)
            flags &= flags - np.uint64(1)
            found += 1
    for index in range(count, found):  # without a branch: it would be guessed wrongly too often
        entry = places[index]
        chance = above * risen[entry] + below * fallen[entry]
        whole = np.floor(abs(chance))
        more = float(_word(keys[1], place + entry) >> _11) * 2.0**-53
        whole += random[entry] + more < 256.0 * (abs(chance) - whole)
        places[count] = first + entry
        counts[count] = math.copysign(whole, chance)
        count += whole > 0.0
    return count


@compiled
def _jump(terms, reach, key, place, start, places, counts, count):  # type: ignore[no-untyped-def]
    """Like ``_gather`` on rounded values, none of which is above ``reach`` < 1.

    Trials with that chance are traversed in jumps of geometric length; a hit is kept with the
    ratio of the cell's own chance to it.
    """
    above, below, risen, fallen = terms
    scale = 1.0 / math.log1p(-reach)
    entry = -1
    while True:
        word = _word(key, place)
        place += np.uint64(1)
        jump = math.log((float(word >> _24) + 0.5) * 2.0**-40) * scale
        if jump >= risen.shape[0]:
            return count
        entry += 1 + int(jump)
        if entry >= risen.shape[0]:
            return count
        chance = above * risen[entry] + below * fallen[entry]
        if float(word & _LOW_24) * 2.0**-24 * reach < abs(chance):
            places[count] = start + entry
            counts[count] = math.copysign(1.0, chance)
            count += 1


@compiled
def _move(places, pulses, step, cells, noise, keys, place, sums):  # type: ignore[no-untyped-def]
    """Apply ``pulses`` to the cells at ``places``: response, noise, bounds, then wear and clocks.

    Adds the sums over cells of n, |n|, n x and |n| x to ``sums``, with x the state afterwards, and
    updates the largest and smallest n.
    """
    state, parameters, nodes, low, high, pulse_count, offset, at_rest, age = cells
    cycle_to_cycle, step_noise, state_noise, write_noise = noise
    normal, fresh = np.empty(len(places) + 1, state.dtype), np.empty(len(places) + 1, state.dtype)
    is_noisy = cycle_to_cycle > 0.0 or step_noise > 0.0 or state_noise > 0.0
    if is_noisy:
        _normals(normal, keys[0], place)
    if write_noise > 0.0:
        _normals(fresh, keys[1], place)
    last_low, last_high = np.uint64(len(low) - 1), np.uint64(len(high) - 1)
    reached = np.empty(len(places), state.dtype)
    for index in range(len(places)):
        pulses[index] = min(max(pulses[index], -MOST_PULSES), MOST_PULSES)
    _call_step(step, (places, pulses, state, parameters, nodes, low, high, reached))
    net = issued = net_state = issued_state = 0.0
    most, least = sums[4], sums[5]
    for index in range(len(places)):
        cell, n = places[index], pulses[index]
        many = abs(n)
        before, after = state[cell], reached[index]
        if is_noisy:
            change = abs(after - before)
            deviation = cycle_to_cycle + state_noise * before
            if many == 1.0:
                deviation += step_noise * change
            else:
                root = math.sqrt(many)
                deviation = root * deviation + step_noise * change / root
            after += normal[index] * deviation
        floor, ceiling = low[min(cell, last_low)], high[min(cell, last_high)]
        after = min(max(after, floor), ceiling)
        state[cell] = after
        pulse_count[cell] += np.int64(many)
        if len(offset) and ceiling > floor:
            offset[cell] = write_noise * fresh[index]
        if len(age):
            at_rest[cell] = after
            age[cell] = 0.0
        net += n
        issued += many
        net_state += n * after
        issued_state += many * after
        most, least = max(most, n), min(least, n)
    sums[0] += net
    sums[1] += issued
    sums[2] += net_state
    sums[3] += issued_state
    sums[4], sums[5] = most, least
