"""The matrices of a network, as a budget needs them: outputs, inputs, samples of each."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.checks import check_count, check_instance
from toolkit.training.layers.capture import PlainLayer, adapter_of, matrix_layers
from toolkit.training.layers.convert import expanded
from toolkit.training.layers.updates import matrix_shapes

_MOST = 10**9


@dataclass(frozen=True)
class Layer:
    """One weight matrix of a network.

    Parameters
    ----------
    name
        Of the layer; ``conv1.group2`` if it has several matrices.
    outputs, inputs
        m and n; a bias that is in the array is one input more.
    positions
        Samples that a network input makes: 1, the output positions of a convolution, or the tokens
        of a sequence.

    Raises
    ------
    TypeError, ValueError
        If the name is not text, or a number is not whole or below 1.
    """

    name: str
    outputs: int
    inputs: int
    positions: int = 1

    def __post_init__(self) -> None:
        check_instance("name", self.name, str, "text")
        for field in ("outputs", "inputs", "positions"):
            check_count(f"{field} of layer {self.name!r}", getattr(self, field), 1, _MOST)


def read_layers(rows: Iterable[Layer | Mapping[str, Any]]) -> list[Layer]:
    """Layers from a table: mappings with name, outputs, inputs and, if not 1, positions.

    A pandas DataFrame is given as ``table.to_dict("records")``.

    Raises
    ------
    TypeError, ValueError
        If there are none, two have one name, or a row is not one; the layer is named.
    """
    check_instance("network", rows, Iterable, "a model, or layers")
    layers = [row if isinstance(row, Layer) else _layer(row) for row in rows]
    if not layers:
        raise ValueError("network must have layers; got none")
    name, times = Counter(layer.name for layer in layers).most_common(1)[0]
    if times > 1:
        raise ValueError(f"network must have one layer of each name; got {times} named {name!r}")
    return layers


def _layer(row: Any) -> Layer:
    check_instance("network", row, Mapping, "layers {name, outputs, inputs, positions}")
    known = {"name", "outputs", "inputs", "positions"}
    if not {"name", "outputs", "inputs"} <= set(row) <= known:
        raise ValueError(
            "layers of network must have name, outputs, inputs and may have positions; "
            f"got {', '.join(map(str, row))}"
        )
    return Layer(**row)


def layers_of(model: nn.Module, example: Tensor | Sequence[int]) -> list[Layer]:
    """The matrices of a torch model that arrays can hold, with the samples of one input.

    The model runs once on shapes alone, without numbers, so its size does not matter.

    Parameters
    ----------
    model
        Any module. Recurrent layers and attention count by their matrices (``rnn.hh_l0``,
        ``attn.q_proj``); products without a weight are not among its layers.
    example
        The shape of one input, without the batch; or a batch of one, where inputs are whole
        numbers such as tokens.

    Raises
    ------
    TypeError, ValueError
        If the model has no layer that arrays can hold, or does not run on such an input.
    """
    check_instance("model", model, nn.Module, "an nn.Module")
    if not isinstance(example, Tensor):
        check_instance("example", example, Sequence, "the shape of one input, or a tensor")
        sizes = [check_count("example", size) for size in example]
        example = torch.empty(1, *sizes)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError("model must be Python's, not compiled by torch.jit")
    shell = expanded(copy.deepcopy(model).to("meta").eval())
    layers, _ = matrix_layers(shell)
    positions: Counter[str] = Counter()
    hooks = [
        layer.register_forward_hook(_counter(name, layer, positions))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            shell(example.to("meta"))
    except Exception as error:  # whatever a model may raise
        raise ValueError(f"model must run on the example {tuple(example.shape)}: {error}") from None
    finally:
        for hook in hooks:
            hook.remove()
    found = [
        row
        for name, layer in layers.items()
        for row in _rows(name, layer, positions[name] // len(example))
    ]
    if not found:
        raise ValueError("model must have a layer that arrays can hold; it has none that it calls")
    return found


def _counter(name: str, layer: PlainLayer, positions: Counter[str]) -> Any:
    adapter = adapter_of(layer)

    def count(_module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        if adapter.is_estimated:
            positions[name] += len(adapter.errors(outputs, inputs[0])[0])

    return count


def _rows(name: str, layer: PlainLayer, positions: int) -> list[Layer]:
    adapter = adapter_of(layer)
    if not positions:
        return []
    bias = adapter.bias_in_array and layer._parameters.get(adapter.bias_name) is not None
    shapes = matrix_shapes(layer)
    return [
        Layer(name if len(shapes) == 1 else f"{name}.group{i + 1}", m, n + bias, positions)
        for i, (m, n) in enumerate(shapes)
    ]
