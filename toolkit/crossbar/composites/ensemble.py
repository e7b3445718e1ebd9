"""Layer ensemble averaging: copies of a matrix on different cells, whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count, check_matrix
from toolkit.crossbar.cells import check_saved
from toolkit.crossbar.composites.composite import Composite
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device
from toolkit.lowrank import LowRank


class EnsembleCrossbar(Composite):
    r"""Copies of a matrix (m, n) on crossbars with faults of their own; outputs are averaged.

    .. math:: y_i = \frac{1}{\beta} \sum_{c \in S_i} (W_c x)_i

    with :math:`S_i` the :math:`\beta` = ``kept`` copies of row i that missed the wanted weights
    least when they were programmed. With all copies kept, the mean square error that stuck cells
    leave in a weight falls as 1 / copies. Choosing lowers it further where a row has few faults:
    on narrow layers and good cells. It needs to read each copy once. The average is digital, after
    the converters of each copy. Updates go to all copies.

    Create one with :meth:`from_weights`. ``copies`` holds the crossbars.

    Source: Yousuf et al., Layer ensemble averaging for fault tolerance in memristive neural
    networks, Nat. Commun. 16 (2025), doi 10.1038/s41467-025-56319-6.
    """

    def __init__(self, copies: list[Crossbar], shares: Tensor) -> None:
        super().__init__(copies[0].weights)
        self.copies, self._shares = copies, shares

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        copies: int = 3,
        kept: int | None = None,
        seed: int | torch.Generator = 0,
        **knobs: Any,
    ) -> EnsembleCrossbar:
        """Program ``weights`` (m, n) onto every copy and choose the best rows.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of all copies.
        copies
            Number of crossbars, 1 to 64.
        kept
            Copies of a row that are averaged, at most ``copies``. None: all.
        seed
            Seed of all randomness: an int, or a generator on the device of ``weights``.
        knobs
            As for :meth:`Crossbar.from_weights`, for all copies.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        weights = check_matrix("weights", weights)
        check_count("copies", copies, 1, 64)
        kept = copies if kept is None else check_count("kept", kept, 1, copies)
        knobs |= {"device": device, "seed": as_generator(seed, weights.device)}
        arrays = [Crossbar.from_weights(weights, **knobs) for _ in range(copies)]
        missed = torch.stack([(each.weights - weights).square().sum(1) for each in arrays])
        shares = torch.zeros_like(missed).scatter_(0, missed.argsort(0)[:kept], 1.0 / kept)
        return cls(arrays, shares)

    @property
    def parts(self) -> list[Crossbar]:
        """The copies."""
        return self.copies

    @property
    def weights(self) -> Tensor:
        """The averaged weights, (m, n), without read noise."""
        return self._averaged([array.weights for array in self.copies])

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, of the last copy; ``copies`` have those of the others."""
        return self.copies[-1].conductance

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses of all copies, added cell by cell."""
        return torch.stack([array.pulse_count for array in self.copies]).sum(0)

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Write the update to every copy."""
        for array in self.copies:
            array.write(update, learning_rate=learning_rate, scheme=scheme)

    def _averaged(self, values: list[Tensor]) -> Tensor:
        """Mean of (m, …) over the copies that are kept of each row."""
        shares = self._shares.to(values[0])[:, :, None]
        return (torch.stack(values) * shares).sum(0)

    def _one_chip(self) -> tuple[Tensor, Device]:
        raise ValueError(
            "EnsembleCrossbar has several arrays: save_targets and load_reached are those of "
            "its copies"
        )

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        if not transposed:
            return self._averaged([array.read(signal).T for array in self.copies]).T
        shares = self._shares.to(signal)
        driven = zip(self.copies, shares, strict=True)
        return torch.stack([array.read_transposed(signal * each) for array, each in driven]).sum(0)

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        for array in self.copies:
            array._check_demand(update, learning_rate)

    def _settings(self) -> dict[str, Any]:
        return {"copies": len(self.copies)}

    def _saved(self) -> dict[str, Any]:
        states = [array.state_dict() for array in self.copies]
        return {"copies": states, "shares": self._shares.clone()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        check_saved("shares", state["shares"], self._shares)
        for array, saved in zip(self.copies, state["copies"], strict=True):
            array.load_state_dict(saved)
        self._shares = state["shares"].to(self._shares).clone()
