"""Data sets as tensors: what can be learned, split and scaled. No batching and no training here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """A classification task, split once and for all.

    ``train_inputs`` (samples, features) and ``test_inputs`` are float32 in 0..1; the labels are
    int64 in 0..classes-1.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int

    @property
    def features(self) -> int:
        """Inputs per sample."""
        return self.train_inputs.shape[1]


def load_dataset(name: str) -> Dataset:
    """Load a data set by name.

    Raises
    ------
    ValueError
        If there is no data set of that name.
    """
    if name not in _LOADERS:
        raise ValueError(f"dataset must be one of {', '.join(_LOADERS)}; got {name!r}.")
    return _LOADERS[name]()


def dataset_names() -> list[str]:
    """The names that :func:`load_dataset` takes."""
    return list(_LOADERS)


def _digits() -> Dataset:
    """scikit-learn's 1797 handwritten digits of 8 x 8, split 75 / 25, stratified, always alike."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, labels = load_digits(return_X_y=True)
    parts = train_test_split(inputs / 16.0, labels, test_size=0.25, stratify=labels, random_state=0)
    train_inputs, test_inputs, train_labels, test_labels = (torch.as_tensor(part) for part in parts)
    return Dataset(
        "digits",
        train_inputs.float(),
        train_labels.long(),
        test_inputs.float(),
        test_labels.long(),
        classes=10,
    )


_LOADERS: dict[str, Callable[[], Dataset]] = {"digits": _digits}
