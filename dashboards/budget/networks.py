"""Networks that the Budget page knows, and tables of layers as text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from urllib.parse import quote, unquote

import torch
import yaml
from torch import nn

from dashboards.app.settings_text import MAX_YAML_BYTES
from toolkit.budget import Layer, layers_of, read_layers, read_network
from toolkit.checks import check_choice, shown
from toolkit.plain_yaml import read_plain_yaml
from toolkit.training import model_names

MOST_LAYERS = 100
MOST_CHARACTERS = 40  # of a name
_SHAPES = {"digits": [1, 8, 8], "MNIST": [1, 28, 28], "CIFAR-10": [3, 32, 32]}
_VGG11 = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)  # 0 is a pooling
_RESNET18 = (64, 64, 128, 128, 256, 256, 512, 512)  # channels of the blocks


def _lenet5() -> list[Layer]:
    return read_network({"model": "lenet", "shape": [1, 28, 28], "classes": 10})


def _vgg11() -> list[Layer]:
    """Simonyan & Zisserman, arXiv:1409.1556, configuration A."""
    parts: list[nn.Module] = []
    inputs = 3
    for outputs in _VGG11:
        convolution = nn.Conv2d(inputs, outputs or 1, 3, padding=1)
        parts.append(convolution if outputs else nn.MaxPool2d(2))
        inputs = outputs or inputs
    with torch.device("meta"):  # no weights, only shapes
        widths = [nn.Linear(n, m) for n, m in ((25088, 4096), (4096, 4096), (4096, 1000))]
    return _named(layers_of(nn.Sequential(*parts, nn.Flatten(), *widths), (3, 224, 224)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut = nn.Identity() if inputs == outputs else short

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Two convolutions beside a shortcut; normalisation and ReLU change no shape."""
        out: torch.Tensor = self.conv2(self.conv1(pictures)) + self.shortcut(pictures)
        return out


def _resnet18() -> list[Layer]:
    """He et al., arXiv:1512.03385."""
    parts: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False)}
    parts["pool"] = nn.MaxPool2d(3, 2, 1)
    inputs = 64
    for i, outputs in enumerate(_RESNET18):
        parts[f"block{i + 1}"] = _Block(inputs, outputs, 1 if inputs == outputs else 2)
        inputs = outputs
    end = {"mean": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(512, 1000)}
    found = layers_of(nn.Sequential(OrderedDict(parts | end)), (3, 224, 224))
    return [Layer(e.name.replace(".", " "), e.outputs, e.inputs, e.positions) for e in found]


def _transformer() -> list[Layer]:
    """Two blocks of 256 features and 64 tokens; products of queries and keys have no weights."""
    sizes = {"query": (256, 256), "key": (256, 256), "value": (256, 256), "output": (256, 256)}
    sizes |= {"expand": (256, 1024), "contract": (1024, 256)}
    parts = {f"{n}{i}": nn.Linear(*size) for i in (1, 2) for n, size in sizes.items()}
    return layers_of(nn.Sequential(OrderedDict(parts)), (64, 256))


def _named(layers: list[Layer]) -> list[Layer]:
    """Layers of a nameless sequence as conv1, conv2, ..., fc1, ..."""
    kinds = ["fc" if each.positions == 1 else "conv" for each in layers]
    return [
        Layer(f"{kind}{kinds[: i + 1].count(kind)}", each.outputs, each.inputs, each.positions)
        for i, (kind, each) in enumerate(zip(kinds, layers, strict=True))
    ]


def _by_model(model: str, shape: list[int]) -> Callable[[], list[Layer]]:
    return lambda: read_network({"model": model, "shape": shape, "classes": 10})


_NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "VGG-11": _vgg11,
    "LeNet-5": _lenet5,
    "ResNet-18": _resnet18,
    "transformer": _transformer,
} | {
    f"{model}, {data}": _by_model(model, shape)
    for model in model_names()
    for data, shape in _SHAPES.items()
}


def network_names() -> list[str]:
    """The names that :func:`layers_by_name` accepts."""
    return list(_NETWORKS)


@cache
def layers_by_name(name: str) -> tuple[Layer, ...]:
    """The layers of a network; they are computed when first asked for.

    Raises
    ------
    ValueError
        If there is no network of that name.
    """
    check_choice("network", name, _NETWORKS)
    return tuple(_NETWORKS[name]())


# --- text ---------------------------------------------------------------------------------------


def layers_of_yaml(data: bytes) -> tuple[Layer, ...]:
    """The layers in a YAML file: a list of them, or a model's name with its shape.

    Raises
    ------
    ValueError
        If it is too long, or something in it is not allowed; the layer is named.
    """
    if len(data) > MAX_YAML_BYTES:
        raise ValueError(
            f"the table has {len(data):,} bytes; it must have at most {MAX_YAML_BYTES:,}."
        )
    try:
        found = read_plain_yaml(data.decode("utf-8"))
        return checked(read_network(found))
    except TypeError as error:
        raise ValueError(str(error)) from None


def checked(rows: Iterable[Any]) -> tuple[Layer, ...]:
    """Layers, if the page can show so many with such names; ValueError otherwise."""
    layers = read_layers(rows)
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"a table must have at most {MOST_LAYERS} layers; got {len(layers)}")
    for layer in layers:
        if len(layer.name) > MOST_CHARACTERS:
            raise ValueError(
                f"names of layers must have at most {MOST_CHARACTERS} characters; "
                f"got {shown(layer.name)}"
            )
    return tuple(layers)


def yaml_of(layers: Iterable[Layer]) -> str:
    """The table as YAML, one line a layer."""
    rows = [vars(layer) for layer in layers]
    return "".join(
        "- " + yaml.safe_dump(row, sort_keys=False, default_flow_style=True, width=500)
        for row in rows
    )


def query_text(layers: Iterable[Layer]) -> str:
    """The table for a URL: ``name:outputs:inputs:positions,...``."""
    return ",".join(
        f"{quote(e.name, safe='')}:{e.outputs}:{e.inputs}:{e.positions}" for e in layers
    )


def layers_of_query(text: str) -> tuple[Layer, ...]:
    """The layers that :func:`query_text` wrote; ValueError if it is not such a text."""
    return checked([_row(part) for part in text.split(",")])


def _row(text: str) -> Layer:
    name, *sizes = text.rsplit(":", 3)
    if len(sizes) != 3 or not all(size.isascii() and size.isdigit() for size in sizes):
        raise ValueError(f"layers must be name:outputs:inputs:positions; got {shown(text)}")
    if max(map(len, sizes)) > MOST_CHARACTERS:
        raise ValueError(f"sizes of layer {shown(unquote(name))} are too large")
    return Layer(unquote(name), *map(int, sizes))
