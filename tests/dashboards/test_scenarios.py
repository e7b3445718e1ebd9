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
    assert shown.count("<a href=") == len(SCENARIOS)
