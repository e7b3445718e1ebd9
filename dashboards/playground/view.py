"""What a live view is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from toolkit.training.live.snapshot import Look


class View(NamedTuple):
    """One live view: all that the Playground knows of it, under its name in ``views.VIEWS``.

    ``blank`` makes its drawing, a ``LiveFigure`` or a Panel pane; ``draw(drawing, snapshot,
    taken)`` puts a snapshot into it and returns the caption. ``about`` explains it, ``lesson`` is
    the notebook and the section that derive it. ``take``, if it needs more than every snapshot has,
    takes it from the run, in the thread that trains; ``compares`` makes the run keep the layer as
    it was before each step, for ``take`` to compare. If it ``recalls``, ``taken`` is the last
    snapshot of the run before this one, or None.
    """

    title: str
    blank: Callable[[], Any]
    draw: Callable[..., str]
    about: str
    lesson: tuple[str, str]
    take: Callable[[Look], Any] | None = None
    compares: bool = False
    recalls: bool = False
