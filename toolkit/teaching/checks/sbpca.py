"""Exercises of notebook 06: SBPCA's recursion, its memory of the past, its rate, its guards."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch

from toolkit.lowrank import SBPCA
from toolkit.teaching.exercises import (
    Array,
    Function,
    Wrong,
    close,
    exercise,
    judge,
    numbers,
    outputs,
    parts,
    two,
    wrong,
)

State: TypeAlias = tuple[Array, Array, Array]
BATCH, M, N, RANK = 12, 5, 7, 2
STATE = ("left", "sigma", "right")


@exercise("sbpca.by_hand")
def by_hand(answer: tuple[float, float]) -> str | Wrong:
    """X after one step: Delta = X = (1, 0), sigma 2, w 1/2, d = (1, 1), a = (1, 4)."""
    x = two(answer, "X is one column, n = 2 and k = 1")
    if close(x, (0.6, 0.8)):
        return "One sample turns X by more than half a right angle: averaging is worth its cost."
    if close(x, (0.75, 1.0)):
        return wrong("The sum is right. What does qr do to a single column?")
    with np.errstate(all="ignore"):
        slope = x[1] / x[0]
    if close(x, (-0.6, -0.8)):
        return wrong("The line is right, and the length. Which sign has a vector over its length?")
    hints = {
        2: "The block's part is too large: it must be divided by something first.",
        4: "That is what the block says alone. What weight has the past?",
        1 / 3: "G^T Delta lies on the side of the activations. Did you compute G Delta?",
    }
    begin = "Begin with G^T Delta = a (d . Delta), then the weighted sum, then its length."
    return wrong(next((hints[k] for k in hints if close(slope, k)), begin))


@exercise("sbpca.block")
def block(answer: Function) -> str | Wrong:
    """One block of the recursion, by a function of (left, sigma, right, D, A, w, scale)."""
    state, errors, A, w = _a_block()
    D = 3.0 * errors
    left, sigma, right = parts(answer(*state, errors, A, w, 3.0), *STATE)
    expected = _published(w, D, A)
    if left.shape != (M, RANK) or sigma.shape != (RANK,):
        return wrong(
            f"left must be (m, k) = ({M}, {RANK}) here and sigma (k,) = ({RANK},); yours are "
            f"{left.shape} and {sigma.shape}."
        )
    if not close(left.T @ left, np.eye(RANK)):
        return wrong("The columns of left are not orthonormal yet. What made those of right so?")
    if not close(right, expected[2]):
        return wrong("The first line was right as it was: right has changed.")
    if not close(left, expected[0]):
        return wrong(_about_left(left, state, expected, D, A, w))
    old = (1 - w) * state[1]

    def measured(left: Array, right: Array) -> Array:
        along: Array = np.sum((D @ left) * (A @ right), axis=0)
        return along

    new_left, _, new_right = expected
    return judge(
        sigma,
        (expected[1], "To rounding, what `SBPCA` does with the same block."),
        (measured(new_left, new_right), "The block says that of sigma. The past has 1 - w of it."),
        (old + w * measured(state[0], state[2]), "sigma is measured along the new left and right."),
        (old + w * measured(state[0], new_right), "The third line needs the new left, too."),
        (old + w * measured(new_left, new_right) / 3.0, "The block's product needs the scale."),
        otherwise="sigma is a weighted mean, too: the old one, and diag(left.T @ G_i @ right).",
    )


@exercise("sbpca.past_weight")
def past_weight(answer: Function) -> str | Wrong:
    """Weight of sigma from before a batch, as a function of (batch_size, block_size)."""
    cases = [(256, 32), (64, 64), (60, 10), (16, 1)]
    blocks = np.array([batch / size for batch, size in cases])
    return judge(
        outputs(answer, cases),
        (1 / (blocks + 1), "The whole past counts as one block."),
        (1 / blocks, "With B = b there is one block, and the past would be everything. Is it?"),
        (0.5**blocks, "The weight of the past is 1/2 for the first block only; then w falls."),
        (blocks / (blocks + 1), "That is the weight of all the blocks together."),
        otherwise="Write out the product of 1 - w_i for two blocks, then for three.",
    )


@exercise("sbpca.contraction")
def contraction(answer: Function) -> str | Wrong:
    """Factor by which a weaker direction shrinks with each block, a function of (w, r)."""
    cases = [(0.5, 0.5), (0.5, 0.9), (0.25, 0.8), (1.0, 0.6)]
    w, r = np.array(cases).T
    found, half_trace = outputs(answer, cases), (1 - w) + w**2 * r**2 / 2
    if close(found, 1 - w + w * r):
        return wrong("The second line of (3) uses the new x', which has (1 - w) x and w r y in it.")
    if close(found[-1], 0.6):
        return wrong("At w = 1 both sides are multiplied by r, one after the other. Do you use x'?")
    return judge(
        found,
        (
            half_trace + np.sqrt(np.maximum(half_trace**2 - (1 - w) ** 2, 0)),
            "At w = 1/2 and r = 1/2 it is 0.711, where bi-iteration has 0.25: averaging is slow.",
        ),
        otherwise="At w = 1 it must be r squared, at w = 0 exactly 1. Look at the second row.",
    )


@exercise("sbpca.silent_block")
def silent_block(answer: Function) -> str | Wrong:
    """A block step that accepts sigma = 0, and is otherwise the same as the published one."""
    state, errors, activations, w = _a_block()
    found = parts(answer(*state, errors, activations, w, 1.0), *STATE)
    expected = _published(w, errors, activations)
    if not all(map(close, found, expected)):
        return wrong("Where sigma is not 0 the step must be exactly the old one. Is it, for qr?")
    with np.errstate(all="ignore"):
        after = answer(state[0], np.zeros(RANK), state[2], errors, activations, w, 1.0)
        if not all(np.isfinite(numbers(part, nan=True)).all() for part in after):
            return wrong("With sigma = 0 and a block that has a gradient, something is not finite.")
        left, sigma, _ = answer(*state, 0 * errors, 0 * activations, w, 1.0)
    if not close(left, state[0], relative=1e-9):
        return wrong("A block without gradient must leave the directions where they are.")
    if not close(sigma, (1 - w) * state[1]):
        return wrong("A block without gradient must shrink sigma by 1 - w, and no more.")
    for share in (1e-13, 1e-200):  # directions do not depend on the gradient's scale
        faint = answer(state[0], share * state[1], state[2], share * errors, activations, w, 1.0)
        if not all(map(close, (faint[0], faint[2]), (expected[0], expected[2]))):
            return wrong(
                f"With sigma and errors {share:g} times as large, left and right should stay as "
                "they were. Is there a smallest sigma?"
            )
    return "It works at sigma = 0 and however small sigma is; elsewhere it is the step from before."


def _a_block() -> tuple[State, Array, Array, float]:
    """Return a state that SBPCA has after a batch, a further block, and the block's weight."""
    first, (errors, activations) = _batches()
    return _factors(SBPCA(rank=RANK, block_size=BATCH), first), errors, activations, 1 / 3


def _batches() -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(6)
    mixing = rng.normal(size=(M, N))
    activations = [rng.normal(size=(BATCH, N)) for _ in range(2)]
    return [(a @ mixing.T + 0.3 * rng.normal(size=(BATCH, M)), a) for a in activations]


def _factors(estimator: SBPCA, batch: tuple[Array, Array]) -> State:
    update = estimator.update(*map(torch.from_numpy, batch))
    return update.left.numpy(), update.sigma.numpy(), update.right.numpy()


def _published(w: float, errors: Array, activations: Array) -> State:
    """Return what SBPCA makes of the block, with a history that gives a single block weight w."""
    estimator = SBPCA(rank=RANK, block_size=BATCH, history=(1 - w) / w)
    _factors(estimator, _batches()[0])
    return _factors(estimator, (errors, activations))


def _about_left(left: Array, state: State, expected: State, D: Array, A: Array, w: float) -> str:
    old, sigma, right = state
    with_old = (1 - w) * old + w * D.T @ (A @ right) / sigma
    if close(_spanned(left), _spanned(with_old)):
        return "The second line needs the new X, which the first line has just made."
    if close(_spanned(left), _spanned(expected[0])):
        return "left spans the right plane, but a sign or the order is not: is it qr_positive?"
    unscaled = (1 - w) * old + w / 3.0 * D.T @ (A @ expected[2]) / sigma
    if close(_spanned(left), _spanned(unscaled)):
        return "The block's product in the second line needs the scale, as in the first."
    undivided = (1 - w) * old + w * D.T @ (A @ expected[2])
    if close(_spanned(left), _spanned(undivided)):
        return "left averages a unit vector and a vector of the size of sigma. Make them match."
    return "left is the first line with the two sides exchanged. What takes the place of A.T @ D?"


def _spanned(matrix: Array) -> Array:
    """Return the projection onto the columns of a matrix, whatever their signs and lengths."""
    q = np.linalg.qr(matrix)[0]
    projection: Array = q @ q.T
    return projection
