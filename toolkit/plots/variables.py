"""Any recorded variable as a figure: a curve, an image or a value, depending on its dims.

``toolkit.results`` has the schema of a run; only the coordinates that stand for training steps are
used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, cycle
from typing import NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr
from bokeh.models import NumeralTickFormatter

from toolkit.plots.elements import BLUE, RUN_STYLES, coloured, framed, siemens_prefix

_MOST_POINTS = 2000
# Coordinates, or neighbouring variables, that give the position along a dimension
_PLACES = {"event": "event_step"}
AXES = {"step": "training step", "samples_seen": "samples seen", "pulses": "programming pulses"}


class Recorded(NamedTuple):
    """A variable of a results tree: its place and its type."""

    group: str
    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    units: str
    long_name: str

    @property
    def path(self) -> str:
        """Group and name."""
        return f"{self.group.rstrip('/')}/{self.name}"


def recorded(tree: xr.DataTree) -> list[Recorded]:
    """Every variable of every group, in the order of the file."""
    found = []
    for node in tree.subtree:
        for name, array in node.to_dataset(inherit=False).data_vars.items():
            units, long_name = (str(array.attrs.get(key, "")) for key in ("units", "long_name"))
            dims = tuple(str(dim) for dim in array.dims)
            found.append(Recorded(node.path, str(name), dims, array.shape, units, long_name))
    return found


def views(array: xr.DataArray) -> list[tuple[str, ...]]:
    """The possible views of a variable, best first: the dims on the axes.

    No dims: a value. One: a curve over it. Two: an image, the first dim downwards. Text is shown
    one value at a time; an empty variable has no view.
    """
    if not array.size:
        return []
    dims = tuple(str(dim) for dim in array.dims)
    if array.dtype.kind not in "fiub":
        return [()]
    images = list(combinations(dims, 2))[::-1]
    curves = [(dim,) for dim in dims]
    return [*images, *curves, ()] if len(dims) > 1 else [*curves, ()]


def variable_figure(dataset: xr.Dataset, name: str, at: Mapping[str, int]) -> hv.Element:
    """Variable ``name`` of ``dataset`` with the dims of ``at`` fixed: a curve, image or text.

    Colours have the same limits for every ``at``: those of the whole variable.

    Raises
    ------
    ValueError
        If more than two dims are left.
    """
    array = dataset[name]
    left = array.isel({dim: index for dim, index in at.items() if dim in array.dims})
    if left.ndim > 2:
        raise ValueError(f"{name} has dims {', '.join(map(str, left.dims))} left; fix all but 2.")
    if left.ndim == 2:
        return _image(left, limits(array), *readable(array))
    if left.ndim == 1:
        return _curve(dataset, left, *readable(array))
    return framed(hv.Curve([], "x", "y"), f"{name}: {value_text(left)}", "x", "y")


def value_text(value: xr.DataArray) -> str:
    """One number with its unit."""
    units = _units(value)
    number = value.values.item()
    shown = f"{number:.6g}" if isinstance(number, float) else str(number)
    return f"{shown} {units}".strip()


def readable(array: xr.DataArray) -> tuple[float, str]:
    """The factor and unit for drawing a variable: siemens get a prefix."""
    units = _units(array)
    if units != "S":
        return 1.0, units
    return siemens_prefix(float(np.nanmax(np.abs(array.values), initial=0.0)))


def limits(array: xr.DataArray) -> tuple[float, float]:
    """Smallest and largest finite value, as drawn; symmetric about 0 if both signs occur."""
    values = array.values[np.isfinite(array.values)]
    if not values.size:
        return 0.0, 1.0
    factor, _ = readable(array)
    low, high = factor * float(values.min()), factor * float(values.max())
    if low < 0.0 < high:
        low, high = -max(-low, high), max(-low, high)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def place_of(dataset: xr.Dataset, dim: str) -> xr.DataArray | None:
    """Position of each entry along ``dim``: its coordinate, or its training step."""
    for name in (dim, _PLACES.get(dim, dim)):
        if name in dataset.variables and dataset[name].dims == (dim,):
            return dataset[name]
    return None


def comparison(
    runs: Mapping[str, xr.Dataset],
    name: str,
    *,
    over: str = "step",
    log: bool = False,
    log_over: bool = False,
) -> hv.Overlay:
    """One training variable of several runs, each a line.

    Parameters
    ----------
    runs
        ``/training`` of each run, by name; runs without the variable are omitted.
    name
        A variable over ``step`` or ``evaluation_step``.
    over
        The quantity on the x axis: one of ``AXES``.
    log
        Whether the y axis is logarithmic.
    log_over
        Whether the x axis is logarithmic: for runs of unlike length.
    """
    lines, label = [], name
    for (run, training), (colour, dash) in zip(runs.items(), cycle(RUN_STYLES), strict=False):
        if name not in training:
            continue
        label = _label(training[name])
        x, y = thinned(*compared(training, name, over), log=log_over)
        keep = np.isfinite(y) & ((y > 0.0) | (not log)) & ((x > 0.0) | (not log_over))
        line = hv.Curve((x[keep], y[keep]), "x", "y", label=run)
        lines.append(line.opts(color=colour, line_dash=dash, line_width=1.7))
    return framed(
        hv.Overlay(lines or [hv.Curve([], "x", "y")]),
        f"{name} over {AXES[over]}",
        AXES[over],
        label,
        legend="top",
        legend_cols=2,
        logx=log_over,
        logy=log,
        xformatter=NumeralTickFormatter(format="0,0.[0]a"),
    )


def compared(training: xr.Dataset, name: str, over: str) -> tuple[np.ndarray, np.ndarray]:
    """Both axes of a training variable; an evaluation has the position of the step before it.

    Evaluations before the first step are at 0.
    """
    values = training[name]
    if values.dims == ("step",):
        return training[over].values.astype(float), values.values.astype(float)
    steps = training["step"].values
    done = training["evaluation_step"].values
    if over == "step":
        return done.astype(float), values.values.astype(float)
    counted = np.concatenate([[0.0], training[over].values.astype(float)])
    return counted[np.searchsorted(steps, done, side="right")], values.values.astype(float)


def thinned(x: np.ndarray, y: np.ndarray, *, log: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Every n-th point of long curves, including the last one; for a log axis denser at first."""
    if log and len(x) > _MOST_POINTS:
        kept = np.unique(np.geomspace(1, len(x), _MOST_POINTS).round().astype(int)) - 1
        return x[kept], y[kept]
    every = -(-len(x) // _MOST_POINTS) if len(x) else 1
    shown = slice((len(x) - 1) % every, None, every) if len(x) else slice(None)
    return x[shown], y[shown]


def _curve(dataset: xr.Dataset, line: xr.DataArray, factor: float, unit: str) -> hv.Overlay:
    (dim,) = map(str, line.dims)
    place = place_of(dataset, dim)
    numbers = place is not None and place.dtype.kind in "fiu"
    x = place.values if place is not None and numbers else np.arange(line.size)
    x, y = thinned(x.astype(float), factor * line.values.astype(float))
    curve = hv.Curve((x, y), "x", "y").opts(color=BLUE, line_width=1.5)
    points = hv.Scatter((x, y), "x", "y").opts(color=BLUE, size=4 if len(x) < 200 else 0)
    along = _label(place) if place is not None and numbers else f"{dim} (index)"
    return framed(curve * points, f"{line.name} over {dim}", along, _label(line, unit))


def _image(image: xr.DataArray, range_: tuple[float, float], factor: float, unit: str) -> hv.Image:
    down, across = map(str, image.dims)
    return coloured(
        factor * image.values.astype(np.float32),
        _label(image, unit),
        f"{across} (index)",
        f"{down} (index)",
        unit=unit or "1",
        limits=range_,
        diverging=range_[0] < 0.0 < range_[1],
    )


def _units(array: xr.DataArray) -> str:
    units = str(array.attrs.get("units", ""))
    return "" if units == "1" else units


def _label(array: xr.DataArray, unit: str | None = None) -> str:
    """Long name (or name) with the unit in brackets, by default the variable's own."""
    text = str(array.attrs.get("long_name", "") or array.name)
    unit = _units(array) if unit is None else unit
    return f"{text} ({unit})" if unit else text
