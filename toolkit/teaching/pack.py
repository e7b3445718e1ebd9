"""The teacher's pack: slides, a hand-out, solutions, questions, a plan, a lab sheet, projects.

Slides, hand-out and solutions come from the notebooks; the others are texts in ``course/``. All
pages are HTML that a browser shows and prints without a network.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from toolkit.teaching.drawings import drawing
from toolkit.teaching.pages import PLAIN, finish, prepare, run_notebook
from toolkit.teaching.series import FOLDER, notebooks
from toolkit.teaching.stepping import stepping, stepping_names
from toolkit.writing import beside

COURSE = Path(__file__).parent / "course"
# What the class of two hours sees: sections of notebooks, in this order.
CLASS = {
    "01_quick_start": ("The idea", "A first run", "Why so few directions are enough"),
    "02_crossbar": (
        "Two laws from school",
        "A weight can be negative",
        "The same cells, the other way",
    ),
    "03_outer_products": ("One sample", "A batch", "A network by hand", "How many directions?"),
    "04_spectra": ("A look at a gradient", "Over layers, activations and training"),
}
_TEXTS = {
    "plan": "Two hours, with what to skip",
    "lab": "Lab sheet: the dashboard alone",
    "projects": "Projects for a term paper, with a rubric",
}
_TITLE = """<section><h1>Low-rank training on crossbars</h1>
<p>Arrays of devices that multiply where they store, and updates of a few outer products that
train them. A class of two hours.</p>
<p class="keys">→ next, ← back, n notes</p></section>"""


@dataclass(frozen=True)
class Part:
    """A piece of a notebook; ``text`` is Markdown, code or HTML, as its kind has it."""

    kind: str  # title, prose, key (formula, list or table), drawing, exercise, code, solution, …
    section: str
    text: str


def write_pack(out: Path, *, run: bool = True) -> list[Path]:
    """Write the pack as pages into ``out`` and return them; ``index.html`` leads to all others.

    Runs the notebooks of the class, for the figures on its slides; without ``run`` there are none.
    """
    static = prepare(out, COURSE / "pack.css", COURSE / "slides.js")
    pages = {
        "slides": ("Slides", "slides", _slides(run)),
        "handout": ("Hand-out", "guide paper", "".join(map(_handout, notebooks()))),
        "solutions": ("Solutions", "guide paper", "".join(map(_solutions, notebooks()))),
        "questions": ("Questions", "guide paper", markdown2html(_questions(answers=False))),
        "answers": ("Questions with answers", "guide paper", markdown2html(_questions())),
    }
    for name, title in _TEXTS.items():
        text = (COURSE / f"{name}.md").read_text(encoding="utf-8")
        pages[name] = (title, "guide paper", markdown2html(text))
    links = "\n".join(f"- [{title}]({name}.html)" for name, (title, *_) in pages.items())
    pages["index"] = ("Teacher's pack", "guide", markdown2html(f"# Teacher's pack\n\n{links}"))
    return [_write(out / f"{name}.html", static, *page) for name, page in pages.items()]


def read_questions() -> list[dict[str, Any]]:
    """Return the question bank: ``topic``, ``name``, ``question``, ``answer``.

    A multiple choice also has ``options``, and some questions ``why``.
    """
    return yaml.safe_load((COURSE / "questions.yaml").read_text(encoding="utf-8"))


def read_closing() -> dict[str, list[str]]:
    """Return the answers to each notebook's closing questions, by its number: "01" and so on."""
    return yaml.safe_load((COURSE / "closing.yaml").read_text(encoding="utf-8"))


def parts(notebook: Any) -> Iterator[Part]:
    """Return the pieces of a notebook, in order, with the outputs that it has.

    Folded text, the answers to the last questions, is left out: it would be open on paper.
    """
    section = ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from _of_code(cell, section)
            continue
        in_exercise = False
        unfolded = re.sub(r"<details>.*?</details>\n*", "", cell.source, flags=re.DOTALL)
        for block in re.split(r"\n\n+", unfolded):
            if block.startswith("#"):
                level, _, heading = block.partition(" ")
                section = heading if level == "##" else section
                yield Part("title" if level == "#" else "heading", section, heading)
                continue
            in_exercise = in_exercise or block.startswith("**Exercise")
            key = re.match(r"\$\$|- |\d\. |\|", block)
            kind = "exercise" if in_exercise else "key" if key else "prose"
            yield Part(kind, section, block)


def _of_code(cell: Any, section: str) -> Iterator[Part]:
    tags = cell.metadata.get("tags", [])
    if "exercise" in tags:
        yield Part("code", section, cell.source)
    elif "solution" in tags:
        yield Part("solution", section, cell.source.removeprefix("# Solution\n"))
    elif name := re.match(r'drawing\("([\w-]+)"\)$', cell.source):
        yield Part("drawing", section, drawing(name[1]).svg)
    elif name := re.match(r'stepping\("([\w-]+)"\)$', cell.source):
        yield Part("stepping", section, stepping(name[1]).html)
    elif asked := _prediction(cell.source):
        yield Part("prediction", section, asked)
    elif "pn.extension(" in cell.source:
        yield Part("setup", section, _outputs(cell))
    elif "check" not in tags and "NotebookView(" not in cell.source and _is_shown(cell):
        yield Part("figure", section, _outputs(cell))


def _prediction(code: str) -> str:
    """The question of a ``predict`` cell and what can be answered, as Markdown."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "predict":
            given = {part.arg: _literal(part.value) for part in node.keywords}
            boxes = "\n".join(f"- ☐ {option}" for option in given.get("options") or [])
            blank = f"………… {given.get('unit') or ''}"
            return f"**Predict:** {_literal(node.args[0]) or ''}\n\n{boxes or blank}"
    return ""


def _literal(node: ast.expr) -> Any:
    """The value of an expression, or None if only a run can tell."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _is_shown(cell: Any) -> bool:
    return any("text/html" in output.get("data", {}) for output in cell.get("outputs", []))


def _outputs(cell: Any) -> str:
    """The outputs as HTML, without what only its reader could have predicted."""
    alone = nbformat.v4.new_notebook(cells=[cell])
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(alone)
    body = re.sub(r"\$\('#([\w-]+)'\)", r"document.getElementById('\1')", body)  # no jQuery here
    return re.sub(r"You (?:said|have not chosen yet).{0,60}?; measured", "Measured", body)


def _slides(run: bool) -> str:
    found, setup = [_TITLE], ""
    for name, sections in CLASS.items():
        path = FOLDER / f"{name}.ipynb"
        pieces = list(parts(run_notebook(path) if run else nbformat.read(path, as_version=4)))
        setup = setup or next(part.text for part in pieces if part.kind == "setup")
        title = next(part.text for part in pieces if part.kind == "title")
        picture = next(part.text for part in pieces if part.kind == "drawing")
        found.append(f"<section><h1>{escape(title)}</h1>{picture}</section>")
        for section in sections:
            found += _of_section(section, [part for part in pieces if part.section == section])
    for each in map(stepping, stepping_names()):
        found.append(_slide(each.title, each.html, markdown2html(each.about)))
    return setup + "\n".join(found) + '<script src="static/slides.js"></script>'


def _of_section(section: str, pieces: list[Part]) -> Iterator[str]:
    """Slides of a section: each ends with a question or a figure, and has the text as notes."""
    text: list[str] = []
    shown: list[str] = []
    for part in [*pieces, Part("end", section, "")]:
        if part.kind == "prose":
            text.append(part.text)
        elif part.kind == "key":
            shown += [*map(_last_sentence, text[-1:]), part.text]
            text.append(part.text)
        elif part.kind in ("exercise", "prediction", "figure") or (part.kind == "end" and text):
            top = markdown2html("\n\n".join(shown or text[:1]))
            body = part.text if part.kind == "figure" else markdown2html(part.text)
            yield _slide(section, top + body, markdown2html("\n\n".join(text)))
            text, shown = [], []


def _last_sentence(text: str) -> str:
    """What leads to a formula; nothing leads from one formula to the next."""
    return "" if re.match(r"\$\$|- |\|", text) else re.split(r"(?<=[.:?])\s+(?=\S)", text)[-1]


def _slide(section: str, body: str, notes: str) -> str:
    return f"<section><h2>{escape(section)}</h2>{body}<aside>{notes}</aside></section>"


def _handout(path: Path) -> str:
    """Drawing, formulas, predictions and exercises of a notebook, with space to write."""
    found: list[str] = []
    heading = lead = ""
    for part in parts(nbformat.read(path, as_version=4)):
        if part.kind == "title":
            found.append(f"<h1>{path.stem[:2]} {escape(part.text)}</h1>")
        elif part.kind == "heading":
            heading, lead = f"<h2>{escape(part.text)}</h2>", ""
        elif part.kind == "prose":
            lead = _last_sentence(part.text)
        elif part.kind == "drawing":
            found.append(part.text)
        elif part.section and part.kind in _ON_PAPER and "**Further reading**" not in lead:
            lead = lead if part.kind == "key" else ""
            found += [heading, _ON_PAPER[part.kind](f"{lead}\n\n{part.text}".strip())]
            heading = lead = ""
    return f"<article>{''.join(found)}</article>"


def _asked(text: str) -> str:
    return f'<div class="ask">{markdown2html(text)}</div>'


def _with_space(code: str) -> str:
    return f'<pre>{escape(code)}</pre><div class="lines"></div>'


_ON_PAPER: dict[str, Callable[[str], str]] = {
    "key": markdown2html,
    "stepping": str,
    "prediction": _asked,
    "exercise": _asked,
    "code": _with_space,
}


def _solutions(path: Path) -> str:
    found, before = [], ""
    for part in parts(nbformat.read(path, as_version=4)):
        if part.kind == "title":
            found.append(f"<h1>{path.stem[:2]} {escape(part.text)}</h1>")
        elif part.kind == "exercise":
            found.append(markdown2html(part.text))
        elif part.kind == "solution":
            found.append(f"<pre>{escape(part.text)}</pre>")
        elif part.kind == "key" and before == "**Three questions**":
            found.append(markdown2html(_answered(part.text, read_closing()[path.stem[:2]])))
        before = part.text
    return f"<article>{''.join(found)}</article>"


def _answered(questions: str, answers: list[str]) -> str:
    """A numbered list of questions, each with its answer."""
    asked = re.split(r"^\d\. +", questions, flags=re.MULTILINE)[1:]
    pairs = enumerate(zip(asked, answers, strict=True), start=1)
    lines = (f"**{i}.** {each.strip()}\n\n**Answer.** {answer}" for i, (each, answer) in pairs)
    return "\n\n".join(["**Three questions**", *lines])


def _questions(*, answers: bool = True) -> str:
    """The question bank as Markdown."""
    lines, topic = ["# Questions with answers" if answers else "# Questions"], ""
    for number, each in enumerate(read_questions(), start=1):
        if each["topic"] != topic:
            topic = each["topic"]
            lines.append(f"## {topic}")
        lines.append(f"**{number}.** {each['question']}")
        options = zip("abcdef", each.get("options", []), strict=False)
        lines.append("\n".join(f"- {letter}) {option}" for letter, option in options))
        if answers:
            why = f" {each['why']}" if "why" in each else ""
            lines.append(f"**{each['answer'].rstrip('.')}.**{why}")
    return "\n\n".join(filter(None, lines))


def _write(path: Path, static: Path, title: str, kind: str, body: str) -> Path:
    page = finish(PLAIN.format(title=title, kind=kind, body=body), static)
    page = page.replace("</head>", '<link rel="stylesheet" href="static/pack.css"></head>', 1)
    with beside(path) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return path
