"""A convolution as the matrix of its patches (im2col), and back (col2im), in 1, 2 or 3 dimensions.

Every output position is one sample: its activation is the patch under the kernel, in the order of
``weight.flatten(1)``. What is done with the matrix is not decided here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from toolkit.checks import check_choice, check_count, check_instance
from toolkit.lowrank.estimator import Streamed
from toolkit.training.layers.adapters import Samples

Sizes = tuple[int, ...]

_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}
_PADDING_MODES["circular"] = "circular"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the patches of a convolution lie, in as many dimensions as ``kernel_size`` has.

    Parameters
    ----------
    kernel_size, stride, dilation
        (vertical, horizontal) in two dimensions, as in :class:`torch.nn.Conv2d`. A stride or
        dilation that is left out is 1.
    padding
        Pixels added (left, right, top, bottom), last dimension first, as
        :func:`torch.nn.functional.pad` takes them; none if left out.
    padding_mode
        "zeros", "reflect", "replicate" or "circular".
    groups
        Groups of channels; each has a matrix of its own.
    """

    kernel_size: Sizes
    stride: Sizes = ()
    padding: Sizes = ()
    dilation: Sizes = ()
    padding_mode: str = "zeros"
    groups: int = 1

    def __post_init__(self) -> None:
        kernel = self.kernel_size
        if not isinstance(kernel, tuple | list) or len(kernel) not in (1, 2, 3):
            raise TypeError(f"kernel_size must be one to three whole numbers; got {kernel!r}")
        for name, count, least in (
            ("kernel_size", 1, 1),
            ("stride", 1, 1),
            ("dilation", 1, 1),
            ("padding", 2, 0),
        ):
            values = getattr(self, name)
            if values == ():
                values = (least,) * (count * len(kernel))
                object.__setattr__(self, name, values)
            if not isinstance(values, tuple | list) or len(values) != count * len(kernel):
                raise TypeError(
                    f"kernel_size and {name} must fit: {len(kernel)} and {count * len(kernel)} "
                    f"whole numbers; got {kernel} and {values!r}"
                )
            for value in values:
                check_count(name, value, least)
        check_choice("padding_mode", self.padding_mode, _PADDING_MODES)
        check_count("groups", self.groups)

    @classmethod
    def of(cls, layer: nn.Module) -> Geometry:
        """The geometry of a torch layer, ``padding="same"`` and "valid" included."""
        check_instance("layer", layer, _ConvNd, "a Conv1d, Conv2d, Conv3d or a transposed one")
        assert isinstance(layer, _ConvNd)
        dimensions = layer.weight.ndim - 2
        kernel_size, dilation = (_sizes(v, dimensions) for v in (layer.kernel_size, layer.dilation))
        return cls(
            kernel_size=kernel_size,
            stride=_sizes(layer.stride, dimensions),
            padding=_borders(layer.padding, kernel_size, dilation),
            dilation=dilation,
            padding_mode=layer.padding_mode,
            groups=layer.groups,
        )

    def torch_knobs(self) -> dict[str, Any]:
        """Keyword arguments of a :class:`torch.nn.Conv2d` of this geometry, or of its like."""
        before, after = self._sides
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": before if before == after else "same",
            "dilation": self.dilation,
            "padding_mode": self.padding_mode,
            "groups": self.groups,
        }

    @property
    def dimensions(self) -> int:
        """1, 2 or 3."""
        return len(self.kernel_size)

    @property
    def zeros(self) -> Sizes | None:
        """Zeros on either side of each dimension, if torch's convolution can add them."""
        before, after = self._sides
        is_plain = self.padding_mode == "zeros" and before == after
        return before if is_plain or not any(self.padding) else None

    @property
    def _sides(self) -> tuple[Sizes, Sizes]:
        """Borders before and after, first dimension first."""
        return tuple(self.padding[-2::-2]), tuple(self.padding[::-2])

    def padded(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) with its borders."""
        if not any(self.padding):
            return inputs
        return functional.pad(inputs, self.padding, mode=_PADDING_MODES[self.padding_mode])

    def cropped(self, padded: Tensor) -> Tensor:
        """The same without its borders."""
        for axis, (before, after) in enumerate(zip(*self._sides, strict=True), start=2):
            padded = padded.narrow(axis, before, padded.shape[axis] - before - after)
        return padded

    def output_size(self, padded: Tensor) -> Sizes:
        """(height, width) of the output for padded inputs. ValueError if no patch fits."""
        size = tuple(
            (padded.shape[i - self.dimensions] - self.dilation[i] * (kernel - 1) - 1)
            // self.stride[i]
            + 1
            for i, kernel in enumerate(self.kernel_size)
        )
        if min(size) < 1:
            raise ValueError(
                f"inputs must be at least as large as the kernel {self.kernel_size} with dilation "
                f"{self.dilation}; got {tuple(padded.shape[-self.dimensions :])} with padding"
            )
        return size

    def patches(self, padded: Tensor, *, bias: bool, size: Sizes | None = None) -> Tensor:
        """(batch * positions, features), with bias a column of ones after them.

        ``padded`` holds the channels of one group; ``size`` is that of the output, all that fits
        if left out. Allocates the matrix once and nothing else; it lies in memory feature by
        feature, which is several times faster than sample by sample.
        """
        batch, channels = padded.shape[:2]
        size = size or self.output_size(padded)
        features = channels * math.prod(self.kernel_size)
        matrix = padded.new_empty(features + bias, batch * math.prod(size))
        matrix[features:] = 1.0
        by_place = matrix[:features].view(channels, *self.kernel_size, batch, *size)
        by_place.copy_(self._windows(padded, size))
        return matrix.T

    def streamed(self, padded: Tensor, samples: int, *, bias: bool) -> Streamed:
        """The rows of :meth:`patches`, (samples, features), made as they are read."""
        each = samples // max(len(padded), 1)

        def make(start: int, stop: int) -> Tensor:
            first, last = start // each, -(-stop // each)
            rows = self.patches(padded[first:last], bias=bias)
            return rows[start - first * each : stop - first * each]

        features = padded.shape[1] * math.prod(self.kernel_size) + bias
        return Streamed((samples, features), padded, bias, make)

    def folded(self, matrix: Tensor, shape: Sequence[int], *, size: Sizes | None = None) -> Tensor:
        """Add (batch * positions, features) up where the patches lay: padded inputs of ``shape``.

        The adjoint of :meth:`patches`; what is in a column of ones is left out.
        """
        batch, channels, *sides = shape
        total = matrix.new_zeros(batch, *sides, channels)
        size = size or self.output_size(total.movedim(-1, 1))
        features = channels * math.prod(self.kernel_size)
        by_place = matrix[:, :features].view(batch, *size, channels, *self.kernel_size)
        kernel = tuple(range(self.dimensions))
        by_place = by_place.movedim(tuple(axis - self.dimensions for axis in kernel), kernel)
        windows = self._windows(total.movedim(-1, 1), size).movedim(0, -1)
        for place in itertools.product(*map(range, self.kernel_size)):
            windows[place] += by_place[place]
        return total.movedim(-1, 1)

    def samples(self, inputs: Tensor, errors: Tensor, *, bias: bool) -> list[Samples]:
        """(errors, activations) of one call, one pair for each group.

        ``inputs`` (batch, channels_in, height, width) without their borders, ``errors``
        (batch, channels_out, height_out, width_out). Stacked over groups,
        ``errors.T @ activations`` is autograd's ``weight.grad.flatten(1)``, with bias the bias's
        gradient beside it.
        """
        groups = self.padded(inputs).chunk(self.groups, dim=1)
        by_channel = errors.transpose(0, 1).flatten(1).chunk(self.groups)
        return [
            (rows.T, self.patches(channels, bias=bias))
            for rows, channels in zip(by_channel, groups, strict=True)
        ]

    def _windows(self, padded: Tensor, size: Sizes) -> Tensor:
        """View (channels, *kernel, batch, *size): one entry for each in a patch."""
        batch, channels = padded.shape[:2]
        by_batch, by_channel, *along = padded.stride()
        within = [step * d for step, d in zip(along, self.dilation, strict=True)]
        between = [step * s for step, s in zip(along, self.stride, strict=True)]
        strides = (by_channel, *within, by_batch, *between)
        shape = (channels, *self.kernel_size, batch, *size)
        return padded.as_strided(shape, strides, padded.storage_offset())


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


class Folded(torch.autograd.Function):
    """:meth:`Geometry.folded`, whose backward is :meth:`Geometry.patches`; keeps no tensor."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, geometry: Geometry, shape: Sequence[int], size: Sizes
    ) -> Tensor:
        """Samples of one group to padded outputs."""
        ctx.geometry, ctx.size = geometry, size
        return geometry.folded(matrix, shape, size=size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Errors of padded outputs to errors of samples."""
        return ctx.geometry.patches(gradients[0], bias=False, size=ctx.size), None, None, None


def _sizes(value: Any, dimensions: int) -> Sizes:
    return (value,) * dimensions if isinstance(value, int) else tuple(value)


def _borders(padding: Any, kernel_size: Sizes, dilation: Sizes) -> Sizes:
    """(left, right, top, bottom); "same" puts an odd pixel right and below, as torch does."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        pairs = [(n // 2, n - n // 2) for n in total]
    else:
        pairs = [(n, n) for n in _sizes(padding, len(kernel_size))]
    return tuple(side for pair in reversed(pairs) for side in pair)
