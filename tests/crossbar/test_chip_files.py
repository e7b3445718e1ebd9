"""Target maps for a real chip, and what it reached, as CSV files."""

import csv

import numpy as np
import pytest
import torch

from toolkit.crossbar import (
    Crossbar,
    Device,
    DigitalArray,
    Exponential,
    MixedPrecision,
    TikiTaka,
    TiledCrossbar,
    get_device,
)
from toolkit.lowrank import LowRank

SHAPE = (3, 4)
DEVICE = Device(name="cell", g_min=1e-6, g_max=1e-5, levels_up=60, levels_down=40)


def array_of(seed=0, dtype=torch.float64, device=DEVICE, **more):
    draw = torch.Generator().manual_seed(seed)
    weights = 2 * torch.rand(SHAPE, generator=draw, dtype=dtype) - 1
    return Crossbar.from_weights(weights, device=device, seed=0, **more)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def answer(path, chip, out=None):
    """Fill in what a chip reached: ``chip(row)`` siemens."""
    rows = rows_of(path)
    for row in rows:
        row["reached_S"] = chip(row)
    out = out or path
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pair", ["differential", "one-sided", "reference"])
def test_a_chip_that_reaches_its_targets_gives_the_array_back(tmp_path, pair, dtype):
    path, array = tmp_path / "layer1.csv", array_of(dtype=dtype, pair=pair)
    array.save_targets(path)
    answer(path, lambda row: row["target_S"])
    other = array_of(seed=1, dtype=dtype, pair=pair)
    report = other.load_reached(path)
    assert torch.allclose(other.conductance, array.conductance, rtol=1e-6, atol=0)
    assert torch.allclose(other.weights, array.weights, atol=1e-6)
    assert (report.within_tolerance, report.clipped) == (1.0, 0)
    assert report.rms_error < 1e-12
    assert other.pulses == 0


def test_rows_say_place_target_and_band(tmp_path):
    array = array_of()
    array.save_targets(tmp_path / "map.csv", tolerance=0.02)
    rows = rows_of(tmp_path / "map.csv")
    assert len(rows) == 24
    wanted = array.conductance
    for row in rows:
        polarity = ("plus", "minus").index(row["polarity"])
        target = float(wanted[polarity, int(row["output"]), int(row["input"])])
        assert float(row["target_S"]) == target
        assert float(row["most_S"]) == pytest.approx(target + 0.02 * 9e-6)
        assert float(row["least_S"]) == pytest.approx(target - 0.02 * 9e-6)
        assert row["reached_S"] == ""


def test_what_a_chip_missed_is_reported_and_read(tmp_path):
    array, draw = array_of(), np.random.default_rng(0)
    array.save_targets(tmp_path / "map.csv", tolerance=0.02)
    errors = iter(draw.normal(0, 0.02 * 9e-6, 24))
    misses = []

    def chip(row):
        misses.append(next(errors))
        return max(float(row["target_S"]) + misses[-1], 0.0)

    answer(tmp_path / "map.csv", chip)
    back = array_of()
    report = back.load_reached(tmp_path / "map.csv")
    expected = torch.tensor(misses).reshape(2, *SHAPE).double()
    reached = (array.conductance + expected).clamp(min=0)
    held = reached.clamp(1e-6, 1e-5)
    assert torch.allclose(back.conductance, held, atol=1e-15)
    assert report.clipped == int((held != reached).sum())
    assert report.within_tolerance == pytest.approx(np.mean(np.abs(misses) <= 0.02 * 9e-6))
    assert report.rms_error == pytest.approx(np.sqrt(np.mean(np.square(misses))), rel=0.05)


def test_stuck_cells_stay_and_are_counted(tmp_path):
    array = array_of()
    array.save_targets(tmp_path / "map.csv")
    answer(tmp_path / "map.csv", lambda _: 5e-6)
    stuck = array_of(
        device=Device(name="s", g_min=1e-6, g_max=1e-5, levels_up=60, levels_down=40, stuck_low=0.3)
    )
    count = int(stuck.stuck.sum())
    assert 0 < count < 24
    assert stuck.load_reached(tmp_path / "map.csv").clipped == count


def test_the_order_of_rows_and_further_columns_do_not_matter(tmp_path):
    array, path = array_of(), tmp_path / "map.csv"
    array.save_targets(path)
    answer(path, lambda row: row["target_S"])
    header, *lines = path.read_text().splitlines()
    text = "\r\n".join([f"{header},note", *(f"{line},fine" for line in reversed(lines))])
    path.write_text(text, encoding="utf-8-sig")
    back = array_of(seed=1)
    assert back.load_reached(path).within_tolerance == 1.0
    assert torch.allclose(back.weights, array.weights)


def test_a_trained_array_goes_on_after_the_chip(tmp_path):
    device = get_device("EpiRAM")
    array = Crossbar.from_weights(torch.zeros(SHAPE), device=device, seed=0)
    array.save_targets(tmp_path / "map.csv")
    answer(tmp_path / "map.csv", lambda row: float(row["target_S"]) * 1.001)
    array.load_reached(tmp_path / "map.csv")
    array.pulse(torch.ones(2, *SHAPE))
    assert array.pulses == 24
    assert isinstance(array.device.response, Exponential)


def lines_of(tmp_path, change):
    array, path = array_of(), tmp_path / "map.csv"
    array.save_targets(path)
    answer(path, lambda row: row["target_S"])
    path.write_text("\n".join(change(path.read_text().splitlines())), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "all 24 cells; map.csv has no minus cell of output 2, input 3"),
        (
            lambda lines: [*lines, lines[5]],
            "line 26: plus cell of output 1, input 0 is there twice",
        ),
        (lambda lines: [lines[0].replace("reached_S", "x"), *lines[1:]], "has no column reached_S"),
        (lambda lines: ["", *lines][:1], "has no column polarity"),
        (lambda lines: [*lines[:3], lines[3].replace("plus", "left")], "line 4 must be a cell"),
        (lambda lines: [*lines[:3], lines[3].replace("0,2", "0,9")], r"line 4 .* of \(3, 4\); got"),
        (lambda lines: [*lines[:3], lines[3].replace("0,2", "0,-1")], "line 4 must be a cell"),
        (lambda lines: [*lines[:3], lines[3].rsplit(",", 1)[0] + ","], "line 4: reached_S must be"),
        (lambda lines: [*lines[:3], lines[3].rsplit(",", 1)[0] + ",nan"], "line 4: reached_S must"),
        (
            lambda lines: [*lines[:3], lines[3].rsplit(",", 1)[0] + ",-1e-6"],
            "line 4: reached_S must",
        ),
        (lambda lines: [*lines[:3], "plus"], "line 4 must be a cell"),
        (lambda lines: [lines[0], "\0" * 200_000], "map.csv: line|map.csv: field"),
    ],
)
def test_files_that_do_not_fit_change_nothing(tmp_path, change, said):
    path, array = lines_of(tmp_path, change), array_of(seed=1)
    before = array.conductance
    with pytest.raises(ValueError, match=said) as caught:
        array.load_reached(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert torch.equal(array.conductance, before)


def test_bytes_and_other_shapes_are_refused(tmp_path):
    (tmp_path / "map.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(ValueError, match="path must be a file of targets"):
        array_of().load_reached(tmp_path / "map.csv")
    with pytest.raises(FileNotFoundError, match="path must be a file"):
        array_of().load_reached(tmp_path / "none.csv")
    large = Crossbar.from_weights(torch.zeros(5, 6), device=DEVICE)
    large.save_targets(tmp_path / "map.csv")
    with pytest.raises(ValueError, match=r"line \d+"):
        array_of().load_reached(tmp_path / "map.csv")
    with pytest.raises(OSError, match=r"cannot be written|no folder"):
        array_of().save_targets(tmp_path / "no" / "map.csv")


def test_a_file_with_semicolons_or_of_another_encoding_is_explained(tmp_path):
    path, array = tmp_path / "layer1.csv", array_of()
    array.save_targets(path)
    path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    with pytest.raises(ValueError, match="no column polarity; columns are separated by commas"):
        array.load_reached(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"layer1\.csv is no text in UTF-8"):
        array.load_reached(path)


def test_a_tiled_array_has_one_file_with_the_places_of_the_matrix(tmp_path):
    path, whole = tmp_path / "map.csv", array_of()
    tiled = TiledCrossbar.from_weights(torch.zeros(SHAPE).double(), tile=(2, 3), device=DEVICE)
    whole.save_targets(path)
    answer(path, lambda row: row["target_S"])
    report = tiled.load_reached(path)
    assert torch.allclose(tiled.conductance, whole.conductance, rtol=1e-6, atol=0)
    assert report.within_tolerance == 1.0
    again = tmp_path / "again.csv"
    tiled.save_targets(again, tolerance=0.02)
    targets, found = ([float(row["target_S"]) for row in rows_of(p)] for p in (path, again))
    assert found == pytest.approx(targets, rel=1e-6)


def test_mixed_precision_keeps_what_waits(tmp_path):
    path, array = tmp_path / "map.csv", MixedPrecision(array_of())
    array.apply(LowRank(torch.ones(3, 1), torch.ones(1), torch.ones(4, 1)), learning_rate=1e-4)
    array.save_targets(path)
    answer(path, lambda row: 2e-6 if row["polarity"] == "plus" else 1e-6)
    assert array.load_reached(path).clipped == 0
    assert torch.allclose(array.weights, torch.full(SHAPE, 1 / 9).double())
    assert torch.allclose(array.waiting, torch.full(SHAPE, -1e-4).double())


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (DigitalArray(torch.zeros(SHAPE)), "need cells; DigitalArray has none"),
        (
            TikiTaka.from_weights(torch.zeros(SHAPE), device=DEVICE),
            r"two arrays: .* fast and of slow",
        ),
    ],
)
def test_arrays_without_one_chip_say_so(tmp_path, array, said):
    for method in (array.save_targets, array.load_reached):
        with pytest.raises(ValueError, match=said):
            method(tmp_path / "map.csv")
    assert not list(tmp_path.iterdir())
