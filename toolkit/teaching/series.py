"""The tutorials as files: their location, and copying them for the reader.

``pages.py`` renders them.
"""

from __future__ import annotations

from pathlib import Path

from toolkit.writing import beside

FOLDER = Path(__file__).parents[2] / "notebooks"  # next to the package, installed or not
CONTENTS = FOLDER / "00_contents.ipynb"  # README.md as a notebook, which JupyterLab shows rendered


def notebooks() -> list[Path]:
    """The notebooks of the series, in order, without the contents."""
    return sorted(set(FOLDER.glob("[0-9]*.ipynb")) - {CONTENTS})


def copy_series(out: Path, *, force: bool = False) -> list[Path]:
    """Copy the notebooks and their guides into the folder ``out``; return the files written.

    Identical files are skipped. If a file differs (somebody has worked in it), raises ValueError
    and writes nothing, unless ``force`` is true, which overwrites it.
    """
    files = sorted([*FOLDER.glob("*.ipynb"), *FOLDER.glob("*.md")])
    sources = {out / path.name: path for path in files}
    if not sources:
        raise FileNotFoundError(f"no notebooks in {FOLDER}: the installation is incomplete")
    new = [copy for copy, path in sources.items() if not _same(copy, path)]
    worked_in = [copy.name for copy in new if copy.exists()]
    if worked_in and not force:
        raise ValueError(
            f"{', '.join(worked_in)} in {out} would be overwritten; use another folder or --force"
        )
    out.mkdir(parents=True, exist_ok=True)
    for copy in new:
        with beside(copy) as scratch:
            scratch.write_bytes(sources[copy].read_bytes())
    return new


def _same(copy: Path, path: Path) -> bool:
    return copy.exists() and copy.read_bytes() == path.read_bytes()
