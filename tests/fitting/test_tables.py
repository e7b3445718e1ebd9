"""Thirteen tables as laboratories write them: each gives the device that it was measured on."""

import hashlib
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from tests.fitting.laboratory import DOWN, HIGH, LOW, TABLES, UP, readings, write
from toolkit.crossbar import device_names, get_device, open_device, save_device
from toolkit.fitting import PulseTrains, fit_csv, fit_device, model_names
from toolkit.fitting.headers import split_unit, unit_of
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


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("I_read (A)", "I_read", "A"),
        ("Conductance [nS]", "Conductance", "nS"),
        ("R/kOhm", "R", "kOhm"),
        ("conductance_S", "conductance", "S"),
        ("Device A", "Device A", None),
        ("Device A (S)", "Device A", "S"),
        ("conductance_uS (uS)", "conductance", "uS"),
        ("Vpulse", "Vpulse", None),
        ("G (µS)", "G", "µS"),
    ],
)
def test_units_in_headers(header, name, unit):
    assert split_unit(header) == (name, unit)


@pytest.mark.parametrize(
    ("text", "quantity", "factor"),
    [
        *[("S", "conductance", 1), ("µS", "conductance", 1e-6), ("ms", "conductance", 1e-3)],
        *[("nA", "current", 1e-9), ("UA", "current", 1e-6), ("Ω", "resistance", 1)],
        *[("mOhm", "resistance", 1e-3), ("MOhm", "resistance", 1e6), ("kΩ", "resistance", 1e3)],
    ],
)
def test_units(text, quantity, factor):
    assert unit_of(text) == (quantity, factor)


def test_devices_may_be_called_like_units():
    data = readings()
    table = {"pulse": range(len(data)), "dev_A": data.g, "dev_S": data.g}
    trains = PulseTrains.from_table(table)
    assert sorted(set(trains.cell)) == ["dev_A", "dev_S"]


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
        ({"G": [1e-6, 2e-6], "polarity": [0, 0]}, {}, "'polarity' is 0 in every row: no pulse"),
        (
            {"n": [1, 2], "G (S)": [np.nan, np.nan]},
            {},
            r"no readings in 'G \(S\)': all are missing",
        ),
        ({"G": [1e-6, 2e-6, 3e-6], "V": [0.1, 0.2]}, {}, r"as the longest, .*'V' is \(2,\)"),
        ({"G": [1e-300, 2e-300]}, {}, "row 0: conductance is below 1e-18 S"),
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


# --- fits of what was read ------------------------------------------------------------------------


def test_the_best_model_is_chosen_with_a_reason(tmp_path):
    fit = fit_csv(write(TABLES["plain"], tmp_path), model="best")
    assert fit.model == "pow-step"  # a sine's steps are a root of the distance to its crest
    assert fit.comparison.splitlines()[-1].startswith("pow-step: the least AIC over")
    assert all(model in fit.comparison for model in model_names())
    assert fit.comparison in str(fit)
    trace = fit.device.trace(up=UP, down=DOWN).numpy()
    measured = (readings(cycles=1).g - LOW) / (HIGH - LOW)
    assert np.abs(trace[1:] - measured).max() < 0.04


def test_an_abrupt_reset_is_a_jump_table_or_an_asymmetric_model():
    data = readings(cycles=40)
    first = (data.sign > 0) | (data.pulse == UP + 1)
    data = data[first].assign(g=lambda d: d.g.where(d.sign > 0, LOW * (1 + 0.01 * np.sin(d.cycle))))
    trains = PulseTrains.from_table({"polarity": data.sign, "G (S)": data.g})
    fit = fit_device(trains, model="best")
    assert fit.device.levels_down < 3 < 20 < fit.device.levels_up
    drop = fit.device.trace(up=0, down=1, start=1.0)
    assert float(drop[-1]) < 0.05


@pytest.mark.parametrize("model", ["neurosim", "jump-table"])
def test_outliers_are_left_out_on_request(model):
    data = readings(cycles=8)
    clean = PulseTrains.from_table({"polarity": data.sign, "pulse": data.pulse, "G": data.g})
    data.loc[[30, 110, 333], "g"] *= 2.5
    spoiled = PulseTrains.from_table({"polarity": data.sign, "pulse": data.pulse, "G": data.g})
    expected = fit_device(clean, model=model).device
    assert spoiled.conductance.max() > 1.5 * expected.g_max
    fit = fit_device(spoiled, model=model, robust=True)
    assert "3 outliers left out" in fit.understood
    assert fit.device.g_max == pytest.approx(expected.g_max, rel=1e-9)
    assert fit.device.levels_up == pytest.approx(expected.levels_up, rel=0.02)


def test_readings_without_outliers_lose_none():
    data = readings(cycles=8)
    trains = PulseTrains.from_table({"polarity": data.sign, "pulse": data.pulse, "G": data.g})
    assert len(trains.without_outliers().conductance) == len(trains.conductance)


def test_large_tables_are_fitted_in_part(monkeypatch):
    data = readings(cells=6, cycles=6)
    table = {"cell": data.cell, "cycle": data.cycle, "polarity": data.sign, "G": data.g}
    whole = PulseTrains.from_table(table)
    monkeypatch.setattr("toolkit.fitting.trains._MOST_CELLS", 3)
    monkeypatch.setattr("toolkit.fitting.trains._MOST_READINGS", 800)
    part = whole.thinned()
    assert sorted(set(part.cell)) == ["1", "3", "6"]
    assert len(part.conductance) == 3 * 2 * (UP + DOWN)
    fit = fit_device(whole)
    assert "fitted to 540 of them, whole trains of 3 devices" in fit.understood
    check_device(fit.device)
    assert fit.device.g_max == data.g.max()


@pytest.mark.alone
def test_a_million_readings_take_seconds(tmp_path):
    data = readings(cells=1, cycles=1)
    many = 11_200
    noise = 1 + 0.003 * np.random.default_rng(0).normal(size=many * len(data))
    table = pd.DataFrame(
        {
            "device": np.repeat(np.arange(1000), many * len(data) // 1000),
            "polarity": np.tile(data.sign, many),
            "current_nA": 1e8 * np.tile(data.g, many) * noise,
        }
    )
    table.to_csv(tmp_path / "large.csv", index=False)
    begun = time.process_time()
    fit = fit_csv(tmp_path / "large.csv", read_voltage=0.1)
    assert time.process_time() - begun < 10.0
    check_device(fit.device)


@pytest.mark.alone
def test_a_thousand_columns_take_seconds():
    data = readings(cycles=2)
    noise = 1 + 0.003 * np.random.default_rng(0).normal(size=(1000, len(data)))
    table = pd.DataFrame({f"D{i}": data.g * one for i, one in enumerate(noise)})
    begun = time.process_time()
    trains = PulseTrains.from_table(table.assign(pulse=range(len(data))))
    assert time.process_time() - begun < 10.0  # 3 s; one by one, 40 s
    assert (trains.polarity.reshape(1000, -1) == data.sign.to_numpy()).all()


@pytest.mark.parametrize("model", ["neurosim", "jump-table", "soft-bounds"])
def test_a_fitted_device_is_saved_with_its_provenance_and_opened(model, tmp_path):
    path = write(TABLES["workbook"], tmp_path)
    fit = fit_csv(path, model=model)
    fit.save(tmp_path / "mine.yaml")
    assert open_device(tmp_path / "mine.yaml") == fit.device
    told = yaml.safe_load((tmp_path / "mine.yaml").read_text())["provenance"]
    assert told["file"] == "table.xlsx" and told["model"] == model
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["errors"] == pytest.approx(fit.errors) and told["toolkit"]


@pytest.mark.parametrize("name", device_names())
def test_every_preset_is_saved_and_opened(name, tmp_path):
    save_device(get_device(name), tmp_path / "a.yaml")
    assert open_device(tmp_path / "a.yaml") == get_device(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "must be a mapping"),
        ("name: x\ncolour: red", "Device has no 'colour'"),
        ("name: x\ng_min: 1e-5\ng_max: 1e-6\nlevels_up: 9\nlevels_down: 9", "g_max must be above"),
        ("name: x\nresponse: {class: os}", "class must be one of Exponential"),
        ("g_min: 1e-6", "name"),
    ],
)
def test_a_file_that_holds_no_device_is_one_sentence(text, said, tmp_path):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.yaml holds no device: .*{said}"):
        open_device(tmp_path / "bad.yaml")


UNITS = [
    ("-", "-", "µS", "°C"),
    ("", "#", "[µS]", "K"),
    ("none", "-", "uS", "min"),
    ("–", "/", "µS", "h"),
]


@pytest.mark.parametrize("units", UNITS)
def test_a_row_of_units_may_say_that_there_are_none(units, tmp_path):
    data = readings()
    heads = "Puls;Polarität;Conductance;Temperatur"
    rows = [
        f"{p};{s};{1e6 * g:.6f};25,5" for p, s, g in zip(data.pulse, data.sign, data.g, strict=True)
    ]
    text = "\n".join([heads, ";".join(units), *rows]).replace(".", ",")
    (tmp_path / "table.csv").write_text(text)
    check_device(fit_csv(tmp_path / "table.csv").device)


def test_a_column_of_polarity_words_counts_whatever_its_name():
    data = readings()
    words = data.sign.map({1: "SET", -1: "reset"})
    trains = PulseTrains.from_table({"state": words, "G (S)": data.g, "n": data.pulse})
    assert "polarity in 'state'" in trains.understood
    assert (trains.polarity == data.sign).all()
    notes = ["up"] * (len(words) - 1) + ["the end"]
    trains = PulseTrains.from_table({"note": notes, "G (S)": data.g, "n": data.pulse})
    assert "turns of the readings" in trains.understood


@pytest.mark.parametrize("number", ["3.278,2", "1,234.5", "1'234.5", "1 234 567,5"])
def test_separators_of_thousands_are_named(number):
    table = {"pulse": [1, 2], "G (nS)": ["900,1", number]}
    with pytest.raises(ValueError, match="finite number, without separators of thousands; got"):
        PulseTrains.from_table(table)


def test_outliers_are_said_where_they_are_kept():
    data = readings()
    values = data.g.to_numpy().copy()
    values[[10, 40]] *= 30.0
    trains = PulseTrains.from_table({"polarity": data.sign, "G (S)": values})
    said = "2 outliers, which robust=True leaves out"
    assert said in fit_device(trains, model="constant-step").understood
    with pytest.raises(ValueError, match=f"do not determine .*; {said}"):
        fit_device(trains)
    assert "2 outliers left out" in fit_device(trains, robust=True).understood
    clean = PulseTrains.from_table({"polarity": data.sign, "G (S)": data.g})
    assert "outlier" not in fit_device(clean).understood


@pytest.mark.parametrize("model", ["neurosim", "jump-table"])
def test_a_fit_of_one_polarity_says_that_the_other_means_nothing(model):
    data = readings()
    data = data[data.sign > 0]
    table = {"pulse": data.pulse, "cycle": data.cycle, "polarity": data.sign, "G (S)": data.g}
    fit = fit_device(PulseTrains.from_table(table), model=model)
    assert "its mirror image and means nothing; train it as pair='one-sided'" in str(fit)


def test_a_column_may_be_named_without_its_unit():
    data = readings()
    table = {"Puls": data.pulse, "sense": data.sign, "Wert (uS)": 1e6 * data.g, "Rest (uS)": data.g}
    names = {"conductance": "Wert", "polarity": "sense"}
    check_device(fit_device(PulseTrains.from_table(table, columns=names)).device)
    table["Wert (nS)"] = 1e9 * data.g
    with pytest.raises(ValueError, match="there is no column 'Wert' for conductance"):
        PulseTrains.from_table(table, columns=names)


def test_readings_that_are_all_the_same_are_refused():
    trains = PulseTrains.from_table({"pulse": [1, 2, 3], "G (S)": [1e-6] * 3})
    with pytest.raises(ValueError, match=r"readings must differ, .*; all are 1e-06 S"):
        fit_device(trains)


def test_a_device_file_without_what_it_needs_names_it(tmp_path):
    (tmp_path / "short.yaml").write_text("name: x\ng_min: 1e-6\n")
    with pytest.raises(ValueError, match="holds no device: Device needs g_max, levels_up, levels"):
        open_device(tmp_path / "short.yaml")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("protocol", [(41, 0), (0, 41)])
def test_trains_of_one_polarity_with_resets_that_no_row_shows(first, protocol):
    pulses = np.arange(first, 42)  # with the reading before the first pulse, or without
    train = 1e-6 + 9e-6 * (pulses / 41 if protocol[0] else 1 - pulses / 41)
    table = {"conductance": np.tile(train, 5)}
    trains = PulseTrains.from_table(table, protocol=protocol)
    assert trains.train.max() == 4 and "with a reset that no row shows; 5 cycles;" in str(
        trains.understood
    )
    steps = trains.steps()
    assert len(steps) == 5 * (41 - first)
    assert (steps.polarity == (1 if protocol[0] else -1)).all()
    assert np.allclose(steps.after - steps.before, steps.polarity * 9e-6 / 41)


def rows_of(data):
    return [f"{p},{1e6 * g:.6f}" for p, g in zip(data.pulse, data.g, strict=True)]


ABOVE = {
    "fields and values": "Instrument,4200\nSerial,12345\nRead voltage,0.1\n\nPulse,G (uS)",
    "values in each column": "Setup, 3\nDimension, 360,360\nData, 1,2,3\nPulse,G (uS)",
    "a row of values": "Start,Stop\n0.5,2.5\nPulse,G (uS)",
    "a row of units after #": "Pulse,G\n#,µS",
    "a comment": "# made up\nPulse,G (uS)",
}


@pytest.mark.parametrize("above", ABOVE)
def test_numbers_above_the_header_are_no_readings(above, tmp_path):
    data = readings()
    (tmp_path / "table.csv").write_text("\n".join([ABOVE[above], *rows_of(data)]))
    trains = PulseTrains.from_csv(tmp_path / "table.csv")
    assert len(trains.conductance) == len(data)
    check_device(fit_device(trains, model="constant-step").device)


@pytest.mark.parametrize("columns", [["pulse", "g"], ["g"]])
def test_bare_numbers_are_siemens(columns, tmp_path):
    data = readings(cycles=2)
    data[columns].to_csv(tmp_path / "table.csv", header=False, index=False)
    trains = PulseTrains.from_csv(tmp_path / "table.csv")
    assert f"read 180 readings of 1 device; conductance in S in 'column {len(columns)}'" in (
        trains.understood
    )
    assert (trains.polarity == data.sign).all()


def test_the_read_voltage_is_told_from_the_pulses():
    data = readings(cells=2)
    table = {"Vp (V)": -2.0 * data.sign, "Id (A)": 0.05 * data.g, "Vd (V)": 0.05, "DUT": data.cell}
    trains = PulseTrains.from_table(table)
    assert "read voltage of 0.05 V in 'Vd (V)'" in trains.understood
    assert trains.conductance.max() == pytest.approx(data.g.max())
    table["top electrode (V)"] = table.pop("Vp (V)")  # known by its unit
    assert "negative potentiates" in PulseTrains.from_table(table).understood


def test_readings_that_end_at_a_turn_are_read():
    state = np.append(np.arange(51), [0, 0])
    trains = PulseTrains.from_table({"G (S)": 1e-6 + 1e-7 * state})
    assert trains.polarity.tolist() == [1] * 51 + [-1] * 2


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/worksheets/sheet1.xml", b"0" * 101_000_000)
    with pytest.raises(ValueError, match=r"bomb\.xlsx .*: it unpacks to 101 MB; save its table as"):
        PulseTrains.from_csv(path)
