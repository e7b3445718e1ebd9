"""The tutorials as HTML pages: run, rendered, and small enough to be put on a server.

Nothing is fetched from the network when a page is read: scripts lie in ``static/`` beside it, once
for all pages, and formulas become MathML.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import panel
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from toolkit.teaching.series import FOLDER
from toolkit.writing import beside

SHARED = 100_000  # characters: a longer script goes to static/
SECONDS = 900  # a cell may take
_OWN = ("page.js", "page.css")
_KATEX = ("katex.min.js", "contrib/auto-render.min.js")
# The first line of a script in an output names the output, so that the rest is the same everywhere.
_SCRIPT = re.compile(r"<script([^>]*)>(\s*var element = [^\n]*\n)?(.*?)</script>", re.DOTALL)
_ELSEWHERE = re.compile(r"<script[^>]*\bsrc=\"(?:https?:[^\"]*)?\"[^>]*>\s*</script>")
_LINK = re.compile(r"href=\"(?!https?:)([^\"#]+)\.(?:ipynb|md)(#[^\"]*)?\"")
_HEAD = """<link rel="stylesheet" href="static/page.css">
<script defer src="static/katex.min.js"></script>
<script defer src="static/auto-render.min.js"></script>
<script defer src="static/page.js"></script>
"""
PLAIN = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
</head><body class="{kind}">
{body}
</body></html>
"""


def render(notebooks: Sequence[Path], out: Path, *, run: bool = True) -> list[Path]:
    """Run every notebook and write it, and the guides beside it, as pages into ``out``.

    Returns the pages; without ``run`` they have no outputs. Scripts that an earlier call left in
    ``out/static`` are removed. A notebook runs in a folder of its own that is gone afterwards; an
    error in one of its cells is raised as ``nbclient`` raises it.
    """
    static = prepare(out)
    written = []
    for path in sorted(FOLDER.glob("*.md")):
        written.append(out / f"{'index' if path.stem == 'README' else path.stem}.html")
        written[-1].write_text(finish(_guide(path), static), encoding="utf-8")
    for path in notebooks:
        written.append(out / f"{path.stem}.html")
        notebook = run_notebook(path) if run else nbformat.read(path, as_version=4)
        page = finish(_html(notebook, path.stem), static)
        with beside(written[-1]) as scratch:
            scratch.write_text(page, encoding="utf-8")
    return written


def prepare(out: Path, *more: Path) -> Path:
    """Make ``out/static`` with what every page loads and the files ``more``; return that folder."""
    static = out / "static"
    static.mkdir(parents=True, exist_ok=True)
    for old in static.glob("output-*.js"):
        old.unlink()
    own = (Path(__file__).parent / name for name in _OWN)
    katex = next((Path(panel.__file__).parent / "dist" / "bundled" / "katex").glob("katex@*/dist"))
    for source in (*own, *(katex / name for name in _KATEX), *more):
        (static / source.name).write_bytes(source.read_bytes())
    return static


def run_notebook(path: Path) -> Any:
    """The notebook with its outputs, run in a folder of its own."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, resources=place).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # an output without data shows nothing; nbconvert warns of it
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    return notebook


def _html(notebook: Any, name: str) -> str:
    exporter = HTMLExporter(template_name="lab", mathjax_url="", require_js_url="")
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    return body


def _guide(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    title = text.split("\n", 1)[0].lstrip("# ")
    return PLAIN.format(title=title, kind="guide", body=markdown2html(text))


def finish(html: str, static: Path) -> str:
    """``html`` with long scripts moved to ``static``, none from elsewhere, and links to pages."""

    def moved(match: re.Match[str]) -> str:
        attributes, place, script = match.groups()
        if len(script) < SHARED or "json" in attributes:
            return match[0]
        name = f"output-{hashlib.sha256(script.encode()).hexdigest()[:12]}.js"
        (static / name).write_text(script, encoding="utf-8")
        return f'<script>{place or ""}</script><script{attributes} src="static/{name}"></script>'

    html = _SCRIPT.sub(moved, _ELSEWHERE.sub("", html))
    html = _LINK.sub(r'href="\1.html\2"', html).replace('href="README.html', 'href="index.html')
    return html.replace("</head>", f"{_HEAD}</head>", 1)
