"""A budget's plan as a YAML file: network, chip, methods, training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
import xarray as xr

from toolkit.budget.budget import Chip, compare
from toolkit.budget.layers import Layer, layers_of, read_layers
from toolkit.budget.prices import read_prices
from toolkit.checks import check_choice, check_count, check_instance
from toolkit.crossbar import device_names, get_device
from toolkit.plain_yaml import open_plain_yaml
from toolkit.training import Dataset, make_model, model_names

_TRAINING = ("methods", "rank", "batch_size", "block_size", "samples")
_CHIP = tuple(field.name for field in fields(Chip))


def read_budget(path: str | os.PathLike[str]) -> xr.Dataset:
    """The budgets that a YAML file asks for.

    It holds ``network``, a list of layers or ``{model: lenet, shape: [1, 28, 28], classes: 10}``
    with one of :func:`~toolkit.training.model_names` (and ``hidden``, its widths), ``device`` by
    name and, where they are not the defaults, any argument of :class:`Chip` and of
    :func:`compare`, and ``prices``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If there is no such file, or something in it is not allowed; it is named.
    """
    found = open_plain_yaml(path)
    allowed = ("network", *_CHIP, *_TRAINING, "prices")
    if not isinstance(found, dict) or not {"network", "device"} <= set(found):
        raise ValueError(f"{str(path)!r} must hold network and device")
    if unknown := sorted(set(found) - set(allowed), key=str):
        raise ValueError(f"{str(path)!r} has {unknown[0]!r}; allowed: {', '.join(allowed)}")
    chip = {name: found[name] for name in _CHIP if name in found}
    chip["device"] = get_device(check_choice("device", chip["device"], device_names()))
    if isinstance(chip.get("array_size"), list):
        chip["array_size"] = tuple(chip["array_size"])
    arguments = {name: found[name] for name in _TRAINING if name in found}
    prices = read_prices(found.get("prices"))
    return compare(read_network(found["network"]), Chip(**chip), prices=prices, **arguments)


def read_network(given: Any) -> list[Layer]:
    """Layers from a list of them, or from ``{model: ..., shape: [...], classes: ...}``.

    ``model`` is one of :func:`~toolkit.training.model_names`; it can have ``hidden``, its widths.

    Raises
    ------
    TypeError, ValueError
        If something in it is not allowed; it is named.
    """
    if not isinstance(given, Mapping):
        return read_layers(given)
    known = {"model", "shape", "classes", "hidden"}
    if not {"model", "shape", "classes"} <= set(given) <= known:
        raise ValueError(
            "network must be layers, or have model, shape, classes and may have hidden; "
            f"got {', '.join(map(str, given))}"
        )
    check_choice("model", given["model"], model_names())
    check_instance("shape", given["shape"], list, "the sizes of one input")
    if not given["shape"]:
        raise ValueError("shape must have the sizes of one input; got none")
    shape = tuple(check_count("shape", size) for size in given["shape"])
    classes = check_count("classes", given["classes"], 2)
    inputs, labels = torch.zeros(classes, torch.Size(shape).numel()), torch.arange(classes)
    data = Dataset(
        "shape",
        inputs,
        labels,
        inputs,
        labels,
        classes=classes,
        image_shape=shape if len(shape) == 3 else None,
    )
    hidden = given.get("hidden")
    model = make_model(given["model"], data, hidden=hidden, generator=torch.Generator())
    return layers_of(model, (inputs.shape[1],))
