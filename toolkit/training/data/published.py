"""Public data sets from the files of their authors: found, verified, and only then parsed.

Files are read in place and nothing is written; ``datasets.py`` lists the data sets. The SHA-256
sums belong to copies whose MD5 is the one that torchvision checks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Files = Mapping[str, bytes]
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Collection:
    """A published data set: its files, checksums and format.

    ``files`` maps every required file to its SHA-256, and ``archive`` is (name, SHA-256) of a tar
    file that contains them; ``folders`` below the data folder are searched in order. ``parse``
    turns them into training pictures, labels, test pictures and labels, all uint8. ``openml`` is
    the name of a copy at https://www.openml.org with the test samples last, and ``digest`` the
    SHA-256 of the four parts one after another, which verifies such a copy.
    """

    title: str
    url: str
    folders: tuple[str, ...]
    files: Mapping[str, str]
    parse: Callable[[Files], Parts]
    image_shape: tuple[int, int, int]
    openml: str
    digest: str
    archive: tuple[str, str] | None = None

    def load(self, data_dir: Path) -> Parts:
        """Read the four parts from ``data_dir``.

        Raises
        ------
        FileNotFoundError
            If files are missing; the message names them.
        ValueError
            If a file is not the published one; the message has its SHA-256 and the published one.
        """
        for folder in (data_dir / name for name in self.folders):
            missing = [name for name in self.files if not (folder / name).is_file()]
            if not missing:
                return self.parse({name: self._verified(folder, name) for name in self.files})
            if self.archive and (folder / self.archive[0]).is_file():
                return self.parse(_members(self._verified(folder, self.archive[0])))
            if len(missing) < len(self.files):
                raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
        raise FileNotFoundError(f"{data_dir} has none of its files")

    def fetch(self) -> Parts:
        """Get the four parts from OpenML, or from scikit-learn's cache of it.

        Raises
        ------
        ConnectionError
            If OpenML does not answer.
        ValueError
            If the copy is not the published data.
        """
        from sklearn.datasets import fetch_openml

        try:
            pixels, answers = fetch_openml(
                self.openml, version=1, return_X_y=True, as_frame=False, parser="auto"
            )
        except OSError as error:
            raise ConnectionError(f"OpenML did not provide {self.openml}: {error}.") from error
        pixels, answers = np.asarray(pixels, np.uint8), np.asarray(answers, np.uint8)
        train, test = slice(-_TEST_SAMPLES), slice(-_TEST_SAMPLES, None)
        parts = pixels[train], answers[train], pixels[test], answers[test]
        if (found := digest(parts)) != self.digest:
            raise ValueError(
                f"{self.openml} of OpenML is not the published data: the SHA-256 of its samples is "
                f"{found}; expected: {self.digest}."
            )
        return parts

    def how_to_get(self) -> str:
        """Which files to get from where, in a few words; ``url`` and a name form an address."""
        packed = f"{self.archive[0]} (packed or unpacked)" if self.archive else None
        return f"{packed or ', '.join(self.files)} from {self.url}"

    def _verified(self, folder: Path, name: str) -> bytes:
        """The bytes of a file, read once, so that the verified bytes are the parsed ones."""
        sums = dict(self.files) | dict([self.archive] if self.archive else [])
        data = (folder / name).read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != sums[name]:
            raise ValueError(
                f"{folder / name} is not the published file of {self.title}: its SHA-256 is "
                f"{found}, and should be {sums[name]}; download it again from {self.url}."
            )
        return data


def digest(parts: Iterable[np.ndarray]) -> str:
    """SHA-256 of the parts' bytes, one part after another."""
    total = hashlib.sha256()
    for part in parts:
        total.update(np.ascontiguousarray(part).data)
    return total.hexdigest()


# --- formats ----------------------------------------------------------------------------------


def _four_idx_files(files: Files) -> Parts:
    names = "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"
    found = (idx(gzip.decompress(files[f"{name}-ubyte.gz"])) for name in names)
    train, labels, test, answers = found
    return train, labels, test, answers


def idx(data: bytes) -> np.ndarray:
    """Read the unsigned bytes of an IDX file: 0, 0, 8, dimensions, big-endian sizes, values.

    Raises
    ------
    ValueError
        If the bytes are not such a file, or it is truncated.
    """
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < (start := 4 + 4 * data[3]):
        raise ValueError(f"not an IDX file of unsigned bytes: it starts with {data[:4]!r}.")
    shape = tuple(np.frombuffer(data, ">u4", count=data[3], offset=4).tolist())
    values = np.frombuffer(data, np.uint8, offset=start)
    if values.size != math.prod(shape):
        raise ValueError(f"an IDX file of shape {shape} cannot hold {values.size} values.")
    return values.reshape(shape)


def _six_batches(files: Files) -> Parts:
    """CIFAR-10: rows of 3072 are the red, green and blue 32 x 32 planes, each row by row."""
    *train, test = (unpickle(files[name]) for name in CIFAR_10.files)
    pixels = np.concatenate([batch[b"data"] for batch in train])
    labels = np.concatenate([np.array(batch[b"labels"], np.uint8) for batch in train])
    return pixels, labels, test[b"data"], np.array(test[b"labels"], np.uint8)


def _members(archive: bytes) -> dict[str, bytes]:
    """The files of a tar archive by name without folders; nothing is written to disk."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = [(member, tar.extractfile(member)) for member in tar]
        return {Path(member.name).name: file.read() for member, file in files if file}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that accepts only plain values and numpy arrays, and imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve the few names that a pickled array needs."""
        if (module, name) not in _ARRAY_PARTS:
            raise ValueError(f"a pickled array must not need {module}.{name}; not opened.")
        return _ARRAY_PARTS[module, name]


_EMPTY_ARRAY = np.empty(0).__reduce__()[0]  # numpy's own function, by a public way
_ARRAY_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"): _EMPTY_ARRAY,  # as numpy 1 wrote it
    ("numpy._core.multiarray", "_reconstruct"): _EMPTY_ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def unpickle(data: bytes) -> Any:
    """Unpickle plain values and arrays; byte strings of Python 2 stay bytes.

    Raises
    ------
    ValueError
        If the pickle names anything else; nothing is imported or called.
    """
    return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()


# --- the data sets ----------------------------------------------------------------------------

_TEST_SAMPLES = 10_000

MNIST = Collection(
    title="MNIST",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    folders=("mnist", "MNIST/raw", "."),
    files={
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    },
    parse=_four_idx_files,
    image_shape=(1, 28, 28),
    openml="mnist_784",
    digest="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
)
FASHION_MNIST = Collection(
    title="Fashion-MNIST",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    folders=("fashion-mnist", "FashionMNIST/raw", "."),
    files={
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    },
    parse=_four_idx_files,
    image_shape=(1, 28, 28),
    openml="Fashion-MNIST",
    digest="ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f",
)
CIFAR_10 = Collection(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/",
    folders=("cifar-10/cifar-10-batches-py", "cifar-10", "cifar-10-batches-py", "."),
    files={
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    parse=_six_batches,
    image_shape=(3, 32, 32),
    openml="CIFAR_10",
    digest="32e5966899bde482c0ef7d076bf69809b4b1488c806f657a814cfca4646ec493",
    archive=(
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
)
