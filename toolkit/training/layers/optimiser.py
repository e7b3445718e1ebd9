"""An optimiser for anyone's loop: rank-k updates for layers on crossbars and for torch's own.

The estimators are ``toolkit.lowrank``'s; how a layer's samples are kept is ``capture.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from toolkit.checks import as_generator, check_choice, check_count, check_instance, check_real
from toolkit.crossbar import SCHEMES
from toolkit.crossbar.states import load_whole
from toolkit.lowrank import Estimator, estimator_knobs, estimator_names, make_estimator
from toolkit.training.layers.capture import (
    PlainLayer,
    adapter_of,
    has_samples,
    matrix_layers,
    weight_of,
)
from toolkit.training.layers.modules import CrossbarLayer
from toolkit.training.layers.updates import LayerUpdate, held_of, in_layer, matrix_shapes, write_all

Group = tuple[dict[str, Any], list[LayerUpdate]]

_GROUP_KNOBS = (
    "lr",
    "rank",
    "block_size",
    "momentum",
    "momentum_rank",
    "weight_decay",
    "scheme",
)


class LowRankSGD(torch.optim.Optimizer):
    r"""Gradient descent whose weight gradients are estimated at rank k and never formed.

    Two lines of a training loop change, the import and this one::

        optimizer = LowRankSGD(model, lr=0.1, rank=4)

    Every linear layer and convolution of torch (transposed ones and the ``Conv1D`` of Hugging
    Face's transformers too), and every layer on crossbars (:func:`~toolkit.training.to_crossbar`),
    is trained by an estimator of ``toolkit.lowrank`` from its inputs and the errors of its outputs:

    .. math:: W \leftarrow W - \mathrm{lr} \sum_{p=1}^{k} \sigma_p \Delta_p X_p^T

    in place on plain weights, in pulses on crossbars. Autograd forms no gradient for the layers'
    own use of those weights, and gradient memory is k (m + n) numbers a layer in place of m n.
    What else reaches a plain weight (an L2 term, another use) is in its ``grad`` as ever and is
    added whole; for arrays it is refused, as is a second derivative (``create_graph=True``).
    Biases of plain layers, normalisation, embeddings and all other parameters follow their
    autograd gradient (SGD, with the same lr and momentum). So do the few weights that are no
    matrices of their own (tied, parametrised), those inside torch's recurrent layers and
    MultiheadAttention (:func:`~toolkit.training.to_crossbar` without a device makes them digital
    arrays, which are trained at low rank), and those of one row or one column, whose gradient is
    no larger than its factors.

    Parameters
    ----------
    model
        The model, or a list of groups, ``[{"module": model.body}, {"module": model.head, "lr": 0.1,
        "rank": 8}]``: a module with any of the options below that may differ between groups. They
        stand in ``param_groups``, where schedulers and users change them, live.
    lr
        Learning rate.
    method
        Name of an estimator, see :func:`~toolkit.lowrank.estimator_names`.
    rank
        Outer products in an update, k, at most min(m, n) of a layer; where the method has a rank.
    block_size
        Network inputs per block: in a convolution each counts as many samples as the output has
        positions. Where the method reads blocks.
    momentum
        :math:`V \leftarrow \mu V + U`, and V is what is written; see the notes.
    momentum_rank
        Rank at which V is kept; None: twice the rank of the update.
    weight_decay
        Plain parameters shrink by ``1 - lr * weight_decay`` a step, beside the gradient and not
        through the momentum (Loshchilov and Hutter 2019, "SGDW"; with momentum 0 that is torch's
        SGD). Must be 0 for layers on crossbars, where it would be a write to every cell.
    scheme
        How crossbars are written: "rank-sequential" or, not by coincidences, "rank-sum".
    seed
        Of the estimators' draws: an int or a generator.
    **knobs
        Further knobs of the estimator, see :func:`~toolkit.lowrank.estimator_knobs`.

    Raises
    ------
    TypeError, ValueError
        If the model has no layer to train, a value is not allowed, or a name is unknown.

    Notes
    -----
    - V is kept in factors, k'(m + n) numbers with k' = ``momentum_rank``: ``mu V + U`` has at most
      rank k' + k, and its best approximation of rank k' (QR of both sides, SVD of the small core)
      is carried on and written. As long as nothing is cut this is torch's momentum exactly, for
      example where k' = min(m, n). What is cut is dropped, so directions that each step touches
      weakly gain less from momentum. Crossbars are written the k' outer products of V.
    - ``step`` uses the samples up; ``zero_grad`` drops those that no step used. Several backward
      passes before a step add up, as ``.grad`` does, and ``torch.autograd.grad`` adds nothing.
    - Until the step, a layer holds its inputs and its outputs' errors. A convolution's im2col
      matrix exists while its layer is estimated: for SBPCA the rows of one block at a time, for
      other methods whole (of one without a rank until all layers are written: all are, or none).
    - ``weight.grad`` is None or what other uses of the weight have left: gradient clipping by norm
      sees that and the other parameters only. A GradScaler cannot scale the samples back and is
      refused; autocast to bfloat16 needs none and works.
    - A second LowRankSGD on a model goes on training the same layers;
      :func:`~toolkit.training.release_weights` gives their weights back to autograd and to torch's
      optimisers, whose ``step`` is refused while samples wait in place of a gradient.
    - Several processes train as one after
      :func:`~toolkit.training.distributed.synchronise`, which sets :attr:`exchange`: what estimates
      and writes all layers in place of this class's own loop.
    - ``state_dict`` holds estimators, velocities and generators: a resumed run has the same bits,
      if the model (and the arrays of crossbars, in the model's ``state_dict``) is restored too.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(784, 150), nn.ReLU(), nn.Linear(150, 10))
    >>> optimizer = LowRankSGD(model, lr=0.1, method="sbpca", rank=4)
    >>> loss = nn.functional.cross_entropy(model(torch.rand(64, 784)), torch.arange(64) % 10)
    >>> optimizer.zero_grad()
    >>> loss.backward()
    >>> optimizer.step()
    """

    _step_supports_amp_scaling = True  # so that a GradScaler is noticed, and refused

    def __init__(
        self,
        model: nn.Module | Iterable[Mapping[str, Any]],
        lr: float,
        *,
        method: str = "sbpca",
        rank: int = 4,
        block_size: int = 32,
        momentum: float = 0.0,
        momentum_rank: int | None = None,
        weight_decay: float = 0.0,
        scheme: str = "rank-sequential",
        seed: int | torch.Generator = 0,
        **knobs: Any,
    ) -> None:
        self._new_estimator = _maker(method, knobs, as_generator(seed))
        self.exchange: Callable[[list[Group]], None] | None = None
        self._layers: list[list[LayerUpdate]] = []
        groups = _groups(model)
        defaults = {
            "lr": lr,
            "rank": rank,
            "block_size": block_size,
            "momentum": momentum,
            "momentum_rank": momentum_rank,
            "weight_decay": weight_decay,
            "scheme": scheme,
        }
        super().__init__(groups, defaults)
        if not any(self._layers):
            raise ValueError(
                "model must have a Linear, a convolution or a layer on crossbars to train; "
                "it has none, or none whose weight is its own and asks for a gradient"
            )

    @property
    def layer_names(self) -> list[str]:
        """The layers trained by low-rank updates, group by group."""
        return [layer.name for layers in self._layers for layer in layers]

    def grouped_layers(self) -> list[Group]:
        """Each group of ``param_groups`` with its layers trained at low rank."""
        return list(zip(self.param_groups, self._layers, strict=True))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add ``{"module": ..., options}``: its layers, and all parameters that it has."""
        options = dict(param_group)
        module = options.pop("module", None)
        if not isinstance(module, nn.Module) or not set(options) <= set(_GROUP_KNOBS):
            raise ValueError(
                f"a group must be {{'module': an nn.Module}} with options among "
                f"{', '.join(_GROUP_KNOBS)}; got {', '.join(map(repr, param_group))}"
            )
        if any(isinstance(m, nn.parallel.DistributedDataParallel) for m in module.modules()):
            raise ValueError(
                "model must not be wrapped in DistributedDataParallel, which does not see the "
                "low-rank layers; give the module, and use toolkit.training.distributed.synchronise"
            )
        layers = _layers_to_train(module)
        _check_group({**self.defaults, **options}, layers)
        super().add_param_group({**options, "params": list(module.parameters())})
        self._layers.append(
            [LayerUpdate(name, layer, self._new_estimator) for name, layer in layers.items()]
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients and the samples of all backward passes so far."""
        if set_to_none:  # without torch's hooks, which take longer than the work
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        else:
            super().zero_grad(set_to_none=False)
        for layers in self._layers:
            for layer in layers:
                layer.capture.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every layer that backward came through, and all other parameters.

        Returns
        -------
        The loss, if there is a ``closure`` that computes it.

        Raises
        ------
        RuntimeError
            If there was no backward pass since the last step, a GradScaler calls, or a gradient
            reached arrays by another path than their reads.
        ValueError
            If a layer's inputs or errors are NaN or infinite (it is named), or an option in
            ``param_groups`` is not allowed: nothing has changed then. If an update overflows or an
            array refuses it: no weight has changed then.
        """
        if hasattr(self, "found_inf"):  # what a GradScaler leaves here
            raise RuntimeError("LowRankSGD cannot undo a GradScaler's scale; use bfloat16 without")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_ready(self.grouped_layers())
        self.descend()
        return loss

    @torch.no_grad()
    def descend(self) -> None:
        """What :meth:`step` does, without its checks and torch's hooks around it."""
        groups = self.grouped_layers()
        # weights that decay where their low-rank update is written
        decayed = {
            id(weight_of(layer.layer))
            for _, layers in groups
            for layer in layers
            if layer.capture.calls and not isinstance(layer.layer, CrossbarLayer)
        }
        if self.exchange is None:
            write_all([(layer, layer.estimates(g), g) for g, layers in groups for layer in layers])
        else:
            self.exchange(groups)
        for group in self.param_groups:
            self._descend_others(group, decayed)

    def _check_ready(self, groups: list[Group]) -> None:
        has_samples = any(layer.capture.calls for _, layers in groups for layer in layers)
        if not has_samples and not any(
            p.grad is not None for group, _ in groups for p in group["params"]
        ):
            raise RuntimeError(
                "step must follow loss.backward(): no layer has samples and no parameter a gradient"
            )
        for group, layers in groups:
            _check_group(group, {layer.name: layer.layer for layer in layers})
            for layer in layers:
                _check_only_read(layer)
                layer.capture.check_finite(layer.name)

    def _descend_others(self, group: dict[str, Any], decayed: set[int]) -> None:
        """Plain SGD for autograd's gradients, including other uses of a low-rank weight."""
        lr, momentum = group["lr"], group["momentum"]
        for parameter in group["params"]:
            if (step := parameter.grad) is None:
                continue
            if momentum:
                state = self.state[parameter]
                if "velocity" in state:
                    step = state["velocity"].mul_(momentum).add_(step)
                else:
                    step = state["velocity"] = step.clone()
            if group["weight_decay"] and id(parameter) not in decayed:
                parameter.mul_(1.0 - lr * group["weight_decay"])
            parameter.add_(step, alpha=-lr)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "a LowRankSGD cannot be copied or pickled, as its layers belong to the model; make one "
            "of the copied model and load this one's state_dict"
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of any optimiser, and that of estimators and velocities."""
        layers = [[layer.state_dict() for layer in layers] for layers in self._layers]
        return {**super().state_dict(), "layers": layers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. ValueError if it is of another model or method."""
        load_whole(state_dict, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        shape = [[layer.name for layer in layers] for layers in self._layers]
        if [[layer.get("name") for layer in layers] for layers in state["layers"]] != shape:
            raise ValueError(f"state must be of a LowRankSGD of the layers {shape}")
        rest = {key: value for key, value in state.items() if key != "layers"}
        super().load_state_dict(rest)
        for layers, states in zip(self._layers, state["layers"], strict=True):
            for layer, one in zip(layers, states, strict=True):
                layer.load_state_dict(one)


def _refuse_to_step_over_samples(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """RuntimeError if torch's own optimiser would leave weights as they are, without a word."""
    if isinstance(optimizer, LowRankSGD):
        return
    if any(has_samples(p) for group in optimizer.param_groups for p in group["params"]):
        raise RuntimeError(
            "optimizer must be a LowRankSGD for layers on arrays or trained by one; got "
            f"{type(optimizer).__name__}, while their samples wait in place of gradients: step the "
            "LowRankSGD first, clear_samples() after an update of your own, freeze the layers by "
            "requires_grad_(False), or give them back to autograd by to_digital or release_weights"
        )


register_optimizer_step_pre_hook(_refuse_to_step_over_samples)


def _groups(model: nn.Module | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The model as a list of groups."""
    if isinstance(model, nn.Module):
        return [{"module": model}]
    what = "the nn.Module itself, or a list of groups {'module': ...}"
    check_instance("model", model, Iterable, what)
    model = list(model)
    if not model:
        raise ValueError(f"model must be {what}; got an empty list")
    return [_checked_group(group, what) for group in model]


def _checked_group(group: Any, what: str) -> dict[str, Any]:
    check_instance("model", group, Mapping, what)
    return dict(group)


def _maker(
    method: str, knobs: Mapping[str, Any], generator: torch.Generator
) -> Callable[[], Estimator]:
    """What makes one estimator after another, each with a seed of its own."""
    if own := sorted(set(knobs) & {"rank", "block_size", "seed"}):
        raise TypeError(f"{own[0]} is an argument of its own")
    check_choice("method", method, estimator_names())
    has_seed = "seed" in estimator_knobs(method)

    def make() -> Estimator:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        return make_estimator(method, **knobs, **({"seed": seed} if has_seed else {}))

    make_estimator(method, **knobs)  # a wrong knob is an error at once
    return make


def _layers_to_train(module: nn.Module) -> dict[str, CrossbarLayer | PlainLayer]:
    """The layers on crossbars, and torch's own that are worth factors, by name."""
    plain, _ = matrix_layers(module)
    found = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, CrossbarLayer) or (name in plain and _is_worth_factors(plain[name]))
    }
    for name, layer in found.items():
        held = held_of(layer)
        if held.is_meta or not held.dtype.is_floating_point:
            what = "the meta device" if held.is_meta else held.dtype
            raise TypeError(f"layer {name!r} must hold real numbers to be trained; got {what}")
    return found


def _is_worth_factors(layer: PlainLayer) -> bool:
    is_trained = weight_of(layer).requires_grad and adapter_of(layer).is_estimated
    return is_trained and min(matrix_shapes(layer)[0]) > 1


def _check_only_read(layer: LayerUpdate) -> None:
    """RuntimeError if a gradient came to arrays by another path than their reads, or hooks wait."""
    if any(parameter._backward_hooks for parameter in layer.layer.parameters(recurse=False)):
        raise RuntimeError(
            f"the parameters of layer {layer.name!r} have hooks, which see no gradient where it is "
            "trained at low rank; register them before LowRankSGD is made, or leave them out"
        )
    if isinstance(layer.layer, CrossbarLayer) and layer.layer.anchor.grad is not None:
        raise RuntimeError(
            f"the weights of layer {layer.name!r} are in arrays, which no gradient reaches but by "
            "their reads; leave its parameters out of the loss (of an L2 term, for example)"
        )


def _check_group(group: Mapping[str, Any], layers: Mapping[str, nn.Module]) -> None:
    """ValueError or TypeError for an option that is not allowed."""
    check_real("lr", group["lr"], 0.0)
    check_count("rank", group["rank"])
    check_count("block_size", group["block_size"])
    check_real("momentum", group["momentum"], 0.0, 1.0)
    check_real("weight_decay", group["weight_decay"], 0.0)
    if group["momentum_rank"] is not None:
        check_count("momentum_rank", group["momentum_rank"])
    check_choice("scheme", group["scheme"], SCHEMES)
    for name, layer in layers.items():
        if not isinstance(layer, CrossbarLayer):
            continue
        if group["weight_decay"]:
            raise ValueError(
                f"weight_decay must be 0 for layers on crossbars, where it would write every cell "
                f"of {name!r}; got {group['weight_decay']}"
            )
        with in_layer(name):
            for array in layer.arrays:
                array.check_scheme(group["scheme"])
