"""Check the answers to the notebooks' exercises.

The exercises themselves are in ``checks/``, one module per topic.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Number
from textwrap import shorten
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

DOTS = "Replace the dots in the cell above, then run both cells again."
NAN = "There is a NaN in it: 0/0, perhaps, or the root of a negative number."
UNREADABLE = "This answer cannot be read. Is it of the kind that the exercise asks for?"


@dataclass(frozen=True)
class Verdict:
    """The result of a check: true if the answer is right, with a message for the reader."""

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
    """A wrong answer, with a hint on what to look at."""

    hint: str


Array: TypeAlias = npt.NDArray[np.float64]
Exercise: TypeAlias = Callable[..., "str | Wrong | None"]
Function: TypeAlias = Callable[..., Any]
Row: TypeAlias = tuple[Any, ...]  # one or more values, then the sentence that answers them


class _UnansweredError(Exception):
    """Raised for a function whose body is not written yet."""


class _KindError(Exception):
    """Raised for an answer that is not of the kind asked for; the text is the hint."""


def wrong(hint: str) -> Wrong:
    """Return a wrong answer; ``hint`` says where to look and never gives the solution."""
    return Wrong(hint)


def exercise(name: str) -> Callable[[Exercise], Exercise]:
    """Mark a function of ``checks/<topic>.py`` as the check of the exercise ``"<topic>.<what>"``.

    The function takes the answer, annotated as ``Function`` if it is one, and any values that the
    notebook passes by name. It returns None or a closing sentence if the answer is right, and
    ``wrong(hint)`` if it is not.
    """

    def mark(function: Exercise) -> Exercise:
        vars(function)["exercise"] = name
        return function

    return mark


def check(name: str, answer: Any, **given: Any) -> Verdict:
    """Check whether ``answer`` solves the exercise ``name``; a wrong answer never raises.

    ``given`` holds results of the reader's own run, if the right answer depends on them. Raises
    ValueError if there is no exercise of that name.
    """
    find = _find(name)
    if _has_dots(answer):
        return Verdict(False, DOTS)
    try:
        result = find(_watched(answer) if _takes_function(find, answer) else answer, **given)
    except _UnansweredError:
        return Verdict(False, DOTS)
    except _KindError as error:
        result = wrong(str(error))
    except Exception:  # of an answer that no line of the check foresaw
        result = wrong(UNREADABLE)
    if isinstance(result, Wrong):
        return Verdict(False, f"Not yet. {result.hint}")
    return Verdict(True, f"Right. {result or ''}".strip())


def exercise_names(topic: str) -> tuple[str, ...]:
    """Return the exercises of ``checks/<topic>.py``, in the order of the file."""
    return tuple(_exercises(topic))


def topics() -> tuple[str, ...]:
    """Return the topics that have exercises."""
    from toolkit.teaching import checks

    return tuple(module.name for module in pkgutil.iter_modules(checks.__path__))


def numbers(value: Any, *, nan: bool = False) -> Array:
    """Return a number, list, array or tensor as an array of float64.

    Anything else ends the check with a hint, and so does a NaN, unless ``nan``.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    if isinstance(value, list | tuple):
        value = [numbers(part, nan=nan) for part in value]
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise _KindError("The rows of the answer differ in length.") from error
    except TypeError as error:
        raise _KindError(_not_numbers(value)) from error
    if found.dtype == object and all(isinstance(part, Number) for part in found.flat):
        found = found.astype(float)  # fractions, decimals
    if found.dtype.kind not in "biufc":
        raise _KindError(_not_numbers(value))
    if np.iscomplex(found).any():
        raise _KindError("The answer is complex; a real one is asked for.")
    real: Array = found.real.astype(float)
    if not nan and np.isnan(real).any():
        raise _KindError(NAN)
    return real


def number(value: Any) -> float:
    """Return the one number that ``value`` holds; otherwise the check ends with a hint."""
    found = numbers(value)
    if found.size != 1:
        comma = " A comma separates numbers: 1,000 is two." if isinstance(value, tuple) else ""
        raise _KindError(f"One number is asked for, not {found.size}.{comma}")
    return float(found.item())


def two(value: Any, names: str) -> tuple[float, float]:
    """Return the two numbers that ``value`` holds; the hint otherwise has ``names`` for them."""
    found = numbers(value).ravel().tolist()
    if len(found) != 2:
        raise _KindError(f"Two numbers are asked for: {names}.")
    return found[0], found[1]


def parts(value: Any, *names: str) -> list[Array]:
    """Return the arrays that a function returns together; the hint otherwise has their names."""
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise _KindError(f"Your function must return {', '.join(names)}, in this order.")
    return [numbers(part) for part in value]


def outputs(function: Function, cases: Iterable[tuple[Any, ...]]) -> Array:
    """Return the number that ``function`` gives for each case, a tuple of arguments."""
    found = [numbers(function(*case)) for case in cases]
    if any(value.size != 1 for value in found):
        raise _KindError("Your function must return one number.")
    return np.array([value.item() for value in found])


def close(answer: Any, expected: Any, *, relative: float = 1e-6) -> bool:
    """Whether two numbers or arrays have the same shape and agree to ``relative`` of the largest.

    True if ``max|answer - expected| <= relative * max|expected|``. A NaN agrees with nothing. An
    array of one number counts as that number.
    """
    mine, theirs = numbers(answer, nan=True), numbers(expected, nan=True)
    if mine.shape != theirs.shape and not mine.size == theirs.size == 1:
        return False
    scale = np.abs(theirs).max(initial=0.0)
    return bool((np.abs(mine - theirs) <= relative * scale).all())


def judge(
    answer: Any, right: Row, *slips: Row, otherwise: str, relative: float = 1e-6
) -> str | Wrong:
    """Compare an answer with the right one, then with known slips.

    Each row holds one or more values and, last, the sentence for an answer that is ``close`` to
    one of them. An answer that matches no row gets the hint ``otherwise``, or one about its shape.
    """
    found, wanted = numbers(answer), numbers(right[0])
    for row in (right, *slips):
        if any(close(found, value, relative=relative) for value in row[:-1]):
            sentence: str = row[-1]
            return sentence if row is right else wrong(sentence)
    if wanted.size == 1:
        number(answer)
    elif found.shape != wanted.shape:
        return wrong(f"It must have the shape {wanted.shape} here; yours has {found.shape}.")
    return wrong(otherwise)


def _find(name: str) -> Exercise:
    topic = name.partition(".")[0]
    if topic not in topics():
        raise ValueError(f"name must start with a topic ({', '.join(topics())}); got {name!r}")
    known = _exercises(topic)
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)}; got {name!r}")
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


def _takes_function(find: Exercise, answer: Any) -> bool:
    """Whether the exercise asks for a function; a hint if the answer is none, or should be none."""
    wanted = next(iter(inspect.signature(find).parameters.values())).annotation == "Function"
    if wanted and not callable(answer):
        raise _KindError(f"A function is asked for, not {_kind(answer)}.")
    if callable(answer) and not wanted:
        raise _KindError("A value is asked for, not a function. Did you forget to call it?")
    return wanted


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the reader's function: one that returns nothing counts as unanswered."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            raise _KindError(_stopped(function, error)) from error
        if result is None or _has_dots(result):
            raise _UnansweredError
        return result

    return call


def _stopped(function: Callable[..., Any], error: Exception) -> str:
    """Say where the reader's function stopped, and why, in one line."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [f.line for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    where = f" at `{shorten(lines[-1], 80)}`" if lines and lines[-1] else ""
    return f"Your function stopped{where}: `{shorten(f'{type(error).__name__}: {error}', 160)}`"


def _not_numbers(value: Any) -> str:
    quotes = " Leave out the quotes." if isinstance(value, str) else ""
    return f"Numbers are asked for, not {_kind(value)}.{quotes}"


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    return "a function" if callable(value) else f"a value of type `{type(value).__name__}`"
