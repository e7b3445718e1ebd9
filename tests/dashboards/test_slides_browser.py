"""The slides of the teacher's pack in a browser without a network."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect

from toolkit.teaching import pack

pytestmark = pytest.mark.alone


def test_slides_draw_figures_and_follow_keys_offline(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pack, "CLASS", {"03_outer_products": ("One sample", "How many directions?")}
    )
    pack.write_pack(tmp_path)
    elsewhere: list[str] = []
    errors: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            elsewhere.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "slides.html").as_uri())
    expect(page.locator("section canvas").first).to_be_attached()
    expect(page.locator("section math").first).to_be_attached()
    assert page.locator("section:has(canvas)").first.evaluate("s => s.scrollWidth <= innerWidth")
    second = page.locator("section").nth(1)
    page.keyboard.press("ArrowRight")
    assert abs(second.evaluate("s => s.getBoundingClientRect().top")) < 2
    page.keyboard.press("ArrowLeft")
    assert second.evaluate("s => s.getBoundingClientRect().top") > 100
    notes = page.locator("aside").nth(1)
    expect(notes).to_be_hidden()
    page.keyboard.press("n")
    expect(notes).to_be_visible()
    assert elsewhere == errors == []


def test_steps_follow_their_slider_by_keys_offline(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "CLASS", {})
    pack.write_pack(tmp_path)
    page.goto((tmp_path / "slides.html").as_uri())
    for each in page.get_by_role("group").all():
        slider, said = each.get_by_role("slider"), each.locator("output")
        expect(each.locator("figure:visible")).to_have_count(1)
        before = said.inner_text()
        slider.press("ArrowRight")
        expect(each.locator("figure").nth(1)).to_be_visible()
        expect(each.locator("figure:visible")).to_have_count(1)
        assert said.inner_text() == each.locator("figcaption").nth(1).text_content() != before
        assert said.evaluate("each => each.getBoundingClientRect().bottom <= innerHeight")
        slider.press("End")
        expect(each.locator("figure").last).to_be_visible()
        page.emulate_media(media="print")
        expect(each.locator("figure:visible")).to_have_count(5)
        page.emulate_media(media="screen")
