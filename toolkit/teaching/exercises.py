"""Exercises of the notebooks: how an answer is checked, and what the reader is told.

The exercises themselves are in ``checks/``, a module for every topic.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

DOTS = "Replace the dots in the cell above, then run both cells again."


@dataclass(frozen=True)
class Verdict:
    """What a check found: true where the answer is right, with a sentence for the reader."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        return self.message

    def _repr_markdown_(self) -> str:
        return self.message


@dataclass(frozen=True)
class Wrong:
    """A wrong answer, with a hint that names what to look at."""

    hint: str


Exercise: TypeAlias = Callable[..., "str | Wrong | None"]


class _UnansweredError(Exception):
    """A function whose body is still to be written."""


def wrong(hint: str) -> Wrong:
    """The answer is not right; ``hint`` says where to look, never the solution."""
    return Wrong(hint)


def exercise(name: str) -> Callable[[Exercise], Exercise]:
    """Mark a function of ``checks/<topic>.py`` as the check of the exercise ``"<topic>.<what>"``.

    It takes the answer (and what the notebook hands over by name) and returns None or a closing
    sentence where it is right, ``wrong(hint)`` where it is not.
    """

    def mark(function: Exercise) -> Exercise:
        vars(function)["exercise"] = name
        return function

    return mark


def check(name: str, answer: Any, **given: Any) -> Verdict:
    """Whether ``answer`` solves the exercise ``name``; a wrong answer never raises.

    ``given`` is what the reader's own run yielded, where the right answer depends on it. Raises
    ValueError for a name that is no exercise.
    """
    find = _find(name)
    if _has_dots(answer):
        return Verdict(False, DOTS)
    try:
        result = find(_watched(answer) if inspect.isfunction(answer) else answer, **given)
    except _UnansweredError:
        return Verdict(False, DOTS)
    except Exception as error:
        return Verdict(False, f"Not yet: checking it raised `{type(error).__name__}: {error}`")
    if isinstance(result, Wrong):
        return Verdict(False, f"Not yet. {result.hint}")
    return Verdict(True, f"Right. {result or ''}".strip())


def exercise_names(topic: str) -> tuple[str, ...]:
    """The exercises of ``checks/<topic>.py``, in the order of the file."""
    return tuple(_exercises(topic))


def topics() -> tuple[str, ...]:
    """The topics that have exercises."""
    from toolkit.teaching import checks

    return tuple(module.name for module in pkgutil.iter_modules(checks.__path__))


def close(answer: Any, expected: Any, *, relative: float = 1e-6) -> bool:
    """Whether two numbers or arrays have one shape and agree, up to ``relative`` of the largest.

    True if ``max|answer - expected| <= relative * max|expected|``; a NaN agrees with nothing.
    """
    mine, theirs = np.asarray(answer, dtype=float), np.asarray(expected, dtype=float)
    if mine.shape != theirs.shape:
        return False
    scale = np.abs(theirs).max(initial=0.0)
    return bool((np.abs(mine - theirs) <= relative * scale).all())


def _find(name: str) -> Exercise:
    topic = name.partition(".")[0]
    if topic not in topics():
        raise ValueError(f"name: no topic of {name!r}; there are {', '.join(topics())}")
    known = _exercises(topic)
    if name not in known:
        raise ValueError(f"name: no exercise {name!r}; {topic} has {', '.join(known)}")
    return known[name]


def _exercises(topic: str) -> dict[str, Exercise]:
    module = importlib.import_module(f"toolkit.teaching.checks.{topic}")
    marked = [
        thing for thing in vars(module).values() if "exercise" in getattr(thing, "__dict__", ())
    ]
    return {thing.exercise: thing for thing in marked}


def _has_dots(answer: Any) -> bool:
    if isinstance(answer, dict):
        return any(part is ... for part in answer.values())
    return answer is ... or (isinstance(answer, tuple | list) and any(p is ... for p in answer))


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The reader's function, taken for unanswered when it returns nothing."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if result is None or _has_dots(result):
            raise _UnansweredError
        return result

    return call
