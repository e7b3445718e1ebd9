"""Exercises of notebook 05: power iteration, gaps, block sizes and running means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Array: TypeAlias = npt.NDArray[np.float64]


@exercise("streaming.power_step")
def power_step(answer: Callable[[Array, Array], Array]) -> str | Wrong:
    """One step of power iteration on G^T G, a function of (G, x)."""
    rng = np.random.default_rng(5)
    G, x = rng.normal(size=(4, 6)), rng.normal(size=6)
    found, pushed = np.asarray(answer(G, x)), G.T @ (G @ x)
    if found.shape == (4,):
        return wrong("You stopped half-way: G x lies on the side of the outputs, of length m.")
    if found.shape != (6,):
        return wrong(f"The result must have the shape of x, (6,) here; yours has {found.shape}.")
    if close(found, pushed):
        return wrong("The direction is right, the length is not 1 yet: it would soon overflow.")
    if close(np.linalg.norm(found), 1.0) and not close(found, pushed / np.linalg.norm(pushed)):
        return wrong("A unit vector, but not along G^T (G x).")
    if not close(found, pushed / np.linalg.norm(pushed)):
        return wrong("Divide by the Euclidean length of the new vector.")
    for _ in range(200):
        x = answer(G, x)
    first = np.linalg.svd(G)[2][0]
    return f"After 200 of your steps |x . X_1| = {abs(float(x @ first)):.6f}."


@exercise("streaming.rounds")
def rounds(answer: int) -> str | Wrong:
    """Whole rounds of bi-iteration for a factor of 1000 at r = 0.9."""
    if answer in (65, 66):
        return wrong("A round has two halves, and each multiplies by r.")
    if answer in (7, 4):
        return wrong("The factor is r in each half, not 1 - r. Take logarithms.")
    if answer in (21, 22, 14, 15):
        return wrong("Which logarithm? The same one for 1000 and for r.")
    if close(answer, 32) or (32 < answer < 33):
        return wrong("Not quite 1000 yet. Whole rounds.")
    if answer != 33:
        return wrong("Solve (r^2)^t = 1/1000 for t.")
    return "Five at r = 1/2, thirty-three at 0.9: the gap is everything."


@exercise("streaming.subspace_factor")
def subspace_factor(answer: float) -> str | Wrong:
    """Factor a round for the subspace of three columns, singular values 8, 4, 3.9, 1."""
    if close(answer, 1 / 3.9, relative=1e-2):
        return wrong("That is one half of a round.")
    if close(answer, (3.9 / 4) ** 2, relative=1e-2) or close(answer, 3.9 / 4, relative=1e-2):
        return wrong("4 and 3.9 are both inside the subspace. Which pair lies across its border?")
    if close(answer, (1 / 8) ** 2, relative=1e-2) or close(answer, (1 / 4) ** 2, relative=1e-2):
        return wrong("The slowest to leave decides: compare 1 with the weakest one inside.")
    if close(answer, 0.5**2, relative=1e-2):
        return wrong("That is how the first column settles. What is asked is all three.")
    if not close(answer, (1 / 3.9) ** 2, relative=2e-2):
        return wrong("Compare the weakest direction inside with the strongest one outside.")
    return "A digit a round or more, while the second column alone needs 45 rounds for one."


@exercise("streaming.floor")
def floor(answer: int) -> str | Wrong:
    """Block size for half of the angle that 64 samples leave."""
    if answer == 128:
        return wrong("The noise of a mean of b samples falls with the square root of b.")
    if answer in (32, 16):
        return wrong("A smaller block is noisier, not quieter.")
    if answer != 256:
        return wrong("Half of the angle is half of the noise. How does noise go with b?")
    return "Four times the block for half the angle: look for it in the table below."


@exercise("streaming.running_mean")
def running_mean(answer: Callable[[int], float]) -> str | Wrong:
    """Weight of block i, so that blocks 0 to i count alike."""
    weights = [float(answer(i)) for i in range(6)]
    shares = _shares(weights)
    if close(weights[0], 0.5):
        return wrong("Block 0 has no past to share with: what must its weight be?")
    if not close(weights[0], 1.0):
        return wrong("Begin with i = 0: the mean of one block is that block.")
    if close(weights[1:], np.ones(5)):
        return wrong("With w = 1 everything before the block is forgotten.")
    if not close(shares, np.full(6, 1 / 6)):
        told = ", ".join(f"{share:.2f}" for share in shares[:3])
        return wrong(f"After six blocks the first three would have the weights {told}, not 1/6.")
    return "The newest block counts less and less: that is what makes it quiet, and slow to turn."


def _shares(weights: list[float]) -> Array:
    """What each block counts in the end."""
    shares = np.zeros(len(weights))
    for i, w in enumerate(weights):
        shares *= 1 - w
        shares[i] += w
    return shares
