"""Exercises of notebook 05: power iteration, gaps, block sizes and running means."""

from __future__ import annotations

import numpy as np

from toolkit.teaching.exercises import (
    Array,
    Function,
    Wrong,
    close,
    exercise,
    judge,
    number,
    numbers,
    outputs,
    wrong,
)


@exercise("streaming.power_step")
def power_step(answer: Function) -> str | Wrong:
    """One step of power iteration on G^T G, a function of (G, x)."""
    rng = np.random.default_rng(5)
    G, x = rng.normal(size=(4, 6)), rng.normal(size=6)
    found, pushed = numbers(answer(G, x)), G.T @ (G @ x)
    if found.shape == (4,):
        return wrong("You stopped half-way: G x lies on the side of the outputs, of length m.")
    if found.shape != (6,):
        return wrong(f"The result must have the shape of x, (6,) here; yours has {found.shape}.")
    if close(found, pushed):
        return wrong("The direction is right, but the length is not 1 yet: it would soon overflow.")
    if not close(found, pushed / np.linalg.norm(pushed)):
        return wrong(
            "A unit vector, but not along G^T (G x)."
            if close(np.linalg.norm(found), 1.0)
            else "Divide by the Euclidean length of the new vector."
        )
    for _ in range(200):
        x = numbers(answer(G, x))
    first = np.linalg.svd(G)[2][0]
    return f"After 200 of your steps |x . X_1| = {abs(float(x @ first)):.6f}."


@exercise("streaming.rounds")
def rounds(answer: int) -> str | Wrong:
    """Whole rounds of bi-iteration for a factor of 1000 at r = 0.9."""
    if 32 < number(answer) < 33:
        return wrong("Not quite 1000 yet. Whole rounds.")
    return judge(
        answer,
        (33, "Five at r = 1/2, thirty-three at 0.9: the gap is everything."),
        (65, 66, "A round has two halves, and each multiplies by r."),
        (7, 4, "The factor is r in each half, not 1 - r. Take logarithms."),
        (21, 22, 14, 15, "Which logarithm? Use the same one for 1000 and for r."),
        (32, "Not quite 1000 yet. Whole rounds."),
        otherwise="Solve (r^2)^t = 1/1000 for t.",
    )


@exercise("streaming.subspace_factor")
def subspace_factor(answer: float) -> str | Wrong:
    """Factor a round for the subspace of three columns, singular values 8, 4, 3.9, 1."""
    inside, outside = (3.9 / 4, (3.9 / 4) ** 2), ((1 / 8) ** 2, (1 / 4) ** 2)
    return judge(
        answer,
        ((1 / 3.9) ** 2, "Over a digit a round; the second column alone takes 45 rounds for one."),
        (1 / 3.9, "That is one half of a round."),
        (*inside, "4 and 3.9 are both inside the subspace. Which pair lies across its border?"),
        (*outside, "The slowest to leave decides: compare 1 with the weakest one inside."),
        (0.5**2, "That is how fast the first column converges. The question is about all three."),
        otherwise="Compare the weakest direction inside with the strongest one outside.",
        relative=2e-2,
    )


@exercise("streaming.floor")
def floor(answer: int) -> str | Wrong:
    """Block size for half of the angle that 64 samples leave."""
    return judge(
        answer,
        (256, "Four times the block for half the angle: look for it in the table below."),
        (128, "The noise of a mean of b samples falls with the square root of b."),
        (32, 16, "A smaller block is noisier, not quieter."),
        otherwise="Half of the angle is half of the noise. How does noise go with b?",
    )


@exercise("streaming.running_mean")
def running_mean(answer: Function) -> str | Wrong:
    """Weight of block i, so that blocks 0 to i count alike."""
    weights = outputs(answer, [(i,) for i in range(6)])
    if close(weights[0], 0.5):
        return wrong("Block 0 has no past to share with: what must its weight be?")
    if not close(weights[0], 1.0):
        return wrong("Begin with i = 0: the mean of one block is that block.")
    if close(weights, np.ones(6)):
        return wrong("With w = 1 everything before the block is forgotten.")
    shares = _shares(weights)
    if not close(shares, np.full(6, 1 / 6)):
        told = ", ".join(f"{share:.2f}" for share in shares[:3])
        return wrong(f"After six blocks the first three would have the weights {told}, not 1/6.")
    return "The newest block counts less and less: that makes it quiet, and slow to turn."


def _shares(weights: Array) -> Array:
    """Return the weight of each block in the final mean."""
    shares = np.zeros(len(weights))
    for i, w in enumerate(weights):
        shares *= 1 - w
        shares[i] += w
    return shares
