"""Exercises of notebook 04: what singular values say about a matrix."""

from __future__ import annotations

import numpy as np
import torch

from toolkit.lowrank import stable_rank as true_stable_rank
from toolkit.teaching.exercises import Array, Function, Wrong, exercise, judge, outputs, wrong


@exercise("spectra.error")
def error(answer: float) -> str | Wrong:
    """Relative Frobenius error of the best rank 1, singular values 4, 2 and 1."""
    return judge(
        answer,
        ((5 / 21) ** 0.5, "Three quarters of the energy, and still half the norm is missing."),
        (5 / 21, "That is a share of the energy, a square. You need a ratio of norms."),
        (3 / 7, "The Frobenius norm adds squares of singular values, not the values."),
        ((16 / 21) ** 0.5, 16 / 21, "That is what rank 1 keeps. What does it leave out?"),
        (0.5, 5**0.5, "Relative to the norm of the whole matrix: all three singular values."),
        otherwise="Which singular values does rank 1 leave out? Compare their squares with all.",
        relative=1e-2,
    )


@exercise("spectra.rank_for_energy")
def rank_for_energy(answer: Function) -> str | Wrong:
    """Fewest directions that hold a share of the energy."""
    cases = [((4.0, 2.0, 1.0), 0.9), ((4.0, 2.0, 1.0), 0.5), ((3.0, 3.0, 3.0, 3.0), 0.7)]
    arrays = [(np.array(values), share) for values, share in cases]
    expected, found = np.array([2, 1, 3]), outputs(answer, arrays)
    if outputs(answer, [(np.ones(10), 1.0)])[0] > 10:
        return wrong("All of the energy takes no more directions than there are.")
    return judge(
        found,
        (expected, "The result depends on the share: always say which."),
        (expected - 1, "One too few: an index counts from 0, directions from 1."),
        ([_count(*case, power=1) for case in arrays], "Energy is the square of a singular value."),
        otherwise="For the values 4, 2, 1 the shares held are 16/21, 20/21 and 1: so 2 directions "
        f"for 90 %; yours says {found[0]:g}.",
    )


@exercise("spectra.stable_rank")
def stable_rank(answer: Function) -> str | Wrong:
    """Sum of squares over the largest square."""
    cases = [np.array([4.0, 2.0, 1.0]), np.full(5, 0.3), np.array([10.0, 0.1])]
    diagonal = [torch.diag(torch.from_numpy(values)) for values in cases]
    expected = [true_stable_rank(d, torch.eye(len(d), dtype=d.dtype)) for d in diagonal]
    undivided = [(values**2).sum() / values[0] for values in cases]
    return judge(
        outputs(answer, [(values,) for values in cases]),
        (expected, "Its inverse is the share of the energy that the first direction holds."),
        (
            [v.sum() / v[0] for v in cases],
            "Both norms are squared, so all the singular values are.",
        ),
        (undivided, "The denominator is a squared norm, too."),
        (np.sqrt(expected), "That is the ratio of the norms: square it."),
        otherwise="For five equal singular values it is 5; for a single one it is 1.",
    )


@exercise("spectra.last_layer")
def last_layer(answer: int) -> str | Wrong:
    """Largest rank of the last layer's gradient: 10 classes, 65 inputs, batch 64."""
    return judge(
        answer,
        (9, "A rank of 10 in this layer always leaves one sigma at the level of rounding."),
        (10, "Add the 10 columns of D: what comes out, and what does that say about them?"),
        (64, 65, "The rank is at most the smallest of batch, outputs and inputs, or even less."),
        otherwise="Every row of D sums to the same number. Which, and what does it cost?",
    )


def _count(values: Array, share: float, *, power: int) -> int:
    energies = values**power
    return int(np.searchsorted(np.cumsum(energies) / energies.sum(), share)) + 1
