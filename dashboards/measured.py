"""Upload of a measured pulse-train table and its fit: part of the Devices page."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from dashboards import site
from dashboards.panes import BELOW_TABS, WHOLE, FigurePane, facts, grid, table
from dashboards.parameters import fit_rows, python_of
from dashboards.uploads import MEBI, Upload
from toolkit.crossbar import Device
from toolkit.fitting import EXAMPLE_CSV, Fit, PulseTrains, fit_device, model_names
from toolkit.plots import LiveFigure
from toolkit.plots.devices import fit_curve, fit_residuals
from toolkit.plots.elements import siemens_prefix

MOST_BYTES = 2 * MEBI
MOST_READINGS = 20_000
_HEIGHT = "max(300px, calc(100vh - 470px))"  # the table of parameters stands below
_HELP = (
    '<p style="margin:4px 6px;max-width:75ch">One reading a row, with the columns <code>cell, '
    "cycle, pulse, polarity, conductance</code>; a unit may follow the last, as in "
    "<code>conductance_uS</code>. Polarity is +1/−1, up/down or SET/RESET, 0 for a reading before "
    f"the first pulse. At most {MOST_BYTES // MEBI} MiB and {MOST_READINGS:,} readings.</p>"
)


class MeasuredData:
    """An uploaded table, what a model makes of it, and what can be done with the result.

    ``explore`` takes the fitted device, ``say`` a message for the visitor.
    """

    def __init__(self, explore: Callable[[Device], None], say: Callable[[str], None]) -> None:
        self._explore, self._say = explore, say
        self.fit: Fit | None = None
        self._trains: PulseTrains | None = None
        self._panes: list[FigurePane] = []
        self._figures = pn.Column(sizing_mode="stretch_both", visible=False, styles=WHOLE)
        self.result = site.Text(_HELP, sizing_mode="stretch_width", margin=(0, 10))
        self._make_widgets()

    def _make_widgets(self) -> None:
        small = {"size": "small", "margin": (8, 6)}
        self.upload = Upload(
            label="Upload a CSV",
            accept=".csv,.txt,.tsv",
            max_file_size=MOST_BYTES,
            width=170,
            **small,
        )
        self.upload.param.watch(self._uploaded, "value")
        self._example = site.button("Fit the example", variant="outlined")
        self._example.on_click(self._show_example)
        self._template = pmui.FileDownload(
            label="Example (CSV)",
            callback=lambda: BytesIO(EXAMPLE_CSV.read_bytes()),
            filename=EXAMPLE_CSV.name,
            variant="outlined",
            **small,
        )
        self._model = pmui.Select(
            label="Model",
            options=list(model_names()),
            description="The formula that is fitted, or a table of mean steps.",
            width=150,
            **small,
        )
        self._model.param.watch(self._refit, "value")
        self._use = site.button("Explore this device", disabled=True)
        self._use.on_click(self._hand_over)
        self._python = pmui.FileDownload(
            label="Python (.py)",
            callback=lambda: BytesIO(python_of(self.fit.device).encode() if self.fit else b""),
            filename="device.py",
            variant="outlined",
            disabled=True,
            **small,
        )

    def view(self) -> pn.viewable.Viewable:
        """Buttons, the result as text, and the figures."""
        bar = pn.FlexBox(
            self.upload,
            self._example,
            self._template,
            self._model,
            self._use,
            self._python,
            align_items="center",
        )
        parts = (bar, self._figures, self.result)
        return pn.Column(*parts, sizing_mode="stretch_both", margin=BELOW_TABS)

    def load(self, data: bytes, filename: str) -> None:
        """Read a table and fit it; one message, and what was there stays, if that fails."""
        self._receive(filename, attempt(lambda: self._fitted(data, filename)))

    def refit(self) -> None:
        """Fit the chosen model to the table that is there."""
        if self._trains is not None and self.fit is not None:
            trains, name = self._trains, self.fit.device.name
            self._receive("The fit", attempt(lambda: (trains, self._fit_of(trains, name))))

    def _fitted(self, data: bytes, filename: str) -> tuple[PulseTrains, Fit]:
        trains = read_trains(data)
        return trains, self._fit_of(trains, device_name(filename))

    def _fit_of(self, trains: PulseTrains, name: str) -> Fit:
        return fit_device(trains, model=self._model.value, name=name)

    def _receive(self, about: str, found: tuple[PulseTrains, Fit] | ValueError) -> None:
        if isinstance(found, ValueError):
            self._say(f"{about[:60]}: {found}")
            return
        self._trains, self.fit = found
        self._show(*found)

    def _show(self, trains: PulseTrains, fit: Fit) -> None:
        figures = LiveFigure(fit_curve(trains, fit)), LiveFigure(fit_residuals(fit))
        if not self._panes:
            self._panes = [FigurePane(live, height=_HEIGHT) for live in figures]
            self._figures.objects = [grid(*self._panes, least="360px", share="40%")]
        else:
            for pane, live in zip(self._panes, figures, strict=True):
                pane.replace(live)
        self._figures.visible = True
        self.result.object = _summary(fit)
        self._use.disabled = self._python.disabled = False

    def _hand_over(self, _: Any) -> None:
        if self.fit is not None:
            self._explore(self.fit.device)

    async def _uploaded(self, event: Any) -> None:
        if event.new is not None:
            name = self.upload.filename or "the file"
            await self._load_beside(event.new, name)
            self.upload.clear()  # lets go of the bytes, and hears of the same file again

    async def _show_example(self, _: Any) -> None:
        await self._load_beside(EXAMPLE_CSV.read_bytes(), EXAMPLE_CSV.name)

    async def _load_beside(self, data: bytes, filename: str) -> None:
        found = await self._beside(lambda: self._fitted(data, filename))
        self._receive(filename, found)

    async def _refit(self, _: Any) -> None:
        if self._trains is not None and self.fit is not None:
            trains, name = self._trains, self.fit.device.name
            self._receive(
                "The fit", await self._beside(lambda: (trains, self._fit_of(trains, name)))
            )

    async def _beside(self, work: Callable[[], Any]) -> Any:
        """Do it beside the pages' own thread; a fit takes a second or two."""
        self._example.loading = True
        try:
            return await asyncio.to_thread(attempt, work)
        finally:
            self._example.loading = False


def attempt(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, or the ValueError that it raises."""
    try:
        return work()
    except ValueError as error:
        return error


def read_trains(data: bytes) -> PulseTrains:
    """Pulse trains from the bytes of a table.

    Raises
    ------
    ValueError
        If it is too long or no such table; the message names the line.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes are more than the {MOST_BYTES:,} allowed.")
    if data.count(b"\n") > MOST_READINGS + 100:
        raise ValueError(f"more than {MOST_READINGS:,} readings.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(data)
        try:
            return PulseTrains.from_csv(path)
        except UnicodeDecodeError:
            raise ValueError("this is no text file in UTF-8.") from None


def device_name(filename: str) -> str:
    """A name for the device of that file: short, and without anything but plain characters."""
    stem = re.sub(r"[^\w .+-]", "", filename.rsplit(".", 1)[0])[:40].strip()
    return f"measured: {stem or 'table'}"


def _summary(fit: Fit) -> str:
    low, high = fit.device.g_min, fit.device.g_max
    factor, unit = siemens_prefix(high)
    line = facts(
        {
            "Model": fit.model,
            "Cells": fit.cells,
            "Trains": fit.trains,
            "Steps used": f"{len(fit.residuals):,} ({fit.left_out:,} left out near the bounds)",
            "Range": f"{low * factor:.3g} to {high * factor:.3g} {unit}",
            "rms residual": f"{100.0 * fit.rms:.3g} % of the range",
        }
    )
    return line + table(["parameter", "value", "standard error"], fit_rows(fit))
