import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from toolkit.lowrank import (
    LowRank,
    TruncatedSVD,
    captured_energy,
    optimal_energy,
    principal_angles,
    relative_error,
    singular_values,
    stable_rank,
)


def dense(data):
    return (data[0].T @ data[1]).numpy()


@pytest.mark.parametrize("size", [3, 16, 64])
def test_singular_values_are_those_of_the_gradient(batch, size):
    data = batch(batch=size)
    expected = np.linalg.svd(dense(data), compute_uv=False)
    np.testing.assert_allclose(singular_values(*data, count=12), expected, atol=1e-13, rtol=1e-10)
    np.testing.assert_allclose(singular_values(*data, count=2), expected[:2], rtol=1e-12)
    assert singular_values(*data).shape == (min(size, 12),)


def test_count_is_checked(batch):
    with pytest.raises(ValueError, match=r"count must be between 1 and 12; got 13"):
        singular_values(*batch(), count=13)


@pytest.mark.parametrize("size", [3, 64])
def test_captured_energy_of_any_estimate(batch, size):
    data = batch(batch=size)
    rng = np.random.default_rng(0)
    update = LowRank(*(torch.as_tensor(rng.normal(size=s)) for s in [(12, 2), (2,), (20, 2)]))
    gradient = dense(data)
    lost = np.sum((gradient - update.dense().numpy()) ** 2) / np.sum(gradient**2)
    assert captured_energy(update, *data) == pytest.approx(1 - lost, rel=1e-12)
    assert captured_energy(update, *data) < 0


def test_optimal_energy_is_what_the_svd_captures(batch):
    data = batch()
    for k in (1, 3, 12):
        update = TruncatedSVD(rank=k).update(*data)
        best = optimal_energy(*data, rank=k)
        assert captured_energy(update, *data) == pytest.approx(best, rel=1e-12)
    assert best == pytest.approx(1)


def test_zero_gradient(batch):
    errors, activations = batch()
    zeros = torch.zeros_like(errors), activations
    update = TruncatedSVD(rank=2).update(*zeros)
    assert captured_energy(update, *zeros) == 1.0
    assert optimal_energy(*zeros, rank=2) == 1.0
    assert captured_energy(TruncatedSVD(rank=2).update(errors, activations), *zeros) == -math.inf


@pytest.mark.parametrize("size", [3, 64])
def test_stable_rank(batch, size):
    data = batch(batch=size)
    expected = np.linalg.norm(dense(data)) ** 2 / np.linalg.norm(dense(data), 2) ** 2
    assert stable_rank(*data) == pytest.approx(expected, rel=1e-12)
    assert stable_rank(0 * data[0], data[1]) == 0.0


def test_relative_error_keeps_its_digits(batch):
    data = batch()
    update = TruncatedSVD(rank=3).update(*data)
    expected = np.linalg.norm(dense(data) - update.dense().numpy()) / np.linalg.norm(dense(data))
    assert relative_error(update, *data) == pytest.approx(expected, rel=1e-12)
    nearly = TruncatedSVD(rank=12).update(*data)
    nearly.sigma[0] *= 1 + 1e-11
    assert relative_error(nearly, *data) == pytest.approx(
        1e-11 * float(nearly.sigma[0]) / np.linalg.norm(dense(data)), rel=1e-3
    )
    zeros = torch.zeros_like(data[0]), data[1]
    assert relative_error(update, *zeros) == math.inf
    assert relative_error(TruncatedSVD(rank=1).update(*zeros), *zeros) == 0.0


@pytest.mark.parametrize(("p", "q"), [(2, 2), (3, 1), (1, 4)])
def test_principal_angles_match_scipy(p, q):
    rng = np.random.default_rng(p + 10 * q)
    first, second = rng.normal(size=(9, p)), rng.normal(size=(9, q))
    ours = principal_angles(torch.as_tensor(first), torch.as_tensor(second))
    np.testing.assert_allclose(ours, subspace_angles(first, second), rtol=1e-12)


def test_principal_angles_keep_small_and_right_angles():
    first = torch.eye(4, dtype=torch.float64)[:, :2]
    second = first.clone()
    second[3, 1] = 1e-9
    np.testing.assert_allclose(principal_angles(first, second), [1e-9, 0], rtol=1e-6, atol=1e-20)
    right = torch.eye(4, dtype=torch.float64)[:, 2:]
    np.testing.assert_allclose(principal_angles(first, right), [math.pi / 2] * 2)


def test_shapes_are_checked(batch):
    update = LowRank(torch.ones(12, 1), torch.ones(1), torch.ones(19, 1))
    with pytest.raises(ValueError, match=r"update must have shape \(12, 20\)"):
        captured_energy(update, *batch())
    with pytest.raises(ValueError, match="first and second"):
        principal_angles(torch.ones(3, 1), torch.ones(4, 1))
