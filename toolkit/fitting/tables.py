"""Tables as they come from instruments: text in any usual form, Excel, pandas, xarray, arrays.

Here a table becomes columns of fields; what the columns mean is in :mod:`toolkit.fitting.columns`.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolkit.checks import check_file, shortened

_HEAD = 400  # lines that are looked at to find separator and header
_MOST_UNPACKED = 100_000_000  # bytes of a workbook
_RUN = 3  # lines that make a table
_ABOVE = 3  # lines above the first reading among which the header is
_SEPARATORS = ("\t", ";", ",", None)  # None: runs of blanks
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_UNIT = re.compile(
    r"[\[(]?\s*([pnuµμmkM]?([SsAVKWJ]|Hz|Ω|Ω|[Oo]hms?|Pa|bar)|[°º]?[CF]|[°º]|min|h"
    r"|[-–—/#%1]|a\.?u\.?|none)\s*[\])]?"
)
_COMMENT = re.compile(r"\s*#(?!\s*[,;])")  # "#;uS" is a row of units
#: Fields that stand for a reading that is missing.
MISSING = {
    *("", "-", "--", "---", "nan", "na", "n/a", "#n/a", "none", "null", "<na>", "inf", "+inf"),
    *("-inf", "infinity", "ovfl", "ovld", "ovr", "ol", "o.l", "overflow", "over", "overrange"),
}
#: Instruments write 9.9e37 for an overflow.
OVERFLOW = 1e30


@dataclass(frozen=True)
class Table:
    """Columns of fields as they came, and remarks on the reading of them.

    The index of ``frame`` says where each row stands, its name in what: ``a.csv line``, ``row``.
    """

    frame: pd.DataFrame
    remarks: list[str] = field(default_factory=list)

    @cached_property
    def headers(self) -> list[str]:
        """Names of the columns."""
        return [str(header).strip() for header in self.frame.columns]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {header: place for place, header in reversed([*enumerate(self.headers)])}

    def column(self, header: str) -> pd.Series:
        """The fields below that header, the first of that name."""
        return self.frame.iloc[:, self._places[header]].rename(header)


def read_file(path: str | Path) -> Table:
    """Read a file of text or an Excel workbook (its first sheet)."""
    path = check_file("path", path)
    return read_bytes(path.read_bytes(), path.name)


def read_bytes(data: bytes, name: str) -> Table:
    """Read the content of a file; ``name`` is for messages.

    Raises
    ------
    ValueError
        If it holds no table; rows of unequal length are named by their line.
    """
    if data[:4] == b"PK\x03\x04":
        return _read_excel(data, name)
    return _read_text(decoded(data, name), name)


def as_table(given: Any) -> Table:
    """Take a Table, a pandas DataFrame, a mapping of columns, an xarray Dataset or DataArray.

    A ``units`` attribute of a variable counts as a unit in its header.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(given, Table):
        return given
    if hasattr(given, "to_dataset") and hasattr(given, "to_dataframe"):  # a DataArray
        given = given.to_dataset(name=given.name or "conductance")
    if hasattr(given, "to_dataframe"):  # a Dataset; this package does not import xarray
        units = {name: one.attrs.get("units") for name, one in given.variables.items()}
        frame = given.to_dataframe().reset_index()
        named = {name: _with_unit(str(name), units.get(name)) for name in frame.columns}
        return Table(_numbered(frame.rename(columns=named)))
    if not (hasattr(given, "keys") and hasattr(given, "__getitem__")):
        raise TypeError(
            "table must be a pandas DataFrame, an xarray Dataset or a mapping of columns; "
            f"got {type(given).__name__}"
        )
    if isinstance(given, pd.DataFrame):
        given = given.reset_index() if any(n is not None for n in given.index.names) else given
        return Table(_numbered(given.set_axis(_flat(given.columns), axis=1)))
    columns = {str(name): np.atleast_1d(np.asarray(given[name], dtype=object)) for name in given}
    count = max((len(one) for one in columns.values()), default=0)
    for name, one in columns.items():
        if one.ndim > 1 or len(one) not in (1, count):
            raise ValueError(
                f"columns must be ({count},) as the longest, or numbers; {name!r} is {one.shape}"
            )
    frame = {name: np.broadcast_to(one, count) for name, one in columns.items()}
    return Table(_numbered(pd.DataFrame(frame).infer_objects()))


def as_numbers(column: pd.Series) -> pd.Series:
    """Fields as floats, decimal commas included; NaN where they are none."""
    if not pd.api.types.is_numeric_dtype(column):
        text = column.astype(str).str.strip()
        if text.str.contains(",", regex=False).any():
            text = text.str.replace(",", ".", regex=False)
        column = text
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.astype(float) if not pd.api.types.is_complex_dtype(numbers) else numbers * np.nan


def by_value(raw: pd.Series, function: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """``function`` of a column with few different values, worked out once for each."""
    first = ~raw.astype(object).map(str).duplicated() if raw.dtype == object else ~raw.duplicated()
    places, _ = pd.factorize(raw.astype(str) if raw.dtype == object else raw)
    found = function(raw[first])
    return pd.Series(found.to_numpy()[places], index=raw.index)


def refuse(wrong: pd.Series, raw: pd.Series, words: str, *, plain: bool = False) -> None:
    """ValueError about the first row where ``wrong`` holds."""
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        got = raw.iloc[row]
        got = got.item() if isinstance(got, np.generic) else got
        shown = got if plain else shortened(repr(got))
        raise ValueError(f"{raw.index.name} {raw.index[row]}: {raw.name} {words}; got {shown}")


def nameless(count: int) -> list[str]:
    """Headers of a table that has none."""
    return [f"column {number}" for number in range(1, count + 1)]


def is_number(text: Any) -> bool:
    """Whether a field is a number, with a decimal point or comma."""
    return _NUMBER.fullmatch(str(text).strip()) is not None


def decoded(data: bytes, name: str) -> str:
    """Text in UTF-8, UTF-16 (with or without its mark) or Windows-1252."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif data[1:400:2].count(0) > 0.4 * len(data[1:400:2]):
        encodings = ["utf-16-le"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(f"{name} is no text file in UTF-8, UTF-16 or Windows-1252")


def _read_text(text: str, name: str) -> Table:
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip(" ,;\t\ufeff")]
    kept = [(n, line) for n, line in lines if not _COMMENT.match(line)]
    if not kept:
        raise ValueError(f"{name} holds no table")
    try:
        separator = _separator([line for _, line in kept[:_HEAD]])
        rows = [_split(line, separator) for _, line in kept[:_HEAD]]
        names, start = _layout(rows)
        if names is None:
            names = _commented_header(lines, kept[0][0], len(rows[start]), separator)
        kept, ended = _without_footer(kept[start:], separator)
        frame = _body(kept, names, separator, name)
    except csv.Error as error:
        raise ValueError(f"{name} is no table: {error}") from None
    lines_said = "1 line" if ended == 1 else f"{ended} lines"
    remarks = [f"{lines_said} below the table left out"] if ended else []
    return Table(frame.rename_axis(f"{name} line"), remarks)


def _split(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    return next(csv.reader([line], delimiter=separator)) if '"' in line else line.split(separator)


def _separator(lines: Sequence[str]) -> str | None:
    """That which makes most numbers, and leaves no other separator inside a field."""

    def score(separator: str | None) -> int:
        fields = [each for line in lines for each in _split(line, separator)]
        return sum(is_number(each) - (";" in each or "\t" in each.strip()) for each in fields)

    return max(_SEPARATORS, key=score)


def _layout(rows: list[list[str]]) -> tuple[list[str] | None, int]:
    """Header (None: there is none) and number of the first row below it."""
    counts = Counter(len(row) for row in rows if any(map(is_number, row)))
    if not counts:
        return [each.strip() for each in rows[0]], 1
    width = max(counts, key=lambda count: (counts[count], count))
    alike = [row for row in rows if len(row) == width and any(map(is_number, row))]
    shares = (sum(is_number(row[column]) for row in alike) / len(alike) for column in range(width))
    numeric = [column for column, share in enumerate(shares) if share > 0.5]

    def is_reading(row: list[str]) -> bool:
        fields = [row[column].strip() for column in numeric] if len(row) == width else []
        known = all(is_number(each) or each.lower() in MISSING for each in fields)
        return known and any(map(is_number, fields))

    start = _first_run(rows, [is_reading(row) for row in rows])
    units: list[str] = []
    for place in range(start - 1, max(start - 1 - _ABOVE, -1), -1):
        row = _joined(rows[place], width)
        if any(map(is_number, row)):
            continue
        if len(row) == width and all(_UNIT.fullmatch(e.strip()) or not e.strip() for e in row):
            units = row
        elif len(row) == width:
            pairs = zip(row, units or [""] * width, strict=True)
            below = next(
                n for n, each in enumerate(rows) if n > place and any(map(is_number, each))
            )
            return [_with_unit(*pair) for pair in pairs], below
    if start and len(rows[start - 1]) > 1 and not units:  # a header that does not fit
        return [each.strip() for each in rows[start - 1]], start
    return None, start


def _first_run(rows: list[list[str]], readings: list[bool]) -> int:
    """Place of the first readings that are a table: an instrument's own numbers stand alone.

    Only a row without numbers, such as a header, parts them from the table: after any other row
    that is no reading, the readings before it would be lost without a word.
    """
    starts = [n for n, one in enumerate(readings) if one and not (n and readings[n - 1])]
    starts = starts[:1] + [n for n in starts[1:] if not any(map(is_number, rows[n - 1]))]
    long = [n for n in starts if all(readings[n : n + _RUN])]
    return [*long, *starts, len(readings) - 1][0]


def _joined(row: list[str], width: int) -> list[str]:
    """A header split at blanks with its units joined to the names, as in ``G (uS)``."""
    if len(row) <= width:
        return row
    joined = re.split(r"\s(?![\[(])", " ".join(row))
    return joined if len(joined) == width else row


def _commented_header(
    lines: list[tuple[int, str]], first: int, width: int, separator: str | None
) -> list[str]:
    """Names in the last comment line above the table, where its fields are as many."""
    above = [line for number, line in lines if number < first]
    row = _joined(_split(above[-1].lstrip("# \t"), separator), width) if above else []
    if len(row) == width and not any(map(is_number, row)):
        return [each.strip() for each in row]
    return nameless(width)


def _without_footer(
    lines: list[tuple[int, str]], separator: str | None
) -> tuple[list[tuple[int, str]], int]:
    """The lines before those at the end that have no number, and how many these are."""
    end = len(lines)
    while end:
        fields = [each.strip() for each in _split(lines[end - 1][1], separator)]
        if any(map(is_number, fields)) or all(each.lower() in MISSING for each in fields):
            break
        end -= 1
    return lines[:end], len(lines) - end


def _uneven(
    lines: list[tuple[int, str]], separator: str | None, width: int
) -> list[tuple[int, str]]:
    """Lines that may have another number of fields."""
    if separator is None:
        return [one for one in lines if len(one[1].split()) != width]
    return [one for one in lines if one[1].count(separator) != width - 1 or '"' in one[1]]


def _body(
    lines: list[tuple[int, str]], names: list[str], separator: str | None, name: str
) -> pd.DataFrame:
    """Fields as text, indexed by the numbers of their lines."""
    width = len(names)
    for number, line in _uneven(lines, separator, width):
        row = _split(line, separator)
        if len(row) < width or any(each.strip() for each in row[width:]):
            raise ValueError(f"{name} line {number}: {len(row)} fields, the header has {width}")
    if not lines:
        return pd.DataFrame(columns=names, dtype=object)
    head = [each for _, line in lines[:_HEAD] for each in _split(line, separator)]
    is_comma = any(is_number(each) and "," in each for each in head)
    try:
        frame = pd.read_csv(
            io.StringIO("\n".join([line.strip(" ") for _, line in lines])),
            sep=separator or r"\s+",
            decimal="," if is_comma else ".",
            header=None,
            names=range(width),
            usecols=range(width),
            index_col=False,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            low_memory=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{name} is no table: {shortened(str(error).strip())}") from None
    if len(frame) != len(lines):
        raise ValueError(f"{name} is no table: a quoted field goes on over several lines")
    frame.columns = pd.Index(names, dtype=object)
    return frame.set_axis([number for number, _ in lines])


def _read_excel(data: bytes, name: str) -> Table:
    """The first sheet of a workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            if (size := sum(part.file_size for part in book.infolist())) > _MOST_UNPACKED:
                raise ValueError(f"it unpacks to {size / 1e6:,.0f} MB; save its table as CSV")
        cells = pd.read_excel(io.BytesIO(data), header=None, dtype=object)
    except ImportError:
        raise ValueError(f"{name} is an Excel file; install openpyxl to read it") from None
    except Exception as error:  # whatever openpyxl makes of a damaged file
        raise ValueError(
            f"{name} cannot be read as an Excel workbook: {shortened(str(error))}"
        ) from None
    cells = cells.dropna(how="all").dropna(axis=1, how="all")
    if cells.empty:
        raise ValueError(f"{name} holds no table")
    text = cells.head(_HEAD).astype(object).where(cells.head(_HEAD).notna(), "").astype(str)
    rows = [list(row) for row in text.itertuples(index=False, name=None)]
    names, start = _layout(rows)
    names = names or nameless(cells.shape[1])
    frame = cells.iloc[start:].set_axis(names, axis=1)
    frame = frame.set_axis(frame.index + 1)
    while len(frame) and not any(is_number(each) for each in frame.iloc[-1]):
        frame = frame.iloc[:-1]
    return Table(frame.rename_axis(f"{name} row"))


def _with_unit(header: str, unit: Any) -> str:
    """``header (unit)``, or the header alone where the unit says nothing."""
    text = str(unit or "").strip(" []()\xa0")
    header = header.strip()
    return (
        header
        if text.lower() in ("", "-", "#", "none", "a.u.", "au", "1")
        else (f"{header} ({text})")
    )


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(range(len(frame))).rename_axis("row")


def _flat(columns: Iterable[Any]) -> list[str]:
    """Names of columns; those of several levels joined by blanks."""
    return [" ".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in columns]
