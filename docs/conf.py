"""Sphinx: the guides of this folder, the reference from the docstrings, the tutorials as pages.

``make docs`` builds them into build/site, which needs no network to be read.
"""

import sys
from pathlib import Path

import panel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from toolkit import __version__  # noqa: E402 (of this checkout)

project, author, release = "SBPCA Toolkit", "the SBPCA Toolkit authors", __version__
copyright = author  # noqa: A001 (Sphinx's name)
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
suppress_warnings = ["myst.xref_missing"]  # links out of this folder, which setup() turns

autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # the signature has them
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_extra_path = ["../build/pages"]  # tutorials/, as the dashboard shows them
html_theme_options = {
    "show_toc_level": 2,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "secondary_sidebar_items": ["page-toc"],
}
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_sidebars = {"tutorials": []}

# formulas are drawn by the browser, by the KaTeX that Panel brings along
_KATEX = next((Path(panel.__file__).parent / "dist" / "bundled" / "katex").glob("katex@*/dist"))
mathjax_path = "katex.min.js"
html_static_path = [
    "_static",
    str(_KATEX / "katex.min.js"),
    str(_KATEX / "contrib" / "auto-render.min.js"),
]
html_css_files = ["page.css"]
html_js_files = [("auto-render.min.js", {"defer": "defer"}), ("formulas.js", {"defer": "defer"})]


def _links(_app: object, name: str, text: list[str]) -> None:
    """Links of the guides that lead out of this folder: to tutorials and to the repository's files."""
    if name != "reference":
        text[0] = text[0].replace("](../notebooks/", "](tutorials/")


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _links)  # type: ignore[attr-defined]
