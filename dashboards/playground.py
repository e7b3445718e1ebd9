"""The playground: one live run whose knobs are turned while it trains.

``python -m toolkit dashboard`` serves it, and so does ``panel serve dashboards/playground.py``.
The run itself is a ``toolkit.training.live.LiveRun``; this module shows its snapshots.
"""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import panel as pn
import panel_material_ui as pmui

from dashboards import site
from dashboards.controls import IDEAL, live_widgets, show
from dashboards.figures import Figures
from dashboards.site import Text, button
from toolkit.results import to_bytes
from toolkit.training.live import LiveRun
from toolkit.training.physics import NONIDEALITIES
from toolkit.training.settings import DIGITAL, Settings
from toolkit.training.snapshot import Snapshot

FRAME_MS = 80
ABSENT_S = 2.0
GRADIENT_KNOBS = ("method", "rank", "block_size", "batch_size", "learning_rate", "scheme")


class Playground:
    """One visitor's page: controls, figures, a status line and the frame loop that joins them.

    ``knobs`` are those of the experiment to begin with.
    """

    def __init__(self, **knobs: Any) -> None:
        self.run = LiveRun(**knobs)
        self.figures = Figures()
        self._shown_number = -1
        self._following = False
        self._absent_since: float | None = None
        self._make_controls()
        self._follow(self.run.snapshot)
        self.refresh()

    # --- layout ------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self.widgets = live_widgets()
        for name, widget in self.widgets.items():
            widget.param.watch(lambda event, name=name: self._turn(name, event.new), "value")
        snapshot = self.run.snapshot
        pick = {"size": "small", "width": 140, "margin": (8, 6)}
        self.layer = pmui.Select(label="Layer", options=list(snapshot.layers), **pick)
        self.maps = pmui.Select(label="Maps show", options=list(Figures.MAPS), **pick)
        for picker in (self.layer, self.maps):
            picker.param.watch(lambda _: self._draw(self.run.snapshot), "value")
        self.start = button("Start", "M8 5l11 7-11 7z", color="primary")
        self.pause = button("Pause", "M6 5h4v14H6zM14 5h4v14h-4z", variant="outlined")
        self.step = button("Step", "M5 5l9 7-9 7zM16 5h3v14h-3z", variant="outlined")
        self.reset = button("Reset", "M5 5h3v14H5zM19 5v14l-9-7z", variant="outlined")
        self.start.on_click(lambda _: self.run.start())
        self.pause.on_click(lambda _: self.run.pause())
        self.step.on_click(lambda _: self.run.step())
        self.reset.on_click(lambda _: self.run.reset())
        self.download = pmui.FileDownload(
            label="Download run (netCDF)",
            callback=self._netcdf,
            filename="sbpca-run.nc",
            variant="outlined",
            size="small",
            margin=(5, 4),
        )
        self.status = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.notice = Text("", sizing_mode="stretch_width", margin=(0, 10))

    def controls(self) -> pn.viewable.Viewable:
        """Every live knob: the gradient's, then the device's."""
        device = [name for name in self.widgets if name not in GRADIENT_KNOBS]
        return pn.Column(
            pmui.Typography("Gradient", variant="h6"),
            *(self.widgets[name] for name in GRADIENT_KNOBS),
            pmui.Typography("Device", variant="h6"),
            *(self.widgets[name] for name in device),
            margin=(0, 8),
        )

    def view(self) -> pn.viewable.Viewable:
        """Buttons, status line and figures, without the knobs: works in a notebook, too."""
        bar = pn.FlexBox(
            self.start, self.pause, self.step, self.reset, self.download, self.layer, self.maps
        )
        return pn.Column(
            bar, self.status, self.notice, self.figures.grid(), sizing_mode="stretch_both"
        )

    def page(self) -> pmui.Page:
        """The whole page; the run stops when the session ends."""
        if pn.state.curdoc:
            # Bokeh's own: Panel's marks the page busy at each tick, which costs more than the frame
            pn.state.curdoc.add_periodic_callback(self.refresh, FRAME_MS)
        pn.state.on_session_destroyed(self._on_session_destroyed)
        return site.page("playground", sidebar=[self.controls()], main=[self.view()])

    # --- from the visitor to the run ---------------------------------------------------------

    def _turn(self, name: str, value: Any) -> None:
        """Hand one moved knob to the run, with the knobs that have to move along."""
        if self._following:
            return
        changes = {name: value}
        if name == "device":
            changes |= dict.fromkeys(NONIDEALITIES)
        if name == "batch_size" and self.widgets["block_size"].value > value:
            changes["block_size"] = value
            self._notify(f"Block size lowered to {value}: a block is at most a batch.", "info")
        self.run.change(**changes)
        self._show_knobs(changes)

    def _show_knobs(self, changes: dict[str, Any]) -> None:
        """Bring the widgets in line with knobs that moved along."""
        self._following = True
        for name, value in changes.items():
            if value is not None or name in IDEAL:
                show(self.widgets[name], value)
        if "device" in changes:
            self._show_nonidealities(Settings(device=changes["device"]).nonidealities())
        self._following = False

    def _show_nonidealities(self, values: dict[str, float]) -> None:
        for name in NONIDEALITIES:
            self.widgets[name].disabled = name not in values
            if name in values:
                show(self.widgets[name], values[name])

    def _netcdf(self) -> BytesIO:
        return BytesIO(to_bytes(self.run.results()))

    # --- from the run to the visitor ---------------------------------------------------------

    def refresh(self) -> None:
        """Show the newest snapshot and every message: one frame."""
        self._pause_without_visitor()
        refused = self._show_messages()
        snapshot = self.run.snapshot
        if refused:
            self._follow(snapshot)
        if snapshot.number != self._shown_number:
            self._draw(snapshot)

    def _draw(self, snapshot: Snapshot) -> None:
        with pn.io.hold():
            self.figures.draw(snapshot, layer=self.layer.value, maps=self.maps.value)
            self.status.object = status_html(snapshot)
            self.start.disabled = snapshot.running
            self.pause.disabled = not snapshot.running
        self._shown_number = snapshot.number

    def _follow(self, snapshot: Snapshot) -> None:
        """Set every widget to what the run has."""
        self._show_knobs({name: snapshot.knobs[name] for name in self.widgets})
        if snapshot.knobs["device"] != DIGITAL:
            self._following = True
            self._show_nonidealities(dict(snapshot.nonidealities))
            self._following = False

    def _show_messages(self) -> bool:
        refused = False
        while not self.run.messages.empty():
            self._notify(self.run.messages.get(), "error")
            refused = True
        return refused

    def _notify(self, text: str, kind: str) -> None:
        site.notify(text, kind, also=self.notice)

    # --- the end -----------------------------------------------------------------------------

    def _pause_without_visitor(self) -> None:
        """Pause a run that nobody has watched for a while; its session ends later."""
        context = pn.state.curdoc.session_context if pn.state.curdoc else None
        session = getattr(context, "session", None)
        if session is None or session.connection_count > 0:
            self._absent_since = None
        elif self._absent_since is None:
            self._absent_since = time.monotonic()
        elif time.monotonic() - self._absent_since > ABSENT_S:
            self.run.pause()

    def _on_session_destroyed(self, session_context: Any) -> None:  # noqa: ARG002 - Bokeh's
        self.run.close()


def status_html(snapshot: Snapshot) -> str:
    """The status line: step, epoch, test accuracy, pulses, words of the gradient, speed."""
    held, full = snapshot.gradient_words
    accuracy = f"{snapshot.evaluations[-1, 2]:.1%}" if len(snapshot.evaluations) else "–"
    ranks = ", ".join(f"{name} {rank}" for name, rank in snapshot.layer_ranks.items())
    items = {
        "State": "running" if snapshot.running else "paused",
        "Step": f"{snapshot.step:,}",
        "Epoch": f"{snapshot.epoch:.2f}",
        "Test accuracy": accuracy,
        "Pulses written": f"{snapshot.pulses:,}",
        "Gradient memory": f"{held:,} of {full:,} words ({held / full:.0%})",
        "Rank in use": ranks if snapshot.knobs["method"] != "sgd" else "full",
        "Speed": f"{snapshot.steps_per_second:.0f} steps/s" if snapshot.running else "–",
    }
    cells = "".join(
        f'<div><dt style="font-size:11px;opacity:.75">{name}</dt>'
        f'<dd style="margin:0;font-weight:600;font-variant-numeric:tabular-nums">{value}</dd></div>'
        for name, value in items.items()
    )
    return f'<dl style="display:flex;flex-wrap:wrap;gap:4px 26px;margin:2px 0">{cells}</dl>'


def playground() -> pmui.Page:
    """A fresh page for one session."""
    return Playground().page()


if pn.state.served:
    from dashboards.serve import prepare

    prepare()
    playground().servable(title="SBPCA Toolkit")
