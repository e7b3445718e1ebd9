"""Devices as YAML files: plain values, with where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from toolkit.checks import check_file, check_instance, check_path_like, shortened
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.jumps import Jumps, JumpTable
from toolkit.crossbar.devices.responses import Exponential
from toolkit.crossbar.devices.retention import PCMDrift, PowerLawDrift, Relaxation
from toolkit.crossbar.devices.steps import LinearStep, SoftBounds
from toolkit.crossbar.devices.stepwise import ExpStep, IncrementalPulses, PiecewiseStep, PowStep
from toolkit.plain_yaml import read_plain_yaml
from toolkit.writing import beside

_CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Exponential, LinearStep, SoftBounds, PowStep, ExpStep, PiecewiseStep),
        *(IncrementalPulses, JumpTable, Jumps),
        *(PCMDrift, PowerLawDrift, Relaxation),
    )
}
_MOST_BYTES = 2**20


def save_device(
    device: Device, path: str | Path, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a device, and under ``provenance`` whatever says where it comes from.

    Raises
    ------
    ValueError
        If its response or retention is none of the toolkit's own.
    """
    check_path_like("path", path)
    text = device_yaml(device, provenance)
    with beside(Path(path)) as scratch:
        scratch.write_text(text, encoding="utf-8")


def device_yaml(device: Device, provenance: Mapping[str, Any] | None = None) -> str:
    """The text that :func:`save_device` writes."""
    from toolkit import __version__

    check_instance("device", device, Device, "a Device")
    if provenance is not None:
        check_instance("provenance", provenance, Mapping, "a mapping, or None")
    content = device_mapping(device)
    known = {**(device.provenance or {}), **(provenance or {})}
    content["provenance"] = {"toolkit": __version__, **_plain(known)}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)


def device_mapping(device: Device) -> dict[str, Any]:
    """The device as plain values, its provenance included; :func:`device_of` makes it again.

    Raises
    ------
    ValueError
        If its response or retention is none of the toolkit's own.
    """
    check_instance("device", device, Device, "a Device")
    content: dict[str, Any] = _plain(device)
    return {key: value for key, value in content.items() if key != "class"}


def device_of(content: Mapping[str, Any]) -> Device:
    """The device of a :func:`device_mapping`.

    Raises
    ------
    TypeError, ValueError
        If there is no such device; the message names the field.
    """
    provenance = content.get("provenance")
    own = {key: value for key, value in content.items() if key != "provenance"}
    made: Device = _made("Device", Device, own)
    return replace(made, provenance=provenance) if isinstance(provenance, dict) else made


def open_device(path: str | Path) -> Device:
    """Read a device that :func:`save_device` wrote, or one typed by hand.

    Raises
    ------
    ValueError
        If the file holds no device; the message names the field.
    """
    path = check_file("path", path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} has more than {_MOST_BYTES:,} bytes: no device")
    try:
        content = read_plain_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it must be a mapping such as 'name: mine'")
        return device_of(content)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name} holds no device: {shortened(str(error), 300)}") from None


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        if not isinstance(value, Device) and _CLASSES.get(name) is not type(value):
            raise ValueError(f"a {name} cannot be written: only the toolkit's own classes can")
        return {"class": name} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _made(name: str, kind: Any, content: dict[str, Any]) -> Any:
    """An object of its fields."""
    known = {field.name for field in fields(kind)}
    if kind is Device:  # a response's parameters are its own, or given as the device's
        known |= {f.name for response in _CLASSES.values() for f in fields(response)}
    if strange := [key for key in content if key not in known]:
        raise ValueError(f"{name} has no {shortened(str(strange[0]), 40)!r}")
    parsed = {key: _parsed(key, value) for key, value in content.items()}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [key for key in needed if key not in content]:
        raise ValueError(f"{name} needs {', '.join(missing)}")
    return kind(**parsed)


def _parsed(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        name = value.get("class")
        if not isinstance(name, str) or name not in _CLASSES:
            raise ValueError(f"{key}: class must be one of {', '.join(_CLASSES)}; got {name!r}")
        inner = {other: item for other, item in value.items() if other != "class"}
        return _made(name, _CLASSES[name], inner)
    if isinstance(value, list):
        return tuple(value)
    return _number(value) if isinstance(value, str) and key not in ("name", "source") else value


def _number(text: str) -> Any:
    """YAML takes 1e-6, without a point, for text."""
    try:
        return float(text)
    except ValueError:
        return text
