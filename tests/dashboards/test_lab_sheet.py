"""The lab sheet of the teacher's pack says what the pages say."""

import re

import pytest
from playwright.sync_api import Page

from tests.dashboards.driving import Dashboard, button, visit
from toolkit.crossbar import device_names
from toolkit.teaching.pack import COURSE

pytestmark = pytest.mark.alone
TEXTS = """() => {
  const found = []
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent.trim())
    if (node.shadowRoot) walk(node.shadowRoot)
    if (!["STYLE", "SCRIPT"].includes(node.nodeName)) node.childNodes.forEach(walk)
  }
  walk(document.body)
  return found
}"""


def test_every_name_in_bold_is_on_a_page(watched_page: Page, dashboard: Dashboard) -> None:
    page, texts = watched_page, set()
    visit(page, dashboard)
    for panel in ("Views ▾", "Save and share ▾"):
        button(page, panel).click()
        page.get_by_text("Cost" if "Views" in panel else "Copy link", exact=True).wait_for()
        texts.update(page.evaluate(TEXTS))
    for path, known in (("race", "Compare along"), ("results", "Open runs")):
        page.goto(f"{dashboard.url}{path}")
        page.get_by_text(known, exact=True).first.wait_for()
        texts.update(page.evaluate(TEXTS))
    said = {re.sub(r"[:▾▴]", "", text).strip() for text in texts}
    sheet = (COURSE / "lab.md").read_text("utf-8")
    names = set(re.findall(r"\*\*([^*]+)\*\*", sheet.split("\n", 3)[3]))
    seeds = next(text for text in texts if "Seeds of each" in text)
    assert len(names) > 15 and names - said - {"Seeds of each"} == set(), seeds


def test_its_devices_can_be_chosen() -> None:
    sheet = (COURSE / "lab.md").read_text("utf-8")
    named = re.findall(r"AlOx/HfO2|ReRamSB|digital", sheet)
    assert set(named) - {"digital"} <= set(device_names()) and "digital" in named
