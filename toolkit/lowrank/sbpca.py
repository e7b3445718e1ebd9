"""Streaming batch PCA, the estimator that gives this toolkit its name.

Its rank-1 predecessor and related estimators have their own files.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from toolkit.checks import check_choice, check_count, check_real
from toolkit.lowrank.compiled import recursions
from toolkit.lowrank.estimator import Blockwise, Range, Streamed, SubspaceEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import finite

__all__ = ["CORES", "SBPCA"]

# Orthonormalises rows: Q and the signs of diag(R), as ``linalg.orthonormal_rows``.
Rows = Callable[[Tensor], tuple[Tensor, Tensor]]
Carried = tuple[Tensor, Tensor, Tensor]  # left, sigma or the full core, right
Activations = Tensor | Streamed

CORES = ("diagonal", "full")
_HISTORY = {"unit": "blocks", "stops": (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)}


class SBPCA(Blockwise, SubspaceEstimator):
    r"""Streaming batch principal component analysis of the gradient (SBPCA).

    Left vectors :math:`\Delta` (m, k), right vectors X (n, k) and singular values sigma (k,) are
    carried from batch to batch. A batch is read in blocks of b samples. With
    :math:`G_i = (B/b) D_i^T A_i`, the estimate of the whole batch's gradient from block i alone,
    and :math:`w_i = 1/(i+2)`,

    .. math::
        X      &\leftarrow \mathrm{qr}[(1-w_i) X + w_i G_i^T \Delta\, \mathrm{diag}(\sigma)^{-1}]\\
        \Delta &\leftarrow \mathrm{qr}[(1-w_i) \Delta + w_i G_i X\, \mathrm{diag}(\sigma)^{-1}]\\
        \sigma &\leftarrow (1-w_i)\sigma + w_i\,\mathrm{diag}(\Delta^T G_i X)

    The whole past thus counts as one block. G is never formed, only products of a block with k
    vectors. qr takes the Q whose R has a positive diagonal.

    Parameters
    ----------
    rank : int
        Number of directions, k. Raising it later adds random directions with sigma 0; lowering it
        keeps the directions with the largest \|sigma\|.
    block_size : int
        Samples per block, b.
    passes : int
        How often SBPCA reads each batch; each pass treats everything before it as the past.
    history : float
        How many blocks SBPCA's past counts as. 1 is the paper's value; 0 keeps only the directions,
        as a warm start.
    core : {"diagonal", "full"}
        What SBPCA keeps of its past: the k singular values, or all k x k products. "diagonal" is
        the paper's recursion above. "full" carries the k x k matrix
        :math:`S = \Delta^T \hat G X` through a batch instead of diag(sigma), so that the past
        :math:`\Delta S X^T` is not blurred as the directions turn, and diagonalises it by a small
        SVD at the end of the batch. "full" is not in the paper. With a history of some blocks it
        loses less in convolutional networks (docs/estimators.md).
    seed : int or torch.Generator
        Draws the first directions and replaces directions that vanish.

    Notes
    -----
    Where the published recursion leaves a choice open or fails, this implementation does this:

    - sigma is in the scale of ``errors.T @ activations`` (hence B/b, not 1/b, above), so the
      estimate does not jump when the batch size changes.
    - The last block can be shorter. Each block weighs as many samples as it has,
      :math:`w_i = b_i / (h b + b_0 + \dots + b_i)` with history h, which is 1/(i+2) for full
      blocks and h = 1. A batch smaller than b is one block, and the past counts as much as it.
    - The first batch has no past: its past counts as 0, not as one block of sigma = 1.
    - The columns are multiplied by sigma instead of the residual being divided by it. qr ignores
      the lengths of columns, so the result is the same, and sigma = 0 is harmless.
    - With contiguous arrays, the recursion runs as a compiled loop on a CPU and, with the diagonal
      core, as one kernel on a CUDA GPU, both equal to the one here up to rounding.
    - A batch without gradient only shrinks sigma. sign(0) is +1 in qr, and a column that lost its
      direction is redrawn.

    References
    ----------
    Huang, Hoskins, Daniels, Stiles, Adam: Low-Rank Gradient Descent for Memory-Efficient Training
    of Deep In-Memory Arrays. ACM J. Emerg. Technol. Comput. Syst. 19(2), 2023,
    doi:10.1145/3577214.

    Examples
    --------
    >>> errors, activations = torch.randn(64, 10), torch.randn(64, 20)
    >>> estimator = SBPCA(rank=2, block_size=16)
    >>> update = estimator.update(errors, activations)
    >>> update.rank, update.shape
    (2, (10, 20))
    >>> estimator.words(10, 20)  # kept between batches; the gradient has 200
    62
    """

    name = "sbpca"
    reads_in_blocks = True

    def __init__(
        self,
        *,
        rank: int = 1,
        block_size: int = 32,
        passes: Annotated[int, Range(1, 100, {"stops": (1, 2, 3, 4, 8)})] = 1,
        history: Annotated[float, Range(0.0, 1000.0, _HISTORY)] = 1.0,
        core: Literal["diagonal", "full"] = "diagonal",
        seed: int | torch.Generator = 0,
    ) -> None:
        super().__init__(rank=rank, seed=seed)
        self.block_size = block_size
        self.passes = check_count("passes", passes)
        self.history = check_real("history", history, 0.0)
        self.core = check_choice("core", core, CORES)

    def words(self, m: int, n: int) -> int:
        """Return the numbers kept between batches: k (m + n) + k."""
        return self.rank * (m + n + 1)

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return the other numbers held within a batch: one block, and k^2 for the full core."""
        core = self.rank**2 if self.core == "full" else 0
        return min(self.block_size, batch) * (m + n) + core

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return k (3 m + 2 n) per sample and k^2 (m + n) per block for Gram-Schmidt.

        The full core adds 3 k^2 (m + n) per block to turn the past, and k^2 per sample.
        """
        k, blocks = self.rank, -(-batch // self.block_size)
        count = batch * k * (3 * m + 2 * n) + blocks * k * k * (m + n)
        if self.core == "full":
            count += batch * k * k + blocks * 3 * k * k * (m + n)
        return self.passes * count

    def _estimate(self, errors: Tensor, activations: Activations, nonzero: bool) -> LowRank:
        batch = errors.shape[0]
        block = min(self.block_size, batch)
        past = 0.0 if self._fresh else self.history * block
        left, sigma, right = self._directions(errors, activations)
        if not nonzero:
            return self._keep(left, sigma * (past / (past + batch)), right)
        is_full = self.core == "full"
        carried = left, torch.diag(sigma) if is_full else sigma, right
        signals, pasts = (errors, activations), (past, self.history * block)
        done = self._compiled(carried, signals, pasts)
        done = done or self._recursion(carried, signals, pasts, self._rows)
        return self._keep(*(_diagonalised(*done) if is_full else done))

    def _compiled(
        self, carried: Carried, signals: tuple[Tensor, Activations], pasts: tuple[float, float]
    ) -> Carried | None:
        """The recursion without torch's calls, or without waits; None: it is for the statement."""
        left, _, right = carried
        errors, activations = signals
        block, streamed = min(self.block_size, len(errors)), isinstance(activations, Streamed)
        given: Any = (*carried, errors, activations, block, pasts, self.passes)
        if not streamed and recursions.on_arrays(left, right, *given[3:5]):
            return recursions.sbpca(*given)
        if not (errors.is_cuda and find_spec("triton")):
            return None
        from toolkit.lowrank.compiled import gpu

        if self.core == "diagonal" and not streamed and gpu.fits(left, right, *given[3:5]):
            return gpu.sbpca(*given)
        if not gpu.holds(left, right):
            return None
        rows = gpu.UnitRows(left)
        done = self._recursion(carried, signals, pasts, rows)
        return done if rows.are_whole else None

    def _recursion(
        self,
        carried: Carried,
        signals: tuple[Tensor, Activations],
        pasts: tuple[float, float],
        rows: Rows,
    ) -> Carried:
        """The statement of the class, with ``rows`` to orthonormalise."""
        (left, core, right), (errors, activations) = carried, signals
        batch, block = len(errors), min(self.block_size, len(errors))
        step = _full_step if self.core == "full" else _diagonal_step
        for turn in range(self.passes):
            seen = pasts[turn > 0]
            for start in range(0, batch, block):
                d, a = errors[start : start + block], activations[start : start + block]
                seen += len(d)
                keep = 1 - len(d) / seen
                left, core, right = step(left, core, right, d, a, keep, batch / seen, rows)
        return left, core, right


def _diagonal_step(
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    d: Tensor,
    a: Tensor,
    keep: float,
    w: float,
    rows: Rows,
) -> tuple[Tensor, Tensor, Tensor]:
    """One block of the published recursion; w includes the factor B/b. Vectors are rows."""
    past, d_columns = keep * sigma, d.T
    weight = past[:, None]
    right = _orthonormal(torch.addmm(weight * right, left @ d_columns, a, alpha=w), sigma, rows)
    projected = right @ a.T
    left = _orthonormal(torch.addmm(weight * left, projected, d, alpha=w), sigma, rows)
    new = torch.linalg.vecdot(left @ d_columns, projected)
    return left, torch.add(past, new, alpha=w), right


def _full_step(
    left: Tensor,
    core: Tensor,
    right: Tensor,
    d: Tensor,
    a: Tensor,
    keep: float,
    w: float,
    rows: Rows,
) -> tuple[Tensor, Tensor, Tensor]:
    """One block that keeps the whole past, left.T @ core @ right. Vectors are rows."""
    past = keep * core
    new_right, _ = rows(torch.addmm(past @ right, left @ d.T, a, alpha=w))
    projected = new_right @ a.T
    turned = past @ (right @ new_right.T)
    new_left, _ = rows(torch.addmm(turned.T @ left, projected, d, alpha=w))
    core = torch.addmm((new_left @ left.T) @ turned, new_left @ d.T, projected.T, alpha=w)
    return new_left, core, new_right


def _orthonormal(matrix: Tensor, sigma: Tensor, rows: Rows) -> Tensor:
    q, signs = rows(matrix)
    return (q.T * torch.copysign(signs, signs * sigma)).T


def _diagonalised(left: Tensor, core: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, sigma, vh = torch.linalg.svd(finite(core))
    return u.T @ left, sigma, vh @ right
