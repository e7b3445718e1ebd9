"""How an answer is checked, whatever the exercise."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from tests.teaching.test_rank_block_batch import ACCURACY
from toolkit.teaching import Wrong, check, close, exercise, exercises, wrong
from toolkit.teaching.exercises import DOTS, UNREADABLE, Function, exercise_names, topics

TOPICS = topics()
TRAINING = xr.Dataset({"rank": ("step", [4, 8])}, {"step": [1, 2]})
GIVEN = {
    "quick_start.first_step": {"tree": xr.DataTree.from_dict({"/training": TRAINING})},
    "rank_block_batch.smallest_rank": {"accuracy": ACCURACY, "full": 95.0},
}
NAN = float("nan")
OTHERS: list[Any] = [None, "9,350", ["a"], NAN, {"a": 1}, {1}, xr.Dataset(), 1 + 2j, [[1], [1, 2]]]
OTHERS += [[], np.ones((2, 2, 2)), iter([1]), (NAN, NAN), ("a", "b"), ("a", "b", "c")]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> str:
    """An exercise: a function that doubles a number."""

    @exercise("quick_start.double")
    def doubled(answer: Function) -> str | Wrong | None:
        return None if answer(21) == 42 else wrong("Twice.")

    monkeypatch.setattr(exercises, "_exercises", lambda _: {"quick_start.double": doubled})
    return "quick_start.double"


def test_a_function_is_called_and_its_errors_are_hints(double: str) -> None:
    def unwritten(x: int) -> None: ...

    right = check(double, lambda x: 2 * x)
    assert right and right.message == "Right."
    assert check(double, lambda x: x).message == "Not yet. Twice."
    assert check(double, unwritten).message == DOTS
    assert check(double, lambda x: (x, ...)).message == DOTS

    def stops(x: int) -> float:
        return x / 0

    assert check(double, stops).message == (
        "Not yet. Your function stopped at `return x / 0`: `ZeroDivisionError: division by zero`"
    )
    assert "takes 0 positional" in check(double, lambda: 42).message


@pytest.mark.parametrize("answer", [..., (1, ...), [...], {"left": 1, "right": ...}])
def test_dots_are_unanswered(answer: Any) -> None:
    assert check("quick_start.words", answer).message == DOTS


@pytest.mark.parametrize("name", [name for topic in TOPICS for name in exercise_names(topic)])
def test_an_answer_of_another_kind_gets_a_line_that_says_so(name: str) -> None:
    for other in OTHERS:
        for answer in (other, lambda *_, other=other: other):
            verdict = check(name, answer, **GIVEN.get(name, {}))
            assert not verdict
            assert verdict.message not in (DOTS, f"Not yet. {UNREADABLE}") or other is None
            assert "Error" not in verdict.message and "\n" not in verdict.message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("9350", "not text. Leave out the quotes"),
        (["a"], "not text"),
        (None, "not None"),
        ({9350}, "a value of type `set`"),
        (abs, "not a function"),
        (float("nan"), "NaN"),
        (9350 + 1j, "complex"),
        ((9, 350), "1,000 is two"),
        ([1, 2, 3], "One number is asked for, not 3."),
        ([[1], [1, 2]], "differ in length"),
    ],
)
def test_an_answer_that_is_no_number_is_named(answer: Any, hint: str) -> None:
    assert hint in check("quick_start.words", answer).message


@pytest.mark.parametrize(
    "answer",
    [
        9350.0,
        np.int64(9350),
        np.array([9350]),
        [9350],
        torch.tensor(9350.0, requires_grad=True),
        Fraction(9350),
        9350 + 0j,
        xr.DataArray(9350),
    ],
)
def test_a_number_may_come_in_any_form(answer: Any) -> None:
    assert check("quick_start.words", answer)


@pytest.mark.parametrize("form", [list, np.array, torch.tensor, lambda pair: np.c_[pair]])
def test_two_numbers_may_come_in_any_form(form: Any) -> None:
    assert check("crossbar.pair", form([85.0, 35.0]))
    assert check("sbpca.by_hand", form([0.6, 0.8]))


def test_a_function_must_be_one_and_may_return_single_precision() -> None:
    assert "A function is asked for, not a number." in check("crossbar.quantise", 3).message
    assert check(
        "wires_faults_drift.farthest", lambda R, r, m, n: torch.tensor(1 / (R + (m + n) * r))
    )


@pytest.mark.parametrize("name", ["nothing.words", "quick_start.nothing", "quick_start"])
def test_an_unknown_exercise_is_an_error_that_lists_those_known(name: str) -> None:
    with pytest.raises(ValueError, match="quick_start"):
        check(name, 1)


def test_a_verdict_is_shown_as_text() -> None:
    verdict = check("quick_start.words", 9350)
    assert verdict._repr_markdown_() == str(verdict) == verdict.message


@pytest.mark.parametrize("topic", TOPICS)
def test_a_module_holds_the_exercises_of_its_topic(topic: str) -> None:
    names = exercise_names(topic)
    assert names
    assert all(name.startswith(f"{topic}.") for name in names)
    assert all(check(name, ...).message == DOTS for name in names)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_close_takes_numbers_and_arrays(kind: Any) -> None:
    assert close(kind([1.0, 2.0]), [1.0, 2.0 + 1e-9])
    assert not close(kind([1.0, 2.01]), [1.0, 2.0], relative=0.001)
    assert close(kind([1.0, 2.01]), [1.0, 2.0], relative=0.01)
    assert not close(kind([1.0, float("nan")]), [1.0, 2.0])
    assert not close(kind([[1.0, 2.0]]), [1.0, 2.0])
    assert not close(kind([1.0, 2.0]), [1.0, float("nan")])
    assert close(0, 0.0) and not close(1e-30, 0.0)
