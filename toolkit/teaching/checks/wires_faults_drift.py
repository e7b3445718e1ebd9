"""Exercises of notebook 12: the worst cell of an array, stuck weights, drift, endurance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Numbers = Callable[..., float]


@exercise("wires_faults_drift.farthest")
def farthest(answer: Numbers) -> str | Wrong:
    """Current at 1 V through the one closed cell farthest from both terminals."""
    cases = [(1e4, 2.0, 8, 8), (2e4, 1.0, 3, 2), (5e4, 10.0, 100, 30)]
    found = [float(answer(*case)) for case in cases]

    def currents(segments: Sequence[float]) -> list[float]:
        return [1 / (R + k * r) for (R, r, _, _), k in zip(cases, segments, strict=True)]

    both = [m + n for _, _, m, n in cases]
    if close(found, currents(both), relative=1e-9):
        return "Wires and cell are in series: this one cell loses (m + n) r / R of its current."
    if close(found, currents([k - 2 for k in both]), relative=1e-9):
        return wrong("Each line begins with a segment before its first cell. Count them again.")
    if close(found, currents([2] * len(cases)), relative=1e-9):
        return wrong("That is the cell which suffers least. Which one is farthest from V and I?")
    if any(close(found, currents([case[i] for case in cases]), relative=1e-9) for i in (2, 3)):
        return wrong("That is the way along one line. The current goes back along the other.")
    if close(found, [R + (m + n) * r for R, r, m, n in cases]):
        return wrong("That is the resistance of the whole way. What current flows at 1 V?")
    return wrong("Follow the current in the drawing to the top right cell and down: m = 3, n = 2.")


@exercise("wires_faults_drift.weights_hit")
def weights_hit(answer: Numbers) -> str | Wrong:
    """Share of pairs with a stuck cell, ``1 - (1 - p)^2``."""
    cases = np.array([0.0, 0.05, 0.3, 1.0])
    found = [float(answer(p)) for p in cases]
    if close(found, 1 - (1 - cases) ** 2):
        return "Nearly twice p where p is small: a pair doubles the risk."
    if close(found, 2 * cases):
        return wrong("Nearly, for small p. What does it say at p = 1? Which pairs count twice?")
    if close(found, cases**2):
        return wrong("That is both cells stuck. One is enough.")
    if close(found, cases):
        return wrong("That is the share of cells. A weight has two of them.")
    if close(found, (1 - cases) ** 2):
        return wrong("Those are the weights without a stuck cell.")
    return wrong("Which share of the pairs has no stuck cell at all? Begin there.")


@exercise("wires_faults_drift.seconds_until")
def seconds_until(answer: Numbers) -> str | Wrong:
    """``t0 (share^(-1/nu) - 1)``."""
    cases = [(0.9, 0.05, 20.0), (0.5, 0.1, 20.0), (0.8, 0.2, 1.0)]
    found = [float(answer(*case)) for case in cases]
    right = [t0 * (share ** (-1 / nu) - 1) for share, nu, t0 in cases]
    if close(found, right, relative=1e-9):
        first, second = (20.0 * (share ** (-1 / 0.05) - 1) / 60 for share in (0.9, 0.8))
        return f"At ν = 0.05: 90 % after {first:.1f} minutes, 80 % after {second:.0f}. It slows."
    if close(found, [t0 * share ** (-1 / nu) for share, nu, t0 in cases], relative=1e-9):
        return wrong("Put share = 1 in: it should take no time at all. What is missing?")
    if close(found, [t0 * (share ** (1 / nu) - 1) for share, nu, t0 in cases], relative=1e-9):
        return wrong("Negative times: look at the sign of the exponent.")
    if close(found, [t0 * (share**-nu - 1) for share, nu, t0 in cases], relative=1e-9):
        return wrong("To undo a power of ν, which power do you take?")
    return wrong("Set (1 + t/t0) to the power −ν equal to the share, and solve for t.")


@exercise("wires_faults_drift.epochs_left")
def epochs_left(answer: Callable[[Any, int, float], float]) -> str | Wrong:
    """Epochs until the busiest cell has had its pulses, less those that are done."""
    count = np.random.default_rng(0).integers(0, 90, size=(2, 4, 5))
    count[1, 2, 3] = 100
    cases = [(count, 4, 1000.0), (count, 10, 300.0)]
    found = [float(answer(*case)) for case in cases]
    total = np.array([E * epochs / pulses.max() for pulses, epochs, E in cases])
    done = np.array([epochs for _, epochs, _ in cases])
    if close(found, total - done):
        return "The busiest cell decides; with a spread of endurance, some die long before."
    if close(found, total):
        return wrong("That counts from the very beginning. How many more?")
    if close(found, [E * epochs / p.mean() - epochs for p, epochs, E in cases]):
        return wrong("That is when the average cell dies. Which one is the first?")
    if close(found, [E / p.max() for p, _, E in cases]) or close(
        found, [E / p.max() - 1 for p, _, E in cases]
    ):
        return wrong("The counts are of several epochs. How many pulses is it in one?")
    if close(found, [(E - p.max()) for p, _, E in cases]):
        return wrong("Those are pulses. How many epochs do they last?")
    return wrong("Which cell dies first? How many pulses has it left, how many does an epoch take?")
