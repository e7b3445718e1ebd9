"""The race without a browser: runs, addresses, and standings at equal budgets."""

import math
import time

import numpy as np
import pytest

from dashboards.app.site import CELL
from dashboards.race.page import (
    LETTERS,
    MOST_SEEDS,
    Race,
    against_best,
    axis_of_query,
    counts_html,
    query_of_runs,
    run_names,
    runs_of_query,
    seeds_of_query,
    standings_html,
)
from dashboards.race.track import MOST_POINTS, Point, Track, standings
from toolkit.training import Experiment, Settings

SMALL = {"hidden": [8]}


@pytest.fixture
def race():
    made = []

    def make(*runs, **more):
        made.append(Race(runs, **more))
        return made[-1]

    yield make
    for one in made:
        one._on_session_destroyed(None)


def until(race, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
        race.refresh()
    race.refresh()  # the snapshot may be newer than the last frame


def steps(race):
    return [run.live.snapshot.step for run in race.runs]


def test_runs_begin_with_the_same_weights_and_see_the_same_samples(race):
    page = race(SMALL | {"method": "sgd"}, {"method": "sgd", "hidden": [99]})
    runs = [run.live._experiment for run in page.runs]
    for run in page.runs:
        run.live.step()
    until(page, lambda: steps(page) == [1, 1])
    weights = [run.arrays["layer1"].weights for run in runs]
    assert weights[0].shape == (8, 65)  # what is fixed for a run is the first one's for all
    assert weights[0].equal(weights[1])


def test_a_turned_knob_reaches_its_own_run_only(race):
    page = race(SMALL, SMALL)
    page.runs[1].widgets["rank"].value = 2
    until(page, lambda: page.runs[1].live.snapshot.knobs["rank"] == 2)
    assert page.runs[0].live.snapshot.knobs["rank"] == 4
    assert "b.rank=2" in page.address.object


def test_another_device_comes_with_its_own_nonidealities(race):
    page = race(SMALL | {"device": "Ag:a-Si", "cycle_to_cycle": 0.2, "dac_bits": 6}, SMALL)
    page.refresh()
    assert "Cycle-to-cycle 0.2, DAC 6" in page.about.object
    page.runs[0].widgets["device"].value = "EpiRAM"
    until(page, lambda: page.runs[0].live.snapshot.knobs["device"] == "EpiRAM")
    page.refresh()
    assert page.runs[0].live.snapshot.knobs["cycle_to_cycle"] is None
    assert "Run A besides: DAC 6." in page.about.object
    assert "EpiRAM: 64 pulses up" in page.about.object


def test_start_and_reset_are_for_all(race):
    page = race(SMALL, SMALL | {"method": "sgd"}, SMALL | {"device": "EpiRAM"})
    page.start.clicks += 1
    until(page, lambda: min(steps(page)) > 3)
    assert len(page.loss.columns(2)["x"]) > 0
    page.pause.clicks += 1
    until(page, lambda: not any(run.live.snapshot.running for run in page.runs))
    page.reset.clicks += 1
    until(page, lambda: max(steps(page)) == 0)
    page.refresh()
    assert len(page.runs[0].track.column("step")) == 0


def test_what_has_no_effect_cannot_be_moved(race):
    page = race(SMALL, SMALL | {"method": "sgd"})
    page.refresh()
    off = [{name for name, one in run.widgets.items() if one.disabled} for run in page.runs]
    assert off == [set(), {"rank", "block_size"}]
    assert not page.start.disabled and page.pause.disabled


def test_an_accuracy_is_drawn_once_for_each_measurement(race):
    page = race(SMALL, SMALL)
    for step, accuracy in enumerate((math.nan, 0.5, 0.5, 0.5, 0.7), 1):
        page.runs[0].track.add(Point(step, 10 * step, 0, 0.1 * step, 1.0, accuracy))
    page._put()
    for glyph in (0, 4):  # the thin line, and the dots after two curves and two bands
        assert page.accuracy.columns(glyph)["x"].tolist() == [20, 50]
        assert page.accuracy.columns(glyph)["y"].tolist() == [50, 70]


def test_a_new_seed_is_for_all(race):
    page = race(SMALL, SMALL)
    page.new_seed.clicks += 1
    until(page, lambda: {run.live.snapshot.knobs["seed"] for run in page.runs} == {1})


def test_the_first_steps_are_all_in_the_curves(race):
    page = race(SMALL, SMALL, first_steps=10)
    until(page, lambda: all(run.live.snapshot.answered == run.live.asked for run in page.runs))
    page.refresh()
    assert page.runs[0].track.column("step").tolist() == [1, 4, 7, 10]


def test_seeds_train_as_one_and_give_means_and_bands(race):
    page = race(SMALL, SMALL | {"device": "EpiRAM"}, seeds=3)
    page.start.clicks += 1
    until(page, lambda: all(run.live.snapshot.epoch > 2 for run in page.runs))
    page.pause.clicks += 1
    until(page, lambda: not any(run.live.snapshot.running for run in page.runs))
    page.refresh()
    for run in page.runs:
        every = [run.live._experiment, *run.live._others]
        assert [one.seed for one in every] == [0, 1, 2]
        assert {one.step_count for one in every} == {run.live.snapshot.step}
        reached = [one.record.evaluations[-1, 2] for one in every]
        assert run.track.at("seconds", math.inf) == pytest.approx(np.mean(reached))
        assert run.track.at("seconds", math.inf, "spread") == pytest.approx(np.std(reached, ddof=1))
        assert run.track.used("pulses") == pytest.approx(np.mean([one.pulses for one in every]))
    band, curve = page.accuracy.columns(2), page.accuracy.columns(0)
    high, low = np.split(band["y"], 2)
    assert (np.nan_to_num(low[::-1]) <= np.nan_to_num(curve["y"])).all()
    assert (np.nan_to_num(curve["y"]) <= np.nan_to_num(high)).all()
    assert page.address.object.endswith("&seeds=3") and "0 to 2" in page.counts.object
    page.runs[0].widgets["rank"].value = 2
    until(page, lambda: page.runs[0].live.snapshot.knobs["rank"] == 2)
    assert [one.rank for one in page.runs[0].live._others] == [2, 2]
    page.new_seed.clicks += 1
    until(page, lambda: {run.live.snapshot.knobs["seed"] for run in page.runs} == {3})


def test_one_of_several_seeds_repeats_a_run_of_its_own(race):
    page = race(SMALL, SMALL, seeds=2)
    for _ in range(3):
        page.runs[0].live.step()
    until(page, lambda: page.runs[0].live.snapshot.step == 3)
    alone = Experiment(**SMALL, seed=1)
    for _ in range(3):
        alone.step()
    own = page.runs[0].live._others[0]
    assert own.arrays["layer1"].weights.equal(alone.arrays["layer1"].weights)


def test_a_refused_knob_is_said_and_taken_back(race):
    page = race(SMALL, SMALL)
    page.runs[1].live.change(rank=400)
    until(page, lambda: "Run B: rank=400" in page.notice.object)
    assert page.runs[1].widgets["rank"].value == 4


def test_standings_are_at_equal_budgets(race):
    page = race(SMALL, SMALL | {"device": "EpiRAM"})
    page.start.clicks += 1
    until(page, lambda: all(run.live.snapshot.epoch > 2 for run in page.runs))
    shown = standings_html(page.runs)
    assert shown.count("<tr>") == 3
    assert "pulses</th>" in shown
    assert "One seed decides nothing" in shown
    assert "One seed" not in standings_html(page.runs, seeds=2)
    assert "%" in shown


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_address_holds_the_race(count):
    runs = [{"rank": i + 5, "device": "EpiRAM"} for i in range(count)]
    assert runs_of_query(query_of_runs(runs)) == runs


def test_the_address_holds_the_axis(race):
    page = race(SMALL, SMALL)
    page.axis.value = "pulses"
    assert page.address.object.endswith("&along=pulses")
    assert axis_of_query(page.address.object) == "pulses" and axis_of_query("runs=2") == "samples"
    assert runs_of_query(page.address.object)[0]["hidden"] == [8]
    assert "along=pulses" in page.counts.object
    with pytest.raises(ValueError, match="along must be one of samples, step, pulses, seconds"):
        axis_of_query("along=fame")


@pytest.mark.parametrize("wrong", ["0", "6", "many"])
def test_the_address_holds_the_number_of_seeds(wrong):
    assert seeds_of_query("runs=2") == 1
    assert seeds_of_query(query_of_runs([{}, {}], seeds=5)) == 5
    with pytest.raises(ValueError, match=r"seeds must be one of 1, 2, 3, 4, 5; got"):
        seeds_of_query(f"seeds={wrong}")


def test_no_address_is_the_default_race():
    cell = {"device": CELL}
    assert runs_of_query("") == [cell, cell | {"method": "sgd"}]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("runs=9", "runs must be 2, 3 or 4"),
        ("runs=2&c.rank=3", "unknown name 'c.rank'"),
        ("rank=3", "unknown name 'rank'"),
        ("a.rank=0", "rank must be a whole number, 1 to 512; got 0"),
        ("b.colour=red", "unknown knob 'colour'"),
        ("b.hidden=8", "all runs share hidden: set a.hidden alone; got b.hidden"),
        ("a.seed=1&b.seed=2", "all runs share seed: set a.seed alone; got b.seed"),
    ],
)
def test_a_wrong_address_is_one_message(query, message):
    with pytest.raises(ValueError, match=message):
        runs_of_query(query)


def test_more_runs_are_one_click_away():
    links = counts_html([{}, {"method": "sgd"}])
    assert links.count("<a ") == len(LETTERS) - 1 + MOST_SEEDS
    assert "runs=4" in links and "seeds=5" in links


def test_a_name_has_only_what_differs_and_is_used():
    runs = [Settings(rank=1), Settings(), Settings(method="sgd")]
    names = run_names([run.knob_values() for run in runs])
    assert names == ["A: SBPCA, rank 1", "B: SBPCA, rank 4", "C: SGD"]


@pytest.mark.parametrize("count", [1, 5])
def test_a_race_has_two_to_four_runs(count):
    with pytest.raises(ValueError, match="runs must be 2 to 4"):
        Race([{}] * count)


# --- standings ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("spread", "text"), [(0.0, "80.0% (−10.0)"), (0.05, "80.0% ± 5.0 (−10.0)")]
)
def test_a_difference_beyond_the_spread_is_not_marked(spread, text):
    ahead, behind = (one_point(accuracy, spread) for accuracy in (0.9, 0.8))
    assert against_best([ahead, behind], "samples", 10, [0.9, 0.8], 1) == text


def test_a_difference_within_the_spread_of_the_seeds_is_marked():
    ahead, behind = one_point(0.9, 0.06), one_point(0.8, 0.09)  # together 0.108
    tracks, reached = [ahead, behind], [0.9, 0.8]
    assert against_best(tracks, "samples", 10, reached, 1) == "80.0% ± 9.0 (−10.0 ≈)"
    assert against_best(tracks, "samples", 10, reached, 0) == "90.0% ± 6.0 (best)"


def one_point(accuracy: float, spread: float) -> Track:
    made = Track()
    made.add(Point(1, 10, 100, 0.1, 1.0, accuracy, spread))
    return made


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
