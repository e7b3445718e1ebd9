"""What a layer saw in one batch, as (errors, activations) samples for an estimator.

Gathering the inputs and the gradients of the outputs is the caller's business.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from toolkit.checks import check_count, check_flag, check_instance, check_pair

__all__ = ["conv2d_samples", "layer_samples", "linear_samples"]

Samples = tuple[Tensor, Tensor]


def linear_samples(inputs: Tensor, output_errors: Tensor, *, bias: bool = False) -> Samples:
    """Return the samples of a linear layer.

    Parameters
    ----------
    inputs : Tensor, shape (..., n)
        What the layer was given.
    output_errors : Tensor, shape (..., m)
        Gradient of the loss with respect to the layer's output.
    bias : bool
        Append a column of ones to the activations: the bias is the weight of an input that is
        always 1, and its gradient the last column of ``errors.T @ activations``.

    Returns
    -------
    errors : Tensor, shape (samples, m)
    activations : Tensor, shape (samples, n) or, with bias, (samples, n + 1)
        ``errors.T @ activations`` equals autograd's ``weight.grad`` (with the bias's beside it).

    Raises
    ------
    ValueError
        If the leading dimensions differ.
    """
    _check_tensors(inputs, output_errors)
    check_flag("bias", bias)
    if inputs.shape[:-1] != output_errors.shape[:-1]:
        raise ValueError(
            f"inputs and output_errors must agree but for the last dimension; "
            f"got {tuple(inputs.shape)} and {tuple(output_errors.shape)}"
        )
    activations = inputs.reshape(-1, inputs.shape[-1])
    return output_errors.reshape(-1, output_errors.shape[-1]), _with_ones(activations, bias)


def conv2d_samples(
    inputs: Tensor,
    output_errors: Tensor,
    *,
    kernel_size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    bias: bool = False,
) -> list[Samples]:
    """Return the samples of a two-dimensional convolution, one pair for each group.

    A convolution is its im2col matrix: each output position is one sample, whose activation is
    the patch under the kernel and whose error is that position's column of output errors.

    Parameters
    ----------
    inputs : Tensor, shape (batch, channels_in, height, width)
    output_errors : Tensor, shape (batch, channels_out, height_out, width_out)
        Gradient of the loss with respect to the layer's output.
    kernel_size, stride, padding, dilation : pairs of int
        As in :class:`torch.nn.Conv2d`, with zero padding.
    groups : int
        As in :class:`torch.nn.Conv2d`; each group is a matrix of its own.
    bias : bool
        Append a column of ones to the activations, see :func:`linear_samples`.

    Returns
    -------
    list of (errors, activations), one for each group
        errors (batch * height_out * width_out, channels_out / groups), activations
        (batch * height_out * width_out, channels_in / groups * kernel height * kernel width, + 1
        with bias). Stacked over the groups, ``errors.T @ activations`` equals autograd's
        ``weight.grad.flatten(1)``.

    Raises
    ------
    ValueError
        If the numbers of output positions do not agree, or the channels cannot be grouped.
    """
    _check_tensors(inputs, output_errors)
    check_pair("kernel_size", kernel_size)
    check_pair("stride", stride)
    check_pair("padding", padding, 0)
    check_pair("dilation", dilation)
    check_count("groups", groups)
    check_flag("bias", bias)
    if inputs.ndim != 4 or output_errors.ndim != 4:
        raise ValueError(
            f"inputs and output_errors must be (batch, channels, height, width); "
            f"got {tuple(inputs.shape)} and {tuple(output_errors.shape)}"
        )
    if inputs.shape[1] % groups or output_errors.shape[1] % groups:
        raise ValueError(
            f"groups must divide the {inputs.shape[1]} and {output_errors.shape[1]} channels; "
            f"got {groups}"
        )
    patches = nn.functional.unfold(inputs, kernel_size, dilation, padding, stride)
    columns = output_errors.flatten(2)
    if (patches.shape[0], patches.shape[2]) != (columns.shape[0], columns.shape[2]):
        raise ValueError(
            f"output_errors must have {patches.shape[2]} positions for {patches.shape[0]} "
            f"inputs; got {columns.shape[2]} for {columns.shape[0]}"
        )
    return [
        (_as_samples(errors), _with_ones(_as_samples(activations), bias))
        for errors, activations in zip(
            columns.chunk(groups, dim=1), patches.chunk(groups, dim=1), strict=True
        )
    ]


def layer_samples(layer: nn.Module, inputs: Tensor, output_errors: Tensor) -> list[Samples]:
    """Return the samples of a :class:`torch.nn.Linear` or :class:`torch.nn.Conv2d` layer.

    The column of ones is there exactly if the layer has a bias. TypeError for any other layer,
    ValueError for a convolution whose padding is not by zeros.
    """
    has_bias = getattr(layer, "bias", None) is not None
    if isinstance(layer, nn.Linear):
        return [linear_samples(inputs, output_errors, bias=has_bias)]
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"layer must be a Linear or a Conv2d; got {type(layer).__name__}")
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            f"layer must be padded by a number of zeros; "
            f"got padding {layer.padding!r}, mode {layer.padding_mode!r}"
        )
    geometry: dict[str, Any] = {
        name: getattr(layer, name)
        for name in ("kernel_size", "stride", "padding", "dilation", "groups")
    }
    return conv2d_samples(inputs, output_errors, bias=has_bias, **geometry)


def _check_tensors(inputs: Tensor, output_errors: Tensor) -> None:
    check_instance("inputs", inputs, Tensor, "a torch.Tensor")
    check_instance("output_errors", output_errors, Tensor, "a torch.Tensor")


def _as_samples(columns: Tensor) -> Tensor:
    """(batch, features, positions) to (batch * positions, features)."""
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _with_ones(activations: Tensor, bias: bool) -> Tensor:
    if not bias:
        return activations
    return torch.cat([activations, activations.new_ones(activations.shape[0], 1)], dim=1)
