"""The runs saved in the folder that the server offers (``dashboard --runs DIR``)."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import xarray as xr

from dashboards.app.widgets import method_name
from toolkit.results import open_results
from toolkit.results.schema import last_fit

MOST = 50  # listed, the newest


def saved_runs(folder: Path) -> dict[str, Path]:
    """Path of every run in ``folder`` by what the list says of it, the newest first."""
    paths = [p for p in folder.iterdir() if p.suffix in (".nc", ".zarr") and not p.is_symlink()]
    newest = sorted(paths, key=_changed, reverse=True)[:MOST]
    found = {path: _described(path, _changed(path)) for path in newest}
    return {f"{path.name}: {words}": path for path, words in found.items() if words}


def _changed(path: Path) -> float:
    return path.stat().st_mtime


@lru_cache(maxsize=4 * MOST)
def _described(path: Path, changed: float) -> str:  # noqa: ARG001 - a changed file is read anew
    """Method, rank, device and last accuracy; empty if the file is no run."""
    try:
        tree = open_results(path)
    except (ValueError, OSError):
        return ""
    settings = json.loads(tree.attrs.get("settings", "{}"))
    parts = [method_name(settings[name]) for name in ("method", "device") if name in settings]
    if "rank" in settings and settings.get("method") != "sgd":  # which has none
        parts.insert(1, f"rank {settings['rank']}")
    return ", ".join([*parts, *_accuracy(tree)]) or "run"


def _accuracy(tree: xr.DataTree) -> list[str]:
    training = tree["training"].to_dataset() if "training" in tree.children else xr.Dataset()
    return [fit] if (fit := last_fit(training)) else []
