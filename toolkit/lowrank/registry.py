"""Estimators by name. A new estimator needs a file and a row here."""

from __future__ import annotations

import inspect
from typing import Any

from toolkit.checks import check_choice
from toolkit.lowrank.estimator import Estimator
from toolkit.lowrank.feedback import FeedbackPCA
from toolkit.lowrank.full import FullGradient
from toolkit.lowrank.lrt import LRT
from toolkit.lowrank.nmf import NMF
from toolkit.lowrank.power import PowerIteration
from toolkit.lowrank.sbe import SBE
from toolkit.lowrank.sbpca import SBPCA
from toolkit.lowrank.svd import TruncatedSVD

ESTIMATORS: dict[str, type[Estimator]] = {
    cls.name: cls
    for cls in (FeedbackPCA, FullGradient, LRT, NMF, PowerIteration, SBE, SBPCA, TruncatedSVD)
}


def estimator_names() -> tuple[str, ...]:
    """Return the names that :func:`make_estimator` knows, in alphabetical order.

    Examples
    --------
    >>> estimator_names()
    ('feedback', 'lrt', 'nmf', 'power', 'sbe', 'sbpca', 'sgd', 'svd')
    """
    return tuple(sorted(ESTIMATORS))


def estimator_knobs(name: str) -> tuple[str, ...]:
    """Return the keyword arguments that the estimator takes, in the order of its signature."""
    return tuple(inspect.signature(_class(name)).parameters)


def make_estimator(name: str, **knobs: Any) -> Estimator:
    """Create an estimator by name, for example ``make_estimator("sbpca", rank=4)``.

    Raises ValueError for an unknown name or knob and lists those allowed.

    Examples
    --------
    >>> make_estimator("sbpca", rank=4).rank
    4
    """
    unknown = sorted(set(knobs) - set(estimator_knobs(name)))
    if unknown:
        allowed = ", ".join(estimator_knobs(name)) or "none"
        raise ValueError(f"estimator {name!r} takes the knobs {allowed}; got {', '.join(unknown)}")
    return _class(name)(**knobs)


def _class(name: str) -> type[Estimator]:
    return ESTIMATORS[check_choice("name", name, ESTIMATORS)]
