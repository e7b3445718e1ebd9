"""The order of samples, cut into batches whose size can change at any time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class SampleOrder:
    """An endless stream of sample indices: one new permutation after another.

    A batch can span two permutations, so every batch has the requested size and every sample is
    used once per pass.
    """

    def __init__(self, samples: int, *, seed: int) -> None:
        self._samples = samples
        self._generator = torch.Generator().manual_seed(seed)
        self._left = self._permutation()
        self._taken = 0

    @property
    def epoch(self) -> float:
        """Passes over the samples done, with the fraction of the current one."""
        return self._taken / self._samples

    def take(self, batch_size: int) -> Tensor:
        """Indices (batch_size,) of the next batch."""
        while len(self._left) < batch_size:
            self._left = torch.cat([self._left, self._permutation()])
        picked, self._left = self._left[:batch_size], self._left[batch_size:]
        self._taken += batch_size
        return picked

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream."""
        state = self._generator.get_state()
        return {"generator": state, "left": self._left.clone(), "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self._generator.set_state(state["generator"])
        self._left, self._taken = state["left"].clone(), state["taken"]

    def _permutation(self) -> Tensor:
        return torch.randperm(self._samples, generator=self._generator)
