"""Inner loops of the estimators, compiled for contiguous arrays on a CPU.

They do in one call what torch does in some tens, on one thread, so that results do not depend on
how many there are. What is rare (a direction that died, a square that leaves the number range) is
left to the readable statement in torch, in the estimator's own file: the loops then return False.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

__all__ = ["feedback", "lrt", "on_arrays", "one_fewer", "sbe", "sbpca"]

# a row that keeps less than this share of its length (in eps) after projection may be dead
_DOUBTFUL = 64.0
# and one that keeps less than this has no direction of its own
_DEAD = 4.0


def on_arrays(*tensors: Tensor) -> bool:
    """Whether the compiled loops take these tensors: on a CPU, row after row."""
    return all(each.is_cpu and each.is_contiguous() for each in tensors)


# sums may be taken in any order, products and sums be fused
_compiled: Any = njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")


@_compiled
def _dot(one, other):  # type: ignore[no-untyped-def]
    total = one.dtype.type(0.0)
    for j in range(one.shape[0]):
        total += one[j] * other[j]
    return total


@_compiled
def _scale(row, factor):  # type: ignore[no-untyped-def]
    for j in range(row.shape[0]):
        row[j] *= factor


@_compiled
def _copy(row, other):  # type: ignore[no-untyped-def]
    for j in range(row.shape[0]):
        row[j] = other[j]


@_compiled
def _inner(rows, samples, out):  # type: ignore[no-untyped-def]
    """``out = rows @ samples.T``."""
    for s in range(samples.shape[0]):
        for i in range(rows.shape[0]):
            out[i, s] = _dot(rows[i], samples[s])


@_compiled
def _add_outer(out, factors, samples):  # type: ignore[no-untyped-def]
    """``out += factors @ samples``, four samples at a time."""
    whole = samples.shape[0] // 4 * 4
    for s in range(0, whole, 4):
        a, b, c, d = samples[s], samples[s + 1], samples[s + 2], samples[s + 3]
        for i in range(out.shape[0]):
            row = out[i]
            f, g, h, e = factors[i, s], factors[i, s + 1], factors[i, s + 2], factors[i, s + 3]
            for j in range(row.shape[0]):
                row[j] += f * a[j] + g * b[j] + h * c[j] + e * d[j]
    for s in range(whole, samples.shape[0]):
        a = samples[s]
        for i in range(out.shape[0]):
            row, f = out[i], factors[i, s]
            for j in range(row.shape[0]):
                row[j] += f * a[j]


@_compiled
def _project(rows, p, along):  # type: ignore[no-untyped-def]
    """Take the rows before it out of row p, twice; ``along`` is how much of each it had."""
    row = rows[p]
    for turn in range(2):
        for q in range(p):
            part, other = _dot(row, rows[q]), rows[q]
            along[q] = part + along[q] if turn else part
            for j in range(row.shape[0]):
                row[j] -= part * other[j]


@_compiled
def _orthonormalise(rows, doubtful):  # type: ignore[no-untyped-def]
    """Gram-Schmidt of the rows in place, each projected twice. False if one may have died."""
    along = np.empty(rows.shape[0], rows.dtype)
    for p in range(rows.shape[0]):
        row = rows[p]
        before = np.sqrt(_dot(row, row))
        _project(rows, p, along)
        after = np.sqrt(_dot(row, row))
        if not (after > doubtful * before and before < np.inf):
            return False
        _scale(row, rows.dtype.type(1.0) / after)
    return True


@_compiled
def _wide_length(row):  # type: ignore[no-untyped-def]
    """In float64, where squares of float32 stay in the number range."""
    total = 0.0
    for j in range(row.shape[0]):
        total += np.float64(row[j]) * np.float64(row[j])
    return np.sqrt(total)


@_compiled
def _factorise(rows, core, dead, least):  # type: ignore[no-untyped-def]
    """Split rows into ``core @ orthonormal rows``, in place; core is lower triangular.

    A row without a direction of its own gets a new one and 0 in the core. False if a length is out
    of the number range.
    """
    core[:, :] = 0.0
    for p in range(rows.shape[0]):
        row = rows[p]
        before = _wide_length(row)
        if not rows.dtype.type(before) < np.inf or 0.0 < before < least:
            return False
        _project(rows, p, core[p])
        after = _wide_length(row)
        if after > dead * before:
            core[p, p] = after
            _scale(row, rows.dtype.type(1.0 / after))
        else:
            _find_direction(rows, p)
    return True


@_compiled
def _find_direction(rows, p):  # type: ignore[no-untyped-def]
    """Make row p a unit vector orthogonal to those before: of the axis that they hold least of."""
    axis, least = 0, np.inf
    for j in range(rows.shape[1]):
        held = 0.0
        for q in range(p):
            held += rows[q, j] * rows[q, j]
        if held < least:
            axis, least = j, held
    _scale(rows[p], rows.dtype.type(0.0))
    rows[p, axis] = 1.0
    _project(rows, p, np.empty(p, rows.dtype))
    _scale(rows[p], rows.dtype.type(1.0 / _wide_length(rows[p])))


@_compiled
def _blocks(left, sigma, right, errors, activations, block, past, next_past, passes, doubtful):  # type: ignore[no-untyped-def]
    """The recursion of :class:`toolkit.lowrank.SBPCA` over a batch, in place."""
    real, k, batch = left.dtype.type, left.shape[0], errors.shape[0]
    along, added = np.empty((k, block), left.dtype), np.empty_like(left)
    for _ in range(passes):
        seen = past
        for start in range(0, batch, block):
            d, a = errors[start : start + block], activations[start : start + block]
            count = d.shape[0]
            seen += count
            keep, weight = real(1.0 - count / seen), real(batch / seen)
            _inner(left, d, along[:, :count])
            for i in range(k):
                sigma[i] *= keep
                _scale(right[i], sigma[i])
                _scale(along[i, :count], weight)
            _add_outer(right, along, a)
            if not _orthonormalise(right, doubtful):
                return False
            for i in range(k):
                _scale(right[i], np.copysign(real(1.0), sigma[i]))
            _inner(right, a, along[:, :count])
            for i in range(k):
                _scale(along[i, :count], weight)
            added[:, :] = 0.0
            _add_outer(added, along, d)
            for i in range(k):
                for j in range(left.shape[1]):
                    left[i, j] = sigma[i] * left[i, j] + added[i, j]
            if not _orthonormalise(left, doubtful):
                return False
            for i in range(k):
                _scale(left[i], np.copysign(real(1.0), sigma[i]))
                sigma[i] += _dot(left[i], added[i])
        past = next_past
    return True


@_compiled
def _multiply(small, rows, out):  # type: ignore[no-untyped-def]
    """``out = small @ rows``."""
    for i in range(small.shape[0]):
        out[i, :] = 0.0
        for p in range(small.shape[1]):
            factor, row = small[i, p], rows[p]
            for j in range(rows.shape[1]):
                out[i, j] += factor * row[j]


@_compiled
def _full_blocks(  # type: ignore[no-untyped-def]
    left, core, right, errors, activations, block, past, next_past, passes, doubtful
):
    """The recursion with the full core over a batch, in place."""
    real, k, batch = left.dtype.type, left.shape[0], errors.shape[0]
    along, added = np.empty((k, block), left.dtype), np.empty_like(left)
    new_left, new_right = np.empty_like(left), np.empty_like(right)
    turned, turn = np.empty_like(core), np.empty_like(core)
    for _ in range(passes):
        seen = past
        for start in range(0, batch, block):
            d, a = errors[start : start + block], activations[start : start + block]
            count = d.shape[0]
            seen += count
            core *= real(1.0 - count / seen)
            weight = real(batch / seen)
            _inner(left, d, along[:, :count])
            along[:, :count] *= weight
            _multiply(core, right, new_right)
            _add_outer(new_right, along, a)
            if not _orthonormalise(new_right, doubtful):
                return False
            _inner(right, new_right, turn)
            _multiply(core, turn, turned)
            _inner(new_right, a, along[:, :count])
            along[:, :count] *= weight
            added[:, :] = 0.0
            _add_outer(added, along, d)
            _multiply(turned.T, left, new_left)
            new_left += added
            if not _orthonormalise(new_left, doubtful):
                return False
            _inner(new_left, left, turn)
            _multiply(turn, turned, core)
            _inner(new_left, added, turn)
            core += turn
            left[:, :], right[:, :] = new_left, new_right
        past = next_past
    return True


def sbpca(
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    errors: Tensor,
    activations: Tensor,
    block: int,
    pasts: tuple[float, float],
    passes: int,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Run SBPCA's recursion over a batch.

    Parameters
    ----------
    left, sigma, right : Tensor, shapes (k, m), (k,) or (k, k), and (k, n)
        What is carried, vectors as rows; sigma is the diagonal core or the full one. Not changed.
    errors, activations : Tensor, shapes (batch, m) and (batch, n)
        The batch, all tensors of one dtype.
    block : int
        Samples per block.
    pasts : tuple of float
        Samples that the past counts as in the first pass and in later ones.
    passes : int
        How often the batch is read.

    Returns
    -------
    left, sigma, right : Tensor
        What the batch made of them; None if a direction may have died on the way.
    """
    carried = left.clone(), sigma.clone(), right.clone()
    arrays = (each.numpy() for each in (*carried, errors, activations))
    doubtful = doubtful_share(left.dtype)
    run = _blocks if sigma.ndim == 1 else _full_blocks
    is_whole = run(*arrays, block, *map(float, pasts), passes, doubtful)
    return carried if is_whole else None


def doubtful_share(dtype: torch.dtype) -> float:
    """Share of its length after projection from which on a row is sure to have a direction."""
    return _DOUBTFUL * torch.finfo(dtype).eps


@_compiled
def _samples(left, sigma, right, lengths, errors, activations, past):  # type: ignore[no-untyped-def]
    """The recursion of :class:`toolkit.lowrank.SBE` over a batch, in place."""
    batch = errors.shape[0]
    for s in range(batch):
        d, a, w = errors[s], activations[s], 1.0 / (past + 1 + s)
        lengths[1] = _blend(right, lengths[1], a, w, batch * _dot(d, left))
        along = _dot(a, right)
        lengths[0] = _blend(left, lengths[0], d, w, batch * along)
        sigma[0] += w * (batch * _dot(d, left) * along - sigma[0])
    return np.isfinite(lengths).all()


@_compiled
def _blend(unit, length, sample, w, gain):  # type: ignore[no-untyped-def]
    """Make ``unit`` the direction of (1 - w) length unit + w gain sample, and return its length."""
    old, new = unit.dtype.type((1.0 - w) * length), unit.dtype.type(w * gain)
    total = 0.0
    for j in range(unit.shape[0]):
        entry = np.float64(old * unit[j] + new * sample[j])
        total += entry * entry
    total = np.sqrt(total)
    if total > 0.0:
        old, new = unit.dtype.type(old / total), unit.dtype.type(new / total)
        for j in range(unit.shape[0]):
            unit[j] = old * unit[j] + new * sample[j]
    return total


def sbe(
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    lengths: Tensor,
    errors: Tensor,
    activations: Tensor,
    *,
    past: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Run SBE's recursion over a batch.

    Parameters
    ----------
    left, sigma, right : Tensor, shapes (m,), (1,) and (n,)
        What is carried: unit vectors and their product's weight. Not changed.
    lengths : Tensor, shape (2,), float64
        Of the two vectors before they were normalised.
    errors, activations : Tensor, shapes (batch, m) and (batch, n)
        The batch, in the dtype of the vectors.
    past : int
        Samples that the past counts as.

    Returns
    -------
    left, sigma, right, lengths : Tensor
        What the batch made of them; None if a length leaves the number range.
    """
    carried = left.clone(), sigma.clone(), right.clone(), lengths.clone()
    arrays = (each.numpy() for each in (*carried, errors, activations))
    return carried if _samples(*arrays, past) else None


@_compiled
def one_fewer(rows, values, signs, count):  # type: ignore[no-untyped-def]
    """Mix the smallest of the first ``count`` values, of rows' columns, so that one fewer remain.

    In place and in float64; columns and values beyond them are left over.
    """
    first, total = count - 1, values[count - 1]
    while first > 0 and (count - first) * values[first - 1] <= total + values[first - 1]:
        first -= 1
        total += values[first]
    p = count - 1 - first
    if total == 0.0:
        return
    x, length = np.empty(p + 1), 0.0
    for j in range(p + 1):
        x[j] = np.sqrt(max(1.0 - p * values[first + j] / total, 0.0))
        length += x[j] * x[j]
    for j in range(p + 1):
        x[j] /= np.sqrt(length)
    x[p] += 1.0  # x >= 0: reflecting it to minus the last axis cancels nothing
    for i in range(rows.shape[0]):
        along = 0.0
        for j in range(p + 1):
            rows[i, first + j] *= signs[first + j]
            along += rows[i, first + j] * x[j]
        for j in range(p):
            rows[i, first + j] -= along * x[j] / x[p]  # x @ x is 2 x[p]
    for j in range(p):
        values[first + j] = total / p


@_compiled
def _split(left, right, dead, least):  # type: ignore[no-untyped-def]
    """Singular values of ``left.T @ right`` and, in place of the factors, their vectors as rows.

    False if a length is out of the number range.
    """
    q = left.shape[0]
    one, other = np.empty((q, q), left.dtype), np.empty((q, q), left.dtype)
    if not (_factorise(left, one, dead, least) and _factorise(right, other, dead, least)):
        return False, one[0]
    core = np.zeros((q, q), left.dtype)
    for i in range(q):
        for j in range(q):
            for k in range(q):
                core[i, j] += one[k, i] * other[k, j]
            if not np.isfinite(core[i, j]):
                return False, core[0]
    u, values, vh = np.linalg.svd(core)
    _turn(left, u.T)
    _turn(right, vh)
    return np.isfinite(values[0]), values


@_compiled
def _turn(rows, factors):  # type: ignore[no-untyped-def]
    """``rows = factors @ rows``, in place; there may be fewer factors than rows."""
    turned = np.zeros((factors.shape[0], rows.shape[1]), rows.dtype)
    _add_outer(turned, factors, rows)
    for p in range(turned.shape[0]):
        _copy(rows[p], turned[p])


@_compiled
def _sums(errors, activations, left, sigma, right, block, signs, dead, least):  # type: ignore[no-untyped-def]
    """The running sum of :class:`toolkit.lowrank.LRT`; with signs, the unbiased one."""
    rank, held, used = sigma.shape[0], 0, 0
    for start in range(0, errors.shape[0], block):
        count = min(block, errors.shape[0] - start)
        q = held + count
        for i in range(held):
            _scale(left[i], sigma[i])
        for s in range(count):
            _copy(left[held + s], errors[start + s])
            _copy(right[held + s], activations[start + s])
        is_whole, values = _split(left[:q], right[:q], dead, least)
        if not is_whole:
            return False
        held = min(q, rank)
        if signs.shape[0] and q > rank:
            mixing, kept = np.zeros((q, q)), np.empty(q)
            for i in range(q):
                mixing[i, i], kept[i] = 1.0, values[i]
            for step in range(q - held):
                one_fewer(mixing, kept, signs[used:], q - step)
                used += q
            columns = np.empty((held, q), left.dtype)
            for p in range(held):
                sigma[p] = kept[p]
                for i in range(q):
                    columns[p, i] = mixing[i, p]
            _turn(left[:q], columns)
            _turn(right[:q], columns)
        else:
            _copy(sigma[:held], values)
    return True


def lrt(
    errors: Tensor, activations: Tensor, *, rank: int, block: int, signs: np.ndarray
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Sum a batch's outer products at rank k, as LRT does.

    Parameters
    ----------
    errors, activations : Tensor, shapes (batch, m) and (batch, n)
    rank, block : int
        k and the samples merged at a time; together at most min(m, n).
    signs : ndarray
        One after another for each reduction that mixes, in float64; empty: the best sum.

    Returns
    -------
    left, sigma, right : Tensor, shapes (k, m), (k,) and (k, n)
        Vectors as rows; None if a length leaves the number range.
    """
    left = errors.new_zeros(rank + block, errors.shape[1])
    right = errors.new_zeros(rank + block, activations.shape[1])
    sigma = errors.new_zeros(rank)
    arrays = (each.numpy() for each in (errors, activations, left, sigma, right))
    is_whole = _sums(*arrays, block, signs, *_limits(errors))
    return (left[:rank], sigma, right[:rank]) if is_whole else None


@_compiled
def _merge(left, sigma, right, errors, activations, start, dead, least):  # type: ignore[no-untyped-def]
    """One subspace iteration of :class:`toolkit.lowrank.FeedbackPCA`, from rows ``start``."""
    q = start.shape[0]
    core, new, basis = np.empty((q, q), left.dtype), np.zeros((q, left.shape[1]), left.dtype), start
    if not _factorise(start, core, dead, least):
        return False, new, sigma, basis
    _push(start, right, sigma, left, activations, errors, new)
    if not _factorise(new, core, dead, least):
        return False, new, sigma, basis
    for p in range(q):
        _scale(basis[p], left.dtype.type(0.0))
    _push(new, left, sigma, right, errors, activations, basis)
    if not _factorise(basis, core, dead, least):
        return False, new, sigma, basis
    u, values, vh = np.linalg.svd(core)
    _turn(new, u.T)
    _turn(basis, vh)
    return np.isfinite(values[0]), new, values, basis


@_compiled
def _push(rows, inner, sigma, outer, inner_samples, outer_samples, out):  # type: ignore[no-untyped-def]
    """``out += rows @ (inner.T diag(sigma) outer + inner_samples.T outer_samples)``."""
    along = np.empty((rows.shape[0], inner.shape[0]), rows.dtype)
    _inner(rows, inner, along)
    for p in range(rows.shape[0]):
        for i in range(inner.shape[0]):
            along[p, i] *= sigma[i]
    _add_outer(out, along, outer)
    factors = np.empty((rows.shape[0], inner_samples.shape[0]), rows.dtype)
    _inner(rows, inner_samples, factors)
    _add_outer(out, factors, outer_samples)


def feedback(
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    errors: Tensor,
    activations: Tensor,
    start: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Merge a block into FeedbackPCA's memory.

    Parameters
    ----------
    left, sigma, right : Tensor, shapes (r, m), (r,) and (r, n)
        The memory, vectors as rows. Not changed.
    errors, activations : Tensor, shapes (b, m) and (b, n)
        The block.
    start : Tensor, shape (q, n)
        Right vectors from which the iteration starts. Overwritten.

    Returns
    -------
    left, sigma, right : Tensor, shapes (q, m), (q,) and (q, n)
        The memory with the block; None if a length leaves the number range.
    """
    arrays = (each.numpy() for each in (left, sigma, right, errors, activations, start))
    is_whole, *found = _merge(*arrays, *_limits(errors))
    left, sigma, right = map(torch.from_numpy, found)
    return (left, sigma, right) if is_whole else None


def _limits(like: Tensor) -> tuple[float, float]:
    """The share of its length that a row must keep, and a length whose inverse and square exist."""
    return _DEAD * torch.finfo(like.dtype).eps, 1e-30 if like.dtype == torch.float32 else 1e-138
