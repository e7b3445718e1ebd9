"""Snapshots: maps are the arrays' values, histories cover the whole past, costs add up."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dashboards.playground.maps import (
    NOTHING,
    STEPS,
    WATERFALL_COLUMNS,
    Map,
    as_pixels,
    reduced,
    round_limit,
    waterfall,
)
from dashboards.playground.predictions import predictions
from dashboards.playground.update import write
from dashboards.playground.views import VIEWS
from toolkit.plots.update import scaled_parts, squares
from toolkit.training import Experiment
from toolkit.training.experiment.run import DivergenceError
from toolkit.training.experiment.series import Series
from toolkit.training.live.snapshot import Focus, SnapshotTaker

ALL = {name: view.take for name, view in VIEWS.items() if view.take}


def values_of(shown: Map) -> np.ndarray:
    """The values that the pixels stand for, NaN for nothing; exact to half a step."""
    low, high = shown.limits
    values = low + shown.pixels.astype(float) * ((high - low) / STEPS)
    return np.where(shown.pixels == NOTHING, np.nan, values)


def taken(steps: int = 3, **knobs):
    run = Experiment(**{"hidden": [16], "device": "EpiRAM", "seed": 1} | knobs)
    taker = SnapshotTaker(run)
    for _ in range(steps):
        taker.count(run.step())
        snapshot = taker.take(
            number=0, running=False, steps_per_second=0.0, focus=Focus("layer1", ALL)
        )
    return run, snapshot


def test_maps_hold_the_values_of_the_array_to_half_a_step():
    run, now = taken(stuck_low=0.1)
    array = run.arrays["layer1"]
    expected = {
        "g_plus": array.conductance[0],
        "g_minus": array.conductance[1],
        "weight": array.weights,
        "pulses": array.pulse_count.sum(0),
        "stuck": array.stuck.sum(0),
    }
    for name, values in expected.items():
        shown = now.views[name]
        low, high = shown.limits
        np.testing.assert_allclose(
            values_of(shown), values, rtol=0, atol=(high - low) / 254 * 0.5001, err_msg=name
        )
    assert now.views["stuck"].pixels.max() > 0 and now.views["pulses"].unit == "pulses"
    first = Experiment(**run.knob_values()).arrays["layer1"].weights
    change = values_of(now.views["change"])
    np.testing.assert_allclose(change, array.weights - first, atol=1 / 254 * 0.5001)
    assert np.abs(change).max() > 0.01


def test_plain_weights_have_no_cells_to_show():
    _run, now = taken(device="digital")
    shown = {name for name, found in now.views.items() if found is not None}
    assert shown == {"weight", "change", "waterfall", "cost", "update", "predictions"}
    assert now.views["cost"].cost is None


def test_only_what_is_looked_at_is_taken():
    run, _ = taken(steps=1)
    now = SnapshotTaker(run).take(number=0, running=False, steps_per_second=0.0)
    assert now.views == {} and now.focus.layer == "layer1"
    elsewhere = Focus("no such layer", {"weight": ALL["weight"]})
    now = SnapshotTaker(run).take(number=0, running=False, steps_per_second=0.0, focus=elsewhere)
    assert now.focus.layer == "layer1" and set(now.views) == {"weight"}


def looks(run, taker, count, first=0, **more):
    """Steps and snapshots in turn: which of them looked at what anew."""
    last, found = None, []
    for number in range(first, first + count):
        taker.count(run.step())
        now = taker.take(number=number, running=True, steps_per_second=0.0, **more)
        assert now.step == run.step_count and now.loss_steps[-1] == now.step
        if last is not None:
            layers = [now.layers[name].energy[-1, 0] == now.step for name in now.layers]
            found.append((*layers, now.views is not last.views))
        last = now
    return found


def test_snapshots_share_the_work_while_training_goes_on_as_it_was():
    run = Experiment(hidden=[16], device="EpiRAM", seed=1)
    taker, focus = SnapshotTaker(run), Focus("layer1", ALL)
    found = looks(run, taker, 7, focus=focus)
    assert found[1::3] == [(False, False, True)] * 2  # numbers 2 and 5
    assert found[2::3] == [(True, False, False)] * 2  # 3 and 6
    assert found[0::3] == [(True, False, False), (False, True, False)]  # layers 1, 2


def test_a_changed_knob_or_focus_or_a_pause_is_looked_at_at_once():
    run = Experiment(hidden=[16], device="EpiRAM", seed=1)
    taker, focus = SnapshotTaker(run), Focus("layer1", ALL)

    def seen(number, running=True, focus=focus):
        taker.count(run.step())
        now = taker.take(number=number, running=running, steps_per_second=0.0, focus=focus)
        return now.layers[focus.layer].energy[-1, 0] == now.step == _step_of_cost(now)

    def _step_of_cost(now):
        return now.views["cost"].outer_products[0] / (2 * run.rank)

    assert seen(0) and not seen(1) and not seen(2) and not seen(3)
    run.change(rank=run.rank)
    taker.changes.append((run.step_count, {"rank": run.rank}))
    assert seen(4) and not seen(5)
    assert seen(6, focus=Focus("layer2", ALL)) and not seen(7, focus=Focus("layer2", ALL))
    assert seen(8, running=False) and seen(9, running=False) and seen(10)


def test_a_large_map_is_the_mean_of_equal_areas():
    values = torch.rand(401, 250, generator=torch.Generator().manual_seed(0))
    shown = reduced(values, limits=(0.0, 1.0), unit="1")
    assert shown.block == (3, 2) and shown.pixels.shape == (134, 125)
    assert shown.pixels.dtype == np.uint8 and shown.shape == (401, 250)
    brute = [
        [values[i : i + 3, j : j + 2].double().mean() for j in range(0, 250, 2)]
        for i in range(0, 401, 3)  # the last block has two rows
    ]
    np.testing.assert_allclose(values_of(shown), brute, atol=0.5001 / 254)


def test_pixels_are_clipped_to_their_limits_and_know_nothing():
    values = torch.tensor([[-5.0, 0.0, 0.5, 1.0, 7.0, float("nan")]])
    assert as_pixels(values, (0.0, 1.0)).tolist() == [[0, 0, 127, 254, 254, 255]]


@pytest.mark.parametrize(
    ("largest", "limit"),
    [(0, 1), (1, 1), (1.5, 2), (2, 2), (3, 5), (7, 10), (10, 10), (101, 200), (501, 1000)],
)
def test_limits_of_counts_are_round(largest, limit):
    assert round_limit(largest) == pytest.approx(limit)


def test_the_waterfall_is_the_past_evenly_spaced():
    past = np.array([[1, 10.0, 1.0], [3, 1.0, 0.1], [4, 0.1, 0.0]])
    shown = waterfall(past)
    np.testing.assert_allclose(
        values_of(shown), [[1, 1, 0, -1], [0, 0, -1, np.nan]], atol=7 / 254 * 0.5001
    )
    assert (shown.begin, shown.shape) == (1, (2, 4))
    assert waterfall(past[:0]) is None
    long = waterfall(np.stack([np.arange(1, 1000), *2 * [np.ones(999)]], axis=1))
    assert long.pixels.shape == (2, WATERFALL_COLUMNS)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_a_series_is_even_bounded_and_has_its_ends(most):
    series = Series(2, most)
    for i in range(1000):
        series.add((i, -i))
        steps, values = series.rows.T
        assert steps[0] == 0 and steps[-1] == i and (values == -steps).all()
        assert min(i + 1, most) <= len(steps) <= 2 * most + 2
        gaps = np.diff(steps)
        assert (gaps[:-1] == series.stride).all() and (gaps > 0).all()


def test_the_past_of_a_layer_is_bounded():
    _run, now = taken(steps=420, device="digital", batch_size=8)
    steps = now.layers["layer1"].energy[:, 0]
    assert steps[0] == 1 and steps[-1] == 420 and (np.diff(steps) > 0).all()
    assert now.views["waterfall"].pixels.shape[1] == WATERFALL_COLUMNS
    assert (now.layers["layer1"].energy[:, 3] <= 90 + 1e-6).all()


def test_the_histogram_counts_every_cell():
    run, now = taken()
    device, held = run.device_with_overrides(), run.arrays["layer1"].conductance[0]
    counts, edges = np.histogram(held, 60, (device.g_min, device.g_max))
    np.testing.assert_allclose(now.views["histogram"].plus, 100 * counts / held.numel(), atol=0.2)
    np.testing.assert_allclose(now.views["histogram"].centre, (edges[1:] + edges[:-1]) / 2)
    assert now.views["histogram"].minus.sum() == pytest.approx(100)


def test_outer_products_are_counted_step_by_step():
    _, now = taken(steps=3, rank=2)
    # two layers, rank 2, three steps; a full gradient writes each of 64 samples on each layer
    assert now.views["cost"].outer_products == (12, 3 * 64 * 2)
    _, full = taken(steps=3, method="sgd")
    assert full.views["cost"].outer_products == (384, 384)


def test_expected_pulses_are_what_the_cells_get_on_average():
    """Against the pulses really issued: full-gradient training writes its samples one by one."""
    run, now = taken(steps=1, method="sgd", w_max=1.0)
    asked, full = now.views["cost"].expected_pulses
    assert asked == pytest.approx(full, rel=1e-5)
    assert run.pulses == pytest.approx(asked, rel=0.1)
    pairs = [taken(steps=1, method="sbpca", rank=3, seed=seed) for seed in range(20)]
    expected = sum(now.views["cost"].expected_pulses[0] for _, now in pairs)
    assert sum(run.pulses for run, _ in pairs) == pytest.approx(expected, rel=0.07)  # 4 deviations


@pytest.mark.parametrize(
    "knobs", [{"scheme": "rank-sum"}, {"coding": "coincidence"}, {"pair": "reference"}]
)
def test_no_expected_pulses_where_the_formula_does_not_hold(knobs):
    assert taken(steps=1, **knobs)[1].views["cost"].expected_pulses is None


def test_costs_of_all_arrays_add_up():
    run, now = taken()
    each = [array.cost() for array in run.arrays.values()]
    assert now.views["cost"].cost.write_energy == pytest.approx(sum(c.write_energy for c in each))
    assert now.views["cost"].cost.pulses_up + now.views["cost"].cost.pulses_down == run.pulses


def test_the_update_is_drawn_from_its_own_factors():
    run, now = taken(device="EpiRAM")
    update = run.latest()["layer1"][0]
    shown = now.views["update"]
    assert shown.shape == tuple(run.arrays["layer1"].shape)
    np.testing.assert_array_equal(shown.sigma, update.sigma)
    dense = (shown.left * shown.sigma) @ shown.right.T  # 16 x 65: no pixel is a mean
    np.testing.assert_allclose(dense, update.dense(), rtol=1e-5, atol=1e-7)
    parts = scaled_parts(shown.left, shown.sigma, shown.right)
    assert [part.shape for part in parts] == [(16, 65), (16, 4), (4, 65)]
    assert all(np.abs(part).max() == pytest.approx(1) for part in parts)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in squares(shown.sigma, 16, 65)]
    np.testing.assert_allclose(np.array(areas) / max(areas), shown.sigma / shown.sigma.max(), 1e-5)


def test_the_last_write_is_what_the_cells_were_before_and_after():
    run = Experiment(device="EpiRAM")
    taker = SnapshotTaker(run)
    focus = Focus("layer1", {"write": write}, compares=True)
    run.step()
    array = run.arrays["layer1"]
    weights, pulses = array.weights, array.pulse_count
    taker.note_before(focus)
    run.step()
    now = taker.take(number=0, running=False, steps_per_second=0.0, focus=focus)
    wanted = -run.learning_rate * run.latest()["layer1"][0].dense()
    changes = (wanted, (array.pulse_count - pulses).sum(0), array.weights - weights)
    shown = now.views["write"]
    for pixels, limit, expected, low in zip(
        shown.pixels, shown.limits, changes, (-1, 0, -1), strict=True
    ):
        found = low * limit + pixels / 254 * limit * (1 - low)
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit * (1 - low) / 254 * 0.51)
    run.change(device="PCMO")  # another array: the one before is not its own
    later = taker.take(number=1, running=False, steps_per_second=0.0, focus=focus)
    assert later.views["write"] is None


def test_looking_at_predictions_changes_nothing_and_shows_the_hardest_first():
    watched, alone = (Experiment(device="EpiRAM", read_noise=0.1) for _ in range(2))
    focus = Focus("layer1", {"predictions": predictions})
    for _ in range(3):
        watched.step()
        alone.step()
        found = (
            SnapshotTaker(watched)
            .take(number=0, running=False, steps_per_second=0.0, focus=focus)
            .views["predictions"]
        )
    assert watched.arrays["layer1"].weights.equal(alone.arrays["layer1"].weights)
    assert watched.arrays["layer1"].cost() == alone.arrays["layer1"].cost()
    assert len(found.hardest) == 12
    shares = [one.probability for one in found.hardest if one.label == one.predicted]
    assert shares == sorted(shares)
    assert all(one.picture.startswith("data:image/png") for one in found.hardest)


def test_a_plane_shows_the_class_of_every_point():
    run = Experiment(dataset="spirals", hidden=[32, 32], batch_size=32, learning_rate=0.5)
    for _ in run.steps(epochs=15):
        pass
    focus = Focus("layer1", {"predictions": predictions})
    now = SnapshotTaker(run).take(number=0, running=False, steps_per_second=0.0, focus=focus)
    picture = base64.b64decode(now.views["predictions"].plane.partition(",")[2])
    pixels = np.array(Image.open(io.BytesIO(picture))).astype(int)
    assert pixels.shape == (90, 90, 3)
    blue, orange = (pixels[:, :, 2] > pixels[:, :, 0]), (pixels[:, :, 0] > pixels[:, :, 2])
    assert 0.3 < blue.mean() < 0.7 and (blue | orange).mean() > 0.9
    points, labels = run.data.test_inputs.numpy(), run.data.test_labels.numpy()
    low, high = points.min(0), points.max(0)
    column, row = np.round(89 * (points - low) / (high - low)).astype(int).T
    right = blue[89 - row, column] == (labels == 0)  # class 0 is blue
    assert right.mean() > 0.98


def test_values_that_are_no_longer_finite_are_said_not_raised():
    run = Experiment(method="sgd", learning_rate=10.0, hidden=[64] * 3, batch_size=8)
    with pytest.raises(DivergenceError):
        for _ in range(500):
            run.step()
    focus = Focus("layer1", {"predictions": predictions})
    now = SnapshotTaker(run).take(number=0, running=False, steps_per_second=0.0, focus=focus)
    assert now.views["predictions"] is None
