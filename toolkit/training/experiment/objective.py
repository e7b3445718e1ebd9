"""What a run minimises, its loss, and what says how well it fits: accuracy or R^2."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.training.data.dataset import Dataset
from toolkit.training.data.labels import spread

LOSSES = ("cross-entropy", "mean-squared-error")
EVALUATED_AT_ONCE = 1000


class Objective:
    """The loss and the fit of scores (samples, outputs) to the labels of ``data``.

    ``cross-entropy`` is that of a softmax, in nats. ``mean-squared-error`` is the mean over samples
    and outputs of (score - target)^2; with classes, the target is 1 for the class and 0 for others.

    The fit is ``accuracy``, the fraction of samples whose class has the largest score, or, of a
    regression, ``r_squared``:

    R^2 = 1 - mean |score - target|^2 / mean |target - mean target|^2,

    1 for a perfect fit, 0 for the mean as every answer, NaN if all targets are equal. The
    denominator is that of the test part, for a batch that of the training part.
    """

    def __init__(self, data: Dataset, loss: str) -> None:
        self._classes, self._is_square = data.classes, loss == LOSSES[1]
        if not self._classes and not self._is_square:
            raise ValueError(
                f"loss must be {LOSSES[1]} for {data.name}, whose labels are targets; got {loss}"
            )
        self.measure = "accuracy" if data.classes else "r_squared"
        self._spreads = {
            part: 0.0 if data.classes else spread(labels)
            for part, labels in (("train", data.train_labels), ("test", data.test_labels))
        }

    def loss(self, scores: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
        """Loss of a batch, the mean or the sum over samples."""
        if not self._is_square:
            return functional.cross_entropy(scores, labels, reduction=reduction)
        targets = labels
        if self._classes:
            targets = functional.one_hot(labels, self._classes).to(scores.dtype)
        if scores.shape != targets.shape:  # a TypeError, as a ValueError means divergence in a step
            raise TypeError(
                f"model must return (samples, outputs), {tuple(targets.shape)} for this batch; "
                f"got {tuple(scores.shape)}"
            )
        found = functional.mse_loss(scores, targets, reduction=reduction)
        return found / targets.shape[1] if reduction == "sum" else found

    def fit(self, scores: Tensor, labels: Tensor) -> float:
        """Accuracy or R^2 of a training batch."""
        return self._points(scores, labels, "train") / len(labels)

    def on_test_part(
        self, network: Callable[[Tensor], Tensor], data: Dataset
    ) -> tuple[float, float]:
        """Loss and fit of ``network`` on the test part, computed in chunks."""
        loss, points, labels = 0.0, 0.0, data.test_labels
        with torch.no_grad():
            for start in range(0, len(labels), EVALUATED_AT_ONCE):
                part = slice(start, start + EVALUATED_AT_ONCE)
                scores = network(data.test_inputs[part])
                loss += float(self.loss(scores, labels[part], reduction="sum"))
                points += self._points(scores, labels[part], "test")
        return loss / len(labels), points / len(labels)

    def _points(self, scores: Tensor, labels: Tensor, part: str) -> float:
        """Sum over samples of 1 or 0 (accuracy), or of 1 - |error|^2 / spread (R^2)."""
        if self._classes:
            return int((scores.argmax(1) == labels).sum())
        squares = float((scores - labels).double().square().sum())
        return len(labels) - squares / self._spreads[part] if self._spreads[part] else math.nan
