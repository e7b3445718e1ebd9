"""Dense linear algebra on thin matrices that the estimators and the diagnostics share.

Nothing here knows about estimators, and nothing here is larger than its inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["orthonormal_columns", "random_matrix", "thin_core"]


def random_matrix(rows: int, columns: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return (rows, columns) standard-normal numbers with the dtype and device of ``like``.

    They are drawn in float64 on the generator's device, so that every dtype and device sees
    the same directions.
    """
    drawn = torch.randn(
        rows, columns, generator=generator, dtype=torch.float64, device=generator.device
    )
    return drawn.to(like)


def orthonormal_columns(matrix: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gram-Schmidt of the columns: Q and the signs of diag(R), with sign(0) = +1.

    ``Q * signs`` is the Q of the QR factorisation whose R has a non-negative diagonal; it varies
    continuously with the matrix. A column that lies in the span of the ones before it to working
    precision has no direction of its own: it is drawn afresh from the generator.

    Parameters
    ----------
    matrix : Tensor, shape (rows, k), rows >= k
        Columns to orthonormalise. Their lengths do not matter.
    generator : torch.Generator
        Source of the replacements.

    Returns
    -------
    q : Tensor, shape (rows, k)
        Orthonormal columns.
    signs : Tensor, shape (k,)
        +1 or -1.
    """
    q, r = torch.linalg.qr(matrix)
    diagonal = r.diagonal()
    lengths = torch.linalg.vector_norm(r, dim=0)
    dead = diagonal.abs() <= 4 * torch.finfo(r.dtype).eps * lengths
    if dead.any():
        rows, columns = matrix.shape
        fresh = random_matrix(rows, columns, like=matrix, generator=generator)
        q, r = torch.linalg.qr(torch.where(dead, fresh, matrix))
        diagonal = r.diagonal()
    return q, torch.copysign(torch.ones_like(diagonal), diagonal)


def thin_core(errors: Tensor, activations: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Reduce ``errors.T @ activations`` to a small core between orthonormal bases.

    ``errors.T @ activations = Q_left @ core @ Q_right.T`` with thin QR factors of ``errors.T``
    (m, batch) and ``activations.T`` (n, batch). Where a side is not taller than the batch its
    QR would not shrink anything; the basis is then None and stands for the identity.

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
