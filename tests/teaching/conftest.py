"""Hands the answers of a test module, ``RIGHT`` and ``WRONG``, to the tests of ``answers.py``."""

from __future__ import annotations

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    topic = metafunc.module.__name__.rpartition("test_")[2]
    if "right" in metafunc.fixturenames:
        answers = [(f"{topic}.{name}", answer) for name, answer in metafunc.module.RIGHT.items()]
        metafunc.parametrize("right", answers, ids=[name for name, _ in answers])
    if "wrong" in metafunc.fixturenames:
        answers = [(f"{topic}.{name}", *rest) for name, *rest in metafunc.module.WRONG]
        metafunc.parametrize("wrong", answers, ids=[f"{name}-{hint}" for name, _, hint in answers])
