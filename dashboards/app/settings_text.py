"""Settings of a run as text: URL query, YAML file, Python code.

Settings from visitors are checked by the knobs' own declarations and by further limits of the
server. No widgets and no page here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import yaml

from dashboards.app.address import as_text, join, parse
from toolkit.checks import shortened
from toolkit.plain_yaml import read_plain_yaml
from toolkit.training.experiment.knobs import Choice, Flag, Knob, Real, Whole, Widths, knobs_of
from toolkit.training.experiment.settings import Settings, present_names

MAX_CHARACTERS = 60  # of one value
MAX_WEIGHTS = 2_000_000  # between the layers, counted as for 1024 inputs
MAX_YAML_BYTES = 16_384
_INPUTS = 1024
_PLAIN = (bool, int, float, str, list, type(None))


def changed(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that differ from their defaults.

    Raises
    ------
    ValueError
        If one of them is an object (a Device, a Dataset), which text cannot hold.
    """
    found = {
        name: knobs[name]
        for name, knob in knobs_of(Settings).items()
        if name in knobs and knobs[name] != knob.default
    }
    if objects := [name for name, value in found.items() if not isinstance(value, _PLAIN)]:
        raise ValueError(f"{objects[0]} was passed as an object, which cannot be written as text.")
    return found


def validated(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs if the server allows them.

    Raises
    ------
    ValueError
        If a knob is not allowed; the message has its name, its value and what is allowed.
    """
    knobs = present_names(knobs)
    for name, value in knobs.items():
        if len(name) > MAX_CHARACTERS:
            raise ValueError(f"unknown knob {_shortened(name)}.")
        if not isinstance(value, _PLAIN) or not _is_short(value):
            raise ValueError(f"{name} must be a name, a number or a short list of widths.")
    settings = Settings(**knobs)
    weights = sum(a * b for a, b in pairwise([_INPUTS, *settings.hidden]))
    if weights > MAX_WEIGHTS:
        raise ValueError(
            f"hidden={settings.hidden} is too large for this server; allowed: "
            f"{MAX_WEIGHTS:,} weights between {_INPUTS} inputs and the hidden layers."
        )
    return {name: getattr(settings, name) for name in knobs}


def _is_short(value: Any) -> bool:
    try:
        return len(repr(value)) <= MAX_CHARACTERS
    except ValueError:  # Python does not print numbers of more than 4300 digits
        return False


# --- the address --------------------------------------------------------------------------------


def query_of(knobs: Mapping[str, Any], *, prefix: str = "") -> str:
    """The knobs that differ from their defaults as ``name=value&...``, names after ``prefix``."""
    return join([(prefix + name, as_text(value)) for name, value in changed(knobs).items()])


def knobs_of_query(query: str | Mapping[str, str], *, prefix: str = "") -> dict[str, Any]:
    """The knobs in a query (text or parsed), checked; other knobs keep their defaults.

    Names that do not start with ``prefix`` are left out.

    Raises
    ------
    ValueError
        If a knob is unknown or its value is not allowed; the message names the first.
    """
    asked = parse(query) if isinstance(query, str) else query
    found = {n.removeprefix(prefix): text for n, text in asked.items() if n.startswith(prefix)}
    return validated({n: _value(n, text) for n, text in present_names(found).items()})


def _value(name: str, text: str) -> Any:
    knob = knobs_of(Settings).get(name)
    if knob is None or isinstance(knob, Choice | Flag):  # Settings reports what is wrong
        return knob.plain(text) if knob else text
    try:
        return _number(knob, text)
    except ValueError:
        raise ValueError(f"{name} must be a number; got {_shortened(text)}") from None


def _number(knob: Knob, text: str) -> Any:
    if isinstance(knob, Widths):
        return [int(width) for width in text.split(",") if width]
    if isinstance(knob, Real | Whole) and knob.default is None and text in ("None", knob.none):
        return None
    return float(text) if isinstance(knob, Real) else int(text)


def task_of(knobs: Mapping[str, Any]) -> str:
    """What the data set is, for the sentence at the head of a page."""
    tasks = {
        "digits": "handwritten digits",
        "mnist": "handwritten digits (MNIST)",
        "fashion-mnist": "pieces of clothing (Fashion-MNIST)",
        "cifar-10": "photographs (CIFAR-10)",
    }
    return tasks.get(str(knobs["dataset"]), f"the {knobs['dataset']} data set")


# --- files --------------------------------------------------------------------------------------


def yaml_of(knobs: Mapping[str, Any]) -> str:
    """The knobs that differ from their defaults, as YAML, for a download."""
    head = "# Settings of an SBPCA Toolkit run; knobs that are not listed have their defaults.\n"
    return head + yaml.safe_dump(changed(knobs), sort_keys=False, default_flow_style=None)


def knobs_of_yaml(data: bytes) -> dict[str, Any]:
    """The knobs of an uploaded file, checked.

    Raises
    ------
    ValueError
        If it is too long, is not a plain YAML mapping, or has a knob or value not allowed.
    """
    if len(data) > MAX_YAML_BYTES:
        raise ValueError(
            f"the file has {len(data):,} bytes; settings have at most {MAX_YAML_BYTES:,}."
        )
    try:
        found = read_plain_yaml(data.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"the file cannot be read: {str(error)[:120]}.") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError("settings are lines of the form 'rank: 4', one knob per line.")
    return validated(found)


def _shortened(value: Any) -> str:
    return shortened(repr(value), 60)


# --- Python -------------------------------------------------------------------------------------


def python_of(
    knobs: Mapping[str, Any], changes: Sequence[tuple[int, Mapping[str, Any]]], steps: int
) -> str:
    """Python code that repeats a run bit for bit: ``run`` is the experiment after ``steps`` steps.

    Parameters
    ----------
    knobs
        Initial knobs of the run.
    changes
        Every accepted call of :meth:`~toolkit.training.Experiment.change`: the number of steps
        before it, and the knobs. Calls, not single knobs: a device changed twice between two
        batches is programmed twice.
    steps
        Training steps done.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in changed(knobs).items())
    lines = [
        "import torch",
        "",
        "from toolkit.training import Experiment",
        "",
        "torch.set_num_threads(1)  # as on the page: with more, sums round differently",
        f"run = Experiment({given})",
    ]
    done = 0
    for step, calls in groupby(changes, key=lambda change: change[0]):
        lines += _stepping(step - done)
        done = step
        for _, turned in calls:
            arguments = ", ".join(f"{name}={value!r}" for name, value in turned.items())
            lines.append(f"run.change({arguments})")
    return "\n".join([*lines, *_stepping(steps - done)]) + "\n"


def _stepping(count: int) -> list[str]:
    return [f"for _ in range({count}):", "    run.step()"] if count else []
