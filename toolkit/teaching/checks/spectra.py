"""Exercises of notebook 04: what singular values say of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from toolkit.lowrank import stable_rank as true_stable_rank
from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Array: TypeAlias = npt.NDArray[np.float64]


@exercise("spectra.error")
def error(answer: float) -> str | Wrong:
    """Relative Frobenius error of the best rank 1, singular values 4, 2 and 1."""
    if close(answer, 5 / 21):
        return wrong("That is the share of the energy, a square. What is asked is a norm.")
    if close(answer, 3 / 7):
        return wrong("The Frobenius norm adds squares of singular values, not the values.")
    if close(answer, (16 / 21) ** 0.5) or close(answer, 16 / 21):
        return wrong("That is what rank 1 keeps. What does it leave out?")
    if close(answer, 0.5) or close(answer, 5**0.5):
        return wrong("Relative to the norm of the whole matrix: all three singular values.")
    if not close(answer, (5 / 21) ** 0.5, relative=1e-2):
        return wrong("Which singular values does rank 1 leave out? Compare their squares with all.")
    return "Three quarters of the energy, and still half the norm is missing."


@exercise("spectra.rank_for_energy")
def rank_for_energy(answer: Callable[[Array, float], int]) -> str | Wrong:
    """Fewest directions that hold a share of the energy."""
    cases = [((4.0, 2.0, 1.0), 0.9), ((4.0, 2.0, 1.0), 0.5), ((3.0, 3.0, 3.0, 3.0), 0.7)]
    expected = [2, 1, 3]
    found = [answer(np.array(values), share) for values, share in cases]
    if found == [count - 1 for count in expected]:
        return wrong("One too few: an index counts from 0, directions from 1.")
    if found == [_count(values, share, power=1) for values, share in cases]:
        return wrong("Energy is the square of a singular value.")
    if found != expected:
        return wrong(
            f"For the values 4, 2, 1 the shares held are 16/21, 20/21 and 1: so {expected[0]} "
            f"directions for 90 %; yours says {found[0]}."
        )
    if answer(np.ones(10), 1.0) > 10:
        return wrong("All of the energy takes no more directions than there are.")
    return "The result depends on the share: always say which."


@exercise("spectra.stable_rank")
def stable_rank(answer: Callable[[Array], float]) -> str | Wrong:
    """Sum of squares over the largest square."""
    cases = [np.array([4.0, 2.0, 1.0]), np.full(5, 0.3), np.array([10.0, 0.1])]
    found = [float(answer(values)) for values in cases]
    if close(found, [values.sum() / values[0] for values in cases]):
        return wrong("Both norms are squared, so all the singular values are.")
    if close(found, [(values**2).sum() / values[0] for values in cases]):
        return wrong("The denominator is a squared norm, too.")
    if close(found, [np.sqrt((values**2).sum()) / values[0] for values in cases]):
        return wrong("That is the ratio of the norms: it is to be squared.")
    diagonal = [torch.diag(torch.from_numpy(values)) for values in cases]
    if not close(found, [true_stable_rank(d, torch.eye(len(d), dtype=d.dtype)) for d in diagonal]):
        return wrong("For five equal singular values it is 5; for a single one it is 1.")
    return "Its inverse is the share of the energy that the first direction holds."


@exercise("spectra.last_layer")
def last_layer(answer: int) -> str | Wrong:
    """Largest rank of the last layer's gradient: 10 classes, 65 inputs, batch 64."""
    if answer == 10:
        return wrong("Add the 10 columns of D: what comes out, and what does that say of them?")
    if answer in (64, 65):
        return wrong(
            "The rank is at most the smallest of batch, outputs and inputs; and then some."
        )
    if answer != 9:
        return wrong("Every row of D sums to the same number. Which, and what does it cost?")
    return "A rank of 10 in this layer always leaves one sigma at the level of rounding."


def _count(values: Sequence[float], share: float, *, power: int) -> int:
    energies = np.array(values) ** power
    return int(np.searchsorted(np.cumsum(energies) / energies.sum(), share)) + 1
