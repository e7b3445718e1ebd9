"""What a layer saw since the last update: its inputs, and the errors that came back to its outputs.

Nothing is computed on the way but for one reference to each; samples are made when asked for.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.lowrank.linalg import all_finite
from toolkit.lowrank.samples import linear_samples
from toolkit.training.convolution import Geometry, Samples

PlainLayer = nn.Linear | nn.Conv2d


class Capture:
    """The inputs and output errors of every call of one layer since the last :meth:`clear`.

    A call counts once ``backward`` has gone through it, so passes in evaluation leave nothing.
    Several calls (a layer used twice, accumulation over batches) stand one after another in the
    order in which their errors came. ``positions`` is how many samples the last call made of each
    network input: the output positions of a convolution, the tokens of a sequence.

    As the forward hook of a plain layer it is what keeps the layer's samples: see :func:`attach`.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.positions = 1

    def tap(self, inputs: Tensor, outputs: Tensor, anchor: Tensor) -> Tensor:
        """``outputs`` unchanged, in a graph that will hand their errors to this capture.

        ``anchor`` is a leaf that asks for a gradient, so that backward comes by even where nothing
        before the layer does.
        """
        if not (torch.is_grad_enabled() and anchor.requires_grad):
            return outputs
        tapped: Tensor = _Tap.apply(outputs, anchor, self, inputs.detach())
        return tapped

    def __call__(self, layer: PlainLayer, args: Any, kwargs: Any, outputs: Tensor) -> Tensor:
        """Forward hook of a plain layer."""
        inputs = args[0] if args else kwargs["input"]
        self.positions = positions_of(outputs, convolution=isinstance(layer, nn.Conv2d))
        anchor = torch.empty(0, device=outputs.device, requires_grad=True)
        return self.tap(inputs, outputs, anchor)

    def clear(self) -> None:
        """Forget all calls."""
        self.calls.clear()

    def check_finite(self, name: str) -> None:
        """ValueError that names the layer if an input or an error is NaN or infinite."""
        for inputs, errors in self.calls:
            for what, tensor in (("inputs", inputs), ("errors", errors)):
                if not all_finite(tensor):
                    raise ValueError(
                        f"the {what} of layer {name!r} must be finite; got a NaN or an infinity"
                    )

    def samples(self, geometry: Geometry | None, dtype: torch.dtype, bias: bool) -> list[Samples]:
        """(errors, activations) of all calls, one pair for each matrix; none without calls."""
        made = [
            _samples(inputs.to(dtype), errors.to(dtype), geometry, bias)
            for inputs, errors in self.calls
        ]
        if len(made) < 2:
            return made[0] if made else []
        return [
            (torch.cat([d for d, _ in calls]), torch.cat([a for _, a in calls]))
            for calls in zip(*made, strict=True)
        ]


def _samples(
    inputs: Tensor, errors: Tensor, geometry: Geometry | None, bias: bool
) -> list[Samples]:
    if geometry is None:
        return [linear_samples(inputs, errors, bias=bias)]
    if inputs.ndim == 3:
        inputs, errors = inputs[None], errors[None]
    return geometry.samples(inputs, errors, bias=bias)


class _Tap(torch.autograd.Function):
    """Identity; backward notes the inputs and the errors."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, _anchor: Tensor, capture: Capture, inputs: Tensor
    ) -> Tensor:
        ctx.capture = capture
        ctx.save_for_backward(inputs)
        return outputs.data  # not a view, which an in-place ReLU would be refused

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inputs,) = ctx.saved_tensors
        ctx.capture.calls.append((inputs, gradients[0].detach()))
        return gradients[0], None, None, None


def positions_of(outputs: Tensor, *, convolution: bool) -> int:
    """Samples for each network input: of (batch, channels, ...) or of (batch, ..., features)."""
    if convolution:
        return math.prod(outputs.shape[-2:])
    return math.prod(outputs.shape[1:-1])


def attach(layer: PlainLayer) -> Capture:
    """Keep a plain layer's samples from now on, and have autograd form no weight gradient.

    A layer that is attached already gives the capture that it has.
    """
    if (present := attached(layer)) is None:
        present = Capture()
        # first of all hooks, so that it sees what the layer itself put out
        layer.register_forward_hook(present, prepend=True, with_kwargs=True)
        layer.weight.requires_grad_(False)
    return present


def attached(layer: nn.Module) -> Capture | None:
    """The capture of a plain layer, if it has one."""
    hooks = layer._forward_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, Capture)), None)


def release_weights(model: nn.Module) -> None:
    """Give the weights of every attached layer back to autograd."""
    for layer in model.modules():
        for key, hook in list(layer._forward_hooks.items()):
            if isinstance(hook, Capture):
                del layer._forward_hooks[key], layer._forward_hooks_with_kwargs[key]
                layer.weight.requires_grad_(True)


def matrix_layers(model: nn.Module) -> tuple[dict[str, PlainLayer], dict[str, str]]:
    """The Linear and Conv2d layers whose weight only their own forward reads; and the others.

    Returns
    -------
    layers
        By name (one, where a module has several), in the order of ``model.named_modules()``.
    left_out
        Why each of the other Linear and Conv2d layers is not among them.
    """
    layers: dict[str, PlainLayer] = {}
    left_out: dict[str, str] = {}
    owners = _owners(model)
    readers = [m.out_proj for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        shared = [n for p in _held(module) for n in owners[id(p)] if n != name]
        if any(module is reader for reader in readers):
            left_out[name] = "MultiheadAttention reads its weight without calling it"
        elif reason := _peculiarity(module):
            left_out[name] = reason
        elif shared:
            left_out[name] = f"it shares a parameter with {shared[0]!r}"
        else:
            layers[name] = module
    return layers, left_out


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """The names of the modules that hold each parameter."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in _held(module):
            owners.setdefault(id(parameter), []).append(name)
    return owners


def _held(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _peculiarity(module: PlainLayer) -> str | None:
    """Why the module is not simply its class's product with its weight, if it is not."""
    base = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
    if isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params():
        return "it has no weight yet: run a batch through the model first"
    if any(
        getattr(type(module), f, None) is not getattr(base, f, None)
        for f in ("forward", "_conv_forward")
    ):
        return f"its class {type(module).__name__} has a forward of its own"
    if set(module._parameters) != {"weight", "bias"}:
        return "its weight is computed from other parameters"
    return None
