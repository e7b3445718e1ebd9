import numpy as np
import pytest
import torch

from toolkit.lowrank import FullGradient, TruncatedSVD


@pytest.mark.parametrize(("size", "m", "n"), [(5, 12, 20), (16, 12, 20), (64, 12, 20), (3, 2, 9)])
@pytest.mark.parametrize("k", [1, 2])
def test_is_the_best_approximation(batch, size, m, n, k):
    errors, activations = batch(batch=size, m=m, n=n)
    update = TruncatedSVD(rank=k).update(errors, activations)
    u, s, vh = np.linalg.svd(errors.numpy().T @ activations.numpy())
    np.testing.assert_allclose(update.sigma, s[:k], rtol=1e-12)
    np.testing.assert_allclose(update.dense(), (u[:, :k] * s[:k]) @ vh[:k], atol=1e-14)


def test_full_rank_is_the_gradient(batch):
    errors, activations = batch()
    expected = errors.T @ activations
    for estimator in (TruncatedSVD(rank=12), FullGradient()):
        torch.testing.assert_close(estimator.update(errors, activations).dense(), expected)


def test_full_gradient_is_the_batch_itself(batch):
    errors, activations = batch()
    update = FullGradient().update(errors, activations)
    assert torch.equal(update.left, errors.T) and torch.equal(update.right, activations.T)
    assert torch.equal(update.sigma, torch.ones(64, dtype=torch.float64))


def test_batch_smaller_than_rank_gives_the_exact_gradient(batch):
    errors, activations = batch(batch=2)
    update = TruncatedSVD(rank=5).update(errors, activations)
    assert update.rank == 2
    torch.testing.assert_close(update.dense(), errors.T @ activations)
