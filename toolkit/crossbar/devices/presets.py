"""Named devices, one row each, with the source of their numbers."""

from __future__ import annotations

import os
from typing import Any

from toolkit.checks import check_choice, check_instance
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.device_file import open_device
from toolkit.crossbar.devices.responses import Exponential, Response
from toolkit.crossbar.devices.retention import PCMDrift, Relaxation
from toolkit.crossbar.devices.steps import LinearStep, SoftBounds
from toolkit.crossbar.devices.stepwise import ExpStep

_NEUROSIM = "NeuroSim V3.0 manual, Table II"
_NOTES = {
    "PCMO": "; cycle-to-cycle printed as < 1 %, its bound is used",
    # Both labels are printed positive and taken so, as NeuroSim does (A keeps the label's sign):
    # RESET is gentle near g_max, where the molten volume is still small, and steepens below.
    "GST PCM": "; states 100-120 read as 100 up, 120 down; depression label positive as printed:"
    " small steps near g_max, larger below",
    # Equal signs: depression runs back down nearly the curve of potentiation, which is why a
    # device of such nonlinearity still trains well.
    "FeFET": "; HZO; cycle-to-cycle printed as < 0.5 %, its bound is used; depression label"
    " positive as printed: depression retraces nearly the potentiation curve",
}


def _neurosim(
    name: str,
    states: tuple[float, float],
    labels: tuple[float, float],
    on_resistance: float,
    on_off: float,
    up: tuple[float, float],
    down: tuple[float, float],
    cycle_to_cycle: float,
) -> Device:
    """Read a table row: g_max = 1/R_on, g_min = g_max/(on/off); pulses are (volts, seconds)."""
    return Device(
        name=name,
        g_max=1.0 / on_resistance,
        g_min=1.0 / on_resistance / on_off,
        levels_up=states[0],
        levels_down=states[1],
        response=Exponential(nonlinearity_up=labels[0], nonlinearity_down=labels[1]),
        cycle_to_cycle=cycle_to_cycle,
        v_up=up[0],
        width_up=up[1],
        v_down=down[0],
        width_down=down[1],
        source=_NEUROSIM + _NOTES.get(name, ""),
    )


def _weight_units(
    name: str,
    step: float,
    bounds: tuple[float, float],
    response: Response,
    origin: str,
    *,
    write_noise: float = 0.0,
    note: str = "",
    **more: Any,
) -> Device:
    """Convert a row in aihwkit's weight units: dw_min, (w_min, w_max), noise in dw_min."""
    width = bounds[1] - bounds[0]
    return Device(
        name=name,
        levels_up=width / step,
        levels_down=width / step,
        response=response,
        write_noise=write_noise * step / width,
        source=f"{origin}, as in aihwkit's preset of that name; conductance range and pulses"
        f" nominal{note}",
        **{"g_min": 1e-6, "g_max": 1e-5, **more},
    )


def _spreads(asymmetry: float, step: float, high: float, low: float) -> dict[str, Any]:
    """Spreads from cell to cell: asymmetry, step size and bounds."""
    return {
        "asymmetry_spread": asymmetry,
        "step_spread": step,
        "high_spread": high,
        "low_spread": low,
    }


_GONG_2018 = "Gong et al., Nat. Commun. 9, 2102 (2018)"
_GONG_2022 = "Gong et al., IEDM (2022)"
_TANG_2018 = "Tang et al., IEDM (2018)"

_ROWS = (
    Device(
        name="ideal",
        g_min=1e-7,
        g_max=5e-6,
        levels_up=1000,
        levels_down=1000,
        v_up=2.0,
        v_down=-2.0,
        width_up=1e-8,
        width_down=1e-8,
        source="straight lines without noise; range and pulses of NeuroSim's IdealDevice",
    ),
    _neurosim("Ag:a-Si", (97, 100), (2.4, -4.88), 26e6, 12.5, (3.2, 300e-6), (-2.8, 300e-6), 0.035),
    _neurosim(
        "TaOx/HfOx", (128, 128), (0.04, -0.63), 100e3, 10.0, (1.6, 50e-9), (-1.6, 50e-9), 0.037
    ),
    _neurosim("PCMO", (50, 50), (3.68, -6.76), 23e6, 6.84, (-2.0, 1e-3), (2.0, 1e-3), 0.01),
    _neurosim(
        "AlOx/HfO2", (40, 40), (1.94, -0.61), 16.9e3, 4.43, (0.9, 100e-6), (-1.0, 100e-6), 0.05
    ),
    _neurosim("GST PCM", (100, 120), (0.105, 2.4), 4.71e3, 19.8, (0.7, 6e-6), (3.0, 125e-9), 0.015),
    _neurosim("EpiRAM", (64, 64), (0.5, -0.5), 81e3, 50.2, (5.0, 5e-6), (-3.0, 5e-6), 0.02),
    _neurosim("FeFET", (32, 32), (1.75, 1.46), 559e3, 45.0, (3.65, 75e-9), (-2.95, 75e-9), 0.005),
    _weight_units(
        "ReRamES",
        0.00135,
        (-1.0, 1.0),
        ExpStep(
            asymmetry=0.259359,
            amplitude_up=-1.18445,
            amplitude_down=-0.081404,
            gamma_up=5.0,
            gamma_down=5.0,
            a=-0.5,
            b=-0.5,
            **_spreads(0.05, 0.2, 0.3, 0.3),
        ),
        _GONG_2018,
        step_noise=5.0,
        write_noise=75.0,
    ),
    _weight_units(
        "ReRamSB",
        0.002,
        (-0.75, 1.25),
        SoftBounds(zero=0.375, **_spreads(0.01, 0.3, 0.24, 0.4)),
        _GONG_2018,
        cycle_to_cycle=3.75 * 0.002 / 2.0,
        write_noise=56.0,
        note='; meant for pair="reference"',
    ),
    _weight_units(
        "Capacitor",
        0.005,
        (-1.0, 1.0),
        LinearStep(
            decrease_up=0.05,
            decrease_down=0.05,
            decrease_spread=0.01,
            **_spreads(0.06, 0.1, 0.07, 0.07),
        ),
        "Li et al., VLSI Technology (2018)",
        step_noise=0.3,
        retention=Relaxation(time_constant=1.0, spread=0.3),
        note="; its lifetime of 1e6 mini-batches is taken as 1 s, 1 us per mini-batch",
    ),
    _weight_units(
        "EcRam",
        0.002,
        (-0.8276, 1.1724),
        LinearStep(
            zero=0.4138,
            decrease_up=0.1153,
            decrease_down=0.5085,
            decrease_spread=0.05,
            **_spreads(0.01, 0.1, 0.05, 0.05),
        ),
        _TANG_2018,
        step_noise=0.3,
    ),
    _weight_units(
        "EcRamMO",
        2.8214e-4,
        (-0.8286, 1.1714),
        LinearStep(
            zero=0.4143,
            decrease_up=0.4152,
            decrease_down=0.7342,
            decrease_spread=0.05,
            **_spreads(0.01, 0.1, 0.05, 0.05),
        ),
        "Kim et al., IEDM (2019)",
        step_noise=2.0,
    ),
    _weight_units(
        "Idealized",
        0.0002,
        (-1.0, 1.0),
        LinearStep(**_spreads(0.0, 0.3, 0.3, 0.3)),
        "a GokmenVlasov cell with finer, symmetric steps",
        step_noise=0.3,
    ),
    _weight_units(
        "GokmenVlasov",
        0.0016,
        (-1.0, 1.0),
        LinearStep(**_spreads(0.01, 0.3, 0.3, 0.3)),
        "Gokmen and Vlasov, Front. Neurosci. 10, 333 (2016)",
        step_noise=0.3,
    ),
    _weight_units(
        "PCM",
        0.01,
        (0.0, 2.0),
        ExpStep(
            zero=0.0,
            amplitude_up=-27.235,
            amplitude_down=-2.235,
            gamma_up=2.5,
            gamma_down=2.5,
            a=-1.0,
            **_spreads(0.05, 0.2, 0.1, 0.0),
        ),
        "Nandakumar et al., Front. Neurosci. 14, 406 (2020)",
        g_min=1e-7,
        g_max=25e-6,
        step_noise=0.6,
        cycle_to_cycle=0.6 * 0.042 / 2.0,
        state_noise=0.6 * 0.108,
        retention=PCMDrift(),
        note='; meant for pair="one-sided"',
    ),
    _weight_units(
        "ReRamArrayOM",
        0.0949,
        (-1.0, 1.0),
        SoftBounds(step_log_normal=True, **_spreads(0.01, 0.7829, 0.3499, 0.5695)),
        _GONG_2022,
        step_noise=0.4158,
        write_noise=1.4113,
        note='; meant for pair="reference"; 13.48 % corrupt cells were measured, none are assumed',
    ),
    _weight_units(
        "ReRamArrayHfO2",
        0.4622,
        (-1.0, 1.0),
        SoftBounds(step_log_normal=True, **_spreads(0.01, 0.7125, 0.4295, 0.5990)),
        _GONG_2022,
        step_noise=0.2174,
        write_noise=0.5841,
        note='; meant for pair="reference"; 9.77 % corrupt cells were measured, none are assumed',
    ),
    Device(
        name="Daffodil",
        g_min=133e-6,
        g_max=233e-6,
        levels_up=3,
        levels_down=3,
        write_noise=0.1666,
        read_noise=0.0315,
        g_stuck_low=10e-6,
        g_stuck_high=500e-6,
        source="Yousuf et al., Nat. Commun. (2025), 20,000-device board: range, 4 states, write"
        " noise 16.66 uS, read noise uniform +-10 uS (as its deviation at mid-range), stuck levels;"
        " straight lines and pulses assumed; set stuck_low and stuck_high to the yield",
    ),
)
#: Environment variable with the paths of devices of one's own, for processes that are started.
DEVICES_VARIABLE = "SBPCA_DEVICES"
_PATHS = filter(None, os.environ.get(DEVICES_VARIABLE, "").split(os.pathsep))
_DEVICES = {row.name: row for row in (*_ROWS, *map(open_device, _PATHS))}


def device_names() -> list[str]:
    """Names of all presets, in the order of the table.

    Examples
    --------
    >>> "Ag:a-Si" in device_names()
    True
    """
    return list(_DEVICES)


def add_device(device: Device) -> None:
    """Put a device of one's own into the list, for this process.

    Raises
    ------
    ValueError
        If a preset has that name, or levels are infinite: pages and tables draw pulses.
    """
    check_instance("device", device, Device, "a Device")
    device.check_pulsed()
    check_own_name("device", device.name)
    _DEVICES[device.name] = device


def check_own_name(argument: str, name: str) -> None:
    """ValueError if a preset has that name."""
    if is_preset(name) or name == "digital":  # plain weights, among the knobs
        raise ValueError(f"{argument} must have a name of its own; {name!r} is taken")


def is_preset(name: str) -> bool:
    """Whether a device of that name came with the toolkit."""
    return any(row.name == name for row in _ROWS)


def get_device(name: str) -> Device:
    """Return the preset with that name.

    Raises
    ------
    ValueError
        If there is no such preset; the message lists all presets.

    Examples
    --------
    >>> get_device("Ag:a-Si").levels_up
    97
    """
    return _DEVICES[check_choice("name", name, _DEVICES)]
