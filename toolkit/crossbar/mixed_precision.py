"""Mixed precision: updates add up in a digital memory; whole pulses are written when due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import all_finite, check_count, check_instance, check_matrix
from toolkit.crossbar.composite import Composite
from toolkit.crossbar.crossbar import Crossbar
from toolkit.lowrank import LowRank

_FULL = 0.9  # one-sided pairs are refreshed beyond this share of the range, as by Crossbar


class MixedPrecision(Composite):
    r"""A crossbar and a digital memory chi of what was wanted but not yet written.

    .. math:: \chi \leftarrow \chi - \eta\,\Delta\,\mathrm{diag}(\sigma) X^T, \qquad
              p = \mathrm{trunc}(\chi / \epsilon), \qquad \chi \leftarrow \chi - \epsilon p

    with :math:`\epsilon` the change of a weight by one pulse of both its cells with the device's
    levels (of the coarser one, where they differ). Only pulses p are written, row by row, so cells
    get none for changes that cancel. What cells do with a pulse is not measured.

    With ``memory_rank`` r, chi is kept as r outer products, r (m + n + 1) numbers: the truncated
    SVD of what is left. Changes below a pulse then survive as far as they have directions in
    common. This form is ours.

    Create one with :meth:`from_weights`. ``array`` is the crossbar.

    Source: Nandakumar et al., Mixed-precision deep learning based on computational memory, Front.
    Neurosci. 14, 406 (2020).
    """

    def __init__(self, array: Crossbar, *, memory_rank: int | None = None) -> None:
        check_instance("array", array, Crossbar, "a Crossbar")
        super().__init__(array.weights)
        _check_rank(memory_rank, self.shape)
        self.array, self._rank = array, memory_rank
        self._chi = torch.zeros_like(array.weights) if memory_rank is None else None
        self._factors = _nothing(array.weights)

    @classmethod
    def from_weights(
        cls, weights: Tensor, *, memory_rank: int | None = None, **knobs: Any
    ) -> MixedPrecision:
        """Program ``weights`` (m, n) onto a crossbar with an empty memory.

        Parameters
        ----------
        weights
            (m, n) floating point.
        memory_rank
            Outer products of the memory, r; None: all m n numbers.
        knobs
            As for :meth:`Crossbar.from_weights`.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        weights = check_matrix("weights", weights)
        _check_rank(memory_rank, weights.shape)
        return cls(Crossbar.from_weights(weights, **knobs), memory_rank=memory_rank)

    @property
    def parts(self) -> list[Crossbar]:
        """The crossbar."""
        return [self.array]

    @property
    def memory_rank(self) -> int | None:
        """Outer products of the memory; None: all m n numbers."""
        return self._rank

    @property
    def words(self) -> int:
        """Numbers that the memory holds: m n, or r (m + n + 1)."""
        m, n = self.shape
        return m * n if self._rank is None else self._rank * (m + n + 1)

    @property
    def waiting(self) -> Tensor:
        """The change of the weights that is not yet written, (m, n)."""
        return self._factors.dense() if self._chi is None else self._chi.clone()

    @property
    def weights(self) -> Tensor:
        """A copy of the crossbar's weights, (m, n), without read noise."""
        return self.array.weights

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, plus then minus."""
        return self.array.conductance

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses each cell has received, plus then minus."""
        return self.array.pulse_count

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:  # noqa: ARG002
        """Add the update to the memory and write the whole pulses that are due.

        Both schemes are the same here: what is written is the sum.
        """
        change = self.waiting.sub_(learning_rate * update.dense().to(self.array.weights))
        pulses, written = self._due(change)
        if bool(pulses.any()):
            self.array._issue_by_rows(pulses)
            if self.array.pair == "one-sided":
                self.array.refresh(_FULL)
        self._keep(change.sub_(written))

    def check_scheme(self, scheme: str) -> None:
        """Raise ValueError if the scheme is unknown."""
        super(Composite, self).check_scheme(scheme)

    def _due(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Signed pulses (polarities, m, n) and the change of weights that they stand for."""
        pair = self.array._pair
        share = change / (2.0 * pair.w_max)
        rise, fall = (share.new_tensor(each)[:, None, None] for each in pair.levels(self.device))
        levels = torch.where(share > 0.0, rise, fall)
        moves = levels != 0.0  # all cells of a pair, or one of a one-sided one
        # both cells of a pair get their pulses together, or the finer one alone would drift away
        coarse = torch.where(moves, levels.abs(), torch.inf).amin(0)
        pulses = ((share * coarse).trunc() / coarse * levels).round()
        written = torch.where(moves, pulses / levels, 0.0).sum(0) / moves.sum(0)
        return pulses, written.mul_(2.0 * pair.w_max)

    def _keep(self, rest: Tensor) -> None:
        if self._chi is not None:
            self._chi = rest
            return
        self._factors = LowRank(*_leading(rest, self._rank or 1))

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        self.array._check_demand(update, learning_rate)

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        return self.array._read(signal, transposed=transposed)

    def _saved(self) -> dict[str, Any]:
        factors = [self._factors.left, self._factors.sigma, self._factors.right]
        memory = [self._chi] if self._chi is not None else factors
        return {"array": self.array.state_dict(), "memory": [part.clone() for part in memory]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        memory = [part.to(self.array.weights) for part in state["memory"]]
        is_dense = self._chi is not None
        if len(memory) != (1 if is_dense else 3) or not all(map(all_finite, memory)):
            raise ValueError(
                "memory of the state must be finite tensors, as many as this array has; got others"
            )
        if is_dense and memory[0].shape != self.shape:
            raise ValueError(f"memory of the state must be {self.shape}; got {memory[0].shape}")
        factors = _nothing(self.array.weights) if is_dense else LowRank(*memory)
        if factors.shape != self.shape or factors.rank > (self._rank or 0):
            raise ValueError(
                f"memory of the state must be of {self.shape} and rank {self._rank or 0} at most; "
                f"got {factors.shape} and {factors.rank}"
            )
        self.array.load_state_dict(state["array"])
        self._factors = factors
        self._chi = memory[0].clone() if is_dense else None

    def _settings(self) -> dict[str, Any]:
        return {"memory_rank": "m n" if self._rank is None else self._rank}


def _check_rank(memory_rank: int | None, shape: Sequence[int]) -> None:
    if memory_rank is not None:
        check_count("memory_rank", memory_rank, 1, min(shape))


def _nothing(like: Tensor) -> LowRank:
    """A matrix of zeros, of rank 0."""
    m, n = like.shape
    return LowRank(like.new_zeros(m, 0), like.new_zeros(0), like.new_zeros(n, 0))


def _leading(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first singular triplets, as columns."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank], vh[:rank].T
