"""Chopped Tiki-Taka v2: signs that change in turn cancel what the fast array adds of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import check_count
from toolkit.crossbar.cells import check_saved
from toolkit.crossbar.composites.buffered import BufferedTikiTaka
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device
from toolkit.lowrank import LowRank


class ChoppedTikiTaka(BufferedTikiTaka):
    r"""Tiki-Taka v2 (c-TTv2) with a sign :math:`c_t = \pm 1`, the chopper, for every input t.

    .. math:: A_{:,t} \leftarrow A_{:,t} + c_t\,\Delta W_{:,t}, \qquad
              H_{:,t} \leftarrow H_{:,t} + \mathrm{transfer\_rate}\; c_t A u_t

    The sign of a column changes at random, on average once in ``period`` reads of it. What the
    reference cells of the fast array A miss of its symmetry points has no sign, so it cancels in
    the buffer H and need not be calibrated; plain Tiki-Taka v2 adds it to the weights without end.
    Between two changes it gathers in H, and moves the weights to and fro if that is more than a
    pulse of the slow array.

    The network sees the slow array alone, as in the source: ``gamma`` is 0. The source drops what
    is left in H after a pulse; here H keeps it. Digital memory: that of
    :class:`BufferedTikiTaka`, and n signs.

    Create one with :meth:`from_weights`. ``period`` can be set at any time.

    Source: Rasch et al., Fast and robust analog in-memory deep neural network training, Nat.
    Commun. 15, 7133 (2024).
    """

    def __init__(self, fast: Crossbar, slow: Any, *, period: int = 10, **settings: Any) -> None:
        super().__init__(fast, slow, **settings)
        self.period = period
        # reads of each column since its sign changed, and how often it has changed
        self._reads = torch.zeros(2, self.shape[1], dtype=torch.int64)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "period":
            check_count(name, value)
        super().__setattr__(name, value)
        if name == "gamma" and value != 0.0:
            raise ValueError(f"gamma must be 0 with a chopper, which changes signs; got {value:g}")

    @classmethod
    def from_weights(
        cls, weights: Tensor, *, device: Device, period: int = 10, **knobs: Any
    ) -> ChoppedTikiTaka:
        """Program ``weights`` (m, n) onto the slow array; the fast one and the buffer hold 0.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of both arrays.
        period
            Reads of a column between changes of its sign, on average.
        knobs
            As for :meth:`BufferedTikiTaka.from_weights`.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        made = BufferedTikiTaka.from_weights(weights, device=device, **knobs)
        return cls(made.fast, made.slow, period=period, **made._settings())

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Write the update, with the signs, to the fast array; transfer columns when due."""
        super().write(self._chopped(update), learning_rate=learning_rate, scheme=scheme)

    @property
    def _signs(self) -> Tensor:
        """(n,) of 1 and -1."""
        return 1 - 2 * (self._reads[1] % 2)

    def _chopped(self, update: LowRank) -> LowRank:
        signs = self._signs.to(update.right)
        return LowRank(update.left, update.sigma, update.right * signs[:, None])

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        super()._check_demand(self._chopped(update), learning_rate)

    def _found(self, chosen: Tensor, values: Tensor) -> Tensor:
        found = values * self._signs[chosen].to(values)[:, None]
        since, changes = self._reads[:, chosen]
        due = self._due(since + 1)
        self._reads[:, chosen] = torch.stack([(since + 1) * ~due, changes + due])
        return found

    def _due(self, reads: Tensor) -> Tensor:
        """Whether the sign of a column changes, after so many reads since the last change."""
        generator = self.fast._cells.generator
        drawn = torch.rand(len(reads), generator=generator, device=generator.device)
        return (drawn < 1.0 / self.period).cpu()

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"period": self.period}

    def _saved(self) -> dict[str, Any]:
        return super()._saved() | {"reads": self._reads.clone()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        check_saved("reads", state["reads"], self._reads)
        super()._restore(state)
        self._reads = state["reads"].to(self._reads).clone()
