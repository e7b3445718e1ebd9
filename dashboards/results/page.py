"""The Results page: open saved runs, explore their variables, compare and export them.

``run_files.py`` checks files; ``toolkit.plots`` draws variables.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui
import xarray as xr

from dashboards.app import site
from dashboards.app.address import Address, join, one_of, parse, query_asked
from dashboards.app.child import read_beside
from dashboards.app.downloads import Download
from dashboards.app.figure_pane import facts, table
from dashboards.app.uploads import MEBI, Upload, plain_name
from dashboards.results.comparing import Comparison
from dashboards.results.exploring import NOTHING, Explorer
from dashboards.results.run_files import MOST_BYTES, read_run, size_of
from dashboards.results.run_tables import events_table, provenance_table, settings_table
from dashboards.results.saved import saved_runs
from toolkit.results import open_results, to_bytes
from toolkit.results.schema import last_fit
from toolkit.training import Experiment

CHOOSE = "choose one"
TABS = ("variables", "compare", "about")
MOST_RUNS = 6
MOST_TOGETHER = 512 * MEBI
_EXAMPLES = (
    ("example, SBPCA rank 1, then 4", {"method": "sbpca", "rank": 1}),
    ("example, SGD", {"method": "sgd"}),
)
_one_at_a_time = threading.Lock()
_TRAINING = '<p style="margin:12px" role="status">Training two short example runs …</p>'
_INTRO = (
    "What training runs have recorded: losses, accuracies, spectra of gradients, conductances.",
    "Choose a variable, or open runs of your own on the left.",
)
_HELP = (
    '<p style="margin:4px 0;font-size:13px">Open runs saved by the Playground, by '
    "<code>train --out</code> or by <code>run.save</code>: netCDF (.nc) or a zipped Zarr store, "
    f"at most {MOST_BYTES // MEBI} MiB each and {MOST_RUNS} at a time.</p>"
)


class Results:
    """The page of one visitor, set up from the query of its URL."""

    def __init__(self, query: str = "") -> None:
        self.address = Address()
        self.notice = site.Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.runs: dict[str, xr.DataTree] = {}
        self._examples_asked = pn.state.cache.get("runs") is None  # nothing else to show
        self._tab = 0
        self.explorer = Explorer(self._keep_address, self._say)
        self.comparison = Comparison(self._keep_address, self._say)
        self._about = site.Text(NOTHING, sizing_mode="stretch_width", margin=(0, 10))
        self._make_widgets()
        self._take(query)

    # --- layout ------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.upload = Upload(
            label="Open runs",
            uploaded_label="Open runs",  # not "Uploaded": it is not open yet
            chunk_size=2 * MEBI,
            accept=".nc,.zip",
            multiple=True,
            max_file_size=MOST_BYTES,
            size="small",
            width=170,
            margin=(8, 0),
        )
        self.upload.param.watch(self._uploaded, "value")
        self.upload.arriving = lambda name, share: self._tell(f"Receiving {name[:60]}: {share:.0%}")
        self._progress = site.Text("", width=250, margin=(0, 6))
        self._example = site.button("Two example runs", variant="outlined")
        self._example.on_click(self._open_examples)
        self._folder: Path | None = pn.state.cache.get("runs")
        self.saved = site.select("Saved on this server", [], width=250, margin=(10, 0))
        self.saved.visible = self._folder is not None
        self.saved.param.watch(self._saved_chosen, "value")
        self._list_saved()
        self.pick = site.select("Run shown", [], width=250, margin=(10, 0), visible=False)
        self.pick.param.watch(lambda _: self._show(), "value")
        self._close = site.button("Close this run", variant="outlined", visible=False)
        self._close.on_click(lambda _: self.close(self.pick.value))
        self._netcdf = Download(
            "This run (netCDF)",
            "run.nc",
            lambda: to_bytes(self.runs[self.pick.value]),
            visible=False,
        )
        self._summary = site.Text("", margin=(0, 6))

    def controls(self) -> pn.viewable.Viewable:
        """Opening, choosing and closing runs."""
        return pn.Column(
            site.Text(_HELP, width=260, margin=(0, 6)),
            self.upload,
            self._progress,
            self._example,
            self.saved,
            self.pick,
            self._summary,
            pn.FlexBox(self._netcdf, self._close),
            margin=(0, 8),
        )

    def view(self) -> pn.viewable.Viewable:
        """The three tabs."""
        self.tabs = pmui.Tabs(
            ("Variables", self.explorer.view()),
            ("Compare runs", self.comparison.view()),
            ("Settings and events", pn.Column(self._about, sizing_mode="stretch_both")),
            active=self._tab,
            sizing_mode="stretch_both",
        )
        self.tabs.param.watch(lambda event: self._turn_to(event.new), "active")
        parts = self.address, site.intro(*_INTRO), self.notice, self.tabs
        return pn.Column(*parts, sizing_mode="stretch_both", margin=0)

    def page(self) -> pmui.Page:
        """The whole page. Examples named in the URL are opened once it has loaded."""
        page = site.page("results", sidebar=[self.controls()], main=[self.view()])
        if self._examples_asked:
            pn.state.onload(self._open_examples)
        return page

    # --- opening and closing -----------------------------------------------------------------

    async def load(self, files: list[tuple[str, bytes]]) -> None:
        """Open runs; show one message for each that cannot be opened."""
        self._receive([(filename, await attempt(data)) for filename, data in files])

    def _receive(self, found: list[tuple[str, xr.DataTree | ValueError]]) -> list[str]:
        """Add the runs that can be opened and show the first of them; returns their names."""
        opened = []
        for filename, tree in found:
            if isinstance(tree, ValueError):
                self._say(f"{filename[:60]}: {tree}")
            elif len(self.runs) >= MOST_RUNS:
                self._say(f"{filename[:60]}: {MOST_RUNS} runs are open; close one first.")
            elif sum(map(size_of, [tree, *self.runs.values()])) > MOST_TOGETHER:
                self._say(f"{filename[:60]}: too large with the open runs; close one first.")
            else:
                opened.append(self._new_name(filename))
                self.runs[opened[-1]] = tree
        self._list()
        if opened:
            self.pick.value = opened[0]
        return opened

    def close(self, name: str) -> None:
        """Close a run."""
        self.runs.pop(name, None)
        self._examples_asked &= any(name in self.runs for name, _ in _EXAMPLES)
        self._list()

    def open_examples(self) -> None:
        """Open the two example runs; they are trained the first time."""
        for name, tree in examples().items():
            if len(self.runs) < MOST_RUNS:
                self.runs[name] = tree
        self._examples_asked = True
        self._list()

    def _list_saved(self) -> None:
        found = saved_runs(self._folder) if self._folder else {}
        self.saved.options = {CHOOSE: ""} | {words: path.name for words, path in found.items()}

    async def _saved_chosen(self, event: Any) -> None:
        await self._open_saved(event.new)

    async def _open_saved(self, name: str) -> None:
        """Open a run of the folder, if the list has that name."""
        if not name or self._folder is None or name not in self.saved.options.values():
            return
        try:
            tree = await asyncio.to_thread(_loaded, self._folder / name)
        except (ValueError, OSError) as error:
            self._say(f"{name[:60]}: {error}")
        else:
            self._receive([(name, tree)])
        self.saved.value = ""

    async def _uploaded(self, event: Any) -> None:
        if event.new:
            names, found = self.upload.filename or [], []
            self.upload.loading = True
            for name, data in zip(names, event.new, strict=True):
                self._tell(f"Reading {name[:60]} ({len(data) / MEBI:.1f} MiB)")
                found.append((name, await attempt(data)))
            self.upload.loading = False
            self.upload.clear()  # frees the bytes, and allows the same file again
            opened = self._receive(found)
            self._tell(f"Opened {', '.join(opened)}." if opened else "")

    def _tell(self, text: str) -> None:
        """Say how far the opening of a run is."""
        self._progress.object = f'<div role="status">{site.small(text)}</div>' if text else ""

    async def _open_examples(self, pressed: Any = None) -> None:
        self._example.loading = True
        if not self.runs:
            self.explorer.text.object = _TRAINING
        await asyncio.to_thread(examples)
        self._example.loading = False
        if pressed is None and self.runs:  # opened meanwhile: nothing moves under the visitor
            self._examples_asked = False
            return
        self.open_examples()

    def _new_name(self, filename: str) -> str:
        """A short new name for the list, never used as a file name."""
        stem = plain_name(filename) or "run"
        name, number = stem, 2
        while name in self.runs:
            name, number = f"{stem} ({number})", number + 1
        return name

    # --- what the page shows -----------------------------------------------------------------

    def _list(self) -> None:
        """Update the list to the open runs."""
        names, before = list(self.runs), self.pick.value
        self.pick.options = names
        self.pick.value = before if before in names else (names[0] if names else None)
        for widget in (self.pick, self._netcdf, self._close):
            widget.visible = bool(names)
        self.comparison.use(self.runs)
        if self.pick.value == before:
            self._show()

    def _show(self) -> None:
        tree = self.runs.get(self.pick.value)
        self.explorer.use(tree)
        self._about.object = about_html(tree) if tree is not None else NOTHING
        self._summary.object = summary_html(tree) if tree is not None else ""
        self._keep_address()

    def _turn_to(self, tab: int) -> None:
        self._tab = tab
        self._keep_address()

    # --- the address -------------------------------------------------------------------------

    def query(self) -> str:
        """The query that holds the page's state; only examples can be part of it."""
        pairs = [("tab", TABS[self._tab])] if self._tab else []
        pairs += [("runs", "example")] if self._examples_asked else []
        return join(pairs + self.explorer.pairs() + self.comparison.pairs())

    def _keep_address(self) -> None:
        self.address.keep(self.query())

    def _take(self, query: str) -> None:
        try:
            asked = parse(query)
            tab = TABS.index(one_of("tab", TABS, asked.pop("tab", TABS[0])))
            runs = asked.pop("runs", "")
            if runs not in ("", "example"):
                raise ValueError(f"runs must be example; got {runs[:40]!r}")
            self.comparison.take(asked)
            self.explorer.take(asked)
            if asked:
                raise ValueError(f"{next(iter(asked))[:40]!r} is not a setting of this page.")
        except ValueError as error:
            self._say(f"This URL is not valid: {error}")
            return
        self._tab = tab
        self._examples_asked |= runs == "example"

    def _say(self, text: str) -> None:
        site.notify(text, also=self.notice)


def _loaded(path: Path) -> xr.DataTree:
    """A saved run, in memory unless it is too large to be opened: the file may go."""
    tree = open_results(path)
    if size_of(tree) <= MOST_TOGETHER:
        tree.load()
    return tree


async def attempt(data: bytes) -> xr.DataTree | ValueError:
    """The run in a file, or the error from reading it."""
    try:
        tree: xr.DataTree = await read_beside(read_run, data)
    except ValueError as error:
        return error
    return tree


def examples() -> dict[str, xr.DataTree]:
    """Two short runs on the digits with the same seed; one raises its rank midway."""
    with _one_at_a_time:  # a visitor may ask while the server is training them
        return _trained()


@functools.cache
def _trained() -> dict[str, xr.DataTree]:
    trees = {}
    for name, knobs in _EXAMPLES:
        run = Experiment(device="EpiRAM", hidden=[32], record_every=20, **knobs)
        for record in run.steps(epochs=5):
            if record.step == 40 and knobs["method"] == "sbpca":
                run.rank = 4
        trees[name] = run.results()
    return trees


def summary_html(tree: xr.DataTree) -> str:
    """The progress of the run."""
    training = tree["training"].to_dataset() if "training" in tree else xr.Dataset()
    items: dict[str, Any] = {}
    if training.sizes.get("step"):
        items["Steps"] = f"{training.sizes['step']:,}"
    if fit := last_fit(training):
        items["Test fit" if fit.startswith("R²") else "Test accuracy"] = fit
    return facts(items)


def about_html(tree: xr.DataTree) -> str:
    """Settings, events and provenance."""
    parts = [settings_table(tree), events_table(tree), provenance_table(tree)]
    cells = "".join(f"<div>{table(*part)}</div>" for part in parts)
    return (
        '<div tabindex="0" role="region" aria-label="Settings and events" '
        'style="display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));'
        f'gap:16px;align-items:start">{cells}</div>'
    )


def results() -> pmui.Page:
    """Create the page of one session."""
    return Results(query_asked()).page()
