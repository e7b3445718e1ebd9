"""Low-rank training (LRT): the best or an unbiased rank-k sum, sample by sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from toolkit.checks import as_generator, check_flag
from toolkit.lowrank.compiled import recursions
from toolkit.lowrank.estimator import Blockwise, RankedEstimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.linalg import factored_svd

__all__ = ["LRT"]

Array = npt.NDArray[np.float64]


class LRT(Blockwise, RankedEstimator):
    r"""Running rank-k sum of a batch's outer products; nothing is carried to the next batch.

    Samples are merged b at a time: the SVD of :math:`U \mathrm{diag}(c) V^T + D_i^T A_i`, whose
    rank is at most k + b, comes from the QR of the stacked factors and a small SVD, and is reduced
    to rank k in one of two ways:

    - biased: keep the k largest singular triplets;
    - unbiased: keep the dominant triplets and mix the others with random signs, so that the
      expectation over the signs is the exact sum, with the smallest possible variance (Benzing et
      al. 2019). Each reduction from q to q - 1 mixes the values from the first i with
      :math:`(q-i)\,\sigma_i \le s = \sum_{j\ge i} \sigma_j`. With p = q - i and the unit vector
      :math:`x = \sqrt{1 - p \sigma / s}`, take the Householder reflection that maps x to an axis;
      its columns without that axis, times the signs, turn the q - i + 1 triplets into p triplets of
      value s / p.

    Parameters
    ----------
    rank : int
        Rank of the sum, k.
    block_size : int
        Samples merged at once, b. The paper uses 1; larger blocks have the same optimum, need fewer
        small SVDs and lose less.
    unbiased : bool
        LRT mixes instead of truncating.
    seed : int or torch.Generator
        Draws the signs.

    References
    ----------
    Gural, Nadeau, Tikekar, Murmann: Low-Rank Training of Deep Neural Networks for Emerging Memory
    Technology. arXiv:2009.03887, 2020. Benzing, Gauy, Mujika, Martinsson, Steger: Optimal
    Kronecker-Sum Approximation of Real Time Recurrent Learning. ICML 2019.

    Examples
    --------
    >>> update = LRT(rank=4, unbiased=True).update(torch.randn(64, 10), torch.randn(64, 20))
    >>> update.rank, update.shape
    (4, (10, 20))
    """

    name = "lrt"
    _state = (*RankedEstimator._state, "_generator")

    def __init__(
        self,
        *,
        rank: int = 1,
        block_size: int = 1,
        unbiased: bool = False,
        seed: int | torch.Generator = 0,
    ) -> None:
        super().__init__(rank=rank)
        self.block_size = block_size
        self.unbiased = check_flag("unbiased", unbiased)
        self._generator = as_generator(seed)

    def words(self, m: int, n: int) -> int:
        """Return k (m + n + 1), kept while a batch is summed."""
        return self.rank * (m + n + 1)

    def buffer_words(self, m: int, n: int, batch: int) -> int:
        """Return b (m + n) + 3 q^2: one block and the matrices of the small SVD, q = k + b."""
        block = min(self.block_size, batch)
        return block * (m + n) + 3 * (self.rank + block) ** 2

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return q (q + k) (m + n) + 10 q^3 per block, q = k + b."""
        block = min(self.block_size, batch)
        q = self.rank + block
        return -(-batch // block) * (q * (q + self.rank) * (m + n) + 10 * q**3)

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:  # noqa: ARG002
        m, n = errors.shape[1], activations.shape[1]
        self._check_rank(m, n)
        block = min(self.block_size, errors.shape[0])
        if recursions.on_arrays(errors, activations) and self.rank + block <= min(m, n):
            signs = self._all_signs(errors.shape[0], block) if self.unbiased else np.empty(0)
            done = recursions.lrt(errors, activations, rank=self.rank, block=block, signs=signs)
            if done is not None:
                return LowRank(done[0].T, done[1], done[2].T)
        left, sigma, right = errors.new_zeros(m, 0), errors.new_zeros(0), errors.new_zeros(n, 0)
        blocks = errors.split(self.block_size), activations.split(self.block_size)
        for d, a in zip(*blocks, strict=True):
            stacked = torch.cat([(left * sigma).T, d]), torch.cat([right.T, a])
            left, sigma, right = factored_svd(*stacked)
            if self.unbiased:
                rows, sigma = self._mixed(sigma)
                left, right = left @ rows, right @ rows
            else:
                k = self.rank
                left, sigma, right = left[:, :k], sigma[:k], right[:, :k]
        return LowRank(left, sigma, right)

    def _mixed(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (q, k) mixing matrix and the k new values, unbiased over signs."""
        q, k = len(sigma), min(len(sigma), self.rank)
        values, rows = sigma.double().cpu().numpy().copy(), np.eye(q)  # many steps on few numbers
        for step, signs in enumerate(self._signs(q)):
            recursions.one_fewer(rows, values, signs, q - step)
        return torch.tensor(rows[:, :k]).to(sigma), torch.tensor(values[:k]).to(sigma)

    def _signs(self, q: int) -> Array:
        """Draw the signs of the q - k reductions from q triplets to k, one row each."""
        size, place = (max(q - self.rank, 0), q), self._generator.device
        drawn = torch.randint(0, 2, size, generator=self._generator, device=place)
        return 2.0 * drawn.cpu().numpy() - 1.0

    def _all_signs(self, batch: int, block: int) -> Array:
        """Draw the signs of a whole batch."""
        drawn, held = [np.empty(0)], 0
        for start in range(0, batch, block):
            q = held + min(block, batch - start)
            drawn.append(self._signs(q).ravel())
            held = min(q, self.rank)
        return np.concatenate(drawn)
