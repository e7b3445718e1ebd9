"""One widget per knob, with the knob's doc, bounds and unit."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any

import panel_material_ui as pmui
import torch

from toolkit.crossbar import Device, device_names, get_device
from toolkit.lowrank import ESTIMATORS
from toolkit.training.experiment.knobs import (
    Choice,
    Flag,
    Knob,
    Real,
    Whole,
    Widths,
    describe,
    is_live,
    knobs_of,
    reference,
)
from toolkit.training.experiment.settings import Settings
from toolkit.training.layers.convert import DIGITAL

METHODS = {name: name.upper() for name in ("sbpca", "sbe", "svd", "lrt", "nmf", "sgd")} | {
    "feedback": "FeedbackPCA",
    "power": "power iteration",
    "per-sample": "SGD, sample by sample",  # the Budget's
    "accumulator": "SGD, one sum",
    "mixed-precision": "SGD, mixed precision",
}
# A disabled knob must stay readable.
_READABLE = {"& .MuiFormLabel-root.Mui-disabled": {"color": "text.secondary"}}


def live_knobs() -> list[str]:
    """The names of the knobs that may change while a run trains, in their order."""
    return [name for name, knob in knobs_of(Settings).items() if is_live(knob)]


def live_widgets(names: Iterable[str]) -> dict[str, Any]:
    """One widget for each of these knobs, by name, showing the knob's default."""
    return {name: _widget(knobs_of(Settings)[name]) for name in names}


def fixed_widgets() -> dict[str, Any]:
    """One widget for every knob that a new run can choose, by name, showing the default."""
    return {
        name: _fixed_widget(knob)
        for name, knob in knobs_of(Settings).items()
        if knob.group and not is_live(knob)
    }


def fixed_value(name: str, widget: Any) -> Any:
    """The value of a fixed knob's widget; text that is not a number stays text."""
    knob, value = knobs_of(Settings)[name], widget.value
    if isinstance(knob, Choice | Flag):
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
    widget.value = value if isinstance(knob, Choice | Flag) else _text(value)


def method_name(method: Any) -> str:
    """What every page calls a method; links and files have the knob's value."""
    return METHODS.get(method, str(method))


def tooltip(knob: Knob) -> str:
    """The knob's effect, its unit, its symbol and the notebook that derives it."""
    return f"{describe(knob)} {reference(knob)}".strip()


def groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Knobs by their declared heading."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(knobs_of(Settings)[name].group or "Others", []).append(name)
    return grouped


def moving_along(name: str, value: Any, block_size: int) -> dict[str, Any]:
    """The changed knob and those that must change with it.

    A block is at most a batch; a new device has its own nonidealities.
    """
    if value == knobs_of(Settings)[name].none:
        return {name: None}
    if name == "batch_size" and block_size > value:
        return {name: value, "block_size": value}
    if name == "device":
        return {name: value} | dict.fromkeys(knobs_of(Settings, sets="device"))
    return {name: value}


def chosen_text(name: str, value: Any) -> str:
    """One sentence on the chosen method or device; empty for other knobs and your own objects."""
    if name == "method":
        return (inspect.getdoc(ESTIMATORS[value]) or "").split("\n\n")[0].replace("`", "")
    if name == "device" and value == DIGITAL:
        return "Plain weights: numbers without cells, pulses or noise."
    return _about_device(get_device(value)) if name == "device" and value in device_names() else ""


@cache
def _about_device(device: Device) -> str:
    noises = {
        "a pulse varies by {:.3g}% of the range": device.cycle_to_cycle,
        "a step varies by {:.3g}% of itself": device.step_noise,
        "a write misses by {:.3g}% of the range": device.write_noise,
    }
    up, down = (_unevenness(device, direction) for direction in (1.0, -1.0))
    parts = [
        f"{device.levels_up:.0f} pulses up and {device.levels_down:.0f} down cross the range, "
        f"whose ends differ {device.on_off:.3g}-fold",
        f"along it a step up changes {up:.2g}-fold and one down {down:.2g}-fold",
        *(words.format(100 * noise) for words, noise in noises.items() if noise),
    ]
    return f"{'; '.join(parts)} ({device.source.split(';')[0]})."


def _unevenness(device: Device, direction: float) -> float:
    """The ratio of the steps of one pulse from its end of the range and nine tenths further."""
    states = torch.tensor([0.0, 0.9] if direction > 0 else [1.0, 0.1], dtype=torch.float64)
    first, last = (device.step(states, torch.full_like(states, direction)) - states).abs().tolist()
    return max(first, last) / max(min(first, last), 1e-9)


def show(widget: Any, value: Any) -> None:
    """Set a widget to ``value``, adding a slider stop if needed; None is the first option."""
    if value is None and isinstance(widget, pmui.Select):
        value = next(iter(widget.options.values()))
    if isinstance(widget, pmui.DiscreteSlider) and value not in widget.options:
        widget.options = sorted([*widget.options, value])
    widget.value = value


def _common(knob: Knob, width: int) -> dict[str, Any]:
    return {"label": knob.label, "description": tooltip(knob), "size": "small", "width": width}


def _widget(knob: Knob) -> Any:
    common = _common(knob, 250) | {"sx": _READABLE}
    if isinstance(knob, Flag):
        return pmui.Checkbox(value=knob.default, **common)
    if isinstance(knob, Choice):
        names = {method_name(value): value for value in knob.objects}
        return pmui.Select(options=names, value=knob.default, **common)
    assert isinstance(knob, Real | Whole)
    low, high = _bounds(knob)
    if knob.default is None and knob.none != "preset":  # None has its own meaning
        stops = knob.stops or range(int(low), int(high) + 1)
        # a Select would show None as an empty field
        options = {knob.none: knob.none} | {_with_unit(stop, knob): stop for stop in stops}
        return pmui.Select(options=options, value=knob.none, **common)
    if knob.stops:
        value = knob.default if knob.default is not None else knob.stops[0]
        common["tooltips"] = False  # the label has the value
        return pmui.DiscreteSlider(options=list(knob.stops), value=value, **common)
    slider = pmui.IntSlider if isinstance(knob, Whole) else pmui.FloatSlider
    extra = {} if isinstance(knob, Whole) else {"format": "0[.]000"}
    return slider(
        start=low,
        end=high,
        step=knob.step or (1 if isinstance(knob, Whole) else (high - low) / 100),
        value=min(max(low, 0), high) if knob.default is None else knob.default,
        disabled=knob.default is None,  # until the device sets it
        tooltips=False,
        **extra,
        **common,
    )


def _bounds(knob: Real | Whole) -> tuple[float, float]:
    low, high = knob.bounds or (None, None)
    if low is None or high is None:
        raise TypeError(f"the knob {knob.name} must have bounds to get a slider")
    return low, high


def _with_unit(value: Any, knob: Knob) -> str:
    return f"{value} {knob.unit}" if knob.unit != "1" else f"{value}"


def _fixed_widget(knob: Knob) -> Any:
    common = _common(knob, 170)
    if isinstance(knob, Flag):
        return pmui.Checkbox(value=knob.default, **common)
    if isinstance(knob, Choice):
        return pmui.Select(options=list(knob.objects), value=knob.default, **common)
    # text inputs: the buttons of pmui's number inputs have no accessible names
    return pmui.TextInput(value=_text(knob.default), **common)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
