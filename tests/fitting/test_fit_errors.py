"""The printed errors of fits, on trains that no simulator of the toolkit drew."""

import numpy as np
import pytest

from benchmarks.fit_errors import BENDS, DOWN, HIGH, LOW, UP, curve, trains
from toolkit.fitting import fit_device

DRAWS = 8


def fits(cells, apart, noise=0.01):
    given = (LOW, HIGH)
    return [
        fit_device(trains(cells, apart, noise, s), conductance_range=given) for s in range(DRAWS)
    ]


@pytest.mark.parametrize(("cells", "apart"), [(2, 0.0), (4, 0.3)])
def test_the_true_curve_is_inside_the_band_of_the_errors(cells, apart):
    found = [fit.band(UP, DOWN) for fit in fits(cells, apart)]
    gaps = [np.abs(middle - curve(BENDS)) for middle, _ in found]
    inside = [(gap <= off + 1e-9 * HIGH).all() for gap, (_, off) in zip(gaps, found, strict=True)]
    assert sum(inside) >= DRAWS - 1
    assert np.mean([off.mean() for _, off in found]) < 8.0 * np.mean(gaps)  # 4 to 6 of many draws


def test_errors_of_cells_that_differ_are_those_of_their_mean():
    found = fits(4, 0.3, noise=0.003)
    values = [fit.parameters["nonlinearity_up"] for fit in found]
    stated = np.sqrt(np.mean([fit.errors["nonlinearity_up"] ** 2 for fit in found]))
    assert 0.5 < stated / np.std(values, ddof=1) < 2.0
    assert all(fit.freedom == 3.0 for fit in found)
    assert "the mean of 4 cells, 95 % of such means within 3.2 of these errors" in str(found[0])
    # what differs from cell to cell is not taken for noise
    assert all(fit.device.read_noise == pytest.approx(0.003, rel=0.2) for fit in found)
    assert max(fit.device.cycle_to_cycle for fit in found) < 0.0005


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan"), "most"])
def test_a_share_that_is_none_is_refused(share):
    fit = fit_device(trains(1, 0.0, 0.01, 0), conductance_range=(LOW, HIGH))
    with pytest.raises((TypeError, ValueError), match=r"share must be .*(nan|0\.0|1\.0|most)"):
        fit.band(UP, DOWN, share)


def test_more_pulses_than_a_band_has_are_refused():
    fit = fit_device(trains(1, 0.0, 0.01, 0), conductance_range=(LOW, HIGH))
    with pytest.raises(ValueError, match="up must be between 0 and 10000; got 1000000000"):
        fit.band(10**9, 1)


def test_a_jump_table_has_no_band():
    fit = fit_device(trains(2, 0.0, 0.01, 0), model="jump-table", conductance_range=(LOW, HIGH))
    with pytest.raises(ValueError, match="band needs a fitted formula"):
        fit.band(UP, DOWN)
