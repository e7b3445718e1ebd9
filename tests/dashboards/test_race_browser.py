"""From a scenario to a race, as a visitor goes."""

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.driving import Dashboard, button, serious_violations, wait_until

pytestmark = pytest.mark.alone


def cell(page: Page, run: str, column: int) -> str:
    row = page.get_by_role("row", name=run)
    return row.get_by_role("cell").nth(column).inner_text()


def test_a_scenario_opens_a_race_that_runs(watched_page: Page, dashboard: Dashboard) -> None:
    page = watched_page
    page.goto(f"{dashboard.url}scenarios")
    expect(page.get_by_role("heading", name="The best approximation does not")).to_be_visible()
    assert serious_violations(page) == []
    card = page.get_by_role("article").filter(has_text="The best approximation does not")
    with page.expect_popup() as opened:
        card.get_by_role("link").click()
    page = opened.value
    expect(button(page, "Start all")).to_be_visible()
    expect(page.get_by_label("C: Method", exact=True)).to_have_text("FeedbackPCA")
    assert "runs=3" in page.url
    button(page, "Start all").click()
    wait_until(page, lambda: "%" in cell(page, "C: FeedbackPCA", 4), "an accuracy of the third run")
    button(page, "Pause all").click()
    wait_until(page, lambda: cell(page, "A: SVD", 0) == "paused", "a pause")
    page.get_by_role("slider", name="A: Rank").press("ArrowRight")
    wait_until(page, lambda: "a.rank=2" in page.url, "the new rank in the address")
    assert serious_violations(page) == []
    page.reload()
    expect(button(page, "Start all")).to_be_visible()
    assert "a.rank=2" in page.url
