"""The Atlas page as a visitor meets it: look up, open in the Race, measure a cell."""

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.driving import Dashboard, button, choose, serious_violations, wait_until

pytestmark = pytest.mark.alone


def test_a_visitor_looks_up_a_cell_and_races_what_is_advised(
    watched_page: Page, dashboard: Dashboard
) -> None:
    page = watched_page
    page.goto(dashboard.url + "atlas")
    expect(page.get_by_role("rowheader", name="SBPCA, Tiki-Taka, k = 4")).to_be_visible()
    assert serious_violations(page) == []
    choose(page, "Show", "Energy of writes")
    wait_until(page, lambda: "measure=Energy" in page.url, "the address followed")
    choose(page, "Trade-off on", "ReRamES")
    expect(page.get_by_role("heading", name="What accuracy costs on ReRamES")).to_be_visible()
    with page.expect_download() as download:  # of the figure that took the first one's place
        button(page, "PNG").click()
    assert download.value.suggested_filename == "atlas-trade-off.png"
    choose(page, "Another cell", "FeFET")
    button(page, "Measure it").click()
    expect(page.get_by_text("FeFET: 0 of 26 measured")).to_be_visible()
    expect(page.get_by_role("columnheader", name="FeFET")).to_be_visible(timeout=200_000)
    page.get_by_role("link", name="SBPCA, Tiki-Taka, k = 4 on EcRam").click()
    expect(page.get_by_role("row", name="Tiki-Taka").first).to_be_visible()
