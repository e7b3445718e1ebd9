"""From knobs to physics: the cells, pulses, converters and wires that settings describe.

Presets are named in files; a device of one's own is written whole, as :func:`device_text`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from toolkit.checks import shortened
from toolkit.crossbar import (
    AGAD,
    Array,
    BufferedTikiTaka,
    ChoppedTikiTaka,
    Converter,
    Crossbar,
    Device,
    MixedPrecision,
    Periphery,
    PowerLawDrift,
    ResidualLearning,
    TikiTaka,
    Wires,
)
from toolkit.crossbar.devices.device_file import device_mapping, device_of
from toolkit.crossbar.devices.presets import get_device, is_preset
from toolkit.crossbar.pulses import Coding, make_coding

DIRECT, MIXED, TIKI, BUFFERED = "direct", "mixed precision", "Tiki-Taka", "Tiki-Taka v2"
CHOPPED, DYNAMIC, RESIDUAL = "chopped Tiki-Taka", "AGAD", "residual learning"
ALGORITHMS: dict[str, Any] = {
    DIRECT: Crossbar,
    MIXED: MixedPrecision,
    TIKI: TikiTaka,
    BUFFERED: BufferedTikiTaka,
    CHOPPED: ChoppedTikiTaka,
    DYNAMIC: AGAD,
    RESIDUAL: ResidualLearning,
}
_TRANSFERS = {  # knobs of arrays that transfer, and their attributes
    "transfer_columns": "columns",
    "transfer_rate": "transfer_rate",
    "gamma": "gamma",
    "chopper_period": "period",
}
_CHOPPING = ("buffer_rank", "transfer_columns", "transfer_rate", "chopper_period")
_OF_TIKI = ("transfer_columns", "transfer_rate", "gamma")
OF_ALGORITHM = {  # its own knobs
    DIRECT: (),
    MIXED: ("buffer_rank",),
    TIKI: _OF_TIKI,
    BUFFERED: ("buffer_rank", *_OF_TIKI),
    CHOPPED: _CHOPPING,
    DYNAMIC: _CHOPPING,
    RESIDUAL: ("residual_arrays", *_OF_TIKI),
}
# knobs whose change makes new arrays
PROGRAMMED = {"device", "algorithm", "buffer_rank", "residual_arrays", "reference_spread"}
_SEVERAL = {"levels", "drift"}  # knobs that set other parameters of a device


def applies(name: str, device: Device) -> bool:
    """Whether the device or its response has that nonideality."""
    return name in _SEVERAL or hasattr(device, name)


def overridden(preset: Device, knobs: Mapping[str, Any]) -> Device:
    """``preset`` with the nonidealities in ``knobs`` that are not None.

    Raises
    ------
    ValueError
        If one of them does not apply to the preset's response, or is not allowed.
    """
    changes = {name: value for name, value in knobs.items() if value is not None}
    if not_its_own := sorted(name for name in changes if not applies(name, preset)):
        raise ValueError(
            f"{not_its_own[0]} does not apply to {preset.name}, whose response is "
            f"{type(preset.response).__name__}; leave it at the preset's."
        )
    if (levels := changes.pop("levels", None)) is not None:
        changes |= {"levels_up": levels, "levels_down": levels}
    if (nu := changes.pop("drift", None)) is not None:
        changes["retention"] = PowerLawDrift(nu=nu) if nu > 0 else None
    return replace(preset, **changes)


def in_force(device: Device, names: Iterable[str]) -> dict[str, float]:
    """The values of those nonidealities that apply to ``device``."""
    values = {name: getattr(device, name, None) for name in names if applies(name, device)}
    return values | {"levels": device.levels_up, "drift": getattr(device.retention, "nu", 0.0)}


def own_device(device: Device | str, digital: str) -> Device | None:
    """The device that a knob holds or names, unless it is a preset's name or plain weights."""
    if isinstance(device, Device):
        return device
    return None if device == digital or is_preset(device) else get_device(device)


def device_text(device: Device) -> str:
    """The whole device as JSON, its provenance included.

    Raises
    ------
    ValueError
        If its response or retention is none of the toolkit's own.
    """
    return json.dumps(device_mapping(device), sort_keys=True)


def device_of_text(text: str) -> Device:
    """The device of a :func:`device_text`.

    Raises
    ------
    ValueError
        If ``text`` holds no device.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it must be a mapping")
        return device_of(content)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"the stored device cannot be read: {shortened(str(error))}") from None


def coding(knobs: Mapping[str, Any]) -> Coding:
    """The coding that turns wanted changes into pulses."""
    return make_coding(knobs["coding"], bit_length=knobs["bit_length"])


def periphery(knobs: Mapping[str, Any]) -> Periphery | None:
    """The converters, scaled to the largest magnitude of every vector; None if both are ideal."""
    dac, adc = knobs["dac_bits"], knobs["adc_bits"]
    if dac is None and adc is None:
        return None
    return Periphery(dac=Converter(bits=dac), adc=Converter(bits=adc))


def wires(knobs: Mapping[str, Any]) -> Wires | None:
    """The lines; None if they have no resistance."""
    ohm = knobs["wire_resistance"]
    return Wires(wire_resistance=ohm) if ohm > 0 else None


def new_array(weights: Tensor, knobs: Mapping[str, Any], **given: Any) -> Array:
    """The array, or the arrays, of the algorithm in ``knobs``, with ``weights``.

    ``given`` are the keyword arguments ``device`` and ``seed`` of its ``from_weights``.
    """
    algorithm = knobs["algorithm"]
    given |= {name: knobs[name] for name in ("w_max", "pair", "reference_spread")}
    if "buffer_rank" in OF_ALGORITHM[algorithm]:
        rank = knobs["buffer_rank"]
        given["memory_rank"] = None if rank is None else min(rank, *weights.shape)
    if algorithm == RESIDUAL:
        given["arrays"] = knobs["residual_arrays"]
    array: Array = ALGORITHMS[algorithm].from_weights(weights, **given)
    set_array(array, knobs)
    return array


def set_array(array: Any, knobs: Mapping[str, Any]) -> None:
    """Give an array the transfers, and each of its crossbars the coding, converters and wires."""
    if isinstance(array, TikiTaka):
        for name in _TRANSFERS.keys() & set(OF_ALGORITHM[knobs["algorithm"]]):
            setattr(array, _TRANSFERS[name], knobs[name])
    for part in getattr(array, "parts", [array]):
        part.coding = coding(knobs)
        part.periphery, part.wires = periphery(knobs), wires(knobs)
