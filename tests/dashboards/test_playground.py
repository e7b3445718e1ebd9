"""The playground without a browser: what its widgets ask of the run, and what it shows."""

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from html import unescape
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

from dashboards.app.serve import websocket_origins
from dashboards.app.site import Text
from dashboards.app.widgets import chosen_text, groups, live_knobs, live_widgets
from dashboards.playground.page import Pace, Playground, intro_html, status_html
from dashboards.playground.view import View
from dashboards.playground.views import VIEWS, change_marks
from tests.dashboards.driving import beside
from toolkit.results import open_results
from toolkit.training import Settings
from toolkit.training.data.datasets import dataset_names
from toolkit.training.experiment.knobs import describe, is_live, knobs_of, reference


@pytest.fixture
def opened() -> Iterator[Callable[..., Playground]]:
    """Pages whose runs end with the test."""
    with ExitStack() as stack:

        def make(query: str = "", **knobs: Any) -> Playground:
            page = Playground(query, **knobs)
            stack.callback(page.run.close)
            page.show_more()
            return page

        yield make


@pytest.fixture
def playground(opened) -> Playground:
    return opened(hidden=[16])


def frames(playground: Playground, seconds: float = 20.0, *, until) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
        playground.refresh()


def test_every_live_knob_has_a_widget_with_its_own_doc():
    widgets = live_widgets(live_knobs())
    live = {name: knob for name, knob in knobs_of(Settings).items() if is_live(knob)}
    assert list(widgets) == list(live)
    for name, knob in live.items():
        assert widgets[name].description == f"{describe(knob)} {reference(knob)}".strip()
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


def test_an_algorithm_shows_the_knobs_that_it_has(playground):
    own = {"buffer_rank", "transfer_columns", "transfer_rate", "gamma"}

    def offered() -> set[str]:
        return {name for name in own if playground.widgets[name].visible}

    assert offered() == set()
    for algorithm, expected in (("mixed precision", {"buffer_rank"}), ("Tiki-Taka v2", own)):
        playground.widgets["algorithm"].value = algorithm
        frames(playground, until=lambda want=expected: offered() == want)


def test_a_refused_knob_goes_back_to_what_the_run_has(playground):
    playground.widgets["block_size"].value = 128
    frames(playground, until=lambda: bool(playground.notice.object))
    assert "block_size=128 is above batch_size=64" in playground.notice.object
    frames(playground, until=lambda: playground.widgets["block_size"].value == 8)
    assert playground.run.snapshot.knobs["block_size"] == 8


def test_a_knob_turned_while_a_new_run_begins_keeps_its_value(playground):
    playground.reset.clicks += 1
    first = playground.run.snapshot.first_knobs
    while playground.run.snapshot.first_knobs is first:
        time.sleep(0.01)
    held, go_on = threading.Event(), threading.Event()
    playground.run.look("layer1", {"": lambda _: (held.set(), go_on.wait(20))})
    assert held.wait(20)
    playground.widgets["rank"].value = 5
    playground.refresh()  # shows the new run, which does not know of the rank yet
    assert playground.widgets["rank"].value == 5
    go_on.set()
    frames(playground, until=lambda: playground.run.snapshot.knobs["rank"] == 5)
    playground.refresh()
    assert playground.widgets["rank"].value == 5


def test_a_device_brings_its_own_nonidealities_and_digital_has_none(playground):
    assert all(playground.widgets[name].disabled for name in knobs_of(Settings, sets="device"))
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
    assert all(playground.widgets[name].disabled for name in knobs_of(Settings, sets="device"))


def test_the_chosen_method_and_device_are_explained(playground):
    for name in ("method", "device"):
        for value in Settings.param[name].objects:
            assert chosen_text(name, value).endswith("."), value
    method, device = playground._chosen["method"], playground._chosen["device"]
    assert "Streaming batch principal component analysis" in method.object
    assert "without cells" in device.object
    playground.widgets["method"].value = "svd"
    playground.widgets["device"].value = "EpiRAM"
    assert "singular triplets" in method.object and "64 pulses up" in device.object
    assert chosen_text("scheme", "rank-sum") == chosen_text("device", object()) == ""


def test_figures_hold_what_the_snapshot_holds(playground):
    playground.choice.value = ["loss", "accuracy", "spectrum", "g_plus", "histogram", "cost"]
    playground.widgets["device"].value = "FeFET"
    for _ in range(3):
        playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 3)
    playground.refresh()
    snapshot = playground.run.snapshot
    views = {name: pane.live for name, pane in playground.figures.panes.items()}
    curve = views["loss"].columns(0)
    np.testing.assert_array_equal(curve["loss"], snapshot.losses)
    for name, glyph in (("loss", 1), ("accuracy", 2)):
        marks = views[name].columns(glyph)
        np.testing.assert_array_equal(marks["x"], [0.0])
        assert marks["what"] == ["after step 0: device digital → FeFET"]
    found = snapshot.layers["layer1"].spectrum
    sigma = views["spectrum"].columns(1)["value"]
    np.testing.assert_allclose(sigma, found.sigma[: found.rank])
    shown = views["g_plus"].columns(0)["image"][0]
    np.testing.assert_array_equal(shown, snapshot.views["g_plus"].pixels)
    assert shown.dtype == np.uint8 and shown.shape == (16, 65)
    np.testing.assert_array_equal(
        views["histogram"].columns(1)["share"], snapshot.views["histogram"].minus
    )
    assert f">{snapshot.pulses:,}</td>" in views["cost"].object


def test_views_take_turns_while_training_but_all_show_a_turned_knob(playground, monkeypatch):
    playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 1)
    drawn: Counter[str] = Counter()
    for name in playground.figures.panes:
        count = VIEWS[name]._replace(draw=lambda *_, name=name: drawn.update([name]) or name)
        monkeypatch.setitem(VIEWS, name, count)
    moving = replace(playground.run.snapshot, running=True)
    playground.figures.draw(moving)
    assert set(drawn.values()) == {1} and len(drawn) == 6
    for _ in range(6):
        playground.figures.draw(moving)
    assert drawn.pop("loss") == 7
    assert set(drawn.values()) == {3} and len(drawn) == 5
    drawn.clear()
    playground.figures.draw(replace(moving, knobs={**moving.knobs, "rank": 5}))
    assert set(drawn.values()) == {1} and len(drawn) == 6
    drawn.clear()
    for _ in range(2):
        playground.figures.draw(playground.run.snapshot)  # paused: the last word
    assert set(drawn.values()) == {2} and len(drawn) == 6


def test_views_are_chosen_and_kept_within_bounds(playground):
    playground.choice.value = ["stuck", "loss"]
    assert playground.figures.shown == ["loss", "stuck"]
    assert sum(cell.visible for cell in playground.figures.grid) == 2
    playground.choice.value = []
    assert playground.choice.value == ["loss", "stuck"]
    assert "At most 6 views" in playground.notice.object
    with pytest.raises(ValueError, match=r"views must be of loss, .*; got 'speed'"):
        playground.figures.show(["speed"])


def test_default_views_follow_the_device_and_chosen_ones_stay(playground):
    def shown_with(device):
        playground.widgets["device"].value = device
        frames(playground, until=lambda: playground.run.snapshot.knobs["device"] == device)
        playground.refresh()
        return playground.choice.value

    assert "weight" in playground.choice.value and "g_plus" not in playground.choice.value
    assert "g_plus" in shown_with("FeFET") and "weight" not in playground.figures.shown
    assert "views=" not in playground.address.object
    assert "g_plus" not in shown_with("digital")
    playground.choice.value = ["loss", "g_plus"]
    assert shown_with("FeFET") == shown_with("digital") == ["loss", "g_plus"]


def test_a_reduced_map_says_so(opened):
    big = opened("views=weight", hidden=[300])
    caption = big.figures.panes["weight"]._caption
    frames(big, until=lambda: "weight" in big.run.snapshot.views)
    frames(big, until=lambda: "(a pixel: mean of 2 × 1)" in caption.object)


def test_the_address_says_what_stands_on_the_page_and_brings_it_back(opened, playground):
    playground.widgets["rank"].value = 6
    playground.widgets["device"].value = "PCMO"
    playground.widgets["dac_bits"].value = 5
    playground.choice.value = ["loss", "g_minus"]
    playground.layer.value = "layer2"
    playground.speed.value = 10
    frames(playground, until=lambda: playground.run.snapshot.knobs["dac_bits"] == 5)
    playground.refresh()
    query = playground.address.object
    again = opened(query)
    assert again.run.snapshot.knobs == playground.run.snapshot.knobs
    assert again.figures.shown == ["loss", "g_minus"] and again.layer.value == "layer2"
    assert again.widgets["device"].value == "PCMO" and again.widgets["dac_bits"].value == 5
    assert again.speed.value == 10 and query.endswith("&speed=10")
    assert again.address.object == query


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rank=1000", "rank must be a whole number"),
        ("rank=66", "rank=66 is above min(m, n) of every layer"),
        ("views=passwords", "views must be one of loss"),
        ("speed=1000000", "speed must be one of 0, 1, 2"),
        ("views=" + ",".join(["loss"] * 2000), ""),
    ],
)
def test_an_address_that_is_not_allowed_gives_a_page_with_defaults(opened, query, said):
    page = opened(query)
    assert said in page._refused
    assert page.run.snapshot.knobs["rank"] == 4


def test_an_address_limits_the_speed(opened):
    page = opened("speed=5")
    page.run.start()
    frames(page, until=lambda: page.run.snapshot.step >= 2)
    began, first = time.monotonic(), page.run.snapshot.step
    frames(page, until=lambda: page.run.snapshot.step >= first + 5)
    assert time.monotonic() - began > 0.7  # five steps at five a second; thousands without


def test_missing_files_of_a_data_set_are_said_and_the_run_stays(playground, monkeypatch):
    monkeypatch.delenv("SBPCA_DATA", raising=False)
    playground.fixed["dataset"].value = "mnist"
    playground._begin_as_chosen()
    frames(playground, until=lambda: "The data set mnist is not here" in playground.notice.object)
    assert playground.run.snapshot.knobs["dataset"] == "digits"
    assert playground.fixed["dataset"].value == "digits"


def test_a_new_run_takes_the_fixed_knobs_and_the_layers_follow(playground):
    playground.layer.value = "layer2"
    playground.fixed["hidden"].value = "20 12, 9"
    playground.fixed["seed"].value = "7"
    playground._begin_as_chosen()
    frames(playground, until=lambda: playground.run.snapshot.knobs["seed"] == 7)
    frames(playground, until=lambda: len(playground.layer.options) == 4)
    assert playground.run.snapshot.knobs["hidden"] == [20, 12, 9]
    assert playground.layer.value == "layer2"
    playground.fixed["hidden"].value = "4096, 4096"
    playground._begin_as_chosen()
    assert "too large for this server" in playground.notice.object
    playground.fixed["hidden"].value = "many"
    playground._begin_as_chosen()
    assert "hidden must be a list of widths" in playground.notice.object


def test_a_new_seed_and_the_same_seed(playground):
    playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 1)
    first = playground.run.snapshot.losses
    playground.new_seed.param.trigger("clicks")
    frames(playground, until=lambda: playground.run.snapshot.knobs["seed"] == 1)
    playground.begin({"seed": 0})
    playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 1)
    np.testing.assert_array_equal(playground.run.snapshot.losses, first)


def test_settings_go_out_and_come_back(playground):
    playground.widgets["rank"].value = 7
    playground.widgets["device"].value = "EpiRAM"
    frames(playground, until=lambda: playground.run.snapshot.knobs["device"] == "EpiRAM")
    data = beside(playground.share.settings.made())
    playground.widgets["rank"].value = 2
    playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 1)
    playground.share.upload.value = data
    frames(playground, until=lambda: playground.run.snapshot.step == 0)
    frames(playground, until=lambda: playground.widgets["rank"].value == 7)
    assert playground.run.snapshot.knobs["hidden"] == [16]
    playground.share.upload.value = b"rank: 1000"
    assert "Settings not loaded: rank must be" in playground.notice.object
    assert playground.run.snapshot.knobs["rank"] == 7


def test_the_python_of_a_live_run_repeats_it_bit_for_bit(playground):
    def stepped(count: int) -> None:
        for _ in range(count):
            playground.run.step()
        wanted = playground.run.snapshot.step + count
        frames(playground, until=lambda: playground.run.snapshot.step == wanted)

    stepped(2)
    playground.widgets["device"].value = "Ag:a-Si"
    playground.widgets["batch_size"].value = 4  # takes the block along
    frames(playground, until=lambda: playground.run.snapshot.knobs["batch_size"] == 4)
    stepped(3)
    playground.share.show_python()
    code = unescape(re.sub("<[^>]*>", "", playground.share.code.object))
    found: dict = {}
    exec(code, found)
    assert found["run"].step_count == 5
    for name, layer in playground.run.results()["layers"].items():
        again = found["run"].layers[name].array.weights.numpy()
        np.testing.assert_array_equal(layer["weight"].values[-1], again)


def test_downloads_of_the_run_open(playground, tmp_path):
    playground.run.step()
    tree = open_results(BytesIO(beside(playground.share.netcdf.made())))
    assert tree["training"].sizes["step"] == 1
    path = tmp_path / "run.zarr.zip"
    path.write_bytes(beside(playground.share.zarr.made()))
    with ZipStore(path, mode="r") as store, xr.open_datatree(store, engine="zarr") as opened:
        xr.testing.assert_equal(
            opened.load()["training"].to_dataset(), tree["training"].to_dataset()
        )


def test_a_run_that_diverged_is_said_and_can_still_be_downloaded(opened):
    page = opened(hidden=[64] * 3, learning_rate=10.0, batch_size=8, method="sgd")
    page.run.start()
    frames(page, until=lambda: "training diverged at step" in page.notice.object)
    frames(page, until=lambda: ">diverged<" in page.status.object)
    assert page.start.disabled and page.step.disabled
    open_results(BytesIO(beside(page.share.netcdf.made())))
    page.run.reset(learning_rate=0.1)
    frames(page, until=lambda: not page.start.disabled)


def test_every_live_knob_stands_under_one_heading():
    live = [name for name, knob in knobs_of(Settings).items() if is_live(knob)]
    grouped = [name for names in groups(live).values() for name in names]
    assert sorted(grouped) == sorted(live)


def test_the_status_line_counts_the_words_of_the_update(playground):
    # rank 4 on 16 x 65 and 10 x 17: 4 (16 + 65 + 1) + 4 (10 + 17 + 1) words of 16 * 65 + 10 * 17
    assert "440 words (36%)" in status_html(playground.run.snapshot)


def test_it_is_said_when_an_update_needs_more_words_than_the_gradient(playground):
    now = replace(playground.run.snapshot, gradient_words=(220, 100))
    assert "220 words (220%)" in status_html(now)


def test_the_status_line_tells_the_pulses_of_a_step(opened):
    now = opened(hidden=[16], device="EpiRAM").run.snapshot
    pace = Pace()
    assert pace.pulses_a_step(now) is None
    assert pace.pulses_a_step(replace(now, step=5, pulses=1000)) == 200
    assert pace.pulses_a_step(replace(now, step=10, pulses=4000)) == 400
    other = replace(now, step=12, pulses=4600, knobs={**now.knobs, "rank": 1})
    assert pace.pulses_a_step(replace(other, events=[(12, "rank", 4, 1)])) is None
    other = replace(other, step=14, pulses=4800, events=[(12, "rank", 4, 1)])
    assert pace.pulses_a_step(other) == 100
    assert ">4,800 (100 a step)<" in status_html(other, 100.0)


def test_a_drag_is_one_change_and_its_new_value_stands_first(playground):
    events = [(3, "seed", 0, 1), (3, "rank", 4, 3), (9, "rank", 3, 2), (20, "rank", 2, 1)]
    now = replace(playground.run.snapshot, events=[*events, (99, "rank", 1, 8)])
    assert change_marks(now)["what"] == [
        "after step 3: seed 0 → 1",
        "after step 20: rank 4 → 1",
        "after step 99: rank 1 → 8",
    ]
    loss = playground.figures.panes["loss"].live
    assert VIEWS["loss"].draw(loss, now, None) == "Loss · rank 8 from step 99"


def test_reset_keeps_the_curves_before_it_and_blanks_the_update(playground):
    for _ in range(3):
        playground.run.step()
    frames(playground, until=lambda: playground.run.snapshot.step == 3)
    playground.refresh()
    losses = playground.run.snapshot.losses
    live = playground.figures.panes["loss"].live
    assert not live.figure.legend[0].visible
    playground.run.reset()
    frames(playground, until=lambda: playground.run.snapshot.step == 0)
    playground.refresh()
    np.testing.assert_array_equal(live.columns(2)["loss"], losses)
    assert live.figure.legend[0].visible and not len(live.columns(0)["loss"])
    update = playground.figures.panes["update"].live
    assert all((update.columns(glyph)["image"][0] == 255).all() for glyph in range(3))
    assert not len(update.columns(3)["left"])


def test_the_first_steps_are_called_a_preview_until_a_button_is_pressed(opened):
    page = opened(hidden=[16], first_steps=3)
    frames(page, until=lambda: page.run.snapshot.step == 3)
    frames(page, until=lambda: "first 3 steps were trained as a preview" in page.intro.object)
    page.step.clicks += 1
    frames(page, until=lambda: page.run.snapshot.step == 4)
    page.refresh()
    assert "preview" not in page.intro.object


def test_the_run_ends_with_the_session(playground):
    playground.run.start()
    playground._on_session_destroyed(None)
    frames(playground, until=lambda: not playground.run.alive)


def test_an_address_on_all_networks_answers_to_the_names_of_the_machine():
    assert websocket_origins("127.0.0.1", 5006) == ["127.0.0.1:5006", "localhost:5006"]
    assert f"{socket.gethostname()}:80" in websocket_origins("0.0.0.0", 80)


def test_knobs_of_other_estimators_are_disabled_and_no_converter_is_called_ideal(playground):
    widgets = playground.widgets
    assert not widgets["passes"].disabled and widgets["decay"].disabled
    assert widgets["dac_bits"].value == "ideal"
    widgets["method"].value, widgets["dac_bits"].value = "feedback", 5
    frames(playground, until=lambda: playground.run.snapshot.knobs["dac_bits"] == 5)
    assert widgets["passes"].disabled and not widgets["decay"].disabled
    assert not widgets["rank"].disabled
    widgets["dac_bits"].value = "ideal"
    frames(playground, until=lambda: playground.run.snapshot.knobs["dac_bits"] is None)
    assert playground.run.messages.empty()


def test_a_view_is_one_object(opened, monkeypatch):
    """A row from outside is offered, asked for in an address, taken from the run and drawn."""
    seen = []
    monkeypatch.setitem(
        VIEWS,
        "norm",
        View(
            "Norm of the weights",
            lambda: Text(""),
            lambda pane, _, taken: seen.append((pane, taken)) or f"Norm {taken}",
            "The Frobenius norm.",
            ("03_outer_products", "A batch"),
            lambda look: float(look.array.weights.norm()),
        ),
    )
    page = opened("views=loss,norm", hidden=[16])
    assert page.choice.options["Norm of the weights"] == "norm"
    page.run.step()
    frames(page, until=lambda: page.run.snapshot.step == 1)
    expected = float(next(iter(page.run._experiment.arrays.values())).weights.norm())
    assert seen[-1] == (page.figures.panes["norm"].live, expected)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("digits", "learns handwritten digits on"),
        ("mnist", "learns handwritten digits (MNIST) on"),
        ("fashion-mnist", "learns pieces of clothing (Fashion-MNIST) on"),
        ("cifar-10", "learns photographs (CIFAR-10) on"),
        ("spirals", "learns the spirals data set on"),
    ],
)
def test_the_sentence_says_what_is_learned(playground, dataset, words):
    assert dataset in dataset_names()
    now = playground.run.snapshot
    assert words in intro_html(replace(now, knobs={**now.knobs, "dataset": dataset}))
