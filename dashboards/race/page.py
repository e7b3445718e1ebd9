"""The race: two to four runs side by side from the same weights and the same order of samples.

Each run is a live run of its own; this module shows their snapshots.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.address import Address, one_of, parse, query_asked
from dashboards.app.figure_pane import WHOLE, FigurePane, explanation, grid, table
from dashboards.app.settings_text import knobs_of_query, query_of, task_of
from dashboards.app.site import Text
from dashboards.app.widgets import chosen_text, live_widgets, method_name, moving_along, show
from dashboards.race.track import BUDGETS, Point, Track, standings
from toolkit.lowrank import estimator_knobs
from toolkit.plots import LiveFigure
from toolkit.plots.elements import RUN_STYLES
from toolkit.plots.lanes import AXES, lane_curves
from toolkit.training.experiment.knobs import Choice, is_live, knobs_of
from toolkit.training.experiment.settings import Settings
from toolkit.training.layers.convert import DIGITAL
from toolkit.training.live.snapshot import Snapshot

FRAME_MS = 120
FIGURE_HEIGHT = "clamp(240px, calc(100vh - {}px), 560px)"  # the knobs are to be seen, too
AROUND, EACH = 285, 83  # pixels around the figures, and more for each run
KNOB = 168  # pixels: a run's seven knobs stand side by side on a laptop
LETTERS = "abcd"
SHOWN_KNOBS = ("method", "rank", "block_size", "batch_size", "learning_rate", "device", "scheme")
SHARED = tuple(name for name, knob in knobs_of(Settings).items() if not is_live(knob))
DEFAULTS: tuple[dict[str, Any], ...] = (
    {"device": site.CELL},
    {"device": site.CELL, "method": "sgd"},
)
FIRST_STEPS = 25  # more than an epoch of the digits, so that accuracies are compared
MOST_SEEDS = 5
ABOUT = (
    "All runs begin with the same weights and read the same samples in the same order; their names "
    "say in what they differ. The table compares them at equal samples, pulses and seconds: (−1.2) "
    "is 1.2 points behind the best. With several seeds, curves and numbers are means, bands reach "
    "from the least to the most, ± is the standard deviation between seeds, and ≈ marks a "
    "difference within it, which may be chance."
)
LESSON = ("08_relatives", "Training at equal memory")
ONE_SEED = (
    "One seed decides nothing: another may have another best. Choose several under “Seeds of "
    "each”; ≈ then marks differences that may be chance."
)
SCHEMES = {
    "rank-sequential": "Rank-sequential: the outer products are written one after another.",
    "rank-sum": "Rank-sum: the outer products are added up first, and their sum is written.",
}


class RaceRun:
    """One run of the race: its widgets and its record so far."""

    def __init__(self, letter: str, knobs: dict[str, Any], **more: Any) -> None:
        self.letter = letter.upper()
        self.name = f"Run {self.letter}"
        self.live = site.live_run(**more, **knobs)
        self.track = Track()
        self._seconds, self._seen_at = 0.0, time.monotonic()
        self._following, self._answered = False, 0
        self.widgets = live_widgets(SHOWN_KNOBS)
        for name, widget in self.widgets.items():
            one_line = {"& .MuiFormLabel-root": {"whiteSpace": "nowrap"}}
            label = f"{letter.upper()}: {widget.label}"
            widget.param.update(label=label, width=KNOB, sx={**(widget.sx or {}), **one_line})
            widget.param.watch(lambda event, name=name: self._turn(name, event.new), "value")
        self.follow(self.live.snapshot.knobs)

    def card(self, colour: str) -> pn.viewable.Viewable:
        """The run's knobs, in a line beside its colour."""
        shown = (self.widgets[name] for name in SHOWN_KNOBS)
        styles = {"border-left": f"6px solid {colour}"}
        return pn.FlexBox(*shown, sizing_mode="stretch_width", margin=(3, 10), styles=styles)

    def follow(self, knobs: Any) -> None:
        """Set the widgets to the run's values."""
        self._following = True
        for name, widget in self.widgets.items():
            show(widget, knobs[name])
        used = estimator_knobs(knobs["method"])
        for name in self.widgets.keys() & knobs_of(Settings, sets="estimator").keys():
            self.widgets[name].disabled = name not in used
        self._following = False

    def look(self, snapshot: Snapshot) -> None:
        """Record the run's progress; its clock runs while it trains."""
        if self._answered != snapshot.answered == self.live.asked:  # no other knob is on its way
            self._answered = snapshot.answered
            self.follow(snapshot.knobs)
        now = time.monotonic()
        if snapshot.running:
            self._seconds += now - self._seen_at
        self._seen_at = now
        if snapshot.step == 0:
            self.track, self._seconds = Track(), 0.0
            return
        first, self.live.first_snapshots = self.live.first_snapshots, []
        for each in (*first, snapshot):
            self.track.add(Point.of(each, self._seconds))

    def _turn(self, name: str, value: Any) -> None:
        if self._following:
            return
        changes = moving_along(name, value, self.widgets["block_size"].value)
        self.live.change(**changes)
        if len(changes) > 1:
            self.follow(dict(self.live.snapshot.knobs) | changes)


@cache
def _figures(count: int) -> tuple[LiveFigure, LiveFigure]:
    """Loss and accuracy of so many runs, to be copied for every page."""
    loss = lane_curves(
        count, title="Loss", ylabel="cross-entropy (nat)", legend="top_right", logy=True
    )
    accuracy = lane_curves(
        count,
        title="Test accuracy",
        ylabel="correct (%)",
        legend="bottom_right",
        ylim=(0, 100),
        dots=True,
    )
    return LiveFigure(loss, from_zero=True), LiveFigure(accuracy, follow="x", from_zero=True)


class Race:
    """One visitor's race: runs, two figures, the standings and the frame loop."""

    def __init__(
        self,
        runs: Sequence[dict[str, Any]] = DEFAULTS,
        *,
        along: str = "samples",
        seeds: int = 1,
        **more: Any,
    ) -> None:
        if not 2 <= len(runs) <= len(LETTERS):
            raise ValueError(f"runs must be 2 to {len(LETTERS)}; got {len(runs)}")
        self.seeds = seeds
        shared = {name: value for name, value in runs[0].items() if name in SHARED}
        self.runs = [
            RaceRun(letter, knobs | shared, seeds=seeds, **more)
            for letter, knobs in zip(LETTERS, runs, strict=False)
        ]
        count = len(self.runs)
        self.loss, self.accuracy = (live.copy() for live in _figures(count))
        self.intro = Text("", sizing_mode="stretch_width", margin=(8, 10, 0, 10))
        wide = {"overflow-x": "auto"}
        self.table = Text("", sizing_mode="stretch_width", margin=(4, 10), styles=wide)
        self.about = Text("", sizing_mode="stretch_width", margin=(2, 10))
        self.notice = Text("", sizing_mode="stretch_width", margin=(0, 10))
        self.address = Address()
        self._visitor = site.Visitor()
        self._shown: list[int] = []
        self._make_buttons(along)
        self.refresh()

    def _make_buttons(self, along: str) -> None:
        self.start = site.button("Start all", "M8 5l11 7-11 7z", color="primary")
        self.pause = site.button("Pause all", "M6 5h4v14H6zM14 5h4v14h-4z", variant="outlined")
        self.reset = site.button("Reset all", "M5 5h3v14H5zM19 5v14l-9-7z", variant="outlined")
        self.start.on_click(lambda _: self._each("start"))
        self.pause.on_click(lambda _: self._each("pause"))
        self.reset.on_click(lambda _: self._reset())
        axes = {label: name for name, label in AXES.items()}
        self.axis = site.select("Compare along", axes, value=along, width=220, margin=(8, 6))
        self.axis.param.watch(lambda _: self._draw(), "value")
        self.new_seed = site.button("New seed", variant="outlined")
        self.new_seed.on_click(lambda _: self._reset(self.seeds))
        self.counts = Text("", margin=(14, 6))

    def view(self) -> pn.viewable.Viewable:
        """Buttons, runs, figures and standings."""
        cards = [run.card(colour) for run, (colour, _) in zip(self.runs, RUN_STYLES, strict=False)]
        height = FIGURE_HEIGHT.format(AROUND + EACH * len(cards))
        panes = (FigurePane(live, height=height) for live in (self.loss, self.accuracy))
        figures = grid(*panes, least="300px", share="40%")
        figures.styles = {**figures.styles, **WHOLE}
        bar = pn.FlexBox(self.start, self.pause, self.reset, self.new_seed, self.axis, self.counts)
        intro = pn.Row(self.intro, Text(explanation(ABOUT, LESSON), margin=(8, 10, 0, 0)))
        parts = intro, bar, self.notice, figures, self.table, *cards, self.about
        return pn.Column(*parts, sizing_mode="stretch_both", styles=WHOLE)

    def page(self) -> pmui.Page:
        """The whole page; the runs stop when the session ends."""
        if pn.state.curdoc:
            pn.state.curdoc.add_periodic_callback(self.refresh, FRAME_MS)
        pn.state.on_session_destroyed(self._on_session_destroyed)
        return site.page("race", sidebar=[], main=[self.view(), self.address])

    # --- what the visitor does ---------------------------------------------------------------

    def _each(self, action: str) -> None:
        for run in self.runs:
            getattr(run.live, action)()

    def _reset(self, more: int = 0) -> None:
        """Restart all runs with one seed: the present one, or that plus ``more``."""
        seed = (self.runs[0].live.snapshot.knobs["seed"] + more) % 2**32
        for run in self.runs:
            run.live.reset(seed=seed)

    # --- what the runs do --------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw one frame: the newest snapshots and any messages."""
        if self._visitor.gone():
            self._each("pause")
        for run in self.runs:
            while not run.live.messages.empty():
                site.notify(f"{run.name}: {run.live.messages.get()}", also=self.notice)
            run.look(run.live.snapshot)
        seen = [run.live.snapshot.number for run in self.runs]
        if seen != self._shown:
            self._shown = seen
            self._draw()

    def _draw(self) -> None:
        with pn.io.unlocked():  # one message a frame
            self._put()

    def _put(self) -> None:
        axis = self.axis.value
        knobs = [run.live.snapshot.knobs for run in self.runs]
        names = run_names(knobs)
        for run, name in zip(self.runs, names, strict=True):
            run.name = name
        for i, run in enumerate(self.runs):
            x, band, measured = run.track.column(axis), len(self.runs) + i, run.track.measured()
            tested = x[measured]
            accuracies = {"x": tested, "y": 100 * run.track.column("accuracy")[measured]}
            self.loss.set_columns(i, {"x": x, "y": run.track.column("loss")})
            self.accuracy.set_columns(i, accuracies)
            self.accuracy.set_columns(2 * len(self.runs) + i, accuracies)
            if self.seeds > 1:
                around = np.concatenate([x, x[::-1]])
                self.loss.set_columns(band, {"x": around, "y": run.track.band("loss")})
                around = np.concatenate([tested, tested[::-1]])
                between = 100 * run.track.band("accuracy", measured)
                self.accuracy.set_columns(band, {"x": around, "y": between})
        for live in (self.loss, self.accuracy):
            live.figure.xaxis.axis_label = AXES[axis]
            live.name_curves(names)
        self.table.object = standings_html(self.runs, self.seeds)
        self.about.object = about_html(knobs)
        self.intro.object = intro_html(knobs)
        self.address.keep(query_of_runs(knobs, axis, self.seeds))
        self.counts.object = counts_html(knobs, axis, self.seeds)
        snapshots = [run.live.snapshot for run in self.runs]
        self.start.disabled = all(each.running or each.diverged for each in snapshots)
        self.pause.disabled = not any(each.running for each in snapshots)

    def _on_session_destroyed(self, session_context: Any) -> None:  # noqa: ARG002 - Bokeh's
        for run in self.runs:
            run.live.close(timeout=0.0)  # it may be within a long step


def standings_html(runs: Sequence[RaceRun], seeds: int = 1) -> str:
    """Each run's accuracy now, and at equal samples, pulses and seconds."""
    tracks = [run.track for run in runs]
    budgets = {budget: standings(tracks, budget) for budget in BUDGETS}
    words = {"samples": "samples", "pulses": "pulses", "seconds": "seconds of training"}
    heads = ["run", "state", "step", "samples", "pulses", "test accuracy now"]
    for budget, (common, _) in budgets.items():
        amount = f"{common:,.1f}" if budget == "seconds" else f"{common:,.0f}"
        heads.append(f"at {amount} {words[budget]}" if common else f"at equal {words[budget]}")
    rows = []
    for i, run in enumerate(runs):
        snapshot = run.live.snapshot
        cells = [
            run.name,
            "running" if snapshot.running else "paused",
            f"{snapshot.step:,}",
            f"{run.track.used('samples'):,.0f}",
            f"{run.track.used('pulses'):,.0f}",
            _percent(run.track.at("seconds", math.inf)),
            *(against_best(tracks, budget, *at, i) for budget, at in budgets.items()),
        ]
        rows.append(cells)
    shown = table(heads, rows, numbers=True, colours=[style[0] for style in RUN_STYLES])
    return shown if seeds > 1 else shown + site.small(ONE_SEED)


def run_names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each run's letter and the knobs that it uses and in which the runs differ; else "Run A"."""
    differ = [
        name
        for name, knob in knobs_of(Settings).items()
        if any(run[name] != runs[0][name] for run in runs)
    ]
    names = []
    of_estimators = knobs_of(Settings, sets="estimator").keys()
    for letter, run in zip(LETTERS.upper(), runs, strict=False):
        used = estimator_knobs(run["method"])
        own = [name for name in differ if name in used or name not in of_estimators]
        parts = [_part(name, run) for name in own]
        names.append(f"{letter}: {', '.join(parts)}" if parts else f"Run {letter}")
    return names


def _part(name: str, run: Mapping[str, Any]) -> str:
    knob, value = knobs_of(Settings)[name], run[name]
    if value is None:
        value = _of_device(run["device"]).get(name, knob.none)
    if isinstance(knob, Choice):
        return method_name(value)
    label = knob.label or name
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{label if label.isupper() else label.lower()} {text}"


@cache
def _of_device(device: Any) -> dict[str, float]:
    return Settings(device=device).nonidealities()


def against_best(
    tracks: Sequence[Track], budget: str, amount: float, reached: Sequence[float], place: int
) -> str:
    """The accuracy of one run, its deviation between seeds, and its points behind the best.

    A difference of means within the deviation of that difference is marked.
    """
    known = [accuracy for accuracy in reached if not math.isnan(accuracy)]
    text = _percent(reached[place])
    if math.isnan(reached[place]):
        return text
    best = reached.index(max(known))
    own, other = (tracks[i].at(budget, amount, "spread") for i in (place, best))
    text += f" ± {100 * own:.1f}" if own else ""
    if len(known) < 2:
        return text
    behind = reached[best] - reached[place]
    mark = " ≈" if 0 < behind <= math.hypot(own, other) else ""
    return f"{text} (−{100 * behind:.1f}{mark})" if behind >= 0.0005 else f"{text} (best)"


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{fraction:.1%}"


def about_html(runs: Sequence[Mapping[str, Any]]) -> str:
    """What the methods, devices and schemes are, each once, and what else a run has set."""
    said = []
    for letter, run in zip(LETTERS.upper(), runs, strict=False):
        for name in ("method", "device"):
            if text := chosen_text(name, run[name]):
                said.append(f"{method_name(run[name])}: {text}")
        if run["device"] != DIGITAL:
            said.append(SCHEMES[run["scheme"]])
        if besides := others_text(run):
            said.append(f"Run {letter} besides: {besides}.")
    return site.small(" ".join(dict.fromkeys(said)))


def others_text(knobs: Any) -> str:
    """The live knobs without a widget in a run whose values are not the defaults."""
    return ", ".join(
        f"{knob.label} {knobs[name]}"
        for name, knob in knobs_of(Settings).items()
        if is_live(knob) and name not in SHOWN_KNOBS and knobs[name] != knob.default
    )


def intro_html(runs: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on what races, and one on what to do."""
    count = ("two", "three", "four")[len(runs) - 2]
    return site.intro_html(
        f"The same network learns {task_of(runs[0])} in {count} ways, from the same weights and "
        "with the same samples.",
        "Press Start all and watch which is ahead; the settings of each run are below.",
    )


def counts_html(runs: Sequence[Any], along: str = "samples", seeds: int = 1) -> str:
    """Links to the same race with more or fewer runs or seeds; a new run copies the first."""
    wanted = {n: [*runs[:n], *[runs[0]] * (n - len(runs))] for n in range(2, len(LETTERS) + 1)}
    counts = {n: query_of_runs(some, along, seeds) for n, some in wanted.items()}
    each = {n: query_of_runs(runs, along, n) for n in range(1, MOST_SEEDS + 1)}
    seed = runs[0].get("seed", 0)
    last = f" to {(seed + seeds - 1) % 2**32}" if seeds > 1 else ""
    return (
        f"Seed of all: {seed}{last}. Begin anew with {_links(counts, len(runs))} runs. "
        f'<span title="Each run trains with so many seeds at once: the curves are means">'
        f"Seeds of each: {_links(each, seeds)}</span>"
    )


def _links(queries: Mapping[int, str], here: int) -> str:
    links = []
    for count, query in queries.items():
        weight, current = (700, ' aria-current="true"') if count == here else (400, "")
        style = f"color:inherit;font-weight:{weight};padding:2px 6px"
        address = escape(site.link("race", query))
        links.append(f'<a href="{address}" style="{style}"{current}>{count}</a>')
    return " ".join(links)


def query_of_runs(runs: Sequence[Any], along: str = "samples", seeds: int = 1) -> str:
    """All runs' settings in one query, ``runs=2&b.method=sgd``, with axis and number of seeds."""
    parts = [f"runs={len(runs)}"]
    parts += [query_of(knobs, prefix=f"{a}.") for a, knobs in zip(LETTERS, runs, strict=False)]
    parts += [f"along={along}"] if along != "samples" else []
    parts += [f"seeds={seeds}"] if seeds > 1 else []
    return "&".join(part for part in parts if part)


def runs_of_query(query: str) -> list[dict[str, Any]]:
    """The runs that a query names, checked; the default race where it names none.

    Raises
    ------
    ValueError
        If a name or value is not allowed; says of which run.
    """
    asked = parse(query)
    if not asked:
        return [dict(knobs) for knobs in DEFAULTS]
    count = asked.get("runs", "2")
    if count not in ("2", "3", "4"):
        raise ValueError(f"runs must be 2, 3 or 4; got {count[:10]!r}")
    allowed = LETTERS[: int(count)]
    for name in asked:
        letter, dot, _ = name.partition(".")
        if name not in ("runs", "along", "seeds") and not (dot and letter in allowed):
            raise ValueError(f"unknown name {name[:60]!r}; each begins with a run, as in 'a.rank'.")
    runs = [knobs_of_query(asked, prefix=f"{letter}.") for letter in allowed]
    for letter, knobs in zip(allowed, runs, strict=True):
        for name, value in knobs.items():
            if name in SHARED and f"{letter}.{name}" in asked and value != runs[0].get(name):
                raise ValueError(f"all runs share {name}: set a.{name} alone; got {letter}.{name}")
    return runs


def axis_of_query(query: str) -> str:
    """The axis along which the runs are compared, from a query.

    Raises
    ------
    ValueError
        If it is none of ``AXES``.
    """
    along: str = one_of("along", list(AXES), parse(query).get("along", "samples"))
    return along


def seeds_of_query(query: str) -> int:
    """The number of seeds of each run, from a query.

    Raises
    ------
    ValueError
        If it is not 1 to 5.
    """
    asked = parse(query).get("seeds", "1")
    return int(one_of("seeds", range(1, MOST_SEEDS + 1), asked))


def race() -> pmui.Page:
    """Create the page of one session from its URL."""
    query, along, seeds, wrong = query_asked(), "samples", 1, ""
    try:
        runs, along, seeds = runs_of_query(query), axis_of_query(query), seeds_of_query(query)
    except ValueError as error:
        runs, wrong = [dict(knobs) for knobs in DEFAULTS], str(error).rstrip(".")
    page = Race(runs, along=along, seeds=seeds, first_steps=FIRST_STEPS)
    if wrong:
        said = f"This URL is not valid: {wrong}. The page shows the default race."
        page.notice.object = f'<p role="alert">{escape(said)}</p>'
    return page.page()
