"""Named devices, one row each, with the source of its numbers. Adding a device is adding a row."""

from __future__ import annotations

from toolkit.crossbar.device import Device

_NEUROSIM = "NeuroSim V3.0 manual, Table II"


def _neurosim(
    name: str,
    states: tuple[float, float],
    labels: tuple[float, float],
    on_resistance: float,
    on_off: float,
    up: tuple[float, float],
    down: tuple[float, float],
    cycle_to_cycle: float,
    note: str = "",
) -> Device:
    """A row of the table: g_max = 1/R_on, g_min = g_max/(on/off); pulses are (volts, seconds)."""
    return Device(
        name=name,
        g_max=1.0 / on_resistance,
        g_min=1.0 / on_resistance / on_off,
        levels_up=states[0],
        levels_down=states[1],
        nonlinearity_up=labels[0],
        nonlinearity_down=labels[1],
        cycle_to_cycle=cycle_to_cycle,
        v_up=up[0],
        width_up=up[1],
        v_down=down[0],
        width_down=down[1],
        source=f"{_NEUROSIM}{note}",
    )


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
    _neurosim(
        "PCMO",
        (50, 50),
        (3.68, -6.76),
        23e6,
        6.84,
        (-2.0, 1e-3),
        (2.0, 1e-3),
        0.01,
        "; cycle-to-cycle printed as < 1 %, its bound is used",
    ),
    _neurosim(
        "AlOx/HfO2", (40, 40), (1.94, -0.61), 16.9e3, 4.43, (0.9, 100e-6), (-1.0, 100e-6), 0.05
    ),
    # Both labels are printed positive and taken so, as NeuroSim does (A keeps the label's sign):
    # RESET is gentle near g_max, where the molten volume is still small, and steepens below.
    _neurosim(
        "GST PCM",
        (100, 120),
        (0.105, 2.4),
        4.71e3,
        19.8,
        (0.7, 6e-6),
        (3.0, 125e-9),
        0.015,
        "; states 100-120 read as 100 up, 120 down; depression label positive as printed:"
        " small steps near g_max, larger below",
    ),
    _neurosim("EpiRAM", (64, 64), (0.5, -0.5), 81e3, 50.2, (5.0, 5e-6), (-3.0, 5e-6), 0.02),
    # Equal signs: depression runs back down nearly the curve of potentiation, which is why a
    # device of such nonlinearity still trains well.
    _neurosim(
        "FeFET",
        (32, 32),
        (1.75, 1.46),
        559e3,
        45.0,
        (3.65, 75e-9),
        (-2.95, 75e-9),
        0.005,
        "; HZO; cycle-to-cycle printed as < 0.5 %, its bound is used; depression label positive as"
        " printed: depression retraces nearly the potentiation curve",
    ),
)
_DEVICES = {row.name: row for row in _ROWS}


def device_names() -> list[str]:
    """Names of all presets, in the order of the table."""
    return list(_DEVICES)


def get_device(name: str) -> Device:
    """Preset of that name.

    Raises
    ------
    ValueError
        If there is no such preset; the message lists those there are.
    """
    try:
        return _DEVICES[name]
    except KeyError:
        known = ", ".join(_DEVICES)
        raise ValueError(f"unknown device {name!r}; known devices: {known}") from None
