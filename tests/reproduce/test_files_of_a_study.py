"""Rows become one grid; a journal keeps them over an interruption."""

import json

import numpy as np
import pytest
import xarray as xr

from toolkit.reproduce.results import Journal, open_dataset, save_dataset, to_dataset

ROWS = [
    {"method": "MBGD", "rank": 0, "learning_rate": 0.5, "rate_at_edge": 0},
    {"method": "MBGD", "rank": 0, "seed": 0, "test_accuracy": 98.0},
    {"method": "MBGD", "rank": 0, "seed": 1, "test_accuracy": 97.0},
    {"method": "SBPCA", "rank": 4, "seed": 1, "test_accuracy": 96.0},
    {"method": "SBPCA", "rank": 4, "trial_rate": 0.25, "validation_accuracy": 95.0},
    {"method": "SBPCA", "rank": 4, "learning_rate": 0.25, "rate_at_edge": 1},
]


def test_every_row_has_its_place():
    data = to_dataset(ROWS)
    assert dict(data.sizes) == {"method": 2, "rank": 2, "trial_rate": 1, "seed": 2}
    assert data.test_accuracy.dims == ("method", "rank", "seed")
    np.testing.assert_array_equal(
        data.test_accuracy.sel({"method": "SBPCA", "rank": 4}), [np.nan, 96.0]
    )
    assert float(data.learning_rate.sel({"method": "MBGD", "rank": 0})) == 0.5
    assert np.isnan(data.learning_rate.sel({"method": "MBGD", "rank": 4}))


def test_it_opens_with_plain_xarray_and_says_what_it_holds(tmp_path):
    data = to_dataset(ROWS).assign_attrs(Conventions="CF-1.11")
    path = save_dataset(data, tmp_path / "C1.nc")
    with xr.open_dataset(path) as plain:
        xr.testing.assert_identical(plain.load(), open_dataset(path))
        assert plain.test_accuracy.attrs["units"] == "percent"
        assert plain.method.values.tolist() == ["MBGD", "SBPCA"]
    for variable in data.variables.values():
        assert variable.attrs["long_name"]


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match=r"undeclared names \['accuracy'\]"):
        to_dataset([{"method": "MBGD", "accuracy": 1.0}])
    with pytest.raises(ValueError, match="measured twice"):
        to_dataset([ROWS[1], ROWS[1]])
    with pytest.raises(ValueError, match="over other dimensions"):
        to_dataset([ROWS[1], {"method": "MBGD", "test_accuracy": 1.0}])


def test_journal_gives_back_what_it_was_given(tmp_path):
    path = tmp_path / "C1.jsonl"
    Journal(path).add({"rank": 4, "rates": (0.1,)}, ROWS[:2])
    again = Journal(path)
    assert again.find({"rates": (0.1,), "rank": 4}) == ROWS[:2]
    assert again.find({"rank": 8, "rates": (0.1,)}) is None
    assert Journal(path, fresh=True).find({"rank": 4, "rates": (0.1,)}) is None


def test_a_line_cut_short_is_measured_again(tmp_path):
    path = tmp_path / "C1.jsonl"
    Journal(path).add({"rank": 4}, ROWS[:1])
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + "\n" + json.dumps({"key": "x", "rows": []})[:-5], encoding="utf-8")
    journal = Journal(path)
    assert journal.find({"rank": 4}) == ROWS[:1]
    journal.add({"rank": 8}, ROWS[1:2])
    assert Journal(path).find({"rank": 8}) == ROWS[1:2]
