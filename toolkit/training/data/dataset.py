"""A data set as tensors: created from arrays, split for tuning, reduced for quick runs.

Data sets by name are in ``datasets.py``, batches in ``batches.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import (
    as_generator,
    check_choice,
    check_count,
    check_flag,
    check_instance,
    check_real,
)
from toolkit.training.data.labels import MOST_CLASSES, Classes, classes_of, spread, targets_of
from toolkit.training.data.samples import (
    ImageShape,
    Samples,
    check_same_order,
    image_shape_of,
    inputs_of,
    items_of,
)

__all__ = ["MOST_CLASSES", "Dataset", "ImageShape", "Samples"]

TASKS = ("classification", "regression")
#: The part of one's own samples that is held out for testing, unless it is given.
TEST_FRACTION = 0.25


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A classification or regression task with a training part and a test part.

    ``train_inputs`` and ``test_inputs`` (samples, features) are float32, pixels in 0..1; the labels
    (samples,) are int64 in 0..classes-1. ``image_shape`` is (channels, height, width) if samples
    are pictures, flattened in that order, else None. ``class_names`` holds the names of the classes
    if labels came as names. Of a regression, ``classes`` is 0, and the labels are the targets,
    float32 (samples, outputs). Tensors can be shared with others who loaded the same data: do not
    modify them.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    image_shape: ImageShape | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.classes != 0:
            check_count("classes", self.classes, 1, MOST_CLASSES)
        for part in ("train", "test"):
            inputs, labels = getattr(self, f"{part}_inputs"), getattr(self, f"{part}_labels")
            if len(labels) != len(inputs):
                raise ValueError(
                    f"{part}_labels must be {len(inputs)}, one per sample; got {len(labels)}"
                )
            self._check_targets(part, labels) if self.classes == 0 else self._check(part, labels)

    def _check(self, part: str, labels: Tensor) -> None:
        has_values = len(labels) and not labels.is_meta
        ends = [int(end) for end in labels.aminmax()] if has_values else []
        if wrong := [end for end in ends if not 0 <= end < self.classes]:
            raise ValueError(
                f"{part}_labels must be between 0 and {self.classes - 1}; got {wrong[0]}"
            )

    def _check_targets(self, part: str, targets: Tensor) -> None:
        outputs = self.train_labels.shape[-1] if self.train_labels.ndim == 2 else 1
        if not targets.is_floating_point() or targets.shape != (len(targets), outputs):
            raise ValueError(
                f"{part}_labels must be targets (samples, {outputs}), as classes is 0; "
                f"got {targets.dtype} of shape {tuple(targets.shape)}"
            )

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        train, test = len(self.train_labels), len(self.test_labels)
        samples = f"{train} + {test} samples of {self.features}"
        answers = f"{self.classes} classes" if self.classes else f"{self.outputs} targets"
        return f"Dataset({self.name}: {samples}, {answers})"

    @property
    def features(self) -> int:
        """Inputs per sample."""
        return self.train_inputs.shape[1]

    @property
    def outputs(self) -> int:
        """Outputs of a network for it: one for each class, or for each target."""
        return self.classes or self.train_labels.shape[1]

    @property
    def task(self) -> str:
        """``classification`` or ``regression``."""
        return TASKS[0] if self.classes else TASKS[1]

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
        test_inputs: Samples | None = None,
        test_labels: Samples | None = None,
        *,
        name: str = "arrays",
        image_shape: ImageShape | None = None,
        task: str = "classification",
        channels_last: bool | None = None,
        test_fraction: float | None = None,
        seed: int | torch.Generator = 0,
    ) -> Dataset:
        """Create a data set from your own arrays, tensors, lists or pandas objects, copied.

        Inputs are (samples, features), or pictures (samples, height, width) or (samples, channels,
        height, width), which are flattened and define ``image_shape``. Inputs of type uint8 are
        pictures with 256 grey levels and are divided by 255; others are used as they are, and train
        best in 0..1.

        Labels are whole numbers (every number up to the largest is a class), names (classes in
        alphabetical order), a pandas category (in its order) or one-hot rows (samples, classes). At
        most 65,536 classes, because every class is an output of the network.

        Parameters
        ----------
        test_inputs, test_labels
            The test part. Without it, a part of the samples is held out, drawn from ``seed`` and
            stratified by class.
        task
            ``regression`` takes labels as targets, (samples,) or (samples, outputs), in their own
            unit. Networks learn targets about 0 with a spread of about 1 best.
        channels_last
            Whether pictures are (samples, height, width, channels). It must be given for pictures
            that look like it.
        test_fraction
            The fraction held out; None: 0.25. Only without a test part.

        Raises
        ------
        TypeError
            If inputs are not numbers, or labels neither whole numbers nor names.
        ValueError
            If a part is empty, not finite or has different numbers of samples and labels; if
            training and test samples, or ``image_shape``, do not fit together; if a label is
            missing, negative or 65,536 or more; if there is only one class or target; if pandas
            inputs and labels have the same index in another order.
        """
        check_instance("name", name, str, "text")
        check_choice("task", task, TASKS)
        if channels_last is not None:
            check_flag("channels_last", channels_last)
        check_same_order("train_labels", train_labels, "train_inputs", train_inputs)
        check_same_order("test_labels", test_labels, "test_inputs", test_inputs)
        fraction = TEST_FRACTION
        if test_fraction is not None:
            fraction = check_real("test_fraction", test_fraction, 0.0, 1.0)
        train, train_shape = inputs_of("train_inputs", train_inputs, channels_last)
        shape = image_shape_of(image_shape, train_shape)
        if test_inputs is None and test_labels is None:
            found = _answers(task, train_labels, train_labels, (len(train), len(train)))
            labels = found.train
            data = cls(name, train, labels, train, labels, found.count, shape, found.names)
            return replace(data._hold_out("test_fraction", fraction, seed), name=name)
        if test_inputs is None or test_labels is None:
            name, other = ("inputs", "labels") if test_inputs is None else ("labels", "inputs")
            raise ValueError(f"test_{name} must be given together with test_{other}; got None")
        if test_fraction is not None:
            raise ValueError(f"test_fraction must be None with a test part; got {test_fraction}")
        test, test_shape = inputs_of("test_inputs", test_inputs, channels_last)
        if train_shape != test_shape:
            raise ValueError(
                f"test_inputs must have samples of shape {train_shape}, like train_inputs; "
                f"got {test_shape}"
            )
        found = _answers(task, train_labels, test_labels, (len(train), len(test)))
        return cls(name, train, found.train, test, found.test, found.count, shape, found.names)

    @classmethod
    def from_torch(
        cls, train: torch.utils.data.Dataset, test: Any = None, **arguments: Any
    ) -> Dataset:
        """Create a data set from torch ``Dataset`` objects whose items are (input, label).

        Every item is read once, transforms included, and kept in memory. Inputs can be tensors,
        arrays, numbers or PIL pictures, of one shape; ``arguments`` are those of
        :meth:`from_arrays`.

        Raises
        ------
        TypeError, ValueError
            If an object has no length or is empty, an item is not (input, label), inputs have
            different shapes, or :meth:`from_arrays` refuses them.
        """
        of_test = items_of("test", test) if test is not None else ()
        return cls.from_arrays(*items_of("train", train), *of_test, **arguments)

    def split(self, validation: float, *, seed: int | torch.Generator = 0) -> Dataset:
        """Hold out a part of the *training* samples as the test part, for tuning.

        ``validation`` is the fraction held out, stratified by class; the test samples of this data
        set are not included. Both parts keep the order of the samples and are copies.

        Raises
        ------
        ValueError
            If ``validation`` leaves one of the two parts empty.
        """
        return self._hold_out("validation", validation, seed)

    def _hold_out(self, name: str, fraction: float, seed: int | torch.Generator) -> Dataset:
        samples = len(self.train_labels)
        held = round(check_real(name, fraction, 0.0, 1.0) * samples)
        if not 0 < held < samples:
            raise ValueError(
                f"{name} must be a fraction of {samples} samples that leaves neither part "
                f"empty; got {fraction}"
            )
        chosen = torch.zeros(samples, dtype=torch.bool)
        chosen[_pick(self._strata(self.train_labels), held, as_generator(seed))] = True
        return replace(
            self,
            name=f"{self.name}, {held} samples held out",
            train_inputs=self.train_inputs[~chosen],
            train_labels=self.train_labels[~chosen],
            test_inputs=self.train_inputs[chosen],
            test_labels=self.train_labels[chosen],
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
        kept = _pick(self._strata(self.train_labels), train, generator)
        kept_test = _pick(self._strata(self.test_labels), test, generator)
        return replace(
            self,
            name=f"{self.name}, {train} + {test} samples",
            train_inputs=self.train_inputs[kept],
            train_labels=self.train_labels[kept],
            test_inputs=self.test_inputs[kept_test],
            test_labels=self.test_labels[kept_test],
        )

    def _strata(self, labels: Tensor) -> Tensor:
        """Labels, or the same one for every sample of a regression."""
        return labels if self.classes else torch.zeros(len(labels), dtype=torch.int64)


def _answers(task: str, train: Any, test: Any, samples: tuple[int, int]) -> Classes:
    """Labels of both parts, or their targets as classes 0."""
    if task == TASKS[0]:
        return classes_of(train, test, samples)
    targets = targets_of("train_labels", train, samples[0])
    of_test = targets_of("test_labels", test, samples[1])
    if targets.shape[1] != of_test.shape[1]:
        raise ValueError(
            f"test_labels must have {targets.shape[1]} targets like train_labels; "
            f"got {of_test.shape[1]}"
        )
    if not 0 < spread(targets) < torch.inf:
        raise ValueError(
            f"train_labels must be targets that differ, as R^2 divides by their variance; "
            f"got only {float(targets[0, 0]):g}"
        )
    return Classes(targets, of_test, 0)


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
