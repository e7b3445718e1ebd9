"""Exercises of notebook 13: positions of a filter, its gradient, and what factors take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.teaching.exercises import Wrong, close, exercise, wrong
from toolkit.training.layers.convolution import Geometry


@exercise("convolution.positions")
def positions(answer: Callable[..., int]) -> str | Wrong:
    """Where a filter fits: (side + 2 padding - size) // stride + 1, down times across."""
    cases = [(8, 8, 3, 1, 1), (8, 6, 3, 1, 0), (9, 7, 2, 2, 0), (11, 8, 5, 3, 2)]
    found = [float(answer(*case)) for case in cases]

    def counts(border: int = 2, extra: int = 1, whole: bool = True) -> list[float]:
        both = []
        for height, width, size, stride, padding in cases:
            room = [side + border * padding - size for side in (height, width)]
            steps = [(each // stride if whole else each / stride) + extra for each in room]
            both.append(float(steps[0] * steps[1]))
        return both

    if close(found, counts()):
        return "One read of the array for each of them, and one sample of the gradient."
    if close(found, counts(extra=0)):
        return wrong("How many places has a filter as large as the image? Yours says none.")
    if close(found, counts(border=1)):
        return wrong("Padding is added on both sides of a row.")
    if close(found, counts(border=0)):
        return wrong("Where is the padding? Move its slider and watch the number of positions.")
    if close(found, counts(whole=False)):
        return wrong("Positions are whole: a step that does not fit is left out.")
    if close(found, [float(height * width) for height, width, *_ in cases]):
        return wrong(
            "That is one for every pixel. Does the filter fit at the edge, without padding?"
        )
    return wrong("Take one row first: how far can the filter move, and in steps of what?")


@exercise("convolution.gradient")
def gradient(answer: Callable[[Tensor, Tensor], Tensor]) -> str | Wrong:
    """``D.T @ A`` from (images, outputs, height, width), against autograd."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 2, 6, 5, generator=generator)
    filters = torch.randn(4, 2, 3, 3, generator=generator, requires_grad=True)
    outputs = functional.conv2d(inputs, filters, padding=1)
    errors = torch.randn(outputs.shape, generator=generator)
    outputs.backward(errors)
    assert filters.grad is not None
    expected = filters.grad.flatten(1)
    geometry = Geometry(kernel_size=(3, 3), padding=(1, 1, 1, 1))
    activations = geometry.patches(geometry.padded(inputs), bias=False)
    found = answer(activations, errors).detach()
    if tuple(found.shape) == tuple(expected.T.shape):
        return wrong("Transposed: outputs are the rows of the gradient.")
    if tuple(found.shape) != tuple(expected.shape):
        shape = tuple(expected.shape)
        return wrong(f"Here it should have the shape {shape}; yours has {tuple(found.shape)}.")
    if close(found, expected, relative=1e-4):
        return "The matrix that autograd leaves in `weight.grad`, seen as (outputs, inputs)."
    if close(found, errors.reshape(-1, 4).T @ activations, relative=1e-4):
        return wrong(
            "The shape is right, the order is not: a reshape does not move the outputs to the end. "
            "What lies next to each other in memory, positions or outputs?"
        )
    if close(found, errors.transpose(1, 3).reshape(-1, 4).T @ activations, relative=1e-4):
        return wrong("Nearly: positions run along a column first in yours. Which comes first in A?")
    if close(found * len(activations), expected, relative=1e-4) or close(
        found * len(inputs), expected, relative=1e-4
    ):
        return wrong(
            "A sum over positions, not a mean: a mean over images is in the errors already."
        )
    return wrong("Bring the errors to (images, height, width, outputs) first. Then flatten three.")


@exercise("convolution.break_even")
def break_even(answer: float) -> str | Wrong:
    """The least k with ``k (16 + 9 + 1) > 16 * 9``."""
    if close(answer, 6):
        return "So for small layers keep the gradient itself; what counts is the sum over layers."
    if close(answer, 5):
        return wrong("There the factors are still smaller. The first rank above is asked for.")
    if close(answer, 144 / 26):
        return wrong("Ranks are whole: which is the first one above that?")
    if close(answer, 144 / 25) or answer in (9, 16):
        return wrong("Count again what one rank takes: a column of left, one of right, a sigma.")
    return wrong("Set k (m + n + 1) against m n, with m = 16 outputs and n = 3 × 3 inputs.")
