"""What the exercises of every topic are held to.

A module ``test_<topic>.py`` imports these tests and gives ``RIGHT``, an answer by the name of its
exercise, and ``WRONG``, (name, answer, part of the hint); ``conftest.py`` hands them out.
"""

from __future__ import annotations

from typing import Any

from toolkit.teaching import check


def test_right_answers_pass(right: tuple[str, Any]) -> None:
    verdict = check(*right)
    assert verdict, verdict.message


def test_dots_are_unanswered(right: tuple[str, Any]) -> None:
    name, answer = right
    assert "dots" in check(name, ...).message
    if callable(answer):
        assert "dots" in check(name, lambda *_, **__: ...).message


def test_wrong_answers_get_their_hint(wrong: tuple[str, Any, str]) -> None:
    name, answer, hint = wrong
    verdict = check(name, answer)
    assert not verdict
    assert hint in verdict.message
