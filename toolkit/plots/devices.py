"""Figures of device responses: potentiation and depression, cycling, and the fit to measurements.

The numbers come from :mod:`toolkit.crossbar.trains` and :mod:`toolkit.fitting`. The ``*_columns``
functions return the next data of a :class:`toolkit.plots.live.LiveFigure` of the same element,
glyph after glyph.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, product
from typing import Any

import holoviews as hv
import numpy as np

from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.trains import Floats, Trains, nominal
from toolkit.fitting import Fit, PulseTrains
from toolkit.plots.elements import BLUE, GREY, ORANGE, framed, siemens_prefix

_POINTS = 200
# Okabe and Ito's colours except that of the explored device; dashes distinguish repeated colours
_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7f7f7f")
_DASHES = ("solid", "dashed", "dotted", "dashdot")
STYLES = tuple((colour, dash) for dash, colour in product(_DASHES, _COLOURS))
SCALES = ("share of the range", "siemens")
_LEVELS = "pulses / levels (0 to 1: potentiation, 1 to 2: depression)"
_STATE = "(G − G_min) / (G_max − G_min)"
_ALONE = 3  # cells shown one by one
_SHADES = ("#666666", "#8a8a8a", "#ababab")
_MOST_READINGS = 4000

Columns = list[dict[str, Floats]]


def response_curves(traces: Mapping[str, tuple[int, int, np.ndarray]]) -> hv.NdOverlay:
    """State of each device through all pulses up, then all pulses down.

    Parameters
    ----------
    traces
        By name: pulses up, pulses down, and the states (up + down + 1,),
        ``(G - g_min) / (g_max - g_min)``, as ``Device.trace`` returns them. The x axis counts
        pulses in units of ``up`` and ``down``: 0 to 1 is potentiation, 1 to 2 depression.
    """
    curves = {name: _curve(*trace) for name, trace in traces.items()}
    every = hv.NdOverlay(curves, kdims="device", sort=False)
    every = every.opts(hv.opts.Curve(color=hv.Cycle("Category20"), line_width=1.5))
    return framed(
        every, "Device responses, noiseless", _LEVELS, _STATE, height=560, legend_position="right"
    )


def _curve(up: int, down: int, state: np.ndarray) -> hv.Curve:
    pulses = np.concatenate([np.arange(up + 1) / up, 1 + np.arange(1, down + 1) / down])
    shown = np.unique(np.linspace(0, up + down, min(up + down + 1, _POINTS)).round().astype(int))
    return hv.Curve((pulses[shown], state[shown]), "pulses", "state")


def response_bands(
    bands: Mapping[str, tuple[Device, Trains]], scale: str = SCALES[0]
) -> hv.Overlay:
    """Mean and band of ± one standard deviation of cells, all levels up and then all down.

    The first device is the explored one and is drawn thicker. Diamonds mark where a mean passes the
    symmetry point on its way up and on its way down.

    Parameters
    ----------
    bands
        By name: the device and its cells from ``crossbar.trains.up_and_down``.
    scale
        "share of the range" (linear) or "siemens" (logarithmic).
    """
    elements, styles = [], cycle(STYLES)
    for number, (name, (device, trains)) in enumerate(bands.items()):
        colour, dash = (BLUE, "solid") if number == 0 else next(styles)
        band, mean, marks = response_columns(device, trains, scale)
        half = len(band["x"]) // 2
        low, high = band["y"][:half], band["y"][half:][::-1]
        thick = 3.0 if number == 0 else 1.6
        elements += [
            hv.Area((mean["x"], low, high), "x", ["low", "high"]).opts(
                color=colour, alpha=0.22 if number == 0 else 0.12, line_alpha=0
            ),
            hv.Curve((mean["x"], mean["y"]), "x", "y", label=name).opts(
                color=colour, line_dash=dash, line_width=thick
            ),
            hv.Scatter((marks["x"], marks["y"]), "x", "y").opts(
                color=colour, marker="diamond", size=11, line_color="white"
            ),
        ]
    siemens = scale == "siemens"
    return framed(
        hv.Overlay(elements),
        "Potentiation and depression",
        _LEVELS,
        "conductance G (µS)" if siemens else _STATE,
        legend="bottom_right" if siemens else "top_left",
        logy=siemens,
    )


def response_columns(device: Device, trains: Trains, scale: str = SCALES[0]) -> Columns:
    """Band, mean and symmetry marks of one device, as :func:`response_bands` draws them."""
    device.check_pulsed()
    up = round(device.levels_up)
    x = np.minimum(trains.pulses / up, 1.0) + np.maximum(trains.pulses - up, 0.0) / round(
        device.levels_down
    )
    low, high = trains.mean - trains.deviation, trains.mean + trains.deviation
    point = device.symmetry_point()
    marks_x = np.zeros(0) if point is None else _crossings(x, trains.mean, point)
    marks_y = np.full(len(marks_x), 0.0 if point is None else point)
    shown = [_scaled(device, values, scale) for values in (low, high, trains.mean, marks_y)]
    return [band_columns(x, shown[0], shown[1]), _xy(x, shown[2]), _xy(marks_x, shown[3])]


def cycling(device: Device, trains: Trains) -> hv.Overlay:
    """Cells under repeated cycles: mean and band, three of the cells, and the symmetry point."""
    band, mean, *alone, point = cycling_columns(device, trains)
    half = len(band["x"]) // 2
    area = hv.Area(
        (mean["x"], band["y"][:half], band["y"][half:][::-1]), "x", ["low", "high"]
    ).opts(color=BLUE, alpha=0.22, line_alpha=0)
    cells = [
        hv.Curve((one["x"], one["y"]), "x", "y", label=label).opts(color=shade, line_width=1)
        for one, shade, label in zip(alone, _SHADES, ("single cells", "", ""), strict=True)
    ]
    curve = hv.Curve((mean["x"], mean["y"]), "x", "y", label="mean of all cells").opts(
        color=BLUE, line_width=2.5
    )
    line = hv.HLines(point["y"]).opts(color=GREY, line_dash="dashed", line_width=1.5)
    every = hv.Overlay([area, curve, *cells, line])
    return framed(every, "Repeated cycles", "pulses given", _STATE, legend="top")


def cycling_columns(device: Device, trains: Trains) -> Columns:
    """Band, mean, single cells and symmetry point, as :func:`cycling` draws them."""
    x, mean, deviation = trains.pulses, trains.mean, trains.deviation
    point = device.symmetry_point()
    return [
        band_columns(x, mean - deviation, mean + deviation),
        _xy(x, mean),
        *(_xy(x, trains.readings[:, cell]) for cell in range(_ALONE)),
        {"y": np.array([] if point is None else [point])},
    ]


def fit_curve(trains: PulseTrains, fit: Fit) -> hv.Overlay:
    """Readings over the pulse number in their train, and the fitted nominal cell."""
    factor, unit = siemens_prefix(fit.device.g_max)
    number = _number_in_train(trains.train)
    every = max(1, len(number) // _MOST_READINGS)
    measured = hv.Scatter(
        (number[::every], factor * trains.conductance[::every]), "pulse", "G", label="measured"
    ).opts(color=BLUE, size=3, alpha=0.4)
    predicted = factor * _longest_train(trains, number, fit.device)
    curve = hv.Curve((np.arange(len(predicted)), predicted), "pulse", "G", label="fitted").opts(
        color=ORANGE, line_width=2.5
    )
    labels = "Measured and fitted", "pulse of the train", f"conductance G ({unit})"
    return framed(measured * curve, *labels, legend="top_right")


def fit_residuals(fit: Fit) -> hv.Overlay:
    """Measured minus predicted conductance after each step, percent of the range; ± rms dashed."""
    percent = 100.0 * fit.residuals / fit.device.span
    every = max(1, len(percent) // _MOST_READINGS)
    points = hv.Scatter((np.arange(len(percent))[::every], percent[::every]), "step", "residual")
    rms = 100.0 * fit.rms
    lines = hv.HLines(np.array([-rms, rms])).opts(color=GREY, line_dash="dashed", line_width=1.5)
    shown = points.opts(color=BLUE, size=3, alpha=0.5) * lines
    labels = "Residuals", "step used in the fit", "residual (% of the range)"
    return framed(shown, *labels, show_legend=False)


def line_drive(drive: Floats, *, rows: bool, label: str) -> hv.Rectangles:
    """Signed drive of each line as a bar; rows are horizontal, row 0 on top."""
    bars = drive_columns(drive, rows=rows)
    corners, ends = ["left", "bottom", "right", "top"], (0, len(drive))
    every = hv.Rectangles(tuple(bars[corner] for corner in corners), corners)
    every = every.opts(color=ORANGE, line_alpha=0)
    if rows:
        return framed(every, "Rows", label, "output (row)", ylim=ends, invert_yaxis=True)
    return framed(every, "Columns", "input (column)", label, xlim=ends)


def drive_columns(drive: Floats, *, rows: bool) -> dict[str, Floats]:
    """The bars of :func:`line_drive`."""
    place: Floats = np.arange(len(drive), dtype=np.float64)
    start: Floats = place + 0.1
    end: Floats = place + 0.9
    nothing: Floats = np.zeros(len(drive))
    sides = (nothing, drive, start, end) if rows else (start, end, nothing, drive)
    return dict(zip(("left", "right", "bottom", "top"), sides, strict=True))


def band_columns(x: Floats, low: Floats, high: Floats) -> dict[str, Floats]:
    """The outline of a band as one patch: forwards along ``low``, back along ``high``."""
    return _xy(np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]]))


def _scaled(device: Device, state: Floats, scale: str) -> Floats:
    if scale != "siemens":
        return state
    return 1e6 * np.maximum(device.g_min + device.span * state, device.g_min / 10.0)  # log axis


def _crossings(x: Floats, state: Floats, level: float) -> Floats:
    """Where the line through the points first passes ``level`` upwards, and first downwards."""
    above = state >= level
    changes = np.diff(above.astype(int))
    start = np.array([np.argmax(changes == sign) for sign in (1, -1) if (changes == sign).any()])
    start = start.astype(int)
    share = (level - state[start]) / (state[start + 1] - state[start])
    return x[start] + share * (x[start + 1] - x[start])


def _number_in_train(train: np.ndarray) -> Any:
    """Index of every reading in its train, counted from 0."""
    starts = np.flatnonzero(np.diff(train, prepend=-1))
    return np.arange(len(train)) - starts[train]


def _longest_train(trains: PulseTrains, number: np.ndarray, device: Device) -> Floats:
    """Conductance (S) of a nominal cell under the longest train, from its typical start."""
    longest = trains.train[int(number.argmax())]
    mine = trains.train == longest
    begin = float(trains.conductance[mine][0] - device.g_min) / device.span
    states = nominal(device, trains.polarity[mine][1:].tolist(), min(max(begin, 0.0), 1.0))
    return device.g_min + device.span * states


def _xy(x: Floats, y: Floats) -> dict[str, Floats]:
    return {"x": x, "y": y}
