"""Streaming batch eigenupdates, the rank-1 predecessor of SBPCA."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.lowrank.compiled import recursions
from toolkit.lowrank.estimator import SubspaceEstimator
from toolkit.lowrank.factors import LowRank

__all__ = ["SBE"]


class SBE(SubspaceEstimator):
    r"""Streaming batch eigenupdate (SBE): one direction, updated sample by sample.

    X (n,) and :math:`\Delta` (m,) are not normalised in place; their lengths carry the scale. For
    samples j = 1 .. B with :math:`G_j = B\,d_j a_j^T` and :math:`w = 1/(j+1)`,

    .. math::
        X      &\leftarrow (1-w) X + w\, G_j^T \Delta / |\Delta| \\
        \Delta &\leftarrow (1-w) \Delta + w\, G_j X / |X| \\
        \sigma &\leftarrow (1-w) \sigma + w\, \Delta^T G_j X / (|\Delta| |X|)

    and the estimate is :math:`\sigma (\Delta/|\Delta|) (X/|X|)^T`. The paper writes
    :math:`s^2` for sigma. As in SBPCA, sigma is in the scale of ``errors.T @ activations``, the
    first batch has no past (w = 1/j there), and samples without gradient only change lengths.

    Parameters
    ----------
    seed : int or torch.Generator
        Draws the first direction.

    References
    ----------
    Hoskins, Daniels, Huang, Madhavan, Adam, Zhitenev, McClelland, Stiles: Streaming Batch
    Eigenupdates for Hardware Neural Networks. Front. Neurosci. 13:793, 2019,
    doi:10.3389/fnins.2019.00793.

    Examples
    --------
    >>> update = SBE().update(torch.randn(64, 10), torch.randn(64, 20))
    >>> update.rank, update.shape
    (1, (10, 20))
    """

    name = "sbe"
    _state = (*SubspaceEstimator._state, "_lengths")

    def __init__(self, *, seed: int | torch.Generator = 0) -> None:
        super().__init__(rank=1, seed=seed)
        self._lengths: tuple[float, float] = (0.0, 0.0)  # |Delta| and |X|

    @property
    def rank(self) -> int:
        """1: SBE has a single direction."""
        return 1

    @rank.setter
    def rank(self, rank: int) -> None:
        if rank != 1:
            raise ValueError(f"rank must be 1 for SBE; got {rank!r}")

    def words(self, m: int, n: int) -> int:
        """Return the numbers kept between batches: m + n + 1."""
        return m + n + 1

    def buffer_words(self, m: int, n: int, batch: int) -> int:  # noqa: ARG002
        """Return m + n, one sample."""
        return m + n

    def macs(self, m: int, n: int, batch: int) -> int:
        """Return 5 m + 4 n per sample: three inner products, two updates, two lengths."""
        return batch * (5 * m + 4 * n)

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:
        batch, past = errors.shape[0], 0 if self._fresh else 1
        left, sigma, right = (t[0] for t in self._directions(errors, activations))
        lengths = torch.tensor(self._lengths, dtype=torch.float64, device=errors.device)
        if not nonzero:
            forget = past / (past + batch)
            return self._finish(left, forget * sigma, right, forget * lengths)
        if recursions.on_arrays(errors, activations):
            vectors = left, sigma.reshape(1), right
            done = recursions.sbe(*vectors, lengths, errors, activations, past=past)
            if done is not None:
                return self._finish(*done)
        left_length, right_length = lengths
        for j, (d, a) in enumerate(zip(batch * errors, activations, strict=True), start=past + 1):
            w = 1 / j
            right, right_length = _blend(right, right_length, a, w, d @ left)
            along = a @ right
            left, left_length = _blend(left, left_length, d, w, along)
            sigma = torch.lerp(sigma, (d @ left) * along, w)
        return self._finish(left, sigma, right, torch.stack([left_length, right_length]))

    def _finish(self, left: Tensor, sigma: Tensor, right: Tensor, lengths: Tensor) -> LowRank:
        update = self._keep(left[None], sigma.reshape(1), right[None])
        self._lengths = (float(lengths[0]), float(lengths[1]))
        return update


def _blend(
    unit: Tensor, length: Tensor, sample: Tensor, w: float, gain: Tensor
) -> tuple[Tensor, Tensor]:
    """Direction and length of (1 - w) length unit + w gain sample; if that is 0, keep the unit."""
    blended = ((1 - w) * length) * unit + (w * gain) * sample
    wide = blended.double()  # squares of float32 numbers cannot overflow
    norm = torch.dot(wide, wide).sqrt()
    return torch.where(norm > 0, blended / norm, unit), norm
