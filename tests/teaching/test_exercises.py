"""How an answer is checked, whatever the exercise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from toolkit.teaching import Wrong, check, close, exercise, exercises, wrong
from toolkit.teaching.exercises import DOTS, exercise_names, topics

TOPICS = topics()


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> str:
    """An exercise: a function that doubles a number."""

    @exercise("quick_start.double")
    def doubled(answer: Any) -> str | Wrong | None:
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
    raised = check(double, lambda x: x / 0)
    assert not raised
    assert "`ZeroDivisionError: division by zero`" in raised.message
    assert "takes 0 positional" in check(double, lambda: 42).message


@pytest.mark.parametrize("answer", [..., (1, ...), [...], {"left": 1, "right": ...}])
def test_dots_are_unanswered(answer: Any) -> None:
    assert check("quick_start.words", answer).message == DOTS


def test_an_answer_of_a_wrong_kind_is_a_hint() -> None:
    assert "ValueError" in check("quick_start.words", "many").message
    assert not check("quick_start.words", None)


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
