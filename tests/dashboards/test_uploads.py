"""What visitors send: bytes only, of bounded size, read in a process with limits."""

import io
import json
import random
import time
import zipfile

import h5py
import numpy as np
import pytest
import xarray as xr

from dashboards import child
from dashboards.child import in_child
from dashboards.results import attempt
from dashboards.run_files import read_run
from dashboards.uploads import Upload
from toolkit.results import to_bytes, to_zarr_zip
from toolkit.training import Experiment


@pytest.fixture(scope="module")
def tree():
    run = Experiment(rank=2, record_every=1)
    run.step()
    return run.results()


def sleeping(_):
    time.sleep(60)


def hungry(data):
    return bytes(8 * 1024**3) + data


def crashing(_):
    import os

    os.abort()


def test_a_run_comes_back_whole(tree):
    found = attempt(to_bytes(tree))
    assert isinstance(found, xr.DataTree) and found.identical(read_run(to_bytes(tree)))


@pytest.mark.parametrize(
    ("work", "said"),
    [(sleeping, "takes more than"), (hungry, "memory"), (crashing, "crash")],
)
def test_work_beyond_the_limits_is_one_sentence(work, said):
    deadline = 3.0 if work is sleeping else child.DEADLINE_S
    with pytest.raises(ValueError, match=said):
        in_child(work, b"", deadline=deadline)


@pytest.mark.parametrize("data", [10**9, 1.5, "text", [1, 2], None])
def test_an_upload_is_bytes(data):
    upload = Upload(max_file_size=100)
    message = {"name": "x", "chunk": 1, "total_chunks": 1, "mime_type": "", "data": data}
    with pytest.raises(ValueError, match="an upload must be bytes"):
        upload._process_chunk(message)


def hdf5(**made):
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        for name, options in made.items():
            file.create_dataset(name, **options)
    return target.getvalue()


TEXT = h5py.string_dtype()
LARGE = {"shape": (2**24,), "dtype": "f8", "chunks": (2**10,)}
MANY = hdf5(**{f"x{number}": LARGE for number in range(9)})
LONG = np.full(2100, "x" * 2**12, dtype=object)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (hdf5(x={"shape": (10**9,), "dtype": "f8", "chunks": (1000,)}), "holds more than"),
        (hdf5(x={"shape": (10**9,), "dtype": TEXT, "chunks": (1000,)}), "holds more than"),
        (hdf5(x={"data": LONG, "dtype": TEXT}), "of text"),
        (MANY, "holds more than"),
    ],
)
def test_declared_sizes_are_refused_before_anything_is_read(data, said):
    with pytest.raises(ValueError, match=said):
        read_run(data)


def with_metadata(data, change):
    """The zipped store with every array's metadata changed."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            held = old.read(entry)
            if entry.filename.endswith("zarr.json"):
                metadata = json.loads(held)
                if metadata["node_type"] == "array":
                    metadata |= change
                held = json.dumps(metadata).encode()
            new.writestr(entry, held)
    return target.getvalue()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "codec"),
        ({"shape": [10**9]}, "too large"),
        ({"shape": [-1]}, "no list of sizes"),
        ({"shape": ["1"]}, "no list of sizes"),
        ({"storage_transformers": [{"name": "x"}]}, "storage transformer"),
    ],
)
def test_a_store_is_judged_by_its_metadata(tree, change, said):
    with pytest.raises(ValueError, match=said):
        read_run(with_metadata(to_zarr_zip(tree), change))


def mutations(data, count):
    generator = random.Random(0)
    for _ in range(count):
        spoiled = bytearray(data)
        for _ in range(generator.randint(1, 8)):
            place = generator.randrange(len(spoiled))
            what = generator.randrange(3)
            if what == 0:
                spoiled[place] ^= 1 << generator.randrange(8)
            elif what == 1:
                del spoiled[place : place + generator.randint(1, 50)]
            else:
                spoiled[place:place] = generator.randbytes(generator.randint(1, 50))
        yield bytes(spoiled)


def all_read(data):
    """How many of the mutations of the data open; any other error than a ValueError escapes."""
    opened = 0
    for spoiled in mutations(data, 200):
        try:
            read_run(spoiled)
            opened += 1
        except ValueError as error:
            assert len(str(error)) < 1000
    return opened


@pytest.mark.parametrize("write", [to_bytes, to_zarr_zip])
def test_mutations_open_or_are_one_error(tree, write):
    assert 0 <= in_child(all_read, write(tree), deadline=200.0) <= 200
