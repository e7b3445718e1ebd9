"""What a claim is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr

from toolkit.reproduce.statistics import Finding
from toolkit.reproduce.study import Case, Measure, measure_training

FULL, QUICK, SMALLEST = "full", "quick", "smallest"


@dataclass(frozen=True)
class Claim:
    """A question, the cases that answer it, the verdict and the figure.

    ``plan(size)`` gives the cases, ``size`` being "full", "quick" or "smallest"; ``judge(data)``
    the findings, each against a bar fixed beforehand; ``draw(data)`` a HoloViews object. ``shown``
    are the variables in the report's table.
    """

    name: str
    title: str
    question: str
    plan: Callable[[str], list[Case]]
    judge: Callable[[xr.Dataset], list[Finding]]
    draw: Callable[[xr.Dataset], Any]
    shown: tuple[str, ...] = ("test_accuracy", "learning_rate")
    measure: Measure = measure_training
