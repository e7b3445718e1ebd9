"""Exercises of notebook 06: SBPCA's recursion, its memory of the past, its rate, its guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from toolkit.lowrank import SBPCA, LowRank
from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Array: TypeAlias = npt.NDArray[np.float64]
Step: TypeAlias = Callable[..., tuple[Array, Array, Array]]
BATCH, M, N, RANK = 12, 5, 7, 2


@exercise("sbpca.by_hand")
def by_hand(answer: tuple[float, float]) -> str | Wrong:
    """X after one step: Delta = X = (1, 0), sigma 2, w 1/2, d = (1, 1), a = (1, 4)."""
    x = np.asarray(answer, dtype=float)
    if x.shape != (2,):
        return wrong("X is one column of two numbers here: n = 2 and k = 1.")
    if close(x, (0.75, 1.0)):
        return wrong("The sum is right. What does qr do to a single column?")
    if _parallel(x, (1, 2)):
        return wrong("The block's part is too large: it is to be divided by something first.")
    if _parallel(x, (1, 4)):
        return wrong("That is what the block says alone. What weight has the past?")
    if _parallel(x, (3, 1)):
        return wrong("G^T Delta lies on the side of the activations. Did you compute G Delta?")
    if not close(x, (0.6, 0.8)):
        return wrong(
            "Begin with G^T Delta = a (d . Delta), then the weighted sum, then its length."
        )
    return "One sample has turned X by more than half a right angle: averaging is worth its cost."


@exercise("sbpca.block")
def block(answer: Step) -> str | Wrong:
    """One block of the recursion, by a function of (left, sigma, right, D, A, w, scale)."""
    state, errors, activations, w = _a_block()
    scale = 3.0
    left, sigma, right = answer(*state, errors, activations, w, scale)
    expected = _expected(w, errors * scale, activations)
    if np.shape(left) != (M, RANK) or np.shape(sigma) != (RANK,):
        return wrong(
            f"left must be (m, k) = ({M}, {RANK}) here and sigma (k,) = ({RANK},); yours are "
            f"{np.shape(left)} and {np.shape(sigma)}."
        )
    if not close(left.T @ left, np.eye(RANK)):
        return wrong("The columns of left are not orthonormal yet. What made those of right so?")
    if not close(right, expected[2]):
        return wrong("The first line was right as it stood: right has changed.")
    if not close(left, expected[0]):
        return wrong(_about_left(left, state, errors * scale, activations, w))
    if not close(sigma, expected[1]):
        return wrong(_about_sigma(sigma, state, expected, errors * scale, activations, w))
    return "To rounding, what `SBPCA` does with the same block."


@exercise("sbpca.past_weight")
def past_weight(answer: Callable[[int, int], float]) -> str | Wrong:
    """Weight of sigma from before a batch, as a function of (batch_size, block_size)."""
    cases = [(256, 32), (64, 64), (60, 10), (16, 1)]
    found = [answer(*case) for case in cases]
    blocks = np.array([batch / size for batch, size in cases])
    if close(found, 1 / blocks):
        return wrong("With B = b there is one block, and the past would be everything. Is it?")
    if close(found, 0.5**blocks):
        return wrong("The weight of the past is 1/2 for the first block only; then w falls.")
    if close(found, blocks / (blocks + 1)):
        return wrong("That is the weight of all the blocks together.")
    if not close(found, 1 / (blocks + 1)):
        return wrong("Write out the product of 1 - w_i for two blocks, then for three.")
    return "The whole past counts as one block."


@exercise("sbpca.contraction")
def contraction(answer: Callable[[float, float], float]) -> str | Wrong:
    """Factor by which a weaker direction dies away with a block, a function of (w, r)."""
    cases = np.array([(0.5, 0.5), (0.5, 0.9), (0.25, 0.8), (1.0, 0.6)])
    w, r = cases.T
    found = [float(answer(*case)) for case in cases]
    trace = 2 * (1 - w) + w**2 * r**2
    if close(found, 1 - w + w * r):
        return wrong("The second line of (3) uses the new x', which has (1 - w) x and w r y in it.")
    if close(found[-1:], [0.6]):
        return wrong("At w = 1 both sides are multiplied by r, one after the other. Do you use x'?")
    expected = trace / 2 + np.sqrt(np.maximum(trace**2 / 4 - (1 - w) ** 2, 0))
    if not close(found, expected):
        return wrong("At w = 1 it must be r squared, at w = 0 exactly 1. Look at the second row.")
    return "At w = 1/2 and r = 1/2 it is 0.711, where bi-iteration has 0.25: averaging is slow."


@exercise("sbpca.silent_block")
def silent_block(answer: Step) -> str | Wrong:
    """A block step that bears sigma = 0, and is otherwise the same as the published one."""
    state, errors, activations, w = _a_block()
    zeros = np.zeros_like(errors), np.zeros_like(activations)
    with np.errstate(all="ignore"):
        quiet = (state[0], np.zeros(RANK), state[2])
        after = answer(*quiet, errors, activations, w, 1.0)
        if not all(np.isfinite(part).all() for part in after):
            return wrong("With sigma = 0 and a block that has a gradient, something is not finite.")
        silent = answer(*state, *zeros, w, 1.0)
    if not close(silent[0], state[0], relative=1e-9):
        return wrong("A block without gradient must leave the directions where they are.")
    if not close(silent[1], (1 - w) * state[1]):
        return wrong("A block without gradient must shrink sigma by 1 - w, and no more.")
    expected = _expected(w, errors, activations)
    pairs = zip(answer(*state, errors, activations, w, 1.0), expected, strict=True)
    if not all(close(found, wanted) for found, wanted in pairs):
        return wrong("Where sigma is not 0 the step must be exactly the old one. Is it, for qr?")
    return "No division, no threshold, no case."


def _parallel(x: Array, other: tuple[float, float]) -> bool:
    return bool(abs(x[0] * other[1] - x[1] * other[0]) <= 1e-9 * np.linalg.norm(x))


def _a_block() -> tuple[tuple[Array, Array, Array], Array, Array, float]:
    """A state that SBPCA has after a batch, and a further block of errors and activations."""
    update, (errors, activations) = _first(), _batches()[1]
    left, sigma, right = (part.numpy() for part in (update.left, update.sigma, update.right))
    return (left, sigma, right), errors, activations, 1 / 3


def _batches() -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(6)
    mixing = rng.normal(size=(M, N))
    activations = [rng.normal(size=(BATCH, N)) for _ in range(2)]
    return [(a @ mixing.T + 0.3 * rng.normal(size=(BATCH, M)), a) for a in activations]


def _first() -> LowRank:
    return SBPCA(rank=RANK, block_size=BATCH).update(*map(torch.from_numpy, _batches()[0]))


def _expected(w: float, errors: Array, activations: Array) -> tuple[Array, Array, Array]:
    """What SBPCA makes of the block: its history is such that a single block has weight w."""
    estimator = SBPCA(rank=RANK, block_size=BATCH, history=(1 - w) / w)
    estimator.update(*map(torch.from_numpy, _batches()[0]))
    update = estimator.update(torch.from_numpy(errors), torch.from_numpy(activations))
    return update.left.numpy(), update.sigma.numpy(), update.right.numpy()


def _about_left(
    left: Array, state: tuple[Array, Array, Array], errors: Array, activations: Array, w: float
) -> str:
    old, sigma, right = state
    with_old = (1 - w) * old + w * errors.T @ (activations @ right) / sigma
    if close(_spanned(left), _spanned(with_old)):
        return "The second line needs the new X, the one that the first line has just made."
    undivided = (1 - w) * old + w * errors.T @ (activations @ _expected(w, errors, activations)[2])
    if close(_spanned(left), _spanned(undivided)):
        return "left is a mean of a unit vector and of something of the size of sigma. Mend that."
    return "left is the first line with the two sides exchanged. What takes the place of A.T @ D?"


def _about_sigma(
    sigma: Array,
    state: tuple[Array, Array, Array],
    expected: tuple[Array, Array, Array],
    errors: Array,
    activations: Array,
    w: float,
) -> str:
    new = np.sum((errors @ expected[0]) * (activations @ expected[2]), axis=0)
    if close(sigma, new):
        return "That is what the block says of sigma. The past has a say of 1 - w."
    stale = np.sum((errors @ state[0]) * (activations @ state[2]), axis=0)
    if close(sigma, (1 - w) * state[1] + w * stale):
        return "sigma is measured along the new left and the new right."
    return "sigma is a weighted mean, too: the old one, and the diagonal of left.T @ G_i @ right."


def _spanned(matrix: Array) -> Array:
    """The projection onto the columns of a matrix, whatever their signs and lengths."""
    q = np.linalg.qr(matrix)[0]
    projection: Array = q @ q.T
    return projection
