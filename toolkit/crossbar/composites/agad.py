"""AGAD: the reference of the fast array is the mean of its reads before the sign changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.crossbar.cells import check_saved
from toolkit.crossbar.composites.chopped import ChoppedTikiTaka

_TAIL = 5.0  # weight of a read in the mean, over 1 / period: the last fifth of a period counts


class AGAD(ChoppedTikiTaka):
    r"""Chopped Tiki-Taka that subtracts a reference of its own: dynamic, in digital memory.

    .. math:: H_{:,t} \leftarrow H_{:,t} + \mathrm{transfer\_rate}\; c_t (A u_t - \mu^-_t), \qquad
              \mu_t \leftarrow (1 - \beta)\,\mu_t + \beta A u_t

    with :math:`\mu^-_t` the running mean :math:`\mu_t` at the last change of the sign
    :math:`c_t`, and :math:`\beta = \min(1, 5 / \mathrm{period})`. Any offset is subtracted before
    it reaches the buffer, and what persists counts twice, because it changes sign with the
    chopper. The signs change regularly, after ``period`` reads. Nothing is transferred in the
    first period, when there is no reference.

    Digital memory: 2 m n numbers for :math:`\mu` and :math:`\mu^-`, on top of those of
    :class:`ChoppedTikiTaka`.

    Create one with :meth:`from_weights`.

    Source: Rasch et al., Fast and robust analog in-memory deep neural network training, Nat.
    Commun. 15, 7133 (2024).
    """

    def __init__(self, *arrays: Any, **settings: Any) -> None:
        super().__init__(*arrays, **settings)
        # the running mean and the one of the last period, (2, m, n)
        self._means = torch.zeros_like(torch.stack([self.slow.weights] * 2))

    @property
    def words(self) -> int:
        """Numbers that the digital memory holds."""
        return super().words + self._means.numel()

    def _found(self, chosen: Tensor, values: Tensor) -> Tensor:
        since, changes = self._reads[:, chosen].to(values.device)
        mean, past = self._means[:, :, chosen].transpose(1, 2)
        past = torch.where((since == 0)[:, None], mean, past)
        change = (values - past) * (changes > 0)[:, None]
        mean = mean + min(1.0, _TAIL / self.period) * (values - mean)
        self._means[:, :, chosen] = torch.stack([mean, past]).transpose(1, 2)
        return super()._found(chosen, change)

    def _due(self, reads: Tensor) -> Tensor:
        return reads >= self.period

    def _saved(self) -> dict[str, Any]:
        return super()._saved() | {"means": self._means.clone()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        check_saved("means", state["means"], self._means)
        super()._restore(state)
        self._means = state["means"].to(self._means).clone()
