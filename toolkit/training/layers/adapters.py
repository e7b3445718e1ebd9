"""Adapters: how each kind of layer is made of products of matrices with samples.

An adapter knows nothing of arrays, gradients or estimators. It says which samples a layer's inputs
make for each of its matrices, and what becomes of the products.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from toolkit.checks import ShapeError, check_signal
from toolkit.lowrank.estimator import Streamed

Samples = tuple[Tensor, Tensor]


class Adapter:
    r"""How a kind of layer with one weight multiplies.

    A layer is one or more matrices :math:`W_i` (outputs, inputs) in whatever shape its weight has:

    .. math:: y = \mathrm{outputs}(A_1 W_1^T, A_2 W_2^T, \dots), \quad
              A_i = \mathrm{activations}(x)

    with one row of :math:`A_i` a sample. ``errors`` is the adjoint of ``outputs``: with
    :math:`D_i = \mathrm{errors}(\partial L/\partial y)`, the gradient of the loss by :math:`W_i` is
    :math:`D_i^T A_i`. For a layer kind of your own write a subclass with ``kinds``, and whichever
    methods differ from a linear layer's, and register it
    (:func:`~toolkit.training.register_adapter`).

    Attributes
    ----------
    kinds
        The module classes that it is for, subclasses with the same ``forward`` included.
    weight_name, bias_name
        Their parameters.
    bias_in_array
        Whether the bias is the weight of one more input that is always 1, in the last column of
        every array. If not, it stays an ordinary parameter that is added at the end.
    is_estimated
        Whether an estimator sees the samples. If not, they are written as they are: factors that
        are few already.
    """

    kinds: ClassVar[tuple[type[nn.Module], ...]] = ()
    weight_name: ClassVar[str] = "weight"
    bias_name: ClassVar[str] = "bias"
    bias_in_array: ClassVar[bool] = True
    is_estimated: ClassVar[bool] = True

    @classmethod
    def of(cls, layer: nn.Module) -> Self:  # noqa: ARG003
        """The adapter of one layer, with what it needs to know of it."""
        return cls()

    @classmethod
    def kind_of(cls, layer: nn.Module) -> type | None:
        """The class of ``kinds`` that the layer is of; None if of none."""
        return next((kind for kind in cls.kinds if isinstance(layer, kind)), None)

    @classmethod
    def refusal(cls, layer: nn.Module) -> str | None:  # noqa: ARG003
        """Why this layer of these kinds cannot be adapted, for a message; None if it can."""
        return None

    @property
    def layout(self) -> list[int] | None:
        """What tells arrays of the same shape with other columns apart, for saved states."""
        return None

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """The weight as matrices (outputs, inputs): views where its memory allows."""
        return [weight]

    def weight(self, matrices: Sequence[Tensor]) -> Tensor:
        """The weight of these matrices: the inverse of :meth:`matrices`."""
        return matrices[0]

    def check(self, inputs: Tensor, weight_shape: Sequence[int]) -> None:
        """ValueError, in the caller's terms, for inputs that do not fit the layer."""

    def activations(self, inputs: Tensor, *, bias: bool) -> list[Tensor]:
        """(samples, inputs) for each matrix, with bias a column of ones after them.

        Differentiable, for layers before this one.
        """
        flat = inputs.reshape(-1, inputs.shape[-1])
        return [with_bias(flat) if bias else flat]

    def errors(self, errors: Tensor, inputs: Tensor) -> list[Tensor]:  # noqa: ARG002
        """(samples, outputs) for each matrix: errors of the layer's outputs for these inputs."""
        return [errors.reshape(-1, errors.shape[-1])]

    def outputs(self, products: Sequence[Tensor], inputs: Tensor, *args: Any) -> Tensor:  # noqa: ARG002
        """The layer's outputs from (samples, outputs) of each matrix.

        ``args`` are whatever else the layer was called with.
        """
        return products[0].reshape(*inputs.shape[:-1], products[0].shape[1])

    def with_own_bias(self, outputs: Tensor, bias: Tensor) -> Tensor:
        """Add a bias that is in no array."""
        return outputs + bias

    def exactly(
        self,
        template: nn.Module | None,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *args: Any,
    ) -> Tensor:
        """What torch computes with these weights, for arrays that read exactly.

        ``template`` is the layer itself without its numbers.
        """
        assert template is not None, "arrays of this kind are made by to_crossbar"
        held = {self.weight_name: weight} | ({} if bias is None else {self.bias_name: bias})
        found: Tensor = functional_call(template, held, (inputs, *args))
        return found

    def positions(self, inputs: Tensor, outputs: Tensor) -> int:  # noqa: ARG002
        """Samples for each network input: those of (batch, ..., features)."""
        return math.prod(outputs.shape[1:-1])

    def samples(self, inputs: Tensor, errors: Tensor, *, bias: bool) -> list[Samples]:
        """(errors, activations) of one call, one pair for each matrix."""
        pairs = zip(self.errors(errors, inputs), self.activations(inputs, bias=bias), strict=True)
        return [(d, a.to(d.dtype)) for d, a in pairs]

    def streams(
        self, inputs: Tensor, errors: Tensor, *, bias: bool
    ) -> Sequence[tuple[Tensor, Tensor | Streamed]]:
        """Like :meth:`samples`, with activations that may be made as they are read."""
        return self.samples(inputs, errors, bias=bias)


class LinearAdapter(Adapter):
    """``y = W [x, 1]^T`` over the last dimension."""

    kinds = (nn.Linear,)

    def check(self, inputs: Tensor, weight_shape: Sequence[int]) -> None:
        """ValueError unless the inputs are (..., inputs)."""
        width = weight_shape[1]
        if inputs.ndim < 1 or inputs.shape[-1] != width:
            raise ShapeError(f"input must have shape (..., {width}); got {tuple(inputs.shape)}")

    def exactly(
        self,
        template: nn.Module | None,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *args: Any,
    ) -> Tensor:
        """By torch's linear layer, without a column of ones."""
        del template, args
        flat = inputs.reshape(-1, inputs.shape[-1])
        (matrix,) = self.matrices(weight)
        check_signal("inputs", flat.detach(), matrix.shape[1])
        outputs = functional.linear(flat, matrix, bias)
        return outputs.reshape(*inputs.shape[:-1], len(matrix))


class TransposedLinearAdapter(LinearAdapter):
    """The ``Conv1D`` of Hugging Face's transformers: a linear layer with weight (inputs, outputs).

    It is known by its name and package, so that transformers need not be installed.
    """

    @classmethod
    def kind_of(cls, layer: nn.Module) -> type | None:
        """The library's class, in whichever of its modules."""
        for kind in type(layer).__mro__:
            if kind.__name__ == "Conv1D" and kind.__module__.split(".")[0] == "transformers":
                return kind
        return None

    def check(self, inputs: Tensor, weight_shape: Sequence[int]) -> None:
        """ValueError unless the inputs are (..., inputs)."""
        super().check(inputs, weight_shape[::-1])

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """Its transpose."""
        return [weight.T]

    def weight(self, matrices: Sequence[Tensor]) -> Tensor:
        """Its transpose."""
        return matrices[0].T


class EmbeddingAdapter(Adapter):
    """Rows of a table by their number: the product with one-hot inputs.

    The matrix is (features, entries). Each entry that occurs in a call is read once and is one
    sample, its errors added up, so ``errors.T @ activations`` writes the columns of those entries
    and no others. There is nothing to estimate.
    """

    kinds = (nn.Embedding,)
    is_estimated = False

    def __init__(self, entries: int, padding: int | None = None, by_frequency: bool = False):
        self.entries, self.padding, self.by_frequency = entries, padding, by_frequency

    @classmethod
    def of(cls, layer: nn.Module) -> Self:
        """With the table's length and options."""
        assert isinstance(layer, nn.Embedding)
        return cls(layer.num_embeddings, layer.padding_idx, layer.scale_grad_by_freq)

    @classmethod
    def refusal(cls, layer: nn.Module) -> str | None:
        """A table that torch rescales while it reads."""
        limited = isinstance(layer, nn.Embedding) and layer.max_norm is not None
        return "its max_norm changes weights in every read" if limited else None

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """Its transpose: (features, entries)."""
        return [weight.T]

    def weight(self, matrices: Sequence[Tensor]) -> Tensor:
        """Its transpose."""
        return matrices[0].T

    def check(self, inputs: Tensor, weight_shape: Sequence[int]) -> None:
        """ValueError unless the inputs are numbers of entries."""
        if inputs.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"input must hold whole numbers; got {inputs.dtype}")
        if inputs.numel() and not 0 <= int(inputs.min()) <= int(inputs.max()) < weight_shape[0]:
            raise ValueError(
                f"input must be between 0 and {weight_shape[0] - 1}; got "
                f"{int(inputs.min())} to {int(inputs.max())}"
            )

    def activations(self, inputs: Tensor, *, bias: bool) -> list[Tensor]:
        """(entries that occur, entries): one-hot."""
        del bias
        found = inputs.unique().long()
        rows = torch.zeros(len(found), self.entries, device=found.device)
        return [rows.scatter_(1, found[:, None], 1.0)]

    def errors(self, errors: Tensor, inputs: Tensor) -> list[Tensor]:
        """(entries that occur, features): sums over where they occur, 0 for the padding entry."""
        found, places, counts = inputs.unique(return_inverse=True, return_counts=True)
        sums = errors.new_zeros(len(found), errors.shape[-1])
        sums.index_add_(0, places.flatten(), errors.reshape(-1, errors.shape[-1]))
        if self.by_frequency:
            sums /= counts[:, None]
        if self.padding is not None:
            sums[found == self.padding] = 0.0
        return [sums]

    def outputs(self, products: Sequence[Tensor], inputs: Tensor, *args: Any) -> Tensor:
        """(..., features), every entry as it was read."""
        del args
        return products[0][inputs.unique(return_inverse=True)[1]]

    def positions(self, inputs: Tensor, outputs: Tensor) -> int:
        """Tokens of a sequence."""
        del outputs
        return math.prod(inputs.shape[1:])


class InPlaceOf(nn.Module):
    """A module in place of one of torch's, whose numbers it holds in another form.

    ``template`` is that layer without its numbers, or None; its attributes (``stride``,
    ``hidden_size``) can be read here.
    """

    template: nn.Module | None

    def __init__(self, template: nn.Module | None = None) -> None:
        super().__init__()
        vars(self)["template"] = template  # no part of this module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            template = vars(self).get("template")
            if template is None or name in {*template._parameters, *template._modules}:
                raise
            found = getattr(template, name)
            if inspect.ismethod(found):
                raise
            return found


def with_bias(inputs: Tensor) -> Tensor:
    """(batch, n) -> (batch, n + 1): the bias is one more input that is always 1."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)


def filled(template: nn.Module, parameters: dict[str, Tensor | None]) -> nn.Module:
    """A copy of what :func:`hollow` gave with these numbers, by the names of its parameters."""
    made = copy.deepcopy(template)
    for name, values in parameters.items():
        if values is not None:
            owner, _, own = name.rpartition(".")
            asks = template.get_parameter(name).requires_grad
            parameter = nn.Parameter(values.detach().clone(), requires_grad=asks)
            setattr(made.get_submodule(owner), own, parameter)
    return made
