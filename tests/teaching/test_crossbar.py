"""Notebook 02: right answers pass, typical wrong ones get their own hint."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from toolkit.crossbar import Crossbar, Device
from toolkit.teaching import check


def hint(name: str, answer: Any) -> str:
    verdict = check(f"crossbar.{name}", answer)
    assert not verdict
    return verdict.message


def test_line_currents() -> None:
    assert check("crossbar.line_currents", lambda g, v: torch.einsum("ij,bj->bi", g, v))
    assert "comes first" in hint("line_currents", lambda g, v: g @ v.T)
    assert "sum over j" in hint("line_currents", lambda g, v: v @ g.T / len(v))
    assert "RuntimeError" in hint("line_currents", lambda g, v: v @ g)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((35, 85), "negative weight"),
        ((110, 10), "largest weight"),
        ((60, 10), "as far from the middle"),
        ((80, 40), "what weight do they hold"),
        ((135, 85), "leave its range"),
        ((85e-9, 35e-9), "in nanosiemens"),
        ((85, 35, 60), "Two numbers"),
    ],
)
def test_a_pair(answer: tuple[float, float], says: str) -> None:
    assert check("crossbar.pair", (85, 35))
    assert says in hint("pair", answer)


def test_the_pair_is_what_the_toolkit_programs() -> None:
    cell = Device(name="cell", g_min=10e-9, g_max=110e-9, levels_up=100, levels_down=100)
    array = Crossbar.from_weights(torch.tensor([[0.5]]), device=cell, w_max=1.0)
    assert check("crossbar.pair", tuple((1e9 * array.conductance).flatten().round(decimals=3)))


def quantiser(step_of: Any, rounding: Any = torch.round, clip: bool = True) -> Any:
    def quantise(signal: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
        step = step_of(bits, bound)
        inside = signal.clamp(-bound, bound) if clip else signal
        return rounding(inside / step) * step

    return quantise


def test_a_converter() -> None:
    def right(bits: int, bound: float) -> float:
        return bound / (2 ** (bits - 1) - 1)

    assert check("crossbar.quantise", quantiser(right))
    half_up = quantiser(right, lambda x: torch.floor(x + 0.5))
    assert check("crossbar.quantise", half_up)
    assert check("crossbar.quantise", lambda *given: half_up(*given).float())
    assert check("crossbar.quantise", lambda *given: half_up(*given).tolist())
    assert check("crossbar.quantise", lambda *given: half_up(*given).numpy())

    def nearest(signal: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
        levels = torch.linspace(-bound, bound, 2**bits - 1)
        return levels[(signal[:, None] - levels).abs().argmin(1)]

    assert check("crossbar.quantise", nearest)
    assert "beyond the bound" in hint("quantise", quantiser(right, clip=False))
    assert "Count the levels" in hint("quantise", quantiser(lambda b, x: x / 2 ** (b - 1)))
    for rounding in (torch.trunc, torch.floor, torch.ceil):
        assert "nearest" in hint("quantise", quantiser(right, rounding))
    assert "Count the levels" in hint("quantise", lambda s, _b, x: s.clamp(-x, x))
    steps = lambda s, b, x: torch.round(s.clamp(-x, x) / right(b, x))  # noqa: E731
    assert "Multiply by the step again" in hint("quantise", steps)

    def mid_rise(signal: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
        step = 2 * bound / 2**bits
        return (torch.floor(signal / step) + 0.5).clamp(-7.5, 7.5) * step

    assert "0 has to be a level" in hint("quantise", mid_rise)
    assert "One number comes out" in hint("quantise", lambda s, _b, _x: s.sum())


def test_noise_of_a_read() -> None:
    def sd(of: Any) -> Any:
        return lambda x, p, m, s, w, g: s * w / g * of(x, p, m)

    squares = lambda x, p, m: x**2 @ (p**2 + m**2).T  # noqa: E731
    assert check("crossbar.read_sd", sd(lambda x, p, m: squares(x, p, m).sqrt()))
    root = lambda x, p, m: (x**2 @ ((p - m) ** 2).T).sqrt()  # noqa: E731
    assert "does not cancel" in hint("read_sd", sd(root))
    assert "variances add up" in hint("read_sd", sd(lambda x, p, m: x @ (p + m).T))
    assert "across them" in hint("read_sd", sd(lambda x, p, m: (x @ (p**2 + m**2).T).sqrt()))
    variance = lambda x, p, m, s, w, g: (s * w / g) ** 2 * squares(x, p, m)  # noqa: E731
    assert "is the variance" in hint("read_sd", variance)
    unscaled = lambda x, p, m, s, w, g: s * squares(x, p, m).sqrt()  # noqa: E731
    assert "what factor" in hint("read_sd", unscaled)
    assert "batch or output" in hint("read_sd", sd(lambda x, p, m: squares(x, p, m).sqrt().T))
    assert "two cells" in hint("read_sd", sd(lambda x, p, _: (x**2 @ (p**2).T).sqrt()))
    assert "two cells" in hint("read_sd", sd(lambda x, _, m: (x**2 @ (m**2).T).sqrt()))
    together = lambda x, p, m: (x**2 @ ((p + m) ** 2).T).sqrt()  # noqa: E731
    assert "one by one" in hint("read_sd", sd(together))
    assert "yours is (5, 4)" in hint("read_sd", lambda x, *_: x)
    assert "term by term" in hint("read_sd", lambda x, p, *_: x @ p.T)
