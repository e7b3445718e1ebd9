"""Sliders for the parameters of a device: those of its row and those of its response's formula.

Which there are follows from the fields of the dataclasses; here stand their labels, limits and
one-sentence explanations. A parameter without an entry gets limits around its value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import panel_material_ui as pmui

from toolkit.crossbar import Device, Exponential
from toolkit.crossbar.devices.stepwise import Stepwise
from toolkit.fitting import Fit
from toolkit.plots.elements import siemens_prefix


class Limits(NamedTuple):
    """Label, explanation and bounds of a parameter; its step, or the stops of a wide range."""

    label: str
    doc: str
    low: float
    high: float
    step: float = 0.0
    stops: tuple[float, ...] = ()


_MOST_STEPS = 2000  # levels of a response without a closed form for many pulses
_LEVELS = (1, 2, 3, 5, 8, 16, 32, 50, 64, 100, 128, 200, 256, 500, 512, 1000, 2000, 5000, 10_000)
_SIEMENS = tuple(
    float(f"{digit}e{power}") for power in range(-9, -3) for digit in (1, 1.5, 2, 3, 5, 7)
)
_LABELS = ("nonlinearity_up", "nonlinearity_down", "device_to_device")
_ROW = {
    "levels_up": Limits("Levels up", "Pulses from G_min to G_max.", 1, 20_000, 0, _LEVELS),
    "levels_down": Limits("Levels down", "Pulses from G_max to G_min.", 1, 20_000, 0, _LEVELS),
    "nonlinearity_up": Limits(
        "Nonlinearity up", "NeuroSim label of potentiation; 0 is a straight line.", -9, 9, 0.02
    ),
    "nonlinearity_down": Limits(
        "Nonlinearity down",
        "NeuroSim label of depression; negative: large steps near G_max first.",
        -9,
        9,
        0.02,
    ),
    "device_to_device": Limits(
        "Device-to-device", "Standard deviation of the two labels from cell to cell.", 0, 3, 0.02
    ),
    "cycle_to_cycle": Limits(
        "Cycle-to-cycle",
        "Standard deviation of one pulse, as a fraction of the range; √n of it for n pulses.",
        0,
        0.3,
        0.0005,
    ),
    "step_noise": Limits(
        "Step noise", "Standard deviation of one pulse relative to its own change.", 0, 10, 0.02
    ),
    "state_noise": Limits(
        "State noise", "Standard deviation of one pulse relative to the state.", 0, 0.5, 0.001
    ),
    "write_noise": Limits(
        "Write noise",
        "Standard deviation, as a fraction of the range, of an offset drawn at every write.",
        0,
        0.5,
        0.001,
    ),
    "read_noise": Limits(
        "Read noise", "Relative standard deviation of the current at every read.", 0, 0.3, 0.001
    ),
    "stuck_low": Limits("Stuck low", "Fraction of the cells stuck at their low end.", 0, 0.5, 0.01),
    "stuck_high": Limits(
        "Stuck high", "Fraction of the cells stuck at their high end.", 0, 0.5, 0.01
    ),
    "g_min": Limits("G_min", "Lowest conductance of the range.", 1e-10, 0.1, 0, _SIEMENS),
    "g_max": Limits("G_max", "Highest conductance of the range.", 1e-10, 0.1, 0, _SIEMENS),
}
_SPREAD = "Standard deviation from cell to cell of "
_FORMULA = {
    "zero": Limits("Zero", "State at which a step has its nominal size.", 0, 1, 0.001),
    "asymmetry": Limits(
        "Asymmetry", "Above 0 a step down is smaller, below 0 a step up.", -0.99, 0.99, 0.005
    ),
    "step_spread": Limits("Step spread", _SPREAD + "the size of a step.", 0, 1.5, 0.005),
    "asymmetry_spread": Limits("Asymmetry spread", _SPREAD + "the asymmetry.", 0, 0.5, 0.005),
    "high_spread": Limits("Upper-bound spread", _SPREAD + "the upper bound.", 0, 1, 0.005),
    "low_spread": Limits("Lower-bound spread", _SPREAD + "the lower bound.", 0, 1, 0.005),
    "decrease_up": Limits(
        "Decrease up", "By which share a step up shrinks on the way to the upper bound.", 0, 2, 0.01
    ),
    "decrease_down": Limits(
        "Decrease down",
        "By which share a step down shrinks on the way to the lower bound.",
        0,
        2,
        0.01,
    ),
    "decrease_spread": Limits("Decrease spread", _SPREAD + "both decreases.", 0, 1, 0.005),
    "amplitude_up": Limits(
        "Amplitude up (A)", "A in the step 1 − A exp(γz) of potentiation.", -40, 5, 0.01
    ),
    "amplitude_down": Limits(
        "Amplitude down (A)", "A in the step 1 − A exp(−γz) of depression.", -40, 5, 0.01
    ),
    "gamma_up": Limits("Exponent up (γ)", "Exponent γ of the step up.", 0, 20, 0.05),
    "gamma_down": Limits("Exponent down (γ)", "Exponent γ of the step down.", 0, 20, 0.05),
    "a": Limits("Slope a", "a in z = 2 a w / (w_max − w_min) + b.", -2, 2, 0.01),
    "b": Limits("Offset b", "b in z = 2 a w / (w_max − w_min) + b.", -2, 2, 0.01),
    "shape_spread": Limits(
        "Shape spread", _SPREAD + "the formula's numbers, relative to them.", 0, 1, 0.005
    ),
    "scale_spread": Limits("Step spread", _SPREAD + "all steps of a cell.", 0, 1.5, 0.005),
}
_LIMITS = _ROW | _FORMULA


def parameters(device: Device) -> dict[str, float | bool]:
    """The numbers that make up the response and its noises: the formula's own come first."""
    labelled = isinstance(device.response, Exponential)
    row = {name: getattr(device, name) for name in _ROW if labelled or name not in _LABELS}
    response: Any = device.response
    found = {item.name: getattr(response, item.name) for item in fields(response)}
    formula = {name: value for name, value in found.items() if isinstance(value, int | float)}
    levels = {name: row.pop(name) for name in ("levels_up", "levels_down")}
    labels = {name: row.pop(name) for name in _LABELS if name in row}
    return levels | labels | formula | row


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
            raise ValueError(f"{name} is no parameter of {device.name} ({kind}).")
        limits = limits_of(device, name)
        if not limits.low <= value <= limits.high:
            raise ValueError(
                f"{name} must be from {limits.low:g} to {limits.high:g}; got {value:g}"
            )
    response: Any = device.response
    own = {item.name for item in fields(response)}
    formula = {name: value for name, value in values.items() if name in own}
    row: dict[str, Any] = {name: value for name, value in values.items() if name not in own}
    return replace(device, response=replace(response, **formula), **row)


def limits_of(device: Device, name: str) -> Limits:
    """The declared limits of a parameter, wide enough for the value that the device has."""
    value = parameters(device)[name]
    if isinstance(value, bool):
        return Limits(_label(name), "", 0, 1)
    if name not in _LIMITS:
        reach = 2.0 * abs(value) or 1.0
        low = 0.0 if name.endswith("spread") else min(0.0, value - reach)
        return Limits(_label(name), "", low, value + reach, reach / 100)
    declared = _LIMITS[name]
    high = _MOST_STEPS if name.startswith("levels") and _is_stepwise(device) else declared.high
    return declared._replace(low=min(declared.low, value), high=max(high, value))


def _is_stepwise(device: Device) -> bool:
    """Whether every pulse has to be followed by itself, which takes its time."""
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
    """A few lines of Python that make ``device``; run, they give an equal one."""
    kinds = {"Device", type(device.response).__name__}
    lines = ["device = Device("]
    for item in fields(device):
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


def _slider(value: float | bool, limits: Limits) -> Any:
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
