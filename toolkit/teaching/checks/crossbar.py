"""Exercises of notebook 02: currents of an array, pairs of cells, converters and read noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar import Converter
from toolkit.teaching.exercises import Function, Wrong, close, exercise, judge, numbers, two, wrong

RANGE = (10.0, 110.0)  # nS
BITS, BOUND = 4, 1.5
TOLERANCE = 1e-6  # of the bound: single precision is enough


@exercise("crossbar.line_currents")
def line_currents(answer: Function) -> str | Wrong:
    """Currents (batch, m) from conductances (m, n) and voltages (batch, n)."""
    generator = torch.Generator().manual_seed(0)
    conductance = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    voltages = torch.rand(5, 2, generator=generator, dtype=torch.float64)
    expected = voltages @ conductance.T
    return judge(
        answer(conductance, voltages),
        (expected, "A batch is one matrix product; the array does one read per row."),
        (expected.T, "The numbers are right. Which comes first in the shape: batch or output?"),
        otherwise="Write the sum over j for one row of voltages first. Which dimension of "
        "`conductance` must meet the n of `voltages`?",
    )


@exercise("crossbar.pair")
def pair(answer: tuple[float, float]) -> str | Wrong:
    """The pair (G+, G-) in nS that holds half of w_max in a range of 10 to 110 nS."""
    (plus, minus), (low, high) = two(answer, "(G+, G-)"), RANGE
    if 0 < max(abs(plus), abs(minus)) < 1e-3:
        return wrong("That looks like siemens: give the numbers in nanosiemens.")
    if not (low <= plus <= high and low <= minus <= high):
        return wrong(f"A cell cannot leave its range: {low:g} to {high:g} nS.")
    if plus < minus:
        return wrong("That pair holds a negative weight. Which cell is the larger for w > 0?")
    if close(plus - minus, high - low):
        return wrong("That is the largest weight. What share of the range does 0.5 ask for?")
    if not close(plus - minus, (high - low) / 2):
        return wrong("Put your two numbers into the formula of w: what weight do they hold?")
    if not close(plus + minus, low + high):
        return wrong("The difference is right. Are both cells as far from the middle?")
    return "Each cell moves half of the way, in opposite directions."


@exercise("crossbar.quantise")
def quantise(answer: Function) -> str | Wrong:
    """A uniform mid-tread converter with a bound."""
    signal = torch.linspace(-2.0, 2.0, 400, dtype=torch.float64)  # none between two levels
    signal = torch.cat([signal, torch.zeros(1, dtype=torch.float64)])
    expected = Converter(bits=BITS, bound=BOUND).quantise(signal[None])[0]
    found = numbers(answer(signal, BITS, BOUND))
    if found.shape != signal.shape:
        return wrong("One number comes out for every number that goes in.")
    if np.array_equal(found, np.round(found)):
        return wrong("Whole numbers come out: they count steps. Multiply by the step again.")
    if np.abs(found).max() > BOUND * (1 + TOLERANCE):
        return wrong("Some output is beyond the bound: try a signal of twice the bound.")
    if abs(found[-1]) > BOUND * TOLERANCE:
        return wrong("0 has to be a level: try a signal of 0.")
    levels, wanted = len(np.unique(np.round(found / BOUND, 5))), 2**BITS - 1
    if levels != wanted:
        return wrong(f"Count the levels at {BITS} bits: yours has {levels}, not {wanted}.")
    if not close(found, expected, relative=TOLERANCE):
        return wrong("The levels are right, but a signal does not always go to the nearest.")
    return "One level fewer than 2^bits: that is the price of symmetry with an exact 0."


@exercise("crossbar.read_sd")
def read_sd(answer: Function) -> str | Wrong:
    """The standard deviation of every output, from read noise alone."""
    generator = torch.Generator().manual_seed(1)
    plus, minus = 1e-6 * (1 + torch.rand(2, 3, 4, generator=generator, dtype=torch.float64))
    x = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    noise, w_max, span = 0.1, 2.0, 4e-6
    gain, squares = noise * w_max / span, (plus.square() + minus.square()).T

    def of(variances: Tensor) -> Tensor:
        return gain * (x.square() @ variances.T).sqrt()

    sd = of(squares.T)
    found = numbers(answer(x, plus, minus, noise, w_max, span))
    if found.shape not in (sd.shape, sd.T.shape):
        return wrong(f"The shape is (batch, m), here (5, 3); yours is {found.shape}.")
    return judge(
        found,
        (sd, "It depends on the inputs: a read of zeros has no noise."),
        (sd.T, "The numbers are right. Which comes first in the shape: batch or output?"),
        (sd.square(), "That is the variance: what is missing?"),
        (of((plus - minus).square()), "Noise does not cancel: both cells of a pair add to it."),
        (of(plus.square()), of(minus.square()), "A pair has two cells, and both are noisy."),
        (
            of((plus + minus).square()),
            "Independent: square the cells one by one, then add, not the other way round.",
        ),
        (gain * (x @ (plus + minus).T), "Independent: the variances add up, not the deviations."),
        (
            gain * (x @ squares).sqrt(),
            "The cells are squared. What about the voltages across them?",
        ),
        (sd * span / w_max, "From currents back to weights: what factor comes before the sum?"),
        otherwise="Write the variance of one output, term by term, then take the root.",
    )
