"""Any torch model onto crossbars, and back. Training it is for an optimiser or an experiment."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.swa_utils import AveragedModel

from toolkit.checks import (
    as_generator,
    check_choice,
    check_flag,
    check_instance,
    check_pair,
    check_real,
    shortened,
)
from toolkit.crossbar import (
    Array,
    Crossbar,
    Device,
    DigitalArray,
    EnsembleCrossbar,
    TiledCrossbar,
    device_names,
    get_device,
)
from toolkit.crossbar.crossbar import check_setting
from toolkit.training.layers.adapters import Adapter, LinearAdapter, filled
from toolkit.training.layers.capture import (
    PlainLayer,
    adapter_of,
    hollow,
    is_capture,
    matrix_layers,
    parameter_owners,
    peculiarity,
    weight_of,
)
from toolkit.training.layers.convolution_adapters import ConvolutionAdapter
from toolkit.training.layers.expansions import Expansion, expansion_kind
from toolkit.training.layers.guards import crossbar_layers, guard, unguard
from toolkit.training.layers.modules import CrossbarConv2d, CrossbarLayer, CrossbarLinear

DIGITAL = "digital"
HOOKED = "it has hooks, which the layer in its place would not have"
HALF_FROZEN = "either its weight or its bias is frozen, which are trained together in an array"
# How far a weight may grow beyond the largest of its layer where no w_max is given.
HEADROOM = 2.0
OWN_KNOBS = ("device", "w_max", "tile")
ARRAY_KNOBS = ("pair", "coding", "half_select", "periphery", "wires", "copies", "kept")

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ArraySettings:
    """How the arrays of a layer are made: the keyword arguments of :func:`to_crossbar`."""

    device: Device | str | None = None
    w_max: float | None = None
    tile: tuple[int, int] | None = None
    array: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.device, str):
            check_choice("device", self.device, (DIGITAL, *device_names()))
        elif self.device is not None:
            check_instance("device", self.device, Device, "a Device, a name or None")
        if self.w_max is not None:
            check_real("w_max", self.w_max, above=0.0)
        if self.tile is not None:
            check_pair("tile", self.tile)
        if self.tile is not None and {"copies", "kept"} & self.array.keys():
            raise ValueError(f"tile must be None with copies of whole arrays; got {self.tile}")
        for name, value in self.array.items():
            if name != "coding" or value is not None:
                check_setting(name, value)

    @property
    def is_digital(self) -> bool:
        """Whether there are no cells."""
        return self.device is None or self.device == DIGITAL

    def changed(self, changes: Mapping[str, Any]) -> ArraySettings:
        """With some of them replaced. ValueError if one is unknown."""
        if unknown := sorted(set(changes) - {*OWN_KNOBS, *ARRAY_KNOBS}):
            raise ValueError(
                f"unknown option {unknown[0]!r}; allowed: {', '.join((*OWN_KNOBS, *ARRAY_KNOBS))}"
            )
        own = {name: changes[name] for name in OWN_KNOBS if name in changes}
        others = {name: changes[name] for name in ARRAY_KNOBS if name in changes}
        return replace(self, **own, array={**self.array, **others})

    def make(self, weights: Tensor, w_max: float, seed: int) -> Array:
        """An array that holds ``weights``."""
        if self.device is None or self.is_digital:
            return DigitalArray.from_weights(weights)
        device = get_device(self.device) if isinstance(self.device, str) else self.device
        generator = torch.Generator(weights.device).manual_seed(seed)
        knobs = {"device": device, "w_max": w_max, "seed": generator, **self.array}
        if {"copies", "kept"} & self.array.keys():
            return EnsembleCrossbar.from_weights(weights, **knobs)
        if self.tile is None:
            return Crossbar.from_weights(weights, **knobs)
        return TiledCrossbar.from_weights(weights, tile=self.tile, **knobs)


def to_crossbar(
    model: Model,
    *,
    device: Device | str | None = None,
    w_max: float | None = None,
    seed: int | torch.Generator = 0,
    tile: tuple[int, int] | None = None,
    skip: Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = False,
    **array: Any,
) -> Model:
    """A copy of the model whose layers have their weights in arrays.

    Weights and biases are programmed exactly; dtype, torch device and training mode stay. Converted
    are Linear, Conv1d to 3d, ConvTranspose1d to 3d, Embedding, LSTM, GRU, RNN, MultiheadAttention,
    the ``Conv1D`` of Hugging Face's transformers and whatever
    :func:`~toolkit.training.register_adapter` has added; everything else stays digital and is
    copied. The model itself is not touched.

    Parameters
    ----------
    model
        Any module, nested as it may be. A layer that is used in several places is one array.
    device
        Kind of cell: a :class:`~toolkit.crossbar.Device` or a preset's name. None or "digital":
        plain weights behind the same interface.
    w_max
        Weight at the end of the conductance range. None: twice the largest magnitude of each
        layer (1 for a layer of zeros), so that every layer uses its range and can still grow.
    seed
        Of all draws: an int or a generator. Every layer draws seeds of its own, whether converted
        or not: a skipped layer does not change the others.
    tile
        Largest array (rows, columns); larger layers are cut into several. None: one array each.
    skip
        Names of layers to leave digital, as in ``model.named_modules()``; ``*`` and ``?`` stand
        for anything (``"features.*"``). The matrices of a recurrent layer or an attention go by
        its name too and have names of their own (``"rnn.hh_l0"``, ``"attn.q_proj"``).
    overrides
        Settings of single layers by name, again with ``*`` and ``?``: any of ``device``, ``w_max``,
        ``tile`` and what follows. Later ones win.
    strict
        Refuse a model of which more would stay digital than ``skip`` names, in place of a warning.
    **array
        ``pair``, ``coding``, ``half_select``, ``periphery``, ``wires`` of
        :meth:`~toolkit.crossbar.Crossbar.from_weights`, ``copies`` and ``kept`` of
        :meth:`~toolkit.crossbar.EnsembleCrossbar.from_weights`.

    Returns
    -------
    nn.Module
        The copy. A weight that did not ask for a gradient gives a layer that is not trained
        (``anchor.requires_grad`` is False).

    Raises
    ------
    TypeError
        If a layer is not float32 or float64.
    ValueError
        If a weight or bias is beyond ``w_max``, a name in ``skip`` or ``overrides`` fits no layer,
        an option is unknown, the model has nothing to convert, it is refused by the array, or, if
        ``strict``, more would stay digital than ``skip`` names. Nothing has been converted then.

    Warns
    -----
    UserWarning
        Names what stays digital, with the reason: modules of other kinds that own weights of two
        or more dimensions (Bilinear, LSTMCell, ...); and a layer whose weight is shared with
        another layer (tied), computed (parametrised) or rescaled (the ``max_norm`` of an
        Embedding), whose class has a forward of its own, that has hooks, or of which either the
        weight or the bias is frozen. ``skip`` silences it.

    Notes
    -----
    ``layer.weight`` and ``layer.bias`` of a converted layer are copies of what its arrays hold now,
    for code that reads them; a gradient that would go through them is refused. A
    TransformerEncoderLayer reads weights in evaluation: its fast path is switched off in the copy.
    The copy is moved, cast and loaded whole or not at all, also as a part of another module. An
    AveragedModel, which averages parameters only, refuses it: give that :func:`to_digital` of it.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(784, 150), nn.ReLU(), nn.Linear(150, 10))
    >>> on_cells = to_crossbar(model, device="EpiRAM")
    >>> on_cells(torch.rand(64, 784)).shape
    torch.Size([64, 10])
    """
    check_instance("model", model, nn.Module, "an nn.Module")
    if any(isinstance(module, AveragedModel) for module in model.modules()):
        raise ValueError(
            "model must not be an AveragedModel, which averages parameters only; give its .module"
        )
    settings = ArraySettings(device=device, w_max=w_max, tile=tile).changed(array)
    check_flag("strict", strict)
    generator = as_generator(seed)
    expansions, left_out = _expansions(model)
    layers = _convertible(model, expansions, left_out)
    names = [*layers, *expansions, *left_out]
    _check_patterns("skip", skip, names)
    _check_patterns("overrides", overrides or {}, names)
    whole = {f"{n}.{part}".lstrip("."): n for n, e in expansions.items() for part in e._modules}
    known_as = {name: {name, whole.get(name, name)} for name in names}
    skipped = {name for name in names if any(_fits(each, skip) for each in known_as[name])}
    chosen = {name: layer for name, layer in layers.items() if name not in skipped}
    if not chosen:
        why = "its layers are on arrays already" if crossbar_layers(model) else "it has none"
        found = [f"{name!r}: {left_out.get(name, 'skipped')}" for name in names]
        raise ValueError(
            "model must have a layer with an adapter to convert; "
            f"{shortened('; '.join(found), 300) or why}"
        )
    _report({name: why for name, why in left_out.items() if name not in skipped}, strict=strict)
    memo: dict[int, nn.Module] = {}
    for name, layer in layers.items():
        own_seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        if name in chosen:
            own = settings
            for pattern, changes in (overrides or {}).items():
                fits = any(fnmatchcase(each, pattern) for each in known_as[name])
                own = own.changed(changes) if fits else own
            memo[id(layer)] = _on_arrays(name, layer, own, own_seed)
    for name in dict.fromkeys(whole[name] for name in chosen if name in whole):
        memo[id(model.get_submodule(name))] = copy.deepcopy(expansions[name], memo)
    made = _without_fast_path(copy.deepcopy(model, memo))
    guard(made)
    return made


def to_digital(model: Model) -> Model:
    """A copy of the model with torch's own layers, which hold the arrays' weights.

    Raises
    ------
    ValueError
        If the model has no layer on arrays.

    Examples
    --------
    >>> model = nn.Linear(3, 2)
    >>> torch.allclose(to_digital(to_crossbar(model)).weight, model.weight)
    True
    """
    check_instance("model", model, nn.Module, "an nn.Module")
    layers = {id(module): module for module in model.modules() if isinstance(module, CrossbarLayer)}
    if not layers:
        raise ValueError("model must have layers on arrays, as to_crossbar makes them; it has none")
    memo: dict[int, nn.Module] = {key: _off_arrays(layer) for key, layer in layers.items()}
    for module in model.modules():
        if isinstance(module, Expansion):
            memo[id(module)] = module.merged()
    made = copy.deepcopy(model, memo)
    unguard(made)
    return made


def expanded(model: Model) -> Model:
    """A copy of the model with linear layers in place of those of several matrices."""
    found, _ = _expansions(model)
    return copy.deepcopy(model, {id(model.get_submodule(name)): e for name, e in found.items()})


def _expansions(model: nn.Module) -> tuple[dict[str, Expansion], dict[str, str]]:
    """Layers of several matrices as linear ones, by name; and why others of them are not."""
    found: dict[str, Expansion] = {}
    left_out: dict[str, str] = {}
    owners = parameter_owners(model)
    for name, module in model.named_modules():
        if (kinds := expansion_kind(module)) is None:
            continue
        inside = {n for n, _ in module.named_modules(prefix=name)}
        shared = [n for p in module.parameters() for n in owners[id(p)] if n not in inside]
        if reason := peculiarity(module, kinds[1]):
            left_out[name] = reason
        elif is_parametrized(module):
            left_out[name] = "its weight is computed from other parameters"
        elif any(_has_hooks(part) for part in module.modules()):
            left_out[name] = HOOKED
        elif shared:
            left_out[name] = f"it shares a parameter with {shared[0]!r}"
        else:
            found[name] = kinds[0](module)
    return found, left_out


def _convertible(
    model: nn.Module, expansions: Mapping[str, Expansion], left_out: dict[str, str]
) -> dict[str, PlainLayer]:
    """As :func:`matrix_layers` with the parts of expansions, less what arrays cannot replace.

    The reasons for all other weights go into ``left_out``.
    """
    layers, others = matrix_layers(model)
    inside = {
        n for name in expansions for n, _ in model.get_submodule(name).named_modules(prefix=name)
    }
    left_out |= {name: why for name, why in others.items() if name not in inside}
    for name, expansion in expansions.items():
        layers |= {f"{name}.{part}".lstrip("."): e for part, e in expansion.named_children()}
    left_out |= {n: reason for n, layer in layers.items() if (reason := _hindrance(layer))}
    for name, module in model.named_modules():
        parent = name.removesuffix(".parametrizations.weight")
        known = name in layers or name in inside or parent in left_out
        if not known and _owns_matrices(module):
            left_out[name] = f"{type(module).__name__} has no adapter"
    return {name: layer for name, layer in layers.items() if name not in left_out}


def _hindrance(layer: PlainLayer) -> str | None:
    """Why arrays cannot be in place of a layer."""
    adapter, weight = adapter_of(layer), weight_of(layer)
    bias = layer._parameters.get(adapter.bias_name)
    if _has_hooks(layer):
        return HOOKED
    in_array = adapter.bias_in_array and bias is not None
    if in_array and bias is not None and bias.requires_grad != weight.requires_grad:
        return HALF_FROZEN
    return None


def _owns_matrices(module: nn.Module) -> bool:
    parameters = [parameter for parameter in module._parameters.values() if parameter is not None]
    return any(is_lazy(parameter) or parameter.ndim > 1 for parameter in parameters)


def _has_hooks(layer: PlainLayer) -> bool:
    kinds = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return any(not is_capture(hook) for kind in kinds for hook in kind.values())


def _on_arrays(name: str, layer: PlainLayer, settings: ArraySettings, seed: int) -> CrossbarLayer:
    """The layer with its weights in arrays."""
    adapter, weight = adapter_of(layer), weight_of(layer).detach()
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"layer {name!r} must be float32 or float64 to be converted; got {weight.dtype}"
        )
    if weight.is_meta:
        raise ValueError(
            f"layer {name!r} has no numbers yet, as it is on the meta device: load a state or "
            "call to_empty and initialise it first"
        )
    matrices = adapter.matrices(weight)
    bias = layer._parameters.get(adapter.bias_name)
    has_column = bias is not None and adapter.bias_in_array
    if has_column and bias is not None:
        parts = bias.detach().chunk(len(matrices))
        columns = [part[:, None] for part in parts]
        matrices = [torch.cat(pair, dim=1) for pair in zip(matrices, columns, strict=True)]
    largest = max(float(matrix.abs().max()) for matrix in matrices)
    w_max = (HEADROOM * largest or 1.0) if settings.w_max is None else settings.w_max
    if largest > w_max and not settings.is_digital:
        raise ValueError(
            f"w_max={w_max:g} is below the largest weight of layer {name!r}, {largest:g}; allow "
            "for it, override it for this layer, or leave w_max out"
        )
    try:
        arrays = [settings.make(part, w_max, seed + i) for i, part in enumerate(matrices)]
    except (TypeError, ValueError) as error:
        raise type(error)(f"layer {name!r}: {error}") from error
    made = _crossbar_layer(arrays, adapter, has_column)
    if bias is not None and not has_column:
        made.digital_bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    vars(made)["template"] = hollow(layer)
    made.anchor.requires_grad_(weight_of(layer).requires_grad)
    return made.train(layer.training)


def _crossbar_layer(arrays: list[Array], adapter: Adapter, bias: bool) -> CrossbarLayer:
    """Of its public class, if it has one."""
    made: CrossbarLayer
    if isinstance(adapter, LinearAdapter):
        made = CrossbarLinear(arrays[0], bias=bias)
        made.adapter = adapter
    elif type(adapter) is ConvolutionAdapter and adapter.geometry.dimensions == 2:
        made = CrossbarConv2d(arrays, geometry=adapter.geometry, bias=bias)
    else:
        made = CrossbarLayer(arrays, adapter=adapter, bias=bias)
    return made


def _off_arrays(layer: CrossbarLayer) -> PlainLayer:
    """The torch layer with the weights that the arrays hold."""
    adapter, weight, bias = layer.adapter, layer.weight, layer.bias
    template = layer.template or _template(layer)
    made = filled(template, {adapter.weight_name: weight, adapter.bias_name: bias})
    weight_of(made).requires_grad_(layer.anchor.requires_grad)
    if bias is not None and layer.has_bias:
        made.get_parameter(adapter.bias_name).requires_grad_(layer.anchor.requires_grad)
    return made.train(layer.training)


def _template(layer: CrossbarLayer) -> nn.Module:
    """Torch's layer for one on arrays that was made without."""
    outputs, inputs = layer.weight.shape[:2]
    place: dict[str, Any] = {"bias": layer.has_bias, "device": "meta"}
    if isinstance(layer, CrossbarConv2d):
        return nn.Conv2d(layer.in_channels, outputs, **layer.geometry.torch_knobs(), **place)
    return nn.Linear(inputs, outputs, **place)


def _without_fast_path(model: Model) -> Model:
    """Have encoders call their linear layers in evaluation too, not read their weights."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and crossbar_layers(module):
            module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer) and crossbar_layers(module):
            module.activation_relu_or_gelu = 0  # the fast path knows these two only
    return model


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(argument: str, patterns: Iterable[str], names: list[str]) -> None:
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise TypeError(f"{argument} must be a collection of names; got {patterns!r}")
    for pattern in patterns:
        check_instance(argument, pattern, str, "names of layers")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"{argument} must name layers with weights: {', '.join(map(repr, names))}; "
                f"got {pattern!r}"
            )


def _report(left_out: dict[str, str], *, strict: bool) -> None:
    """Warn of what stays digital; ValueError if ``strict``."""
    if not left_out:
        return
    listed = "; ".join(f"{name!r}: {why}" for name, why in left_out.items())
    if strict:
        raise ValueError(f"model must be on arrays whole but for skip; layers left out: {listed}")
    warnings.warn(f"layers that stay digital: {listed}", stacklevel=3)
