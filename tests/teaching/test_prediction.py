"""Predictions: what the reader says stands beside what was measured."""

from __future__ import annotations

from typing import Any

import panel as pn
import pytest
from bokeh.document import Document
from bokeh.models import ImportedStyleSheet, UIElement
from panel.io.notebook import patch_inline_stylesheets
from panel.models.markup import HTML
from pyviz_comms import Comm

from toolkit.teaching import fast, predict


def test_a_prediction_stands_beside_the_result_and_follows_the_slider() -> None:
    asked = predict("How much is lost?", low=0, high=20, unit="%", guess=5)
    beside = asked.beside(2.25)
    assert asked.value == 5
    assert beside.object == "You have not chosen yet; measured: **2.25 %**."
    asked.widget.value = 8
    assert beside.object == "You said **8 %**; measured: **2.25 %**."
    asked.widget.value = 5
    assert beside.object == "You said **5 %**; measured: **2.25 %**."


def test_a_slider_that_was_moved_away_and_back_has_been_chosen() -> None:
    asked = predict("How much is lost?", low=0, high=20, unit="%", guess=5)
    asked.widget.value = 6
    asked.widget.value = 5
    assert asked.beside(2.25).object == "You said **5 %**; measured: **2.25 %**."


def test_a_first_option_counts_at_once() -> None:
    asked = predict("Which?", options=["rows", "columns"], guess="rows")
    assert asked.beside("rows").object == "You said **rows**; measured: **rows**."


def test_a_moved_slider_fetches_nothing() -> None:
    asked = predict("How much?", low=0, high=20, guess=5)
    beside, document, comm = asked.beside(2), Document(), Comm()
    comm._comm = comm  # a connection to a page that is not there
    with pn.config.set(inline=True):
        model = beside._render_model(document, comm)
        for part in model.select({"type": UIElement}):
            patch_inline_stylesheets(part)
        asked.widget.value = 8
    line = model.select_one({"type": HTML})  # the pages' theme, once imported, wraps it
    assert "8" in line.text
    assert not [sheet for sheet in line.stylesheets if isinstance(sheet, ImportedStyleSheet)]


def test_numbers_are_short() -> None:
    asked = predict("How many?", low=0, high=9999)
    asked.widget.value = 1234
    assert asked.beside(0.12345).object == "You said **1,234**; measured: **0.123**."


def test_a_choice_is_open_at_first() -> None:
    asked = predict("Which?", options=["rows", "columns"])
    beside = asked.beside("rows")
    assert asked.value is None
    assert beside.object == "You have not chosen yet; measured: **rows**."
    asked.widget.value = "columns"
    assert beside.object.startswith("You said **columns**")


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({}, "low and high, or options"),
        ({"low": 0}, "low and high, or options"),
        ({"low": 0, "high": 1, "options": [1]}, "low and high, or options"),
        ({"low": 2, "high": 1}, "low"),
        ({"low": 0, "high": 1, "guess": 2}, "guess"),
        ({"options": [1, 2], "guess": 3}, "guess"),
    ],
)
def test_a_question_that_cannot_be_asked(knobs: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        predict("What?", **knobs)


def test_the_middle_is_the_first_guess() -> None:
    assert predict("What?", low=1, high=3).value == 2


@pytest.mark.parametrize(("setting", "size"), [(None, 20), ("", 20), ("1", 3)])
def test_sizes_are_reduced_by_one_variable(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, size: int
) -> None:
    monkeypatch.delenv("TOOLKIT_FAST", raising=False)
    if setting is not None:
        monkeypatch.setenv("TOOLKIT_FAST", setting)
    assert fast(20, 3) == size
