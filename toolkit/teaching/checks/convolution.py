"""Exercises of notebook 13: filter positions, the gradient, and the size of its factors."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from toolkit.teaching.exercises import (
    Array,
    Function,
    Wrong,
    exercise,
    judge,
    numbers,
    outputs,
    wrong,
)
from toolkit.training.layers.convolution import Geometry


@exercise("convolution.positions")
def positions(answer: Function) -> str | Wrong:
    """Positions of a filter: (side + 2 padding - size) // stride + 1, down times across."""
    cases = [(8, 8, 3, 1, 1), (8, 6, 3, 1, 0), (9, 7, 2, 2, 0), (11, 8, 5, 3, 2)]
    height, width, size, stride, padding = np.array(cases).T
    bare = np.array([height, width]) - size  # how far the filter can move without padding
    padded = bare + 2 * padding

    def counts(room: Array) -> Array:
        return np.prod(room // stride + 1, axis=0)

    return judge(
        outputs(answer, cases),
        (counts(padded), "Each is one read of the array and one sample of the gradient."),
        (counts(padded - stride), "How many positions has a filter as large as the image? Not 0."),
        (counts(bare + padding), "Padding is added on both sides of a row."),
        (counts(bare), "Where is the padding? Move its slider and watch the number of positions."),
        (np.prod(padded / stride + 1, axis=0), "Positions are whole: drop a step that is cut off."),
        (height * width, "That is one for every pixel. Does the filter fit at the edge?"),
        otherwise="Take one row first: how far can the filter move, and in steps of what size?",
    )


@exercise("convolution.gradient")
def gradient(answer: Function) -> str | Wrong:
    """``D.T @ A`` from errors (images, outputs, height, width), compared with autograd."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 2, 6, 5, generator=generator)
    filters = torch.randn(4, 2, 3, 3, generator=generator, requires_grad=True)
    scores = functional.conv2d(inputs, filters, padding=1)
    errors = torch.randn(scores.shape, generator=generator)
    (gradient,) = torch.autograd.grad(scores, filters, errors)
    expected = gradient.flatten(1)
    geometry = Geometry(kernel_size=(3, 3), padding=(1, 1, 1, 1))
    activations = geometry.patches(geometry.padded(inputs), bias=False)
    found = numbers(answer(activations, errors))
    if found.shape == tuple(expected.T.shape):
        return wrong("Transposed: outputs are the rows of the gradient.")
    reshaped = errors.reshape(-1, 4).T @ activations
    by_column = errors.transpose(1, 3).reshape(-1, 4).T @ activations
    means = expected / len(activations), expected / len(inputs)
    return judge(
        found,
        (expected, "The matrix that autograd leaves in `weight.grad`, seen as (outputs, inputs)."),
        (reshaped, "The order is not right: a reshape does not move the outputs to the end."),
        (by_column, "Nearly: your positions run down a column first. Which comes first in A?"),
        (*means, "Sum over positions, not a mean: the errors already carry the mean over images."),
        otherwise="Bring the errors to (images, height, width, outputs), then flatten three axes.",
        relative=1e-4,
    )


@exercise("convolution.break_even")
def break_even(answer: float) -> str | Wrong:
    """The least k with ``k (16 + 9 + 1) > 16 * 9``."""
    return judge(
        answer,
        (6, "So keep the full gradient of small layers; what counts is the sum over all layers."),
        (5, "There the factors are still smaller. You need the first rank at which they are not."),
        (144 / 26, "Ranks are whole numbers: which is the first one above that?"),
        (144 / 25, 9, 16, "Count again: one rank takes a column of left, one of right, a sigma."),
        otherwise="Set k (m + n + 1) against m n, with m = 16 outputs and n = 3 × 3 inputs.",
    )
