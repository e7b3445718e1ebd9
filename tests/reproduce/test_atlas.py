"""The atlas: memory by hand, advice from tables made here, the one that comes with the package."""

import json
from importlib import resources

import pytest

from toolkit.crossbar import get_device
from toolkit.reproduce import CLAIMS
from toolkit.reproduce.atlas import ALGORITHMS, memory_words, open_atlas, recommend
from toolkit.reproduce.claims.atlas import CELLS
from toolkit.reproduce.results import to_dataset
from toolkit.training import Experiment

LAYERS = [(128, 65), (10, 129)]


def made(**accuracies):
    """A table of one cell: three seeds of each algorithm at rank 4, or 0 for the whole gradient."""
    rows = []
    for algorithm, values in accuracies.items():
        rank = 0 if algorithm.startswith("MBGD") else 4
        place = {"device": "EcRam", "algorithm": algorithm, "rank": rank}
        rows.append({**place, "learning_rate": 0.5})
        rows += [{**place, "seed": i, "test_accuracy": v} for i, v in enumerate(values)]
    case = {"data": {"name": "digits"}, "knobs": {"hidden": [128]}, "epochs": 8}
    return to_dataset(rows).assign_attrs(cases=json.dumps([case]))


GIVEN = made(
    **{
        "MBGD, one sum": [95.0, 95.2, 95.4],
        "SBPCA": [90.0, 90.1, 90.2],
        "SBPCA, full core": [94.9, 95.0, 95.1],
        "FeedbackPCA": [95.0, 95.1, 95.2],
        "SBPCA, mixed precision": [94.0, 94.1, 94.2],
    }
)


@pytest.mark.parametrize(
    ("algorithm", "rank", "words"),
    [
        ("MBGD, one sum", 0, 128 * 65 + 10 * 129),
        ("MBGD, sample by sample", 0, 0),
        ("SBPCA", 4, 4 * 194 + 4 * 140),
        ("SBPCA", 16, 16 * 194 + 10 * 140),  # no more than 10 directions in 10 outputs
        ("FeedbackPCA", 4, 12 * 194 + 10 * 140),
        ("SBPCA, mixed precision", 1, 194 + 140 + 128 * 65 + 10 * 129),
        ("SBPCA, Tiki-Taka v2, r = 4", 1, 5 * (194 + 140)),
        ("SBPCA, Tiki-Taka", 1, 194 + 140),
        ("SBPCA, AGAD", 1, 194 + 140 + 3 * (128 * 65 + 10 * 129)),
        ("SBPCA, residual learning", 1, 194 + 140),
    ],
)
def test_words_counted_by_hand(algorithm, rank, words):
    assert memory_words(algorithm, rank, LAYERS) == words


def test_a_cheaper_one_within_a_point_of_the_best_is_advised():
    advice = recommend("EcRam", LAYERS, atlas=GIVEN)  # the best is 95.2
    assert (advice.algorithm, advice.rank, advice.words) == ("SBPCA, full core", 4, 1336)
    assert advice.share == pytest.approx(1336 / 9610) and "13.9% of m n" in advice.reason
    assert "MBGD, one sum" in advice.reason and advice.accuracy.mean == pytest.approx(95.0)
    assert "digits, hidden layer 128, 8 epochs, 3 seeds" in str(advice)
    run = Experiment(hidden=[12], **advice.knobs)
    run.step()
    assert (run.core, run.history, run.rank, run.learning_rate) == ("full", 4.0, 4, 0.5)


def test_what_does_not_fit_is_not_advised():
    only = made(**{"FeedbackPCA": [95.0, 95.1, 95.2], "SBPCA": [90.0, 90.1, 90.2]})
    assert recommend(get_device("EcRam"), LAYERS, words=2000, atlas=only).algorithm == "SBPCA"
    with pytest.raises(ValueError, match="words must be at least 1336 for these layers; got 1335"):
        recommend("EcRam", LAYERS, words=1335, atlas=only)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"device": "Daffodil"}, "device must be one of EcRam; got 'Daffodil'"),
        ({"layer_shapes": []}, "layer_shapes must have at least one"),
        ({"layer_shapes": [(0, 3)]}, "layer_shapes"),
        ({"words": -1}, "words must be"),
        ({"atlas": {}}, "atlas must be an xarray Dataset"),
    ],
)
def test_what_is_not_allowed_is_said(given, text):
    with pytest.raises((TypeError, ValueError), match=text):
        recommend(**({"device": "EcRam", "layer_shapes": LAYERS, "atlas": GIVEN} | given))


def test_it_is_judged_by_what_did_best_on_held_out_samples():
    """Not by the test set: FeedbackPCA does better there, SBPCA did on held-out samples."""
    rows = []
    places = {
        ("digital", "MBGD, one sum", 0): ([95.0, 95.5], 94.0, None),
        ("EcRam", "MBGD, sample by sample", 0): ([80.0, 80.0], 80.0, [1000.0, 1000.0]),
        ("EcRam", "SBPCA", 4): ([94.5, 94.9], 93.0, [300.0, 320.0]),
        ("EcRam", "FeedbackPCA", 4): ([95.0, 95.4], 92.0, [400.0, 400.0]),
    }
    for (device, algorithm, rank), (tests, held_out, pulses) in places.items():
        place = {"device": device, "algorithm": algorithm, "rank": rank}
        rows.append({**place, "trial_rate": 0.5, "validation_accuracy": held_out})
        for seed, value in enumerate(tests):
            spent = {} if pulses is None else {"pulses": pulses[seed]}
            rows.append({**place, "seed": seed, "test_accuracy": value, **spent})
    loss, ratio = CLAIMS["atlas"].judge(to_dataset(rows))
    assert "SBPCA of rank 4 on EcRam" in loss.statement
    assert loss.value.mean == pytest.approx(0.55) and ratio.value.mean == pytest.approx(0.31)


def test_the_atlas_that_comes_with_the_package():
    atlas = open_atlas()
    file = resources.files("toolkit.reproduce") / "atlas.nc"
    assert len(file.read_bytes()) < 1_000_000
    assert list(atlas.device.values) == list(CELLS)
    assert list(atlas.algorithm.values) == list(ALGORITHMS) and atlas.sizes["seed"] >= 3
    for cell in CELLS:
        found = recommend(cell, LAYERS)
        assert 50 < found.accuracy.low < found.accuracy.high < 100
        place = {"device": cell, "algorithm": found.algorithm, "rank": found.rank}
        assert atlas.memory_words.sel(place).dropna("seed").values[0] == found.words
