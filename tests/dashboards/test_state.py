"""Settings as text: what comes back is what was sent; what a visitor may not send is refused."""

import numpy as np
import pytest
import yaml

from dashboards.app.settings_text import (
    knobs_of_query,
    knobs_of_yaml,
    python_of,
    query_of,
    validated,
    yaml_of,
)
from toolkit.crossbar import get_device
from toolkit.training import Experiment

KNOBS = {
    "hidden": [32, 16],
    "rank": 6,
    "device": "Ag:a-Si",
    "cycle_to_cycle": 0.05,
    "dac_bits": 6,
    "learning_rate": 1e-05,
    "seed": 2**32 - 1,
}


def test_former_names_and_flags_are_read():
    assert knobs_of_query("past=0&sweeps=2") == {"history": 0.0, "passes": 2}
    assert knobs_of_yaml(b"sweeps: 3") == {"passes": 3}
    found = knobs_of_query("unbiased=True&memory_rank=None")
    assert found == {"unbiased": True, "memory_rank": None}
    with pytest.raises(ValueError, match="unbiased must be True or False; got 'perhaps'"):
        knobs_of_query("unbiased=perhaps")


def test_a_query_brings_back_what_differs_from_the_defaults():
    assert knobs_of_query(query_of(KNOBS)) == KNOBS
    assert knobs_of_query("?" + query_of(KNOBS)) == KNOBS
    assert query_of({"rank": 4, "batch_size": 32}) == "batch_size=32"
    assert query_of(KNOBS).startswith("hidden=32,16&seed=4294967295&rank=6")
    assert knobs_of_query("") == {}


def test_two_runs_share_a_query_by_prefixes():
    query = query_of({"rank": 1}, prefix="a.") + "&" + query_of(KNOBS, prefix="b.")
    assert knobs_of_query(query, prefix="a.") == {"rank": 1}
    assert knobs_of_query(query, prefix="b.") == KNOBS


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rank=1000", "rank must be a whole number, 1 to 512; got 1000"),
        ("rank=many", "rank must be a number; got 'many'"),
        ("rank=4.5", "rank must be a number; got '4.5'"),
        ("rank=nan", "rank must be a number"),
        ("learning_rate=nan", "learning_rate must be a finite number"),
        ("dataset=/etc/passwd", "dataset must be one of"),
        ("model=../x", "model must be one of"),
        ("device=None", "device must be one of"),
        ("ranks=4", "unknown knob 'ranks'"),
        ("__class__=4", "unknown knob '__class__'"),
        ("hidden=5000", "hidden must be a list of widths, 1 to 4096 each"),
        ("hidden=" + ",".join(["2"] * 90), "hidden must be a name, a number or a short list"),
        ("device=" + "x" * 5000, "device must be a name, a number or a short list"),
        ("x" * 5000 + "=1", "unknown knob"),
        ("hidden=4096,4096", "too large for this server"),
        ("hidden=two", "hidden must be a number"),
        ("block_size=128", "block_size=128 is above batch_size=64"),
        ("batch_size=" + "9" * 5000, "batch_size must be a number"),
    ],
)
def test_a_query_that_is_not_allowed_is_one_short_message(query, said):
    with pytest.raises(ValueError, match=said) as raised:
        knobs_of_query(query)
    assert len(str(raised.value)) < 600


def test_an_object_cannot_be_written_as_text():
    with pytest.raises(ValueError, match="device was passed as an object"):
        query_of({"device": get_device("EpiRAM")})


def test_yaml_brings_back_what_differs_from_the_defaults():
    assert knobs_of_yaml(yaml_of(KNOBS).encode()) == KNOBS
    assert knobs_of_yaml(yaml_of({}).encode()) == {}
    assert list(yaml.safe_load(yaml_of({"rank": 4, "batch_size": 32}))) == ["batch_size"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe", "cannot be read"),
        (b"rank: [", "cannot be read"),
        (b"[" * 16_000, "cannot be read"),
        (b"- rank", "settings are lines of the form"),
        (b"4: rank", "settings are lines of the form"),
        (b"rank: 4\n" * 3000, "has 24,000 bytes; settings have at most 16,384"),
        (b"rank: !!python/object/apply:os.system ['true']", "cannot be read"),
        (b"a: &a [1,1]\nhidden: [*a,*a]", "aliases"),
        (b"rank: yes", "rank must be a whole number"),
        (b"device: 2026-01-01", "device must be a name, a number"),
        (b"rank: {a: 1}", "rank must be a name, a number"),
        (b"hidden: [[[]]]", "hidden must be a list of widths"),
        (b"rank: 0", "rank must be a whole number"),
    ],
)
def test_a_file_that_is_not_allowed_is_one_short_message(data, said):
    with pytest.raises(ValueError, match=said) as raised:
        knobs_of_yaml(data)
    assert len(str(raised.value)) < 600


def test_validated_gives_plain_values():
    assert validated({"rank": 3, "hidden": [8]}) == {"rank": 3, "hidden": [8]}
    with pytest.raises(ValueError, match="rank must be a name, a number"):
        validated({"rank": np.int64(3)})


def test_python_repeats_a_run_bit_for_bit():
    knobs = {"hidden": [12], "batch_size": 16, "seed": 3}
    run = Experiment(**knobs)
    changes = []
    for steps, turned in [
        (3, {"device": "Ag:a-Si"}),
        (0, {"device": "EpiRAM"}),  # twice between two batches: programmed twice
        (0, {"rank": 2, "block_size": 4}),
        (2, {"batch_size": 8, "learning_rate": 0.7}),
        (2, {"method": "sgd"}),
    ]:
        for _ in range(steps):
            run.step()
        run.change(**turned)
        changes.append((run.step_count, turned))
    run.step()
    found: dict = {}
    exec(python_of(run.knob_values() | Experiment(**knobs).knob_values(), changes, 8), found)
    again = found["run"]
    assert again.step_count == run.step_count == 8 and again.pulses == run.pulses
    for name, array in run.arrays.items():
        assert array.weights.equal(again.arrays[name].weights)
    assert [e[1:] for e in again.record.events] == [e[1:] for e in run.record.events]
    assert len(run.record.events) == 7
