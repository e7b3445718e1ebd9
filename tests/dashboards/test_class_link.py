"""The link for a class: title, settings, QR code."""

from types import SimpleNamespace

import panel as pn
import pytest
import segno

from dashboards.app.class_link import MOST_CHARACTERS, ClassLink, checked_title, link_html
from dashboards.playground.page import Playground

ADDRESS = "https://school.example/sbpca/?rank=1&device=EpiRAM&title=Lesson%201"


def test_the_code_holds_the_address_and_the_settings_are_named():
    html = link_html(ADDRESS)
    code = segno.make(ADDRESS, error="m", micro=False)
    path = code.svg_inline(omitsize=True).partition(' d="')[2].partition('"')[0]
    assert path and path in html
    assert "Pages begin with: rank 1, device EpiRAM<" in html


def test_a_link_too_long_for_a_code_is_still_a_link():
    html = link_html(f"{ADDRESS}&views={'x' * 3000}")
    assert "too long for a QR code" in html and "<svg" not in html and "<a href=" in html


@pytest.mark.parametrize(
    ("hostname", "warned"), [("127.0.0.1", True), ("localhost", True), ("lab.example", False)]
)
def test_the_link_is_that_of_the_server_and_a_local_one_is_warned_of(monkeypatch, hostname, warned):
    place = {"protocol": "http:", "hostname": hostname, "port": "5006", "pathname": "/a/"}
    monkeypatch.setattr(type(pn.state), "location", SimpleNamespace(**place))
    link = ClassLink(lambda title: f"rank=2&title={title}")
    link.title.value = "  One\n<b>direction "
    link.show()
    assert f'href="http://{hostname}:5006/a/?rank=2&amp;title=One &lt;b&gt;direction"' in (
        link.card.object
    )
    assert ("works on this machine only" in link.card.object) == warned


def test_a_title_is_one_short_line():
    assert checked_title(" a \n b ") == "a b"
    with pytest.raises(ValueError, match="title must have at most 60 characters; got 61"):
        checked_title("x" * (MOST_CHARACTERS + 1))


def test_a_page_shows_the_title_of_its_link_and_keeps_it():
    page = Playground("rank=2&title=Lesson%201%20%3Cb%3E", hidden=[8])
    try:
        assert "Lesson 1 &lt;b&gt;</h2>" in page.intro.object
        assert "title=Lesson%201%20%3Cb%3E" in page.address.object
        assert "title=Another" in page._query("Another")
        assert "title" not in page._query("")
    finally:
        page.run.close()
