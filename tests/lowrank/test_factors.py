import pytest
import torch

from toolkit.lowrank import LowRank


def make(m=3, n=4, k=2):
    generator = torch.Generator().manual_seed(1)
    return LowRank(*(torch.randn(*shape, generator=generator) for shape in [(m, k), (k,), (n, k)]))


def test_dense_is_the_sum_of_outer_products():
    update = make()
    expected = sum(
        s * torch.outer(left, right)
        for left, s, right in zip(update.left.T, update.sigma, update.right.T, strict=True)
    )
    torch.testing.assert_close(update.dense(), expected)
    assert (update.rank, update.shape) == (2, (3, 4))


def test_add_to_works_in_place():
    update, weights = make(), torch.ones(3, 4)
    expected = 1 - 0.1 * update.dense()
    assert update.add_to(weights, alpha=-0.1) is weights
    torch.testing.assert_close(weights, expected)


def test_add_to_rejects_another_shape():
    with pytest.raises(ValueError, match=r"weights must have shape \(3, 4\)"):
        make().add_to(torch.ones(4, 3))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="left, sigma and right"):
        LowRank(torch.ones(3, 2), torch.ones(1), torch.ones(4, 2))


def test_is_frozen():
    with pytest.raises(AttributeError):
        make().sigma = torch.ones(2)
