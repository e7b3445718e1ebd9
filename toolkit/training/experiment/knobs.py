"""Knobs: ``param`` parameters that say everything a user sees of a setting, in one declaration.

Default, bounds, unit, doc, symbol, group of the page, slider stops, what the knob sets and whether
it may change during a run (``constant=True``: it may not). Command line, widgets, checks, files,
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
    "none": "preset",  # what None stands for
    "group": "",  # heading on the dashboard; "": not there
    "stops": (),  # of a slider whose useful values lie far apart
    "sets": "run",  # "estimator", "device", "array": what takes the knob, under its name
    "symbol": "",
    "latex": "",
    "notebook": 0,  # that explains it; 0: it needs no explanation
    "made": None,  # a Choice also takes objects of this type
}


class _Declared:
    """The attributes of every knob: those of ``_OWN``, and ``kind``, in words."""

    __slots__ = ()
    kind: str

    def __init__(self, default: Any, **declared: Any) -> None:
        for name, value in _OWN.items():
            setattr(self, name, declared.pop(name, value))
        super().__init__(default=default, **declared)  # type: ignore[call-arg]

    def plain(self, value: Any) -> Any:
        """``value`` as a plain Python object where it is another library's equivalent."""
        return value


class _Numeric(_Declared):
    __slots__ = ()

    def _validate(self, val: Any) -> None:
        """Refuse values outside the declaration, booleans and NaN with one message."""
        try:
            super()._validate(val)  # type: ignore[misc]
            fits = val is None or (not isinstance(val, bool) and math.isfinite(val))
        except (TypeError, ValueError):
            fits = False
        if not fits:
            allowed = ", ".join(filter(None, [self.kind, _allowed(self)]))  # type: ignore[arg-type]
            raise ValueError(f"{self.name} must be {allowed}; got {shown(val)}")  # type: ignore[attr-defined]


class Real(_Numeric, param.Number):
    """A finite real number with a unit; ``None`` only where that is the default."""

    __slots__ = [*_OWN]
    kind = "a finite number"

    def plain(self, value: Any) -> Any:
        """``value`` as a Python float or int where it is another library's real number."""
        known = isinstance(value, numbers.Real) and not isinstance(value, bool | int)
        return float(value) if known else value


class Whole(_Numeric, param.Integer):
    """A whole number with a unit; ``None`` only where that is the default."""

    __slots__ = [*_OWN]
    kind = "a whole number"

    def plain(self, value: Any) -> Any:
        """``value`` as a Python int where it is another library's whole number."""
        return _plain_whole(value)


class Flag(_Declared, param.Boolean):
    """True or False."""

    __slots__ = [*_OWN]

    def _validate(self, val: Any) -> None:
        if not isinstance(val, bool):
            raise ValueError(f"{self.name} must be True or False; got {shown(val)}")

    def plain(self, value: Any) -> Any:
        """``value`` as a bool where it is the word true or false."""
        return {"true": True, "false": False}.get(str(value).lower(), value)


class Choice(_Declared, param.Selector):
    """One name out of a fixed list or, where ``made`` is given, an object of that type."""

    __slots__ = [*_OWN]

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
        """``value`` as a list of Python ints where it is a sequence of whole numbers."""
        return [_plain_whole(item) for item in value] if isinstance(value, list | tuple) else value


Knob = Real | Whole | Flag | Choice | Widths


def knobs_of(
    settings: type[param.Parameterized] | param.Parameterized, sets: str = ""
) -> dict[str, Knob]:
    """The knobs declared on ``settings`` by name: all, or those that set one part of a run."""
    found: dict[str, Any] = {
        name: settings.param[name] for name in settings.param if name != "name"
    }
    return {name: knob for name, knob in found.items() if not sets or knob.sets == sets}


def knobs_of_constructor(cls: type, **declared: Any) -> dict[str, Knob]:
    """A knob for each argument of ``cls``: its type, :class:`Range`, default and docstring.

    The docstring is numpydoc's; a knob's doc is the first sentence of its entry there.
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
    """Whether the knob may change during a run."""
    return not knob.constant


def doc_of(knob: Knob) -> str:
    """The knob's doc in one line."""
    return " ".join((knob.doc or "").split())


def describe(knob: Knob) -> str:
    """The knob's doc and unit in one line, as tooltips and ``--help`` show it."""
    return f"{doc_of(knob)} [{knob.unit}]" if knob.unit not in ("", "1") else doc_of(knob)


def reference(knob: Knob) -> str:
    """The knob's symbol, if it has one, and its notebook, for the end of a tooltip."""
    if not knob.notebook:
        return ""
    symbol = f"Symbol {knob.symbol}; n" if knob.symbol else "N"
    return f"{symbol}otebook {knob.notebook}."


def add_arguments(parser: argparse.ArgumentParser, settings: type[param.Parameterized]) -> None:
    """Give ``parser`` one ``--option`` per knob of ``settings``.

    What is no number stays text; what is allowed is checked by the knobs themselves.
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
    """The reference table of the README: one row a knob."""
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
