"""Data sets by name: the list, the folder of their files, and help when files are missing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from toolkit.checks import check_choice, check_flag, check_path_like
from toolkit.training.data.dataset import Dataset
from toolkit.training.data.published import CIFAR_10, FASHION_MNIST, MNIST, Collection
from toolkit.training.data.synthetic import gaussians, spirals
from toolkit.writing import beside

DATA_DIR_VARIABLE = "SBPCA_DATA"
#: Names a folder in which processes keep what they have decoded, to share its memory.
SHARED_VARIABLE = "SBPCA_SHARED"


def load_dataset(
    name: str, *, data_dir: str | os.PathLike[str] | None = None, download: bool = False
) -> Dataset:
    """Load a data set by name, once per process, so that sessions share one copy.

    Published data sets are read from their authors' files in ``data_dir`` (or the folder named in
    the environment variable ``SBPCA_DATA``), in a subfolder with the data set's name or in the
    folder itself. The SHA-256 of every file is checked before any is parsed. Pixels are divided by
    255 but not standardised: a crossbar reads inputs in 0..1 as voltages of one sign, and the
    named models learn from them directly.

    Nothing is downloaded unless ``download`` is true and files are missing. Then scikit-learn
    fetches OpenML's copy, which must have the same bits, and keeps it in its own cache.

    Raises
    ------
    ValueError
        If there is no data set with that name, or a file is not the published one.
    FileNotFoundError
        If files are missing; the message says how to get them.
    ConnectionError
        If OpenML does not answer.

    Examples
    --------
    >>> load_dataset("digits")
    Dataset(digits: 1347 + 450 samples of 64, 10 classes)
    """
    check_choice("name", name, _SOURCES)
    check_flag("download", download)
    if data_dir is not None:
        check_path_like("data_dir", data_dir)
    source = _SOURCES[name]
    if not isinstance(source, Collection):
        return _made(source)
    folder = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    with _one_at_a_time:
        return _read(
            name, Path(os.path.realpath(Path(folder).expanduser())) if folder else None, download
        )


def dataset_names() -> list[str]:
    """The names that :func:`load_dataset` accepts."""
    return list(_SOURCES)


@lru_cache
def _made(source: Callable[[], Dataset]) -> Dataset:
    return source()


@lru_cache(maxsize=4)
def _read(name: str, folder: Path | None, download: bool) -> Dataset:
    shared = os.environ.get(SHARED_VARIABLE)
    if not shared:
        return _decoded(name, folder, download)
    file = Path(shared) / f"{name}.pt"
    if not file.exists():
        data = _decoded(name, folder, download)
        try:
            with beside(file) as new:
                torch.save(vars(data), new)
        except (OSError, RuntimeError):  # no space there: every process keeps its own
            return data
    return Dataset(**torch.load(file, mmap=True))


def _decoded(name: str, folder: Path | None, download: bool) -> Dataset:
    source = _SOURCES[name]
    assert isinstance(source, Collection)
    try:
        if folder is None:
            raise FileNotFoundError("no data folder is set")
        parts = source.load(folder)
    except FileNotFoundError as error:
        if not download:
            raise FileNotFoundError(_how_to_get(name, source, str(error))) from None
        parts = source.fetch()
    return Dataset.from_arrays(*parts, name=name, image_shape=source.image_shape)


def _how_to_get(name: str, source: Collection, reason: str) -> str:
    return (
        f"The data set {name} is not here: {reason}. Put {source.how_to_get()} into FOLDER/{name}, "
        f"and pass FOLDER in the environment variable {DATA_DIR_VARIABLE}, as --data-dir or as "
        f'load_dataset("{name}", data_dir=FOLDER), which an Experiment accepts as its dataset. '
        f"Or let scikit-learn download it from OpenML: "
        f'load_dataset("{name}", download=True).'
    )


def _digits() -> Dataset:
    """scikit-learn's 1797 handwritten digits of 8 x 8, split 75 / 25, stratified and fixed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        inputs / 16.0, labels, test_size=0.25, stratify=labels, random_state=0
    )
    return Dataset.from_arrays(
        train, train_labels, test, test_labels, name="digits", image_shape=(1, 8, 8)
    )


_one_at_a_time = threading.Lock()  # simultaneous requests must share one copy

_SOURCES: dict[str, Callable[[], Dataset] | Collection] = {
    "digits": _digits,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar-10": CIFAR_10,
    "gaussians": gaussians,
    "spirals": spirals,
}
