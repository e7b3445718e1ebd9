import numpy as np
import pytest
import torch

from toolkit.lowrank import SBPCA, FeedbackPCA, TruncatedSVD, captured_energy, optimal_energy


def memory(estimator):
    state = estimator.state_dict()
    return state["left"].T @ torch.diag(state["sigma"]) @ state["right"]


@pytest.mark.parametrize("block", [8, 64])
def test_a_full_memory_conserves_the_sum(batch, block):
    # r = min(m, n) and decay 1: all that was asked for is either written or still in memory
    estimator = FeedbackPCA(rank=2, memory_rank=12, block_size=block)
    written = total = torch.zeros(12, 20, dtype=torch.float64)
    for seed in range(6):
        errors, activations = batch(seed=seed)
        update = estimator.update(errors, activations)
        assert update.rank == 2
        written = written + update.dense()
        total = total + errors.T @ activations
        torch.testing.assert_close(written + memory(estimator), total)


def test_a_full_memory_matches_dense_error_feedback(batch):
    # dense: add the gradient to the residual, write its best rank-2 part, keep 0.7 of the rest
    estimator = FeedbackPCA(rank=2, memory_rank=12, decay=0.7)
    residual = np.zeros((12, 20))
    for seed in range(5):
        errors, activations = batch(seed=seed)
        u, s, vh = np.linalg.svd(residual + (errors.T @ activations).numpy())
        best = (u[:, :2] * s[:2]) @ vh[:2]
        residual = 0.7 * (residual + (errors.T @ activations).numpy() - best)
        np.testing.assert_allclose(estimator.update(errors, activations).dense(), best, atol=1e-12)


def test_without_carrying_over_it_nears_the_truncated_svd(batch):
    estimator = FeedbackPCA(rank=2, memory_rank=6, decay=0.0)
    for seed in range(20):
        data = batch(seed=seed)
        captured = captured_energy(estimator.update(*data), *data)
        assert captured > 0.99 * optimal_energy(*data, rank=2)


def test_a_small_memory_is_worth_having(batch):
    # what is written, in sum, comes nearer to the sum of all gradients than without memory
    lost = []
    for estimator in (FeedbackPCA(rank=1, memory_rank=4), TruncatedSVD(rank=1)):
        written = total = torch.zeros(12, 20, dtype=torch.float64)
        for seed in range(30):
            errors, activations = batch(seed=seed % 3)
            written = written + estimator.update(errors, activations).dense()
            total = total + errors.T @ activations
        lost.append(float((total - written).norm() / total.norm()))
    assert lost[0] < 0.5 * lost[1]


def test_a_stationary_gradient_is_written_in_full():
    # per batch it can write only 2 of 8 directions, yet the mean of its updates is the gradient
    generator = torch.Generator().manual_seed(0)
    errors, activations = (
        torch.randn(8, size, generator=generator, dtype=torch.float64) for size in (12, 20)
    )
    gradient = errors.T @ activations
    estimator, without = FeedbackPCA(rank=2, memory_rank=8), TruncatedSVD(rank=2)
    updates = [estimator.update(errors, activations).dense() for _ in range(400)]
    error = float((torch.stack(updates).mean(0) - gradient).norm() / gradient.norm())
    floor = float((without.update(errors, activations).dense() - gradient).norm() / gradient.norm())
    assert error < 0.02 < floor / 5


def test_zero_batches_write_what_is_left(batch):
    estimator = FeedbackPCA(rank=1, memory_rank=4)
    estimator.update(*batch())
    left_over = memory(estimator)
    zeros = torch.zeros(8, 12, dtype=torch.float64), torch.ones(8, 20, dtype=torch.float64)
    written = sum(estimator.update(*zeros).dense() for _ in range(4))
    torch.testing.assert_close(written, left_over)
    assert float(estimator.update(*zeros).dense().norm()) == 0.0


def test_knobs_change_live(batch):
    estimator = FeedbackPCA(rank=2)
    assert estimator.memory_rank == 8
    estimator.update(*batch())
    before = memory(estimator)
    estimator.rank = 5
    assert estimator.memory_rank == 15
    zeros = torch.zeros(8, 12, dtype=torch.float64), torch.ones(8, 20, dtype=torch.float64)
    update = estimator.update(*zeros)  # r clipped to 12; the five heaviest of the memory
    torch.testing.assert_close(update.dense() + memory(estimator), before)
    estimator.rank, estimator.memory_rank = 1, 2
    assert estimator.update(*batch()).rank == 1
    assert estimator.words(12, 20) == 2 * (12 + 20 + 1)
    estimator.rank = 3
    assert estimator.memory_rank == 3
    with pytest.raises(ValueError, match="memory_rank must be at least 1; got 0"):
        estimator.memory_rank = 0
    with pytest.raises(ValueError, match=r"decay must be between 0 and 1; got 1\.5"):
        FeedbackPCA(decay=1.5)


def test_costs_about_the_ratio_of_ranks():
    feedback, sbpca = FeedbackPCA(rank=4), SBPCA(rank=4)
    assert feedback.memory_rank == 12
    ratio = feedback.macs(1000, 1000, 128) / sbpca.macs(1000, 1000, 128)
    assert ratio < 1.5 * 12 / 4
