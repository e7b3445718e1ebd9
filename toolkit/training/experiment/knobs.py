"""Knobs: ``param`` parameters that also carry a unit, and what they promise about bad input.

A knob is declared once, on :class:`toolkit.training.Settings`. Its default, bounds, doc,
unit and whether it may change during a run (``constant=True`` says it may not) are read from there
by the command line, the dashboard, the files and the README. What the knobs *mean* lives in
``settings.py``, not here.
"""

from __future__ import annotations

import argparse
import math
import numbers
from collections.abc import Callable
from typing import Any

import param

from toolkit.checks import shown


class Real(param.Number):
    """A finite real number with a unit; ``None`` only where that is the default.

    ``none`` says what None stands for.
    """

    __slots__ = ["none", "unit"]
    kind = "a finite number"

    def __init__(
        self, default: float | None, *, unit: str = "1", none: str = "preset", **kwargs: Any
    ) -> None:
        self.unit, self.none = unit, none
        super().__init__(default, **kwargs)

    def _validate(self, val: Any) -> None:
        _check_number(self, val, super()._validate)

    def plain(self, value: Any) -> Any:
        """``value`` as a Python float or int where it is another library's real number."""
        known = isinstance(value, numbers.Real) and not isinstance(value, bool | int)
        return float(value) if known else value


class Whole(param.Integer):
    """A whole number with a unit; ``None`` only where that is the default, as for :class:`Real`."""

    __slots__ = ["none", "unit"]
    kind = "a whole number"

    def __init__(
        self, default: int | None, *, unit: str = "1", none: str = "preset", **kwargs: Any
    ) -> None:
        self.unit, self.none = unit, none
        super().__init__(default, **kwargs)

    def _validate(self, val: Any) -> None:
        _check_number(self, val, super()._validate)

    def plain(self, value: Any) -> Any:
        """``value`` as a Python int where it is another library's whole number."""
        return _plain_whole(value)


class Choice(param.Selector):
    """One name out of a fixed list or, where ``made`` is given, an object of that type."""

    __slots__ = ["made", "unit"]

    def __init__(
        self, default: str, *, objects: list[str], made: type | None = None, **kwargs: Any
    ) -> None:
        self.unit, self.made = "", made
        super().__init__(default=default, objects=objects, **kwargs)

    def _validate(self, val: Any) -> None:
        if self.made is not None and isinstance(val, self.made):
            return
        if not isinstance(val, str) or val not in self.objects:
            allowed = ", ".join(self.objects) + (f" or a {self.made.__name__}" if self.made else "")
            raise ValueError(f"{self.name} must be one of {allowed}; got {shown(val)}")

    def plain(self, value: Any) -> Any:
        """``value`` itself."""
        return value


class Widths(param.List):
    """The widths of the hidden layers, a list of whole numbers."""

    __slots__ = ["unit"]

    def __init__(self, default: list[int], *, unit: str = "neurons", **kwargs: Any) -> None:
        self.unit = unit
        super().__init__(default=default, **kwargs)

    def _validate(self, val: Any) -> None:
        widths = val if isinstance(val, list) else [None]
        if not all(type(width) is int and 1 <= width <= 4096 for width in widths):
            raise ValueError(
                f"{self.name} must be a list of widths, 1 to 4096 each; got {shown(val)}"
            )

    def plain(self, value: Any) -> Any:
        """``value`` as a list of Python ints where it is a sequence of whole numbers."""
        return [_plain_whole(item) for item in value] if isinstance(value, list | tuple) else value


Knob = Real | Whole | Choice | Widths


def knobs_of(settings: type[param.Parameterized] | param.Parameterized) -> dict[str, Knob]:
    """Every knob declared on ``settings``, by name, in the order of declaration."""
    found: dict[str, Any] = {
        name: settings.param[name] for name in settings.param if name != "name"
    }
    return found


def _check_number(knob: Real | Whole, value: Any, declared: Callable[[Any], None]) -> None:
    """Refuse what the declaration refuses, booleans and NaN, all in the same words."""
    try:
        declared(value)
        fits = value is None or (not isinstance(value, bool) and math.isfinite(value))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"{knob.name} must be {knob.kind}, {_allowed(knob)}; got {shown(value)}")


def _plain_whole(value: Any) -> Any:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if whole else value


def is_live(knob: Knob) -> bool:
    """Whether the knob may change during a run."""
    return not knob.constant


def describe(knob: Knob) -> str:
    """The knob's doc and unit in one line, as tooltips and ``--help`` show it."""
    doc = " ".join((knob.doc or "").split())
    return f"{doc} [{knob.unit}]" if knob.unit not in ("", "1") else doc


def add_arguments(parser: argparse.ArgumentParser, settings: type[param.Parameterized]) -> None:
    """Give ``parser`` one ``--option`` per knob of ``settings``.

    What is no number stays text; what is allowed is checked by the knobs themselves.
    """
    for name, knob in knobs_of(settings).items():
        kinds: dict[type, Any] = {Real: _number(float), Whole: _number(int), Widths: _number(int)}
        extra: dict[str, Any] = {"nargs": "+"} if isinstance(knob, Widths) else {}
        if type(knob) in kinds:
            extra["type"] = kinds[type(knob)]
        allowed = _allowed(knob).replace("`", "")
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            metavar=name.upper() if not isinstance(knob, Choice) else "NAME",
            help=f"{describe(knob)} {allowed} ({_default(knob)})".replace("%", "%%"),
            **extra,
        )


def _number(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            return text

    return read


def markdown_table(settings: type[param.Parameterized]) -> str:
    """The reference table of the README: one row a knob."""
    rows = ["| knob | default | allowed | unit | live | what it does |", "|" + " --- |" * 6]
    for name, knob in knobs_of(settings).items():
        default = _default(knob)
        unit = "" if knob.unit == "1" else knob.unit
        doc = " ".join((knob.doc or "").split())
        live = "yes" if is_live(knob) else "no"
        rows.append(f"| `{name}` | {default} | {_allowed(knob)} | {unit} | {live} | {doc} |")
    return "\n".join(rows) + "\n"


def _default(knob: Knob) -> Any:
    return knob.none if isinstance(knob, Real | Whole) and knob.default is None else knob.default


def _allowed(knob: Knob) -> str:
    if isinstance(knob, Choice):
        return ", ".join(f"`{name}`" for name in knob.objects)
    if isinstance(knob, Widths):
        return "1 to 4096 each"
    low, high = knob.bounds or (None, None)
    text = f"{'above ' if not knob.inclusive_bounds[0] else ''}{low}"
    return f"{text} to {high}" if high is not None else f"{text} or more"
