"""Widgets made from knobs: one a knob, with the knob's own doc, bounds and unit.

Which widget suits which kind of knob is decided here; what turning one does is the page's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import panel_material_ui as pmui

from toolkit.teaching.glossary import reference
from toolkit.training.experiment.knobs import (
    Choice,
    Knob,
    Whole,
    Widths,
    describe,
    is_live,
    knobs_of,
)
from toolkit.training.experiment.physics import NONIDEALITIES
from toolkit.training.experiment.settings import Settings

GROUPS: dict[str, tuple[str, ...]] = {
    "Gradient": ("method", "rank", "block_size", "batch_size", "learning_rate", "scheme"),
    "Device": (
        "device",
        "nonlinearity_up",
        "nonlinearity_down",
        "cycle_to_cycle",
        "device_to_device",
        "levels",
    ),
    "Cells": ("read_noise", "stuck_low", "stuck_high", "drift", "seconds_per_step"),
    "Lines and converters": ("coding", "bit_length", "dac_bits", "adc_bits", "wire_resistance"),
    "SBPCA, further": ("sweeps", "past", "core"),
}
NEW_RUN = ("dataset", "model", "hidden", "seed", "w_max", "pair")
# Stops of sliders whose useful values lie far apart; the knob's own bounds still hold.
STOPS: dict[str, list[Any]] = {
    "block_size": [2**i for i in range(11)],
    "batch_size": [2**i for i in range(11)],
    "learning_rate": [
        0.003,
        0.01,
        0.02,
        0.03,
        0.05,
        0.1,
        0.2,
        0.3,
        0.5,
        0.7,
        1.0,
        1.5,
        2.0,
        3.0,
        5.0,
    ],
    "levels": [2, 4, 8, 16, 32, 64, 97, 128, 256, 512, 1000, 2000, 5000, 10_000],
    "sweeps": [1, 2, 3, 4, 8],
    "past": [0.0, 0.1, 0.3, 1.0, 3.0, 10.0],
    "bit_length": [1, 3, 7, 10, 15, 31, 63, 127],
    "seconds_per_step": [0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0],
    "wire_resistance": [0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0],
    "rank": [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64],
}
STEPS = {
    "nonlinearity_up": 0.1,
    "nonlinearity_down": 0.1,
    "cycle_to_cycle": 0.005,
    "device_to_device": 0.05,
    "read_noise": 0.005,
    "stuck_low": 0.005,
    "stuck_high": 0.005,
    "drift": 0.005,
}
# A knob that does not apply is still to be read.
_READABLE = {"& .MuiFormLabel-root.Mui-disabled": {"color": "text.secondary"}}
IDEAL = {"dac_bits": range(2, 13), "adc_bits": range(2, 13)}  # or None: no converter at all


def live_widgets() -> dict[str, Any]:
    """One widget for every live knob, by name, showing the knob's default."""
    return {name: _widget(name, knob) for name, knob in knobs_of(Settings).items() if is_live(knob)}


def fixed_widgets() -> dict[str, Any]:
    """One widget for every knob that a new run may choose, by name, showing the default."""
    return {name: _fixed_widget(name, knobs_of(Settings)[name]) for name in NEW_RUN}


def fixed_value(name: str, widget: Any) -> Any:
    """What the widget of a fixed knob says; text that is no number stays text."""
    knob, value = knobs_of(Settings)[name], widget.value
    if isinstance(knob, Choice):
        return value
    try:
        if isinstance(knob, Widths):
            return [int(word) for word in value.replace(",", " ").split()]
        return int(value) if isinstance(knob, Whole) else float(value)
    except ValueError:
        return value


def show_fixed(name: str, widget: Any, value: Any) -> None:
    """Set the widget of a fixed knob."""
    knob = knobs_of(Settings)[name]
    widget.value = value if isinstance(knob, Choice) else _text(value)


def tooltip(name: str, knob: Knob) -> str:
    """What the knob does, its unit, its symbol and the notebook that derives it."""
    return f"{describe(knob)} {reference(name)}".strip()


def groups(names: Iterable[str]) -> dict[str, list[str]]:
    """The live knobs by heading; one that has none is not lost."""
    grouped = {title: list(knobs) for title, knobs in GROUPS.items()}
    known = {name for knobs in GROUPS.values() for name in knobs}
    others = [name for name in names if name not in known]
    return grouped | ({"Others": others} if others else {})


def moving_along(name: str, value: Any, block_size: int) -> dict[str, Any]:
    """A turned knob with what has to move along.

    A block is at most a batch; another device comes with its own nonidealities.
    """
    if name == "batch_size" and block_size > value:
        return {name: value, "block_size": value}
    if name == "device":
        return {name: value} | dict.fromkeys(NONIDEALITIES)
    return {name: value}


def show(widget: Any, value: Any) -> None:
    """Set a widget to ``value``, adding a stop to its slider where it has none there."""
    if isinstance(widget, pmui.DiscreteSlider) and value not in widget.options:
        widget.options = sorted([*widget.options, value])
    widget.value = value


def _widget(name: str, knob: Knob) -> Any:
    common: dict[str, Any] = {"label": knob.label, "description": tooltip(name, knob)}
    common |= {"size": "small", "width": 250, "sx": _READABLE}
    if isinstance(knob, Choice):
        return pmui.Select(options=list(knob.objects), value=knob.default, **common)
    if name in STOPS:
        value = knob.default if knob.default is not None else STOPS[name][0]
        return pmui.DiscreteSlider(options=STOPS[name], value=value, **common)
    if name in IDEAL:
        options = {"ideal": None} | {f"{bits} bits": bits for bits in IDEAL[name]}
        return pmui.Select(options=options, value=None, **common)
    low, high = knob.bounds or (0, 1)
    assert low is not None and high is not None
    return pmui.FloatSlider(
        start=low,
        end=high,
        step=STEPS.get(name, (high - low) / 100),
        format="0[.]000",
        value=0.0,
        disabled=True,
        **common,
    )


def _fixed_widget(name: str, knob: Knob) -> Any:
    common: dict[str, Any] = {"label": knob.label, "description": tooltip(name, knob)}
    common |= {"size": "small", "width": 170}
    if isinstance(knob, Choice):
        return pmui.Select(options=list(knob.objects), value=knob.default, **common)
    # text, not pmui's number inputs: the buttons of those have no names
    return pmui.TextInput(value=_text(knob.default), **common)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
