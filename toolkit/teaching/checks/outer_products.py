"""Exercises of notebook 03: back-propagation by hand, and the memory that a gradient takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.teaching.exercises import Function, Wrong, exercise, judge, numbers, wrong

M, N = 128, 65


@exercise("outer_products.gradient")
def gradient(answer: Function) -> str | Wrong:
    """The gradient (m, n) from errors (B, m) and activations (B, n)."""
    errors, activations = _normal(5, 3), _normal(5, 4)
    expected = errors.T @ activations
    last = torch.outer(errors[-1], activations[-1])
    return judge(
        answer(errors, activations),
        (expected, "The batch dimension is gone: the product sums over it."),
        (expected.T, "That is its transpose: rows are outputs, as in the weights."),
        (expected / len(errors), "The errors carry the 1/B of the mean already."),
        (last, "That is the last sample alone. What happens to the others?"),
        otherwise="Write the outer product of one sample, d x^T; then add up over the rows.",
    )


@exercise("outer_products.output_errors")
def output_errors(answer: Function) -> str | Wrong:
    """Derivatives of the mean cross-entropy with respect to the scores."""
    scores, labels = _normal(6, 4).requires_grad_(), torch.tensor([0, 3, 1, 1, 2, 0])
    (expected,) = torch.autograd.grad(functional.cross_entropy(scores, labels), scores)
    wanted = functional.one_hot(labels, 4)
    raw = (scores - wanted) / len(labels)
    across = (torch.softmax(scores, dim=0) - wanted) / len(labels)
    return judge(
        answer(scores.detach(), labels),
        (expected, "Every row adds up to 0; that will matter."),
        (-expected, "The sign: a score that should fall has a positive error."),
        (6 * expected, "Those are errors of each sample's loss. What about the mean over a batch?"),
        (raw, "Scores are no probabilities yet."),
        (across, "The probabilities of one sample add up to 1: along which dimension?"),
        otherwise="What did the network say, as probabilities? What should it have said?",
    )


@exercise("outer_products.hidden_errors")
def hidden_errors(answer: Function) -> str | Wrong:
    """Errors one layer back: a transposed read, through a ReLU."""
    errors, weights, sums = _normal(5, 3), _normal(3, 5), _normal(5, 4, seed=1)
    through = (errors @ weights)[:, :-1]
    found = numbers(answer(errors, weights, sums))
    if found.shape == (5, 5):
        return wrong("One column too many: the bias has no neuron before it.")
    return judge(
        found,
        (through * (sums > 0), "The same cells as in the forward read: no copy of the weights."),
        (through, "What about the ReLU? Where its sum is not positive, nothing passes."),
        (through * sums.relu(), "The ReLU's slope is 1 where the sum is positive, not the sum."),
        otherwise="First D W, without the last column; then the ReLU's slope, element by element.",
    )


@exercise("outer_products.break_even")
def break_even(answer: float) -> str | Wrong:
    """The largest k with k (m + n + 1) < m n."""
    return judge(
        answer,
        (42, "Rank 4 takes 776 numbers instead of 8,320; for larger layers the gain is larger."),
        (min(M, N), "That is the largest rank there is. How many numbers does it take?"),
        (M * N // (M + N), "Nearly. Each direction has one more number."),
        (M * N / (M + N + 1), "A rank is a whole number."),
        otherwise="Set the numbers of rank k against those of G, and solve for k.",
    )


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
