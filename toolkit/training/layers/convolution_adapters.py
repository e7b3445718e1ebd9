"""Adapters of convolutions and of transposed ones, whose inputs and outputs exchange roles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvTransposeNd

from toolkit.checks import all_finite
from toolkit.lowrank.estimator import Streamed
from toolkit.training.layers.adapters import Adapter
from toolkit.training.layers.convolution import Folded, Geometry, Patches, Sizes

_CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


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
        return [Patches.apply(part, self.geometry, bias) for part in self._padded_groups(inputs)]

    def errors(self, errors: Tensor, inputs: Tensor) -> list[Tensor]:
        """A row for each output position."""
        del inputs
        by_channel = self._batched(errors).transpose(0, 1).flatten(1)
        return [rows.T for rows in by_channel.chunk(self.geometry.groups)]

    def streams(
        self, inputs: Tensor, errors: Tensor, *, bias: bool
    ) -> Sequence[tuple[Tensor, Tensor | Streamed]]:
        """Patches of as many inputs as an estimator reads at once: a block of im2col."""
        groups = self._padded_groups(inputs.to(errors.dtype))
        pairs = zip(self.errors(errors, inputs), groups, strict=True)
        return [(d, self.geometry.streamed(channels, len(d), bias=bias)) for d, channels in pairs]

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

    def _padded_groups(self, images: Tensor) -> Sequence[Tensor]:
        """The channels of each group, with their borders."""
        return self.geometry.padded(self._batched(images)).chunk(self.geometry.groups, dim=1)

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

    streams = Adapter.streams  # its errors are the patches

    def errors(self, errors: Tensor, inputs: Tensor) -> list[Tensor]:
        """The patches of the errors."""
        size, groups = self._size(inputs), self._padded_groups(errors)
        return [self.geometry.patches(part, bias=False, size=size) for part in groups]

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
