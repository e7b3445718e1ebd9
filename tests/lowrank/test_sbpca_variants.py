"""Sweeps, history and the full core: what SBPCA can do beyond the published recursion."""

import numpy as np
import pytest
import torch

from toolkit.lowrank import SBPCA, TruncatedSVD, captured_energy, optimal_energy


def stationary(m=10, n=14, count=6, seed=3):
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(m, count)))[0]
    right = np.linalg.qr(rng.normal(size=(n, count)))[0]
    sigma = 2.0 ** -np.arange(count)
    return torch.as_tensor((left * sigma).T.copy()), torch.as_tensor(right.T.copy())


def distance(update, reference):
    return float((update.dense() - reference).norm() / reference.norm())


# T13
@pytest.mark.parametrize("core", ["diagonal", "full"])
def test_a_large_batch_comes_close_to_the_bound(core):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16, 40, generator=generator, dtype=torch.float64)
    mixing *= 1.5 ** -torch.arange(16, dtype=torch.float64)[:, None]
    hidden = torch.randn(1280, 16, generator=generator, dtype=torch.float64)
    errors = hidden @ torch.randn(16, 30, generator=generator, dtype=torch.float64) / 1280
    activations = hidden @ mixing
    estimator = SBPCA(rank=3, block_size=32, core=core)
    for _ in range(3):
        update = estimator.update(errors, activations)
    floor = (1 - optimal_energy(errors, activations, rank=3)) ** 0.5
    error = (1 - captured_energy(update, errors, activations)) ** 0.5
    assert floor <= error <= 1.05 * floor


# T14
def test_sweeps_reach_the_truncated_svd():
    data = stationary()
    best = TruncatedSVD(rank=2).update(*data).dense()
    errors = [
        distance(SBPCA(rank=2, block_size=6, passes=passes).update(*data), best)
        for passes in (1, 10, 40, 80)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9


def test_a_sweep_is_one_more_reading_of_the_batch(batch):
    data = batch()
    twice, one = SBPCA(rank=2, passes=2), SBPCA(rank=2)
    one.update(*data)
    assert torch.equal(twice.update(*data).dense(), one.update(*data).dense())


@pytest.mark.parametrize("core", ["diagonal", "full"])
def test_full_rank_converges_on_a_fixed_batch(core):
    data = stationary(m=6, n=14)
    update = SBPCA(rank=6, block_size=6, passes=150, core=core).update(*data)
    assert distance(update, data[0].T @ data[1]) < 1e-9


def test_full_core_is_exact_where_the_directions_span_everything(batch):
    # one pass, square layer at full rank: left and right are complete bases
    errors, activations = batch(m=5, n=5)
    update = SBPCA(rank=5, block_size=8, core="full").update(errors, activations)
    torch.testing.assert_close(update.dense(), errors.T @ activations)
    assert distance(SBPCA(rank=5, block_size=8).update(errors, activations), update.dense()) > 1e-3


@pytest.mark.parametrize("history", [0.0, 0.5, 3.0])
def test_full_core_keeps_the_past_whole(batch, history):
    # complete bases: the estimate is the plain weighted mean of past and present gradients
    estimator = SBPCA(rank=5, block_size=16, history=history, core="full")
    first, second = batch(m=5, n=5, seed=0), batch(m=5, n=5, seed=1)
    past, present = (d.T @ a for d, a in (first, second))
    estimator.update(*first)
    expected = (history * past + 4 * present) / (history + 4)
    torch.testing.assert_close(estimator.update(*second).dense(), expected)


def test_full_core_is_sorted_and_orthonormal(batch):
    estimator = SBPCA(rank=4, block_size=8, core="full")
    for seed in range(10):
        update = estimator.update(*batch(seed=seed))
    assert torch.equal(update.sigma, update.sigma.sort(descending=True).values)
    for side in (update.left, update.right):
        gram = side.T @ side
        torch.testing.assert_close(gram, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_history_weighs_the_past():
    ones = torch.ones(8, 1, dtype=torch.float64)
    estimator = SBPCA(rank=1, block_size=2, history=3.0)
    assert float(estimator.update(ones, ones).dense()) == pytest.approx(8.0)  # no past yet
    assert float(estimator.update(10 * ones, ones).dense()) == pytest.approx(
        (3 * 8 + 4 * 80) / (3 + 4)
    )


def test_no_history_measures_this_batch_alone(batch):
    errors, activations = batch()
    estimator = SBPCA(rank=3, block_size=64, history=0.0)
    for _ in range(60):
        update = estimator.update(errors, activations)
    best = TruncatedSVD(rank=3).update(errors, activations).dense()
    assert distance(update, best) < 1e-10
    assert float(estimator.update(0 * errors, activations).sigma.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("knobs", "error", "message"),
    [
        ({"passes": 0}, ValueError, "passes must be at least 1; got 0"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1; got 0"),
        ({"block_size": True}, TypeError, "block_size must be a whole number; got True"),
        ({"history": -1}, ValueError, "history must be finite and at least 0; got -1"),
        ({"history": float("nan")}, ValueError, "history must be finite"),
        ({"history": "one"}, TypeError, "history must be a number; got 'one'"),
        ({"core": "half"}, ValueError, "core must be one of diagonal, full; got 'half'"),
        ({"seed": -1}, ValueError, "seed must be between 0 and .*; got -1"),
    ],
)
def test_knobs_are_checked(knobs, error, message):
    with pytest.raises(error, match=message):
        SBPCA(**knobs)
