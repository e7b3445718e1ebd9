"""Standings of runs at equal samples, pulses and seconds."""

import math

import numpy as np
import pytest

from dashboards.race.track import MOST_POINTS, Point, Track, standings


def track(*points: tuple[int, int, int, float, float]) -> Track:
    """Of (step, samples, pulses, seconds, accuracy)."""
    made = Track()
    for step, samples, pulses, seconds, accuracy in points:
        made.add(Point(step, samples, pulses, seconds, 1.0, accuracy))
    return made


FAST = track((1, 10, 100, 0.1, math.nan), (2, 20, 200, 0.2, 0.5), (4, 40, 400, 0.4, 0.9))
SLOW = track((1, 10, 5, 1.0, 0.3), (2, 20, 10, 2.0, 0.6))
PLAIN = track((1, 10, 0, 0.1, 0.2), (3, 30, 0, 0.3, 0.8))


def test_equal_samples_are_those_that_all_have_seen():
    common, reached = standings([FAST, SLOW, PLAIN], "samples")
    assert common == 20
    assert reached == [0.5, 0.6, 0.2]


def test_plain_weights_write_no_pulses():
    common, (fast, slow, plain) = standings([FAST, SLOW, PLAIN], "pulses")
    assert common == 10
    assert math.isnan(fast)  # it had written 100 before anyone looked
    assert slow == 0.6
    assert math.isnan(plain)


def test_equal_seconds():
    assert standings([FAST, SLOW], "seconds") == (0.4, [0.9, pytest.approx(math.nan, nan_ok=True)])


def test_a_race_that_has_not_begun_has_no_standings():
    common, reached = standings([Track(), Track()], "samples")
    assert common == 0
    assert all(map(math.isnan, reached))


def test_an_unknown_budget_is_refused():
    with pytest.raises(ValueError, match="budget must be one of samples, pulses, seconds"):
        standings([FAST], "joules")


def test_a_long_track_is_thinned_and_keeps_both_ends():
    made = track(*((i, i, i, i / 10, 0.5) for i in range(1, 20_000)))
    steps = made.column("step")
    assert MOST_POINTS < len(steps) <= 2 * MOST_POINTS + 2
    assert steps[0] == 1
    assert steps[-1] == 19_999
    assert (np.diff(steps) > 0).all()


def test_a_run_that_stands_still_adds_nothing():
    made = track((1, 10, 0, 0.1, 0.2), (1, 10, 0, 0.5, 0.2))
    assert len(made.column("step")) == 1
