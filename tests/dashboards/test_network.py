"""The drawing of the network."""

import re

import pytest

from dashboards.playground.network import Array, network, network_html
from toolkit.training import Experiment
from toolkit.training.live.snapshot import Focus, SnapshotTaker


def drawn(**knobs):
    focus = Focus("layer1", {"network": network})
    taker = SnapshotTaker(Experiment(**knobs))
    taken = taker.take(number=0, running=False, steps_per_second=0.0, focus=focus)
    return taken.views["network"]


def test_an_mlp_on_cells_has_pairs_and_biases_between_data_and_classes():
    found = drawn(device="EpiRAM")
    assert found.data == "digits, 8 × 8" and found.classes == 10
    assert found.picture.startswith("data:image/png")
    first, second = Array("layer1", (128, 65), True, True), Array("layer2", (10, 129), True, True)
    assert found.parts == (first, "ReLU", second)


@pytest.mark.parametrize(
    ("knobs", "parts"),
    [
        ({"dataset": "spirals", "hidden": [], "rank": 2}, (Array("layer1", (2, 3), True, False),)),
        (
            {"model": "vgg"},
            ("", Array("conv1", (16, 9), False, False), "max pooling", "batch norm", "ReLU"),
        ),
    ],
)
def test_plain_weights_and_convolutions_are_drawn_as_they_are(knobs, parts):
    assert drawn(**knobs).parts[: len(parts)] == parts


def test_every_array_is_a_button_that_says_what_it_holds_and_the_layer_shown_is_pressed():
    html = network_html(drawn(device="EpiRAM"), "layer2")
    buttons = re.findall(
        r'<button[^>]*value="(\w+)" aria-pressed="(\w+)" aria-label="([^"]+)"', html
    )
    assert buttons == [
        ("layer1", "false", "layer1: 128 × 65 pairs, with biases in the last column"),
        ("layer2", "true", "layer2: 10 × 129 pairs, with biases in the last column"),
    ]
    assert html.count("<rect") == 8  # two cells and two columns of biases in each array
    assert network_html(drawn(), "layer2").count("<rect") == 4
