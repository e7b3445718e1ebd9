"""Every scenario opens where it says, with the settings that it has."""

from urllib.parse import urlsplit

import pytest

from dashboards.app.settings_text import knobs_of_query
from dashboards.race.page import runs_of_query
from dashboards.scenarios.page import SCENARIOS, Scenarios
from toolkit.training import Experiment, Settings

BY_TITLE = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.title)


def test_there_are_a_dozen_with_titles_of_their_own():
    titles = [scenario.title for scenario in SCENARIOS]
    assert len(titles) >= 12
    assert len(set(titles)) == len(titles)


@BY_TITLE
def test_its_address_holds_its_settings(scenario):
    address = urlsplit(scenario.address)
    if len(scenario.runs) == 1:
        assert address.path == "./"
        assert knobs_of_query(address.query) == scenario.runs[0]
    else:
        assert address.path == "race"
        runs = runs_of_query(address.query)
        defaults = Settings().knob_values()
        for run, knobs in zip(runs, scenario.runs, strict=True):
            assert defaults | run == defaults | knobs


@BY_TITLE
def test_its_runs_train(scenario):
    for knobs in scenario.runs:
        run = Experiment(**knobs)
        assert all(run.step().loss > 0 for _ in range(2))


def test_the_page_shows_all_of_them():
    shown = Scenarios().view().object
    for scenario in SCENARIOS:
        assert scenario.title.split(",")[0] in shown
    assert shown.count("<a href=") == shown.count('target="_blank"') == len(SCENARIOS)
    lines = sum(len(scenario.runs) for scenario in SCENARIOS if len(scenario.runs) > 1)
    assert shown.count("<line ") == lines and "C: FeedbackPCA" in shown


def of(title):
    """Accuracies after 20 epochs and pulses of each run, and all that was measured."""
    runs = next(one for one in SCENARIOS if one.title == title).measured()
    return [run["20"] for run in runs], [run["pulses"] for run in runs], runs


def test_every_number_in_a_text_was_measured():
    for scenario in SCENARIOS:
        assert len(scenario.measured()) == len(scenario.runs)
        assert "{" not in scenario.words(scenario.text + scenario.watch)


def test_what_the_texts_claim_is_what_was_measured():
    rank_1 = of("Rank 1 crawls until you raise it")[2][0]
    assert rank_1["5"] < 0.8 < rank_1["10"]
    (low_rank, full), _, _ = of("Rank 4 is enough")
    assert abs(low_rank - full) < 0.01
    (svd, sbpca, feedback), _, _ = of("The best approximation does not train best")
    assert svd < sbpca - 0.02 < feedback - 0.04
    small, default, large = of("Small batches, many updates")[2]
    assert small["5"] > default["5"] > large["5"] + 0.2
    assert of("Two spirals")[2][0]["10"] > 0.98
    (a, b), (few, many), runs = of("Writing every sample wears cells out")
    assert abs(a - b) < 0.015 and 1.7 < many / few < 2.2
    assert runs[1]["products"] == 16 * runs[0]["products"]
    (rank_10, rank_4, samples), _, _ = of("A coarse, noisy cell likes averages")
    assert rank_10 > rank_4 > samples
    _, (sequential, summed), runs = of("One after the other, or their sum")
    assert runs[1]["10"] > runs[0]["10"] + 0.05 and 0.35 < summed / sequential < 0.6
    (nmf, sbpca), (fewer, more), _ = of("NMF spends fewer pulses")
    assert 0.75 < fewer / more < 0.85 and abs(nmf - sbpca) < 0.03
    assert of("Too few levels")[2][0]["20"] < 0.85
    (clean, noisy, noisiest), _, _ = of("The noise cliff")
    assert clean > noisy + 0.03 and noisiest < noisy - 0.2
    (whole, tenth, fifths), _, _ = of("Training around dead cells")
    assert whole > tenth > fifths > 0.9
    (eight, four, three), _, _ = of("How many bits must a converter have?")
    assert eight > four > three + 0.03
    (still, slow, fast), _, _ = of("Conductances that fade")
    assert still > slow > fast + 0.3


@pytest.mark.parametrize("title", ["The best approximation does not train best", "The noise cliff"])
def test_the_order_is_seen_in_a_short_run(title):
    """Two epochs, one seed: what parts far is parted already."""
    runs = next(one for one in SCENARIOS if one.title == title).runs
    reached = []
    for knobs in (runs[0], runs[-1]):
        run = Experiment(**knobs)
        for _ in run.steps(epochs=4):
            pass
        reached.append(run.record.evaluations[-1, 2])
    difference = reached[1] - reached[0]
    assert difference > 0.1 if title.startswith("The best") else difference < -0.1
