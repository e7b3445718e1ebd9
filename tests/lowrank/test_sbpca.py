"""SBPCA against the recursion in its divided form, its invariants, and the pitfalls it avoids."""

import math

import numpy as np
import pytest
import torch

from toolkit.lowrank import SBPCA, TruncatedSVD, principal_angles


def qr_positive(matrix):
    q, r = np.linalg.qr(matrix)
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def published_recursion(errors, activations, left, sigma, right, block):
    """One batch as the paper's authors wrote it: division by sigma, mean gradient, whole blocks."""
    for i in range(len(errors) // block):
        d, a = errors[i * block :][:block], activations[i * block :][:block]
        w = 1 / (i + 2)
        right = qr_positive((1 - w) * right + w * (a.T @ (d @ left) / block) / sigma)
        left = qr_positive((1 - w) * left + w * (d.T @ (a @ right) / block) / sigma)
        sigma = (1 - w) * sigma + w * ((d @ left) * (a @ right)).sum(0) / block
    return left, sigma, right


def started(k, m, n, *, block_size, seed=3, sigma=1.0):
    """Make an estimator that has a past: random orthonormal directions and this sigma."""
    rng = np.random.default_rng(seed)
    left, right = qr_positive(rng.normal(size=(m, k))), qr_positive(rng.normal(size=(n, k)))
    estimator = SBPCA(rank=k, block_size=block_size)
    load(estimator, left, np.full(k, sigma) if np.isscalar(sigma) else sigma, right)
    return estimator


def load(estimator, left, sigma, right):
    state = estimator.state_dict()
    parts = {"left": left.T, "sigma": sigma, "right": right.T}  # vectors are rows in the state
    state.update({name: torch.as_tensor(part.copy()) for name, part in parts.items()})
    estimator.load_state_dict(state)


def parts(estimator):
    state = estimator.state_dict()
    return tuple(state[name].numpy().T for name in ("left", "sigma", "right"))


def distance(update, reference):
    dense = update.dense()
    return float((dense - reference).norm() / reference.norm())


def test_one_block_by_hand():
    # k = 1, m = n = 2, one sample d = (1, 0), a = (3, 4), start left = right = (1, 0), sigma = 1.
    # right: (1, 0)/2 + (3, 4)/2 = (2, 2) -> (1, 1)/sqrt(2);  a.right = 7/sqrt(2)
    # left: stays (1, 0);  sigma = 1/2 + 7/(2 sqrt(2))
    estimator = SBPCA(rank=1, block_size=1)
    load(estimator, np.array([[1.0], [0.0]]), np.ones(1), np.array([[1.0], [0.0]]))
    update = estimator.update(
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        torch.tensor([[3.0, 4.0]], dtype=torch.float64),
    )
    root = math.sqrt(2)
    np.testing.assert_allclose(update.right[:, 0], [1 / root, 1 / root], rtol=1e-15)
    np.testing.assert_allclose(update.left[:, 0], [1, 0], atol=1e-15)
    np.testing.assert_allclose(update.sigma, [0.5 + 7 / (2 * root)], rtol=1e-15)


@pytest.mark.parametrize(("k", "block"), [(1, 64), (3, 16), (5, 8), (12, 32)])
def test_matches_the_published_recursion(batch, k, block):
    estimator = started(k, 12, 20, block_size=block, sigma=0.7)
    left, sigma, right = parts(estimator)
    for seed in range(4):
        errors, activations = batch(seed=seed)
        update = estimator.update(errors, activations)
        # errors carry 1/B: the published mean gradient of B * errors is our sum
        left, sigma, right = published_recursion(
            64 * errors.numpy(), activations.numpy(), left, sigma, right, block
        )
        np.testing.assert_allclose(update.left, left, atol=1e-10)
        np.testing.assert_allclose(update.right, right, atol=1e-10)
        np.testing.assert_allclose(update.sigma, sigma, atol=1e-11)


def test_negative_sigma_follows_the_published_recursion(batch):
    sigma = np.array([2.0, -0.5, 0.1])
    estimator = started(3, 12, 20, block_size=32, sigma=sigma)
    left, _, right = parts(estimator)
    errors, activations = batch()
    update = estimator.update(errors, activations)
    expected = published_recursion(64 * errors.numpy(), activations.numpy(), left, sigma, right, 32)
    for ours, theirs in zip((update.left, update.sigma, update.right), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_first_batch_counts_no_past(batch):
    # with one block and no past, sigma is diag(left.T G right) of this batch alone
    errors, activations = batch(batch=16)
    update = SBPCA(rank=3, block_size=16, seed=1).update(errors, activations)
    gradient = errors.T @ activations
    expected = torch.diagonal(update.left.T @ gradient @ update.right)
    torch.testing.assert_close(update.sigma, expected)


# T5
def test_directions_stay_orthonormal(batch):
    estimator = SBPCA(rank=5, block_size=8)
    for seed in range(20):
        update = estimator.update(*batch(seed=seed))
        for side in (update.left, update.right):
            torch.testing.assert_close(
                side.T @ side, torch.eye(5, dtype=torch.float64), atol=1e-12, rtol=0
            )


# T6
def test_sign_gauge_is_exact(batch):
    estimator, mirrored = (started(3, 12, 20, block_size=16) for _ in range(2))
    left, sigma, right = parts(mirrored)
    load(mirrored, -left, -sigma, right)
    for seed in range(3):
        data = batch(seed=seed)
        assert torch.equal(estimator.update(*data).dense(), mirrored.update(*data).dense())


# T7
def test_rotating_the_data_rotates_the_estimate(batch):
    rng = np.random.default_rng(5)
    turn_m, turn_n = (torch.as_tensor(qr_positive(rng.normal(size=(s, s)))) for s in (12, 20))
    plain, turned = (started(3, 12, 20, block_size=16) for _ in range(2))
    left, sigma, right = parts(turned)
    load(turned, turn_m.numpy() @ left, sigma, turn_n.numpy() @ right)
    errors, activations = batch()
    expected = turn_m @ plain.update(errors, activations).dense() @ turn_n.T
    actual = turned.update(errors @ turn_m.T, activations @ turn_n.T).dense()
    torch.testing.assert_close(actual, expected, atol=1e-13, rtol=0)


# T8
@pytest.mark.parametrize("factor", [1e-9, 3.0, 1e9])
def test_scaling_the_errors_scales_the_estimate(batch, factor):
    plain, scaled = (
        started(3, 12, 20, block_size=16),
        started(3, 12, 20, block_size=16, sigma=factor),
    )
    errors, activations = batch()
    expected = factor * plain.update(errors, activations).dense()
    actual = scaled.update(factor * errors, activations).dense()
    assert float((actual - expected).norm() / expected.norm()) < 1e-13


def test_a_fresh_estimator_needs_no_scale(batch):
    errors, activations = batch()
    expected = 1e6 * SBPCA(rank=3).update(errors, activations).dense()
    actual = SBPCA(rank=3).update(1e6 * errors, activations).dense()
    torch.testing.assert_close(actual, expected)


# T9
def test_order_matters_only_across_blocks(batch):
    errors, activations = batch()
    generator = torch.Generator().manual_seed(0)
    within = torch.cat([16 * i + torch.randperm(16, generator=generator) for i in range(4)])
    across = torch.randperm(64, generator=generator)

    def result(order):
        estimator = started(3, 12, 20, block_size=16)
        return estimator.update(errors[order], activations[order]).dense()

    expected = result(torch.arange(64))
    torch.testing.assert_close(result(within), expected, atol=1e-14, rtol=0)
    assert distance(started(3, 12, 20, block_size=16).update(errors, activations), expected) == 0
    assert float((result(across) - expected).norm()) > 1e-3 * float(expected.norm())


# T10
def test_rank_is_at_most_k(batch):
    update = SBPCA(rank=3, block_size=8).update(*batch())
    assert torch.linalg.matrix_rank(update.dense()) <= 3
    assert update.rank == 3


# T11
@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
def test_the_past_counts_as_one_block(blocks):
    # With one-dimensional features the directions are fixed at +-1 and sigma is a plain average.
    estimator = SBPCA(rank=1, block_size=4)
    load(estimator, np.ones((1, 1)), np.full(1, 5.0), np.ones((1, 1)))
    generator = torch.Generator().manual_seed(2)
    errors, activations = (
        torch.rand(4 * blocks, 1, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    update = estimator.update(errors, activations)
    gradient = float((errors * activations).sum())
    expected = 5.0 / (blocks + 1) + gradient * blocks / (blocks + 1)
    assert float(update.sigma) == pytest.approx(expected, rel=1e-14)


def test_state_is_carried(batch):
    carried = SBPCA(rank=2, block_size=16)
    first = carried.update(*batch(seed=0)).dense()
    second = carried.update(*batch(seed=1)).dense()
    fresh = SBPCA(rank=2, block_size=16).update(*batch(seed=1)).dense()
    assert torch.equal(first, SBPCA(rank=2, block_size=16).update(*batch(seed=0)).dense())
    assert float((second - fresh).norm()) > 1e-2 * float(fresh.norm())


# T12
def stationary(count=8):
    """Errors and activations whose product has singular values 2^-p exactly."""
    rng = np.random.default_rng(11)
    left, right = (
        qr_positive(rng.normal(size=(40, count))),
        qr_positive(rng.normal(size=(60, count))),
    )
    sigma = 2.0 ** -np.arange(count)
    return torch.as_tensor((left * sigma).T.copy()), torch.as_tensor(right.T.copy()), sigma


@pytest.mark.parametrize(
    ("k", "measured"),
    [
        (1, {1: 1.1, 5: 2.1e-1, 10: 1.2e-2, 20: 3.4e-4, 40: 3.7e-7, 60: 4.0e-10}),
        (3, {1: 1.2, 5: 2.4e-1, 10: 3.1e-2, 20: 9.9e-4, 40: 1.1e-6, 60: 1.2e-9}),
        (5, {1: 1.3, 5: 2.8e-1, 10: 5.9e-2, 20: 2.2e-3, 40: 2.3e-6, 60: 2.5e-9}),
    ],
)
def test_converges_to_the_truncated_svd_at_the_published_rate(k, measured):
    # One block per batch, so w = 1/2. The published run started from other random directions:
    # the median of several starts must lie within a factor 5 of it.
    errors, activations, _ = stationary()
    best = TruncatedSVD(rank=k).update(errors, activations).dense()
    runs = []
    for seed in range(9):
        estimator = started(k, 40, 60, block_size=8, seed=seed)
        runs.append([distance(estimator.update(errors, activations), best) for _ in range(60)])
    median = np.median(runs, axis=0)
    for step, value in measured.items():
        assert value / 5 < median[step - 1] < value * 5, step
    if k == 3:
        assert median[19] < 2e-3 and median[39] < 1e-5 and median[59] < 1e-8


def test_contamination_decays_by_the_derived_factor():
    # lambda = T/2 + sqrt(T^2/4 - (1-w)^2), T = 2(1-w) + w^2 r^2, at w = r = 1/2: 0.711
    w = r = 0.5
    trace = 2 * (1 - w) + w * w * r * r
    factor = trace / 2 + math.sqrt(trace**2 / 4 - (1 - w) ** 2)
    assert factor == pytest.approx(0.711, abs=5e-4)
    errors, activations, _ = stationary()
    truth = TruncatedSVD(rank=1).update(errors, activations).right
    estimator = started(1, 40, 60, block_size=8)
    angles = [
        float(principal_angles(estimator.update(errors, activations).right, truth))
        for _ in range(60)
    ]
    assert (angles[59] / angles[39]) ** (1 / 20) == pytest.approx(factor, rel=2e-3)


# scale: a change of batch size does not jolt the estimate
def test_batch_size_may_change_without_a_jolt():
    errors, activations, _ = stationary()
    estimator = SBPCA(rank=2, block_size=8)
    for _ in range(80):
        before = estimator.update(errors, activations).dense()
    for copies in (4, 1, 16):
        # the same mean gradient, from a larger batch whose errors carry 1/B
        tiled = errors.repeat(copies, 1) / copies, activations.repeat(copies, 1)
        after = estimator.update(*tiled).dense()
        torch.testing.assert_close(after, before, atol=1e-9, rtol=0)


def test_remainder_samples_count_by_their_number():
    estimator = SBPCA(rank=1, block_size=4)
    load(estimator, np.ones((1, 1)), np.full(1, 5.0), np.ones((1, 1)))
    errors = torch.arange(1.0, 8.0, dtype=torch.float64).reshape(7, 1)
    update = estimator.update(errors, torch.ones(7, 1, dtype=torch.float64))
    # the past counts as 4 samples beside the 7: (4 * 5 + 7 * 28) / 11
    assert float(update.sigma) == pytest.approx((4 * 5.0 + 7 * 28.0) / 11, rel=1e-14)


def test_last_samples_change_the_estimate(batch):
    errors, activations = batch(batch=63)
    changed = errors.clone()
    changed[-1] += 1.0
    results = [SBPCA(rank=2).update(d, activations).dense() for d in (errors, changed)]
    assert not torch.allclose(*results)


def test_batch_below_block_size_is_used(batch):
    errors, activations = batch(batch=10)
    small, exact = (SBPCA(rank=3, block_size=b) for b in (32, 10))
    for _ in range(3):
        update, expected = small.update(errors, activations), exact.update(errors, activations)
    assert torch.equal(update.dense(), expected.dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_batches_forget_and_nothing_else(batch, dtype):
    estimator = SBPCA(rank=3, block_size=32)
    before = estimator.update(*batch(dtype=dtype))
    zeros = torch.zeros(64, 12, dtype=dtype), torch.ones(64, 20, dtype=dtype)
    once = estimator.update(*zeros)
    torch.testing.assert_close(once.sigma, before.sigma / 3)
    for _ in range(2000):
        update = estimator.update(*zeros)
    assert torch.equal(update.sigma, torch.zeros(3, dtype=dtype))
    assert torch.equal(update.left, before.left) and torch.equal(update.right, before.right)
    data = batch(seed=4, dtype=dtype)
    for _ in range(40):
        update = estimator.update(*data)
    best = TruncatedSVD(rank=3).update(*data).dense()
    assert distance(update, best) < 0.1


def test_zero_blocks_inside_a_batch(batch):
    errors, activations = batch()
    errors[:32] = 0
    estimator = SBPCA(rank=3, block_size=8)
    for _ in range(100):
        update = estimator.update(errors, activations)
    assert torch.isfinite(update.dense()).all()
    gram = update.left.T @ update.left
    torch.testing.assert_close(gram, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)


# T17
def test_rank_deficient_blocks_keep_every_direction(batch):
    errors, activations = batch()
    estimator = SBPCA(rank=6, block_size=2)
    for _ in range(5):
        update = estimator.update(errors, activations)
    for side in (update.left, update.right):
        torch.testing.assert_close(
            side.T @ side, torch.eye(6, dtype=torch.float64), atol=1e-12, rtol=0
        )


def test_dead_directions_are_drawn_afresh():
    # a single sample carries one direction; the other two columns must be random, not axes
    errors, activations = (
        torch.ones(1, 8, dtype=torch.float64),
        torch.ones(1, 9, dtype=torch.float64),
    )
    update = SBPCA(rank=3, seed=0).update(errors, activations)
    other = SBPCA(rank=3, seed=1).update(errors, activations)
    torch.testing.assert_close(update.dense(), torch.ones(8, 9, dtype=torch.float64))
    assert not torch.allclose(update.left[:, 1:].abs(), other.left[:, 1:].abs())


# T19
def test_float32_follows_float64(batch):
    double, single = SBPCA(rank=3, block_size=16), SBPCA(rank=3, block_size=16)
    for seed in range(5):
        errors, activations = batch(seed=seed)
        expected = double.update(errors, activations).dense()
        update = single.update(errors.float(), activations.float())
        assert update.left.dtype == torch.float32
        assert distance(update, expected) < 1e-4


# live knobs
def test_raising_the_rank_keeps_what_was_learned():
    errors, activations, sigma = stationary()
    estimator = SBPCA(rank=2, block_size=8)
    for _ in range(60):
        before = estimator.update(errors, activations)
    estimator.rank = 5
    after = estimator.update(errors, activations)
    assert after.rank == 5
    torch.testing.assert_close(after.left[:, :2], before.left, atol=1e-6, rtol=0)
    torch.testing.assert_close(after.sigma[:2], before.sigma, atol=1e-6, rtol=0)
    for _ in range(60):
        after = estimator.update(errors, activations)
    np.testing.assert_allclose(after.sigma, sigma[:5], rtol=1e-6)


def test_lowering_the_rank_keeps_the_largest():
    estimator = started(3, 12, 20, block_size=32, sigma=np.array([2.0, 0.5, -3.0]))
    left, _, right = parts(estimator)
    estimator.rank = 2
    update = estimator.update(
        torch.zeros(8, 12, dtype=torch.float64), torch.zeros(8, 20, dtype=torch.float64)
    )
    np.testing.assert_array_equal(update.left, left[:, [0, 2]])
    np.testing.assert_array_equal(update.right, right[:, [0, 2]])
    np.testing.assert_allclose(update.sigma, [1.0, -1.5])


def test_same_seed_same_bits_and_resume(batch):
    first, second = SBPCA(rank=4, block_size=8, seed=7), SBPCA(rank=4, block_size=8, seed=7)
    for seed in range(3):
        assert torch.equal(
            first.update(*batch(seed=seed)).dense(), second.update(*batch(seed=seed)).dense()
        )
    resumed = SBPCA(rank=1, block_size=8, seed=99)
    resumed.load_state_dict(first.state_dict())
    first.rank = resumed.rank = 6  # draws from the generator: its state must have been saved too
    data = batch(seed=9)
    assert torch.equal(first.update(*data).dense(), resumed.update(*data).dense())
