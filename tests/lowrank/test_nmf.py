import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF as ReferenceNMF

from toolkit.lowrank import NMF


def parts(update):
    k = update.rank // 2
    dense = [
        (update.left[:, s] * update.sigma[s].abs()) @ update.right[:, s].T
        for s in (slice(0, k), slice(k, 2 * k))
    ]
    return [part.numpy() for part in dense]


def test_signs_and_lengths(batch):
    update = NMF(rank=3).update(*batch())
    assert update.rank == 6
    assert (update.left >= 0).all() and (update.right >= 0).all()
    assert (update.sigma[:3] >= 0).all() and (update.sigma[3:] <= 0).all()
    for side in (update.left, update.right):
        torch.testing.assert_close(side.norm(dim=0), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("size", [8, 64])
def test_fits_as_well_as_an_independent_solver(batch, k, size):
    errors, activations = batch(batch=size)
    gradient = (errors.T @ activations).numpy()
    # local optima differ: the better of a few starts counts
    runs = [
        parts(NMF(rank=k, iterations=300, seed=seed).update(errors, activations))
        for seed in range(1 if k == 1 else 5)
    ]
    for sign, target in enumerate((gradient.clip(min=0), (-gradient).clip(min=0))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ReferenceNMF(k, init="random", max_iter=2000, random_state=0)
            fitted = model.fit_transform(target) @ model.components_
        reference = np.linalg.norm(target - fitted)
        ours = min(np.linalg.norm(target - run[sign]) for run in runs)
        assert ours <= 1.001 * reference + 1e-12


def test_warm_start_improves(batch):
    errors, activations = batch()
    gradient = errors.T @ activations
    estimator = NMF(rank=3, iterations=1)
    errors_seen = [
        float((estimator.update(errors, activations).dense() - gradient).norm()) for _ in range(30)
    ]
    assert errors_seen[-1] < 0.8 * errors_seen[0]
    assert errors_seen[-1] <= min(errors_seen) * (1 + 1e-9)


def test_rank_one_of_a_non_negative_gradient_is_the_svd(batch):
    errors, activations = (t.abs() for t in batch())
    update = NMF(rank=1, iterations=100).update(errors, activations)
    u, s, vh = np.linalg.svd((errors.T @ activations).numpy())
    np.testing.assert_allclose(parts(update)[0], s[0] * np.outer(u[:, 0], vh[0]), rtol=1e-8)
    assert float(update.sigma[1]) == 0.0


def test_rank_changes_live(batch):
    estimator = NMF(rank=2, iterations=50)
    estimator.update(*batch())
    estimator.rank = 4
    assert estimator.update(*batch()).rank == 8
    estimator.rank = 1
    assert estimator.update(*batch()).rank == 2
