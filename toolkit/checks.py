"""Checks of arguments, all in one style: ``rank must be at least 1; got 0``.

Each returns the value that it has checked. A value of the wrong kind is a TypeError, one that is
not allowed a ValueError.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "all_finite",
    "as_generator",
    "check_choice",
    "check_count",
    "check_file",
    "check_flag",
    "check_instance",
    "check_matrix",
    "check_pair",
    "check_path_like",
    "check_real",
    "check_reals",
    "check_signal",
    "check_tensor",
    "shortened",
    "shown",
]

FLOATS = (torch.float32, torch.float64)
# What a torch generator takes.
_LARGEST_SEED = 2**64 - 1


class ShapeError(ValueError):
    """An input whose shape a layer cannot take."""


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    try:
        count = operator.index(value)
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} must be a whole number; got {shown(value)}") from None
    if count < least or (most is not None and count > most):
        limit = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{name} must be {limit}; got {count}")
    return count


def check_real(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float | None = None,
) -> float:
    """A finite number from ``least`` to ``most``; if ``above`` is given, greater than that."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, Tensor) and value.ndim == 0):
        raise TypeError(f"{name} must be a number; got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    is_low = number < least or (above is not None and number <= above)
    if not math.isfinite(number) or is_low or number > most:
        raise ValueError(f"{name} must be {_range(least, most, above)}; got {shown(value)}")
    return number


def check_reals(name: str, values: Any, *, count: int, least: float = -math.inf) -> None:
    """A tuple or list of at least ``count`` finite numbers, each at least ``least``."""
    if not isinstance(values, tuple | list) or len(values) < count:
        raise TypeError(f"{name} must be {count} or more numbers; got {shown(values)}")
    for value in values:
        check_real(name, value, least)


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {shown(value)}")
    return value


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of the allowed names."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {shown(value)}")
    return value


def check_instance(name: str, value: Any, kind: Any, what: str) -> None:
    """An object of ``kind``, in words ``what``."""
    if not isinstance(value, kind) or isinstance(value, type):
        raise TypeError(f"{name} must be {what}; got {shown(value)}")


def check_path_like(name: str, value: Any) -> None:
    """Text or an object such as a :class:`pathlib.Path`."""
    check_instance(name, value, str | os.PathLike, "a path")


def check_file(name: str, value: Any) -> Path:
    """The path of a file that is there: no folder, no pipe, which would wait for a writer."""
    check_path_like(name, value)
    path = Path(value)
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{name} must be a file; got {str(path)!r}, which is something else")
        raise FileNotFoundError(f"{name} must be a file; got {str(path)!r}, which is not there")
    return path


def check_pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Two whole numbers of at least ``least``, such as (rows, columns)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be two whole numbers; got {shown(value)}")
    return check_count(name, value[0], least), check_count(name, value[1], least)


def check_tensor(name: str, tensor: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A finite tensor of ``dtype`` or, without one, of float32 or float64."""
    check_instance(name, tensor, Tensor, "a torch.Tensor")
    if tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(f"{name} must be a dense tensor with data; got {_kind(tensor)}")
    if tensor.dtype not in (FLOATS if dtype is None else (dtype,)):
        allowed = "torch.float32 or torch.float64" if dtype is None else dtype
        raise TypeError(f"{name} must be {allowed}; got {tensor.dtype}")
    if not all_finite(tensor):
        raise ValueError(f"{name} must be finite; got NaN or infinite entries")
    return tensor


def check_matrix(name: str, matrix: Any) -> Tensor:
    """A finite float32 or float64 matrix (outputs, inputs) that is not empty, detached."""
    check_instance(name, matrix, Tensor, "a torch.Tensor")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"{name} must be a matrix (outputs, inputs), neither 0; got shape {tuple(matrix.shape)}"
        )
    return check_tensor(name, matrix).detach()


def check_signal(name: str, signal: Any, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Finite inputs of a read, (batch, ``width``), of ``dtype`` if it is given."""
    check_instance(name, signal, Tensor, "a torch.Tensor")
    if signal.ndim != 2 or signal.shape[1] != width:
        raise ValueError(f"{name} must have shape (batch, {width}); got {tuple(signal.shape)}")
    return check_tensor(name, signal, dtype)


def as_generator(
    seed: int | torch.Generator, device: torch.device | str = "cpu"
) -> torch.Generator:
    """The generator itself, or a new one on ``device`` with this seed."""
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator(device).manual_seed(check_count("seed", seed, 0, _LARGEST_SEED))


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is a NaN or an infinity: one pass of additions, which show either."""
    tensor = tensor.detach()
    # a sum may also overflow where no entry does: only then is every entry looked at
    return math.isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _kind(tensor: Tensor) -> str:
    return "one on the meta device" if tensor.is_meta else str(tensor.layout)


def _range(least: float, most: float, above: float | None) -> str:
    if above is not None:
        return f"above {above:g} and " + ("finite" if most == math.inf else f"at most {most:g}")
    if least == -math.inf:
        return "finite" if most == math.inf else f"at most {most:g}"
    if most == math.inf:
        return f"finite and at least {least:g}"
    return f"between {least:g} and {most:g}"


def shown(value: Any) -> str:
    """The value as a message shows it, shortened."""
    text = f"a {type(value).__name__}" if isinstance(value, Tensor) and value.ndim else repr(value)
    return shortened(text)


def shortened(text: str, most: int = 80) -> str:
    """The text, its end replaced by dots where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
