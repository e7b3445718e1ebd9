"""A convolution as the matrix of its patches (im2col), and back (col2im).

Every output position is one sample: its activation is the patch under the kernel, in the order of
``weight.flatten(1)``. What is done with the matrix is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.checks import check_choice, check_count, check_instance, check_pair

Pair = tuple[int, int]
Samples = tuple[Tensor, Tensor]

_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}
_PADDING_MODES["circular"] = "circular"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the patches of a two-dimensional convolution lie.

    Parameters
    ----------
    kernel_size, stride, dilation
        (vertical, horizontal), as in :class:`torch.nn.Conv2d`.
    padding
        Pixels added (left, right, top, bottom), as :func:`torch.nn.functional.pad` takes them.
    padding_mode
        "zeros", "reflect", "replicate" or "circular".
    groups
        Groups of channels; each has a matrix of its own.
    """

    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    padding_mode: str = "zeros"
    groups: int = 1

    def __post_init__(self) -> None:
        check_pair("kernel_size", self.kernel_size)
        check_pair("stride", self.stride)
        check_pair("dilation", self.dilation)
        if not isinstance(self.padding, tuple | list) or len(self.padding) != 4:
            raise TypeError(f"padding must be four whole numbers; got {self.padding!r}")
        for border in self.padding:
            check_count("padding", border, 0)
        check_choice("padding_mode", self.padding_mode, _PADDING_MODES)
        check_count("groups", self.groups)

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry:
        """The geometry of a torch layer, ``padding="same"`` and "valid" included."""
        check_instance("layer", layer, nn.Conv2d, "a Conv2d")
        kernel_size, dilation = _pair(layer.kernel_size), _pair(layer.dilation)
        return cls(
            kernel_size=kernel_size,
            stride=_pair(layer.stride),
            padding=_borders(layer.padding, kernel_size, dilation),
            dilation=dilation,
            padding_mode=layer.padding_mode,
            groups=layer.groups,
        )

    def torch_knobs(self) -> dict[str, Any]:
        """Keyword arguments of a :class:`torch.nn.Conv2d` of this geometry."""
        left, right, top, bottom = self.padding
        is_even = left == right and top == bottom
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": (top, left) if is_even else "same",
            "dilation": self.dilation,
            "padding_mode": self.padding_mode,
            "groups": self.groups,
        }

    @property
    def zeros(self) -> Pair | None:
        """(vertical, horizontal) zeros on either side, if torch's convolution can add them."""
        left, right, top, bottom = self.padding
        is_plain = self.padding_mode == "zeros" and left == right and top == bottom
        return (top, left) if is_plain or not any(self.padding) else None

    def padded(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) with its borders."""
        if not any(self.padding):
            return inputs
        return functional.pad(inputs, self.padding, mode=_PADDING_MODES[self.padding_mode])

    def output_size(self, padded: Tensor) -> Pair:
        """(height, width) of the output for padded inputs. ValueError if no patch fits."""
        size = tuple(
            (padded.shape[-2 + i] - self.dilation[i] * (self.kernel_size[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in range(2)
        )
        if min(size) < 1:
            raise ValueError(
                f"inputs must be at least as large as the kernel {self.kernel_size} with dilation "
                f"{self.dilation}; got {tuple(padded.shape[-2:])} with padding"
            )
        return size[0], size[1]

    def patches(self, padded: Tensor, *, bias: bool) -> Tensor:
        """(batch * positions, features), with bias a column of ones after them.

        ``padded`` holds the channels of one group. Allocates the matrix once and nothing else; it
        lies in memory feature by feature, which is several times faster than sample by sample.
        """
        batch, channels = padded.shape[:2]
        height, width = self.output_size(padded)
        features = channels * self.kernel_size[0] * self.kernel_size[1]
        matrix = padded.new_empty(features + bias, batch * height * width)
        matrix[features:] = 1.0
        by_place = matrix[:features].view(channels, *self.kernel_size, batch, height, width)
        by_place.copy_(self._windows(padded, height, width))
        return matrix.T

    def folded(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """Add (batch * positions, features) up where the patches lay: padded inputs of ``shape``.

        The adjoint of :meth:`patches`; what is in a column of ones is left out.
        """
        batch, channels, *size = shape
        total = matrix.new_zeros(batch, *size, channels)
        height, width = self.output_size(total.permute(0, 3, 1, 2))
        features = channels * self.kernel_size[0] * self.kernel_size[1]
        by_place = matrix[:, :features].view(batch, height, width, channels, *self.kernel_size)
        for i, j in self._places():
            rows = slice(i * self.dilation[0], None, self.stride[0])
            columns = slice(j * self.dilation[1], None, self.stride[1])
            total[:, rows, columns][:, :height, :width] += by_place[..., i, j]
        return total.permute(0, 3, 1, 2)

    def samples(self, inputs: Tensor, errors: Tensor, *, bias: bool) -> list[Samples]:
        """(errors, activations) of one call, one pair for each group.

        ``inputs`` (batch, channels_in, height, width) without their borders, ``errors``
        (batch, channels_out, height_out, width_out). Stacked over groups,
        ``errors.T @ activations`` is autograd's ``weight.grad.flatten(1)``, with bias the bias's
        gradient beside it.
        """
        padded = self.padded(inputs)
        by_channel = errors.transpose(0, 1).flatten(1)
        return [
            (rows.T, self.patches(channels, bias=bias))
            for rows, channels in zip(
                by_channel.chunk(self.groups), padded.chunk(self.groups, dim=1), strict=True
            )
        ]

    def _windows(self, padded: Tensor, height: int, width: int) -> Tensor:
        """View (channels, kernel, kernel, batch, height, width): one entry for each in a patch."""
        batch, channels = padded.shape[:2]
        by_batch, by_channel, by_row, by_column = padded.stride()
        strides = (
            by_channel,
            by_row * self.dilation[0],
            by_column * self.dilation[1],
            by_batch,
            by_row * self.stride[0],
            by_column * self.stride[1],
        )
        shape = (channels, *self.kernel_size, batch, height, width)
        return padded.as_strided(shape, strides, padded.storage_offset())

    def _places(self) -> Iterator[Pair]:
        return ((i, j) for i in range(self.kernel_size[0]) for j in range(self.kernel_size[1]))


class Patches(torch.autograd.Function):
    """:meth:`Geometry.patches`, whose backward is :meth:`Geometry.folded`; keeps no tensor."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, geometry: Geometry, bias: bool) -> Tensor:
        """Padded inputs of one group to samples."""
        ctx.geometry, ctx.shape = geometry, padded.shape
        return geometry.patches(padded, bias=bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Errors of samples to errors of padded inputs."""
        return ctx.geometry.folded(gradients[0], ctx.shape), None, None


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _borders(padding: Any, kernel_size: Pair, dilation: Pair) -> tuple[int, int, int, int]:
    """(left, right, top, bottom); "same" puts an odd pixel right and below, as torch does."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        down, across = (d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True))
        return (across // 2, across - across // 2, down // 2, down - down // 2)
    down, across = _pair(padding)
    return (across, across, down, down)
