"""The Playground: one live run whose knobs change while it trains.

``python -m toolkit dashboard`` and ``panel serve dashboards/playground/page.py`` serve it.
The run itself is a ``toolkit.training.live.live_run.LiveRun``, often in a process of its own; this
module shows its snapshots.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.address import Address, Watched, join, number, parse, query_asked
from dashboards.app.class_link import ClassLink, checked_title
from dashboards.app.figure_pane import explanation, facts
from dashboards.app.settings_text import knobs_of_query, query_of, task_of, validated
from dashboards.app.share import Share
from dashboards.app.site import Text, button, small
from dashboards.app.widgets import (
    chosen_text,
    fixed_value,
    fixed_widgets,
    groups,
    live_knobs,
    live_widgets,
    moving_along,
    show,
    show_fixed,
)
from dashboards.playground.figures import MOST, Figures, default_views
from dashboards.playground.network import LAYER, Drawing, network
from dashboards.playground.tour import OWN, Step, Tour, read_tour
from dashboards.playground.views import VIEWS
from toolkit.lowrank import estimator_knobs
from toolkit.training.experiment.knobs import knobs_of
from toolkit.training.experiment.physics import OF_ALGORITHM
from toolkit.training.experiment.settings import Settings
from toolkit.training.layers.convert import DIGITAL
from toolkit.training.live.snapshot import Snapshot

FRAME_MS = 60
FIRST_STEPS = 25  # more than an epoch of the digits, so that every view shows something
PATIENCE_S = 0.3  # for the first views
BEGIN, PLAIN = f"device={site.CELL}", "device=digital"  # without a query; with all at its default
MORE = "More knobs ▾"
ABOUT_STATUS = (
    "An epoch is a pass over the training set; the test accuracy is measured after each. Pulses "
    "written are those of all cells together. Gradient memory is how many numbers (words) the "
    "update of a batch takes, and their share of those of the whole gradient, one for each weight."
)
LESSON = ("08_relatives", "Training at equal memory")
FIRST_KNOBS = ("method", "rank", "block_size", "batch_size", "learning_rate", "device")
OWN_NAMES = ("views", "layer", "speed", "tour", "title")  # in the address, beside the knobs
SPEEDS = {"none": 0, "1 step/s": 1} | {f"{n} steps/s": n for n in (2, 5, 10, 30, 100)}


class Playground:
    """The page of one visitor: controls, views, a status line and the frame loop.

    ``query`` is what stands behind the question mark of the address; ``knobs`` are those of the
    experiment to begin with where it names none. The run begins with ``first_steps``.
    """

    def __init__(self, query: str = "", *, first_steps: int = 0, **knobs: Any) -> None:
        self._refused = ""
        knobs["first_steps"] = first_steps
        own = self._begin_as_asked(query, knobs)
        self._shown_number = -1
        self._following = False
        self._untouched, self._pace = first_steps > 0, Pace()
        self._visitor = site.Visitor()
        self._make_controls(own)
        self._follow_run(self.run.snapshot)
        self._follow_knobs(self.run.snapshot)
        self._look()
        self._limit_speed()
        end = time.monotonic() + PATIENCE_S
        while self.run.snapshot.answered < self.run.asked and time.monotonic() < end:
            time.sleep(0.002)  # for what the views show first
        self.refresh()

    def _begin_as_asked(self, query: str, knobs: dict[str, Any]) -> dict[str, str]:
        """Make the run, with defaults where the URL is wrong; returns the page's own names."""
        asked, own = {}, {}
        try:
            asked = parse(query)
            own = {name: asked.pop(name) for name in OWN_NAMES if name in asked}
            self.run = site.live_run(**(knobs | knobs_of_query(asked)))
        except (ValueError, OSError) as error:
            if not query:
                raise
            self._refuse_address(error)
            self.run = site.live_run(**knobs)
        return own

    def _refuse_address(self, error: Exception) -> None:
        reason = str(error).rstrip(".")
        message = f"This URL is not valid: {reason}. The page shows the defaults."
        self._refused = self._refused or message

    def _show_as_asked(self, asked: dict[str, str]) -> None:
        """Set views, layer and speed as the URL asks; to their defaults if one is wrong."""
        self._tour_asked: int | None = None
        self._title = ""
        try:
            self._title = checked_title(asked.pop("title", ""))
            if (tour := asked.pop("tour", None)) is not None:
                self._tour_asked = int(number("tour", tour, 0, len(tour_steps())))
            self.own.take(asked)
            self.figures = Figures(self.choice.value or [])
        except ValueError as error:
            self._refuse_address(error)
            self.choice.value = self.own.defaults["views"]
            self.figures = Figures(self.choice.value)
        self.choice.value = list(self.figures.shown)

    # --- layout ------------------------------------------------------------------------------

    def _make_controls(self, asked: dict[str, str]) -> None:
        self.widgets, self.fixed = live_widgets(FIRST_KNOBS), fixed_widgets()
        self._watch_knobs(FIRST_KNOBS)
        self._chosen = {name: Text("", width=250, margin=(0, 10)) for name in ("method", "device")}
        self._make_buttons()
        layers = list(self.run.snapshot.layers)
        pick: dict[str, Any] = {"width": 120, "margin": (8, 6)}
        self.layer = site.select(LAYER, layers, **pick)
        self.speed = site.select("Speed limit", SPEEDS, **pick)
        self.choice = pmui.CheckBoxGroup(
            label=f"Views on the page, at most {MOST}",
            options={view.title: name for name, view in VIEWS.items()},
            value=default_views(self.run.snapshot.knobs["device"]),
            inline=True,
            size="small",
            sizing_mode="stretch_width",
        )
        self.own = Watched({"views": self.choice, "layer": self.layer, "speed": self.speed})
        self._show_as_asked(asked)
        self.layer.param.watch(lambda _: self._look(), "value")
        self.speed.param.watch(lambda _: self._limit_speed(), "value")
        self.choice.param.watch(lambda event: self._choose_views(event.new), "value")
        self.intro = Text("", sizing_mode="stretch_width", margin=(8, 10, 0, 10))
        self.network = Drawing()
        self.status = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.notice = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.address = Address()
        self.share = Share(self.run, load=self.begin, refuse=self._notify)
        for file in (self.share.netcdf, self.share.zarr, self.share.settings):
            file.param.watch(lambda _: self.tour.note("saved", True), "file")
        self.tour = Tour(tour_steps(), self._follow_tour, self._facts)
        if self._tour_asked is not None:
            self.tour.go(self._tour_asked)
        self._make_panels()

    def _watch_knobs(self, names: Iterable[str]) -> None:
        for name in names:
            turn = partial(self._turn, name)
            self.widgets[name].param.watch(lambda event, turn=turn: turn(event.new), "value")

    def _make_buttons(self) -> None:
        self.start = button("Start", "M8 5l11 7-11 7z", color="primary")
        self.pause = button("Pause", "M6 5h4v14H6zM14 5h4v14h-4z", variant="outlined")
        self.step = button("Step", "M5 5l9 7-9 7zM16 5h3v14h-3z", variant="outlined")
        self.reset = button("Reset", "M5 5h3v14H5zM19 5v14l-9-7z", variant="outlined")
        self.new_seed = button("New seed", variant="outlined")
        self.begin_new = button("Begin new run", color="primary")
        self.start.on_click(lambda _: self.run.start())
        self.pause.on_click(lambda _: self.run.pause())
        self.step.on_click(lambda _: self.run.step())
        self.reset.on_click(lambda _: self.run.reset())
        self.new_seed.on_click(lambda _: self.run.reset(seed=self._next_seed()))
        self.begin_new.on_click(lambda _: self._begin_as_chosen())
        for one in (self.start, self.step, self.reset, self.new_seed, self.begin_new):
            one.on_click(lambda _: self._touch())

    def _make_panels(self) -> None:
        """Three panels below the buttons, of which one is open at a time.

        They are filled then, except what saves files: it needs callbacks that Panel sets at the
        start.
        """
        row: dict[str, Any] = {
            "sizing_mode": "stretch_width",
            "visible": False,
            "styles": site.CENTRED,
        }
        self._parts: dict[str, Callable[[], list[Any]]] = {
            "New run": lambda: [*self.fixed.values(), self.begin_new],
            "Views": lambda: [self.choice],
            "Save and share": lambda: ClassLink(self._query).parts(),
        }
        self.panels = {title: site.line(**row) for title in self._parts}
        self.panels["Save and share"].objects = self.share.parts()
        self.more = button(MORE, variant="text")
        self.more.on_click(lambda _: self.show_more())
        self.find = pmui.TextInput(label="Find a knob", size="small", width=250, visible=False)
        self.find.param.watch(lambda _: self._arrange(), "value_input")
        self.others = pn.Column(visible=False, margin=0)
        self._sections: list[tuple[Text, list[str]]] = []
        self.openers = {title: button(f"{title} ▾", variant="outlined") for title in self.panels}
        for title, opener in self.openers.items():
            opener.on_click(partial(self._open, title))

    def controls(self) -> pn.viewable.Viewable:
        """The knobs that matter first, and a button that adds the others."""
        first = [(self.widgets[name], self._chosen.get(name)) for name in FIRST_KNOBS]
        parts = [part for pair in first for part in pair if part is not None]
        return pn.Column(*parts, self.more, self.find, self.others, margin=(6, 8))

    def show_more(self) -> None:
        """Show the other knobs, or hide them; they are made when first shown."""
        self.others.visible = self.find.visible = not self.others.visible
        self.more.label = "Fewer knobs ▴" if self.others.visible else MORE
        if self.others.objects:
            return
        others = live_widgets(name for name in live_knobs() if name not in FIRST_KNOBS)
        self.widgets |= others
        self._watch_knobs(others)
        self._follow_knobs(self.run.snapshot)
        for title, names in groups(others).items():
            heading = Text(f'<h2 style="font-size:17px;margin:6px 0 0">{title}</h2>')
            self._sections.append((heading, names))
            self.others.extend([heading, *(others[name] for name in names)])
        self._arrange()

    def _arrange(self) -> None:
        """Show the other knobs that the run can use and that hold the words searched for."""
        words = (self.find.value_input or "").lower().split()
        for heading, names in self._sections:
            for name in names:
                knob, widget = knobs_of(Settings)[name], self.widgets[name]
                text = f"{name} {knob.label} {knob.doc}".lower()
                widget.visible = not widget.disabled and all(word in text for word in words)
            heading.visible = any(self.widgets[name].visible for name in names)

    def view(self) -> pn.viewable.Viewable:
        """Buttons, status line and views, without the knobs: works in a notebook, too."""
        buttons = (self.start, self.pause, self.step, self.reset, self.new_seed)
        return pn.Column(
            pn.Row(self.intro, self.tour.begin, sizing_mode="stretch_width"),
            self.tour.view,
            site.line(*buttons, *self.openers.values(), self.layer, self.speed),
            *self.panels.values(),
            self.network,
            pn.Row(self.status, Text(explanation(ABOUT_STATUS, LESSON), margin=(8, 10, 0, 0))),
            self.notice,
            self.figures.grid,
            sizing_mode="stretch_both",
        )

    def page(self) -> pmui.Page:
        """The whole page. The run stops when the session ends."""
        if pn.state.curdoc:
            # Bokeh's own: Panel's marks the page busy at each tick, which costs more than the frame
            pn.state.curdoc.add_periodic_callback(self.refresh, FRAME_MS)
        pn.state.on_session_destroyed(self._on_session_destroyed)
        if self._refused:
            pn.state.onload(lambda: self._notify(self._refused))
        return site.page("playground", sidebar=[self.controls()], main=[self.view(), self.address])

    # --- from the visitor to the run ---------------------------------------------------------

    def _turn(self, name: str, value: Any) -> None:
        """Pass a changed knob to the run, with the knobs that must change with it."""
        if self._following:
            return
        changes = moving_along(name, value, self.widgets["block_size"].value)
        if len(changes) > 1 and name == "batch_size":
            self._notify(f"Block size lowered to {value}: a block is at most a batch.", "info")
        self.run.change(**changes)
        self._show_knobs(changes)

    def _touch(self) -> None:
        self._untouched = False  # the steps are the visitor's own from now on

    def begin(self, knobs: dict[str, Any]) -> None:
        """Restart with these knobs, if the server allows them."""
        try:
            present = dict(self.run.snapshot.knobs)
            validated(present | knobs)
        except ValueError as error:
            self._notify(str(error))
        else:
            self._touch()
            self.run.reset(**knobs)

    def _begin_as_chosen(self) -> None:
        self.begin({name: fixed_value(name, widget) for name, widget in self.fixed.items()})

    def _next_seed(self) -> int:
        return (int(self.run.snapshot.knobs["seed"]) + 1) % 2**32

    def _choose_views(self, names: list[str]) -> None:
        try:
            self.figures.show(names)
        except ValueError:
            self._notify(f"At most {MOST} views, and at least one.", "info")
            self.choice.value = list(self.figures.shown)
        self._look()

    def _look(self) -> None:
        """Request the data of the views; the next snapshot has them."""
        compares = any(VIEWS[name].compares for name in self.figures.shown)
        wanted = {**self.figures.wanted(), "network": network}
        self.run.look(self.layer.value, wanted, compares=compares)

    def _limit_speed(self) -> None:
        self.run.limit_speed(self.speed.value or None)
        self._keep_address()

    def _open(self, title: str, _: Any) -> None:
        """Open a panel and close the others, or close it if it is open."""
        if parts := self._parts.pop(title, None):
            self.panels[title].extend(parts())
        for other, panel in self.panels.items():
            panel.visible = other == title and not panel.visible
            self.openers[other].label = f"{other} {'▴' if panel.visible else '▾'}"

    def _show_knobs(self, changes: dict[str, Any]) -> None:
        """Update the widgets of knobs that changed with another."""
        self._following = True
        for name, value in changes.items():
            shown = name in self.widgets
            if shown and (value is not None or knobs_of(Settings)[name].none != "preset"):
                show(self.widgets[name], value)
        for name, text in self._chosen.items():
            if name in changes:
                text.object = small(chosen_text(name, changes[name]))
        if "method" in changes:
            self._allow(knobs_of(Settings, sets="estimator"), estimator_knobs(changes["method"]))
        if "algorithm" in changes:
            self._allow(sum(OF_ALGORITHM.values(), ()), OF_ALGORITHM[changes["algorithm"]])
        if "device" in changes:
            self._show_nonidealities(Settings(device=changes["device"]).nonidealities())
        self._arrange()
        self._following = False

    def _allow(self, among: Collection[str], names: Collection[str]) -> None:
        """Disable the knobs in ``among``, except ``names``."""
        for name in self.widgets.keys() & set(among):
            self.widgets[name].disabled = name not in names

    def _show_nonidealities(self, values: dict[str, float]) -> None:
        self._allow(knobs_of(Settings, sets="device"), values)
        for name in values.keys() & self.widgets.keys():
            show(self.widgets[name], values[name])

    # --- from the run to the visitor ---------------------------------------------------------

    def refresh(self) -> None:
        """Draw one frame: the newest snapshot and any messages."""
        if self._visitor.gone():
            self.run.pause()
        refused = self._show_messages()
        snapshot = self.run.snapshot
        if refused:
            self._follow_run(snapshot)
        if snapshot.number != self._shown_number:
            self._draw(snapshot)

    def _follow_device(self, device: Any) -> None:
        """Change to the default views of another device if those of the last one are shown."""
        defaults, self.own.defaults["views"] = self.own.defaults["views"], default_views(device)
        if self.choice.value == defaults:
            self.choice.value = self.own.defaults["views"]

    def _draw(self, snapshot: Snapshot) -> None:
        if snapshot.begun != self._begun:  # another run: other layers, maybe
            self._follow_run(snapshot)
        if self._answered != snapshot.answered == self.run.asked:  # no other knob is on its way
            self._follow_knobs(snapshot)
        self._follow_device(snapshot.knobs["device"])
        with pn.io.unlocked():  # one message a frame
            self.figures.draw(snapshot)
            preview = snapshot.step if self._untouched else 0
            self.intro.object = intro_html(snapshot, self._title, preview=preview)
            self.network.draw(snapshot.views.get("network"), snapshot.focus.layer)
            self.status.object = status_html(snapshot, self._pace.pulses_a_step(snapshot))
            self.start.disabled = snapshot.running or snapshot.diverged
            self.pause.disabled = not snapshot.running
            self.step.disabled = snapshot.diverged
            if self.tour.place is not None:
                self.tour.look(self._facts())
            self._keep_address()
        self._shown_number = snapshot.number

    def _facts(self) -> dict[str, Any]:
        """What the tour asks of the run."""
        now = self.run.snapshot
        accuracy = now.evaluations[-1, 2] if len(now.evaluations) else None
        progress = {"running": now.running, "epoch": now.epoch, "accuracy": accuracy}
        begun = dict(now.first_knobs)
        for step, changed in now.changes:
            begun |= changed if step == 0 else {}
        return {**now.knobs, **progress, "begun": begun}

    def _follow_tour(self) -> None:
        self.intro.visible = self.tour.place is None or bool(self._title)  # who says what to do
        self._keep_address()

    def _keep_address(self) -> None:
        self.address.keep(self._query(self._title))

    def _query(self, title: str) -> str:
        """The query of the URL: knobs, then what else is not the default, and a class's title."""
        pairs = self._own_pairs() + ([("title", title)] if title else [])
        text = "&".join(filter(None, [query_of(self.run.snapshot.knobs), join(pairs)]))
        return text or PLAIN  # the bare address opens BEGIN

    def _own_pairs(self) -> list[tuple[str, str]]:
        place = self.tour.place
        return self.own.pairs() + ([] if place is None else [("tour", str(place))])

    def _follow_knobs(self, snapshot: Snapshot) -> None:
        """Set the widgets of live knobs to what the run has."""
        self._answered = snapshot.answered
        self._show_knobs({name: snapshot.knobs[name] for name in self.widgets})
        if snapshot.knobs["device"] != DIGITAL:
            self._following = True
            self._show_nonidealities(dict(snapshot.nonidealities))
            self._following = False

    def _follow_run(self, snapshot: Snapshot) -> None:
        """Show the fixed knobs and the layers of another run."""
        self._begun = snapshot.begun
        for name, widget in self.fixed.items():
            show_fixed(name, widget, snapshot.knobs[name])
        if (layers := list(snapshot.layers)) != self.layer.options:
            value = self.layer.value if self.layer.value in layers else layers[0]
            self.layer.param.update(options=layers, value=value)
            self.own.defaults["layer"] = layers[0]

    def _show_messages(self) -> bool:
        refused = False
        while not self.run.messages.empty():
            self._notify(self.run.messages.get())
            refused = True
        return refused

    def _notify(self, text: str, kind: str = "error") -> None:
        site.notify(text, kind, also=self.notice)

    # --- the end -----------------------------------------------------------------------------

    def _on_session_destroyed(self, session_context: Any) -> None:  # noqa: ARG002 - Bokeh's
        self.run.close(timeout=0.0)  # it may be within a long step


class Pace:
    """Counts the pulses of the last steps; a change of any knob begins anew."""

    def __init__(self) -> None:
        self._knobs: Any = None
        self._seen: deque[tuple[int, int]] = deque(maxlen=30)

    def pulses_a_step(self, snapshot: Snapshot) -> float | None:
        """Mean over the snapshots shown last; None before there are two."""
        knobs = (snapshot.begun, snapshot.knobs)
        if knobs != self._knobs or (self._seen and snapshot.step < self._seen[-1][0]):
            self._knobs = knobs
            self._seen.clear()
            if not snapshot.events:  # all its steps were trained with these knobs
                self._seen.append((0, 0))
        if not self._seen or snapshot.step > self._seen[-1][0]:
            self._seen.append((snapshot.step, snapshot.pulses))
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else None


def status_html(snapshot: Snapshot, pulses_a_step: float | None = None) -> str:
    """The status line: step, epoch, test accuracy, pulses, words of the gradient, speed."""
    held, full = snapshot.gradient_words
    accuracy = f"{snapshot.evaluations[-1, 2]:.1%}" if len(snapshot.evaluations) else "–"
    each = f" ({pulses_a_step:,.0f} a step)" if pulses_a_step else ""
    speed = f"{snapshot.steps_per_second:.0f}"
    ranks = ", ".join(f"{name} {rank}" for name, rank in snapshot.layer_ranks.items())
    items = {
        "State": _state(snapshot),
        "Step": f"{snapshot.step:,}",
        "Epoch": f"{snapshot.epoch:.2f}",
        "Test accuracy": accuracy,
        "Pulses written": f"{snapshot.pulses:,}{each}",
        "Gradient memory": f"{held:,} words ({held / full:.0%})",
        "Rank in use": ranks if snapshot.knobs["method"] != "sgd" else "full",
        "Speed": f"{speed} step{'' if speed == '1' else 's'}/s" if snapshot.running else "–",
        "Seed": f"{snapshot.knobs['seed']}",
    }
    return facts(items, (9, 6, 6, 9, 23, 19, 16, 12, 3))


def intro_html(snapshot: Snapshot, title: str = "", *, preview: int = 0) -> str:
    """A class's title, what is trained, the steps of a preview if any, and what to do next."""
    knobs = snapshot.knobs
    device = str(knobs["device"])
    cells = f"crossbars, grids of {device} memory cells"
    if device == DIGITAL:
        cells = "plain digital weights"
    update = (
        "the whole gradient" if knobs["method"] == "sgd" else f"updates of rank {knobs['rank']}"
    )
    if knobs["method"] == "sbpca":
        update += " by SBPCA (streaming batch principal component analysis)"
    if snapshot.diverged:
        advice = "Training diverged: lower the learning rate and press Reset."
    elif knobs["method"] == "sgd" and not snapshot.running:
        advice = "Press Start, then choose another method."
    elif snapshot.running:
        advice = "Move a knob on the left and watch what changes."
    else:
        advice = "Press Start, then move the Rank while it trains."
    heading = f'<h2 style="margin:0;font-size:17px">{escape(title)}</h2>' if title else ""
    text = f"A network learns {task_of(knobs)} on {cells}, with {update}."
    if preview and not snapshot.diverged:
        text += f" Its first {preview} steps were trained as a preview."
    return heading + site.intro_html(text, advice)


def _state(snapshot: Snapshot) -> str:
    if snapshot.diverged:
        return "diverged"
    if snapshot.waiting:
        return f"waits ({snapshot.waiting} in line)"
    return "running" if snapshot.running else "paused"


def tour_steps() -> tuple[Step, ...]:
    """The tour that the server shows."""
    return read_tour(pn.state.cache.get("tour", OWN))


def playground() -> pmui.Page:
    """Create the page of one session."""
    return Playground(query_asked() or BEGIN, first_steps=FIRST_STEPS).page()


if pn.state.served:
    from dashboards.app.serve import prepare

    prepare()
    playground().servable(title=site.title("playground"))
