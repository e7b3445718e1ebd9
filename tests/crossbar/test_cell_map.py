"""A measured array: every cell with its own range and levels."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from toolkit.crossbar import Crossbar, Device, Exponential, LinearStep, PowStep, SoftBounds
from toolkit.lowrank import LowRank

SHAPE = (3, 4)
RESPONSES = {
    "straight": Exponential(),
    "curved": Exponential(nonlinearity_up=2.4, nonlinearity_down=-4.9),
    "linear": LinearStep(decrease_up=0.6, decrease_down=0.9, zero=0.4),
    "soft": SoftBounds(),
}
OVER = pytest.mark.parametrize("name", RESPONSES)


def device_of(response, g_min=1e-6, g_max=1e-5, up=60.0, down=40.0):
    row = {"g_min": g_min, "g_max": g_max, "levels_up": up, "levels_down": down}
    return Device(name="cell", response=response, **row)


def measured(seed=0, **more):
    draw = np.random.default_rng(seed)
    low = draw.uniform(0.5e-6, 3e-6, (2, *SHAPE))
    high = low + draw.uniform(3e-6, 9e-6, (2, *SHAPE))
    return {"g_min": low, "g_max": high, **more}


def array_of(response, cells, weights=None, **more):
    weights = torch.zeros(SHAPE, dtype=torch.float64) if weights is None else weights
    return Crossbar.from_weights(weights, device=device_of(response), cells=cells, seed=0, **more)


def alone(response, low, high, start, pulses, up=60.0, down=40.0):
    """A device whose nominal range is that of the cell."""
    device = device_of(response, low, high, up, down)
    state = torch.tensor([(start - low) / (high - low)], dtype=torch.float64)
    after = device.step(state, torch.tensor([pulses]))
    return float(after) * (high - low) + low


@OVER
@pytest.mark.parametrize("pulses", [7.0, -5.0])
def test_each_cell_is_a_device_of_its_own_range_and_levels(name, pulses):
    draw = np.random.default_rng(1)
    levels = {
        "levels_up": draw.uniform(200, 400, (2, *SHAPE)),
        "levels_down": draw.uniform(200, 400, (2, *SHAPE)),
    }
    cells = measured(**levels)
    array = array_of(RESPONSES[name], cells)
    before = array.conductance.numpy()
    array.pulse(torch.full((2, *SHAPE), pulses))
    after = array.conductance.numpy()
    for place in np.ndindex(2, *SHAPE):
        low, high, up, down = (cells[key][place] for key in (*measured(), *levels))
        expected = alone(RESPONSES[name], low, high, before[place], pulses, up, down)
        assert after[place] == pytest.approx(expected, rel=2e-3), place
        exact = name in ("straight", "curved")  # others lose less by fine steps than coarse ones
        assert not exact or after[place] == pytest.approx(expected, rel=1e-9), place


@OVER
def test_a_map_of_the_nominal_numbers_changes_nothing(name):
    device, ones = device_of(RESPONSES[name]), np.ones((2, *SHAPE))
    cells = {key: getattr(device, key) * ones for key in ("g_min", "g_max")}
    plain = array_of(RESPONSES[name], None)
    mapped = array_of(RESPONSES[name], cells | {"levels_up": 60 * ones, "levels_down": 40 * ones})
    update = LowRank(torch.ones(3, 1).double(), torch.ones(1).double(), torch.ones(4, 1).double())
    for _ in range(4):
        for array in (plain, mapped):
            array.apply(update, learning_rate=0.04)
    assert torch.allclose(plain.weights, mapped.weights, atol=1e-9)


@pytest.mark.parametrize("pair", ["differential", "one-sided", "reference"])
def test_cells_end_at_their_own_bounds_and_weights_are_what_they_hold(pair):
    cells = measured()
    weights = torch.linspace(-1, 1, 12).double().reshape(SHAPE)
    array = array_of(Exponential(), cells, weights, pair=pair)
    held = array.conductance.numpy()
    polarities = 1 if pair == "reference" else 2
    for pulses in (500.0, -500.0) if pair != "one-sided" else (500.0,):
        given = torch.full((2, *SHAPE), pulses)
        given[polarities:] = 0
        array.pulse(given)
        end = cells["g_max" if pulses > 0 else "g_min"][:polarities]
        np.testing.assert_allclose(array.conductance.numpy()[:polarities], end, rtol=1e-12)
    low, high = cells["g_min"][:polarities], cells["g_max"][:polarities]
    assert (held[:polarities] >= low - 1e-18).all() and (held[:polarities] <= high + 1e-18).all()


def test_equal_ends_are_a_stuck_cell():
    cells = measured()
    cells["g_max"][0, 1, 2] = cells["g_min"][0, 1, 2] = 4e-6
    array = array_of(Exponential(), cells)
    array.pulse(torch.full((2, *SHAPE), 9.0))
    assert array.conductance[0, 1, 2] == pytest.approx(4e-6)
    assert array.stuck.nonzero().tolist() == [[0, 1, 2]]


def test_xarray_is_read_by_its_dims_and_units():
    cells = measured()
    dims = ("polarity", "output", "input")
    data = xr.Dataset({name: (dims, values) for name, values in cells.items()})
    turned = data.transpose("input", "output", "polarity")
    for name in turned:
        turned[name].attrs["units"] = "S"
    arrays = [array_of(Exponential(), each) for each in (cells, data, turned)]
    for array in arrays:
        array.pulse(torch.full((2, *SHAPE), 9.0))
    assert torch.equal(arrays[0].conductance, arrays[1].conductance)
    assert torch.equal(arrays[0].conductance, arrays[2].conductance)
    turned["g_min"].attrs["units"] = "uS"
    with pytest.raises(ValueError, match=r"cells\['g_min'\] must be in S; got uS"):
        array_of(Exponential(), turned)


def test_a_state_belongs_to_its_cells():
    first, second = array_of(Exponential(), measured()), array_of(Exponential(), measured(seed=1))
    first.pulse(torch.full((2, *SHAPE), 9.0))
    same = array_of(Exponential(), measured())
    same.load_state_dict(first.state_dict())
    assert torch.equal(same.conductance, first.conductance)
    for other in (second, array_of(Exponential(), None)):
        with pytest.raises(ValueError, match="state must be of an array with cells"):
            other.load_state_dict(first.state_dict())


def test_no_granularity_keeps_the_ranges():
    device = device_of(Exponential(), up=np.inf, down=np.inf)
    weights = torch.zeros(SHAPE, dtype=torch.float64)
    array = Crossbar.from_weights(weights, device=device, cells=measured())
    update = LowRank(torch.ones(3, 1).double(), torch.ones(1).double(), torch.ones(4, 1).double())
    before = array.conductance
    array.apply(update, learning_rate=1e-4)
    change = (array.conductance - before)[1].numpy() / 1e-4 * 2
    inside = np.abs(change) > 0  # of cells that were not at their ends
    width = (measured()["g_max"] - measured()["g_min"])[1]
    np.testing.assert_allclose(change[inside], width[inside], rtol=1e-6)
    levels = dict.fromkeys(("levels_up", "levels_down"), np.full((2, *SHAPE), 50.0))
    with pytest.raises(ValueError, match="cells must hold no levels"):
        Crossbar.from_weights(weights, device=device, cells=levels)


ONES = np.ones((2, *SHAPE))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({}, "cells must hold g_min, g_max, levels_up, levels_down or some of them; got none"),
        ({"G_MIN": ONES}, "cells must hold .* got 'G_MIN'"),
        ({"g_min": ONES}, "cells must hold g_min and g_max together; got no g_max"),
        (
            {"levels_down": ONES},
            "cells must hold levels_up and levels_down together; got no levels_up",
        ),
        ({"g_min": ONES, "g_max": ONES[0]}, r"shape \(2, 3, 4\) \(polarity, .*; got \(3, 4\)"),
        ({"g_min": ONES * 2, "g_max": ONES}, r"cells\['g_max'\] must be at least .*=2; got 1 at"),
        (
            {"g_min": ONES * np.nan, "g_max": ONES},
            r"must be above 0 and at most 1000 S; got nan at \(0, 0",
        ),
        (
            {"g_min": ONES, "g_max": ONES * np.inf},
            r"must be above 0 and at most 1000 S; got inf at",
        ),
        ({"g_min": -ONES, "g_max": ONES}, r"must be above 0 and at most 1000 S; got -1 at"),
        ({"levels_up": 0.5 * ONES, "levels_down": ONES}, "must be between 1 and 1e9; got 0.5"),
        ({"g_min": [["a"]], "g_max": ONES}, r"cells\['g_min'\] must be an array of numbers"),
        ({"g_min": ONES * 1j, "g_max": ONES}, r"cells\['g_min'\] must be an array of numbers"),
        ({"g_min": None, "g_max": ONES}, r"cells\['g_min'\] must"),
        ({"g_min": ONES, "g_max": ONES * 1e300}, r"at most 1000 S; got 1e\+300 at"),
        (
            {"g_min": xr.DataArray(ONES, dims=("a", "b", "c")), "g_max": ONES},
            r"cells\['g_min'\] must have the dims polarity, output, input; got a, b, c",
        ),
        ("abc", "cells must be a mapping of arrays"),
        (pd.DataFrame({"g_min": [1.0]}), "cells must be a mapping of arrays, .* got DataFrame"),
    ],
)
def test_maps_that_are_none_are_refused(cells, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        array_of(Exponential(), cells)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_response_that_is_not_affine_is_refused():
    with pytest.raises(ValueError, match=r"cells must be None with a resp.*; got PowStep"):
        array_of(PowStep(), measured())
    array = array_of(Exponential(), measured())
    before = array.conductance
    with pytest.raises(ValueError, match="got PowStep"):
        array.device = device_of(PowStep())
    assert torch.equal(array.conductance, before)
    assert isinstance(array.device.response, Exponential)


def test_ranges_in_another_unit_are_refused():
    in_microsiemens = {name: 1e6 * values for name, values in measured().items()}
    with pytest.raises(ValueError, match=r"cells must be in siemens.* 1e-06 to 1e-05 S; got "):
        array_of(Exponential(), in_microsiemens)
    with pytest.raises(ValueError, match=r"cells must hold g_min, g_max, .*; got none"):
        array_of(Exponential(), {})
