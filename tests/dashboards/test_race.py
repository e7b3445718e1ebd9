"""The race without a browser: lanes, standings and addresses."""

import time

import pytest

from dashboards.race.page import (
    LETTERS,
    Race,
    axis_of_query,
    counts_html,
    lanes_of_query,
    query_of_lanes,
    standings_html,
)

SMALL = {"hidden": [8]}


@pytest.fixture
def race():
    made = []

    def make(*lanes):
        made.append(Race(lanes))
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


def steps(race):
    return [lane.run.snapshot.step for lane in race.lanes]


def test_lanes_begin_with_the_same_weights_and_see_the_same_samples(race):
    page = race(SMALL | {"method": "sgd"}, {"method": "sgd", "hidden": [99]})
    runs = [lane.run._experiment for lane in page.lanes]
    for lane in page.lanes:
        lane.run.step()
    until(page, lambda: steps(page) == [1, 1])
    weights = [run.arrays["layer1"].weights for run in runs]
    assert weights[0].shape == (8, 65)  # what is fixed for a run is the first one's for all
    assert weights[0].equal(weights[1])


def test_a_turned_knob_reaches_its_own_lane_only(race):
    page = race(SMALL, SMALL)
    page.lanes[1].widgets["rank"].value = 2
    until(page, lambda: page.lanes[1].run.snapshot.knobs["rank"] == 2)
    assert page.lanes[0].run.snapshot.knobs["rank"] == 4
    assert "b.rank=2" in page.address.object


def test_another_device_comes_with_its_own_nonidealities(race):
    page = race(SMALL | {"device": "Ag:a-Si", "cycle_to_cycle": 0.2, "dac_bits": 6}, SMALL)
    page.refresh()
    assert "Cycle-to-cycle 0.2, DAC 6" in page.lanes[0].others.object
    page.lanes[0].widgets["device"].value = "EpiRAM"
    until(page, lambda: page.lanes[0].run.snapshot.knobs["device"] == "EpiRAM")
    page.refresh()
    assert page.lanes[0].run.snapshot.knobs["cycle_to_cycle"] is None
    assert page.lanes[0].others.object == "Besides: DAC 6"


def test_start_and_reset_are_for_all(race):
    page = race(SMALL, SMALL | {"method": "sgd"}, SMALL | {"device": "EpiRAM"})
    page.start.clicks += 1
    until(page, lambda: min(steps(page)) > 3)
    assert len(page.loss.columns(2)["x"]) > 0
    page.pause.clicks += 1
    until(page, lambda: not any(lane.run.snapshot.running for lane in page.lanes))
    page.reset.clicks += 1
    until(page, lambda: max(steps(page)) == 0)
    page.refresh()
    assert len(page.lanes[0].track.column("step")) == 0


def test_a_new_seed_is_for_all(race):
    page = race(SMALL, SMALL)
    page.new_seed.clicks += 1
    until(page, lambda: {lane.run.snapshot.knobs["seed"] for lane in page.lanes} == {1})


def test_a_refused_knob_is_said_and_taken_back(race):
    page = race(SMALL, SMALL)
    page.lanes[1].run.change(rank=400)
    until(page, lambda: "Run B: rank=400" in page.notice.object)
    assert page.lanes[1].widgets["rank"].value == 4


def test_standings_are_at_equal_budgets(race):
    page = race(SMALL, SMALL | {"device": "EpiRAM"})
    page.start.clicks += 1
    until(page, lambda: all(lane.run.snapshot.epoch > 2 for lane in page.lanes))
    shown = standings_html(page.lanes)
    assert shown.count("<tr>") == 3
    assert "pulses</th>" in shown
    assert "%" in shown


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_address_holds_the_race(count):
    lanes = [{"rank": i + 5, "device": "EpiRAM"} for i in range(count)]
    assert lanes_of_query(query_of_lanes(lanes)) == lanes


def test_the_address_holds_the_axis(race):
    page = race(SMALL, SMALL)
    page.axis.value = "pulses"
    assert page.address.object.endswith("&along=pulses")
    assert axis_of_query(page.address.object) == "pulses" and axis_of_query("runs=2") == "samples"
    assert lanes_of_query(page.address.object)[0]["hidden"] == [8]
    assert "along=pulses" in page.counts.object
    with pytest.raises(ValueError, match="along must be one of samples, step, pulses, seconds"):
        axis_of_query("along=fame")


def test_no_address_is_the_default_race():
    assert lanes_of_query("") == [{}, {"method": "sgd"}]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("runs=9", "runs must be 2, 3 or 4"),
        ("runs=2&c.rank=3", "unknown name 'c.rank'"),
        ("rank=3", "unknown name 'rank'"),
        ("a.rank=0", "rank must be a whole number, 1 to 512; got 0"),
        ("b.colour=red", "unknown knob 'colour'"),
    ],
)
def test_a_wrong_address_is_one_message(query, message):
    with pytest.raises(ValueError, match=message):
        lanes_of_query(query)


def test_more_runs_are_one_click_away():
    links = counts_html([{}, {"method": "sgd"}])
    assert links.count("<a ") == len(LETTERS) - 1
    assert "runs=4" in links


@pytest.mark.parametrize("count", [1, 5])
def test_a_race_has_two_to_four_runs(count):
    with pytest.raises(ValueError, match="2 to 4 runs"):
        Race([{}] * count)
