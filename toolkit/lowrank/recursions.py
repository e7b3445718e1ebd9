"""Inner loops of the estimators, compiled for contiguous arrays on a CPU.

They do in one call what torch does in some tens, on one thread, so that results do not depend on
how many there are. What is seldom (a direction that died, a square that leaves the number range) is
left to the readable statement in torch, in the estimator's own file: the loops then say False.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from torch import Tensor

__all__ = ["on_arrays", "sbpca"]

# a row that keeps less than this share of its length (in eps) after projection may be dead
_DOUBTFUL = 64.0


def on_arrays(*tensors: Tensor) -> bool:
    """Whether the compiled loops take these tensors: on a CPU, row after row."""
    return all(each.device.type == "cpu" and each.is_contiguous() for each in tensors)


# sums may be taken in any order, products and sums be fused
_compiled: Any = njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")


@_compiled
def _inner(rows, samples, out):  # type: ignore[no-untyped-def]
    """``out = rows @ samples.T``."""
    for s in range(samples.shape[0]):
        sample = samples[s]
        for i in range(rows.shape[0]):
            row, total = rows[i], rows.dtype.type(0.0)
            for j in range(row.shape[0]):
                total += row[j] * sample[j]
            out[i, s] = total


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
def _orthonormalise(rows, doubtful):  # type: ignore[no-untyped-def]
    """Gram-Schmidt of the rows in place, each projected twice. False if one may have died."""
    for p in range(rows.shape[0]):
        row = rows[p]
        before = _length(row)
        for _ in range(2):
            for q in range(p):
                other, along = rows[q], rows.dtype.type(0.0)
                for j in range(row.shape[0]):
                    along += row[j] * other[j]
                for j in range(row.shape[0]):
                    row[j] -= along * other[j]
        after = _length(row)
        if not (after > doubtful * before and before < np.inf):
            return False
        scale = rows.dtype.type(1.0) / after
        for j in range(row.shape[0]):
            row[j] *= scale
    return True


@_compiled
def _length(row):  # type: ignore[no-untyped-def]
    total = row.dtype.type(0.0)
    for j in range(row.shape[0]):
        total += row[j] * row[j]
    return np.sqrt(total)


@_compiled
def _blocks(left, sigma, right, errors, activations, block, past, next_past, passes, doubtful):  # type: ignore[no-untyped-def]
    """The recursion of :class:`toolkit.lowrank.SBPCA` over a batch, in place."""
    real, k, batch = left.dtype.type, left.shape[0], errors.shape[0]
    from_errors, projected = np.empty((k, block), left.dtype), np.empty((k, block), left.dtype)
    scaled = np.empty((k, block), left.dtype)
    for _ in range(passes):
        seen = past
        for start in range(0, batch, block):
            d, a = errors[start : start + block], activations[start : start + block]
            count = d.shape[0]
            seen += count
            keep, weight = real(1.0 - count / seen), real(batch / seen)
            _inner(left, d, from_errors[:, :count])
            for i in range(k):
                sigma[i] *= keep
                right[i] *= sigma[i]
                for s in range(count):
                    scaled[i, s] = weight * from_errors[i, s]
            _add_outer(right, scaled, a)
            if not _orthonormalise(right, doubtful):
                return False
            for i in range(k):
                sign = np.copysign(real(1.0), sigma[i])
                right[i] *= sign
                left[i] *= sigma[i]
            _inner(right, a, projected[:, :count])
            for i in range(k):
                for s in range(count):
                    scaled[i, s] = weight * projected[i, s]
            _add_outer(left, scaled, d)
            if not _orthonormalise(left, doubtful):
                return False
            for i in range(k):
                left[i] *= np.copysign(real(1.0), sigma[i])
            _inner(left, d, from_errors[:, :count])
            for i in range(k):
                total = real(0.0)
                for s in range(count):
                    total += from_errors[i, s] * projected[i, s]
                sigma[i] += weight * total
        past = next_past
    return True


def sbpca(
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    errors: Tensor,
    activations: Tensor,
    *,
    block: int,
    past: float,
    next_past: float,
    passes: int,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Run SBPCA's recursion with the diagonal core over a batch.

    Parameters
    ----------
    left, sigma, right : Tensor, shapes (k, m), (k,) and (k, n)
        What is carried, vectors as rows. Not changed.
    errors, activations : Tensor, shapes (batch, m) and (batch, n)
        The batch, all tensors of one dtype.
    block : int
        Samples per block.
    past, next_past : float
        Samples that the past counts as in the first sweep and in later ones.
    passes : int
        How often the batch is read.

    Returns
    -------
    left, sigma, right : Tensor
        What the batch made of them; None if a direction may have died on the way.
    """
    carried = left.clone(), sigma.clone(), right.clone()
    arrays = (each.numpy() for each in (*carried, errors, activations))
    doubtful = _DOUBTFUL * np.finfo(str(left.dtype).removeprefix("torch.")).eps
    is_whole = _blocks(*arrays, block, float(past), float(next_past), passes, doubtful)
    return carried if is_whole else None
