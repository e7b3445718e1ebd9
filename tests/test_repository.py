"""The shape of the house: which part imports what, and what is under version control."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = {
    *("bokeh", "dask", "distributed", "h5netcdf", "h5py", "holoviews", "jupyterlab", "panel"),
    *("param", "sklearn", "tqdm", "xarray", "zarr"),
}
PAGES = {"bokeh", "dashboards", "holoviews", "panel"}
FORBIDDEN = {
    "lowrank": LIBRARIES | {"scipy", "dashboards"},
    "crossbar": LIBRARIES | {"dashboards"},
    "fitting": LIBRARIES | {"dashboards"},
    "training": PAGES,
    "results": PAGES,
    "plots": {"dashboards", "panel"},
    "teaching": {"dashboards"},
}
PARTS_ALLOWED = {
    "lowrank": {"lowrank"},
    "crossbar": {"crossbar", "lowrank"},
    "fitting": {"fitting", "crossbar", "lowrank"},
    "training": {"training", "fitting", "crossbar", "lowrank", "results"},
    "results": {"results"},
    "plots": {
        "plots",
        "results",
        "fitting",
        "crossbar",
        "lowrank",
    },  # figures of devices, not only of runs
    "teaching": {"teaching", "plots", "training", "fitting", "results", "crossbar", "lowrank"},
}
PARTS = {f"toolkit.{part}" for part in (*PARTS_ALLOWED, "cli", "reproduce")}


def imports(path: Path) -> set[str]:
    """Every module that ``path`` imports, with its parents, at any depth of the code."""
    found: set[str] = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return {".".join(n.split(".")[:i]) for n in found for i in range(1, n.count(".") + 2)}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part):
    forbidden = FORBIDDEN[part] | PARTS - {f"toolkit.{name}" for name in PARTS_ALLOWED[part]}
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "toolkit" / part).rglob("*.py")
        for name in imports(path) & forbidden
    }
    assert not wrong


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
