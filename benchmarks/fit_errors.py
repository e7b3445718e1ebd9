"""Whether the errors that a fit prints are right: draws of trains by a rule of our own.

Each cell rises and falls along an exponential of its own curvature, drawn about a mean one, between
common ends; readings have noise. No simulator of the toolkit draws. Each draw is fitted, and the
mean cell's curve is compared with the fitted one, whose standard deviation at each pulse follows
from the printed errors: ``s^2 = sum (dG / dp)^2 s_p^2``.

    python -m benchmarks.fit_errors
    python -m benchmarks.fit_errors --draws 100 --cells 4
"""

from __future__ import annotations

import argparse

import numpy as np

from toolkit.crossbar import Device
from toolkit.fitting import Fit, PulseTrains, fit_device

LOW, HIGH = 1e-6, 1e-5
UP, DOWN = 60, 40
BENDS = (2.5, 1.5)  # curvature of the mean cell: up, down
CYCLES = 3


def curve(bends: tuple[float, float], ends: tuple[float, float] = (LOW, HIGH)) -> np.ndarray:
    """Siemens of a cell before and after each pulse of a cycle that crosses the range twice."""
    up, down = (
        (1.0 - np.exp(-bend * np.arange(count + 1) / count)) / (1.0 - np.exp(-bend))
        for bend, count in zip(bends, (UP, DOWN), strict=True)
    )
    state = np.concatenate([up, 1.0 - down[1:]])
    return ends[0] + (ends[1] - ends[0]) * state


def trains(cells: int, apart: float, noise: float, seed: int) -> PulseTrains:
    """One draw: curvatures spread by ``apart``, readings by ``noise`` of themselves."""
    rng = np.random.default_rng(seed)
    sign = np.concatenate([[0], np.ones(UP), -np.ones(DOWN)])
    columns = []
    for cell in range(cells):
        mine = curve((BENDS[0] + apart * rng.normal(), BENDS[1] + apart * rng.normal()))
        for cycle in range(CYCLES):
            readings = mine * (1.0 + noise * rng.normal(size=len(mine)))
            places = np.full(len(sign), cell), np.full(len(sign), cycle), np.arange(len(sign))
            columns.append(np.stack([*places, sign, readings]))
    names = ("cell", "cycle", "pulse", "polarity", "conductance")
    table = dict(zip(names, np.concatenate(columns, axis=1).tolist(), strict=True))
    return PulseTrains.from_table(table)


def fitted_curve(values: dict[str, float]) -> np.ndarray:
    """The curve of a device with these parameters, over the pulses of :func:`curve`."""
    device = Device(name="fit", g_min=LOW, g_max=HIGH, **values)
    return LOW + device.span * device.trace(up=UP, down=DOWN).numpy()


def band(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """The fitted curve and its standard deviation from the printed errors."""
    values = {key: value for key, value in fit.parameters.items() if key in _SHAPE}
    middle, square = fitted_curve(values), 0.0
    for key, value in values.items():
        change = 1e-4 * max(abs(value), 1.0)
        slope = (fitted_curve(values | {key: value + change}) - middle) / change
        square = square + np.square(slope * fit.errors[key])
    return middle, np.sqrt(square)


_SHAPE = ("levels_up", "levels_down", "nonlinearity_up", "nonlinearity_down")


def measured(cells: int, apart: float, noise: float, draws: int) -> tuple[int, float, float]:
    """Draws whose mean curve is within two deviations; ratio of stated to observed error; rms."""
    truth, offs, stated, inside = curve(BENDS), [], [], 0
    for seed in range(draws):
        fit = fit_device(trains(cells, apart, noise, seed), conductance_range=(LOW, HIGH))
        middle, deviation = band(fit)
        off = (middle - truth)[1:]
        worst = np.abs(off) / np.maximum(deviation[1:], 1e-3 * np.abs(HIGH - LOW))
        inside += bool((worst <= 2.0).all())
        offs.append(off)
        stated.append(deviation[1:])
    observed = np.sqrt(np.square(offs).mean(axis=0))
    ratio = float(np.sqrt(np.square(stated).mean(axis=0)).mean() / observed.mean())
    return inside, ratio, float(observed.mean() / (HIGH - LOW))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 4, 20])
    options = parser.parse_args()
    print(
        f"{'cells':>6} {'apart':>6} {'noise':>6} {'inside':>8} {'stated/observed':>16} {'rms':>7}"
    )
    for cells in options.cells:
        for apart in (0.0, 0.3) if cells > 1 else (0.0,):
            for noise in (0.003, 0.01):
                inside, ratio, error = measured(cells, apart, noise, options.draws)
                text = f"{inside}/{options.draws}"
                print(
                    f"{cells:>6} {apart:>6} {noise:>6} {text:>8} {ratio:>16.2f}"
                    f" {100 * error:>6.2f}%"
                )


if __name__ == "__main__":
    main()
