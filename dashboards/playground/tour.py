"""The tour: steps with something to do, each of which says when it was done."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import panel as pn

from dashboards.app import site
from dashboards.app.site import Text, button
from toolkit.checks import check_file
from toolkit.plain_yaml import read_plain_yaml
from toolkit.training.experiment.knobs import knobs_of
from toolkit.training.experiment.settings import Settings

OWN = Path(__file__).with_name("tour.yaml")
FACTS = ("running", "accuracy", "epochs", "from_start", "opened", "saved")
_BOUND = re.compile(r"(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Step:
    """One step: what to do, when it is done, what was seen then, and the page that it opens."""

    title: str
    text: str
    done: Mapping[str, Any]
    open: str = ""
    seen: str = ""

    def from_start(self, begun: Mapping[str, Any]) -> bool:
        """Whether the run began with the knobs that the step asks for."""
        knobs = self.done.keys() - set(FACTS)
        return all(_holds(begun.get(name), self.done[name]) for name in knobs)

    def holds(self, facts: Mapping[str, Any], *, apart: str = "") -> bool:
        """Whether every condition holds, ``apart`` from one."""
        done = {name: wanted for name, wanted in self.done.items() if name != apart}
        return all(_holds(facts.get(name), wanted) for name, wanted in done.items())


def _holds(found: Any, wanted: Any) -> bool:
    bound = _BOUND.fullmatch(wanted) if isinstance(wanted, str) else None
    if bound is None:
        return bool(found == wanted)
    return found is not None and _COMPARE[bound[1]](found, float(bound[2]))


@cache
def read_tour(path: Path = OWN) -> tuple[Step, ...]:
    """The steps in a YAML file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no list of steps, or a step lacks a title, text or condition that is known; says
        which one.
    """
    found = read_plain_yaml(check_file("tour", path).read_text("utf-8"))
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path.name} must be a list of steps")
    return tuple(_step(place, given) for place, given in enumerate(found, 1))


def _step(place: int, given: Any) -> Step:
    fields = {"title", "text", "done", "open", "seen"}
    if not isinstance(given, dict) or not {"title", "text", "done"} <= given.keys() <= fields:
        raise ValueError(f"step {place} must have title, text, done and at most open, seen besides")
    if not isinstance(given["done"], dict) or not given["done"]:
        raise ValueError(f"step {place}: done must be a mapping such as {{rank: 1}}")
    if unknown := sorted(given["done"].keys() - set(FACTS) - knobs_of(Settings).keys()):
        raise ValueError(
            f"step {place}: done must name knobs or {', '.join(FACTS)}; got {unknown[0]!r}"
        )
    if (page := given.get("open", "")) and page not in site.pages():
        raise ValueError(f"step {place}: open must be one of {', '.join(site.pages())}")
    seen = str(given.get("seen", ""))
    return Step(str(given["title"]), str(given["text"]), given["done"], page, seen)


@dataclass
class _Visit:
    """What has happened in the present step; ``first_epoch`` is when all but epochs first held."""

    done: bool = False
    first_epoch: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Tour:
    """The tour's panel. ``place`` counts the steps that are behind; None: not on the tour.

    A step that is done says so and waits for Next. ``changed`` is called when the place changes;
    ``facts`` gives what :meth:`look` takes.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        changed: Callable[[], None],
        facts: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.steps, self._changed, self._facts = steps, changed, facts
        self.place: int | None = None
        self._visit = _Visit()
        self._text = Text("", sizing_mode="stretch_width", margin=(4, 10, 0, 10))
        self._seen = Text("", styles={"flex": "1 1 300px"}, margin=(4, 10))
        self.begin = button("Take the tour", variant="outlined")
        self._opens = {step.open: _opener(step.open) for step in steps if step.open}
        self._next = button("Next", color="primary", disabled=True)
        self._back, self._skip, self._end = (
            button(label, variant="text") for label in ("Back", "Skip", "End the tour")
        )
        self.begin.on_click(lambda _: self.go(0))
        self._back.on_click(lambda _: self.go(max(0, (self.place or 0) - 1)))
        for forward in (self._next, self._skip):
            forward.on_click(lambda _: self.go((self.place or 0) + 1))
        self._end.on_click(lambda _: self.go(None))
        for page, opener in self._opens.items():
            opener.on_click(lambda _, page=page: self.note("opened", page))
        self.view = pn.Column(  # filled when the tour begins
            visible=False,
            sizing_mode="stretch_width",
            styles={"border": "1px solid #0072B2", "border-radius": "6px"},
        )

    @property
    def present(self) -> Step:
        """The step that is shown."""
        return self.steps[min(self.place or 0, len(self.steps) - 1)]

    def go(self, place: int | None) -> None:
        """Go to a step; beyond the last one the tour says that it is over."""
        self.place, self._visit = place, _Visit()
        if place is not None and not self.view.objects:
            # Next first: what a second click meets stays where it is
            buttons = (self._next, *self._opens.values(), self._skip, self._back, self._end)
            line = site.line(*buttons, self._seen, styles=site.CENTRED)
            self.view.objects = [self._text, line]
        self.view.visible = place is not None
        self.begin.visible = place is None
        if place is not None:
            self._show(place)
        self._changed()

    def _show(self, place: int) -> None:
        over, done = place >= len(self.steps), self._visit.done
        self._next.visible, self._next.disabled = not over, not done
        self._next.label = "I am back" if self.present.open else "Next"
        self._skip.visible, self._back.visible = not over and not done, place > 0
        for page, opener in self._opens.items():
            opener.visible = page == self.present.open and not over
            opener.variant = "outlined" if done else "contained"
        title = f"{place + 1} of {len(self.steps)} · {self.present.title}"
        heading, text = ("Done", _over()) if over else (title, escape(self.present.text))
        ticks = "".join("●" if step < place + done else "○" for step in range(len(self.steps)))
        seen = f" {escape(self.present.seen)}" if self.present.seen else ""
        is_told = done and not self.present.open  # who is away has not seen it yet
        end = f"<strong>Done ✓</strong>{seen}" if is_told else ""
        self._seen.object = f'<p style="margin:0;font-size:14px" role="status">{end}</p>'
        self._text.object = (
            f'<p style="margin:0;font-size:14px" role="status"><strong>{escape(heading)}</strong> '
            f'<span aria-hidden="true">{ticks}</span> {text}</p>'
        )

    def note(self, name: str, value: Any) -> None:
        """Something that no snapshot says has happened: a page was opened, a run was saved."""
        self._visit.facts[name] = value
        self.look(self._facts())  # a paused run has no further snapshots

    def look(self, facts: Mapping[str, Any]) -> None:
        """Say so if the present step is done.

        ``facts`` are knobs, running, accuracy, epoch, and the knobs with which the run ``begun``.
        """
        visit = self._visit
        if self.place is None or self.place >= len(self.steps) or visit.done:
            return
        epoch, begun = float(facts["epoch"]), facts.get("begun", facts)
        known = {**facts, "from_start": self.present.from_start(begun), **visit.facts}
        if not self.present.holds(known, apart="epochs"):
            visit.first_epoch = None
            return
        if visit.first_epoch is None or epoch < visit.first_epoch:  # done just now, or reset
            visit.first_epoch = epoch
        if self.present.holds({**known, "epochs": epoch - visit.first_epoch}):
            visit.done = True
            self._show(self.place)


def _opener(page: str) -> Any:
    opener = button(f"Open the {site.pages()[page]}", color="primary")
    opener.js_on_click(code=f"window.open('{site.link(page)}')")
    return opener


def _over() -> str:
    address = site.link("scenarios")
    return (
        f'That was the tour. <a href="{address}" style="color:inherit">Scenarios</a> has more '
        "experiments, and the question mark at each figure links to the notebook that derives it."
    )
