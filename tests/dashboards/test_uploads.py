"""What visitors send: bytes only, of bounded size, read in a process with limits."""

import asyncio
import io
import itertools
import random
import re
import time
from functools import partial
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import xarray as xr

from dashboards.app import child, site
from dashboards.app.child import in_child
from dashboards.app.settings_text import knobs_of_yaml
from dashboards.app.uploads import Upload
from dashboards.devices.measured import fitted
from dashboards.results.page import attempt
from dashboards.results.run_files import read_run
from tests.dashboards.driving import beside
from toolkit.crossbar import get_device
from toolkit.fitting import PulseTrains, model_names
from toolkit.results import to_bytes, to_zarr_zip
from toolkit.training import Experiment, Settings
from toolkit.training.experiment.knobs import knobs_of


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
    found = beside(attempt(to_bytes(tree)))
    assert isinstance(found, xr.DataTree) and found.identical(read_run(to_bytes(tree)))


@pytest.mark.parametrize(
    ("work", "said"),
    [(sleeping, "takes longer than"), (hungry, "memory"), (crashing, "crash")],
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


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (hdf5(x={"shape": (10**9,), "dtype": "f8", "chunks": (1000,)}), "holds more than"),
        (hdf5(x={"shape": (10**9,), "dtype": TEXT, "chunks": (1000,)}), "holds more than"),
        (MANY, "holds more than"),
    ],
)
def test_declared_sizes_are_refused_before_anything_is_read(data, said):
    with pytest.raises(ValueError, match=said):
        read_run(data)


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


WORDS = ["", "nan", "inf", "-1", "0", "1e400", "1e300", "0x1f", "9" * 5000, "\u0663", "\0", "\n"]
WORDS += [*"\t\"',;#:-[}~", "1:30", "<<", "&a", "*a", "!!int"]


def text_mutations(text, count):
    """Words replaced, and lines left out, repeated and exchanged."""
    generator = random.Random(0)
    for number in range(count):
        parts = text.splitlines(keepends=True)
        if number % 2:
            parts = re.findall(r"[\w.+-]+|[^\w.+-]", text)
        for _ in range(generator.randint(1, 4)):
            place, other = (generator.randrange(len(parts)) for _ in range(2))
            what = generator.randrange(4)
            if what == 0:
                del parts[place : place + generator.randint(1, 1 + len(parts) // 4)]
                parts = parts or ["x"]
            elif what == 1:
                parts[place], parts[other] = parts[other], parts[place]
            elif what == 2:
                parts[place:place] = parts[other : other + generator.randint(1, 5)]
            elif number % 2:
                parts[place] = generator.choice(WORDS)
        yield "".join(parts).encode()


SETTINGS = """# Settings
method: feedback
rank: 7
learning_rate: 0.1
device: Ag:a-Si
hidden: [64, 32]
nonlinearity_up: 2.5
coding: coincidence
bit_length: 63
"""


def table():
    """Few readings: a fit of them takes some milliseconds."""
    trains = PulseTrains.simulated(get_device("ideal"), cells=2, cycles=2, up=20, down=20, seed=0)
    columns = zip(
        trains.cell, trains.cycle, trains.pulse, trains.polarity, trains.conductance, strict=True
    )
    lines = [",".join(map(str, reading)) for reading in columns]
    return "\n".join(["cell,cycle,pulse,polarity,conductance", *lines]) + "\n"


@pytest.mark.parametrize("kind", ["table", "settings"])
def test_mutations_of_text_are_read_or_one_sentence(kind):
    models = itertools.cycle(model_names())
    text = table() if kind == "table" else SETTINGS
    read = 0
    for spoiled in [*text_mutations(text, 200), *mutations(text.encode(), 200)]:
        try:
            if kind == "table":
                _, fit = fitted(spoiled, next(models), "x")
                assert np.isfinite(fit.rms) and fit.device.trace(5, 5).isfinite().all()
            else:
                assert set(knobs_of_yaml(spoiled)) <= set(knobs_of(Settings))
            read += 1
        except ValueError as error:
            assert str(error) and "Traceback" not in str(error) and "zip()" not in str(error)
    assert 5 <= read < 400


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (partial(fitted, b"cell,cycle,pulse,polarity," + b"x" * 10**5, "neurosim", "x"), "missing"),
        (partial(knobs_of_yaml, b"rank: " + b"1:" * 4000 + b"1"), "rank must be"),
        (partial(knobs_of_yaml, b"{" * 16_000), "8 levels deep"),
    ],
)
def test_what_an_upload_says_is_one_short_line(read, said):
    with pytest.raises(ValueError, match=said) as refused:
        in_child(read)
    assert len(str(refused.value)) <= 500 and "\n" not in str(refused.value)


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


def test_a_file_that_the_browser_refuses_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(site, "notify", said.append)
    Upload(max_file_size=10)._handle_msg({"status": "error", "error": "File too large"})
    assert said == ["File too large"]


def test_an_empty_file_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(site, "notify", said.append)
    Upload(max_file_size=10)._handle_msg({"status": "finished"})
    assert said == ["Nothing arrived: the file is empty, or was refused."]


def test_work_for_a_page_that_was_closed_shows_nothing(monkeypatch):
    page = SimpleNamespace(session_context=SimpleNamespace(destroyed=True))
    monkeypatch.setattr(child.pn, "state", SimpleNamespace(curdoc=page))
    with pytest.raises(asyncio.CancelledError):
        beside(child.read_beside(len, b"table"))
