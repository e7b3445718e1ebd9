"""The Budget page: what training a network in crossbars costs a chip, layer by layer.

``networks.py`` has the layers, ``toolkit.budget`` computes, ``report.py`` words the result and
``toolkit.plots`` draws it. A change is computed beside the server's thread; the last one counts.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import panel as pn
import panel_material_ui as pmui
import xarray as xr

from dashboards.app import site
from dashboards.app.address import Address, Watched, join, parse, query_asked
from dashboards.app.child import read_beside
from dashboards.app.downloads import Download, export_buttons
from dashboards.app.figure_pane import WHOLE, FigurePane, explanation, facts, grid, table
from dashboards.app.settings_text import MAX_YAML_BYTES
from dashboards.app.uploads import yaml_upload
from dashboards.app.widgets import method_name
from dashboards.budget.networks import (
    layers_by_name,
    layers_of_query,
    layers_of_yaml,
    network_names,
    query_text,
    yaml_of,
)
from dashboards.budget.report import HEADERS, facts_of, layer_rows, sentence
from toolkit.budget import DENSE, Chip, Layer, budget_methods, compare, read_prices
from toolkit.budget.budget import MEMORIES
from toolkit.budget.command import save_budget
from toolkit.crossbar import device_names, get_device
from toolkit.plots import LiveFigure
from toolkit.plots.budget import (
    numbers_held,
    numbers_title,
    part_title,
    show_numbers,
    show_parts,
    stacked_parts,
)

OWN = "your own table"
METHODS = ["sbpca", "lrt", "feedback", *DENSE]
BARS = ("joules and seconds", "share of each method")
LONGEST_QUERY = 3500  # characters; the server takes URLs of 4000
_POWERS = [2**i for i in range(11)]
_LIVES = {"the device's": 0} | {f"10^{i} pulses": 10**i for i in range(4, 13)}
_HEIGHT = "max(300px, calc(50vh - 60px))"
_LESSON = "15_designing_with_it"
_INTRO = (
    "What one batch of training costs a chip that holds a network in crossbars: energy, time, and "
    "the digital memory that each layer needs in addition to its weights.",
    "Choose network, methods and device on the left.",
)
_ABOUT_PARTS = (
    "A bar for each method, for one batch: reads of the arrays, converters, computing the update "
    "(estimate), its memory, and writes. The axis is logarithmic: a bar ends at its total, and its "
    "colours divide its length by their shares. Bars use typical prices; the grey line goes from "
    "the lowest to the highest published ones. Prices move all methods alike."
)
_ABOUT_NUMBERS = (
    "A point for each layer with m outputs and n inputs: the numbers that the method keeps between "
    "batches, and these plus those that it buffers within one, over the layer's m × n weights. "
    "Points above the grey line hold more than a summed gradient. The dotted line is where factors "
    "of square layers reach it."
)


class Asked(NamedTuple):
    """All that a budget depends on."""

    layers: tuple[Layer, ...] | str
    device: str
    array: int
    adc_bits: int
    word_bits: int
    memory: str
    endurance: int
    methods: tuple[str, ...]
    rank: int
    batch: int
    block: int


def computed(asked: Asked) -> xr.Dataset:
    """The budgets; TypeError or ValueError if something is not allowed."""
    layers = layers_by_name(asked.layers) if isinstance(asked.layers, str) else asked.layers
    chip = Chip(
        get_device(asked.device),
        array_size=(asked.array, asked.array),
        adc_bits=asked.adc_bits,
        word_bits=asked.word_bits,
        memory=asked.memory,
        endurance=asked.endurance or None,
    )
    return compare(
        layers,
        chip,
        methods=list(dict.fromkeys(asked.methods)),
        rank=asked.rank,
        batch_size=asked.batch,
        block_size=asked.block,
        prices=prices(),
    )


prices = cache(read_prices)


def _named(methods: Iterable[str]) -> dict[str, str]:
    return {method_name(method): method for method in methods}


class Budget:
    """The page of one visitor, set up from the query of its URL."""

    def __init__(self, query: str = "") -> None:
        self.address = Address()
        self.notice = site.Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._own: tuple[Layer, ...] | None = None
        self._shown: Asked
        self.found: xr.Dataset
        self._busy = self._shares = False
        self._make_widgets()
        self._take(query)
        self._make_panes()
        self._draw()
        for widget in self._state.widgets.values():
            widget.param.watch(self._turned, "value")

    # --- layout ------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        select, slider, wide = site.select, site.slider, {"width": 260, "margin": (8, 6)}

        def stops(label: str, options: list[int], value: int, doc: str) -> Any:
            common = {"label": label, "options": options, "value": value, "description": doc}
            return pmui.DiscreteSlider(size="small", **common, **wide)

        names = [*network_names(), OWN]
        methods = pmui.MultiChoice(
            label="Methods",
            options=_named(budget_methods()),
            value=METHODS,
            description="Estimators of factors, and three ways without them.",
            **wide,
        )
        self._state = Watched(
            {
                "network": select("Network", names, "Layers to train.", **wide),
                "methods": methods,
                "rank": slider("Rank", 1, 64, 4, "Outer products a batch.", **wide),
                "batch": stops("Batch size", _POWERS, 64, "Network inputs of a batch."),
                "block": stops("Block size", _POWERS, 1, "Inputs that are read at once."),
                "device": select(
                    "Device", device_names(), "The kind of cell.", value="EpiRAM", **wide
                ),
                "array": stops("Array size", _POWERS[4:], 256, "Rows and columns of an array."),
                "adc_bits": slider("ADC bits", 1, 16, 8, "Resolution of a converter.", **wide),
                "word_bits": select(
                    "Word bits", [32, 16, 8], "Of the numbers of the estimate.", **wide
                ),
                "memory": select(
                    "Memory", list(MEMORIES), "Where the estimate's numbers are.", **wide
                ),
                "endurance": select("Endurance", _LIVES, "Pulses that a cell endures.", **wide),
                "shown": select(
                    "Layers of",
                    _named(budget_methods()),
                    "Method in table and points.",
                    value="sbpca",
                    width=190,
                ),
                "bars": select("Bars as", list(BARS), "Amounts, or percent.", width=190),
            }
        )
        self.text = pmui.TextAreaInput(
            label="Layers (YAML)", rows=6, max_length=MAX_YAML_BYTES, **wide
        )
        self._use = site.button("Use these layers", variant="outlined")
        self._use.on_click(self._use_text)
        self.upload = yaml_upload("Load layers (YAML)")
        self.upload.param.watch(self._uploaded, "value")
        self._table = pn.Column(
            self.text, pn.FlexBox(self._use, self.upload), visible=False, margin=0
        )
        self._sentence = site.Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._facts = site.Text("", sizing_mode="stretch_width", margin=(0, 10))
        self._layers = site.Text("", sizing_mode="stretch_width", margin=(0, 10))

    def _make_panes(self) -> None:
        about = explanation(_ABOUT_PARTS, (_LESSON, "From memory to energy"))
        held = explanation(_ABOUT_NUMBERS, (_LESSON, "What a block buffers"))
        lives = [blank(name).copy() for name in ("energy", "time", "numbers")]
        for glyph in (3, 4):
            lives[2].explain(glyph, "layer")
        self.panes = {
            name: FigurePane(live, about=text, height=_HEIGHT)
            for name, live, text in zip(
                ("energy", "time", "numbers"), lives, (about, about, held), strict=True
            )
        }

    def controls(self) -> pn.viewable.Viewable:
        """What the budget depends on."""
        network, *others = list(self._state.widgets.values())[:-2]
        return pn.Column(network, self._table, *others, margin=(0, 8))

    def view(self) -> pn.viewable.Viewable:
        """The sentence, the figures and the table."""
        choices = pn.FlexBox(self._state.widgets["shown"], self._state.widgets["bars"])
        files = pn.FlexBox(align_items="center")
        for suffix, label in ((".nc", "Budget (netCDF)"), (".csv", "Budget (CSV)")):
            make = lambda suffix=suffix: file_of(self.found, suffix)  # noqa: E731
            files.append(Download(label, f"budget{suffix}", make))
        for name, pane in self.panes.items():
            files.extend([site.Text(name, margin=(5, 4)), *export_buttons(pane, f"budget-{name}")])
        figures = grid(*self.panes.values(), least="320px", share="30%")
        figures.styles = {**figures.styles, **WHOLE}
        return pn.Column(
            site.intro(*_INTRO),
            self.notice,
            self._sentence,
            self._facts,
            choices,
            figures,
            files,
            self._layers,
            sizing_mode="stretch_both",
            styles=WHOLE,
            margin=0,
        )

    def page(self) -> pmui.Page:
        """The whole page."""
        return site.page("budget", sidebar=[self.controls()], main=[self.view(), self.address])

    # --- what the visitor does ---------------------------------------------------------------

    def _asked(self) -> Asked:
        value = {name: widget.value for name, widget in self._state.widgets.items()}
        layers = self._own if value["network"] == OWN and self._own else value["network"]
        numbers = {name: self._state.number(name) for name in ("rank", "adc_bits")}
        chosen = {name: value[name] for name in Asked._fields if name in value}
        methods = tuple(map(str, value["methods"] or METHODS[:1]))
        return Asked(layers=layers, **{**chosen, **numbers, "methods": methods})

    async def _turned(self, event: Any) -> None:
        if event.obj is self._state.widgets["network"]:
            self._open_table()
        await self.update()

    def _open_table(self) -> None:
        """Show the text area when a table of one's own is chosen, with the present layers in it."""
        is_own = self._state.widgets["network"].value == OWN
        if is_own and self._own is None:
            layers = self._shown.layers
            self._own = layers_by_name(layers) if isinstance(layers, str) else layers
        self._table.visible = is_own
        if is_own and self._own:
            self.text.value = yaml_of(self._own)

    async def update(self) -> None:
        """Compute in another thread until what is shown is what is asked for."""
        if self._busy:
            return
        self._busy = True
        try:
            while (asked := self._asked()) != self._shown:
                self._shown = asked
                try:
                    self.found = await asyncio.to_thread(computed, asked)
                except (TypeError, ValueError, OverflowError) as error:
                    self._say(str(error))
        finally:
            self._busy = False
        pn.state.execute(self._draw, schedule=True)  # figures change in the document's own turn

    async def _use_text(self, _: Any) -> None:
        await self.load(self.text.value.encode())

    async def _uploaded(self, event: Any) -> None:
        if event.new is not None:
            await self.load(event.new)
            self.upload.clear()  # frees the bytes, and allows the same file again

    async def load(self, data: bytes) -> None:
        """Take the layers of a table; on failure show one message and keep the last."""
        try:
            self._own = await read_beside(layers_of_yaml, data)
        except ValueError as error:
            self._say(f"Layers not loaded: {error}")
            return
        self._state.widgets["network"].value = OWN
        self._open_table()
        await self.update()

    # --- what the page shows -----------------------------------------------------------------

    def _one(self) -> xr.Dataset:
        """The budget of the method in the table: the chosen one, or the first that there is."""
        names = self.found["algorithm"].values.tolist()
        wanted = self._state.widgets["shown"].value
        return self.found.sel(algorithm=wanted if wanted in names else names[0])

    def _draw(self) -> None:
        one, rank = self._one(), int(self.found.attrs["rank"])
        method, shares = str(one["algorithm"].values), self._state.widgets["bars"].value == BARS[1]
        names = [method_name(each) for each in self.found["algorithm"].values]
        shown = self.found.assign_coords(algorithm=names)
        for name in ("energy", "time"):
            if shares != self._shares:  # an axis is linear or logarithmic for good
                figure = stacked_parts(shown, name, shares=shares)
                self.panes[name].replace(LiveFigure(figure, follow="x"))
            show_parts(self.panes[name].live, shown, name, shares=shares)
            self.panes[name].caption(part_title(name, shares=shares))
        self._shares = shares
        show_numbers(self.panes["numbers"].live, one, rank)
        self.panes["numbers"].caption(numbers_title(rank))
        self._sentence.object = (
            f'<p style="margin:6px 0;font-size:14px">{escape(sentence(one, method))}</p>'
        )
        self._facts.object = facts(facts_of(one))
        title = f"Layers with {method_name(method)}"
        title += "; pulses and trainings are estimates, not from a run"
        rows = table(HEADERS, layer_rows(one), title, numbers=True)
        self._layers.object = (
            '<div tabindex="0" role="region" aria-label="Layers" style="overflow-x:auto">'
            f"{rows}</div>"
        )
        self.address.keep(self.query())

    # --- the address -------------------------------------------------------------------------

    def query(self) -> str:
        """The query that holds the page's state; a very long table is left out."""
        pairs = self._state.pairs()
        if self._state.widgets["network"].value != OWN or self._own is None:
            return join(pairs)
        whole = join([*pairs, ("layers", query_text(self._own))])
        return whole if len(whole) <= LONGEST_QUERY else join([p for p in pairs if p[1] != OWN])

    def _take(self, query: str) -> None:
        try:
            asked = parse(query)
            layers = asked.pop("layers", None)
            own = layers_of_query(layers) if layers is not None else None
            known = {name: text for name, text in asked.items() if name in self._state.widgets}
            if unknown := [name for name in asked if name not in known]:
                raise ValueError(f"{unknown[0][:40]!r} is not a setting of this page.")
            if (known.get("network") == OWN) != (own is not None):
                raise ValueError(f"network={OWN} and layers must come together")
            self._state.take(known)
            self._own = own
            self._shown = self._asked()
            self.found = computed(self._shown)
        except (TypeError, ValueError) as error:
            self._say(f"This URL is not valid: {error}")
            self._own = None
            for name, value in self._state.defaults.items():
                self._state.widgets[name].value = value
            self._shown = self._asked()
            self.found = computed(self._shown)
        if self._own:
            self._table.visible, self.text.value = True, yaml_of(self._own)

    def _say(self, text: str) -> None:
        site.notify(text, also=self.notice)


@cache
def blank(name: str) -> LiveFigure:
    """A figure of a small budget, drawn once for all visitors, who get copies."""
    found = computed(Asked("LeNet-5", "EpiRAM", 256, 8, 32, "sram", 0, ("sbpca",), 4, 64, 1))
    if name == "numbers":
        return LiveFigure(numbers_held(found.isel(algorithm=0), 4))
    return LiveFigure(stacked_parts(found, name), follow="x")


def file_of(found: xr.Dataset, suffix: str) -> bytes:
    """The budget as a netCDF or CSV file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"budget{suffix}"
        save_budget(found, path)
        return path.read_bytes()


def budget() -> pmui.Page:
    """Create the page of one session."""
    return Budget(query_asked()).page()
