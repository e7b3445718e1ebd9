"""Upload of a measured pulse-train table and its fit: part of the Devices page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import panel as pn

from dashboards.app import site
from dashboards.app.child import read_beside
from dashboards.app.downloads import Download
from dashboards.app.figure_pane import (
    BELOW_TABS,
    WHOLE,
    FigurePane,
    explanation,
    facts,
    grid,
    table,
)
from dashboards.app.uploads import MEBI, Upload, plain_name
from dashboards.devices.parameters import fit_rows, python_of
from dashboards.devices.table_form import (
    MOST_BYTES,
    MOST_READINGS,
    TableForm,
    looked_at,
    read_trains,
)
from toolkit.crossbar import Device
from toolkit.fitting import EXAMPLE_CSV, Fit, PulseTrains, fit_device, model_names
from toolkit.fitting.fit import BEST, with_origin
from toolkit.plots import LiveFigure
from toolkit.plots.devices import fit_curve, fit_residuals
from toolkit.plots.elements import siemens_prefix

_HEIGHT = "max(300px, calc(100vh - 470px))"  # the table of parameters is below
_LESSON = ("10_real_devices", "Your own curves")
_ABOUT = (
    "Every reading of the table over its place in the train of pulses, and the curve of one cell "
    "without noise with the fitted parameters.",
    "Measured minus predicted conductance after each pulse; dashed: plus and minus the root mean "
    "square. A cloud without a pattern means that the model fits.",
)
_HELP = (
    '<p style="margin:4px 6px;max-width:75ch">A table as it comes from the instrument: text (any '
    "separator, decimal commas, lines above the header) or Excel. One column of conductance, "
    "current or resistance, one for potentiation (SET, LTP) and one for depression (RESET, "
    "LTD), or one for each device; units in the "
    "header, as in <code>I_read (nA)</code>. Columns for pulse, polarity or pulse voltage, cycle "
    "and device are used where there are any. At most "
    f"{MOST_BYTES // MEBI} MiB and {MOST_READINGS:,} readings.</p>"
)


class MeasuredData:
    """An uploaded table, a fit of it, and actions on the result.

    ``explore`` gets the fitted device, ``say`` a message for the visitor.
    """

    def __init__(self, explore: Callable[[Device], None], say: Callable[[str], None]) -> None:
        self._explore, self._say = explore, say
        self.fit: Fit | None = None
        self._table, self._file = b"", ""
        self._layout: dict[str, Any] = {}
        self.form = TableForm(self._read_again)
        self._unread = b"", ""
        self._panes: list[FigurePane] = []
        self._figures = pn.Column(sizing_mode="stretch_both", visible=False, styles=WHOLE)
        self.understood = site.Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.result = site.Text(_HELP, sizing_mode="stretch_width", margin=(0, 10))
        self._make_widgets()

    def _make_widgets(self) -> None:
        small: dict[str, Any] = {"size": "small", "margin": (8, 6)}
        self.upload = Upload(
            label="Upload a table",
            accept=".csv,.txt,.tsv,.dat,.xlsx",
            max_file_size=MOST_BYTES,
            width=170,
            **small,
        )
        self.upload.param.watch(self._uploaded, "value")
        self._example = site.button("Fit the example", variant="outlined")
        self._example.on_click(self._show_example)
        self._template = Download(
            "Example (CSV)", EXAMPLE_CSV.name, EXAMPLE_CSV.read_bytes, **small
        )
        doc = "The formula to fit, or a table of mean steps; best compares them all."
        models = [*model_names(), BEST]
        self._model = site.select("Model", models, doc, width=150, margin=(8, 6))
        self._model.param.watch(self._refit, "value")
        self._use = site.button("Explore this device", disabled=True)
        self._use.on_click(self._hand_over)
        self._python = Download(
            "Python (.py)",
            "device.py",
            lambda: python_of(self.fit.device).encode() if self.fit else b"",
            disabled=True,
            **small,
        )
        self._yaml = Download(
            "Device (.yaml)",
            "device.yaml",
            lambda: self.fit.to_yaml().encode() if self.fit else b"",
            description="For --devices on the command line, and open_device in Python.",
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
            self._yaml,
            align_items="center",
        )
        parts = (bar, self.understood, self.form.view, self._figures, self.result)
        return pn.Column(*parts, sizing_mode="stretch_both", margin=BELOW_TABS)

    async def load(self, data: bytes, filename: str) -> None:
        """Read a table and fit it; on failure show one message and keep the last result."""
        await self._read(data, filename, {}, is_new=True)

    async def _read(
        self, data: bytes, filename: str, layout: dict[str, Any], *, is_new: bool
    ) -> None:
        """Say what is understood, with the first rows; then fit."""
        try:
            preview = await read_beside(looked_at, data, layout)
        except ValueError as error:
            self._say(f"{filename[:60]}: {error}")
            return
        self._unread = data, filename
        self.form.show(preview, is_new=is_new)
        if preview.missing:
            self.understood.object = ""
            self._say(f"{filename[:60]}: {preview.missing}")
            return
        self.understood.object = f"<p style='margin:4px 6px'>{escape(preview.understood)}</p>"
        self._layout, self._file = layout, filename
        await self._fit(data, device_name(filename), about=filename)

    async def _read_again(self, _: Any) -> None:
        """Read the table last sent with what the form says."""
        try:
            layout = self.form.layout()
        except ValueError as error:
            self._say(str(error))
            return
        await self._read(*self._unread, layout, is_new=False)

    async def _fit(self, table: bytes, name: str, *, about: str) -> None:
        """Fit the chosen model in a process with limits; a fit takes a second or two."""
        self._example.loading = True
        given = table, self._model.value, name, self._layout, self._file[:60]
        try:
            trains, self.fit = await read_beside(fitted, *given)
            self._table = table
            self._show(trains, self.fit)
        except ValueError as error:
            self._say(f"{about[:60]}: {error}")
        finally:
            self._example.loading = False

    def _show(self, trains: PulseTrains, fit: Fit) -> None:
        figures = LiveFigure(fit_curve(trains, fit)), LiveFigure(fit_residuals(fit))
        if not self._panes:
            self._panes = [
                FigurePane(live, about=explanation(about, _LESSON), height=_HEIGHT)
                for live, about in zip(figures, _ABOUT, strict=True)
            ]
            self._figures.objects = [grid(*self._panes, least="360px", share="40%")]
        else:
            for pane, live in zip(self._panes, figures, strict=True):
                pane.replace(live)
        self._figures.visible = True
        self.result.object = _summary(fit)
        self._use.disabled = self._python.disabled = self._yaml.disabled = False

    def _hand_over(self, _: Any) -> None:
        if self.fit is not None:
            self._explore(self.fit.device)

    async def _uploaded(self, event: Any) -> None:
        if event.new is not None:
            await self.load(event.new, self.upload.filename or "the file")
            self.upload.clear()  # frees the bytes, and allows the same file again

    async def _show_example(self, _: Any) -> None:
        await self.load(EXAMPLE_CSV.read_bytes(), EXAMPLE_CSV.name)

    async def _refit(self, _: Any) -> None:
        if self.fit is not None:
            await self._fit(self._table, self.fit.device.name, about="The fit")


def fitted(
    table: bytes, model: str, name: str, layout: dict[str, Any] | None = None, file: str = "table"
) -> tuple[PulseTrains, Fit]:
    """The pulse trains in a table, and a device fitted to them.

    Raises
    ------
    ValueError
        As for :func:`read_trains`, or if the model cannot be fitted.
    """
    trains = read_trains(table, layout)
    return trains, with_origin(fit_device(trains, model=model, name=name), file, table)


def device_name(filename: str) -> str:
    """A short name for the device, with plain characters only."""
    return f"measured: {plain_name(filename) or 'table'}"


def _summary(fit: Fit) -> str:
    low, high = fit.device.g_min, fit.device.g_max
    factor, unit = siemens_prefix(high)
    line = facts(
        {
            "Model": fit.model,
            "Cells": fit.cells,
            "Trains": fit.trains,
            "Steps used": f"{len(fit.residuals):,} ({fit.left_out:,} omitted near the bounds)",
            "Range": f"{low * factor:.3g} to {high * factor:.3g} {unit}",
            "rms residual": f"{100.0 * fit.rms:.3g}% of the range",
        }
    )
    found = line + table(["parameter", "value", "standard error"], fit_rows(fit))
    return found + (f"<pre>{escape(fit.comparison)}</pre>" if fit.comparison else "")
