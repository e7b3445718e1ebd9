"""The playground without a browser: what its widgets ask of the run, and what it shows."""

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from dashboards.controls import live_widgets
from dashboards.playground import Playground, status_html
from dashboards.serve import websocket_origins
from toolkit.training import Settings
from toolkit.training.knobs import describe, is_live, knobs_of
from toolkit.training.physics import NONIDEALITIES


@pytest.fixture
def playground() -> Iterator[Playground]:
    made = Playground(hidden=[16])
    yield made
    made.run.close()


def frames(playground: Playground, seconds: float = 20.0, *, until) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
        playground.refresh()


def test_every_live_knob_has_a_widget_with_its_own_doc():
    widgets = live_widgets()
    live = {name: knob for name, knob in knobs_of(Settings).items() if is_live(knob)}
    assert list(widgets) == list(live)
    for name, knob in live.items():
        assert widgets[name].description == describe(knob)
        if knob.default is not None:
            assert widgets[name].value == knob.default


def test_a_moved_knob_reaches_the_run(playground):
    playground.widgets["rank"].value = 6
    playground.widgets["learning_rate"].value = 0.1
    frames(playground, until=lambda: playground.run.snapshot.knobs["rank"] == 6)
    frames(playground, until=lambda: playground.run.snapshot.knobs["learning_rate"] == 0.1)


def test_a_smaller_batch_takes_the_block_along(playground):
    playground.widgets["batch_size"].value = 4
    assert playground.widgets["block_size"].value == 4
    frames(playground, until=lambda: playground.run.snapshot.knobs["batch_size"] == 4)
    assert playground.run.snapshot.knobs["block_size"] == 4


def test_a_refused_knob_goes_back_to_what_the_run_has(playground):
    playground.widgets["block_size"].value = 128
    frames(playground, until=lambda: playground.widgets["block_size"].value == 8)
    assert "block_size=128 is above batch_size=64" in playground.notice.object
    assert playground.run.snapshot.knobs["block_size"] == 8


def test_a_device_brings_its_own_nonidealities_and_digital_has_none(playground):
    assert all(playground.widgets[name].disabled for name in NONIDEALITIES)
    playground.widgets["device"].value = "Ag:a-Si"
    assert playground.widgets["cycle_to_cycle"].value == 0.035
    assert playground.widgets["levels"].value == 97
    playground.widgets["cycle_to_cycle"].value = 0.1
    frames(playground, until=lambda: playground.run.snapshot.knobs["cycle_to_cycle"] == 0.1)
    playground.widgets["device"].value = "EpiRAM"
    frames(playground, until=lambda: playground.run.snapshot.knobs["device"] == "EpiRAM")
    assert playground.run.snapshot.knobs["cycle_to_cycle"] is None
    assert playground.widgets["cycle_to_cycle"].value == 0.02
    playground.widgets["device"].value = "digital"
    assert all(playground.widgets[name].disabled for name in NONIDEALITIES)


def test_figures_hold_what_the_snapshot_holds(playground):
    playground.widgets["device"].value = "FeFET"
    for _ in range(3):
        playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 3)
    playground.refresh()
    snapshot, figures = playground.run.snapshot, playground.figures
    view = snapshot.layers["layer1"]
    np.testing.assert_array_equal(figures.loss.columns(0)["loss"], snapshot.losses)
    np.testing.assert_array_equal(figures.loss.columns(1)["x"], [0.0])
    sigma = figures.spectrum.columns(1)["value"]
    np.testing.assert_allclose(sigma, view.spectrum.sigma[: view.spectrum.rank])
    shown = figures.left.columns(0)["image"][0]
    np.testing.assert_allclose(shown * 1e-6, view.conductance[0], rtol=1e-5)
    assert view.conductance.min() >= view.conductance_range[0] * (1 - 1e-5)
    assert view.conductance.max() <= view.conductance_range[1] * (1 + 1e-5)


def test_the_status_line_counts_the_words_of_the_update(playground):
    # rank 4 on 16 x 65 and 10 x 17: 4 (16 + 65 + 1) + 4 (10 + 17 + 1) words of 16 * 65 + 10 * 17
    assert "440 of 1,210 words (36%)" in status_html(playground.run.snapshot)


def test_the_run_ends_with_the_session(playground):
    playground.run.start()
    playground._on_session_destroyed(None)
    assert not playground.run.alive


def test_an_address_on_all_networks_answers_to_the_names_of_the_machine():
    assert websocket_origins("127.0.0.1", 5006) == ["127.0.0.1:5006", "localhost:5006"]
    assert f"{socket.gethostname()}:80" in websocket_origins("0.0.0.0", 80)
