"""A data set as tensors: created from arrays, split for tuning, reduced for quick runs.

Data sets by name are in ``datasets.py``, batches in ``batches.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count, check_instance, check_real

Samples = Tensor | np.ndarray | Sequence[Any]
ImageShape = tuple[int, int, int]
#: Most classes of a data set made of labels: each is an output of the network.
MOST_CLASSES = 2**16


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A classification task with a training part and a test part.

    ``train_inputs`` and ``test_inputs`` (samples, features) are float32, pixels in 0..1; the labels
    (samples,) are int64 in 0..classes-1. ``image_shape`` is (channels, height, width) if samples
    are pictures, flattened in that order, else None. Tensors can be shared with others who loaded
    the same data: do not modify them.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    image_shape: ImageShape | None = None

    def __post_init__(self) -> None:
        check_count("classes", self.classes, 1, MOST_CLASSES)
        for part in ("train", "test"):
            inputs, labels = getattr(self, f"{part}_inputs"), getattr(self, f"{part}_labels")
            if len(labels) != len(inputs):
                raise ValueError(
                    f"{part}_labels must be {len(inputs)}, one per sample; got {len(labels)}"
                )
            has_values = len(labels) and not labels.is_meta
            ends = [int(end) for end in labels.aminmax()] if has_values else []
            if wrong := [end for end in ends if not 0 <= end < self.classes]:
                raise ValueError(
                    f"{part}_labels must be between 0 and {self.classes - 1}; got {wrong[0]}"
                )

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        train, test = len(self.train_labels), len(self.test_labels)
        samples = f"{train} + {test} samples of {self.features}"
        return f"Dataset({self.name}: {samples}, {self.classes} classes)"

    @property
    def features(self) -> int:
        """Inputs per sample."""
        return self.train_inputs.shape[1]

    def to(self, device: torch.device | str) -> Dataset:
        """The data set with its tensors on ``device``; itself if they are there already."""
        if self.train_inputs.device == torch.device(device):
            return self
        names = ("train_inputs", "train_labels", "test_inputs", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @classmethod
    def from_arrays(
        cls,
        train_inputs: Samples,
        train_labels: Samples,
        test_inputs: Samples,
        test_labels: Samples,
        *,
        name: str = "arrays",
        image_shape: ImageShape | None = None,
    ) -> Dataset:
        """Create a data set from your own arrays or tensors, which are copied.

        Inputs are (samples, features), or pictures (samples, height, width) or (samples, channels,
        height, width), which are flattened and define ``image_shape``. Inputs of type uint8 are
        pictures with 256 grey levels and are divided by 255; others are used as they are, and train
        best in 0..1. The number of classes is the largest label plus 1, at most 65,536, because
        every class is an output of the network.

        Raises
        ------
        TypeError
            If inputs are not numbers or labels not whole numbers.
        ValueError
            If a part is empty, not finite or has different numbers of samples and labels; if
            training and test samples, or ``image_shape``, do not fit together; if a label is
            negative or 65,536 or more, or there is only one class.
        """
        check_instance("name", name, str, "text")
        train, train_shape = _inputs("train_inputs", train_inputs)
        test, test_shape = _inputs("test_inputs", test_inputs)
        if train_shape != test_shape:
            raise ValueError(
                f"test_inputs must have samples of shape {train_shape}, like train_inputs; "
                f"got {test_shape}"
            )
        labels = _labels("train_labels", train_labels, len(train))
        test_answers = _labels("test_labels", test_labels, len(test))
        classes = int(max(labels.max(), test_answers.max())) + 1
        if classes < 2:
            raise ValueError("train_labels must have at least two classes; got only 0.")
        shape = _image_shape(image_shape, train_shape)
        return cls(name, train, labels, test, test_answers, classes, shape)

    def split(self, validation: float, *, seed: int | torch.Generator = 0) -> Dataset:
        """Hold out a part of the *training* samples as the test part, for tuning.

        ``validation`` is the fraction held out, stratified by class; the test samples of this data
        set are not included. Both parts keep the order of the samples and are copies.

        Raises
        ------
        ValueError
            If ``validation`` leaves one of the two parts empty.
        """
        samples = len(self.train_labels)
        held = round(check_real("validation", validation, 0.0, 1.0) * samples)
        if not 0 < held < samples:
            raise ValueError(
                f"validation must be a fraction of {samples} samples that leaves neither part "
                f"empty; got {validation}"
            )
        chosen = torch.zeros(samples, dtype=torch.bool)
        chosen[_pick(self.train_labels, held, as_generator(seed))] = True
        return Dataset(
            f"{self.name}, {held} samples held out",
            self.train_inputs[~chosen],
            self.train_labels[~chosen],
            self.train_inputs[chosen],
            self.train_labels[chosen],
            self.classes,
            self.image_shape,
        )

    def subset(self, train: int, test: int, *, seed: int | torch.Generator = 0) -> Dataset:
        """Draw ``train`` training and ``test`` test samples, for quick runs.

        Each class keeps its proportion to within one sample, so very small subsets can miss
        classes. The samples keep their order and are copies.

        Raises
        ------
        ValueError
            If more samples are requested than there are, or none.
        """
        for part, count, labels in (
            ("train", train, self.train_labels),
            ("test", test, self.test_labels),
        ):
            check_count(part, count, 1, len(labels))
        generator = as_generator(seed)
        kept = _pick(self.train_labels, train, generator)
        kept_test = _pick(self.test_labels, test, generator)
        return Dataset(
            f"{self.name}, {train} + {test} samples",
            self.train_inputs[kept],
            self.train_labels[kept],
            self.test_inputs[kept_test],
            self.test_labels[kept_test],
            self.classes,
            self.image_shape,
        )


def _pick(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices (count,), ascending, of a random choice that is stratified by class.

    Shares are rounded down; the missing samples go to the largest remainders.
    """
    labels = labels.cpu()
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    taken, remainders = sizes * count // len(labels), sizes * count % len(labels)
    draw = torch.randperm(len(sizes), generator=generator)  # breaks ties between equal remainders
    largest = draw[remainders[draw].argsort(descending=True, stable=True)]
    taken[largest[: count - int(taken.sum())]] += 1
    order = torch.randperm(len(labels), generator=generator)
    kept = [order[classes[order] == i][:n] for i, n in enumerate(taken.tolist())]
    return torch.cat(kept).sort().values


def _inputs(name: str, given: Samples) -> tuple[Tensor, tuple[int, ...]]:
    """Flat float32 inputs and the shape of one sample."""
    tensor = _tensor(name, given)
    if tensor.is_complex():
        raise TypeError(f"{name} must be real numbers; got {tensor.dtype}")
    if tensor.ndim not in (2, 3, 4) or tensor.numel() == 0:
        raise ValueError(
            f"{name} must be (samples, features), (samples, height, width) or (samples, channels, "
            f"height, width), not empty; got shape {tuple(tensor.shape)}."
        )
    sample = tuple(tensor.shape[1:])
    grey = tensor.dtype == torch.uint8
    tensor = tensor.to(torch.float32, copy=True).flatten(1)
    if grey:
        tensor /= 255
    elif not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite in float32; got NaN or infinity.")
    return tensor, sample


def _labels(name: str, given: Samples, samples: int) -> Tensor:
    tensor = _tensor(name, given)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be whole numbers; got {tensor.dtype}")
    if tensor.shape != (samples,):
        raise ValueError(
            f"{name} must be one label per sample, shape ({samples},); got {tuple(tensor.shape)}"
        )
    tensor = tensor.to(torch.int64, copy=True)
    if tensor.min() < 0:
        raise ValueError(f"{name} must be 0 or more; got {int(tensor.min())}")
    if tensor.max() >= MOST_CLASSES:
        raise ValueError(
            f"{name} must be below {MOST_CLASSES}, as every number up to it is a class; "
            f"got {int(tensor.max())}"
        )
    return tensor


def _tensor(name: str, given: Samples) -> Tensor:
    """Convert ``given`` to a tensor of numbers, not necessarily a copy."""
    if isinstance(given, Tensor):
        return given.detach()
    array = np.asarray(given)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of numbers; got dtype {array.dtype}.")
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")  # for torch
    return torch.from_numpy(native)


def _image_shape(wanted: ImageShape | None, sample: tuple[int, ...]) -> ImageShape | None:
    """The shape of a picture: as requested, or that of the samples."""
    came = (1, *sample) if len(sample) == 2 else sample
    if wanted is None:
        return (came[0], came[1], came[2]) if len(came) == 3 else None
    if not isinstance(wanted, tuple | list):
        raise TypeError(f"image_shape must be (channels, height, width); got {wanted!r}")
    for size in wanted:
        check_count("image_shape", size)
    fits = len(wanted) == 3 and math.prod(wanted) == math.prod(sample)
    if not fits or (len(came) == 3 and came != tuple(wanted)):
        raise ValueError(
            f"image_shape must be (channels, height, width) of a sample of shape {sample}; "
            f"got {wanted}"
        )
    return (wanted[0], wanted[1], wanted[2])
