"""The Budget page as a visitor meets it: move a slider, read the table, load layers, keep files."""

from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.driving import Dashboard, button, choose, serious_violations, wait_until

pytestmark = pytest.mark.alone

TABLE = b"- {name: encoder, outputs: 16, inputs: 257, positions: 4}"


def test_a_visitor_reads_a_budget_and_loads_layers(
    watched_page: Page, dashboard: Dashboard, tmp_path: Path
) -> None:
    page = watched_page
    page.goto(dashboard.url + "budget?network=LeNet-5")
    expect(page.locator(".bk-Figure")).to_have_count(3)
    expect(page.get_by_role("rowheader", name="fc3")).to_be_visible()

    page.get_by_role("slider", name="Rank").press("End")
    expect(page.get_by_role("heading", name="Below 129 × 129, rank 64")).to_be_visible()
    wait_until(page, lambda: "rank=64" in page.url, "the address followed")
    choose(page, "Layers of", "SGD, one sum")
    expect(page.get_by_text("It holds the whole gradient")).to_be_visible()
    expect(page.locator(".MuiMenu-root")).to_have_count(0)  # the list of choices has closed
    assert serious_violations(page) == []

    with page.expect_download() as download:
        button(page, "Budget (CSV)").click()
    download.value.save_as(tmp_path / "budget.csv")
    assert set(pd.read_csv(tmp_path / "budget.csv")["layer"]) == {
        *("conv1", "conv2", "fc1", "fc2", "fc3")
    }

    choose(page, "Network", "your own table")
    load = page.locator("input[type=file]")
    load.set_input_files({"name": "a.yaml", "mimeType": "text/yaml", "buffer": b"- {name: a}"})
    expect(page.get_by_text("Layers not loaded: layers of network must have")).to_be_visible()
    load.set_input_files({"name": "a.yaml", "mimeType": "text/yaml", "buffer": TABLE})
    expect(page.get_by_role("rowheader", name="encoder")).to_be_visible()
    wait_until(page, lambda: "layers=encoder:16:257:4" in page.url, "the address followed")


def test_on_a_phone_all_of_it_is_reached(watched_page: Page, dashboard: Dashboard) -> None:
    page = watched_page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(dashboard.url + "budget")
    expect(page.locator(".bk-Figure")).to_have_count(3)
    page.mouse.move(200, 400)
    row = page.get_by_role("rowheader", name="fc3")
    for _ in range(20):
        page.mouse.wheel(0, 200)
        page.wait_for_timeout(50)
    expect(row).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_role("button", name="Toggle theme")).to_be_in_viewport()
    page.get_by_role("link", name="Scenarios").focus()
    expect(page.get_by_role("link", name="Scenarios")).to_be_in_viewport()
