"""The playground as a visitor meets it: real server, real browser, real training."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import xarray as xr
from playwright.sync_api import Page, expect

from dashboards.app.site import pages, path
from tests.dashboards.driving import (
    Dashboard,
    button,
    choose,
    column_lengths,
    number,
    serious_violations,
    status,
    visit,
    wait_until,
)
from toolkit.results import open_results

pytestmark = pytest.mark.alone


def test_a_visitor_changes_rank_and_device_while_training_and_takes_the_run_home(
    watched_page: Page, dashboard: Dashboard, tmp_path: Path
) -> None:
    page = watched_page
    visit(page, dashboard)
    assert status(page, "State") == "paused" and number(page, "Step") > 0  # it has begun
    assert max(column_lengths(page, "loss")) > 1 and number(page, "Pulses written") > 0
    expect(
        page.get_by_text("on crossbars, grids of AlOx/HfO2 memory cells, with updates of rank 4")
    ).to_be_visible()
    expect(page.get_by_role("figure").first).to_contain_text("%")  # a prediction

    button(page, "Start").click()
    wait_until(page, lambda: number(page, "Step") > 30, "30 steps were trained")
    points = max(column_lengths(page, "loss"))
    wait_until(page, lambda: max(column_lengths(page, "loss")) > points, "the loss curve grew")

    page.get_by_role("button", name="Views ▾").click()
    page.get_by_role("checkbox", name="Spectrum over time").click()
    page.get_by_role("checkbox", name="Predictions").click()
    page.get_by_role("button", name="Views ▴").click()

    # the scatter of sigma has as many points as the rank, the line of true values has more
    wait_until(page, lambda: min(column_lengths(page, "value")) == 4, "sigma showed rank 4")
    page.get_by_role("slider", name="Rank").press("ArrowRight")
    wait_until(page, lambda: status(page, "Rank in use") == "layer1 5, layer2 5", "rank was 5")
    wait_until(page, lambda: min(column_lengths(page, "value")) == 5, "sigma showed rank 5")
    assert status(page, "State") == "running"

    choose(page, "Device", "Ag:a-Si")
    wait_until(page, lambda: number(page, "Pulses written") > 0, "pulses were written")
    expect(page.get_by_role("heading", name="Conductance G+, layer1")).to_be_visible()
    button(page, "More knobs ▾").click()
    page.get_by_label("Find a knob").fill("cycle")
    expect(page.get_by_role("slider", name="Cycle-to-cycle")).to_have_value("0.035")
    expect(page.get_by_role("slider", name="Nonlinearity up")).to_be_hidden()

    page.get_by_role("button", name="Save and share ▾").click()
    with page.expect_download() as download:
        button(page, "Download run (netCDF)").click()
    path = tmp_path / "run.nc"
    download.value.save_as(path)
    run = open_results(path)
    assert list(run["events"]["knob"].values)[:2] == ["rank", "device"]
    assert run["training"]["rank"].values[0] == 4 and run["training"]["rank"].values[-1] == 5
    assert run["training"]["pulses"].values[-1] > 0
    with xr.open_dataset(path, group="layers/layer1", engine="h5netcdf") as layer:
        assert layer["conductance"].attrs["units"] == "S"

    button(page, "Pause").click()
    wait_until(page, lambda: status(page, "State") == "paused", "the run paused")
    steps = number(page, "Step")
    button(page, "Step").click()
    wait_until(page, lambda: number(page, "Step") == steps + 1, "one step was trained")
    button(page, "Reset").click()
    wait_until(page, lambda: number(page, "Step") == 0, "the run began anew")
    assert status(page, "Rank in use") == "layer1 5, layer2 5"

    # the address has followed: somebody else opens it and finds the same set-up
    assert "rank=5" in page.url and "device=Ag:a-Si" in page.url and "views=" in page.url
    page.reload()
    expect(page.get_by_role("heading", name="Conductance G+, layer1")).to_be_visible()
    expect(page.get_by_role("slider", name="Rank")).to_have_attribute("aria-valuetext", "5")


def test_bad_news_is_said_and_the_page_lives_on(page: Page, dashboard: Dashboard) -> None:
    visit(page, dashboard, "?rank=100000")
    expect(page.get_by_text("rank must be a whole number, 1 to 512; got 100000")).to_be_visible()
    page.get_by_role("button", name="Save and share ▾").click()
    bad = {
        "name": "settings.yaml",
        "mimeType": "text/yaml",
        "buffer": b"rank: !!python/name:os.system",
    }
    page.locator("input[type=file]").set_input_files([bad])
    expect(
        page.get_by_text("Settings not loaded: the file cannot be read: not YAML")
    ).to_be_visible()
    good = bad | {"buffer": b"rank: 3\nseed: 9\n"}
    page.locator("input[type=file]").set_input_files([good])
    wait_until(page, lambda: status(page, "Seed") == "9", "the settings were loaded")
    button(page, "Step").click()
    wait_until(page, lambda: number(page, "Step") == 1, "one step was trained")
    button(page, "Copy as Python").click()
    code = page.get_by_label("Python that repeats this run")
    expect(code).to_contain_text("run = Experiment(seed=9, rank=3)")
    expect(code).to_contain_text("for _ in range(1):")


def test_axe_finds_nothing_serious_in_light_or_dark(page: Page, dashboard: Dashboard) -> None:
    visit(page, dashboard, "?device=FeFET&views=loss,g_plus,cost,stuck")
    expect(page.locator("table")).to_be_visible()
    for panel in ("New run ▾", "Views ▾", "Save and share ▾"):
        page.get_by_role("button", name=panel).click()
        page.wait_for_timeout(500)
        assert serious_violations(page) == []
    page.get_by_label("Toggle theme").click()
    page.wait_for_timeout(1500)
    assert serious_violations(page) == []


def test_axe_finds_nothing_serious_on_scenarios(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.url + "scenarios")
    expect(page.get_by_role("article").first).to_be_visible()
    assert serious_violations(page) == []
    page.get_by_label("Toggle theme").click()
    page.wait_for_timeout(1500)
    assert serious_violations(page) == []


def test_pages_stand_behind_a_prefix_and_a_second_run_waits_its_turn(
    page: Page, own_dashboard: Callable[..., Dashboard]
) -> None:
    dashboard = own_dashboard("--max-runs", "1", prefix="/lab")
    visit(page, dashboard)
    button(page, "Start").click()
    wait_until(page, lambda: number(page, "Step") > 3, "training began")
    other = page.context.new_page()
    visit(other, dashboard)
    button(other, "Start").click()
    wait_until(other, lambda: status(other, "State") == "waits (1 in line)", "it waited its turn")
    left = time.monotonic()
    page.goto("about:blank")
    wait_until(other, lambda: status(other, "State") == "running", "its turn came")
    assert time.monotonic() - left < 5
    other.get_by_role("link", name="Devices").click()
    other.wait_for_url(f"{dashboard.url}devices")
    other.get_by_role("link", name="Playground", exact=True).click()
    expect(button(other, "Start")).to_be_visible()


@pytest.mark.parametrize("window", [(1366, 768), (1920, 1080)])
def test_six_figures_share_the_window_in_two_rows(
    page: Page, dashboard: Dashboard, window: tuple[int, int]
) -> None:
    width, height = window
    page.set_viewport_size({"width": width, "height": height})
    visit(page, dashboard)
    figures = page.locator(".bk-Figure")
    expect(figures).to_have_count(5)  # and the predictions

    def boxes() -> list[dict[str, float]]:
        return [figures.nth(i).bounding_box() or {} for i in range(5)]

    wait_until(page, lambda: len({round(box["y"]) for box in boxes()}) == 2, "rows were level")
    for box in boxes():
        assert box["height"] > height / 4 and box["width"] > 0.8 * (width - 300) / 3
        assert box["y"] + box["height"] <= height


def test_the_keyboard_will_do_and_nothing_jumps_while_a_run_goes_on(
    page: Page, dashboard: Dashboard
) -> None:
    visit(page, dashboard)
    places = page.locator("button:visible, [role=slider], .bk-Figure, h2")

    def boxes() -> list[dict[str, float] | None]:
        return [places.nth(i).bounding_box() for i in range(places.count())]

    page.wait_for_timeout(2000)
    before = boxes()
    button(page, "Start").focus()
    page.keyboard.press("Enter")
    wait_until(page, lambda: number(page, "Step") > 30, "training began")
    page.keyboard.press("Tab")
    assert boxes() == before
    page.keyboard.press("Space")
    wait_until(page, lambda: status(page, "State") == "paused", "Pause was next and was pressed")


def test_on_a_phone_the_knobs_leave_the_figures_in_sight(page: Page, dashboard: Dashboard) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, dashboard)
    expect(page.get_by_role("slider", name="Rank")).to_be_hidden()
    opener = page.get_by_role("banner").get_by_role("button").first
    opener.click()
    sheet = page.locator(".sidebar")
    page.wait_for_timeout(500)  # it slides in
    if not sheet.is_visible():  # a slow page closed it on arrival, after the click
        opener.click()
        page.wait_for_timeout(500)
    box = sheet.bounding_box()
    assert box is not None and box["y"] >= 844 / 2 and box["width"] == 390
    page.get_by_role("slider", name="Rank").press("ArrowRight")
    wait_until(page, lambda: status(page, "Rank in use").startswith("layer1 5"), "rank was 5")
    page.get_by_text("Start", exact=True).click()  # beside the open sheet
    wait_until(page, lambda: status(page, "State") == "running", "training began")
    opener.click()
    expect(sheet).to_be_hidden()


def test_no_page_is_wider_than_a_phone(page: Page, dashboard: Dashboard) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for key in pages():
        page.goto(dashboard.url + path(key).lstrip("/"))
        texts = page.locator(".bk-panel-models-markup-HTML")
        expect(texts.first).to_be_visible()
        page.wait_for_timeout(2000)
        rights = texts.evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
        assert max(rights) <= 390, key


def test_the_sidebar_of_a_phone_stays_open_for_who_has_touched_the_page(
    page: Page, dashboard: Dashboard
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    touch = "addEventListener('DOMContentLoaded', () => dispatchEvent(new Event('pointerdown')))"
    page.add_init_script(touch)  # before the page is drawn
    visit(page, dashboard)
    page.wait_for_timeout(5000)  # it would slide out when all is there
    expect(page.get_by_role("slider", name="Rank")).to_be_visible()


def test_a_click_on_the_network_picks_the_layer(page: Page, dashboard: Dashboard) -> None:
    visit(page, dashboard)
    layer = page.get_by_role("button", name="layer2: 10 × 129 pairs")
    layer.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Layer", exact=True)).to_have_text("layer2")
    expect(page.get_by_role("heading", name="Conductance G+, layer2")).to_be_visible()
    expect(layer).to_have_attribute("aria-pressed", "true")
    expect(layer).to_be_focused()


def test_a_refused_knob_is_said_and_the_run_goes_on(page: Page, dashboard: Dashboard) -> None:
    visit(page, dashboard)
    button(page, "Start").click()
    wait_until(page, lambda: number(page, "Step") > 5, "training began")
    page.get_by_role("slider", name="Block size").press("End")
    expect(page.get_by_text("block_size=1024 is above batch_size=64")).to_be_visible()
    expect(page.get_by_text("Block size: 8")).to_be_visible()
    steps = number(page, "Step")
    wait_until(page, lambda: number(page, "Step") > steps, "the run went on")

    page.get_by_role("slider", name="Batch size").press("Home")
    expect(page.get_by_text("Block size lowered to 1")).to_be_visible()
    steps = number(page, "Step")
    wait_until(page, lambda: number(page, "Step") > steps, "the run went on")


def test_sigterm_ends_the_server_cleanly_while_a_run_goes_on(
    page: Page, own_dashboard: Callable[..., Dashboard]
) -> None:
    dashboard = own_dashboard()
    visit(page, dashboard)
    button(page, "Start").click()
    wait_until(page, lambda: number(page, "Step") > 5, "training began")
    returned, output = dashboard.terminate()
    assert returned == 0, output
    assert "Traceback" not in output and "terminate called" not in output


def test_leaving_the_page_stops_its_run(page: Page, dashboard: Dashboard) -> None:
    server = psutil.Process(dashboard.process.pid)

    def seconds_of_work() -> float:
        before = server.cpu_times().user
        page.wait_for_timeout(2000)
        return server.cpu_times().user - before

    visit(page, dashboard)
    button(page, "Start").click()
    wait_until(page, lambda: number(page, "Step") > 5, "training began")
    training = seconds_of_work()
    page.goto("about:blank")
    wait_until(page, lambda: seconds_of_work() < training / 5, "the server was idle")
