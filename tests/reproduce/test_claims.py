"""Every claim's plan can be run, and its verdict follows from hand-made measurements."""

import numpy as np
import pytest

from toolkit.reproduce.claims import CLAIMS
from toolkit.reproduce.results import to_dataset
from toolkit.reproduce.statistics import overall_verdict
from toolkit.training import Settings

SIZES = ("full", "quick", "smallest")


def test_there_are_eight_and_the_atlas():
    assert list(CLAIMS) == [*(f"C{i}" for i in range(1, 9)), "atlas"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CLAIMS)
def test_plans_hold_settings_that_are_allowed(name, size):
    cases = CLAIMS[name].plan(size)
    places = [tuple(case.labels.values()) for case in cases]
    assert len(set(places)) == len(places)
    assert len({tuple(case.labels) for case in cases}) == 1
    for case in cases:
        if case.data is not None:
            settings = Settings(learning_rate=max(case.rates), **case.knobs)
            held_in = (case.data.train or 1347) * 5 / 6
            assert settings.batch_size <= held_in


def rows(loss_at_4: list[float], loss_at_10: list[float], task: str = "MNIST mlp") -> list[dict]:
    """Test accuracies over seeds of MBGD and of SBPCA, so many points below it."""
    reference = [98.0 + 0.1 * seed for seed in range(len(loss_at_4))]
    cases = {
        ("MBGD", 0): [0.0] * len(reference),
        ("SBPCA", 4): loss_at_4,
        ("SBPCA", 10): loss_at_10,
    }
    return [
        {
            "task": task,
            "method": method,
            "rank": rank,
            "seed": seed,
            "test_accuracy": reference[seed] - loss,
        }
        for (method, rank), losses in cases.items()
        for seed, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("at_4", "at_10", "verdict"),
    [
        ([0.8, 0.7, 0.75], [0.3, 0.35, 0.3], "supported"),
        ([1.8, 1.7, 1.75], [0.9, 0.95, 0.9], "not supported"),
        ([1.8, 1.7, 1.75], [0.3, 0.35, 0.3], "mixed"),
        ([0.2, 1.4, 0.8], [0.1, 0.9, 0.4], "mixed"),
    ],
)
def test_c1_verdict(at_4, at_10, verdict):
    findings = CLAIMS["C1"].judge(to_dataset(rows(at_4, at_10)))
    assert len(findings) == 2
    assert overall_verdict(findings) == verdict


def test_c1_takes_the_best_rank_of_a_convolutional_network():
    (finding,) = CLAIMS["C1"].judge(
        to_dataset(rows([3.0, 3.1, 3.2], [1.0, 1.1, 1.0], task="CIFAR-10 vgg"))
    )
    assert finding.verdict == "supported"
    assert "rank 10" in finding.statement


def test_c7_compares_nmf_with_sbpca_at_rank_1():
    losses = {("MBGD", 0): 0.0, ("SBPCA", 1): 9.0, ("NMF", 1): 4.0, ("SBPCA", 3): 3.0}
    measured = [
        {
            "device": "EpiRAM",
            "method": method,
            "rank": rank,
            "seed": seed,
            "test_accuracy": 95.0 - loss + 0.1 * seed,
        }
        for (method, rank), loss in losses.items()
        for seed in range(3)
    ]
    near, gain = CLAIMS["C7"].judge(to_dataset(measured))
    assert (near.value.mean, near.verdict) == (pytest.approx(3.0), "not supported")
    assert (gain.value.mean, gain.verdict) == (pytest.approx(5.0), "supported")


def test_c4_rank_for_90_percent_of_a_known_spectrum():
    from toolkit.reproduce.claims.spectra import _rows

    about, *parts = _rows(np.array([3.0, 1.0, 0.0, 0.0]), {"layer": "l", "progress": 0.5})
    assert (about["rank_90"], about["stable_rank"]) == (1, pytest.approx(10 / 9))
    assert [part["energy"] for part in parts] == [0.9, 1.0, 1.0]
    flat, *_ = _rows(np.ones(10), {"layer": "l", "progress": 0.5})
    assert (flat["rank_90"], flat["stable_rank"]) == (9, 10.0)
