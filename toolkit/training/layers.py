"""A linear layer whose weights live in an array, and whose weight gradient is never formed.

Forward reads the array, backward reads it transposed and keeps (errors, activations) for whoever
estimates the gradient. The arrays are ``toolkit.crossbar``'s; ``experiment.py`` updates them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.crossbar import Crossbar, DigitalArray

Array = Crossbar | DigitalArray


class CrossbarLinear(nn.Module):
    """``y = W [x, 1]^T``; ``array`` holds W (outputs, inputs + 1), the bias as its last column.

    After ``loss.backward()``, ``errors`` (batch, outputs) and ``activations`` (batch, inputs + 1)
    hold what the weight gradient ``errors.T @ activations`` would be made of.
    """

    def __init__(self, array: Array) -> None:
        super().__init__()
        self.array = array
        self.errors: Tensor | None = None
        self.activations: Tensor | None = None
        # autograd calls backward only where something asks for a gradient
        self.anchor = torch.zeros((), device=array.weights.device, requires_grad=True)

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs + 1): the shape of the array."""
        rows, columns = self.array.weights.shape
        return rows, columns

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs)."""
        return _ArrayProduct.apply(with_bias(inputs), self.anchor, self)


class _ArrayProduct(torch.autograd.Function):
    """The array's product; its backward is the transposed read and never a dense gradient."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, _anchor: Tensor, layer: CrossbarLinear) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(activations)
        return layer.array.read(activations)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        layer, (errors,) = ctx.layer, gradients
        (activations,) = ctx.saved_tensors
        layer.errors, layer.activations = errors, activations.detach()  # not their graph
        wanted = ctx.needs_input_grad[0]
        return (layer.array.read_transposed(errors) if wanted else None), None, None


def with_bias(inputs: Tensor) -> Tensor:
    """(batch, n) -> (batch, n + 1): the bias is one more input that is always 1."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)


def initial_weights(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Weights and bias (outputs, inputs + 1), uniform in ±1/sqrt(inputs) like torch's Linear."""
    weights = torch.empty(outputs, inputs + 1)
    bound = 1 / math.sqrt(inputs)
    return weights.uniform_(-bound, bound, generator=generator)
