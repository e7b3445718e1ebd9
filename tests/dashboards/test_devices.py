"""The Devices page without a browser: sliders, address, write, measured data."""

import re
from dataclasses import fields, replace
from html import unescape

import numpy as np
import pytest

import toolkit.crossbar as crossbar
from dashboards.app.uploads import Upload
from dashboards.devices import parameters as device_parameters
from dashboards.devices.page import Devices
from dashboards.devices.parameters import limits_of, parameters, python_of, with_parameters
from dashboards.devices.table_form import MOST_BYTES, read_trains
from tests.dashboards.driving import beside
from tests.fitting.laboratory import HIGH, TABLES, UP
from toolkit.crossbar import Exponential, device_names, get_device
from toolkit.crossbar.trains import up_and_down
from toolkit.fitting import EXAMPLE_CSV, fit_csv
from toolkit.plots.devices import response_columns


@pytest.fixture(scope="module")
def example_fit():
    return fit_csv(EXAMPLE_CSV, model="jump-table", name="measured: x")


@pytest.fixture(scope="module")
def opened():
    """A page for tests that leave it as it was."""
    made = Devices()
    made.view()
    beside(made.fit.load(EXAMPLE_CSV.read_bytes(), "good.csv"))
    return made


# --- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", device_names())
def test_every_number_of_a_response_has_a_slider_that_explains_itself(name):
    device = get_device(name)
    found = parameters(device)
    formula = {item.name for item in fields(device.response)}
    assert formula <= set(found)
    assert ("nonlinearity_up" in found) == isinstance(device.response, Exponential)
    for key, value in found.items():
        limits = limits_of(device, key)
        assert limits.low <= value <= limits.high
        assert limits.doc or isinstance(value, bool)
    for widget, (key, value) in zip(
        device_parameters.sliders(device, lambda *_: None), found.items(), strict=True
    ):
        assert widget.value == pytest.approx(value), key


def test_a_response_without_a_closed_form_has_fewer_levels():
    assert limits_of(get_device("EcRam"), "levels_up").high == 20_000
    assert limits_of(get_device("PCM"), "levels_up").high == 2000
    with pytest.raises(ValueError, match="levels_up must be from 1 to 2000"):
        with_parameters(get_device("PCM"), {"levels_up": 5000})


def test_a_replaced_parameter_reaches_the_row_or_the_formula():
    device = with_parameters(get_device("PCM"), {"gamma_up": 3.0, "step_noise": 0.1})
    assert device.response.gamma_up == 3.0 and device.step_noise == 0.1
    assert device.retention == get_device("PCM").retention


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma_up": 1.0}, "gamma_up is not a parameter of FeFET"),
        ({"cycle_to_cycle": -0.1}, "cycle_to_cycle must be from 0 to 0.5; got -0.1"),
        ({"cycle_to_cycle": float("nan")}, "cycle_to_cycle must be from 0 to 0.5; got nan"),
        ({"g_min": 1e-2}, "g_max must be above g_min"),
        ({"levels_up": 1e9}, "levels_up must be from 1 to 20000; got 1e"),
    ],
)
def test_a_parameter_that_is_not_allowed_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        with_parameters(get_device("FeFET"), values)


@pytest.mark.parametrize("name", device_names())
def test_the_python_of_a_device_makes_an_equal_one(name):
    device = replace(get_device(name), cycle_to_cycle=0.0123)
    made: dict = {}
    exec(python_of(device), made)  # our own text
    assert made["device"] == device


def test_the_python_of_a_measured_device_makes_an_equal_one(example_fit):
    made: dict = {}
    exec(python_of(example_fit.device), made)
    assert made["device"] == example_fit.device
    assert isinstance(made["device"].response, crossbar.JumpTable)


# --- the page -----------------------------------------------------------------------------------


def test_a_turned_slider_redraws_the_explored_device_and_only_that():
    page = Devices()
    page.view()
    live = page._panes[0].live
    overlaid = live.columns(4)["y"].copy()
    page.turn("nonlinearity_up", 0.0)
    page.turn("cycle_to_cycle", 0.0)
    assert page.device == replace(get_device("Ag:a-Si"), nonlinearity_up=0.0, cycle_to_cycle=0.0)
    expected = response_columns(page.device, up_and_down(page.device))
    np.testing.assert_allclose(live.columns(1)["y"], expected[1]["y"])
    np.testing.assert_array_equal(live.columns(4)["y"], overlaid)


def test_the_whole_page_is_in_its_address():
    page = Devices()
    page.view()
    page._pick.value = "ReRamSB"
    page.turn("step_spread", 0.25)
    page._state.widgets["overlay"].value = ["FeFET", "TaOx/HfOx"]
    page._state.widgets["cycles"].value = 3
    page.tabs.active = 1
    page.write.state.widgets["coding"].value = "coincidence"
    page.write.state.widgets["phase"].value = 2
    again = Devices(page.query())
    assert again.query() == page.query()
    assert again.device == page.device
    assert again.device.response.step_spread == 0.25
    assert again._state.widgets["overlay"].value == ["FeFET", "TaOx/HfOx"]
    assert again.write.state.widgets["coding"].value == "coincidence"
    assert again.address.object == "" or again.address.object == page.query()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("device=../etc", "device must be one of"),
        ("device=FeFET&gamma_up=1", "'gamma_up' is not a parameter of FeFET"),
        ("device=FeFET&cycle_to_cycle=nan", "cycle_to_cycle must be a number from 0 to 0.5"),
        ("device=FeFET&g_min=0.01", "g_max must be above g_min"),
        ("pulses=100000", "pulses must be a number from 1 to 200; got '100000'"),
        ("cycles=2.5", "cycles must be a whole number; got 2.5"),
        ("overlay=FeFET,x", "overlay must be one of"),
        ("tab=admin", "tab must be one of curves, write, measured; got 'admin'"),
        ("scheme=both", "scheme must be one of rank-sequential, rank-sum"),
        ("rank=" + "9" * 400, "rank must be a number from 1 to 4"),
        ("&".join(f"x{i}=1" for i in range(201)), "the URL has more than 200 fields"),
    ],
)
def test_an_address_that_makes_no_sense_is_one_message_and_the_defaults(opened, query, message):
    before = opened.query()
    opened._take(query)
    assert message in unescape(opened.notice.object)
    assert opened.device == get_device("Ag:a-Si") and opened.query() == before


def test_an_address_with_siemens_draws_all_curves_in_siemens():
    page = Devices("scale=siemens&overlay=EpiRAM&device=FeFET")
    page.view()
    for glyph, name in ((1, "FeFET"), (4, "EpiRAM")):
        shown = page._panes[0].live.columns(glyph)["y"]
        assert shown.max() == pytest.approx(1e6 * get_device(name).g_max, rel=0.1)


def test_a_refused_slider_leaves_the_device_as_it_was(opened):
    opened.turn("g_min", 1e-3)  # above g_max
    assert "g_max must be above g_min" in unescape(opened.notice.object)
    assert opened.device == get_device("Ag:a-Si")


def test_bounds_hold_whatever_the_browser_sends():
    page = Devices()
    page._state.widgets["cycles"].param.update(value=10**9)
    assert page._state.number("cycles") == 50
    _, trains = page._cycles()
    assert len(trains.pulses) <= 401


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ("device=PCMO", "?device=PCMO"),
        ("device=PCMO&cycle_to_cycle=0.02", "?device=PCMO&cycle_to_cycle=0.02"),
        ("device=PCMO&levels_up=64", None),
        ("device=PCMO&step_noise=0.5", None),
    ],
)
def test_a_device_goes_to_the_playground_where_its_knobs_can_say_it(query, link):
    found = Devices(query)._run_query()
    assert found == (link.removeprefix("?") if link else None)


def test_the_playground_understands_the_link():
    from dashboards.app.settings_text import knobs_of_query

    query = Devices("device=TaOx/HfOx&read_noise=0.05&levels_up=64&levels_down=64")._run_query()
    knobs = knobs_of_query(query)
    assert knobs == {"device": "TaOx/HfOx", "read_noise": 0.05, "levels": 64}


def test_a_sum_cannot_be_written_by_coincidence_so_the_page_does_not_try():
    page = Devices("tab=write&scheme=rank-sum&coding=coincidence")
    page.view()
    assert page.write.state.widgets["coding"].options == ["whole pulses"]
    assert page.write.state.widgets["phase"].end == 8
    assert "row 1" in page.write.status.object and page.write._back.disabled is False


def test_a_phase_beyond_the_last_is_the_last():
    page = Devices("tab=write&rank=1&phase=8&coding=coincidence")
    page.view()
    assert page.write.state.widgets["phase"].value == 4
    assert page.write.state.widgets["bit_length"].visible


def test_an_error_larger_than_the_change_is_explained():
    page = Devices("tab=write&seed=0&phase=8&cycle_to_cycle=0.3")
    page.view()
    assert "than if nothing had been written" in page.write.status.object
    page = Devices("tab=write&seed=0&phase=8&device=ideal")
    page.view()
    assert "than if nothing" not in page.write.status.object


def test_next_and_previous_walk_through_the_phases():
    page = Devices("tab=write&rank=1&phase=0")
    page.view()
    assert "nothing is written yet" in page.write.status.object
    for _ in range(6):
        page.write._go(1)
    assert page.write.state.widgets["phase"].value == 4 and page.write._on.disabled
    assert "rank 1: rows −, columns +" in page.write.status.object
    wanted = page.write._panes["wanted"].live.columns(0)["image"][0]
    np.testing.assert_allclose(wanted, page.write._write.wanted)


# --- measured data ------------------------------------------------------------------------------


def test_a_measured_table_is_fitted_explored_and_taken_home():
    page = Devices()
    page.view()
    beside(page.fit.load(EXAMPLE_CSV.read_bytes(), "my cells (1).csv"))
    assert page.fit.fit.device.name == "measured: my cells 1"
    assert (
        "nonlinearity_up" in page.fit.result.object and "standard error" in page.fit.result.object
    )
    page.fit._hand_over(None)
    assert page.device == page.fit.fit.device
    assert "measured" not in page.query()
    assert page._run_query() is None
    page._pick.value = "ideal"
    assert page.device == get_device("ideal")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n", "missing column: conductance"),
        (b"\x00\x01\x02\x03", "no text file in UTF-8"),
        (b"", "holds no table"),
        (b"cell,cycle,pulse,polarity,conductance\n1,1,0,0,x\n", "line 2.*conductance"),
        (
            b"cell,cycle,pulse,polarity,conductance_uS\n1,1,0,0,1\n1,1,1,1,2\n",
            "steps away from",
        ),
        (b"x" * (MOST_BYTES + 1), "more than the"),
        (b"1\n" * 20_200, "more than 20,000 readings"),
    ],
)
def test_a_bad_table_is_one_message_and_what_was_there_stays(opened, data, message):
    before = opened.fit.fit
    beside(opened.fit.load(data, "<b>bad</b>.csv"))
    assert re.search(message, unescape(opened.notice.object))
    assert "<b>" not in opened.notice.object
    assert opened.fit.fit is before


@pytest.mark.parametrize("name", TABLES)
def test_a_laboratorys_table_is_read_with_what_the_form_says(name):
    table, page = TABLES[name], Devices()
    form, data = page.fit.form, TABLES[name].write()
    beside(page.fit.load(data, "cells.csv"))
    if table.layout:
        form.volts.value = str(table.layout.get("read_voltage", ""))
        form.words.value = "1, 0" if "polarities" in table.layout else ""
        form.unit.value = table.layout.get("unit", form.unit.value)
        for role, header in table.layout.get("columns", {}).items():
            (form.readings if role == "conductance" else form.columns[role]).value = header
        beside(page.fit._read_again(None))
    assert table.said in unescape(page.fit.understood.object)
    device = page.fit.fit.device
    assert device.levels_up == pytest.approx(UP, rel=0.1)
    assert device.g_max == pytest.approx(HIGH, rel=0.03)
    assert "cells.csv, SHA-256" in device.source and "sha256: " in page.fit.fit.to_yaml()


def test_a_table_that_is_not_understood_opens_the_form_beside_its_first_rows():
    page = Devices()
    beside(page.fit.load(TABLES["own names"].write(), "own.csv"))
    assert "missing column: conductance" in unescape(page.notice.object)
    assert not page.fit.form.view.collapsed and "Wert 2" in page.fit.form.first_rows.object
    assert page.fit.form.columns["pulse"].value == "Puls"
    page.fit.form.volts.value = "a lot"
    beside(page.fit._read_again(None))
    assert "Read voltage must be a number of volts" in unescape(page.notice.object)


def test_reading_a_table_leaves_no_path_of_the_server_in_a_message():
    with pytest.raises(ValueError) as refused:
        read_trains(b"cell,cycle\n1,1\n")
    assert "/" not in str(refused.value)


def test_an_upload_that_is_too_long_is_dropped_while_it_comes_in():
    upload = Upload(max_file_size=100)
    chunk = {"name": "a.csv", "mime_type": "text/csv", "total_chunks": 9, "status": "upload_event"}
    upload._handle_msg({**chunk, "chunk": 1, "data": b"x" * 60})
    with pytest.raises(ValueError, match="more than 100 bytes refused"):
        upload._handle_msg({**chunk, "chunk": 2, "data": b"x" * 60})
    assert not upload._file_buffer and upload.value is None
