"""The kinds of layers that can be on arrays, or be trained at low rank."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from toolkit.checks import check_instance
from toolkit.training.layers.adapters import (
    Adapter,
    EmbeddingAdapter,
    LinearAdapter,
    TransposedLinearAdapter,
)
from toolkit.training.layers.convolution_adapters import (
    ConvolutionAdapter,
    TransposedConvolutionAdapter,
)

Kind = TypeVar("Kind", bound=type[Adapter])

# Earlier ones win.
ADAPTERS: list[type[Adapter]] = [
    LinearAdapter,
    TransposedLinearAdapter,
    ConvolutionAdapter,
    TransposedConvolutionAdapter,
    EmbeddingAdapter,
]


def register_adapter(adapter: Kind) -> Kind:
    """Have layers of a kind of your own converted and trained as all others; a class decorator.

    Parameters
    ----------
    adapter
        A subclass of :class:`~toolkit.training.Adapter`. It goes before those that are there.

    Returns
    -------
    The class.
    """
    if not (isinstance(adapter, type) and issubclass(adapter, Adapter)):
        raise TypeError(f"adapter must be a subclass of Adapter; got {adapter!r}")
    if adapter not in ADAPTERS:
        ADAPTERS.insert(0, adapter)
    return adapter


def adapter_kind(layer: nn.Module) -> type[Adapter] | None:
    """The kind of adapter for a layer, if there is one."""
    check_instance("layer", layer, nn.Module, "an nn.Module")
    return next((kind for kind in ADAPTERS if kind.kind_of(layer) is not None), None)
