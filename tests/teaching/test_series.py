"""The series is copied, never over a reader's work; and it becomes pages.

``python tests/teaching/test_series.py`` writes the contents page anew, from notebooks/README.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.teaching.pages import render
from toolkit.teaching.series import CONTENTS, FOLDER, copy_series, notebooks

MEGABYTE = 1_000_000


def test_the_series_is_copied_and_a_second_time_leaves_it_alone(tmp_path: Path) -> None:
    out = tmp_path / "course"
    copied = copy_series(out)
    assert {path.name for path in copied} >= {path.name for path in notebooks()} | {"README.md"}
    assert all(path.read_bytes() == (FOLDER / path.name).read_bytes() for path in copied)
    assert copy_series(out) == []


def test_what_was_worked_in_is_not_overwritten_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / notebooks()[1].name
    mine.write_text("my answers")
    assert main(["notebooks", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert mine.name in said and "--force" in said
    assert list(tmp_path.iterdir()) == [mine] and mine.read_text() == "my answers"
    assert main(["notebooks", "--out", str(tmp_path), "--force"]) == 0
    assert mine.read_bytes() == notebooks()[1].read_bytes()


def test_the_map_leads_to_every_notebook() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    assert [link for link in links if not (FOLDER / link).exists()] == []
    assert {path.name for path in notebooks()} <= set(links)


def test_the_map_has_the_time_of_every_notebook() -> None:
    rows = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    for path in notebooks():
        opening = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        minutes = re.search(r"\*\*Time\*\*: (\d+) minutes", opening)
        row = next(row for row in rows if path.name in row)
        assert minutes is not None and row.endswith(f"| {minutes[1]} |"), row


def test_without_the_toolkit_the_error_shows_what_to_install(tmp_path: Path) -> None:
    code = f"""
import json, sys
from IPython.core.interactiveshell import InteractiveShell
sys.modules["toolkit"] = None  # as if it were not installed
cells = json.load(open({str(notebooks()[0])!r}, encoding="utf-8"))["cells"]
first = next(cell for cell in cells if cell["cell_type"] == "code")
InteractiveShell.instance(colors="NoColor").run_cell("".join(first["source"]))
"""
    command = [sys.executable, "-c", code]
    home = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=home, capture_output=True, text=True)
    assert "ModuleNotFoundError" in run.stdout and "%pip install sbpca_toolkit" in run.stdout


def contents() -> str:
    """README.md as a notebook."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8").rstrip("\n")
    cell = {"cell_type": "markdown", "id": "0", "metadata": {}, "source": text.splitlines(True)}
    python = json.loads(notebooks()[0].read_text(encoding="utf-8"))["metadata"]
    page = {"cells": [cell], "metadata": python, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def test_the_contents_page_is_the_map() -> None:
    assert CONTENTS.read_text(encoding="utf-8") == contents(), (
        "run: python tests/teaching/test_series.py"
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("pages")
    (out / "static").mkdir()
    (out / "static" / "output-of-an-earlier-call.js").touch()
    written = render([FOLDER / "03_outer_products.ipynb"], out)
    return {path.name: path for path in written}


def test_a_page_is_small_and_fetches_nothing(pages: dict[str, Path]) -> None:
    page = pages["03_outer_products.html"]
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 2 * MEGABYTE
    fetched = re.findall(r"<(?:script|link|img)[^>]*\b(?:src|href)=\"([^\"]+)\"", text)
    scripts = {f"static/{path.name}" for path in page.parent.glob("static/*")}
    assert scripts == {name for name in fetched if name.startswith("static/")}
    for name in fetched:
        assert name.startswith("data:") or (page.parent / name).exists(), name


def test_a_page_shows_what_was_computed(pages: dict[str, Path]) -> None:
    text = pages["03_outer_products.html"].read_text(encoding="utf-8")
    assert "against autograd, largest difference" in text
    assert "celltag_solution" in text, "page.js folds what has this class"


def test_links_between_pages_lead_to_pages(pages: dict[str, Path]) -> None:
    text = pages["index.html"].read_text(encoding="utf-8")
    assert 'href="03_outer_products.html"' in text and 'href="glossary.html"' in text
    assert ".ipynb" not in text


if __name__ == "__main__":
    CONTENTS.write_text(contents(), encoding="utf-8")
