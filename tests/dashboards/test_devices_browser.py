"""The Devices page as a visitor meets it: a slider, the phases of a write, a measured file."""

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.driving import Dashboard, button, serious_violations, status, wait_until
from toolkit.fitting import EXAMPLE_CSV

pytestmark = pytest.mark.alone


def curve(page: Page, glyph: int) -> list[float]:
    """The y values of one glyph of the first figure, as the browser has them."""
    return page.evaluate(
        """glyph => {
            const figures = Bokeh.documents.flatMap(document => [...document._all_models.values()])
                .filter(model => model.type === 'Figure');
            const data = figures[0].renderers[glyph].data_source.data;
            return [...(data instanceof Map ? data.get('y') : data['y'])];
        }""",
        glyph,
    )


def test_a_visitor_explores_a_device_writes_an_update_and_fits_a_table(
    watched_page: Page, dashboard: Dashboard
) -> None:
    page = watched_page
    page.goto(dashboard.url + "devices?device=EpiRAM&cycle_to_cycle=0.05")
    expect(page.locator(".bk-Figure")).to_have_count(2)
    expect(page.get_by_role("slider", name="Cycle-to-cycle")).to_have_value("0.05")

    explored, overlaid = curve(page, 1), curve(page, 4)
    slider = page.get_by_role("slider", name="Nonlinearity up")
    slider.press("End")
    wait_until(page, lambda: curve(page, 1) != explored, "the curve followed the slider")
    assert curve(page, 4) == overlaid
    wait_until(page, lambda: "nonlinearity_up=9" in page.url, "the address followed, too")
    expect(page.get_by_role("link", name="Use in the Playground")).to_have_attribute(
        "href", "./?device=EpiRAM&cycle_to_cycle=0.05&nonlinearity_up=9"
    )

    page.get_by_role("tab", name="Write an update").click()
    expect(page.locator(".bk-Figure:visible")).to_have_count(6)
    page.get_by_role("slider", name="Phase").press("Home")
    wait_until(page, lambda: status(page, "Phase") == "0 of 8", "nothing was written")
    button(page, "Next").click()
    wait_until(page, lambda: status(page, "Phase") == "1 of 8", "one phase was written")
    assert status(page, "Now") == "rank 1: rows +, columns +; weights rise"

    assert serious_violations(page) == []

    page.get_by_role("tab", name="Measured data").click()
    page.locator("input[type=file]").set_input_files(EXAMPLE_CSV)
    expect(page.get_by_role("cell", name="nonlinearity_up")).to_be_visible()
    page.locator("input[type=file]").set_input_files(
        {"name": "bad.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    )
    expect(page.get_by_text("bad.csv: missing column: conductance")).to_be_visible()
    button(page, "Explore this device").click()
    expect(page.get_by_text("The Playground only runs presets")).to_be_visible()
