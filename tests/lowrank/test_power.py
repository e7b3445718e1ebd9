import numpy as np
import pytest
import torch

from toolkit.lowrank import PowerIteration, TruncatedSVD


def test_matches_dense_power_iteration(batch):
    # Ghat = P P^T G with P an orthonormal basis of G X, X the last right vectors
    estimator = PowerIteration(rank=3, seed=2)
    estimator.update(*batch(seed=0))
    for seed in range(1, 4):
        start = estimator.state_dict()["right"].numpy().T
        errors, activations = batch(seed=seed)
        gradient = (errors.T @ activations).numpy()
        basis = np.linalg.qr(gradient @ start)[0]
        update = estimator.update(errors, activations)
        np.testing.assert_allclose(update.dense(), basis @ (basis.T @ gradient), atol=1e-13)


def test_converges_to_the_truncated_svd(batch):
    data = batch()
    estimator = PowerIteration(rank=3)
    for _ in range(200):
        update = estimator.update(*data)
    best = TruncatedSVD(rank=3).update(*data)
    torch.testing.assert_close(update.dense(), best.dense())
    torch.testing.assert_close(update.sigma, best.sigma)


def test_error_feedback_conserves_the_sum(batch):
    estimator = PowerIteration(rank=2, error_feedback=True)
    written = total = torch.zeros(12, 20, dtype=torch.float64)
    for seed in range(6):
        errors, activations = batch(seed=seed)
        written = written + estimator.update(errors, activations).dense()
        total = total + errors.T @ activations
    residual = estimator.state_dict()["residual"]
    torch.testing.assert_close(written + residual, total)


def test_error_feedback_matches_the_dense_form(batch):
    # one iteration on gradient + residual, from the last right vectors
    estimator = PowerIteration(rank=2, error_feedback=True)
    estimator.update(*batch(seed=0))
    for seed in range(1, 4):
        state = estimator.state_dict()
        errors, activations = batch(seed=seed)
        target = (errors.T @ activations + state["residual"]).numpy()
        basis = np.linalg.qr(target @ state["right"].numpy().T)[0]
        update = estimator.update(errors, activations)
        np.testing.assert_allclose(update.dense(), basis @ (basis.T @ target), atol=1e-12)


def test_costs_name_the_buffer():
    plain, feedback = PowerIteration(rank=2), PowerIteration(rank=2, error_feedback=True)
    assert feedback.words(100, 200) - plain.words(100, 200) == 100 * 200


def test_error_feedback_is_a_switch():
    with pytest.raises(TypeError, match="error_feedback must be True or False; got 1"):
        PowerIteration(error_feedback=1)
