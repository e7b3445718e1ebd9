"""Whether the errors that a fit prints are right: draws of trains by a rule of our own.

Each cell rises and falls along an exponential of its own curvature, drawn about a mean one, between
common ends; readings have noise. No simulator of the toolkit draws. Each draw is fitted, and the
mean cell's curve is compared with the band that ``Fit.band`` gives it: 19 of 20 should be inside,
from the first pulse to the last.

    python -m benchmarks.fit_errors
    python -m benchmarks.fit_errors --draws 100 --cells 4
"""

from __future__ import annotations

import argparse

import numpy as np

from toolkit.fitting import PulseTrains, fit_device

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


def measured(cells: int, apart: float, noise: float, draws: int) -> tuple[int, float, float]:
    """Draws with the whole true curve in the band; mean band and mean gap over the range."""
    truth, bands, gaps, inside = curve(BENDS), [], [], 0
    for seed in range(draws):
        fit = fit_device(trains(cells, apart, noise, seed), conductance_range=(LOW, HIGH))
        found, band = fit.band(UP, DOWN)
        gap = np.abs(found - truth)
        inside += bool((gap <= band + 1e-9 * HIGH).all())
        bands.append(band.mean())
        gaps.append(gap.mean())
    return inside, float(np.mean(bands)) / (HIGH - LOW), float(np.mean(gaps)) / (HIGH - LOW)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 4, 20])
    options = parser.parse_args()
    print(f"{'cells':>6} {'apart':>6} {'noise':>6} {'inside':>8} {'band':>8} {'gap':>8}")
    for cells in options.cells:
        for apart in (0.0, 0.3) if cells > 1 else (0.0,):
            for noise in (0.003, 0.01):
                inside, band, gap = measured(cells, apart, noise, options.draws)
                text = f"{inside}/{options.draws}"
                print(
                    f"{cells:>6} {apart:>6} {noise:>6} {text:>8} {band:>8.3%} {gap:>8.3%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
