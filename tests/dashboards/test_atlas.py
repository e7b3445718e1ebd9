"""The Atlas page without a browser: numbers and links of the table, a cell that is measured."""

import asyncio
import html
import re
from dataclasses import replace

import pytest

from dashboards.app import child
from dashboards.atlas import page as atlas_page
from dashboards.atlas.heat import MEASURES, Heat
from dashboards.atlas.page import Atlas, device_of_yaml
from dashboards.race.page import runs_of_query
from toolkit.crossbar import get_device, save_device
from toolkit.reproduce import open_atlas
from toolkit.reproduce.atlas import knobs_of_entry
from toolkit.reproduce.claim import SMALLEST
from toolkit.reproduce.claims import atlas as claim
from toolkit.reproduce.statistics import Interval
from toolkit.training import Experiment


def cells(page: Atlas) -> dict[str, str]:
    """The tooltip of every measurement, and its text."""
    found = re.findall(r'<td title="([^"]*)"[^>]*>(.*?)</td>', page._heat.object)
    return {html.unescape(title): re.sub("<[^>]*>", "", text) for title, text in found}


def links(page: Atlas) -> dict[str, str]:
    found = re.findall(r'href="race\?([^"]*)"[^>]*aria-label="([^"]*);', page._heat.object)
    return {html.unescape(label): html.unescape(query) for query, label in found}


def test_the_table_has_the_atlas_s_means():
    page, data = Atlas(), open_atlas()
    shown = cells(page)
    place = {"device": "EcRam", "algorithm": "SBPCA, Tiki-Taka", "rank": 4}
    mean = float(data.test_accuracy.sel(place).mean())
    (text,) = (shown[title] for title in shown if "SBPCA, Tiki-Taka, k = 4 on EcRam" in title)
    assert text.startswith(f"{mean:.1f}")
    assert len(shown) == int(data.test_accuracy.notnull().any("seed").sum())
    page._state.widgets["measure"].value = "Pulses"
    mean = float(data.pulses.sel(place).mean())
    (text,) = (t for title, t in cells(page).items() if "SBPCA, Tiki-Taka, k = 4 on EcRam" in title)
    assert text.startswith(f"{mean / 1e6:.3g} M") and page.address.object == "measure=Pulses"


def test_a_star_for_every_cell_follows_the_memory():
    page = Atlas()
    columns = len(open_atlas().device)
    assert page._heat.object.count("★") == columns
    page._state.widgets["memory"].value = "at most 15 % of m n"
    data = open_atlas().memory_words
    for title in (title for title in cells(page) if title.endswith("advised")):
        title = title.replace("SGD", "MBGD")  # its name in the file
        algorithm, device = re.match(r"(.*?)(?:, k = \d+)? on (.*?): ", title).groups()
        assert int(data.sel(device=device, algorithm=algorithm).min()) <= 0.15 * 9610


def test_the_key_is_above_the_table():
    page = Atlas("measure=Pulses")
    assert "★ keeps the fewest numbers" in page._key.object
    means = [float(v) for v in open_atlas().pulses.mean("seed").values.ravel() if v > 0]
    worst, best = f"{max(means) / 1e6:.3g} M", f"{min(means):,.0f}"
    before, after = page._key.object.split("<span")
    assert worst in before and best in after


def test_every_link_races_what_its_cell_says():
    found = links(Atlas())
    assert len(found) == len(cells(Atlas()))
    for label, query in found.items():
        label = label.replace("SGD", "MBGD")  # its name in the file
        algorithm, rank, device = re.match(r"(.*?)(?:, k = (\d+))? on (.*?): ", label).groups()
        own, other = runs_of_query(query)
        for name, value in knobs_of_entry(algorithm, int(rank or 0)).items():
            assert own.get(name, Experiment.param[name].default) == value, label
        assert own.get("device", "digital") == other.get("device", "digital") == device
        assert other["method"] == "sgd"


@pytest.mark.parametrize("kind", MEASURES.values(), ids=list(MEASURES))
def test_better_is_brighter(kind):
    """Yellow for the best, violet for the worst, whatever the measure."""
    given = {"EcRam": {("SBPCA", k): Interval(k, k, k, 3) for k in (80.0, 90.0, 99.0)}}
    table = Heat(given, kind, {}, ()).html()
    colours = re.findall(r"background:(#\w+)", table)
    best, worst = "#FDE724", "#440154"
    ends = (colours[-1], colours[0]) if kind.more_is_better else (colours[0], colours[-1])
    assert tuple(map(str.upper, ends)) == (best, worst)


def test_a_url_that_is_not_valid_is_said():
    for query in ("measure=none", "memory=1", "what=1"):
        assert "This URL is not valid" in Atlas(query).notice.object


@pytest.fixture
def small(monkeypatch):
    """The smallest plan, measured in this process."""

    async def read_beside(function, *given, **_):
        return function(*given)

    monkeypatch.setattr(atlas_page, "read_beside", read_beside)
    monkeypatch.setattr(atlas_page, "cases_of", lambda cell, _: claim.cases_of(cell, SMALLEST)[:3])


@pytest.mark.usefixtures("small")
def test_a_cell_of_one_s_own_adds_a_column():
    page = Atlas()
    mine = replace(get_device("EcRam"), levels_up=20, levels_down=20, name="EcRam")
    asyncio.run(page.measure(mine))
    shown = [title for title in cells(page) if "on EcRam (yours):" in title]
    assert len(shown) == 3 and not page.progress.visible and not page.stage.object
    assert not any("EcRam (yours)" in label for label in links(page))  # the Race does not know it
    assert list(page.data().device.values) == [*open_atlas().device.values, "EcRam (yours)"]
    asyncio.run(page.measure(mine))
    assert "EcRam (yours) (yours)" in page.data().device.values


@pytest.mark.usefixtures("small")
def test_a_failure_is_said_and_the_next_one_may_begin(monkeypatch):
    async def fails(*_, **__):
        raise ValueError("reading it takes longer than 300 s.")

    monkeypatch.setattr(atlas_page, "read_beside", fails)
    page = Atlas()
    for _ in range(2):
        asyncio.run(page.measure(get_device("ideal")))
        assert "ideal was not measured: reading it takes" in page.notice.object
    assert not page.own


def test_a_device_file_is_read_in_a_process_of_its_own(tmp_path):
    save_device(get_device("EcRam"), tmp_path / "a.yaml")
    data = (tmp_path / "a.yaml").read_bytes()
    assert child.in_child(device_of_yaml, data) == get_device("EcRam")
    for wrong in (b"", b"a: 1", b"\xff\xfe", b"levels_up: !!python/object:os.system {}"):
        with pytest.raises(ValueError, match=r"device\.yaml"):
            child.in_child(device_of_yaml, wrong)


def test_the_trade_off_is_of_the_cell_and_cost_that_are_chosen():
    page = Atlas("cell=Ag:a-Si&cost=Pulses")
    place = {"device": "Ag:a-Si", "algorithm": "SBPCA", "rank": 4}
    data = open_atlas()
    point = [float(data[name].sel(place).mean()) for name in ("pulses", "test_accuracy")]
    shown = [page.figure.live.columns(glyph) for glyph in (1, 2)]
    pairs = [pair for each in shown for pair in zip(each["cost"], each["accuracy"], strict=True)]
    assert any(pair == pytest.approx(point) for pair in pairs)
    assert page.figure.live.title == "What accuracy costs on Ag:a-Si"
