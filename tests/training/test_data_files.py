"""Published data sets: found, verified before anything is parsed, never fetched by surprise.

Most tests use small files of their own; those on the real ones skip where they are not.
"""

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import re
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from toolkit.training import load_dataset
from toolkit.training.data import datasets
from toolkit.training.data.published import CIFAR_10, FASHION_MNIST, MNIST, digest, idx, unpickle

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
ANSWERS = np.arange(30, dtype=np.uint8) % 10
NAMES = list(MNIST.files)  # training pictures, labels, test pictures, labels
FOUR = dict(zip(NAMES, (PIXELS[:20], ANSWERS[:20], PIXELS[20:], ANSWERS[20:]), strict=True))


def idx_bytes(array):
    sizes = np.array(array.shape, ">u4").tobytes()
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def known_as(monkeypatch, name, collection, files, **changes):
    """Let ``files`` be the published ones of ``name``."""
    sums = {file: sha256(data) for file, data in files.items()}
    fake = dataclasses.replace(collection, files=sums, **changes)
    monkeypatch.setitem(datasets._SOURCES, name, fake)


@pytest.fixture
def mnist_files(monkeypatch):
    monkeypatch.delenv("SBPCA_DATA", raising=False)
    files = {name: gzip.compress(idx_bytes(array), mtime=0) for name, array in FOUR.items()}
    known_as(monkeypatch, "mnist", MNIST, files, digest=digest(FOUR.values()))
    monkeypatch.setattr("toolkit.training.data.published._TEST_SAMPLES", 10)
    return files


def batch(numbers):
    """A batch of CIFAR-10: pictures of one colour value each, red, green and blue."""
    planes = np.repeat(np.array([[10 * n, 10 * n + 1, 10 * n + 2] for n in numbers]), 1024, axis=1)
    return {b"data": planes.astype(np.uint8), b"labels": [n % 10 for n in numbers]}


@pytest.fixture
def cifar_files(monkeypatch):
    monkeypatch.delenv("SBPCA_DATA", raising=False)
    batches = [batch([2 * i, 2 * i + 1]) for i in range(6)]
    files = dict(zip(CIFAR_10.files, map(pickle.dumps, batches), strict=True))
    known_as(monkeypatch, "cifar-10", CIFAR_10, files)
    return files


# --- finding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_pictures_and_labels_come_from_the_files(
    mnist_files, tmp_path, monkeypatch, below, named_by
):
    write(tmp_path / below, mnist_files)
    if named_by == "environment":
        monkeypatch.setenv("SBPCA_DATA", str(tmp_path))
    data = load_dataset("mnist", **({"data_dir": tmp_path} if named_by == "argument" else {}))
    assert (data.name, data.image_shape, data.classes) == ("mnist", (1, 28, 28), 10)
    wanted = PIXELS.reshape(30, 784) / np.float32(255)
    assert np.array_equal(data.train_inputs.numpy(), wanted[:20])
    assert np.array_equal(data.test_inputs.numpy(), wanted[20:])
    assert data.train_labels.tolist() + data.test_labels.tolist() == ANSWERS.tolist()
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_dataset("mnist", data_dir=tmp_path / "elsewhere")


def test_processes_share_what_one_of_them_decoded(mnist_files, tmp_path, monkeypatch):
    source, shared = tmp_path / "source", tmp_path / "shared"
    shared.mkdir()
    write(source, mnist_files)
    plain = load_dataset("mnist", data_dir=source)
    monkeypatch.setenv("SBPCA_SHARED", str(shared))
    for _ in range(2):  # the second time from what the first has kept, as another process would
        datasets._read.cache_clear()
        again = load_dataset("mnist", data_dir=source)
        for name, value in vars(plain).items():
            mine = getattr(again, name)
            assert torch.equal(mine, value) if torch.is_tensor(value) else mine == value, name
        monkeypatch.setattr(datasets, "_decoded", None)
    assert [path.name for path in shared.iterdir()] == ["mnist.pt"]
    datasets._read.cache_clear()


def test_a_folder_that_takes_nothing_costs_only_memory(mnist_files, tmp_path, monkeypatch):
    monkeypatch.setenv("SBPCA_SHARED", str(tmp_path / "missing"))
    write(tmp_path / "source", mnist_files)
    datasets._read.cache_clear()
    assert len(load_dataset("mnist", data_dir=tmp_path / "source").train_labels) == 20
    datasets._read.cache_clear()


def archive_of(files, mode):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        tar.add(Path(__file__).parent, "cifar-10-batches-py", recursive=False)
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


@pytest.mark.parametrize("where", ["cifar-10", "cifar-10/cifar-10-batches-py", ".", "w", "w:gz"])
def test_cifar_batches_are_joined_in_their_order(cifar_files, tmp_path, monkeypatch, where):
    """From their folder, or from the archive, of which nothing is unpacked to the disk."""
    if where.startswith("w"):
        name, packed = "cifar-10-python.tar.gz", archive_of(cifar_files, where)
        known_as(monkeypatch, "cifar-10", CIFAR_10, cifar_files, archive=(name, sha256(packed)))
        write(tmp_path / "cifar-10", {name: packed})
    else:
        write(tmp_path / where, cifar_files)
    before = sorted(tmp_path.rglob("*"))
    data = load_dataset("cifar-10", data_dir=tmp_path)
    assert data.train_labels.tolist() == list(range(10))
    assert data.test_labels.tolist() == [0, 1]
    colours = (255 * data.train_inputs[7].view(data.image_shape)).mean((1, 2))
    assert colours.tolist() == pytest.approx([70, 71, 72])
    assert sorted(tmp_path.rglob("*")) == before


def test_sessions_that_ask_at_once_share_one_copy(mnist_files, tmp_path, monkeypatch):
    parsed, barrier = [], threading.Barrier(4)

    def slowly(files):
        parsed.append(files)
        time.sleep(0.05)
        return MNIST.parse(files)

    def ask(_):
        barrier.wait()
        return load_dataset("mnist", data_dir=tmp_path)

    known_as(monkeypatch, "mnist", MNIST, mnist_files, parse=slowly)
    write(tmp_path, mnist_files)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(parsed) == 1
    assert all(data is found[0] for data in found)


# --- missing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted", "address"),
    [
        ("mnist", ", ".join(NAMES), "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        ("fashion-mnist", ", ".join(NAMES), "http://fashion-mnist.s3-website.eu-central-1"),
        ("cifar-10", "cifar-10-python.tar.gz", "https://www.cs.toronto.edu/~kriz/"),
    ],
)
def test_a_missing_data_set_says_how_to_get_it(name, wanted, address, tmp_path, monkeypatch):
    monkeypatch.delenv("SBPCA_DATA", raising=False)
    for folder in (None, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError) as caught:
            load_dataset(name, data_dir=folder)
        said = str(caught.value)
        for part in (name, wanted, address, f"FOLDER/{name}", "data_dir", "--data-dir"):
            assert part in said
        assert "SBPCA_DATA" in said
        assert f'load_dataset("{name}", download=True)' in said
        assert (str(folder) if folder else "no data folder is set") in said


def test_a_missing_file_is_named(mnist_files, tmp_path):
    write(tmp_path / "mnist", dict(list(mnist_files.items())[:3]))
    with pytest.raises(FileNotFoundError, match=f"mnist lacks {NAMES[3]}. Put"):
        load_dataset("mnist", data_dir=tmp_path)
    write(tmp_path / "mnist", mnist_files)  # a failure is not remembered
    assert len(load_dataset("mnist", data_dir=tmp_path).test_labels) == 10


# --- fetching ---------------------------------------------------------------------------------


@pytest.fixture
def openml(monkeypatch):
    """A stand-in for OpenML: what was asked for, and what it shall answer."""
    asked, answer = [], {"pixels": PIXELS.reshape(30, 784).astype(float), "error": None}

    def fetch(name, **knobs):
        asked.append((name, knobs))
        if answer["error"]:
            raise answer["error"]
        return answer["pixels"], ANSWERS.astype(str).astype(object)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return asked, answer


def test_a_fetched_data_set_is_that_of_the_files_and_none_is_fetched_unasked(
    mnist_files, openml, tmp_path
):
    with pytest.raises(FileNotFoundError):
        load_dataset("mnist", data_dir=tmp_path / "empty")
    write(tmp_path, mnist_files)
    read = load_dataset("mnist", data_dir=tmp_path, download=True)
    assert openml[0] == []
    fetched = load_dataset("mnist", data_dir=tmp_path / "empty", download=True)
    assert [(name, knobs["version"]) for name, knobs in openml[0]] == [("mnist_784", 1)]
    for part in ("train_inputs", "train_labels", "test_inputs", "test_labels"):
        assert torch.equal(getattr(fetched, part), getattr(read, part))
    assert fetched.image_shape == read.image_shape


@pytest.mark.usefixtures("mnist_files")
@pytest.mark.parametrize("change", ["one pixel", "another order", "no answer"])
def test_a_copy_that_is_not_the_published_data_is_refused(openml, tmp_path, change):
    answer = openml[1]
    pixels = answer["pixels"]
    if change == "one pixel":
        pixels[11, 400] = 255 - pixels[11, 400]
    elif change == "another order":
        pixels[[0, 1]] = pixels[[1, 0]]
    else:
        answer["error"] = OSError("no route")
    said = "mnist_784 of OpenML is not the published|OpenML did not provide mnist_784: no route"
    with pytest.raises(ConnectionError if answer["error"] else ValueError, match=said):
        load_dataset("mnist", data_dir=tmp_path, download=True)


# --- verifying --------------------------------------------------------------------------------


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "boom")


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_refused_before_any_is_parsed(mnist_files, tmp_path, name, monkeypatch):
    monkeypatch.setattr(gzip, "decompress", lambda _: pytest.fail("parsed"))
    changed = mnist_files[name] + b"\0"
    write(tmp_path, mnist_files | {name: changed})
    found, wanted = sha256(changed), sha256(mnist_files[name])
    said = f"{tmp_path / name} is not the published file of MNIST: its SHA-256 is {found}, and "
    with pytest.raises(
        ValueError, match=re.escape(f"{said}should be {wanted}; download it again from")
    ):
        load_dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("where", ["file", "archive", "right sum"])
def test_a_malicious_batch_does_not_run(cifar_files, tmp_path, monkeypatch, where):
    mark = tmp_path / "ran"
    bomb, said = pickle.dumps(Bomb(mark)), "is not the published file of CIFAR-10"
    files = {
        "file": cifar_files | {"data_batch_1": bomb},
        "archive": {"cifar-10-python.tar.gz": bomb},
        "right sum": cifar_files | {"test_batch": pickle.dumps(batch([0]) | {b"x": Bomb(mark)})},
    }[where]
    if where == "right sum":
        said = "must not need"
        known_as(monkeypatch, "cifar-10", CIFAR_10, files)
    write(tmp_path, files)
    with pytest.raises(ValueError, match=said):
        load_dataset("cifar-10", data_dir=tmp_path)
    assert not mark.exists()
    pickle.loads(bomb)  # it would have
    assert mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\nload\n.",
        b"cnumpy\nndarray.tofile\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"c_codecs\nencode\n.",
        b"ccopyreg\n_reconstructor\n.",
    ],
)
def test_a_pickle_can_name_arrays_only(code):
    with pytest.raises(ValueError, match="a pickled array must not need"):
        unpickle(code)


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_and_plain_values_are_unpickled(protocol):
    values = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2], b"x": 1.5}
    found = unpickle(pickle.dumps(values, protocol))
    assert np.array_equal(found[b"data"], values[b"data"])
    assert (found[b"labels"], found[b"x"]) == ([1, 2], 1.5)


# --- the format -------------------------------------------------------------------------------


@given(arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, min_side=0, max_side=5)))
def test_idx_files_hold_any_array_of_bytes(array):
    found = idx(idx_bytes(array))
    assert found.shape == array.shape
    assert np.array_equal(found, array)


@given(st.integers(0, 100), st.binary(max_size=3))
def test_a_cut_or_lengthened_idx_file_is_refused(cut, more):
    data = idx_bytes(PIXELS[:1, :9, :10])
    with pytest.raises(ValueError, match="IDX file"):
        idx(data[: len(data) - cut - 1] + more if cut > 2 or not more else data + more)


def test_an_idx_file_of_other_numbers_is_refused():
    with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
        idx(b"\0\0\x0d\x01" + idx_bytes(ANSWERS)[4:])


# --- the real files ---------------------------------------------------------------------------

MD5 = {  # those of torchvision 0.20, torchvision/datasets/mnist.py and cifar.py
    "mnist": """f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432
        9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c""",
    "fashion-mnist": """8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe
        bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310""",
    "cifar-10": """c99cafc152244af753f735de768cd75f d4bba439e000b95fd0a9bffe97cbabec
        54ebc095f3ab1f0389bbae665268c751 634d18415352ddfa80567beed471001a
        482c414d41f54cd18b22e5b47cb7c3cb 40351d587109b95175f43aff81a1287e""",
}
REAL = {"mnist": MNIST, "fashion-mnist": FASHION_MNIST, "cifar-10": CIFAR_10}


@pytest.fixture(params=REAL)
def real(request):
    """Name, folder of the files, and the data set."""
    folder = os.environ.get("SBPCA_DATA")
    if not folder:
        pytest.skip("the environment variable SBPCA_DATA names no folder of data sets")
    try:
        data = load_dataset(request.param)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    folders = [Path(folder) / below for below in REAL[request.param].folders]
    first = next(iter(REAL[request.param].files))
    return request.param, next((f for f in folders if (f / first).exists()), None), data


def test_the_published_sums_are_of_the_files_that_torchvision_knows(real):
    name, folder, _ = real
    if folder is None:
        pytest.skip("packed in an archive")
    found = [hashlib.md5((folder / f).read_bytes()).hexdigest() for f in REAL[name].files]
    assert found == MD5[name].split()


QUOTED = {  # first labels of training and of test samples, means of the channels
    "mnist": ([5, 0, 4, 1, 9], [7, 2, 1, 0, 4], [0.1307]),
    "fashion-mnist": ([9, 0, 0, 3, 0], [9, 2, 1, 1, 6], [0.2860]),
    "cifar-10": ([6, 9, 9, 4, 1], [3, 8, 8, 0, 6], [0.4914, 0.4822, 0.4465]),
}


def test_published_data_have_the_statistics_that_everybody_quotes(real):
    name, _, data = real
    channels = data.train_inputs.view(-1, *data.image_shape)
    train, test, means = QUOTED[name]
    assert data.train_labels[:5].tolist() == train
    assert data.test_labels[:5].tolist() == test
    assert channels.mean((0, 2, 3)).tolist() == pytest.approx(means, abs=6e-5)
    assert len(data.test_labels) == 10_000
    assert len(data.train_labels) == (50_000 if name == "cifar-10" else 60_000)
    assert (float(data.train_inputs.min()), float(data.train_inputs.max())) == (0.0, 1.0)


def test_the_digest_is_that_of_the_published_samples(real):
    name, _, data = real
    parts = REAL[name].load(Path(os.environ["SBPCA_DATA"]))
    assert digest(parts) == REAL[name].digest
    assert np.array_equal(255 * data.test_inputs[-9:], parts[2][-9:].reshape(9, -1))
