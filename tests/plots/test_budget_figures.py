"""Figures of a budget: bars that add up to it, points and crossing that are counted by hand."""

from itertools import pairwise

import numpy as np
import pytest

from toolkit.budget import Chip, Layer, compare
from toolkit.crossbar import get_device
from toolkit.plots import LiveFigure
from toolkit.plots.budget import (
    crossing,
    numbers_columns,
    numbers_held,
    numbers_names,
    part_columns,
    part_label,
    prefix,
    show_numbers,
    show_parts,
    stacked_parts,
)

LAYERS = [Layer("a", 64, 129, 9), Layer("b", 10, 65)]
CHIP = Chip(get_device("EpiRAM"))


def budgets(methods, rank=4):
    return compare(LAYERS, CHIP, methods=methods, rank=rank, batch_size=8, block_size=1)


@pytest.mark.parametrize("rank", range(1, 65))
def test_the_crossing_is_the_first_square_that_saves(rank):
    saving = [s for s in range(1, 200) if rank * (2 * s + 1) < s * s]
    assert crossing(rank) == saving[0]


@pytest.mark.parametrize("quantity", ["energy", "time"])
def test_bars_end_at_the_total_and_whiskers_at_the_prices(quantity):
    found = budgets(["sbpca", "accumulator", "per-sample"])
    totals = found[quantity].sum(["layer", "part"])
    factor, unit = prefix(float(totals.max()), {"energy": "J", "time": "s"}[quantity])
    assert f"({unit})" in part_label(found, quantity)
    *boxes, whiskers = part_columns(found, quantity)
    for inner, outer in pairwise(boxes):
        np.testing.assert_allclose(inner["right"], outer["left"])
    np.testing.assert_allclose(boxes[-1]["right"], factor * totals.sel(price="typical"))
    np.testing.assert_allclose(whiskers["x0"][:3], factor * totals.sel(price="low"))
    np.testing.assert_allclose(whiskers["x1"][:3], factor * totals.sel(price="high"))


def test_shares_are_percent_of_each_method():
    *boxes, whiskers = part_columns(budgets(["sbpca", "per-sample"]), "time", shares=True)
    np.testing.assert_allclose(boxes[-1]["right"], 100.0)
    assert len(whiskers["x0"]) == 0


def test_points_are_numbers_over_weights():
    *_, kept, both = numbers_columns(budgets(["sbpca"]).isel(algorithm=0), 4)
    np.testing.assert_array_equal(kept["x"], [64 * 129, 10 * 65])
    np.testing.assert_array_equal(kept["y"], [4 * (64 + 129 + 1), 4 * (10 + 65 + 1)])
    np.testing.assert_array_equal(both["y"], kept["y"] + [9 * (64 + 129), 10 + 65])
    assert kept["layer"].tolist() == ["a", "b"]


def test_figures_take_other_budgets():
    bars = LiveFigure(stacked_parts(budgets(["sbpca"]), "energy"), follow="x")
    found = budgets(["lrt", "per-sample", "accumulator"], rank=8)
    show_parts(bars, found, "energy")
    axis = bars.figure.yaxis[0]
    assert axis.major_label_overrides == {0.5: "lrt", 1.5: "per-sample", 2.5: "accumulator"}
    assert (bars.figure.y_range.start, bars.figure.y_range.end) == (3, 0)
    assert len(bars.columns(0)["left"]) == 3

    points = LiveFigure(numbers_held(budgets(["sbpca"]).isel(algorithm=0), 4))
    show_numbers(points, found.sel(algorithm="per-sample"), 8)
    assert points.columns(3)["x"].size == 0  # it keeps nothing
    assert [item.label.value for item in points.figure.legend[0].items] == numbers_names(8)
