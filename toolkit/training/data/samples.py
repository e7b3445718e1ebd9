"""Inputs of a data set as they come: arrays, tensors, lists, data frames, items of torch's sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from toolkit.checks import check_count, shown

Samples = Tensor | np.ndarray | Sequence[Any]
ImageShape = tuple[int, int, int]
_CHANNELS = (1, 3, 4)  # of a picture whose channels come last


def inputs_of(
    name: str, given: Samples, channels_last: bool | None
) -> tuple[Tensor, tuple[int, ...]]:
    """Flat float32 inputs and the shape of one sample, channels first."""
    tensor = tensor_of(name, given)
    if tensor.is_complex():
        raise TypeError(f"{name} must be real numbers; got {tensor.dtype}")
    if tensor.ndim not in (2, 3, 4) or tensor.numel() == 0:
        raise ValueError(
            f"{name} must be (samples, features), (samples, height, width) or (samples, channels, "
            f"height, width), not empty; got shape {tuple(tensor.shape)}."
        )
    tensor = _channels_first(name, tensor, channels_last)
    sample = tuple(tensor.shape[1:])
    grey = tensor.dtype == torch.uint8
    tensor = tensor.to(torch.float32, copy=True).flatten(1)
    if grey:
        tensor /= 255
    elif not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite in float32; got NaN or infinity.")
    return tensor, sample


def _channels_first(name: str, tensor: Tensor, channels_last: bool | None) -> Tensor:
    shape = tuple(tensor.shape)
    if channels_last is None and tensor.ndim == 4:
        if shape[3] in _CHANNELS and shape[1] not in _CHANNELS:
            raise ValueError(
                f"channels_last must be True or False for {name} of shape {shape}: its last "
                "dimension could be the channels; got None"
            )
    elif channels_last and tensor.ndim != 4:
        raise ValueError(
            f"{name} must be (samples, height, width, channels) with channels_last; "
            f"got shape {shape}"
        )
    return tensor.movedim(-1, 1) if channels_last else tensor


def tensor_of(name: str, given: Samples) -> Tensor:
    """Convert ``given`` to a tensor of numbers, not necessarily a copy."""
    if isinstance(given, Tensor):
        if given.layout != torch.strided or given.is_meta:
            raise TypeError(f"{name} must be a dense tensor with data; got {given.layout}")
        return given.detach()
    array = array_of(name, given)
    if array.dtype == object and hasattr(given, "dtypes"):
        array = _of_pandas(name, given)
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise ValueError(f"{name} must be below 2^63; got {array.max()}")
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of numbers; got dtype {array.dtype}.")
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")  # for torch
    return torch.from_numpy(native)


def array_of(name: str, given: Any) -> np.ndarray:
    """``given`` as an array of any dtype."""
    if np.ma.is_masked(given):
        raise ValueError(f"{name} must have no masked values; got {np.ma.count_masked(given)}")
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths, and others
        reason = " ".join(str(error).split())
        raise TypeError(f"{name} must be an array of numbers: {shown(reason)}") from None


def _of_pandas(name: str, given: Any) -> np.ndarray:
    """The numbers of a frame or series, nullable ones included, missing ones as NaN."""
    from pandas import DataFrame
    from pandas.api.types import is_numeric_dtype

    frame = DataFrame(given)
    for column, kind in zip(frame.columns, frame.dtypes, strict=True):
        if not is_numeric_dtype(kind):
            raise TypeError(
                f"{name} must have numbers in every column; got {kind} in {shown(column)}"
            )
    return np.asarray(given.to_numpy(dtype=np.float64, na_value=np.nan))


def check_same_order(name: str, labels: Any, inputs_name: str, inputs: Any) -> None:
    """ValueError if two pandas objects have one index in two orders, as samples go by place."""
    ours: Any = getattr(labels, "index", None)
    theirs: Any = getattr(inputs, "index", None)
    if not hasattr(ours, "equals") or not hasattr(theirs, "equals"):  # no pandas objects
        return
    same = len(ours) == len(theirs) and ours.is_unique and theirs.is_unique
    if same and not ours.equals(theirs) and ours.isin(theirs).all():
        raise ValueError(
            f"{name} must have the rows of {inputs_name} in the same order; got its index in "
            "another: align them with .loc, or drop it with reset_index(drop=True)"
        )


def image_shape_of(wanted: ImageShape | None, sample: tuple[int, ...]) -> ImageShape | None:
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


def items_of(name: str, given: Any) -> tuple[Any, Any]:
    """The inputs and labels of a torch ``Dataset`` whose items are (input, label)."""
    if not isinstance(given, TorchDataset):
        raise TypeError(f"{name} must be a torch Dataset; got {shown(given)}")
    if isinstance(given, TensorDataset):
        if len(given.tensors) != 2:
            raise ValueError(
                f"{name} must have items (input, label); its items have {len(given.tensors)} parts"
            )
        return given.tensors
    try:
        count = len(given)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        raise TypeError(f"{name} must have a length; got {type(given).__name__}") from None
    items = [given[i] for i in range(count)]
    if wrong := [item for item in items if not isinstance(item, tuple | list) or len(item) != 2]:
        raise ValueError(f"{name} must have items (input, label); got {shown(wrong[0])}")
    if not items:
        raise ValueError(f"{name} must not be empty; got 0 items")
    return _stacked(name, [item[0] for item in items]), _labels([item[1] for item in items])


def _stacked(name: str, inputs: list[Any]) -> Any:
    """One array of the inputs, pictures of PIL included."""
    arrays = [one.numpy(force=True) if isinstance(one, Tensor) else one for one in inputs]
    arrays = [np.atleast_1d(array_of(name, one)) for one in arrays]
    if other := [one.shape for one in arrays if one.shape != arrays[0].shape]:
        raise ValueError(
            f"{name} must have inputs of one shape; got {arrays[0].shape} and {other[0]}"
        )
    return np.stack(arrays)


def _labels(labels: list[Any]) -> Any:
    are_tensors = all(isinstance(label, Tensor) for label in labels)
    same = are_tensors and len({label.shape for label in labels}) == 1
    return torch.stack(labels) if same else labels
