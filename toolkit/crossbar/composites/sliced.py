"""Bit slicing: a weight over several crossbars, each finer than the one before by a base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count, check_instance, check_matrix, check_real
from toolkit.crossbar.array import check_goal
from toolkit.crossbar.composites.composite import Composite
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.pairs import check_w_max
from toolkit.crossbar.programming import Programming
from toolkit.lowrank import LowRank

_FINEST = 1e9  # share of the first slice below which a slice means nothing


class SlicedCrossbar(Composite):
    r"""Weights (m, n) as the sum of crossbars, the first of which is the most significant one.

    .. math:: W = \sum_{i=0}^{k-1} W_i, \qquad |W_i| \le w_i = w_0 b^{-i}, \qquad
              \sum_i w_i = w_\mathrm{max}

    with base b: 2 for one bit a slice, 1 for equal slices, whose errors average out. Reads of all
    slices are added digitally, after the converters of each. An update is written to the last,
    finest slice; after ``every`` updates, :meth:`carry` moves what has gathered there to the
    coarser ones, so that it does not fill up. :meth:`program` gives each slice what those before it
    missed.

    Create one with :meth:`from_weights`. ``slices`` holds the crossbars; ``every`` can be set at
    any time.

    Source: Le Gallo et al., Precision of bit slicing with in-memory computing based on analog
    phase-change memory crossbars, Neuromorph. Comput. Eng. 2, 014009 (2022); carry: Ambrogio et
    al., Equivalent-accuracy accelerated neural-network training using analogue memory, Nature 558,
    60 (2018).
    """

    def __init__(self, slices: list[Crossbar], *, every: int = 100) -> None:
        check_instance("slices", slices, list, "a list of crossbars")
        for array in slices:
            check_instance("slices", array, Crossbar, "a list of crossbars")
        if len(shapes := {(array.shape, array.dtype) for array in slices}) != 1:
            raise ValueError(f"slices must be of one shape and dtype; got {len(shapes)} of them")
        super().__init__(slices[0].weights)
        self.slices, self.every = slices, every
        self._updates = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "every":
            check_count(name, value)
        super().__setattr__(name, value)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        slices: int = 2,
        base: float = 4.0,
        every: int = 100,
        w_max: float = 1.0,
        seed: int | torch.Generator = 0,
        **knobs: Any,
    ) -> SlicedCrossbar:
        """Program ``weights`` (m, n): the first slice holds what it can, the next one the rest.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of all slices.
        slices
            Number of slices, 1 to 16.
        base
            Significance of a slice over that of the next one, 1 to 1024.
        every
            Calls of :meth:`apply` between carries.
        w_max
            Largest weight of all slices together.
        seed
            Seed of all randomness: an int, or a generator on the device of ``weights``.
        knobs
            As for :meth:`Crossbar.from_weights`, for all slices.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        weights = check_matrix("weights", weights)
        check_count("slices", slices, 1, 16)
        check_real("base", base, 1.0, 1024.0)
        if float(base) ** (slices - 1) > _FINEST:
            raise ValueError(
                f"base must be smaller with {slices} slices, as base ** (slices - 1) is at most "
                f"{_FINEST:g}; got {base:g}"
            )
        check_count("every", every)
        w_max = check_w_max(w_max, weights)
        generator = as_generator(seed, weights.device)
        shares = [float(base) ** -index for index in range(slices)]
        arrays, rest = [], weights
        for share in shares:
            own = w_max * share / sum(shares)
            arrays.append(
                Crossbar.from_weights(rest, device=device, w_max=own, seed=generator, **knobs)
            )
            rest = rest - arrays[-1].weights
        return cls(arrays, every=every)

    @property
    def parts(self) -> list[Crossbar]:
        """The slices, the most significant one first."""
        return self.slices

    @property
    def w_max(self) -> float:
        """Largest weight of all slices together."""
        return sum(array.w_max for array in self.slices)

    @property
    def weights(self) -> Tensor:
        """A copy of the weights, (m, n), without read noise."""
        return torch.stack([array.weights for array in self.slices]).sum(0)

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, of the most significant slice; ``slices`` have those of the others."""
        return self.slices[0].conductance

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses of all slices, added cell by cell."""
        return torch.stack([array.pulse_count for array in self.slices]).sum(0)

    def write(self, update: LowRank, *, learning_rate: float, scheme: str) -> None:
        """Write the update to the finest slice; carry when it is due."""
        self.slices[-1].write(update, learning_rate=learning_rate, scheme=scheme)
        self._updates += 1
        if self._updates % self.every == 0 and len(self.slices) > 1:
            self.carry()

    def carry(self) -> Programming:
        """Read all slices and :meth:`program` the weights found: the finest ones are free again."""
        return self.program(self._found(self))

    def program(
        self, weights: Tensor, *, tolerance: float = 0.01, max_pulses: int = 1000
    ) -> Programming:
        """Program ``weights`` (m, n) by write-verify, slice by slice; see :meth:`Crossbar.program`.

        Each slice is given what the (noisy) reads of those before it are short of. The report is
        of weights: errors as a fraction of ``2 w_max``, the tolerance in the range of the finest
        slice; ``rounds`` are those of all slices.
        """
        goal = check_goal(weights, self.shape, tolerance, max_pulses).to(self.slices[0].weights)
        rest, reports = goal, []
        for array in self.slices:
            limited = rest.clamp(-array.w_max, array.w_max)
            report = array.program(limited, tolerance=tolerance, max_pulses=max_pulses)
            reports.append(report)
            rest = rest - self._found(array)
        miss = (self.weights - goal).double()
        return Programming(
            within_tolerance=float(
                (miss.abs() <= 2.0 * tolerance * self.slices[-1].w_max).double().mean()
            ),
            rms_error=float(miss.square().mean().sqrt()) / (2.0 * self.w_max),
            pulses=sum(report.pulses for report in reports),
            rounds=sum(report.rounds for report in reports),
        )

    def _found(self, array: Crossbar | SlicedCrossbar) -> Tensor:
        """Weights as reads of one input after another find them."""
        return array.read(torch.eye(self.shape[1]).to(self.slices[0].weights)).T

    def _one_chip(self) -> tuple[Tensor, Device]:
        raise ValueError(
            "SlicedCrossbar has an array for each slice: save_targets and load_reached are those "
            "of its slices"
        )

    def _saved(self) -> dict[str, Any]:
        return {
            "slices": [array.state_dict() for array in self.slices],
            "updates": self._updates,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._updates = check_count("updates", state["updates"], least=0)
        for array, saved in zip(self.slices, state["slices"], strict=True):
            array.load_state_dict(saved)

    def _settings(self) -> dict[str, Any]:
        return {"slices": len(self.slices), "every": self.every}

    def _read(self, signal: Tensor, *, transposed: bool) -> Tensor:
        """Sum of the reads of all slices, each through its periphery."""
        reads = [array._read(signal, transposed=transposed) for array in self.slices]
        return torch.stack(reads).sum(0)

    def _check_demand(self, update: LowRank, learning_rate: float) -> None:
        self.slices[-1]._check_demand(update, learning_rate)
