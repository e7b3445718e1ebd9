"""A convolution as the matrix of its patches (im2col), and back (col2im), in 1, 2 or 3 dimensions.

Every output position is one sample: its activation is the patch under the kernel, in the order of
``weight.flatten(1)``. In a transposed convolution inputs and outputs exchange their roles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from toolkit.checks import all_finite, check_choice, check_count, check_instance
from toolkit.training.layers.adapters import Adapter, Samples

Sizes = tuple[int, ...]

_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}
_PADDING_MODES["circular"] = "circular"
_CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


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
        if not isinstance(kernel, tuple | list) or len(kernel) not in _CONVOLVE:
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
        return ConvolutionAdapter(self).samples(inputs, errors, bias=bias)

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


class ConvolutionAdapter(Adapter):
    """A convolution in 1, 2 or 3 dimensions: a matrix (outputs, channels x kernel) for each group.

    A row is a filter in the order of ``weight.flatten(1)``.
    """

    kinds: ClassVar[tuple[type[nn.Module], ...]] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    @classmethod
    def of(cls, layer: nn.Module) -> Self:
        """With the layer's geometry."""
        return cls(Geometry.of(layer))

    @property
    def layout(self) -> list[int]:
        """The kernel's size."""
        return list(self.geometry.kernel_size)

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """The filters of each group."""
        return list(weight.flatten(1).chunk(self.geometry.groups))

    def weight(self, matrices: Sequence[Tensor]) -> Tensor:
        """(outputs, channels, *kernel)."""
        filters = matrices[0] if len(matrices) == 1 else torch.cat(list(matrices))
        return filters.reshape(len(filters), -1, *self.geometry.kernel_size)

    def check(self, inputs: Tensor, weight_shape: Sequence[int]) -> None:
        """ValueError unless the inputs are (batch, channels, ...), or one without a batch."""
        self._check_channels(inputs, weight_shape[1] * self.geometry.groups)

    def activations(self, inputs: Tensor, *, bias: bool) -> list[Tensor]:
        """The patches of each group: im2col."""
        padded = self.geometry.padded(self._batched(inputs))
        groups = padded.chunk(self.geometry.groups, dim=1)
        return [Patches.apply(channels, self.geometry, bias) for channels in groups]

    def errors(self, errors: Tensor, inputs: Tensor) -> list[Tensor]:
        """A row for each output position."""
        del inputs
        by_channel = self._batched(errors).transpose(0, 1).flatten(1)
        return [rows.T for rows in by_channel.chunk(self.geometry.groups)]

    def outputs(self, products: Sequence[Tensor], inputs: Tensor, *args: Any) -> Tensor:
        """(batch, channels, *positions)."""
        del args
        batched = self._batched(inputs)
        with torch.no_grad():
            size = self.geometry.output_size(self.geometry.padded(batched[:1, :1]))
        by_position = torch.cat(list(products), dim=1) if len(products) > 1 else products[0]
        outputs = by_position.view(len(batched), *size, by_position.shape[1]).movedim(-1, 1)
        return outputs if self._has_batch(inputs) else outputs[0]

    def exactly(
        self,
        template: nn.Module | None,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *args: Any,
    ) -> Tensor:
        """By torch's convolution: 10 times faster on one thread, wide layers more so."""
        del template, args
        geometry = self.geometry
        check_finite_inputs(inputs)
        batched, borders = self._batched(inputs), geometry.zeros
        outputs: Tensor = _CONVOLVE[geometry.dimensions](
            geometry.padded(batched) if borders is None else batched,
            weight,
            bias,
            geometry.stride,
            borders or 0,
            geometry.dilation,
            geometry.groups,
        )
        return outputs if self._has_batch(inputs) else outputs[0]

    def positions(self, inputs: Tensor, outputs: Tensor) -> int:
        """Those of the output."""
        del inputs
        return math.prod(outputs.shape[-self.geometry.dimensions :])

    def _check_channels(self, inputs: Tensor, channels: int) -> None:
        if inputs.ndim - self.geometry.dimensions not in (1, 2) or (
            self._batched(inputs).shape[1] != channels
        ):
            raise ValueError(
                f"input must be (batch, {channels}, {_AXES[self.geometry.dimensions]}); "
                f"got {tuple(inputs.shape)}"
            )

    def _has_batch(self, inputs: Tensor) -> bool:
        return inputs.ndim == self.geometry.dimensions + 2

    def _batched(self, inputs: Tensor) -> Tensor:
        return inputs if self._has_batch(inputs) else inputs[None]


class TransposedConvolutionAdapter(ConvolutionAdapter):
    """A transposed convolution: a matrix (channels_out x kernel, channels_in) for each group.

    Every input position is one sample. Its outputs are added up where a convolution's patches
    would lie (col2im), and its errors are those patches (im2col). The bias is added to the sum, so
    it is in no array.
    """

    kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    bias_in_array = False

    def __init__(self, geometry: Geometry, more: Sizes = ()) -> None:
        super().__init__(geometry)
        self.more = more or (0,) * geometry.dimensions

    @classmethod
    def of(cls, layer: nn.Module) -> Self:
        """With the geometry and the output padding of the layer."""
        assert isinstance(layer, _ConvTransposeNd)
        return cls(Geometry.of(layer), tuple(layer.output_padding))

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """The transposed filters of each group."""
        return [part.flatten(1).T for part in weight.chunk(self.geometry.groups)]

    def weight(self, matrices: Sequence[Tensor]) -> Tensor:
        """(inputs, channels, *kernel)."""
        return super().weight([matrix.T for matrix in matrices])

    def check(self, inputs: Tensor, weight_shape: Sequence[int]) -> None:
        """ValueError unless the inputs are (batch, channels, ...), or one without a batch."""
        self._check_channels(inputs, weight_shape[0])

    def activations(self, inputs: Tensor, *, bias: bool) -> list[Tensor]:
        """A row for each input position."""
        del bias
        return super().errors(inputs, inputs)

    def errors(self, errors: Tensor, inputs: Tensor) -> list[Tensor]:
        """The patches of the errors."""
        geometry, size = self.geometry, self._size(inputs)
        padded = geometry.padded(self._batched(errors))
        groups = padded.chunk(geometry.groups, dim=1)
        return [geometry.patches(channels, bias=False, size=size) for channels in groups]

    def outputs(self, products: Sequence[Tensor], inputs: Tensor, *args: Any) -> Tensor:
        """(batch, channels, *positions), each the sum of the patches over it."""
        geometry, size = self.geometry, self._size(inputs)
        channels = products[0].shape[1] // math.prod(geometry.kernel_size)
        spans = (geometry.kernel_size, geometry.stride, geometry.dilation, size)
        least = [s * (n - 1) + d * (k - 1) + 1 for k, s, d, n in zip(*spans, strict=True)]
        sides = [n + more for n, more in zip(least, self._more(least, *args), strict=True)]
        shape = (len(self._batched(inputs)), channels, *sides)
        folded = [Folded.apply(product, geometry, shape, size) for product in products]
        outputs = geometry.cropped(torch.cat(folded, dim=1))
        return outputs if self._has_batch(inputs) else outputs[0]

    def with_own_bias(self, outputs: Tensor, bias: Tensor) -> Tensor:
        """One number a channel."""
        return outputs + bias.view(-1, *(1,) * self.geometry.dimensions)

    def exactly(
        self,
        template: nn.Module | None,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *args: Any,
    ) -> Tensor:
        """By torch's own layer."""
        check_finite_inputs(inputs)
        return Adapter.exactly(self, template, inputs, weight, bias, *args)

    def positions(self, inputs: Tensor, outputs: Tensor) -> int:
        """Those of the input."""
        return super().positions(outputs, inputs)

    def _size(self, inputs: Tensor) -> Sizes:
        return tuple(inputs.shape[-self.geometry.dimensions :])

    def _more(
        self, least: Sequence[int], output_size: Sequence[int] | None = None
    ) -> Sequence[int]:
        """Rows after the last patch, of the layer or for the output size that a call asks for."""
        if output_size is None:
            return list(self.more)
        borders = [sum(sides) for sides in zip(*self.geometry._sides, strict=True)]
        wanted = list(output_size)[-len(least) :]
        return [n - (span - b) for n, span, b in zip(wanted, least, borders, strict=True)]


def check_finite_inputs(inputs: Tensor) -> None:
    """ValueError for a NaN or an infinity, as a read of an array gives."""
    if not all_finite(inputs):
        raise ValueError("inputs must be finite; got NaN or infinite entries")


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
