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
copyright = author
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

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
