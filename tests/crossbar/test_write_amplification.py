"""Pulses that cancel when an update is written part by part: singular vectors against NMF.

Write amplification is sum_p |part_p|_1 / |sum|_1. Measured elsewhere on gradients of a digits
network (exact factors): singular vectors 1.00 at rank 1, 1.4 at 3, 1.9 to 2.1 at 10; NMF 1.0 to
1.25 at every rank. It is why Zhao et al. (Front. Neurosci. 15:749811, 2021) write NMF rank by rank.
"""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import one_hot

from toolkit.crossbar import Crossbar, get_device
from toolkit.lowrank import NMF, TruncatedSVD


@pytest.fixture(scope="module")
def gradients():
    """Errors and activations of both layers of a 64-128-10 network, new and after 20 steps."""
    generator = torch.Generator().manual_seed(0)
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    first, second = (
        torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale
        for rows, columns, scale in ((128, 64, (2 / 64) ** 0.5), (10, 128, (1 / 128) ** 0.5))
    )
    found = []
    for step in range(21):
        batch = torch.randint(len(images), (64,), generator=generator)
        pixels = images[batch] / 16.0
        hidden = (pixels @ first.T).relu()
        errors = ((hidden @ second.T).softmax(1) - one_hot(labels[batch], 10)) / 64
        back = (errors @ second) * (hidden > 0)
        if step in (0, 20):
            found += [(back, pixels), (errors, hidden)]
        first, second = first - 0.5 * back.T @ pixels, second - 0.5 * errors.T @ hidden
    return found


def amplification(update):
    parts = update.left.abs().sum(0) * update.sigma.abs() * update.right.abs().sum(0)
    return float(parts.sum() / update.dense().abs().sum())


def counted(update, scheme):
    """Pulses that the update takes on fine linear cells, some 2 for every cell."""
    zeros = torch.zeros(update.shape, dtype=torch.float64)
    device = get_device("ideal")
    array = Crossbar.from_weights(zeros, device=device, w_max=10.0, seed=1)
    rate = 4.0 * array.w_max / device.levels_up / float(update.dense().abs().mean())
    array.apply(update, learning_rate=rate, scheme=scheme)
    return int(array.pulse_count.sum())


@pytest.mark.parametrize(("rank", "least", "most"), [(1, 1.0, 1.0), (3, 1.35, 1.5), (10, 1.9, 2.1)])
def test_singular_vectors_cancel_more_the_higher_the_rank(gradients, rank, least, most):
    for errors, activations in gradients:
        update = TruncatedSVD(rank=rank).update(errors, activations)
        assert least - 1e-9 <= amplification(update) <= most + 1e-9


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_non_negative_factors_cancel_little_at_every_rank(gradients, rank):
    for errors, activations in gradients:
        update = NMF(rank=rank, iterations=50).update(errors, activations)
        assert 1.0 <= amplification(update) <= 1.25


def test_pulses_are_amplified_as_the_sums_say(gradients):
    errors, activations = gradients[0]
    for estimator in (TruncatedSVD(rank=3), TruncatedSVD(rank=10), NMF(rank=3)):
        update = estimator.update(errors, activations)
        ratio = counted(update, "rank-sequential") / counted(update, "rank-sum")
        assert ratio == pytest.approx(amplification(update), rel=0.02)
