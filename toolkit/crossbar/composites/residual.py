"""Residual learning: each array learns what the coarser ones before it miss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count, check_matrix
from toolkit.crossbar.composites.composite import TRANSFER, TikiTaka
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device

_OF_CHAIN = (*TRANSFER, "pair")


class ResidualLearning(TikiTaka):
    r"""A chain of arrays, each of which learns what those before it miss.

    .. math:: W = \sum_{i=0}^{k-1} \gamma^i W_i, \qquad
              W_i u_t \leftarrow W_i u_t + \mathrm{transfer\_rate}
              \sum_{j > i} \gamma^{j-i-1} W_j u_t

    Updates are written to the last array, the finest; the network sees the sum. As long as a weight
    is wrong, it gathers there and moves on to the coarser arrays; once W is right, the finer arrays
    return to 0, their symmetry points, where asymmetric cells stay. Coarse cells add up to fine
    weights: k arrays with steps of :math:`\epsilon` resolve :math:`\gamma^{k-1} \epsilon`.

    With two arrays this is the residual learning of Wu et al., and :class:`TikiTaka` with
    ``gamma`` above 0; with more, that of Li et al. All transfers follow an update at once, here.
    It keeps no digital memory.

    Create one with :meth:`from_weights`. ``slow`` is the first crossbar, ``fast`` the rest of the
    chain.

    Sources: Wu et al., Analog in-memory training on general non-ideal resistive elements, NeurIPS
    (2025), arXiv 2502.06309; Li et al., In-memory training on analog devices with limited
    conductance states via multi-tile residual learning, arXiv 2510.02516 (2025).
    """

    fast: Any  # a crossbar, or the rest of the chain

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in TRANSFER and isinstance(self.fast, TikiTaka):
            setattr(self.fast, name, value)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        arrays: int = 3,
        gamma: float = 0.5,
        seed: int | torch.Generator = 0,
        **knobs: Any,
    ) -> ResidualLearning:
        """Program ``weights`` (m, n) onto the first array; all others hold 0.

        Parameters
        ----------
        weights
            (m, n) floating point.
        device
            The kind of cell of all arrays.
        arrays
            Number of arrays, 2 to 8.
        gamma
            Weight of an array over that of the one before it.
        seed
            Seed of all randomness: an int, or a generator on the device of ``weights``.
        knobs
            As for :meth:`TikiTaka.from_weights`.

        Raises
        ------
        TypeError, ValueError
            If a value is not allowed.
        """
        check_count("arrays", arrays, 2, 8)
        weights = check_matrix("weights", weights)
        knobs |= {"device": device, "seed": as_generator(seed, weights.device)}
        made = TikiTaka.from_weights(weights, gamma=gamma, **knobs)
        fast: Any = made.fast
        own = {name: value for name, value in knobs.items() if name not in _OF_CHAIN}
        for _ in range(arrays - 2):
            middle = Crossbar.from_weights(torch.zeros_like(weights), pair="reference", **own)
            fast = cls(fast, middle, **made._settings())
        return cls(fast, made.slow, **made._settings())
