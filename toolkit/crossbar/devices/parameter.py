"""Parameters of devices and responses, each declared once: bounds, label, unit, slider."""

from __future__ import annotations

import math
import numbers
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from toolkit.checks import check_real


@dataclass(frozen=True)
class About:
    """A number of a cell: label, doc, unit, bounds, and the range of its slider.

    ``least``, ``most`` and ``above`` are the bounds that are enforced; ``or_inf`` allows infinity.
    Sliders and knobs run from ``low`` to ``high`` in steps of ``step`` or between ``stops``.
    """

    label: str
    doc: str
    low: float
    high: float
    step: float = 0.0
    stops: tuple[float, ...] = ()
    unit: str = "1"
    least: float = -math.inf
    most: float = math.inf
    above: float | None = None
    or_inf: bool = False


def number(*about: Any, default: Any = MISSING, **more: Any) -> Any:
    """A dataclass field for such a number."""
    return field(default=default, metadata={"about": About(*about, **more)})


def about(of: Any) -> dict[str, About]:
    """The numbers declared by a dataclass or one of its instances."""
    return {f.name: f.metadata["about"] for f in fields(of) if "about" in f.metadata}


def check_numbers(of: Any) -> None:
    """Raise TypeError or ValueError, with its name, for a number that is not allowed."""
    for name, one in about(of).items():
        value = getattr(of, name)
        if not (one.or_inf and isinstance(value, numbers.Real) and value == math.inf):
            check_real(name, value, one.least, one.most, above=one.above)


def share(
    label: str, doc: str, high: float, step: float, *, default: float = 0.0, **more: Any
) -> Any:
    """A field for a number that is at least 0."""
    return number(label, doc, 0.0, high, step, default=default, least=0.0, **more)


def spread(label: str, of: str, high: float) -> Any:
    """A field for a standard deviation from cell to cell."""
    return share(label, f"Standard deviation from cell to cell of {of}.", high, 0.005)
