r"""Tiki-Taka: updates go to a fast array, and from there, column after column, to a slow one.

On cells whose steps up and down differ, many updates that cancel on average drag a weight to the
cell's symmetry point. Here the fast array A takes the updates and is centred there: what cancels
leaves it at 0, what persists shows. Columns of A, read in turn, are added to the slow array C,

    C[:, t] <- C[:, t] + transfer_rate A u_t        (u_t: 1 at input t, 0 elsewhere)

after every ``every`` updates, and the network sees ``W = C + gamma A``.

Source: Gokmen and Haensch, Algorithm for training neural networks on resistive device arrays,
Front. Neurosci. 14, 103 (2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count, check_instance, check_matrix, check_real
from toolkit.crossbar.array import Crossbar
from toolkit.crossbar.cost import Cost
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.states import check_same, described, load_whole
from toolkit.lowrank import LowRank


class TikiTaka:
    """Two arrays that hold one matrix of weights (m, n); same interface as a :class:`Crossbar`.

    Make one with :meth:`from_weights`. ``fast`` and ``slow`` are the two crossbars; ``every``,
    ``transfer_rate`` and ``gamma`` may be set at any time.
    """

    def __init__(
        self, fast: Crossbar, slow: Crossbar, *, every: int, transfer_rate: float, gamma: float
    ) -> None:
        self.fast, self.slow = fast, slow
        self.every, self.transfer_rate, self.gamma = every, transfer_rate, gamma
        self._updates = 0

    def __setattr__(self, name: str, value: Any) -> None:
        _check_setting(name, value)
        super().__setattr__(name, value)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        every: int = 1,
        transfer_rate: float = 0.1,
        gamma: float = 0.0,
        seed: int | torch.Generator = 0,
        pair: str = "reference",
        **knobs: Any,
    ) -> TikiTaka:
        """Program ``weights`` (m, n) onto the slow array; the fast one holds 0.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of both arrays.
        every
            Calls of :meth:`apply` from one transfer of a column to the next.
        transfer_rate
            Share of a column's weights that is added to the slow array.
        gamma
            Share of the fast array in the weights.
        seed
            Of all randomness: an int, or a generator on the device of ``weights``.
        pair
            Of the slow array. The fast one is a "reference" pair: 0 at each cell's symmetry point
            (mid-range for a device without one).
        knobs
            As for :meth:`Crossbar.from_weights`, for both.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        weights = check_matrix("weights", weights)
        for name, value in (("every", every), ("transfer_rate", transfer_rate), ("gamma", gamma)):
            _check_setting(name, value)
        knobs |= {"device": device, "seed": as_generator(seed, weights.device)}
        fast = Crossbar.from_weights(torch.zeros_like(weights), pair="reference", **knobs)
        slow = Crossbar.from_weights(weights, pair=pair, **knobs)
        return cls(fast, slow, every=every, transfer_rate=transfer_rate, gamma=gamma)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.slow.shape

    @property
    def weights(self) -> Tensor:
        """The weights that the network sees, (m, n), without read noise."""
        return self.slow.weights + self.gamma * self.fast.weights

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, of the slow array; of the fast one: ``fast.conductance``."""
        return self.slow.conductance

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses to both arrays, added cell by cell."""
        return self.slow.pulse_count + self.fast.pulse_count

    @property
    def device(self) -> Device:
        """The kind of cell of both arrays; may be set at any time, as of a :class:`Crossbar`."""
        return self.slow.device

    @device.setter
    def device(self, device: Device) -> None:
        check_instance("device", device, Device, "a Device, as get_device gives")
        self.fast.device = self.slow.device = device

    def read(self, activations: Tensor) -> Tensor:
        """``activations @ weights.T``: (batch, n) -> (batch, m), each array with its periphery."""
        output = self.slow.read(activations)
        return output if self.gamma == 0.0 else output + self.gamma * self.fast.read(activations)

    def read_transposed(self, errors: Tensor) -> Tensor:
        """``errors @ weights``: (batch, m) -> (batch, n)."""
        output = self.slow.read_transposed(errors)
        if self.gamma == 0.0:
            return output
        return output + self.gamma * self.fast.read_transposed(errors)

    def apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """Write the update to the fast array as :meth:`Crossbar.apply` does; transfer if due."""
        self.fast.apply(update, learning_rate=learning_rate, scheme=scheme)
        self._updates += 1
        if self._updates % self.every == 0:
            self._transfer((self._updates // self.every - 1) % self.shape[1])

    def wait(self, seconds: float) -> None:
        """Let time pass on both arrays."""
        self.fast.wait(seconds)
        self.slow.wait(seconds)

    def cost(self) -> Cost:
        """Energies, times and counts of both arrays, added."""
        return self.fast.cost() + self.slow.cost()

    def state_dict(self) -> dict[str, Any]:
        """State of both arrays, the number of updates so far and the settings."""
        return {
            "fast": self.fast.state_dict(),
            "slow": self.slow.state_dict(),
            "updates": self._updates,
            "settings": described(self._settings()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; ValueError, and nothing changed, if it differs."""
        load_whole(state, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        check_same(state["settings"], self._settings())
        self._updates = check_count("updates", state["updates"], least=0)
        self.fast.load_state_dict(state["fast"])
        self.slow.load_state_dict(state["slow"])

    def _settings(self) -> dict[str, float]:
        return {"every": self.every, "transfer_rate": self.transfer_rate, "gamma": self.gamma}

    def _transfer(self, column: int) -> None:
        """Read a column of the fast array and add it to the slow one."""
        one = torch.zeros_like(self.fast.weights[:1])
        one[0, column] = 1.0
        found = self.fast.read(one)
        change = LowRank(found.T, one.new_ones(1), one.T)
        self.slow.apply(change, learning_rate=-self.transfer_rate)


def _check_setting(name: str, value: Any) -> None:
    """An error unless the attribute ``name`` may be ``value``."""
    if name == "every":
        check_count(name, value)
    elif name == "transfer_rate":
        check_real(name, value, above=0.0)
    elif name == "gamma":
        check_real(name, value)
