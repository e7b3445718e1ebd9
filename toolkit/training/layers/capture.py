"""Capture of a layer's samples since the last update: inputs, and errors of the outputs.

Nothing is computed on the way but for one reference to each; samples are made when asked for.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from toolkit.checks import all_finite, check_instance
from toolkit.lowrank.estimator import Streamed
from toolkit.training.layers.adapters import Adapter, Samples
from toolkit.training.layers.registry import adapter_kind

# One of torch's layers, or anyone's, of a kind that has an adapter.
PlainLayer = nn.Module

# The capture that takes a parameter's gradient in its place.
_CAPTURES = WeakTensorKeyDictionary()


class Capture:
    """The inputs and output errors of every call of one layer since the last :meth:`clear`.

    A call counts once ``backward`` has gone through it, so passes in evaluation leave nothing.
    Several calls (a layer used twice, accumulation over batches) stand one after another in the
    order in which their errors came. ``positions`` is how many samples the last call made of each
    network input: the output positions of a convolution, the tokens of a sequence.

    As the forward hook of a plain layer it is what keeps the layer's samples: see :func:`attach`.
    The hook of a copied layer does nothing: the copy is its owner's, to train as they like.
    """

    _owner: weakref.ref[PlainLayer] | None = None
    _adapter: Adapter | None = None
    _held: Tensor | None = None

    def __init__(self, owner: PlainLayer | None = None) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.positions = 1
        if owner is not None:
            self._owner, self._adapter = weakref.ref(owner), adapter_of(owner)

    def __getstate__(self) -> dict[str, Any]:
        return {"calls": [], "positions": self.positions}

    def belongs_to(self, layer: nn.Module) -> bool:
        """Whether it is this very layer's, not that of the layer it was copied from."""
        return self._owner is not None and self._owner() is layer

    def tap(self, inputs: Tensor, outputs: Tensor, anchor: Tensor) -> Tensor:
        """``outputs`` unchanged, in a graph that will hand their errors to this capture.

        ``anchor`` is a leaf that asks for a gradient, so that backward comes by even where nothing
        before the layer does.
        """
        if not (torch.is_grad_enabled() and anchor.requires_grad):
            return outputs
        _CAPTURES[anchor] = self
        tapped: Tensor = _Tap.apply(outputs, anchor, self, inputs.detach())
        return tapped

    def hold(self, layer: PlainLayer, _args: Any) -> None:
        """Forward pre-hook: have autograd see no use of the weight in the layer's own forward.

        Whatever else uses the weight still leaves its gradient there.
        """
        weight = weight_of(layer)
        if self.belongs_to(layer) and weight.requires_grad and weight.is_leaf:
            self._held = weight.requires_grad_(False)

    def __call__(
        self, _layer: PlainLayer, args: Any, kwargs: Any, outputs: Tensor | None
    ) -> Tensor | None:
        """Forward hook of a plain layer; ``outputs`` is None where its forward has failed."""
        held, self._held = self._held, None
        if held is None:
            return outputs
        held.requires_grad_(True)
        if outputs is None:
            return None
        inputs = args[0] if args else kwargs.get("input", next(iter(kwargs.values())))
        assert self._adapter is not None
        self.positions = self._adapter.positions(inputs, outputs)
        anchor = torch.empty(0, device=outputs.device, requires_grad=True)
        _CAPTURES[held] = self
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

    def streams(
        self, adapter: Adapter, dtype: torch.dtype, bias: bool
    ) -> Sequence[tuple[Tensor, Tensor | Streamed]]:
        """Like :meth:`samples`; those of a single call may be made as they are read."""
        if len(self.calls) != 1:
            return self.samples(adapter, dtype, bias)
        return adapter.streams(*_in(dtype, *self.calls[0]), bias=bias)

    def samples(self, adapter: Adapter, dtype: torch.dtype, bias: bool) -> list[Samples]:
        """(errors, activations) of all calls, one pair for each matrix; none without calls."""
        made = [adapter.samples(*_in(dtype, *call), bias=bias) for call in self.calls]
        if len(made) < 2:
            return made[0] if made else []
        return [
            (torch.cat([d for d, _ in calls]), torch.cat([a for _, a in calls]))
            for calls in zip(*made, strict=True)
        ]


def _in(dtype: torch.dtype, inputs: Tensor, errors: Tensor) -> Samples:
    """A call in that dtype; inputs that are whole numbers stay as they are."""
    return inputs.to(dtype) if inputs.is_floating_point() else inputs, errors.to(dtype)


class _Tap(torch.autograd.Function):
    """Identity; a backward that would fill ``.grad`` notes the inputs and the errors."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, _anchor: Tensor, capture: Capture, inputs: Tensor
    ) -> Tensor:
        ctx.capture = capture
        ctx.save_for_backward(inputs)
        return outputs.data  # not a view, which an in-place ReLU would be refused

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():  # create_graph=True: the weight has no part in that graph
            raise RuntimeError(
                "a layer trained at low rank or on arrays can be differentiated once only; leave "
                "out create_graph=True (a gradient penalty), or use release_weights or to_digital"
            )
        (inputs,) = ctx.saved_tensors
        if torch._C._will_engine_execute_node(ctx.next_functions[1][0]):
            ctx.capture.calls.append((inputs, gradients[0].detach()))
        return gradients[0], None, None, None


def adapter_of(layer: PlainLayer) -> Adapter:
    """The adapter of a layer whose kind has one."""
    kind = adapter_kind(layer)
    assert kind is not None
    return kind.of(layer)


def weight_of(layer: PlainLayer) -> nn.Parameter:
    """The parameter whose use an adapter describes."""
    kind = adapter_kind(layer)
    assert kind is not None
    return layer.get_parameter(kind.weight_name)


def attach(layer: PlainLayer) -> Capture:
    """Keep a plain layer's samples from now on, and have its forward form no weight gradient.

    A layer that is attached already gives the capture that it has.
    """
    if (present := attached(layer)) is None:
        remove_hooks(layer)  # of the layer that this one was copied from
        present = Capture(layer)
        layer.register_forward_pre_hook(present.hold)
        # first of all hooks, so that it sees what the layer itself put out
        layer.register_forward_hook(present, prepend=True, with_kwargs=True, always_call=True)
    return present


def attached(layer: nn.Module) -> Capture | None:
    """The capture of a plain layer, if it has one of its own."""
    hooks = layer._forward_hooks.values()
    return next((h for h in hooks if isinstance(h, Capture) and h.belongs_to(layer)), None)


def has_samples(parameter: Tensor) -> bool:
    """Whether unused samples wait in place of the parameter's gradient."""
    capture = _CAPTURES.get(parameter)
    return parameter.requires_grad and capture is not None and bool(capture.calls)


def release_weights(model: nn.Module) -> None:
    """Give the weights of every attached layer back to autograd."""
    check_instance("model", model, nn.Module, "an nn.Module")
    for layer in model.modules():
        if (capture := attached(layer)) is not None:
            capture.clear()
        remove_hooks(layer)


def is_capture(hook: Any) -> bool:
    """Whether a hook is one that :func:`attach` has registered."""
    return isinstance(getattr(hook, "__self__", hook), Capture)


def remove_hooks(layer: nn.Module) -> None:
    """Take every capture off the layer, its own or that of the layer it was copied from."""
    for hooks in (layer._forward_hooks, layer._forward_pre_hooks):
        for key in [key for key, hook in hooks.items() if is_capture(hook)]:
            del hooks[key]
            layer._forward_hooks_with_kwargs.pop(key, None)
            layer._forward_hooks_always_called.pop(key, None)


def hollow(layer: nn.Module) -> nn.Module:
    """A copy of the layer with all its attributes, no numbers in its parameters, no captures."""
    empty: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in layer.parameters()
    }
    made = copy.deepcopy(layer, empty)
    for module in made.modules():
        remove_hooks(module)
    return made


def matrix_layers(model: nn.Module) -> tuple[dict[str, PlainLayer], dict[str, str]]:
    """The layers with an adapter whose weight only their own forward reads; and the others.

    Returns
    -------
    layers
        By name (one, where a module has several), in the order of ``model.named_modules()``.
    left_out
        Why each of the other layers with an adapter is not among them.
    """
    layers: dict[str, PlainLayer] = {}
    left_out: dict[str, str] = {}
    owners = parameter_owners(model)
    readers = [m.out_proj for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    for name, module in model.named_modules():
        if (kind := adapter_kind(module)) is None:
            continue
        shared = [n for p in _held(module) for n in owners[id(p)] if n != name]
        if any(module is reader for reader in readers):
            left_out[name] = "MultiheadAttention reads its weight without calling it"
        elif reason := peculiarity(module, kind.kind_of(module)) or _refusal(module, kind):
            left_out[name] = reason
        elif shared:
            left_out[name] = f"it shares a parameter with {shared[0]!r}"
        else:
            layers[name] = module
    return layers, left_out


def parameter_owners(model: nn.Module) -> dict[int, list[str]]:
    """The names of the modules that hold each parameter."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in _held(module):
            owners.setdefault(id(parameter), []).append(name)
    return owners


def _held(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _refusal(module: nn.Module, kind: type[Adapter]) -> str | None:
    if not set(module._parameters) <= {kind.weight_name, kind.bias_name} or (
        module._parameters.get(kind.weight_name) is None
    ):
        return "its weight is computed from other parameters"
    return kind.refusal(module)


def peculiarity(module: nn.Module, base: type | None) -> str | None:
    """Why the module is not simply what its class ``base`` computes, if it is not."""
    if any(parameter._backward_hooks for parameter in _held(module)):
        return "its parameters have hooks, which would see no gradient"
    if isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params():
        return "it has no weight yet: run a batch through the model first"
    if any(
        getattr(type(module), f, None) is not getattr(base, f, None)
        for f in ("forward", "_conv_forward")
    ):
        return f"its class {type(module).__name__} has a forward of its own"
    return None
