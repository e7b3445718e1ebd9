"""Estimators by name.

Every module of this package is looked through once, so that a new estimator is one new file:
a subclass of :class:`~toolkit.lowrank.estimator.Estimator` with a ``name``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.checks import check_choice
from toolkit.lowrank.estimator import Estimator

__all__ = ["estimator_knobs", "estimator_names", "make_estimator"]


def estimator_names() -> tuple[str, ...]:
    """Return the names that :func:`make_estimator` knows, in alphabetical order."""
    return tuple(sorted(_classes()))


def estimator_knobs(name: str) -> tuple[str, ...]:
    """Return the keyword arguments that the estimator takes, in the order of its signature."""
    return tuple(inspect.signature(_class(name)).parameters)


def make_estimator(name: str, **knobs: Any) -> Estimator:
    """Make an estimator by name, for example ``make_estimator("sbpca", rank=4)``.

    Raises ValueError for an unknown name or knob, listing what is allowed.
    """
    unknown = sorted(set(knobs) - set(estimator_knobs(name)))
    if unknown:
        allowed = ", ".join(estimator_knobs(name)) or "none"
        raise ValueError(f"estimator {name!r} takes the knobs {allowed}; got {', '.join(unknown)}")
    return _class(name)(**knobs)


def _class(name: str) -> type[Estimator]:
    classes = _classes()
    return classes[check_choice("name", name, classes)]


def _classes() -> dict[str, type[Estimator]]:
    _import_siblings()
    return {cls.name: cls for cls in sorted(_subclasses(Estimator), key=lambda c: c.name)}  # type: ignore[type-abstract]


@functools.cache
def _import_siblings() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"toolkit.lowrank.{module.name}")


def _subclasses(base: type[Estimator]) -> Iterator[type[Estimator]]:
    for cls in base.__subclasses__():
        if "name" in vars(cls) and not inspect.isabstract(cls):
            yield cls
        yield from _subclasses(cls)
