"""Exercises of notebook 15: where factors pay, what a block buffers, how long a chip lives."""

from __future__ import annotations

import numpy as np

from toolkit.lowrank import SBPCA
from toolkit.teaching.exercises import Function, Wrong, exercise, judge, outputs


@exercise("budget.largest_rank")
def largest_rank(answer: Function) -> str | Wrong:
    """Largest rank at which SBPCA keeps fewer numbers than m n, a function of (m, n); or 0."""
    cases = [(128, 65), (6, 26), (512, 4609), (10, 85), (2, 3)]
    m, n = np.array(cases).T
    right = [_largest_rank(*case) for case in cases]
    return judge(
        outputs(answer, cases),
        (right, "Per output it is n / (m + n) of m: a small layer saves at small ranks only."),
        (m * n / (m + n + 1), "A rank is a whole number."),
        (m * n // (m + n + 1), "Nearly: at equality nothing is saved. Try 2 x 3."),
        (m * n // (m + n), "The k singular values are kept, too."),
        (np.minimum(m, n), "That is how large a rank can be, not where it stops to pay."),
        otherwise="Set k (m + n + 1) < m n and round to the safe side.",
    )


def _largest_rank(m: int, n: int) -> int:
    return sum(SBPCA(rank=k).words(m, n) < m * n for k in range(1, min(m, n) + 1))


@exercise("budget.buffered")
def buffered(answer: Function) -> str | Wrong:
    """Numbers that a block of b pictures buffers, a function of (m, n, positions, b)."""
    cases = [(16, 27, 1024, 8), (64, 576, 64, 1), (10, 1025, 1, 32)]
    m, n, positions, b = np.array(cases).T
    right = [SBPCA(block_size=b * p).buffer_words(m, n, b * p) for m, n, p, b in cases]
    return judge(
        outputs(answer, cases),
        (right, "A convolution's patches overlap: they hold each pixel several times."),
        (b * (m + n), "A picture makes one sample for each position of the output."),
        (b * positions * n, "The errors of the outputs wait there, too."),
        (b * positions * m * n, "Factors, not products: a row of errors and one of activations."),
        (b * positions * (m + n + 1), "The singular values are kept, not buffered."),
        otherwise="A sample is m errors and n activations. How many samples has a block?",
    )


@exercise("budget.memory_ratio")
def memory_ratio(answer: float) -> str | Wrong:
    """How many times fewer kept words a block moves: 512 x 4609, rank 4, against m n."""
    right = 512 * 4609 / SBPCA(rank=4).words(512, 4609)
    return judge(
        answer,
        (right, "Both are read and written once a block, so the number of blocks cancels."),
        (1 / right, "How many times fewer: a number above 1."),
        (right / 2, 2 * right, "Both are read and written: the factor 2 is in both."),
        (512 * 4609 / (4 * (512 + 4609)), "The k singular values are moved, too."),
        (512 * 4609 / (512 + 4609 + 1), "That is rank 1."),
        otherwise="Divide m n by k (m + n + 1).",
        relative=2e-3,
    )


@exercise("budget.trainings")
def trainings(answer: Function) -> str | Wrong:
    """Trainings that the busiest cell lives (endurance, pulses, busiest, samples, batch)."""
    cases = [
        (1e9, 0.02, 10.0, 1e6, 64.0),
        (1e6, 0.3, 4.0, 6e4, 16.0),
        (1e12, 0.001, 50.0, 1e9, 1.0),
    ]
    endurance, pulses, busiest, samples, batch = np.array(cases).T
    right = endurance / (pulses * busiest * samples / batch)
    return judge(
        outputs(answer, cases),
        (
            right,
            "The mean cell would live `busiest` times as long, but the chip fails with the first.",
        ),
        (endurance / (pulses * samples / batch), "That is the mean cell. Which one fails first?"),
        (endurance / (pulses * busiest * samples), "Pulses are per batch. How many batches?"),
        (1 / right, "Trainings per endurance, not the other way round."),
        (right / busiest**2, "The busiest cell gets more pulses than the mean one."),
        otherwise="Pulses of the busiest cell per batch, times batches, against its endurance.",
    )
