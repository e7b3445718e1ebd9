"""The shape of the house: which part imports what, and what is under version control."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).parent.parent
LIBRARIES = {
    *("bokeh", "dask", "distributed", "h5netcdf", "h5py", "holoviews", "jupyterlab", "panel"),
    *("param", "sklearn", "tqdm", "xarray", "zarr"),
}
MOST_FILES = 14
PAGES = {"bokeh", "dashboards", "holoviews", "panel"}
# A line imports from itself and from lines above it only; the longest name that fits counts.
ORDER = """
toolkit
toolkit.checks toolkit.writing toolkit.plain_yaml
toolkit.lowrank.compiled
toolkit.lowrank
toolkit.crossbar.kernels
toolkit.crossbar.devices
toolkit.crossbar
toolkit.compiling
toolkit.fitting
toolkit.results
toolkit.training.data
toolkit.training.layers
toolkit.training.models toolkit.training.distributed
toolkit.training.experiment
toolkit.training.live
toolkit.training
toolkit.budget
toolkit.plots
toolkit.teaching toolkit.reproduce
dashboards
dashboards.app
dashboards.playground
dashboards.race dashboards.devices dashboards.results dashboards.scenarios dashboards.notebook
dashboards.budget dashboards.atlas
toolkit.cli toolkit.__main__
"""
FORBIDDEN = {
    "toolkit.lowrank": LIBRARIES | {"scipy"},
    "toolkit.crossbar": LIBRARIES,
    "toolkit.fitting": LIBRARIES,
    "toolkit.training": PAGES,
    "toolkit.results": PAGES,
    "toolkit.plots": {"panel", "toolkit.training"},
}


def modules() -> dict[str, Path]:
    paths = [*(ROOT / "toolkit").rglob("*.py"), *(ROOT / "dashboards").rglob("*.py")]
    parts = {path: path.relative_to(ROOT).with_suffix("").parts for path in paths}
    return {".".join(p[: len(p) - (p[-1] == "__init__")]): path for path, p in parts.items()}


def imports(path: Path) -> set[str]:
    """Every module that ``path`` imports, at any depth of the code, for types only included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
    return found


def place(module: str) -> int:
    lines = [line.split() for line in ORDER.split("\n")]
    fits = [
        (len(name), i)
        for i, line in enumerate(lines)
        for name in line
        if f"{module}.".startswith(f"{name}.")
    ]
    return max(fits)[1]


MODULES = modules()
GRAPH = {module: imports(path) for module, path in MODULES.items()}


def test_imports_point_down():
    ours = {(a, b) for a, found in GRAPH.items() for b in found & MODULES.keys()}
    assert not {f"{a} imports {b}" for a, b in ours if place(b) > place(a)}


def test_imports_have_no_circles():
    """Not even those that only type checkers follow: a sorter refuses circles."""
    ours = {module: found & MODULES.keys() - {module} for module, found in GRAPH.items()}
    assert len([*TopologicalSorter(ours).static_order()]) == len(MODULES)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_leaves_heavy_libraries_to_those_above(package):
    wrong = {
        f"{module} imports {name}"
        for module, found in GRAPH.items()
        if f"{module}.".startswith(f"{package}.")
        for name in found
        if any(f"{name}.".startswith(f"{foreign}.") for foreign in FORBIDDEN[package])
    }
    assert not wrong


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_tree_of_a_page_is_the_real_one(page):
    """Every folder named is there; all of the toolkit's are named, in CONTRIBUTING those below."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"^([a-z]+(?:/[a-z]+)*)/ ", text, re.MULTILINE))
    assert not {name for name in named if not (ROOT / name).is_dir()}
    deepest = 3 if page == "CONTRIBUTING.md" else 2
    there = {path.parent.relative_to(ROOT) for path in (ROOT / "toolkit").rglob("__init__.py")}
    wanted = {path.as_posix() for path in there if len(path.parts) == deepest}
    inner = {"toolkit/teaching/checks", "toolkit/reproduce/claims"}  # on their parents' lines
    assert wanted - inner <= named


def test_mutants_stand_where_their_list_says():
    """Each once in its file; that tests kill them takes ``make mutants``."""
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1 and mutant.new != mutant.old, mutant
        assert all((ROOT / name).is_file() for name in mutant.test.split())
    assert len(MUTANTS) >= 40


def test_a_folder_is_small_enough_to_keep_in_mind():
    counts = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    counts = {folder.name: n for folder, n in counts.items() if folder.name != "checks"}
    assert {name: n for name, n in counts.items() if n > MOST_FILES} == {}  # checks: by notebook


def test_arrays_are_read_and_written_without_scipy():
    """Only fits of measured curves need it, and they are slow anyway."""
    code = (
        "import sys, toolkit.crossbar; "
        "heavy = {'scipy.linalg', 'scipy.optimize', 'scipy.sparse', 'pandas', 'xarray'}; "
        "print(*sys.modules.keys() & heavy)"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not loaded.strip()


def test_importing_toolkit_is_light():
    heavy = LIBRARIES | {"torch", "numpy", "scipy"}
    code = f"import sys, toolkit; print(*sys.modules.keys() & {heavy})"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not loaded.strip()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "dashboard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    assert "Python 3.11 or newer is needed" in run.stderr
    assert not (tmp_path / "venv").exists()


def test_every_public_package_is_in_the_reference():
    listed = set(re.findall(r"^   (toolkit\S+)$", (ROOT / "docs/reference.rst").read_text(), re.M))
    public = {
        module
        for module, path in MODULES.items()
        if path.name == "__init__.py" and "__all__" in path.read_text(encoding="utf-8")
    }
    assert public - {"toolkit", "toolkit.teaching", "toolkit.reproduce"} <= listed
