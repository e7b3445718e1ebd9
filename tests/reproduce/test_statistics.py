"""Intervals against SciPy's, verdicts on hand-made numbers."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from toolkit.reproduce.statistics import (
    Finding,
    Interval,
    interval,
    overall_verdict,
    paired,
    shortfall,
)


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_interval_is_student_s(count):
    values = np.random.default_rng(count).normal(96.0, 0.3, count)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = interval(values)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert (found.mean, found.count) == (pytest.approx(values.mean()), count)


def test_what_was_not_measured_is_left_out():
    assert interval([1.0, math.nan, 3.0]) == interval([1.0, 3.0])
    with pytest.raises(ValueError, match="values must hold a finite number"):
        interval([math.nan])


def test_one_run_has_no_interval():
    alone = interval([97.25])
    assert (alone.mean, alone.count) == (97.25, 1)
    assert math.isnan(alone.low)
    assert str(alone) == "97.25 (one run)"
    assert alone.short() == "97.25"


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [
        (Interval(0.4, 0.3, 0.5, 5), False, "supported"),
        (Interval(0.7, 0.6, 0.8, 5), False, "not supported"),
        (Interval(0.45, 0.2, 0.7, 5), False, "mixed"),
        (Interval(0.55, 0.4, 0.7, 5), False, "mixed"),
        (Interval(0.7, 0.6, 0.8, 5), True, "supported"),
        (Interval(0.4, 0.3, 0.49, 5), True, "not supported"),
        (Interval(0.7, 0.4, 1.0, 5), True, "mixed"),
        (interval([0.1]), False, "mixed"),  # one run leaves it open, however good it looks
        (Interval.exact(0.5), False, "supported"),
        (Interval.exact(0.51), False, "not supported"),
    ],
)
def test_verdict_is_that_of_the_whole_interval(value, at_least, verdict):
    finding = Finding("it", value, 0.5, at_least=at_least)
    assert finding.verdict == verdict
    assert str(finding).endswith(f"bar {'≥' if at_least else '≤'} 0.5: {verdict}")


def test_claim_is_what_its_findings_agree_on():
    good = Finding("a", Interval.exact(1.0), 2.0)
    bad = Finding("b", Interval.exact(3.0), 2.0)
    assert overall_verdict([good, good]) == "supported"
    assert overall_verdict([bad]) == "not supported"
    assert overall_verdict([good, bad]) == "mixed"
    assert overall_verdict([]) == "not measured"


def accuracies() -> xr.Dataset:
    """Two methods, four seeds; the seeds differ far more than the methods do."""
    values = [[90.0, 95.0, 85.0, 80.0], [89.0, 94.5, 83.5, np.nan]]
    return xr.Dataset(
        {"test_accuracy": (("method", "seed"), values)},
        coords={"method": ["MBGD", "SBPCA"], "seed": range(4)},
    )


def test_differences_are_paired_by_seed():
    loss = shortfall(accuracies(), {"method": "SBPCA"}, {"method": "MBGD"})
    assert loss == interval([1.0, 0.5, 1.5])
    assert loss.mean == 1.0
    first, second = paired(accuracies(), {"method": "SBPCA"}, {"method": "MBGD"})
    np.testing.assert_array_equal(second - first, [1.0, 0.5, 1.5])


def test_a_case_that_is_not_there_has_no_difference():
    assert shortfall(accuracies(), {"method": "NMF"}, {"method": "MBGD"}) is None
    empty = accuracies().where(False)
    assert shortfall(empty, {"method": "SBPCA"}, {"method": "MBGD"}) is None
