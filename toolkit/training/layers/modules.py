"""Layers whose weights live in arrays, and whose weight gradient is never formed.

Forward reads the array, backward reads it transposed and keeps (errors, activations) for whoever
estimates the gradient. The arrays are ``toolkit.crossbar``'s; an
:class:`~toolkit.training.Experiment` or :class:`~toolkit.training.LowRankSGD` updates them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from toolkit.checks import check_count, check_flag, check_instance
from toolkit.crossbar import Array, DigitalArray
from toolkit.crossbar.states import load_whole
from toolkit.training.layers.adapters import Adapter, InPlaceOf, LinearAdapter, Samples
from toolkit.training.layers.capture import Capture, attached
from toolkit.training.layers.convolution import Geometry
from toolkit.training.layers.convolution_adapters import ConvolutionAdapter


class CrossbarLayer(InPlaceOf):
    """A layer of any kind with its weights in arrays; an :class:`~.adapters.Adapter` says how.

    ``arrays`` holds one array of (outputs, inputs) for each matrix of the layer; with ``bias`` the
    last column of each is the bias, the weight of an input that is always 1. ``anchor`` is an empty
    parameter that stands for the arrays: its ``requires_grad`` says whether they are to be trained,
    its device where they are. ``digital_bias`` is the bias of a layer that adds it after its
    products (a transposed convolution), else None. ``template`` is torch's own layer without its
    numbers, where there was one: its attributes (``in_features``, ``stride``) can be read here.

    The layers compute in the dtype of their arrays, under autocast too. ``state_dict`` holds the
    arrays whole, random generators included, and loads into a model converted alike.
    """

    digital_bias: nn.Parameter | None

    def __init__(
        self,
        arrays: Sequence[Array],
        *,
        adapter: Adapter,
        bias: bool,
        digital_bias: nn.Parameter | None = None,
        template: nn.Module | None = None,
    ) -> None:
        super().__init__(template)
        what = "arrays: crossbars, tiled or not, or digital"
        check_instance("arrays", arrays or None, list | tuple, what)
        for array in arrays:
            check_instance("arrays", array, Array, what)
        check_flag("bias", bias)
        self.arrays = list(arrays)
        self.adapter, self.has_bias = adapter, bias
        weights = arrays[0].weights
        self.anchor = nn.Parameter(weights.new_empty(0))
        self.register_parameter("digital_bias", digital_bias)
        self.capture = Capture()

    @property
    def weight(self) -> Tensor:
        """A read-only copy of the arrays' weights, in the shape of torch's layer."""
        return self._as_held(self._weight_of([array.weights for array in self.arrays]))

    @property
    def bias(self) -> Tensor | None:
        """A copy of the arrays' bias, (outputs,), or ``digital_bias``; None without a bias."""
        if not self.has_bias:
            return self.digital_bias
        return self._as_held(torch.cat([array.weights[:, -1] for array in self.arrays]))

    @cached_property
    def _weight_shape(self) -> torch.Size:
        return self._weight_of([torch.empty(a.shape, device="meta") for a in self.arrays]).shape

    def _weight_of(self, matrices: Sequence[Tensor]) -> Tensor:
        columns = matrices[0].shape[1] - self.has_bias
        return self.adapter.weight([matrix[:, :columns] for matrix in matrices])

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
        return self.capture.samples(self.adapter, self.anchor.dtype, self.has_bias)

    def samples_for_later(self) -> Callable[[], list[Samples]]:
        """What gives the present :attr:`samples` when called, even after :meth:`clear_samples`."""
        kept = Capture()
        kept.calls = list(self.capture.calls)
        return lambda: kept.samples(self.adapter, self.anchor.dtype, self.has_bias)

    def clear_samples(self) -> None:
        """Forget the samples, as after an update."""
        self.capture.clear()

    def get_extra_state(self) -> dict[str, Any]:
        """The state of every array, and what its columns are, for ``state_dict``."""
        arrays = [array.state_dict() for array in self.arrays]
        return {"arrays": arrays, "bias": self.has_bias, "kernel_size": self.adapter.layout}

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
        kernel = self.adapter.layout
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

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What torch's layer computes from its inputs, by reads of the arrays."""
        check_instance("input", input, Tensor, "a torch.Tensor")
        shape = self._weight_shape
        self.adapter.check(input, shape)
        inputs = input.to(self.anchor.dtype) if input.is_floating_point() else input
        args = (*args, *kwargs.values())
        is_digital = all(isinstance(array, DigitalArray) for array in self.arrays)
        outputs = self._exactly(inputs, *args) if is_digital else self._read(inputs, *args)
        self.capture.positions = self.adapter.positions(inputs, outputs)
        return self.capture.tap(input, outputs, self.anchor)

    def _exactly(self, inputs: Tensor, *args: Any) -> Tensor:
        matrices = [array.matrix for array in self.arrays if isinstance(array, DigitalArray)]
        bias: Tensor | None = self.digital_bias
        if self.has_bias:
            columns = [matrix[:, -1] for matrix in matrices]
            bias = columns[0] if len(columns) == 1 else torch.cat(columns)
        with torch.autocast(inputs.device.type, enabled=False):
            return self.adapter.exactly(
                self.template, inputs, self._weight_of(matrices), bias, *args
            )

    def _read(self, inputs: Tensor, *args: Any) -> Tensor:
        samples = self.adapter.activations(inputs, bias=self.has_bias)
        products = [
            _Read.apply(activations.to(self.anchor.dtype), array)
            for array, activations in zip(self.arrays, samples, strict=True)
        ]
        outputs = self.adapter.outputs(products, inputs, *args)
        if self.digital_bias is None:
            return outputs
        return self.adapter.with_own_bias(outputs, self.digital_bias)

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
        super().__init__([array], adapter=LinearAdapter(), bias=bias)

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
        check_instance("geometry", geometry, Geometry, "a Geometry")
        if geometry.dimensions != 2:
            raise ValueError(
                f"geometry must be of two dimensions; got kernel_size {geometry.kernel_size}"
            )
        super().__init__(arrays, adapter=ConvolutionAdapter(geometry), bias=bias)
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
        self.in_channels = geometry.groups * columns // math.prod(geometry.kernel_size)

    @property
    def geometry(self) -> Geometry:
        """Where the patches lie."""
        assert isinstance(self.adapter, ConvolutionAdapter)
        return self.adapter.geometry


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


def capture_of(layer: nn.Module | None) -> Capture | None:
    """What keeps the samples of a layer on arrays or of a plain one that is attached."""
    if layer is None or isinstance(layer, CrossbarLayer):
        return None if layer is None else layer.capture
    return attached(layer)


def block_samples(layer: nn.Module, block_size: int) -> int:
    """How many samples of the layer ``block_size`` network inputs make.

    A ``block_size`` that counts images means the same work for an estimator in every layer: one
    image is one sample of a linear layer, but height x width of a convolution's output. The factor
    is that of the layer's last call (1 before the first), for a :class:`CrossbarLayer` or a plain
    layer that a :class:`~toolkit.training.LowRankSGD` trains.
    """
    check_instance("layer", layer, nn.Module, "an nn.Module")
    check_count("block_size", block_size)
    capture = capture_of(layer)
    return block_size * (1 if capture is None else capture.positions)


def initial_weights(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Weights and bias (outputs, inputs + 1), uniform in ±1/sqrt(inputs) like torch's Linear."""
    weights = torch.empty(outputs, inputs + 1)
    bound = 1 / math.sqrt(inputs)
    return weights.uniform_(-bound, bound, generator=generator)
