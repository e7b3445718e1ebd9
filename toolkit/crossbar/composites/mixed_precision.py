"""Mixed precision: updates add up in a digital memory; whole pulses are written when due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import all_finite, check_count, check_instance, check_matrix
from toolkit.crossbar.composites.composite import Composite
from toolkit.crossbar.crossbar import Crossbar
from toolkit.lowrank import LowRank


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
        self._memory = self._kept(torch.zeros_like(array.weights))

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
        memory = self._memory
        return memory.dense() if isinstance(memory, LowRank) else memory.clone()

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
            self.array._refresh_full()
        self._memory = self._kept(change.sub_(written))

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

    def _kept(self, change: Tensor) -> Tensor | LowRank:
        """What the memory keeps of a change: all of it, or its first singular triplets."""
        if self._rank is None:
            return change
        u, s, vh = torch.linalg.svd(change, full_matrices=False)
        return LowRank(u[:, : self._rank], s[: self._rank], vh[: self._rank].T)

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        self.device.check_pulsed()
        self.array._check_demand(update, learning_rate)

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        return self.array._read(signal, transposed=transposed)

    def _put(self, conductance: Tensor) -> None:
        self.array._put(conductance)  # what waits is still wanted

    def _saved(self) -> dict[str, Any]:
        memory = self._memory
        parts = (
            [memory.left, memory.sigma, memory.right] if isinstance(memory, LowRank) else [memory]
        )
        return {"array": self.array.state_dict(), "memory": [part.clone() for part in parts]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        parts = [part.to(self.array.weights).clone() for part in state["memory"]]
        if len(parts) != (1 if self._rank is None else 3) or not all(map(all_finite, parts)):
            raise ValueError(
                "memory of the state must be finite tensors, as many as this array has; got others"
            )
        memory = parts[0] if self._rank is None else LowRank(*parts)
        most = min(self.shape) if self._rank is None else self._rank
        rank = memory.rank if isinstance(memory, LowRank) else most
        if tuple(memory.shape) != self.shape or rank > most:
            raise ValueError(
                f"memory of the state must be of {self.shape} and rank {most} at most; "
                f"got {tuple(memory.shape)} and {rank}"
            )
        self.array.load_state_dict(state["array"])
        self._memory = memory

    def _settings(self) -> dict[str, Any]:
        return {"memory_rank": "m n" if self._rank is None else self._rank}


def _check_rank(memory_rank: int | None, shape: Sequence[int]) -> None:
    if memory_rank is not None:
        check_count("memory_rank", memory_rank, 1, min(shape))
