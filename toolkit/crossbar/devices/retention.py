"""Retention: how conductance changes with time.

The laws are pure functions of the state at the last write, the time since then, and the cells'
standard-normal draws, which the array keeps (:meth:`toolkit.crossbar.Crossbar.wait`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from toolkit.checks import check_real
from toolkit.crossbar.devices.responses import Draw, Row

# Index of the cells' draw; indices below 10 belong to the responses, 11 and 12 to wear.
_RETENTION = 10


@runtime_checkable
class Retention(Protocol):
    """A law of conductance against time."""

    def after(self, state: Tensor, seconds: Tensor, device: Row, draw: Draw) -> Tensor:
        """State ``seconds`` after the cells were last written to ``state`` (both per cell)."""


@dataclass(frozen=True, kw_only=True)
class PowerLawDrift:
    """``G(t) = G_0 ((t + t_0) / t_0)^(-nu)``, nu ~ N(nu, nu_spread) from cell to cell, nu >= 0.

    ``G_0`` is the conductance ``reference_time`` t_0 seconds after the write.
    """

    nu: float
    nu_spread: float = 0.0
    reference_time: float = 20.0

    def __post_init__(self) -> None:
        check_real("nu", self.nu, 0.0)
        check_real("nu_spread", self.nu_spread, 0.0)
        check_real("reference_time", self.reference_time, above=0.0)

    def after(self, state: Tensor, seconds: Tensor, device: Row, draw: Draw) -> Tensor:
        """The formula of the class, with one draw of nu per cell."""
        nu = torch.full_like(state, self.nu)
        if self.nu_spread > 0.0:
            nu = (nu + self.nu_spread * draw(_RETENTION)).clamp_(min=0.0)
        return _drift(state, seconds / self.reference_time, nu, device)


@dataclass(frozen=True, kw_only=True)
class PCMDrift:
    """Power-law drift with the published statistics of phase-change memory.

    With ``g = G / g_max``: mean of nu ``clip(-0.0155 ln g + 0.0244, 0.049, 0.1)``, its standard
    deviation ``clip(-0.0125 ln g - 0.0059, 0.008, 0.045)``, t_0 = 20 s.

    Source: Joshi et al., Nat. Commun. 11, 2473 (2020), and Nandakumar et al. (2019), in the form of
    aihwkit's PCM noise model.
    """

    reference_time: float = 20.0

    def __post_init__(self) -> None:
        check_real("reference_time", self.reference_time, above=0.0)

    def after(self, state: Tensor, seconds: Tensor, device: Row, draw: Draw) -> Tensor:
        """Drift, with nu drawn from the statistics at the programmed conductance."""
        log_g = ((state * device.span + device.g_min) / device.g_max).clamp(min=1e-6).log()
        mean = (-0.0155 * log_g + 0.0244).clamp(0.049, 0.1)
        spread = (-0.0125 * log_g - 0.0059).clamp(0.008, 0.045)
        nu = (mean + spread * draw(_RETENTION)).clamp_(min=0.0)
        return _drift(state, seconds / self.reference_time, nu, device)


def _drift(state: Tensor, ratio: Tensor, nu: Tensor, device: Row) -> Tensor:
    ground = device.g_min / device.span
    return (state + ground) * torch.exp(-nu * torch.log1p(ratio)) - ground


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """``x(t) = x_inf + (x_0 - x_inf) exp(-t / tau)`` of the normalised state.

    ``time_constant`` is tau, seconds; ``spread`` its relative spread over cells; ``target`` x_inf.
    """

    time_constant: float
    spread: float = 0.0
    target: float = 0.5

    def __post_init__(self) -> None:
        check_real("time_constant", self.time_constant, above=0.0)
        check_real("spread", self.spread, 0.0)
        check_real("target", self.target, 0.0, 1.0)

    def after(self, state: Tensor, seconds: Tensor, device: Row, draw: Draw) -> Tensor:  # noqa: ARG002
        """The formula of the class."""
        rate = seconds / self.time_constant
        if self.spread > 0.0:
            rate = rate / (1.0 + self.spread * draw(_RETENTION)).abs().clamp(min=1e-3)
        return self.target + (state - self.target) * torch.exp(-rate)
