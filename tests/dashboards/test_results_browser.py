"""The Results page as a visitor meets it: open a run, look, compare, keep figures and data."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, expect

from dashboards.results.page import examples
from tests.dashboards.driving import Dashboard, button, choose, serious_violations, wait_until
from toolkit.results import save_results

pytestmark = pytest.mark.alone


def saved(page: Page, control: Locator, folder: Path) -> Path:
    with page.expect_download() as download:
        control.click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_visitor_opens_a_run_looks_at_it_and_keeps_figure_and_data(
    watched_page: Page, dashboard: Dashboard, tmp_path: Path
) -> None:
    page = watched_page
    tree = next(iter(examples().values()))
    run = save_results(tree, tmp_path / "my-run.nc")

    page.goto(dashboard.url + "results?variable=/layers/layer1/conductance&record=1")
    page.locator("input[type=file]").set_input_files(run)
    expect(page.locator(".bk-Figure")).to_be_visible()
    expect(page.get_by_role("heading", name="conductance of the pair (µS)")).to_be_visible()

    csv = saved(page, button(page, "Data shown (CSV)"), tmp_path)
    expected = tree["layers/layer1/conductance"].isel(step=1, polarity=0).values
    assert pd.read_csv(csv)["conductance"].to_numpy() == pytest.approx(expected.ravel())
    page.get_by_role("slider", name="step").press("ArrowRight")
    wait_until(page, lambda: "step=2" in page.url, "the address followed the slider")

    png = saved(page, button(page, "PNG"), tmp_path).read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 5000
    svg = ElementTree.parse(saved(page, button(page, "SVG"), tmp_path)).getroot()
    assert svg.tag.endswith("svg") and float(svg.attrib["width"]) > 400
    texts = {text.text for text in svg.iter() if text.tag.endswith("text")}
    assert "output (index)" in texts

    button(page, "Two example runs").click()
    page.get_by_role("tab", name="Compare runs").click()
    expect(page.locator(".bk-Figure:visible")).to_have_count(2)
    expect(page.get_by_role("cell", name="example, SGD")).to_be_visible()
    choose(page, "Over", "programming pulses")
    wait_until(page, lambda: "over=pulses" in page.url, "the address followed the choice")

    assert serious_violations(page) == []

    page.get_by_role("tab", name="Settings and events").click()
    expect(page.get_by_role("cell", name="record_every")).to_be_visible()
    page.locator("input[type=file]").set_input_files(
        {"name": "bad.nc", "mimeType": "application/x-netcdf", "buffer": b"no run"}
    )
    expect(page.get_by_text("bad.nc: this is neither a netCDF file")).to_be_visible()
