"""What torch would do to layers on arrays by halves, or leave undone: done whole, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.optim.swa_utils import AveragedModel

from toolkit.checks import check_instance
from toolkit.training.layers.modules import CrossbarLayer


def crossbar_layers(model: nn.Module) -> dict[str, CrossbarLayer]:
    """The layers on arrays by name, in the order of ``model.named_modules()``."""
    check_instance("model", model, nn.Module, "an nn.Module")
    return {
        name: module for name, module in model.named_modules() if isinstance(module, CrossbarLayer)
    }


def guard(model: nn.Module) -> None:
    """Have every module that holds arrays be moved, cast and loaded whole, or not at all."""
    for module in model.modules():
        if not isinstance(module, CrossbarLayer) and _holds_arrays(module):
            _guard_one(module)


def unguard(model: nn.Module) -> None:
    """Undo :func:`guard`, in a copy that has no arrays any more."""
    for module in model.modules():
        hooks = module._load_state_dict_pre_hooks
        if vars(module).pop("_apply", None) is not None:
            for key in [
                k for k, h in hooks.items() if getattr(h, "hook", None) is _load_all_or_none
            ]:
                del hooks[key]


def _guard_one(module: nn.Module) -> None:
    if "_apply" not in vars(module):
        vars(module)["_apply"] = partial(_apply_to_all_or_none, module)
        module.register_load_state_dict_pre_hook(_load_all_or_none)


def _holds_arrays(module: nn.Module) -> bool:
    return any(isinstance(part, CrossbarLayer) for part in module.modules())


def _on_registration(parent: nn.Module, _name: str, child: nn.Module | None) -> None:
    """Guard whatever a model on arrays becomes a part of."""
    if child is None or not _holds_arrays(child):
        return
    if isinstance(parent, AveragedModel):
        raise TypeError(
            "model of an AveragedModel, which averages parameters only, must have no layers on "
            "arrays; give it to_digital(model), here and at every update_parameters"
        )
    _guard_one(parent)


register_module_module_registration_hook(_on_registration)


def _apply_to_all_or_none(
    model: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True
) -> nn.Module:
    """What ``.to``, ``.double`` and the like call: refused before any part has moved."""
    for layer in crossbar_layers(model).values():
        layer.check_stays(fn)
    return type(model)._apply(model, fn, recurse)


def _load_all_or_none(model: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Before torch loads part after part: ValueError, and nothing changed, if one differs."""
    for name, mine in (*model.named_parameters(), *model.named_buffers()):
        saved = state.get(prefix + name, mine)
        if not isinstance(saved, Tensor) or saved.shape != mine.shape:
            got = tuple(saved.shape) if isinstance(saved, Tensor) else type(saved).__name__
            raise ValueError(f"{name} of the state must have shape {tuple(mine.shape)}; got {got}")
    before: list[tuple[CrossbarLayer, dict[str, Any]]] = []
    for name, layer in crossbar_layers(model).items():
        key = f"{prefix}{name}._extra_state"
        if key in state:
            before.append((layer, layer.get_extra_state()))
            try:
                layer.set_extra_state(state[key])
            except ValueError as error:
                for changed, old in before:
                    changed.set_extra_state(old)
                raise ValueError(f"layer {name!r}: {error}") from error
