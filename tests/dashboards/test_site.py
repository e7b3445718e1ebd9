"""The frame that all pages share: one heading, relative links, only pages that are there."""

import gc
import re
import weakref

import pytest

import dashboards
from dashboards.app import site
from dashboards.app.login import read_password


def test_pages_have_addresses_of_their_own():
    assert list(site.pages()) == [
        "playground",
        "race",
        "devices",
        "results",
        "atlas",
        "budget",
        "scenarios",
    ]
    assert len({site.path(key) for key in site.pages()}) == 7


def test_a_folder_is_a_page(tmp_path, monkeypatch):
    """A folder with ``PAGE`` from anywhere on the package's path is linked and served."""
    (tmp_path / "spare").mkdir()
    text = "from dashboards import Page\n\nPAGE = Page('Spare', place=9)\n"
    (tmp_path / "spare" / "__init__.py").write_text(text)
    monkeypatch.setattr(dashboards, "__path__", [*dashboards.__path__, str(tmp_path)])
    site.pages.cache_clear()
    try:
        assert list(site.pages())[-1] == site.path("spare") == "spare"
        header = site.page("playground", sidebar=[], main=[]).header[0].object
        assert 'href="spare"' in header
    finally:
        site.pages.cache_clear()


def test_links_are_relative_so_that_a_prefix_holds():
    assert site.link("playground") == "./"
    assert site.link("race", "a.rank=4") == "race?a.rank=4"
    with pytest.raises(ValueError, match="page must be one of"):
        site.link("nowhere")


def test_a_page_has_one_heading_and_says_where_one_is():
    header = site.page("playground", sidebar=[], main=[]).header[0].object
    assert header.count("<h1") == 1
    assert re.findall(r'aria-current="page">(\w+)<', header) == ["Playground"]
    assert not re.search(r'href="[/h]', header)


def test_a_page_that_is_left_is_forgotten():
    seen = weakref.ref(site.page("playground", sidebar=[], main=[]))
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("text", ["", "abc\n", "\nlong enough", " spaced\n"])
def test_a_password_is_the_first_line_of_a_file(tmp_path, text):
    file = tmp_path / "password"
    file.write_text("open sesame\r\nmore\n")
    assert read_password(file) == "open sesame"
    file.write_text(text)
    with pytest.raises(ValueError, match="must be a password of 10 characters or more"):
        read_password(file)
    with pytest.raises(ValueError, match=r"password_file=.*none' cannot be read"):
        read_password(tmp_path / "none")
