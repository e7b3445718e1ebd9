import numpy as np
import pytest
import torch

from toolkit.lowrank import SBE, TruncatedSVD, principal_angles


def published_loop(errors, activations, left, s2, right):
    """The published recursion in scalars, on lists of floats; errors are those of a sum."""

    def dot(u, v):
        return sum(x * y for x, y in zip(u, v, strict=True))

    def length(u):
        return dot(u, u) ** 0.5

    def blend(j, u, factor, v):
        return [j / (j + 1) * x + factor * y / (j + 1) for x, y in zip(u, v, strict=True)]

    for j, (d, x) in enumerate(zip(errors.tolist(), activations.tolist(), strict=True), start=1):
        right = blend(j, right, dot(d, left) / length(left), x)
        left = blend(j, left, dot(x, right) / length(right), d)
        along = dot(x, right) / length(right) * dot(d, left) / length(left)
        s2 = j / (j + 1) * s2 + along / (j + 1)
    return left, s2, right


# T2
def test_matches_the_published_loop(batch):
    estimator = SBE(seed=4)
    estimator.update(*batch(batch=5, seed=9))  # give it a past
    state = estimator.state_dict()
    left_length, right_length = state["lengths"]
    left = (left_length * state["left"][0]).tolist()
    right = (right_length * state["right"][0]).tolist()
    s2 = float(state["sigma"])
    for seed in range(3):
        errors, activations = batch(batch=16, seed=seed)
        update = estimator.update(errors, activations)
        left, s2, right = published_loop(16 * errors, activations, left, s2, right)
        unit = [np.array(v) / np.linalg.norm(v) for v in (left, right)]
        np.testing.assert_allclose(update.left[:, 0], unit[0], atol=1e-13)
        np.testing.assert_allclose(update.right[:, 0], unit[1], atol=1e-13)
        assert float(update.sigma) == pytest.approx(s2, rel=1e-12)


def test_finds_the_leading_direction_in_one_pass(batch):
    data = batch(batch=1000)
    update, best = SBE().update(*data), TruncatedSVD(rank=1).update(*data)
    assert float(principal_angles(update.right, best.right)) < 0.1
    assert float(update.sigma) == pytest.approx(float(best.sigma), rel=0.1)


def test_zero_batches_shrink_and_recover(batch):
    estimator = SBE()
    before = estimator.update(*batch())
    zeros = torch.zeros(64, 12, dtype=torch.float64), torch.ones(64, 20, dtype=torch.float64)
    after = estimator.update(*zeros)
    assert float(after.sigma) == pytest.approx(float(before.sigma) / 65, rel=1e-12)
    for _ in range(2000):
        estimator.update(*zeros)
    data = batch(seed=1)
    for _ in range(5):
        update = estimator.update(*data)
    best = TruncatedSVD(rank=1).update(*data)
    assert float(principal_angles(update.right, best.right)) < 0.3


def test_rank_is_one():
    estimator = SBE()
    assert estimator.rank == 1
    estimator.rank = 1
    with pytest.raises(ValueError, match="rank must be 1 for SBE; got 2"):
        estimator.rank = 2
