"""Notebook 01: right answers pass, typical wrong ones get their own hint."""

import pytest
import xarray as xr

from toolkit.teaching import check


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (10 * 934, "third factor"),
        (10 * 936, "column for the bias"),
        (150 * 784, "full gradient"),
        (934, "one direction first"),
    ],
)
def test_the_count_of_words_hints_at_what_went_wrong(answer: int, hint: str) -> None:
    assert check("quick_start.words", 10 * (150 + 784 + 1))
    verdict = check("quick_start.words", answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (0, "from 1 to 6"),
        (2, "not 8"),
        (3, "a position"),
        (5, "go back further"),
        ([4, 5], "not 2"),
    ],
)
def test_the_step_of_a_change_hints_at_what_went_wrong(answer: int, hint: str) -> None:
    training = xr.Dataset({"rank": ("step", [4, 4, 4, 8, 8, 8])}, {"step": range(1, 7)})
    tree = xr.DataTree.from_dict({"/training": training})
    one = training.step[training["rank"] == 8][:1]
    for right in (4, 4.0, [4], one, one.values):
        assert check("quick_start.first_step", right, tree=tree)
    verdict = check("quick_start.first_step", answer, tree=tree)
    assert not verdict
    assert hint in verdict.message
