"""Tables and figures of docs/estimators.md, from the files of benchmarks.estimators.

    python -m benchmarks.lowrank_report FILE.nc ... --figures docs/figures

Files of one data set are put together. The tables are printed as Markdown; the figures are drawn
by HoloViews and photographed by a headless Chromium, which must be installed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import holoviews as hv
import numpy as np
import xarray as xr
from playwright.sync_api import sync_playwright

COLOURS = {
    "full gradient": "#000000",
    "SBPCA": "#0072b2",
    "SBPCA, full core": "#56b4e9",
    "FeedbackPCA": "#d55e00",
    "power iteration": "#009e73",
    "truncated SVD": "#999999",
    "LRT, biased": "#e69f00",
    "LRT, unbiased": "#cc79a7",
    "NMF": "#8b4513",
    "SBE": "#7030a0",
}
MILLIONS = [(value, f"{value:g}") for value in (0.03, 0.1, 0.3, 1, 3, 10, 30)]


def by_dataset(files: list[Path]) -> dict[str, xr.Dataset]:
    """Read the files and join those of one data set."""
    parts: dict[str, list[xr.Dataset]] = defaultdict(list)
    for file in files:
        with xr.open_dataset(file) as data:
            parts[str(data.attrs["dataset"])].append(data.load())
    return {
        name: xr.merge(group, join="outer", compat="no_conflicts", combine_attrs="override")
        for name, group in parts.items()
    }


def table(data: xr.Dataset) -> str:
    """Return the Markdown table of one data set: a row per method, a column per rank."""
    ranks = data["rank"].values
    lines = [
        "| method | " + " | ".join(f"k = {rank}" for rank in ranks) + " | words | time |",
        "|---|" + "---|" * (len(ranks) + 2),
    ]
    for method in (name for name in COLOURS if name in data.method.values):
        rows = data.sel({"method": method})
        cells = [cell(rows.sel(rank=rank)) for rank in ranks]
        shown = rows.sel(rank=4) if np.isfinite(rows.words.sel(rank=4)) else rows.sel(rank=1)
        words, milliseconds = float(shown.words), float(shown.update_time)
        lines.append(f"| {method} | {' | '.join(cells)} | {words:,.0f} | {milliseconds:.2f} ms |")
    return "\n".join(lines)


def cell(case: xr.Dataset) -> str:
    """Return mean and standard deviation of the accuracy, or nothing."""
    values = case.accuracy.dropna("seed").values
    if not len(values):
        return ""
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def curves(data: xr.Dataset, title: str) -> hv.Overlay:
    """Draw test accuracy against the rank that is written."""
    elements = []
    for method in (name for name in COLOURS if name in data.method.values):
        accuracy = data.accuracy.sel({"method": method}).mean("seed").dropna("rank")
        points = (accuracy["rank"].values, accuracy.values)
        elements.append(
            hv.Points(points, ["written rank k", "test accuracy (%)"]).opts(
                color=COLOURS[method], size=7
            )
        )
        if method in ("full gradient", "SBE"):  # they have no rank to choose
            across = np.array([data["rank"].values[0], data["rank"].values[-1]])
            points = (across, np.repeat(points[1], 2))
        style = {"color": COLOURS[method], "line_width": 2.5}
        dashes = "dashed" if method in ("full gradient", "SBE") else "solid"
        line = hv.Curve(points, "written rank k", "test accuracy (%)", label=method)
        elements.append(line.opts(**style, line_dash=dashes))
    return hv.Overlay(elements).opts(title=title, **frame(data))


def scatter(data: xr.Dataset, title: str) -> hv.Overlay:
    """Draw test accuracy against the arithmetic of one batch."""
    elements = []
    for method in (name for name in COLOURS if name in data.method.values):
        rows = data.sel({"method": method})
        accuracy = rows.accuracy.mean("seed").values
        points = (rows.macs.values / 1e6, accuracy)
        marks = hv.Points(
            points, ["million multiply-accumulates per batch", "test accuracy (%)"], label=method
        )
        elements.append(marks.opts(color=COLOURS[method], size=9, marker="circle"))
    return hv.Overlay(elements).opts(
        title=title, **{**frame(data), "xlim": (None, None), "xticks": MILLIONS}
    )


def frame(data: xr.Dataset) -> dict[str, object]:
    """Return the options that all panels share."""
    top = float(data.accuracy.mean("seed").max())
    return {
        "logx": True,
        "xticks": [(int(rank), str(rank)) for rank in data["rank"].values],
        "xlim": (0.9, 18),
        "ylim": (top - 12, top + 0.5),
        "width": 640,
        "height": 440,
        "legend_position": "right",
        "show_grid": True,
        "fontsize": {"title": 13, "labels": 12, "ticks": 11, "legend": 9},
    }


def photograph(layout: hv.Layout, file: Path) -> None:
    """Save a layout as PNG, as a headless Chromium shows it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "figure.html"
        hv.save(layout, page_file, backend="bokeh", resources="inline")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1300, "height": 480}, device_scale_factor=1.5)
        page.goto(page_file.as_uri())
        page.wait_for_selector("canvas")
        page.wait_for_timeout(1500)
        page.screenshot(path=file)
        browser.close()


def main() -> None:
    """Print the tables and save the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lowrank_report")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--figures", type=Path, help="folder for the two PNG files")
    options = parser.parse_args()
    datasets = by_dataset(options.files)
    for name, data in datasets.items():
        print(f"\n{name}, {data.attrs['network']}, {data.attrs['epochs']} epochs\n\n{table(data)}")
    if options.figures:
        hv.extension("bokeh", logo=False)
        for draw, name in ((curves, "accuracy_by_rank"), (scatter, "accuracy_by_arithmetic")):
            panels = [
                draw(data, f"{title}, {data.attrs['network']}") for title, data in datasets.items()
            ]
            layout = hv.Layout(panels).opts(toolbar=None, shared_axes=False)
            photograph(layout, options.figures / f"estimators_{name}.png")


if __name__ == "__main__":
    main()
