"""Dense linear algebra on thin matrices, shared by estimators and diagnostics.

No result is larger than its inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.checks import all_finite

__all__ = [
    "column_lengths",
    "factored_svd",
    "finite",
    "orthonormal_rows",
    "random_matrix",
    "thin_core",
]


def random_matrix(rows: int, columns: int, generator: torch.Generator, *, like: Tensor) -> Tensor:
    """Return (rows, columns) standard-normal numbers with the dtype and device of ``like``.

    They are drawn in float64 on the generator's device, so that they are the same for every dtype
    and device.
    """
    drawn = torch.randn(
        rows, columns, generator=generator, dtype=torch.float64, device=generator.device
    )
    return drawn.to(like)


def finite(product: Tensor) -> Tensor:
    """Return ``product`` of errors and activations; raise ValueError if it overflowed."""
    if not all_finite(product):
        raise ValueError(f"errors.T @ activations must not overflow {product.dtype}; it does")
    return product


def column_lengths(matrix: Tensor) -> Tensor:
    """Return the Euclidean lengths of the columns, (..., 1, k), also where squares overflow.

    Columns run along the second-last dimension.
    """
    largest = matrix.abs().amax(dim=-2, keepdim=True)
    scaled = matrix / torch.where(largest > 0, largest, 1.0)
    return largest * torch.linalg.vector_norm(scaled, dim=-2, keepdim=True)


def orthonormal_rows(matrix: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Orthonormalise rows by Gram-Schmidt: Q and the signs of diag(R), which are never 0.

    ``signs[:, None] * q`` is the transposed Q of the QR factorisation of ``matrix.T`` whose R has
    a non-negative diagonal; it varies continuously with the matrix. A row that lies in the span of
    the rows before it, to working precision, has no direction and is replaced by a random one.

    Parameters
    ----------
    matrix : Tensor, shape (k, columns), columns >= k
        Rows to orthonormalise. Their lengths do not matter.
    generator : torch.Generator
        Source of the replacements.

    Returns
    -------
    q : Tensor, shape (k, columns)
        Orthonormal rows.
    signs : Tensor, shape (k,)
        +1 or -1.
    """
    q, r = torch.linalg.qr(matrix.T)
    dead = _dead_columns(r)
    if any(dead):
        rows, columns = matrix.shape
        fresh = random_matrix(rows, columns, generator, like=matrix)
        mask = torch.tensor(dead, device=matrix.device)[:, None]
        q, r = torch.linalg.qr(torch.where(mask, fresh, matrix).T)
    return q.T, r.diagonal().sign()


def _dead_columns(r: Tensor) -> list[bool]:
    """Mark columns of a QR's R in the span of those before (R is small: plain floats)."""
    tolerance = 4 * torch.finfo(r.dtype).eps
    columns = zip(*r.tolist(), strict=True)
    return [abs(c[p]) <= tolerance * max(max(c), -min(c)) for p, c in enumerate(columns)]


def factored_svd(
    left: Tensor, right: Tensor, rank: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the singular value decomposition of ``left.T @ right`` from its factors.

    Parameters
    ----------
    left, right : Tensor, shapes (q, m) and (q, n)
    rank : int, optional
        Number of leading triplets to return; by default all min(q, m, n).

    Returns
    -------
    u, s, v : Tensor, shapes (m, k), (k,) and (n, k)
        ``left.T @ right = u @ diag(s) @ v.T`` up to the omitted triplets.

    Raises
    ------
    ValueError
        If the product overflows.
    """
    q_left, core, q_right = thin_core(left, right)
    u, s, vh = torch.linalg.svd(finite(core), full_matrices=False)
    u, s, v = u[:, :rank], s[:rank], vh[:rank].T
    return u if q_left is None else q_left @ u, s, v if q_right is None else q_right @ v


def thin_core(errors: Tensor, activations: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Reduce ``errors.T @ activations`` to a small core between orthonormal bases.

    ``errors.T @ activations = Q_left @ core @ Q_right.T`` with thin QR factors of ``errors.T``
    (m, batch) and ``activations.T`` (n, batch). If a side is not taller than the batch, a QR would
    not shrink it; its basis is then None, which stands for the identity.

    Returns
    -------
    q_left : Tensor, shape (m, batch), or None
    core : Tensor, shape (min(m, batch), min(n, batch))
    q_right : Tensor, shape (n, batch), or None
    """
    q_left, left = _reduced(errors.T)
    q_right, right = _reduced(activations.T)
    return q_left, left @ right.T, q_right


def _reduced(matrix: Tensor) -> tuple[Tensor | None, Tensor]:
    if matrix.shape[0] <= matrix.shape[1]:
        return None, matrix
    q, r = torch.linalg.qr(matrix)
    return q, r
