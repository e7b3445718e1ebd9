"""Sliders for the parameters of a device and of its response.

Labels, limits and docs come from the declarations in ``toolkit.crossbar.devices``. A parameter of
an external response without a declaration gets limits around its value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import panel_material_ui as pmui

from toolkit.crossbar import Device
from toolkit.crossbar.devices.parameter import About, about
from toolkit.crossbar.devices.stepwise import Stepwise
from toolkit.fitting import Fit
from toolkit.plots.elements import siemens_prefix

_MOST_STEPS = 2000  # levels of a response without a closed form for many pulses
_FIRST, _LAST = ("levels_up", "levels_down"), ("g_min", "g_max")


def parameters(device: Device) -> dict[str, float | bool]:
    """The parameters of the response, then those of the device."""
    response: Any = device.response
    found = {item.name: getattr(response, item.name) for item in fields(response)}
    formula = {name: value for name, value in found.items() if isinstance(value, int | float)}
    row = {name: getattr(device, name) for name in about(Device) if name not in _LAST}
    levels = {name: row.pop(name) for name in _FIRST}
    return levels | formula | row | {name: getattr(device, name) for name in _LAST}


def with_parameters(device: Device, values: Mapping[str, float | bool]) -> Device:
    """``device`` with some of its :func:`parameters` replaced.

    Raises
    ------
    ValueError
        If there is no such parameter, or a value is not allowed.
    """
    known = parameters(device)
    for name, value in values.items():
        if name not in known:
            kind = type(device.response).__name__
            raise ValueError(f"{name} is not a parameter of {device.name} ({kind}).")
        limits = limits_of(device, name)
        if not limits.low <= value <= limits.high:
            raise ValueError(
                f"{name} must be from {limits.low:g} to {limits.high:g}; got {value:g}"
            )
    changed: dict[str, Any] = dict(values)
    return replace(device, **changed)


def limits_of(device: Device, name: str) -> About:
    """The declared limits of a parameter, extended to include the device's value."""
    value = parameters(device)[name]
    if isinstance(value, bool):
        return About(_label(name), "", 0, 1)
    declared = (about(Device) | about(device.response)).get(name)
    if declared is None:
        reach = 2.0 * abs(value) or 1.0
        low = 0.0 if name.endswith("spread") else min(0.0, value - reach)
        return About(_label(name), "", low, value + reach, reach / 100)
    high = _MOST_STEPS if name in _FIRST and _is_stepwise(device) else declared.high
    return replace(declared, low=min(declared.low, value), high=max(high, value))


def _is_stepwise(device: Device) -> bool:
    """Whether pulses must be simulated one by one, which is slow."""
    return isinstance(device.response.cells(device).law, Stepwise)


def sliders(device: Device, turn: Callable[[str, Any], None]) -> list[Any]:
    """One slider for every parameter; each calls ``turn(name, value)`` while it moves."""
    made = []
    for name, value in parameters(device).items():
        widget = _slider(value, limits_of(device, name))
        widget.param.watch(lambda event, name=name: turn(name, event.new), "value")
        made.append(widget)
    return made


def python_of(device: Device) -> str:
    """Python code that creates an equal device."""
    kinds = {"Device", type(device.response).__name__}
    lines = ["device = Device("]
    for item in (one for one in fields(device) if one.repr):
        value = getattr(device, item.name)
        if item.name == "response" or value != item.default:
            lines.append(f"    {item.name}={value!r},")
    text = "\n".join([*lines, ")"]) + "\n"
    kinds |= {word for word in ("Relaxation", "PCMDrift", "PowerLawDrift") if f"{word}(" in text}
    imports = f"from toolkit.crossbar import {', '.join(sorted(kinds))}\n"
    if "Jumps(" in text:
        imports = imports.replace("JumpTable", "JumpTable, Jumps")
    return f"{imports}\n{text}"


def fit_rows(fit: Fit) -> list[list[str]]:
    """Parameter, value and standard error of a fit, as text; conductances in readable units."""
    return [
        [name, _shown(name, value), _shown(name, fit.errors[name])]
        for name, value in fit.parameters.items()
    ]


def _shown(name: str, value: float) -> str:
    if name not in ("g_min", "g_max"):
        return f"{value:.4g}"
    factor, unit = siemens_prefix(value)
    return f"{value * factor:.4g} {unit}"


def _slider(value: float | bool, limits: About) -> Any:
    common = {"label": limits.label, "description": limits.doc, "size": "small", "width": 250}
    if isinstance(value, bool):
        return pmui.Checkbox(value=value, **common)
    if limits.stops:
        stops = sorted({*(stop for stop in limits.stops if stop <= limits.high), value})
        return pmui.DiscreteSlider(
            options={_stop(stop): stop for stop in stops}, value=value, **common
        )
    return pmui.FloatSlider(
        start=limits.low,
        end=limits.high,
        step=limits.step,
        value=float(value),
        format="0.[0000]",
        **common,
    )


def _stop(value: float) -> str:
    """A number of levels, or a conductance in a readable unit."""
    if value >= 1.0:
        return f"{value:g}"
    factor, unit = siemens_prefix(value)
    return f"{value * factor:.4g} {unit}"


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()
