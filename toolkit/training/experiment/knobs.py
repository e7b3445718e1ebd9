"""Knobs: ``param`` parameters that declare everything about a setting in one place.

Default, bounds, unit, doc, symbol, group on the page, slider stops, what the knob sets and whether
it can change during a run (``constant=True``: it cannot). Command line, widgets, checks, files,
README and glossary all read them here. The declarations are in ``settings.py``.
"""

from __future__ import annotations

import argparse
import inspect
import math
import numbers
import re
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import param

from toolkit.checks import shown
from toolkit.lowrank.estimator import Range

_OWN: dict[str, Any] = {
    "unit": "1",
    "none": "preset",  # meaning of None
    "group": "",  # heading on the dashboard; "": not shown
    "stops": (),  # of a slider whose useful values are far apart
    "sets": "run",  # "estimator", "device", "array": what receives the knob
    "symbol": "",
    "latex": "",
    "notebook": 0,  # that explains it; 0: none
    "made": None,  # a Choice also accepts objects of this type
    "listed": None,  # a Choice: a function that returns the names as they are now
}


class _Declared:
    """The attributes of every knob: those of ``_OWN``, and ``kind``, its type in words."""

    __slots__ = ()
    kind: str

    def __init__(self, default: Any, **declared: Any) -> None:
        for name, value in _OWN.items():
            setattr(self, name, declared.pop(name, value))
        super().__init__(default=default, **declared)  # type: ignore[call-arg]

    def plain(self, value: Any) -> Any:
        """Convert an equivalent of another library to a plain Python object."""
        return value


class _Numeric(_Declared):
    __slots__ = ()

    def _validate(self, val: Any) -> None:
        """Reject values outside the declaration, booleans and NaN with one message."""
        try:
            super()._validate(val)  # type: ignore[misc]
            fits = val is None or (not isinstance(val, bool) and math.isfinite(val))
        except (TypeError, ValueError):
            fits = False
        if not fits:
            allowed = ", ".join(filter(None, [self.kind, _allowed(self)]))  # type: ignore[arg-type]
            raise ValueError(f"{self.name} must be {allowed}; got {shown(val)}")  # type: ignore[attr-defined]


class Real(_Numeric, param.Number):
    """A finite real number with a unit; ``None`` is allowed only if it is the default."""

    __slots__ = [*_OWN]
    kind = "a finite number"

    def plain(self, value: Any) -> Any:
        """Convert another library's real number to a Python float or int."""
        known = isinstance(value, numbers.Real) and not isinstance(value, bool | int)
        return float(value) if known else value


class Whole(_Numeric, param.Integer):
    """A whole number with a unit; ``None`` is allowed only if it is the default."""

    __slots__ = [*_OWN]
    kind = "a whole number"

    def plain(self, value: Any) -> Any:
        """Convert another library's whole number to a Python int."""
        return _plain_whole(value)


class Flag(_Declared, param.Boolean):
    """True or False."""

    __slots__ = [*_OWN]

    def _validate(self, val: Any) -> None:
        if not isinstance(val, bool):
            raise ValueError(f"{self.name} must be True or False; got {shown(val)}")

    def plain(self, value: Any) -> Any:
        """Convert the word true or false to a bool."""
        return {"true": True, "false": False}.get(str(value).lower(), value)


class Choice(_Declared, param.Selector):
    """One name from a list or, if ``made`` is given, an object of that type.

    The list is ``objects``, or what the function ``listed`` returns at that moment.
    """

    __slots__ = [*_OWN]

    @property
    def objects(self) -> Any:
        """The names that are allowed now."""
        return super().objects if self.listed is None else self.listed()

    @objects.setter
    def objects(self, names: Any) -> None:
        param.Selector.objects.fset(self, names)  # type: ignore[attr-defined]

    def _validate(self, val: Any) -> None:
        if self.made is not None and isinstance(val, self.made):
            return
        if not isinstance(val, str) or val not in self.objects:
            allowed = ", ".join(self.objects) + (f" or a {self.made.__name__}" if self.made else "")
            raise ValueError(f"{self.name} must be one of {allowed}; got {shown(val)}")


class Widths(_Declared, param.List):
    """The widths of the hidden layers, a list of whole numbers."""

    __slots__ = [*_OWN]

    def _validate(self, val: Any) -> None:
        widths = val if isinstance(val, list) else [None]
        if not all(type(width) is int and 1 <= width <= 4096 for width in widths):
            raise ValueError(
                f"{self.name} must be a list of widths, 1 to 4096 each; got {shown(val)}"
            )

    def plain(self, value: Any) -> Any:
        """Convert a sequence of whole numbers to a list of Python ints."""
        return [_plain_whole(item) for item in value] if isinstance(value, list | tuple) else value


Knob = Real | Whole | Flag | Choice | Widths


def knobs_of(
    settings: type[param.Parameterized] | param.Parameterized, sets: str = ""
) -> dict[str, Knob]:
    """The knobs declared on ``settings``, by name: all, or those that set one part of a run."""
    kind = settings if isinstance(settings, type) else type(settings)
    found: dict[str, Any] = kind.param.objects()  # those of an instance would be copied first
    return {n: k for n, k in found.items() if n != "name" and (not sets or k.sets == sets)}


def knobs_of_constructor(cls: type, **declared: Any) -> dict[str, Knob]:
    """A knob for each argument of ``cls``, from its type, :class:`Range`, default and docstring.

    The docstring is in numpydoc format; the doc of a knob is the first sentence of its entry.
    """
    hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    made: dict[str, Knob] = {}
    for name, argument in inspect.signature(cls).parameters.items():
        described = declared | {"doc": _doc_of_argument(cls, name)}
        kind, *notes = get_args(hints[name]) or (hints[name],)
        if get_origin(hints[name]) is Literal:
            made[name] = Choice(argument.default, objects=list(get_args(hints[name])), **described)
        elif kind is bool:
            made[name] = Flag(argument.default, **described)
        elif notes and isinstance(notes[0], Range):
            described |= {"bounds": notes[0][:2], **notes[0].shown}
            made[name] = (Real if kind in (float, float | None) else Whole)(
                argument.default, **described
            )
    return made


def _doc_of_argument(cls: type, name: str) -> str:
    entry = re.search(rf"^{name} :.*\n((?:    .+\n?)+)", inspect.getdoc(cls) or "", re.MULTILINE)
    text = " ".join(entry[1].split()) if entry else name
    return re.split(r"(?<=[.;])\s", text)[0].rstrip(";.") + "."


def _plain_whole(value: Any) -> Any:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if whole else value


def is_live(knob: Knob) -> bool:
    """Whether the knob can change during a run."""
    return not knob.constant


def doc_of(knob: Knob) -> str:
    """The knob's doc in one line."""
    return " ".join((knob.doc or "").split())


def describe(knob: Knob) -> str:
    """The knob's doc and unit in one line, for tooltips and ``--help``."""
    return f"{doc_of(knob)} [{knob.unit}]" if knob.unit not in ("", "1") else doc_of(knob)


def reference(knob: Knob) -> str:
    """The knob's symbol, if any, and its notebook, for the end of a tooltip."""
    if not knob.notebook:
        return ""
    symbol = f"Symbol {knob.symbol}; n" if knob.symbol else "N"
    return f"{symbol}otebook {knob.notebook}."


def add_arguments(parser: argparse.ArgumentParser, settings: type[param.Parameterized]) -> None:
    """Add one ``--option`` per knob of ``settings`` to ``parser``.

    Values that are not numbers stay text; the knobs themselves check what is allowed.
    """
    kinds: dict[type, Any] = {Real: _number(float), Whole: _number(int), Widths: _number(int)}
    for name, knob in knobs_of(settings).items():
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
    """The reference table of the README: one row per knob."""
    rows = ["| knob | default | allowed | unit | live | what it does |", "|" + " --- |" * 6]
    for name, knob in knobs_of(settings).items():
        unit = "" if knob.unit == "1" else knob.unit
        live = "yes" if is_live(knob) else "no"
        cells = (f"`{name}`", _default(knob), _allowed(knob), unit, live, doc_of(knob))
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows) + "\n"


def _default(knob: Knob) -> Any:
    return knob.none if knob.default is None else knob.default


def _allowed(knob: Knob) -> str:
    if isinstance(knob, Choice):
        return ", ".join(f"`{name}`" for name in knob.objects)
    if isinstance(knob, Widths):
        return "1 to 4096 each"
    if isinstance(knob, Flag):
        return "True or False"
    low, high = knob.bounds or (None, None)
    if low is None:
        return ""
    text = f"{'above ' if not knob.inclusive_bounds[0] else ''}{low}"
    return f"{text} to {high}" if high is not None else f"{text} or more"
