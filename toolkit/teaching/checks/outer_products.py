"""Exercises of notebook 03: back-propagation by hand, and what a gradient takes to hold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from toolkit.teaching.exercises import Wrong, close, exercise, wrong

Function = Callable[..., Tensor]
M, N = 128, 65


@exercise("outer_products.gradient")
def gradient(answer: Function) -> str | Wrong:
    """The gradient (m, n) from errors (B, m) and activations (B, n)."""
    errors, activations = _normal(5, 3), _normal(5, 4)
    found = answer(errors, activations)
    expected = errors.T @ activations
    if close(found, expected.T):
        return wrong("That is its transpose: rows are outputs, as in the weights.")
    if close(found, expected / len(errors)):
        return wrong("The errors carry the 1/B of the mean already.")
    if close(found, torch.outer(errors[-1], activations[-1])):
        return wrong("That is the last sample alone. What happens to the others?")
    if not close(found, expected):
        return wrong("Write the outer product of one sample, d x^T; then add up over the rows.")
    return "The batch has gone: it is what the product sums over."


@exercise("outer_products.output_errors")
def output_errors(answer: Function) -> str | Wrong:
    """Derivatives of the mean cross-entropy by the scores."""
    scores, labels = _normal(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(leaf, labels), leaf)
    found = torch.as_tensor(answer(scores, labels))
    if close(found, -expected):
        return wrong("The sign: a score that should fall has a positive error.")
    if close(found, len(labels) * expected):
        return wrong(
            "Those are the errors of each sample's own loss. And of the mean over a batch?"
        )
    wanted = torch.nn.functional.one_hot(labels, 4)
    if close(found, (scores - wanted) / len(labels)):
        return wrong("Scores are no probabilities yet.")
    if close(found, (torch.softmax(scores, dim=0) - wanted) / len(labels)):
        return wrong("The probabilities of one sample add up to 1: along which dimension?")
    if not close(found, expected):
        return wrong("What did the network say, as probabilities? What should it have said?")
    return "Every row adds up to 0; that will matter."


@exercise("outer_products.hidden_errors")
def hidden_errors(answer: Function) -> str | Wrong:
    """Errors one layer back: a transposed read, through a ReLU."""
    errors, weights, sums = _normal(5, 3), _normal(3, 5), _normal(5, 4, seed=1)
    through = (errors @ weights)[:, :-1]
    found = torch.as_tensor(answer(errors, weights, sums))
    if found.shape == (5, 5):
        return wrong("One column too many: no neuron stands before the bias.")
    if close(found, through):
        return wrong("And the ReLU? Where its sum was not positive, nothing passes.")
    if close(found, through * sums.relu()):
        return wrong("The ReLU's slope is 1 where the sum is positive, not the sum.")
    if not close(found, through * (sums > 0)):
        return wrong(
            "First D W, without the last column; then the ReLU's slope, element by element."
        )
    return "The same cells as in the forward read: no second copy of the weights."


@exercise("outer_products.break_even")
def break_even(answer: float) -> str | Wrong:
    """The largest k with k (m + n + 1) < m n."""
    if close(answer, min(M, N)):
        return wrong("That is the largest rank there is. How many numbers does it take to hold?")
    if close(answer, M * N // (M + N)):
        return wrong("Nearly. There is one number more for each direction.")
    if close(answer, M * N / (M + N + 1)):
        return wrong("A rank is a whole number.")
    if not close(answer, M * N // (M + N + 1)):
        return wrong("Set the numbers of rank k against those of G, and solve for k.")
    return "Rank 4 takes 776 numbers in place of 8,320; for larger layers the gain is larger."


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
