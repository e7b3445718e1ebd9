"""What operations beside the arrays cost: published rows, which a user's own can replace."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolkit.checks import check_choice, check_instance, check_real
from toolkit.plain_yaml import read_plain_yaml

PRICES = ("low", "typical", "high")


class Source(NamedTuple):
    """One published number: its value, technology node, year and where it stands."""

    value: float
    node: str = ""
    year: int = 0
    source: str = "given by the user"


Prices = dict[str, tuple[Source, ...]]


def read_prices(given: Mapping[str, Any] | None = None) -> Prices:
    """The package's rows, with those quantities replaced that ``given`` names.

    Parameters
    ----------
    given
        By quantity, a number, several numbers, or rows with ``value``, ``node``, ``year`` and
        ``source``: what a YAML file like ``toolkit/budget/prices.yaml`` holds. None: no changes.

    Raises
    ------
    TypeError, ValueError
        If a quantity is unknown, or a value is not positive.
    """
    own = read_plain_yaml(Path(__file__).with_name("prices.yaml").read_text(encoding="utf-8"))
    prices = {name: tuple(Source(**row) for row in rows) for name, rows in own.items()}
    if given is not None:
        check_instance("prices", given, Mapping, "a mapping of quantities to numbers")
        for name, rows in given.items():
            check_choice("prices", name, prices)
            listed = rows if isinstance(rows, list | tuple) and rows else [rows]
            prices[name] = tuple(_source(name, row) for row in listed)
    return prices


def _source(name: str, row: Any) -> Source:
    if isinstance(row, Source):
        row = row._asdict()
    if not isinstance(row, Mapping):
        row = {"value": row}
    if not set(row) <= set(Source._fields) or "value" not in row:
        raise ValueError(
            f"prices of {name} must have value, and may have node, year, source; got {dict(row)}"
        )
    check_real(f"prices of {name}", row["value"], above=0.0)
    return Source(**{**row, "value": float(row["value"])})


def price(prices: Prices, name: str) -> np.ndarray:
    """The least, the geometric mean and the largest of a quantity's rows, (3,) as ``PRICES``."""
    values = [row.value for row in prices[name]]
    mean = math.exp(sum(map(math.log, values)) / len(values))
    return np.array([min(values), mean, max(values)])
