"""Programming of cells: by write-verify, or on a real chip by files of target conductances."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import check_file, check_path_like, check_real, shown
from toolkit.crossbar.cells import Cells
from toolkit.writing import beside

PLACE = ("polarity", "output", "input")
TARGET = ("target_S", "least_S", "most_S")
REACHED = "reached_S"
_POLARITIES = ("plus", "minus")


@dataclass(frozen=True)
class Programming:
    """Report of a write-verify."""

    within_tolerance: float  #: fraction of the cells whose true state is within the tolerance
    rms_error: float  #: root mean square of state minus target, as a fraction of the range
    pulses: int  #: pulses issued
    rounds: int  #: reads of the whole array

    @classmethod
    def of_all(cls, reports: Sequence[Programming], cells: Sequence[int]) -> Programming:
        """Merge the reports of arrays with these numbers of cells; ``rounds`` is the largest."""
        share = [count / sum(cells) for count in cells]
        within = sum(s * each.within_tolerance for s, each in zip(share, reports, strict=True))
        square = sum(s * each.rms_error**2 for s, each in zip(share, reports, strict=True))
        return cls(
            within_tolerance=within,
            rms_error=math.sqrt(square),
            pulses=sum(each.pulses for each in reports),
            rounds=max(each.rounds for each in reports),
        )


def write_verify(
    cells: Cells,
    targets: Tensor,
    tolerance: float,
    max_pulses: int,
    issue: Callable[[Tensor], None],
) -> Programming:
    """Pulse ``cells`` towards ``targets``; ``issue`` sends pulses.

    Targets outside 0..1 cannot be reached: cells are pulsed to the end of the range, and the report
    counts the full error.

    Each round reads every cell (with read noise) and gives those outside the tolerance half of the
    pulses that a straight line would need, at least one, so as not to overshoot steep parts of a
    curve. Stops when all reads are within the tolerance or no cell has pulses left.
    """
    device = cells.device
    spent = torch.zeros_like(cells.state)
    rounds = 0
    while True:
        rounds += 1
        error = targets.clamp(0.0, 1.0) - cells.read()
        up, down = map(float, device.pulses_per_range)
        wanted = error.abs() * torch.where(error > 0.0, up, down) / 2.0
        if not device.is_continuous:
            wanted = wanted.floor_().clamp_(min=1.0)
        wanted = torch.minimum(wanted, max_pulses - spent) * (error.abs() > tolerance)
        if not bool((wanted > 0.0).any()):
            break
        spent += wanted
        issue(wanted * error.sign())
    miss = cells.visible() - targets
    return Programming(
        within_tolerance=float((miss.abs() <= tolerance).double().mean()),
        rms_error=float(miss.square().mean().sqrt()),
        pulses=int(spent.sum()),
        rounds=rounds,
    )


# --- a real chip --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """Report of a chip's conductances against their targets."""

    within_tolerance: float  #: fraction of the cells between the least and the most of the file
    rms_error: float  #: root mean square of reached minus target, siemens
    clipped: int  #: cells of the array that cannot hold what was reached

    @classmethod
    def of(cls, targets: np.ndarray, reached: np.ndarray, held: Tensor, span: float) -> Reached:
        """From targets with their bands (2, m, n, 3), what was reached and what the array holds."""
        goal, least, most = np.moveaxis(targets, -1, 0)
        clipped = np.abs(held.double().cpu().numpy() - reached) > 1e-5 * span
        return cls(
            within_tolerance=float(((reached >= least) & (reached <= most)).mean()),
            rms_error=float(np.sqrt(np.square(reached - goal).mean())),
            clipped=int(clipped.sum()),
        )


def write_targets(conductance: Tensor, path: str | Path, tolerance: float, span: float) -> None:
    """Write a CSV with a row per cell: place, target, and the band of ``tolerance * span``."""
    check_path_like("path", path)
    check_real("tolerance", tolerance, above=0.0)
    values, width = conductance.double().cpu().numpy(), tolerance * span
    lines = [",".join((*PLACE, *TARGET, REACHED))]
    for polarity, matrix in zip(_POLARITIES, values, strict=True):
        for output, row in enumerate(matrix.tolist()):
            lines += [
                f"{polarity},{output},{i},{g!r},{max(g - width, 0.0)!r},{g + width!r},"
                for i, g in enumerate(row)
            ]
    with beside(Path(path)) as scratch:
        scratch.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_reached(path: str | Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Targets with their bands (2, m, n, 3) and what was reached (2, m, n), from such a CSV.

    Raises
    ------
    ValueError
        If a column or a cell is missing, twice there or not of the array, or a value is no
        conductance; the message names the line.
    """
    name = check_file("path", path).name
    targets, reached = np.full((2, *shape, 3), np.nan), np.full((2, *shape), np.nan)
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            held = rows.fieldnames or ()
            missing = [key for key in (*PLACE, *TARGET, REACHED) if key not in held]
            if missing:
                raise ValueError(
                    f"it has no column {missing[0]}; columns are separated by commas, and numbers "
                    "have decimal points"
                )
            for row in rows:
                place = _place(row, shape, rows.line_num)
                if not np.isnan(reached[place]):
                    raise ValueError(f"line {rows.line_num}: {_named(place)} is there twice")
                reached[place] = _siemens(row, REACHED, rows.line_num)
                targets[place] = [_siemens(row, key, rows.line_num) for key in TARGET]
    except UnicodeDecodeError:
        raise ValueError(f"path must be a file of targets; {name} is no text in UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"path must be a file of targets; {name}: {error}") from None
    if (absent := np.argwhere(np.isnan(reached))).size:
        raise ValueError(
            f"path must be a file of all {reached.size} cells; {name} has no "
            f"{_named(tuple(absent[0].tolist()))}"
        )
    return targets, reached


def _place(row: dict[str, str], shape: tuple[int, int], line: int) -> tuple[int, int, int]:
    try:
        place = _POLARITIES.index(row["polarity"]), int(row["output"]), int(row["input"])
    except (ValueError, TypeError):
        place = -1, -1, -1
    if not (place[0] >= 0 and 0 <= place[1] < shape[0] and 0 <= place[2] < shape[1]):
        got = ", ".join(str(row[key]) for key in PLACE)
        raise ValueError(f"line {line} must be a cell, plus or minus, of {shape}; got {shown(got)}")
    return place


def _siemens(row: dict[str, str], key: str, line: int) -> float:
    try:
        value = float(row[key])
    except (ValueError, TypeError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"line {line}: {key} must be at least 0 S; got {shown(row[key])}")
    return value


def _named(place: tuple[int, ...]) -> str:
    return f"{_POLARITIES[place[0]]} cell of output {place[1]}, input {place[2]}"
