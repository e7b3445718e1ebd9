"""Networks by name, made of plain torch layers, with their initial weights.

Every model takes flat inputs (samples, features). ``convert.py`` puts models on crossbars; any
other ``nn.Module`` works as well.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import skip_init

from toolkit.checks import check_choice, check_count, check_instance
from toolkit.training.data.dataset import Dataset, ImageShape
from toolkit.training.layers.modules import initial_weights

Parts = Iterator[tuple[str, nn.Module]]

HE = math.sqrt(6)  # variance 2/inputs, which a ReLU halves: signals keep their size


def make_model(
    name: str,
    dataset: Dataset,
    *,
    hidden: Sequence[int] | None = None,
    generator: torch.Generator,
) -> nn.Sequential:
    """Create a network for ``dataset``: inputs (samples, features) to scores (samples, outputs).

    - ``mlp``: fully connected ReLU layers ``layer1``, ``layer2``, ...; one of 128 by default.
    - ``lenet``: LeNet-5 with ReLU and max pooling (LeCun et al., Proc. IEEE 86:2278, 1998):
      ``conv1`` (6 of 5 x 5, padded to keep the size), ``conv2`` (16 of 5 x 5, also padded if the
      picture is smaller than 12 x 12), then ``fc1``, ``fc2``, ...; 120 and 84 by default.
    - ``vgg``: five 3 x 3 convolutions ``conv1`` ... ``conv5`` with 16, 32, 32, 64 and 64 channels
      in the style of VGG (Simonyan & Zisserman, arXiv:1409.1556), without biases. Batch
      normalisation and ReLU follow each, with max pooling before them in the first, third and
      fifth; no hidden ``fc`` layer by default. 80,218 parameters for CIFAR-10, few enough for one
      core.

    ``hidden`` gives the widths of the hidden fully connected layers. Weights and biases are drawn
    from ``generator`` alone, layer by layer, uniform in ±1/sqrt(inputs) (for a convolution:
    channels times kernel), as in torch. Only weights of convolutional models that a ReLU follows
    are uniform in ±sqrt(6/inputs) (He et al., arXiv:1502.01852): otherwise the five layers of
    LeNet-5 make no progress for epochs, as every layer passes on a sixth of the variance.

    Raises
    ------
    ValueError
        If there is no model with that name, a width is not a whole number of at least 1, or a
        convolutional model gets samples that are not pictures, or too small.
    """
    check_choice("name", name, _MODELS)
    check_instance("dataset", dataset, Dataset, "a Dataset")
    check_instance("generator", generator, torch.Generator, "a torch.Generator")
    if hidden is not None:
        check_instance("hidden", hidden, list | tuple, "a list of widths or None")
        for width in hidden:
            check_count("hidden", width)
    make, usual = _MODELS[name]
    return nn.Sequential(OrderedDict(make(dataset, usual if hidden is None else hidden, generator)))


def model_names() -> list[str]:
    """The names that :func:`make_model` accepts."""
    return list(_MODELS)


def _mlp(dataset: Dataset, hidden: Sequence[int], generator: torch.Generator) -> Parts:
    return _connected("layer", [dataset.features, *hidden, dataset.outputs], generator)


def _lenet(dataset: Dataset, hidden: Sequence[int], generator: torch.Generator) -> Parts:
    channels, height, width = _picture("lenet", dataset, smallest=4)
    padding = 0 if min(height, width) >= 12 else 2
    yield "picture", nn.Unflatten(1, (channels, height, width))
    yield "conv1", _convolution(channels, 6, generator, kernel=5, padding=2)
    yield "conv1_relu", nn.ReLU()
    yield "conv1_pool", nn.MaxPool2d(2)
    yield "conv2", _convolution(6, 16, generator, kernel=5, padding=padding)
    yield "conv2_relu", nn.ReLU()
    yield "conv2_pool", nn.MaxPool2d(2)
    yield "flatten", nn.Flatten()
    rows, columns = ((side // 2 - 4 + 2 * padding) // 2 for side in (height, width))
    widths = [16 * rows * columns, *hidden, dataset.outputs]
    yield from _connected("fc", widths, generator, gain=HE)


def _vgg(dataset: Dataset, hidden: Sequence[int], generator: torch.Generator) -> Parts:
    channels, height, width = _picture("vgg", dataset, smallest=8)
    yield "picture", nn.Unflatten(1, (channels, height, width))
    stages = {1: 16, 2: 32, 3: 32, 4: 64, 5: 64}
    for (_, inputs), (number, outputs) in pairwise([(0, channels), *stages.items()]):
        name = f"conv{number}"
        yield name, _convolution(inputs, outputs, generator, kernel=3, padding=1, bias=False)
        if number in (1, 3, 5):
            yield f"{name}_pool", nn.MaxPool2d(2)  # first: a quarter of the work
        yield f"{name}_norm", nn.BatchNorm2d(outputs)
        yield f"{name}_relu", nn.ReLU()
    yield "flatten", nn.Flatten()
    size = stages[5] * (height // 8) * (width // 8)
    yield from _connected("fc", [size, *hidden, dataset.outputs], generator, gain=HE)


def _picture(model: str, dataset: Dataset, *, smallest: int) -> ImageShape:
    shape = dataset.image_shape
    if shape is None:
        raise ValueError(
            f"model {model} needs pictures, but {dataset.name} has no image_shape; use mlp."
        )
    if min(shape[1:]) < smallest:
        raise ValueError(
            f"model {model} needs pictures of {smallest} x {smallest} or more; those of "
            f"{dataset.name} are {shape[1]} x {shape[2]}."
        )
    return shape


def _connected(
    prefix: str, widths: Sequence[int], generator: torch.Generator, *, gain: float = 1.0
) -> Parts:
    """Linear layers, numbered from 1, with a ReLU between them and ``gain`` before each ReLU."""
    last = len(widths) - 1
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layer = skip_init(nn.Linear, inputs, outputs)
        _draw(layer, generator, gain=gain if number < last else 1.0)
        yield f"{prefix}{number}", layer
        if number < last:
            yield f"{prefix}{number}_relu", nn.ReLU()


def _convolution(
    inputs: int,
    outputs: int,
    generator: torch.Generator,
    *,
    kernel: int,
    padding: int,
    bias: bool = True,
) -> nn.Conv2d:
    layer = skip_init(nn.Conv2d, inputs, outputs, kernel, padding=padding, bias=bias)
    _draw(layer, generator, gain=HE)
    return layer


@torch.no_grad()
def _draw(layer: nn.Linear | nn.Conv2d, generator: torch.Generator, *, gain: float) -> None:
    """Draw a layer's initial weights; the bias is drawn whether or not the layer has one."""
    weights = initial_weights(len(layer.weight), layer.weight[0].numel(), generator)
    layer.weight.copy_(gain * weights[:, :-1].view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(weights[:, -1])


Maker = Callable[[Dataset, Sequence[int], torch.Generator], Parts]
_MODELS: dict[str, tuple[Maker, tuple[int, ...]]] = {
    "mlp": (_mlp, (128,)),
    "lenet": (_lenet, (120, 84)),
    "vgg": (_vgg, ()),
}
