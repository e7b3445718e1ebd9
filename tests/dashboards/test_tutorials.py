"""The pages that explanations link to: sections that exist, written by a process when asked for."""

import asyncio
import json
import re

import pytest
from nbconvert.filters.strings import add_anchor

from dashboards.app import tutorials
from dashboards.app.figure_pane import explanation
from dashboards.app.tutorials import Tutorials, link_to
from dashboards.playground.views import VIEWS
from toolkit.teaching.series import FOLDER


@pytest.mark.parametrize("name", VIEWS)
def test_every_explanation_names_a_section_that_exists(name):
    view = VIEWS[name]
    notebook, section = view.lesson
    cells = json.loads((FOLDER / f"{notebook}.ipynb").read_text("utf-8"))["cells"]
    headings = re.findall(r"^## (.*)$", "\n".join("".join(c["source"]) for c in cells), re.M)
    assert section in headings
    anchor = re.search(r'id="([^"]*)"', add_anchor(f"<h2>{section}</h2>"))
    assert anchor and link_to(notebook, section) == f"tutorials/{notebook}.html#{anchor[1]}"
    assert 10 < len(view.about.split()) < 60
    assert section in explanation(view.about, view.lesson)


def test_pages_are_written_by_one_process_and_others_are_not_waited_for(monkeypatch):
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], '04_spectra.html').write_text('written')"
    monkeypatch.setattr(tutorials, "_RENDER", code)
    pages = Tutorials()
    asyncio.run(pages.wait_for("../04_spectra.html"))
    assert pages._writer is None
    asyncio.run(pages.wait_for("04_spectra.html"))
    assert (pages.folder / "04_spectra.html").read_text() == "written"
    asyncio.run(pages.wait_for("05_streaming.html"))  # the process ended without it: no page
    assert not (pages.folder / "05_streaming.html").exists()
    pages.close()
    assert not pages.folder.exists()
