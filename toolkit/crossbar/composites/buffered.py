"""Tiki-Taka v2: what is read from the fast array waits in a digital buffer until a pulse is due."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from toolkit.crossbar.composites.composite import TikiTaka
from toolkit.crossbar.composites.mixed_precision import MixedPrecision
from toolkit.crossbar.devices.device import Device
from toolkit.lowrank import LowRank


class BufferedTikiTaka(TikiTaka):
    r"""Tiki-Taka whose slow array is written in whole pulses from a digital buffer H.

    .. math:: H_{:,t} \leftarrow H_{:,t} + \mathrm{transfer\_rate}\; A u_t, \qquad
              p = \mathrm{trunc}(H / \epsilon), \qquad H \leftarrow H - \epsilon p

    with A the fast array and :math:`\epsilon` one pulse of the slow one, which gets the pulses p.
    Changes below a pulse, noise of the reads of A among them, average in H before they are written,
    so coarse and noisy cells do. H is a :class:`MixedPrecision` memory: m n numbers or, with
    ``memory_rank`` r, r outer products, r (m + n + 1) numbers; the second form is ours.

    Create one with :meth:`from_weights`. ``slow`` is the slow array with its buffer.

    Source: Gokmen, Enabling training of neural networks on noisy hardware, Front. Artif. Intell. 4,
    699148 (2021).
    """

    slow: Any  # a MixedPrecision, which is no Crossbar

    @classmethod
    def from_weights(
        cls, weights: Tensor, *, device: Device, memory_rank: int | None = None, **knobs: Any
    ) -> BufferedTikiTaka:
        """Program ``weights`` (m, n) onto the slow array; the fast one and the buffer hold 0.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of both arrays.
        memory_rank
            Outer products of the buffer, r; None: all m n numbers.
        knobs
            As for :meth:`TikiTaka.from_weights`.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        made = TikiTaka.from_weights(weights, device=device, **knobs)
        slow: Any = MixedPrecision(made.slow, memory_rank=memory_rank)
        return cls(made.fast, slow, **made._settings())

    @property
    def words(self) -> int:
        """Numbers that the digital memory holds."""
        return int(self.slow.words)

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        self.device.check_pulsed()
        super()._check_demand(update, learning_rate)
