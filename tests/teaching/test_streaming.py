"""Notebook 05: right answers pass, typical wrong ones get their own hint."""

from typing import Any

import numpy as np

from tests.teaching.answers import (  # noqa: F401
    test_dots_are_unanswered,
    test_right_answers_pass,
    test_wrong_answers_get_their_hint,
)
from toolkit.teaching import check


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


RIGHT: dict[str, Any] = {
    "power_step": lambda G, x: unit(G.T @ (G @ x)),
    "rounds": 33,
    "subspace_factor": 0.0657,
    "floor": 256,
    "running_mean": lambda i: 1 / (i + 1),
}
WRONG: list[tuple[str, Any, str]] = [
    ("power_step", lambda G, x: unit(G @ x), "half-way"),
    ("power_step", lambda G, x: G.T @ (G @ x), "length is not 1"),
    ("power_step", lambda _G, x: unit(x), "not along"),
    ("power_step", lambda G, _x: G.T @ G, "shape of x"),
    ("power_step", lambda G, x: G.T @ (G @ x) / np.abs(x).max(), "Euclidean"),
    ("rounds", 66, "two halves"),
    ("rounds", 7, "not 1 - r"),
    ("rounds", 32.8, "Whole rounds"),
    ("rounds", 5, "Solve"),
    ("subspace_factor", 1 / 3.9, "one half"),
    ("subspace_factor", (3.9 / 4) ** 2, "inside the subspace"),
    ("subspace_factor", 1 / 64, "weakest one inside"),
    ("subspace_factor", 0.25, "first column"),
    ("subspace_factor", 0.9, "Compare"),
    ("floor", 128, "square root"),
    ("floor", 32, "noisier"),
    ("floor", 100, "noise go"),
    ("running_mean", lambda i: 1 / (i + 2), "no past"),
    ("running_mean", lambda _i: 1.0, "forgotten"),
    ("running_mean", lambda i: 1 / (2 * i + 1), "not 1/6"),
    ("running_mean", lambda i: i, "Begin with"),
]


def test_the_praise_of_a_power_step_is_measured() -> None:
    assert "= 1.000000" in check("streaming.power_step", RIGHT["power_step"]).message


def test_the_second_column_needs_45_rounds_for_a_digit() -> None:
    assert round(np.log(10) / -np.log((3.9 / 4) ** 2)) == 45
