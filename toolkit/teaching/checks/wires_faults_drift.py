"""Exercises of notebook 12: the worst cell of an array, stuck weights, drift, endurance."""

from __future__ import annotations

import numpy as np

from toolkit.teaching.exercises import Function, Wrong, exercise, judge, outputs


@exercise("wires_faults_drift.farthest")
def farthest(answer: Function) -> str | Wrong:
    """Current at 1 V through the one closed cell farthest from both terminals."""
    cases = [(1e4, 2.0, 8, 8), (2e4, 1.0, 3, 2), (5e4, 10.0, 100, 30)]
    R, r, m, n = np.array(cases).T
    through = R + (m + n) * r
    return judge(
        outputs(answer, cases),
        (1 / through, "Wires and cell are in series: the cell loses (m + n) r / R of its current."),
        (1 / (through - 2 * r), "Each line has a segment before its first cell. Count again."),
        (1 / (R + 2 * r), "That cell suffers least. Which one is farthest from V and I?"),
        (1 / (R + m * r), 1 / (R + n * r), "That is one line. The current returns by the other."),
        (through, "That is the resistance of the whole path. What current flows at 1 V?"),
        (R / through, "That is the voltage across the cell. What current does it drive?"),
        otherwise="Follow the current down the first column and along the last row of the drawing.",
    )


@exercise("wires_faults_drift.weights_hit")
def weights_hit(answer: Function) -> str | Wrong:
    """Share of pairs with a stuck cell, ``1 - (1 - p)^2``."""
    p = np.array([0.0, 0.05, 0.3, 1.0])
    return judge(
        outputs(answer, zip(p, strict=True)),
        (1 - (1 - p) ** 2, "Nearly twice p where p is small: a pair doubles the risk."),
        (2 * p, "Nearly, for small p. What does it say at p = 1? Which pairs count twice?"),
        (p**2, "That is both cells stuck. One is enough."),
        (p, "That is the share of cells. A weight has two of them."),
        ((1 - p) ** 2, "Those are the weights without a stuck cell."),
        otherwise="Which share of the pairs has no stuck cell at all? Begin there.",
    )


@exercise("wires_faults_drift.seconds_until")
def seconds_until(answer: Function) -> str | Wrong:
    """``t0 (share^(-1/nu) - 1)``."""
    cases = [(0.9, 0.05, 20.0), (0.5, 0.1, 20.0), (0.8, 0.2, 1.0)]
    share, nu, t0 = np.array(cases).T
    ratio = share ** (-1 / nu)
    slower = "At ν = 0.05: 90 % after {:.1f} minutes, 80 % after {:.0f}. It slows down."
    return judge(
        outputs(answer, cases),
        (t0 * (ratio - 1), slower.format(*((s**-20 - 1) / 3 for s in (0.9, 0.8)))),
        (t0 * ratio, "Put in share = 1: it should take no time at all. What is missing?"),
        (t0 * (1 / ratio - 1), "Negative times: look at the sign of the exponent."),
        (t0 * (share**-nu - 1), "To undo a power of ν, which power do you take?"),
        otherwise="Set (1 + t/t0) to the power −ν equal to the share, and solve for t.",
    )


@exercise("wires_faults_drift.epochs_left")
def epochs_left(answer: Function) -> str | Wrong:
    """Epochs until the busiest cell reaches its endurance, less those already done."""
    count = np.random.default_rng(0).integers(0, 90, size=(2, 4, 5))
    count[1, 2, 3] = 100
    cases = [(count, 4, 1000.0), (count, 10, 300.0)]
    done, endurance = np.array([case[1:] for case in cases]).T
    total = endurance * done / 100
    average, once = total * 100 / count.mean() - done, endurance / 100
    return judge(
        outputs(answer, cases),
        (total - done, "The busiest cell decides; if endurance varies, some die long before."),
        (total, "That counts from the very beginning. How many more?"),
        (average, "That is when the average cell dies. Which one is the first?"),
        (once, once - 1, "The counts are of several epochs. How many pulses is it in one?"),
        (endurance - 100, "Those are pulses. How many epochs do they last?"),
        otherwise="Which cell dies first? How many pulses has it left, and uses in an epoch?",
    )
