"""Labels as they come (numbers, names, pandas categories, one-hot rows), and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import shown
from toolkit.training.data.samples import Samples, array_of, tensor_of

#: Most classes of a data set made of labels: each is an output of the network.
MOST_CLASSES = 2**16


@dataclass(frozen=True)
class Classes:
    """Labels of both parts, 0 to ``count`` - 1; ``names`` of the classes if they came as names."""

    train: Tensor
    test: Tensor
    count: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Words:
    """Labels that are names; ``order`` is that of a pandas category."""

    values: np.ndarray
    order: tuple[str, ...] | None = None


def classes_of(train: Samples, test: Samples, samples: tuple[int, int]) -> Classes:
    """The classes of both parts, which must come in the same way.

    Numbers are classes themselves, up to the largest. Names become classes in alphabetical order,
    pandas categories in their own. A one-hot row has one 1, in the column of its class.
    """
    of_train, of_test = (
        _read(f"{part}_labels", given, count)
        for part, given, count in zip(("train", "test"), (train, test), samples, strict=True)
    )
    if isinstance(of_train, _Words) and isinstance(of_test, _Words):
        return _named(of_train, of_test)
    if isinstance(of_train, _Words) or isinstance(of_test, _Words):
        raise TypeError("test_labels must be names or numbers like train_labels; got the other")
    labels, width = of_train
    test_labels, test_width = of_test
    count = max(width or 0, test_width or 0) or int(max(labels.max(), test_labels.max())) + 1
    _check_width("train_labels", labels, width, count)
    _check_width("test_labels", test_labels, test_width, count)
    _check_several(count, 0)
    return Classes(labels, test_labels, count)


def targets_of(name: str, given: Samples, samples: int) -> Tensor:
    """Targets of a regression, float32 (samples, outputs)."""
    tensor = tensor_of(name, given)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers; got {tensor.dtype}")
    fits = tensor.ndim in (1, 2) and len(tensor) == samples and tensor.numel() > 0
    if not fits:
        raise ValueError(
            f"{name} must be targets, shape ({samples},) or ({samples}, outputs); "
            f"got {tuple(tensor.shape)}"
        )
    tensor = tensor.to(torch.float32, copy=True).reshape(samples, -1)
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite in float32; got NaN or infinity.")
    return tensor


def spread(targets: Tensor) -> float:
    """Mean square distance of targets (samples, outputs) from their mean, outputs summed."""
    return float(targets.double().var(0, correction=0).sum())


def _read(name: str, given: Any, samples: int) -> _Words | tuple[Tensor, int | None]:
    """Names, or labels and the width of one-hot rows (None: labels are numbers)."""
    if (words := _category(name, given)) is None and not isinstance(given, Tensor):
        words = _text(name, _array(name, given))
    if words is not None:
        _check_shape(name, words.values.shape, samples)
        return words
    tensor = tensor_of(name, given)
    one_hot = tensor.ndim == 2 and len(tensor) == samples and tensor.shape[1] > 1
    if one_hot:
        return _of_one_hot(name, tensor), tensor.shape[1]
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        hint = "; for a regression, task='regression'" if tensor.is_floating_point() else ""
        raise TypeError(f"{name} must be whole numbers or names; got {tensor.dtype}{hint}")
    _check_shape(name, tuple(tensor.shape), samples)
    tensor = tensor.to(torch.int64, copy=True)
    if tensor.min() < 0:
        raise ValueError(f"{name} must be 0 or more; got {int(tensor.min())}")
    if tensor.max() >= MOST_CLASSES:
        raise ValueError(
            f"{name} must be below {MOST_CLASSES}, as every number up to it is a class; "
            f"got {int(tensor.max())}"
        )
    return tensor, None


def _check_shape(name: str, shape: tuple[int, ...], samples: int) -> None:
    if shape != (samples,):
        raise ValueError(
            f"{name} must be one label per sample, shape ({samples},), or one-hot, "
            f"({samples}, classes); got {shape}"
        )


def _check_width(name: str, labels: Tensor, width: int | None, count: int) -> None:
    if width not in (None, count):
        raise ValueError(f"{name} must have {count} columns, one per class; got {width}")
    if int(labels.max()) >= count:
        raise ValueError(f"{name} must be below {count} classes; got {int(labels.max())}")


def _check_several(count: int, only: Any) -> None:
    if count < 2:
        raise ValueError(f"train_labels must have at least two classes; got only {only}.")
    if count > MOST_CLASSES:
        raise ValueError(f"train_labels must have at most {MOST_CLASSES} classes; got {count}")


def _of_one_hot(name: str, rows: Tensor) -> Tensor:
    ones = rows == 1
    if (wrong := (ones.sum(1) != 1) | ((rows != 0) & ~ones).any(1)).any():
        first = int(wrong.to(torch.int64).argmax())
        raise ValueError(
            f"{name} must be one-hot, a single 1 in each row of zeros; "
            f"got row {first}: {shown(rows[first].tolist())}"
        )
    return ones.to(torch.int64).argmax(1)


def _category(name: str, given: Any) -> _Words | None:
    """The names of a pandas category; None if ``given`` is none."""
    held = getattr(given, "array", given)  # of a Series or an Index
    categories, codes = (getattr(held, part, None) for part in ("categories", "codes"))
    if categories is None or codes is None:
        return None
    order = tuple(str(category) for category in categories)
    if len(set(order)) < len(order):
        raise ValueError(f"{name} must have categories that read differently; got {shown(order)}")
    codes = np.asarray(codes)
    if (codes < 0).any():
        _raise_missing(name, int((codes < 0).sum()))
    return _Words(np.array(order, dtype=object)[codes], order)


def _text(name: str, array: np.ndarray) -> _Words | None:
    """Names as an array of objects; None if ``array`` holds something else."""
    if array.dtype.kind == "O":
        are_text = np.array([isinstance(value, str) for value in array.flat], dtype=bool)
        if not are_text.any():
            return None
        missing = [value for value in array.flat if value is None or value != value]
        if missing:
            _raise_missing(name, len(missing))
        if not are_text.all():
            other = next(value for value in array.flat if not isinstance(value, str))
            raise TypeError(f"{name} must be all names or all whole numbers; got {shown(other)}")
    elif array.dtype.kind not in "UT":
        return None
    return _Words(array.astype(object))


def _array(name: str, given: Any) -> np.ndarray:
    """An array that keeps what is missing in a list of names, which numpy would call "nan"."""
    if isinstance(given, list | tuple) and any(isinstance(value, str) for value in given):
        return np.array([*given, ()], dtype=object)[:-1]
    return array_of(name, given)


def _raise_missing(name: str, count: int) -> None:
    raise ValueError(f"{name} must have no missing labels; got {count} missing")


def _named(train: _Words, test: _Words) -> Classes:
    found, codes = np.unique(np.concatenate([train.values, test.values]), return_inverse=True)
    names = train.order or test.order or tuple(str(name) for name in found)
    places = {name: place for place, name in enumerate(names)}
    if unknown := [name for name in found if name not in places]:
        part = "train" if unknown[0] in set(train.values) else "test"
        raise ValueError(
            f"{part}_labels must be of the categories {shown(list(names))}; got {unknown[0]!r}"
        )
    _check_several(len(names), repr(names[0]))
    order = np.array([places[name] for name in found], dtype=np.int64)
    labels = torch.from_numpy(order[codes.reshape(-1)])
    return Classes(labels[: len(train.values)], labels[len(train.values) :], len(names), names)
