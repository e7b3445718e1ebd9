"""Diagnostics of the gradient and its estimates, computed from factors.

No function here forms the (m, n) gradient. All take errors (batch, m) and activations (batch, n),
as estimators do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.checks import check_count, check_instance, check_tensor
from toolkit.lowrank.estimator import check_batch
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import thin_core

__all__ = [
    "captured_energy",
    "optimal_energy",
    "principal_angles",
    "relative_error",
    "singular_values",
    "stable_rank",
]


@torch.no_grad()
def singular_values(errors: Tensor, activations: Tensor, count: int | None = None) -> Tensor:
    """Return the leading singular values of ``errors.T @ activations``, largest first.

    Parameters
    ----------
    errors, activations : Tensor, shapes (batch, m) and (batch, n)
    count : int, optional
        Number of values, at most min(m, n); by default min(batch, m, n). Values beyond the batch's
        rank are zeros.

    Returns
    -------
    Tensor, shape (count,)

    Examples
    --------
    >>> errors, activations = torch.eye(2), torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> singular_values(errors, activations)
    tensor([3., 1.])
    """
    check_batch(errors, activations)
    _, core, _ = thin_core(errors, activations)
    values = torch.linalg.svdvals(core)
    if count is None:
        return values
    check_count("count", count, 1, min(errors.shape[1], activations.shape[1]))
    padded = values.new_zeros(max(count, values.shape[0]))
    padded[: values.shape[0]] = values
    return padded[:count]


@torch.no_grad()
def captured_energy(update: LowRank, errors: Tensor, activations: Tensor) -> float:
    """Return the fraction of the gradient's squared norm that an estimate captures.

    ``1 - ||G - Ghat||_F^2 / ||G||_F^2``: 1 for a perfect estimate, 0 for Ghat = 0, and negative
    for an estimate worse than that. For G = 0 it is 1 if Ghat = 0, else -inf.

    Examples
    --------
    >>> errors, activations = torch.eye(2), torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> update = TruncatedSVD(rank=1).update(errors, activations)
    >>> round(captured_energy(update, errors, activations), 3)  # 9 of 9 + 1
    0.9
    """
    check_batch(errors, activations)
    _check_shape(update, errors, activations)
    _, core, _ = thin_core(errors, activations)
    energy = float(core.square().sum())
    left = update.left * update.sigma
    inner = float(((errors @ left) * (activations @ update.right)).sum())
    own = float(((left.T @ left) * (update.right.T @ update.right)).sum())
    if energy == 0.0:
        return 1.0 if own == 0.0 else -float("inf")
    return (2.0 * inner - own) / energy


@torch.no_grad()
def optimal_energy(errors: Tensor, activations: Tensor, rank: int) -> float:
    """Return the largest captured energy of any matrix of this rank.

    ``sum_{p<=k} sigma_p^2 / sum_p sigma_p^2`` over the true singular values (Eckart and Young,
    1936); 1 for a zero gradient.
    """
    check_count("rank", rank)
    squares = singular_values(errors, activations).square()
    total = float(squares.sum())
    return float(squares[:rank].sum()) / total if total else 1.0


@torch.no_grad()
def stable_rank(errors: Tensor, activations: Tensor) -> float:
    """Return the stable rank of the gradient, a measure of how many directions matter.

    ``||G||_F^2 / ||G||_2^2 = sum_p sigma_p^2 / sigma_1^2``: between 1 and the rank of G; 0 for a
    zero gradient.
    """
    squares = singular_values(errors, activations).square()
    return float(squares.sum() / squares[0]) if squares[0] > 0 else 0.0


@torch.no_grad()
def relative_error(update: LowRank, errors: Tensor, activations: Tensor) -> float:
    """Return ``||G - Ghat||_F / ||G||_F``, the square root of the energy not captured.

    For G = 0 it is 0 if Ghat = 0, else inf. Unlike ``sqrt(1 - captured_energy)`` it stays accurate
    for nearly exact estimates, because the difference is computed on factors.
    """
    check_batch(errors, activations)
    _check_shape(update, errors, activations)
    left = torch.cat([errors, -(update.left * update.sigma).T])
    _, difference, _ = thin_core(left, torch.cat([activations, update.right.T]))
    lost = float(torch.linalg.vector_norm(difference))
    _, core, _ = thin_core(errors, activations)
    total = float(torch.linalg.vector_norm(core))
    if total == 0.0:
        return 0.0 if lost == 0.0 else float("inf")
    return lost / total


@torch.no_grad()
def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """Return the angles in radians between two column spaces, largest first.

    Parameters
    ----------
    first, second : Tensor, shapes (m, p) and (m, q)
        Columns need not be orthonormal, but must be linearly independent.

    Returns
    -------
    Tensor, shape (min(p, q),)
        Each in [0, pi/2].

    Notes
    -----
    Cosines are the singular values of ``Q1.T @ Q2``; angles below 45 degrees are computed from the
    sines, which are more accurate there (Knyazev and Argentati, SIAM J. Sci. Comput. 23, 2002).

    Examples
    --------
    >>> angles = principal_angles(torch.eye(3)[:, :1], torch.tensor([[1.0], [1.0], [0.0]]))
    >>> torch.rad2deg(angles).round()
    tensor([45.])
    """
    check_tensor("first", first)
    check_tensor("second", second, first.dtype)
    if first.ndim != 2 or second.ndim != 2 or first.shape[0] != second.shape[0]:
        raise ValueError(
            f"first and second must be (m, p) and (m, q); "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    wide, narrow = sorted((first, second), key=lambda t: t.shape[1], reverse=True)
    q1, q2 = torch.linalg.qr(wide)[0], torch.linalg.qr(narrow)[0]
    overlap = q1.T @ q2
    cosines = torch.linalg.svdvals(overlap).clamp(max=1.0).flip(0)
    sines = torch.linalg.svdvals(q2 - q1 @ overlap).clamp(max=1.0)
    return torch.where(cosines.square() > 0.5, torch.asin(sines), torch.acos(cosines))


def _check_shape(update: LowRank, errors: Tensor, activations: Tensor) -> None:
    check_instance("update", update, LowRank, "a LowRank")
    expected = errors.shape[1], activations.shape[1]
    if update.shape != expected:
        raise ValueError(f"update must have shape {expected}; got {update.shape}")
