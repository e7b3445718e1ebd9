"""Layers whose weights live in arrays, and whose weight gradient is never formed.

Forward reads the array, backward reads it transposed and keeps (errors, activations) for whoever
estimates the gradient. The arrays are ``toolkit.crossbar``'s; an
:class:`~toolkit.training.Experiment` or :class:`~toolkit.training.LowRankSGD` updates them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from toolkit.checks import all_finite, check_count, check_flag, check_instance, check_signal
from toolkit.crossbar import Array, DigitalArray
from toolkit.crossbar.states import load_whole
from toolkit.training.layers.capture import Capture, attached, positions_of
from toolkit.training.layers.convolution import Geometry, Patches, Samples


class CrossbarLayer(nn.Module):
    """The common part of the layers: arrays, their samples and their state.

    ``arrays`` holds one array of (outputs, inputs) for each group; with ``bias`` the last column
    of each is the bias, the weight of an input that is always 1. ``anchor`` is an empty parameter
    that stands for the arrays: its ``requires_grad`` says whether they are to be trained, its
    device where they are.

    The layers compute in the dtype of their arrays, under autocast too. ``state_dict`` holds the
    arrays whole, random generators included, and loads into a model converted alike.
    """

    def __init__(self, arrays: Sequence[Array], *, bias: bool) -> None:
        super().__init__()
        what = "arrays: crossbars, tiled or not, or digital"
        check_instance("arrays", arrays or None, list | tuple, what)
        for array in arrays:
            check_instance("arrays", array, Array, what)
        check_flag("bias", bias)
        self.arrays = list(arrays)
        self.has_bias = bias
        weights = arrays[0].weights
        self.anchor = nn.Parameter(weights.new_empty(0))
        self.capture = Capture()

    @property
    def geometry(self) -> Geometry | None:
        """Where the patches of a convolution lie; None for a linear layer."""
        return None

    @property
    def weight(self) -> Tensor:
        """A read-only copy of the arrays' weights, in the shape of torch's layer."""
        matrix = torch.cat([array.weights for array in self.arrays])
        weights = matrix[:, : matrix.shape[1] - self.has_bias]
        kernel = () if self.geometry is None else self.geometry.kernel_size
        return self._as_held(weights.reshape(len(weights), -1, *kernel) if kernel else weights)

    @property
    def bias(self) -> Tensor | None:
        """A copy of the arrays' bias, (outputs,); None without a bias."""
        if not self.has_bias:
            return None
        return self._as_held(torch.cat([array.weights[:, -1] for array in self.arrays]))

    def _as_held(self, values: Tensor) -> Tensor:
        held: Tensor = _Held.apply(values, self.anchor)
        return held

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"{name} must not be assigned: the arrays hold it; convert another model, or "
                "program the arrays"
            )
        super().__setattr__(name, value)

    @property
    def samples(self) -> list[Samples]:
        """(errors, activations) of every call that backward went through, one pair for each array.

        ``errors.T @ activations`` is the array's gradient. Errors are (samples, outputs),
        activations (samples, inputs), with the bias's column of ones. Made when asked for: until
        then the layer holds its inputs and its outputs' errors, nothing else. Calls add up until
        :meth:`clear_samples`.
        """
        return self.capture.samples(self.geometry, self.anchor.dtype, self.has_bias)

    def samples_for_later(self) -> Callable[[], list[Samples]]:
        """What gives the present :attr:`samples` when called, even after :meth:`clear_samples`."""
        kept = Capture()
        kept.calls = list(self.capture.calls)
        return lambda: kept.samples(self.geometry, self.anchor.dtype, self.has_bias)

    def clear_samples(self) -> None:
        """Forget the samples, as after an update."""
        self.capture.clear()

    def get_extra_state(self) -> dict[str, Any]:
        """The state of every array, and what its columns are, for ``state_dict``."""
        kernel = None if self.geometry is None else list(self.geometry.kernel_size)
        arrays = [array.state_dict() for array in self.arrays]
        return {"arrays": arrays, "bias": self.has_bias, "kernel_size": kernel}

    def set_extra_state(self, state: Any) -> None:
        """Restore what :meth:`get_extra_state` gave: the same outputs from then on.

        ValueError, and no array changed, if it does not fit.
        """
        load_whole(state, self.get_extra_state, self._load_arrays)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if f"{prefix}weight" in state_dict and f"{prefix}_extra_state" not in state_dict:
            rest[-1].append(
                f"layer {prefix[:-1]!r} is on arrays, and the state is of torch's own layer: load "
                "it before to_crossbar."
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _load_arrays(self, state: Mapping[str, Any]) -> None:
        saved = state["arrays"]
        if state["bias"] != self.has_bias:
            raise ValueError(f"state must be of a layer with bias={self.has_bias}")
        kernel = None if self.geometry is None else list(self.geometry.kernel_size)
        if state["kernel_size"] != kernel:
            raise ValueError(
                f"state must be of a layer with kernel_size {kernel}; got {state['kernel_size']}"
            )
        if len(saved) != len(self.arrays):
            raise ValueError(f"state must be of {len(self.arrays)} arrays; got {len(saved)}")
        for array, one in zip(self.arrays, saved, strict=True):
            array.load_state_dict(one)

    def check_stays(self, fn: Callable[[Tensor], Tensor]) -> None:
        """ValueError if ``fn``, of ``.to`` or the like, would move the layer or cast it."""
        moved, held = fn(self.anchor.detach()), self.anchor
        if (moved.device, moved.dtype) != (held.device, held.dtype):
            raise ValueError(
                f"arrays stay where they were made, on {held.device} in {held.dtype}, and cannot "
                f"become {moved.device}, {moved.dtype}: move the model before to_crossbar, or "
                "to_digital"
            )

    def _apply(self, fn: Any, recurse: bool = True) -> CrossbarLayer:
        self.check_stays(fn)
        super()._apply(fn, recurse)
        return self

    def _read(self, array: Array, activations: Tensor) -> Tensor:
        return _Read.apply(activations, array)

    def extra_repr(self) -> str:
        """Shape, kind of cell and bias."""
        device = self.arrays[0].device
        cells = "digital" if device is None else device.name
        shapes = " + ".join("x".join(map(str, array.shape)) for array in self.arrays[:2])
        more = f" + ... ({len(self.arrays)} arrays)" if len(self.arrays) > 2 else ""
        return f"{shapes}{more}, {cells}, bias={self.has_bias}"


class CrossbarLinear(CrossbarLayer):
    """``y = W [x, 1]^T``; ``array`` holds W (outputs, inputs + 1), the bias as its last column.

    Takes inputs of any leading dimensions, (..., inputs) to (..., outputs). ``bias=False``: W is
    (outputs, inputs). See :class:`CrossbarLayer` for ``samples`` and the rest.
    """

    def __init__(self, array: Array, *, bias: bool = True) -> None:
        check_instance("array", array, Array, "a crossbar, tiled or not, or digital")
        super().__init__([array], bias=bias)

    @property
    def array(self) -> Array:
        """The one array; may be replaced by another of its shape."""
        return self.arrays[0]

    @array.setter
    def array(self, array: Array) -> None:
        check_instance("array", array, Array, "a crossbar, tiled or not, or digital")
        if array.shape != self.arrays[0].shape:
            raise ValueError(f"array must have shape {self.arrays[0].shape}; got {array.shape}")
        self.arrays[0] = array

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs + 1): the shape of the array."""
        return self.array.shape

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        inputs = input  # by torch's name for those who call with it
        check_instance("input", inputs, Tensor, "a torch.Tensor")
        width = self.shape[1] - self.has_bias
        if inputs.ndim < 1 or inputs.shape[-1] != width:
            raise ValueError(f"input must have shape (..., {width}); got {tuple(inputs.shape)}")
        flat = inputs.reshape(-1, inputs.shape[-1]).to(self.anchor.dtype)
        if isinstance(self.array, DigitalArray):
            flat = self._product(flat, self.array.matrix)
        else:
            flat = self._read(self.array, with_bias(flat) if self.has_bias else flat)
        outputs = flat.reshape(*inputs.shape[:-1], flat.shape[1])
        self.capture.positions = positions_of(outputs, convolution=False)
        return self.capture.tap(inputs, outputs, self.anchor)

    def _product(self, inputs: Tensor, matrix: Tensor) -> Tensor:
        """The same with torch's linear layer, without a column of ones."""
        columns = matrix.shape[1] - self.has_bias
        check_signal("inputs", inputs.detach(), columns)
        bias = matrix[:, -1] if self.has_bias else None
        with torch.autocast(inputs.device.type, enabled=False):
            return functional.linear(inputs, matrix[:, :columns], bias)


class CrossbarConv2d(CrossbarLayer):
    """Two-dimensional convolution, one array (outputs, channels x kernel + 1) for each group.

    Every output position is one read of the array: im2col forward, the transposed array and col2im
    backward. A row of an array is a filter in the order of ``weight.flatten(1)``, the bias last.
    Stride, padding ("same" and the other modes too), dilation and groups are those of
    :class:`torch.nn.Conv2d`.

    The patches are held only while the array reads them and, once more, while samples are used;
    in between the layer holds its inputs. :class:`~toolkit.crossbar.DigitalArray` weights, which
    read exactly, are convolved by torch without patches.

    Parameters
    ----------
    arrays
        One for each group.
    geometry
        See :class:`~toolkit.training.Geometry`; ``Geometry.of(conv)`` takes a torch
        layer's.
    bias
        Whether the last column of every array is the bias.

    Raises
    ------
    TypeError, ValueError
        If an array is not one, or their shapes do not fit the geometry.
    """

    def __init__(self, arrays: Sequence[Array], *, geometry: Geometry, bias: bool = True) -> None:
        super().__init__(arrays, bias=bias)
        check_instance("geometry", geometry, Geometry, "a Geometry")
        shapes = {array.shape for array in arrays}
        columns = arrays[0].shape[1] - bias
        if len(arrays) != geometry.groups or len(shapes) > 1:
            raise ValueError(
                f"arrays must be {geometry.groups} of one shape, one for each group; got "
                f"{[array.shape for array in arrays]}"
            )
        if columns < 1 or columns % math.prod(geometry.kernel_size):
            raise ValueError(
                f"arrays must have a multiple of {math.prod(geometry.kernel_size)} columns for "
                f"the kernel {geometry.kernel_size}{' and one for the bias' if bias else ''}; "
                f"got {arrays[0].shape[1]}"
            )
        self._geometry = geometry
        self.in_channels = geometry.groups * columns // math.prod(geometry.kernel_size)

    @property
    def geometry(self) -> Geometry:
        """Where the patches lie."""
        return self._geometry

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels_in, height, width) -> (batch, channels_out, height_out, width_out)."""
        inputs = input  # by torch's name for those who call with it
        check_instance("input", inputs, Tensor, "a torch.Tensor")
        batched = inputs if inputs.ndim == 4 else inputs[None]
        if batched.ndim != 4 or batched.shape[1] != self.in_channels:
            raise ValueError(
                f"input must be (batch, {self.in_channels}, height, width); "
                f"got {tuple(inputs.shape)}"
            )
        batched = batched.to(self.anchor.dtype)
        is_digital = all(isinstance(array, DigitalArray) for array in self.arrays)
        outputs = self._convolved(batched) if is_digital else self._read_patches(batched)
        self.capture.positions = positions_of(outputs, convolution=True)
        outputs = outputs if inputs.ndim == 4 else outputs[0]
        return self.capture.tap(inputs, outputs, self.anchor)

    def _read_patches(self, inputs: Tensor) -> Tensor:
        padded = self._geometry.padded(inputs)
        height, width = self._geometry.output_size(padded)
        outputs = [
            self._read(array, Patches.apply(channels, self._geometry, self.has_bias))
            for array, channels in zip(
                self.arrays, padded.chunk(len(self.arrays), dim=1), strict=True
            )
        ]
        by_position = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
        return by_position.view(len(inputs), height, width, by_position.shape[1]).permute(
            0, 3, 1, 2
        )

    def _convolved(self, inputs: Tensor) -> Tensor:
        """The same by torch's convolution: 10 times faster on one thread, wide layers more so."""
        geometry, matrix = self._geometry, _stacked(self.arrays)
        filters = matrix[:, : matrix.shape[1] - self.has_bias].reshape(
            len(matrix), -1, *geometry.kernel_size
        )
        check_finite_inputs(inputs)
        borders = geometry.zeros
        with torch.autocast(inputs.device.type, enabled=False):
            return functional.conv2d(
                geometry.padded(inputs) if borders is None else inputs,
                filters,
                matrix[:, -1] if self.has_bias else None,
                geometry.stride,
                borders or 0,
                geometry.dilation,
                geometry.groups,
            )


class _Read(torch.autograd.Function):
    """The array's product; backward is the transposed read. Keeps no tensor."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, array: Array) -> Tensor:
        ctx.array = array
        with torch.autocast(activations.device.type, enabled=False):
            return array.read(activations)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.array.read_transposed(gradients[0]), None


class _Held(torch.autograd.Function):
    """The arrays' weights, whose gradient is refused rather than lost."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor, _anchor: Tensor) -> Tensor:
        return values.contiguous()

    @staticmethod
    def backward(_ctx: Any, *_gradients: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError(
            "layer.weight and layer.bias of a layer on arrays are for reading: no gradient reaches "
            "the arrays but by the layer's own call; detach() them, or leave them out of the loss"
        )


def _stacked(arrays: Sequence[Array]) -> Tensor:
    """The weights of all arrays, one below the other; of a single one without a copy."""
    held = [a.matrix if isinstance(a, DigitalArray) else a.weights for a in arrays]
    return held[0] if len(held) == 1 else torch.cat(held)


def with_bias(inputs: Tensor) -> Tensor:
    """(batch, n) -> (batch, n + 1): the bias is one more input that is always 1."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)


def check_finite_inputs(inputs: Tensor) -> None:
    """ValueError for a NaN or an infinity, as a read of an array gives."""
    if not all_finite(inputs):
        raise ValueError("inputs must be finite; got NaN or infinite entries")


def block_samples(layer: nn.Module, block_size: int) -> int:
    """How many samples of the layer ``block_size`` network inputs make.

    A ``block_size`` that counts images means the same work for an estimator in every layer: one
    image is one sample of a linear layer, but height x width of a convolution's output. The factor
    is that of the layer's last call (1 before the first), for a :class:`CrossbarLayer` or a plain
    layer that a :class:`~toolkit.training.LowRankSGD` trains.
    """
    check_instance("layer", layer, nn.Module, "an nn.Module")
    check_count("block_size", block_size)
    capture = layer.capture if isinstance(layer, CrossbarLayer) else attached(layer)
    return block_size * (1 if capture is None else capture.positions)


def initial_weights(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Weights and bias (outputs, inputs + 1), uniform in ±1/sqrt(inputs) like torch's Linear."""
    weights = torch.empty(outputs, inputs + 1)
    bound = 1 / math.sqrt(inputs)
    return weights.uniform_(-bound, bound, generator=generator)
