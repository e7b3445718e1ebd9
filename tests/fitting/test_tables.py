"""Thirteen tables as laboratories write them: each gives the device that it was measured on."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.fitting.laboratory import DOWN, HIGH, LOW, TABLES, UP, readings, write
from toolkit.fitting import PulseTrains, fit_csv, fit_device
from toolkit.fitting.turns import signs_of_readings


def check_device(device):
    assert device.g_min == pytest.approx(LOW, abs=0.03 * (HIGH - LOW))
    assert device.g_max == pytest.approx(HIGH, rel=0.03)
    assert device.levels_up == pytest.approx(UP, rel=0.1)
    assert device.levels_down == pytest.approx(DOWN, rel=0.1)


@pytest.mark.parametrize("name", TABLES)
def test_a_laboratorys_table_gives_its_device(name, tmp_path):
    table = TABLES[name]
    path = write(table, tmp_path)
    trains = PulseTrains.from_csv(path, **table.layout)
    assert table.said in trains.understood
    assert trains.understood.startswith("read ")
    fit = fit_csv(path, **table.layout)
    assert fit.cells == table.cells
    check_device(fit.device)


def as_frame():
    data = readings()
    return pd.DataFrame({"pulse": data.pulse, "polarity": data.sign, "R/MOhm": 1e-6 / data.g})


def as_dataset():
    data = readings(cells=2)
    shape = (2, 4, UP + DOWN)
    current = ("device", "cycle", "pulse"), 1e6 * data.g.to_numpy().reshape(shape), {"units": "µA"}
    sign = "pulse", np.repeat(["up", "down"], [UP, DOWN])
    return xr.Dataset({"current": current}, {"device": ["a", "b"], "polarity": sign})


@pytest.mark.parametrize(
    ("made", "layout"),
    [(as_frame, {}), (as_dataset, {"read_voltage": 1.0})],
    ids=["pandas", "xarray"],
)
def test_tables_in_memory(made, layout):
    check_device(fit_device(PulseTrains.from_table(made(), **layout)).device)


@pytest.mark.parametrize("pulses", ["numbers", "voltages"])
def test_two_arrays(pulses):
    data = readings()
    given = data.pulse if pulses == "numbers" else 1.5 * data.sign
    check_device(fit_device(PulseTrains.from_arrays(given.to_numpy(), data.g.to_numpy())).device)
    both = np.stack([data.g, data.g]) * 1e6
    trains = PulseTrains.from_arrays(given, both, unit="uS")
    assert set(trains.cell) == {"cell 1", "cell 2"}
    assert trains.conductance.max() == pytest.approx(data.g.max())


def test_a_train_is_broken_where_a_reading_is_missing():
    table = as_frame().drop(columns="polarity").assign(cycle=readings().cycle)
    table["sign"] = readings().sign
    whole = PulseTrains.from_table(table)
    table.loc[20, "R/MOhm"] = np.nan
    broken = PulseTrains.from_table(table)
    assert len(whole.steps()) - len(broken.steps()) == 2
    assert broken.train.max() == whole.train.max() + 1
    assert "1 reading missing: left out" in broken.understood
    lost = PulseTrains.from_table(table.drop(index=20))
    assert len(lost.steps()) == len(broken.steps())
    assert "1 gap in the pulse numbers" in lost.understood


@pytest.mark.parametrize(
    ("table", "layout", "said"),
    [
        (
            {"pulse": [1, 2], "I (A)": [1e-6, 2e-6]},
            {},
            "'I \\(A\\)' needs the voltage .*read_voltage",
        ),
        ({"polarity": [1, 0, 0], "G (uS)": [2, 1, 3]}, {}, r"polarities=\{1: 'up', 0: 'down'\}"),
        ({"a": [1, 2], "pulse": [1, 2]}, {}, "missing column: conductance, current or resist"),
        ({"G": [1e-6], "R": [1e6]}, {"columns": {"conductance": "X"}}, "no column 'X' .*'G', 'R'"),
        ({"G": [1e-6]}, {"columns": {"hue": "G"}}, "columns must name conductance, .*got 'hue'"),
        ({"G": [1e-6]}, {"unit": "furlong"}, "unit must be one of S, mS, .*got 'furlong'"),
        ({"G": [1e-6]}, {"unit": "kOhm"}, "unit of conductance must be S, mS"),
        ({"R": [1e6, 0.0]}, {}, "row 1: resistance must be above 0; got 0.0"),
        ({"Vread": [0.1, 0.0], "I": [1e-6, 1e-6]}, {}, "row 1: Vread must be a number of volts"),
    ],
)
def test_what_is_missing_is_one_sentence_with_its_mend(table, layout, said):
    with pytest.raises(ValueError, match=said):
        PulseTrains.from_table(table, **layout)


@pytest.mark.parametrize("up", [20, 37])
@pytest.mark.parametrize("down", [20, 33])
@pytest.mark.parametrize("cycles", [1, 3])
@pytest.mark.parametrize("start", [0, 1])
def test_turns_are_found_in_noisy_readings(up, down, cycles, start):
    rng = np.random.default_rng(up + down)
    rise, fall = (np.tanh(2 * np.arange(1, n + 1) / n) / np.tanh(2) for n in (up, down))
    true = np.concatenate([np.zeros(start), np.tile(np.concatenate([rise, 1 - fall]), cycles)])
    noisy = 1.0 + true + 0.01 * rng.normal(size=len(true))
    signs = signs_of_readings(noisy, np.arange(len(true), dtype=float))
    expected = np.tile(np.repeat([1, -1], [up, down]), cycles)
    wrong = (signs[start:] != expected).sum()
    assert wrong <= (0 if cycles > 1 or up == down else 3)
