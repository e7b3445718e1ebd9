"""Loading of saved states: completely and with the same meaning, or not at all."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import Tensor

from toolkit.checks import shortened
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import Exponential

# Entries that earlier versions did not save.
_SINCE = {"settings", "w_max", "bias", "kernel_size"}
# Attributes that describe a device without changing its behaviour.
_NAMES = {"name", "source", "provenance"}
# Parameters of the exponential response that belonged to devices in earlier versions.
_LABELS = ("nonlinearity_up", "nonlinearity_down", "device_to_device")


def load_whole(
    state: Any, present: Callable[[], dict[str, Any]], load: Callable[[Mapping[str, Any]], None]
) -> None:
    """Call ``load(state)``; if it fails, load ``present`` again.

    Raises
    ------
    ValueError
        If an entry is missing or unknown, or ``load`` rejects one.
    """
    before = present()
    check_entries(state, before)
    try:
        load(state)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        load(before)
        text = f"has no {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
        raise error if type(error) is ValueError else ValueError(f"state {text}") from error


def check_entries(state: Any, present: Mapping[str, Any]) -> None:
    """Raise ValueError unless ``state`` has exactly the entries of ``present``."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a mapping; got {type(state).__name__}")
    missing = sorted(set(present) - set(state))
    foreign = sorted(map(str, set(state) - set(present)))
    needed = f"state must have {', '.join(sorted(present))}"
    if missing and set(missing) <= _SINCE:
        raise ValueError(
            f"{needed}; got one of an earlier version of the toolkit, without {missing[0]}: load "
            "it with that version, and save the model that to_digital gives"
        )
    if missing:
        raise ValueError(f"{needed}; missing: {missing[0]}")
    if foreign:
        raise ValueError(f"{needed} and nothing else; got {foreign[0]}")


def described(value: Any) -> Any:
    """Settings that the physics depends on, as plain values: classes and their fields.

    Numbers become floats; tensors, arrays and tuples become lists; an object becomes ``{"class":
    its name}`` with its fields, or its attributes if it is not a dataclass. A device's name, source
    and provenance and the values of cached properties are left out.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return described(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [described(item) for item in value]
    if isinstance(value, partial):
        return described([value.func, value.args, value.keywords])
    if hasattr(value, "__qualname__"):  # a class or a function
        return str(value.__qualname__)
    return {"class": type(value).__qualname__} | {k: described(v) for k, v in _attributes(value)}


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
    else:
        slots = [getattr(each, "__slots__", ()) for each in kind.__mro__]
        names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
        names = sorted({*getattr(value, "__dict__", ()), *names} - {"__dict__", "__weakref__"})
    for name in names:
        is_cache = isinstance(getattr(kind, name, None), cached_property)
        is_name = isinstance(value, Device) and name in _NAMES
        if hasattr(value, name) and not is_cache and not is_name:
            yield name, getattr(value, name)


def check_same(saved: Any, present: Mapping[str, Any]) -> None:
    """Raise ValueError, with the first difference, unless these settings were saved.

    ``present`` holds the settings themselves, ``saved`` their descriptions or, in states of earlier
    versions, their ``repr``.
    """
    saved = _as_described_today(saved)
    for name, mine in present.items():
        theirs = saved.get(name) if isinstance(saved, Mapping) else None
        if isinstance(theirs, str) and theirs in (repr(mine), _former_repr(mine)):
            continue
        if different := _difference(name, theirs, described(mine)):
            path, got, wanted = different
            raise ValueError(
                f"state must be of an array with {path} {_shown(wanted)}; got {_shown(got)}"
            )


def _as_described_today(saved: Any) -> Any:
    """Move labels that once belonged to the device to its exponential response."""
    if isinstance(saved, list):
        return [_as_described_today(item) for item in saved]
    if not isinstance(saved, Mapping):
        return saved
    saved = {key: _as_described_today(item) for key, item in saved.items()}
    if saved.get("class") == "Device" and _LABELS[0] in saved:
        labels = {name: saved.pop(name) for name in _LABELS}
        if saved["response"] == {"class": "Exponential"}:
            saved["response"] |= labels
    return saved


def _former_repr(value: Any) -> str:
    """The ``repr`` of earlier versions, in which labels belonged to the device."""
    if not isinstance(value, Device):
        return repr(value)
    parts = {f.name: repr(getattr(value, f.name)) for f in fields(value) if f.repr}
    up, down, between = (repr(getattr(value, name, 0.0)) for name in _LABELS)
    if isinstance(value.response, Exponential):
        parts["response"] = "Exponential()"
    parts["levels_down"] += f", {_LABELS[0]}={up}, {_LABELS[1]}={down}"
    parts["cycle_to_cycle"] += f", {_LABELS[2]}={between}"
    return f"Device({', '.join(f'{name}={text}' for name, text in parts.items())})"


def _difference(path: str, one: Any, other: Any) -> tuple[str, Any, Any] | None:
    """Where two descriptions first differ, and the value of each there."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*other, *(key for key in one if key not in other)]
        parts = [(f"{path}.{key}", one.get(key), other.get(key)) for key in keys]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [(f"{path}[{i}]", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return None if type(one) is type(other) and one == other else (path, one, other)
    return next((found for part in parts if (found := _difference(*part))), None)


def _shown(value: Any) -> str:
    text = str(value.get("class", value) if isinstance(value, Mapping) else value)
    return shortened(text)
