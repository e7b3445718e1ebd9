"""The form that every notebook of the series has.

That each one runs from top to bottom is tested by running it: nbmake collects ``notebooks/``.
What the checks say to right and wrong answers is in ``tests/teaching/``.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toolkit.teaching import series
from toolkit.teaching.exercises import exercise_names, topics

NOTEBOOKS = series.notebooks()
PYTHON = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["solution"]}
SCREEN = 24  # lines of a cell, at most
WORDS = 150  # between two cells to run, at most
VIEW = re.compile(r"\bpn\.bind\(|\bpn\.interact\(|\bpn\.depends\(|\bDynamicMap\(|\bNotebookView\(")
FIGURES = {
    "opts",
    "named_curves",
    "named_bars",
    "heat_map",
    "Overlay",
    "Layout",
    "Curve",
    "Scatter",
}
INSTALL = (
    "# No module named 'toolkit'? On Colab, upload its wheel and %pip install sbpca_toolkit-*.whl"
)
CHECK = re.compile(r"\bcheck\(\s*\"([\w.]+)\"")


@dataclass
class Cell:
    kind: str
    text: str
    metadata: dict[str, Any]
    raw: dict[str, Any]

    @property
    def tags(self) -> list[str]:
        return self.metadata.get("tags", [])


@dataclass
class Notebook:
    path: Path
    metadata: dict[str, Any]
    cells: list[Cell]

    def code(self) -> list[str]:
        return [cell.text for cell in self.cells if cell.kind == "code"]

    def tagged(self, tag: str) -> list[int]:
        return [i for i, cell in enumerate(self.cells) if tag in cell.tags]


def read(path: Path) -> Notebook:
    stored = json.loads(path.read_text(encoding="utf-8"))
    cells = [
        Cell(raw["cell_type"], "".join(raw["source"]), raw["metadata"], raw)
        for raw in stored["cells"]
    ]
    return Notebook(path, stored["metadata"], cells)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Notebook:
    return read(request.param)


def test_every_notebook_has_a_number_of_its_own() -> None:
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    assert len(numbers) == len(set(numbers))


def test_kept_without_outputs_and_with_nothing_of_the_machine_it_ran_on(notebook: Notebook) -> None:
    kept = [c for c in notebook.cells if c.raw.get("outputs") or c.raw.get("execution_count")]
    assert not kept, f"{len(kept)} cells hold outputs: run nbstripout {notebook.path.name}"
    assert notebook.metadata == {"kernelspec": PYTHON}
    names = [cell.raw["id"] for cell in notebook.cells]
    assert len(names) == len(set(names))


def test_opens_with_goals_needs_and_time(notebook: Notebook) -> None:
    first, setup = notebook.cells[0].text, notebook.code()[0]
    assert first.startswith("# ")
    for part in ("**What you will learn**", "**What it needs**", "**Time**"):
        assert part in first
    assert "pn.extension(inline=True)" in setup, "nothing may be fetched from the network"


def test_the_first_import_says_what_to_install(notebook: Notebook) -> None:
    setup = notebook.code()[0].splitlines()
    first = next(i for i, line in enumerate(setup) if "toolkit" in line)
    assert setup[first] == INSTALL and setup[first + 1].startswith("from toolkit.")


def test_closes_with_summary_questions_and_reading(notebook: Notebook) -> None:
    last = notebook.cells[-1].text
    summary, questions = last.split("**Three questions**")
    questions, reading = questions.split("**Further reading**")
    assert "## Summary" in summary
    assert re.findall(r"^(\d)\. ", questions, re.MULTILINE) == ["1", "2", "3"]
    assert "https://doi.org/10." in reading


def test_is_live_and_asks_for_a_prediction(notebook: Notebook) -> None:
    code = "\n".join(notebook.code())
    assert VIEW.search(code), "no Panel view"
    asked = set(re.findall(r"(\w+) = predict\(", code))
    assert asked, "no prediction"
    shown = set(re.findall(r"(\w+)\.(?:beside|value)\b", code))
    assert asked <= shown, "a prediction that is not shown beside its result"


def test_no_cell_is_longer_than_a_screen(notebook: Notebook) -> None:
    long = [text.splitlines()[0] for text in notebook.code() if len(text.splitlines()) > SCREEN]
    assert not long


def words(text: str) -> int:
    """Words of Markdown: a formula in a line is one, those on lines of their own are none."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    return len(re.findall(r"\S*\w\S*", re.sub(r"\$[^$]+\$", "x", text)))


def test_few_words_between_two_things_to_do(notebook: Notebook) -> None:
    cells = [*notebook.cells[1:-1], Cell("markdown", closing(notebook)[0], {}, {}), None]
    found, begun = 0, ""
    for cell in cells:
        if cell is None or cell.kind == "code":
            assert found <= WORDS, f"{found} words from {begun!r}"
            found = 0
        else:
            begun = begun if found else cell.text[:60]
            found += words(cell.text)


def closing(notebook: Notebook) -> list[str]:
    """The last cell, cut at its summary."""
    return notebook.cells[-1].text.split("## Summary")


def sections(notebook: Notebook) -> list[str]:
    texts = [cell.text for cell in notebook.cells if cell.kind == "markdown"]
    return re.split(r"^## ", "\n\n".join(texts), flags=re.MULTILINE)[1:]


def test_a_derivation_says_first_why_it_matters(notebook: Notebook) -> None:
    for section in sections(notebook):
        before, formula, _ = section.partition("\n$$")
        assert not formula or "**Why this matters.** " in before, section.splitlines()[0]


def test_a_checkpoint_about_every_ten_minutes(notebook: Notebook) -> None:
    minutes = re.search(r"\*\*Time\*\*: (\d+) minutes", notebook.cells[0].text)
    assert minutes is not None
    text = "\n".join(cell.text for cell in notebook.cells)
    reached = text.count("**Checkpoint.** You can now ")
    assert reached == (int(minutes[1]) - 1) // 10  # the summary is the last one


def test_figures_are_shown_by_panel(notebook: Notebook) -> None:
    bare = []
    for text in notebook.code():
        last = ast.parse(text).body[-1]
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call | ast.BinOp):
            call = last.value.left if isinstance(last.value, ast.BinOp) else last.value
            name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
            bare += [text.splitlines()[0]] if name in FIGURES else []
    assert not bare, "without hv.extension a bare figure is shown as text: pn.panel(figure)"


def test_reduced_sizes_come_from_one_place(notebook: Notebook) -> None:
    assert "environ" not in "\n".join(notebook.code())


def test_every_exercise_has_dots_a_check_and_a_folded_solution(notebook: Notebook) -> None:
    begun = notebook.tagged("exercise")
    assert begun, "no exercise"
    for i in begun:
        exercise, checked, solution = notebook.cells[i : i + 3]
        assert "..." in exercise.text
        assert checked.tags == ["check"]
        assert solution.metadata == FOLDED
        assert CHECK.findall(checked.text) == CHECK.findall(solution.text) != []
        assert solution.text.startswith("# Solution\n"), "a folded cell shows its first line"
        assert "assert check(" in solution.text
    assert notebook.tagged("check") == [i + 1 for i in begun]
    assert notebook.tagged("solution") == [i + 2 for i in begun]


def test_a_solution_leaves_the_names_of_the_reader(notebook: Notebook) -> None:
    for i in notebook.tagged("exercise"):
        exercise, _, solution = (cell.text for cell in notebook.cells[i : i + 3])
        names = re.compile(r"^(?:def |class )?(\w+)(?:(?: = )|\()", re.MULTILINE)
        mine = set(names.findall(exercise))
        assert not mine & set(names.findall(solution)), "a solution overwrites the reader's answer"


def test_what_is_checked_exists_and_what_exists_is_checked() -> None:
    checked = {
        name for path in NOTEBOOKS for text in read(path).code() for name in CHECK.findall(text)
    }
    topics_checked = {name.partition(".")[0] for name in checked}
    assert topics_checked <= set(topics())
    assert checked == {name for topic in topics_checked for name in exercise_names(topic)}
