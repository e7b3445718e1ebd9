"""Time and wear: how conductance changes while nobody writes, and which cells stop answering.

The models are pure functions of the state at the last write, the time since, and the cells'
standard-normal draws; the array keeps those (:meth:`toolkit.crossbar.Crossbar.wait`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from toolkit.checks import check_real
from toolkit.crossbar.devices.responses import Draw, Parameter, like

if TYPE_CHECKING:
    from toolkit.crossbar.devices.device import Device

# Indices of the cells' draws; those below 10 belong to the responses.
_RETENTION, _ENDURANCE, _STUCK = 10, 11, 12


@runtime_checkable
class Retention(Protocol):
    """A law of conductance against time."""

    def after(self, state: Tensor, seconds: Tensor, device: Device, draw: Draw) -> Tensor:
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

    def after(self, state: Tensor, seconds: Tensor, device: Device, draw: Draw) -> Tensor:
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

    Source: Joshi et al., Nat. Commun. 11, 2473 (2020), Nandakumar et al. (2019), in the form used
    by aihwkit's PCM noise model.
    """

    reference_time: float = 20.0

    def __post_init__(self) -> None:
        check_real("reference_time", self.reference_time, above=0.0)

    def after(self, state: Tensor, seconds: Tensor, device: Device, draw: Draw) -> Tensor:
        """Drift with nu drawn from the statistics at the programmed conductance."""
        log_g = ((state * device.span + device.g_min) / device.g_max).clamp(min=1e-6).log()
        mean = (-0.0155 * log_g + 0.0244).clamp(0.049, 0.1)
        spread = (-0.0125 * log_g - 0.0059).clamp(0.008, 0.045)
        nu = (mean + spread * draw(_RETENTION)).clamp_(min=0.0)
        return _drift(state, seconds / self.reference_time, nu, device)


def _drift(state: Tensor, ratio: Tensor, nu: Tensor, device: Device) -> Tensor:
    ground = device.g_min / device.span
    return (state + ground) * torch.exp(-nu * torch.log1p(ratio)) - ground


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """``x(t) = x_inf + (x_0 - x_inf) exp(-t / tau)`` of the normalised state.

    ``time_constant`` tau in seconds, its relative spread from cell to cell, ``target`` x_inf.
    """

    time_constant: float
    spread: float = 0.0
    target: float = 0.5

    def __post_init__(self) -> None:
        check_real("time_constant", self.time_constant, above=0.0)
        check_real("spread", self.spread, 0.0)
        check_real("target", self.target, 0.0, 1.0)

    def after(self, state: Tensor, seconds: Tensor, device: Device, draw: Draw) -> Tensor:  # noqa: ARG002
        """The formula of the class."""
        rate = seconds / self.time_constant
        if self.spread > 0.0:
            rate = rate / (1.0 + self.spread * draw(_RETENTION)).abs().clamp(min=1e-3)
        return self.target + (state - self.target) * torch.exp(-rate)


def stuck_bounds(
    low: Parameter, high: Parameter, device: Device, draw: Draw
) -> tuple[Parameter, Parameter]:
    """Bounds of the cells with those of stuck cells closed upon the stuck state.

    A cell is stuck low or high where its draw lies in the lower or upper tail of that probability,
    so that raising a fraction keeps the cells that were stuck already.
    """
    if device.stuck_low == 0.0 and device.stuck_high == 0.0:
        return low, high
    quantile = torch.special.ndtr(draw(_STUCK).double())
    bottom = _normalised(device.g_stuck_low, device.g_min, device)
    top = _normalised(device.g_stuck_high, device.g_max, device)
    lows, highs = like(low, draw(_STUCK)), like(high, draw(_STUCK))
    for stuck, where in (
        (bottom, quantile < device.stuck_low),
        (top, quantile > 1.0 - device.stuck_high),
    ):
        lows = torch.where(where, stuck, lows)
        highs = torch.where(where, stuck, highs)
    return lows, highs


def _normalised(conductance: float | None, default: float, device: Device) -> float:
    return ((default if conductance is None else conductance) - device.g_min) / device.span


def endurance_limits(device: Device, draw: Draw) -> Tensor | None:
    """Pulses each cell endures, ``endurance * exp(endurance_spread * xi)``; None: no limit."""
    if device.endurance == 0.0:
        return None
    return device.endurance * torch.exp(device.endurance_spread * draw(_ENDURANCE))
