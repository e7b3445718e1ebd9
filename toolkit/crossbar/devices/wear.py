"""Wear: which cells are stuck, and how many pulses each endures."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import Draw, Parameter, like

_ENDURANCE, _STUCK = 11, 12  # indices of the cells' draws


def stuck_bounds(
    low: Parameter, high: Parameter, device: Device, draw: Draw
) -> tuple[Parameter, Parameter]:
    """Bounds of the cells; those of stuck cells are both the stuck state.

    A cell is stuck low or high if its draw lies in the lower or upper tail of that probability,
    so cells that are stuck stay stuck when a fraction is raised.
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
    """Pulses a cell endures, ``endurance * exp(endurance_spread * xi)``; None: no limit."""
    if device.endurance == 0.0:
        return None
    return device.endurance * torch.exp(device.endurance_spread * draw(_ENDURANCE))
