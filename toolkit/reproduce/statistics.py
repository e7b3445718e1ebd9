"""Means over seeds with confidence intervals, and the verdicts that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import stats

CONFIDENCE = 0.95
SUPPORTED, NOT_SUPPORTED, MIXED = "supported", "not supported", "mixed"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence limits, which are NaN for a single value."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def exact(cls, value: float) -> Interval:
        """Return an exact number, such as a count or a size."""
        return cls(value, value, value, 1)

    def __str__(self) -> str:
        if self.low == self.high:
            return _number(self.mean)
        if math.isnan(self.low):
            return f"{_number(self.mean)} (one run)"
        return f"{_number(self.mean)} [{_number(self.low)}, {_number(self.high)}]"

    def short(self) -> str:
        """Format as mean ± half the width, for tables."""
        half = self.high - self.mean
        return _number(self.mean) + (f" ± {_number(half)}" if half > 0 else "")


def _number(value: float) -> str:
    """Enough digits, and no exponents."""
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3g}"


def interval(values: Sequence[float] | np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Mean of independent ``values`` and its Student interval, NaN entries left out.

    ``mean ± t sd / sqrt(count)`` with t of ``count - 1`` degrees of freedom. One value has no
    interval (NaN limits).

    Raises
    ------
    ValueError
        If no value is left.
    """
    given = np.asarray(values, dtype=float)
    given = given[np.isfinite(given)]
    if not len(given):
        raise ValueError("values must hold a finite number; got none.")
    mean = float(given.mean())
    if len(given) == 1:
        return Interval(mean, math.nan, math.nan, 1)
    error = float(given.std(ddof=1)) / math.sqrt(len(given))
    half = float(stats.t.ppf((1 + confidence) / 2, len(given) - 1)) * error
    return Interval(mean, mean - half, mean + half, len(given))


@dataclass(frozen=True)
class Finding:
    """One measured number against the bar that was set for it beforehand.

    ``supported`` if the whole interval keeps to the bar, ``not supported`` if the whole of it does
    not, ``mixed`` if the bar lies inside or a single run leaves it open.
    """

    statement: str
    value: Interval
    bar: float
    at_least: bool = False
    unit: str = ""

    @property
    def verdict(self) -> str:
        """What the interval says."""
        low, high = self.value.low, self.value.high
        if self.at_least:
            keeps, breaks = low >= self.bar, high < self.bar
        else:
            keeps, breaks = high <= self.bar, low > self.bar
        return SUPPORTED if keeps else NOT_SUPPORTED if breaks else MIXED

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.statement}: {self.value}{unit}; bar {sign} {self.bar:g}: {self.verdict}"


def overall_verdict(findings: Sequence[Finding]) -> str:
    """What all findings of a claim say together: all alike, or mixed."""
    verdicts = {finding.verdict for finding in findings}
    if not verdicts:
        return NOT_MEASURED
    return verdicts.pop() if len(verdicts) == 1 else MIXED


def shortfall(
    data: xr.Dataset,
    method: Mapping[str, object],
    reference: Mapping[str, object],
    *,
    variable: str = "test_accuracy",
) -> Interval | None:
    """``reference`` less ``method``, paired by seed; None where one of them was not measured."""
    pairs = paired(data, method, reference, variable=variable)
    return None if pairs is None else interval(pairs[1] - pairs[0])


def paired(
    data: xr.Dataset,
    first: Mapping[str, object],
    second: Mapping[str, object],
    *,
    variable: str = "test_accuracy",
) -> tuple[np.ndarray, np.ndarray] | None:
    """The values of two cases for the seeds that both have; None where there is none."""
    if any(
        value not in data[dim].values for place in (first, second) for dim, value in place.items()
    ):
        return None
    one, other = (data[variable].sel(dict(place)).values for place in (first, second))
    both = np.isfinite(one) & np.isfinite(other)
    return (one[both], other[both]) if both.any() else None
