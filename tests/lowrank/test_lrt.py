import numpy as np
import pytest
import torch

from toolkit.lowrank import LRT, TruncatedSVD, captured_energy


def per_sample_truncation(errors, activations, k):
    """Dense float64: add one outer product, truncate by SVD, and so on."""
    total = np.zeros((errors.shape[1], activations.shape[1]))
    for d, a in zip(errors.numpy(), activations.numpy(), strict=True):
        u, s, vh = np.linalg.svd(total + np.outer(d, a))
        total = (u[:, :k] * s[:k]) @ vh[:k]
    return total


@pytest.mark.parametrize("k", [1, 3])
def test_biased_matches_a_dense_loop(batch, k):
    errors, activations = batch(batch=20)
    update = LRT(rank=k, block_size=1).update(errors, activations)
    np.testing.assert_allclose(
        update.dense(), per_sample_truncation(errors, activations, k), atol=1e-12
    )


def test_one_block_is_the_truncated_svd(batch):
    data = batch()
    expected = TruncatedSVD(rank=3).update(*data).dense()
    torch.testing.assert_close(LRT(rank=3, block_size=64).update(*data).dense(), expected)


def test_larger_blocks_lose_less(batch):
    data = batch(seed=2)
    energies = [captured_energy(LRT(rank=2, block_size=b).update(*data), *data) for b in (1, 8, 64)]
    assert energies == sorted(energies)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_full_rank_is_the_gradient(batch, unbiased, block):
    errors, activations = batch()
    update = LRT(rank=12, block_size=block, unbiased=unbiased).update(errors, activations)
    torch.testing.assert_close(update.dense(), errors.T @ activations)


@pytest.mark.parametrize(("k", "block"), [(1, 4), (2, 4), (2, 1)])
def test_unbiased_is_unbiased(k, block):
    # z-test of every entry over 10,000 draws: the mean of n draws of variance v has sd sqrt(v / n)
    generator = torch.Generator().manual_seed(0)
    errors, activations = (
        torch.randn(4, size, generator=generator, dtype=torch.float64) for size in (3, 3)
    )
    estimator = LRT(rank=k, block_size=block, unbiased=True, seed=1)
    draws = 10_000 if k == 1 else 2_000
    samples = torch.stack([estimator.update(errors, activations).dense() for _ in range(draws)])
    z = (samples.mean(0) - errors.T @ activations) / (samples.std(0) / draws**0.5)
    assert float(z.abs().max()) < 4.5  # 9 entries: exceeded once in 16,000
    biased = LRT(rank=k, block_size=block).update(errors, activations).dense()
    z = (biased - errors.T @ activations) / (samples.std(0) / draws**0.5)
    assert float(z.abs().max()) > 20  # the test can tell


def test_unbiased_is_exact_where_the_rank_suffices(batch):
    errors, activations = batch(batch=2)
    repeated = errors.repeat(8, 1), activations.repeat(8, 1)
    update = LRT(rank=2, block_size=4, unbiased=True).update(*repeated)
    torch.testing.assert_close(update.dense(), repeated[0].T @ repeated[1])
    axes = torch.eye(4, dtype=torch.float64)[[0, 0, 0, 0]]
    update = LRT(rank=1, block_size=1, unbiased=True).update(axes, axes)
    torch.testing.assert_close(update.dense(), axes.T @ axes)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_mixing_has_the_smallest_variance(k):
    # Benzing et al.: with m the first i for which (k - i + 1) sigma_i <= sum_{j >= i} sigma_j,
    # the values are sigma_1 .. sigma_{m-1}, then k - m + 1 equal ones of the same sum.
    generator = torch.Generator().manual_seed(3)
    errors, activations = (
        torch.randn(7, size, generator=generator, dtype=torch.float64) for size in (9, 8)
    )
    sigma = np.linalg.svd((errors.T @ activations).numpy(), compute_uv=False)[:7]
    first = next(i for i in range(k) if (k - i) * sigma[i] <= sigma[i:].sum())
    expected = [*sigma[:first], *[sigma[first:].sum() / (k - first)] * (k - first)]
    update = LRT(rank=k, block_size=7, unbiased=True).update(errors, activations)
    np.testing.assert_allclose(update.sigma, expected, rtol=1e-10)


def test_nothing_is_carried(batch):
    estimator = LRT(rank=2)
    first = estimator.update(*batch()).dense()
    estimator.update(*batch(seed=1))
    assert torch.equal(estimator.update(*batch()).dense(), first)
