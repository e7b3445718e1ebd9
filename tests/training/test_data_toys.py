"""Toy data sets against their formulas."""

import math
from statistics import NormalDist

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from toolkit.training import gaussians, spirals
from toolkit.training.data.dataset import Dataset


def whole(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.cat([data.train_inputs, data.test_inputs]).double()
    return inputs, torch.cat([data.train_labels, data.test_labels])


@pytest.mark.parametrize("make", [gaussians, spirals])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_quarter_is_for_testing_and_classes_are_even(make, classes):
    data = make(classes=classes, samples=480)
    assert data.train_inputs.shape == (360, 2)
    assert torch.bincount(data.train_labels).tolist() == [360 // classes] * classes
    assert torch.bincount(data.test_labels).tolist() == [120 // classes] * classes
    assert data.classes == classes
    assert data.train_inputs.abs().max() <= 1
    assert data.name == make.__name__


@pytest.mark.parametrize("make", [gaussians, spirals])
def test_the_seed_is_all_there_is_to_chance(make):
    first, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(first.train_inputs, same.train_inputs)
    assert not torch.equal(first.train_inputs, other.train_inputs)
    state = torch.random.get_rng_state()
    make(seed=torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_clouds_lie_where_the_formula_says():
    inputs, labels = whole(gaussians(classes=4, samples=40_000, spread=0.1))
    for label, centre in enumerate([(0.5, 0), (0, 0.5), (-0.5, 0), (0, -0.5)]):
        cloud = inputs[labels == label]
        assert cloud.mean(0).tolist() == pytest.approx(centre, abs=5 * 0.1 / 100)
        assert cloud.std(0).tolist() == pytest.approx([0.1, 0.1], rel=5 / math.sqrt(2 * 10_000))


def test_two_clouds_overlap_as_the_normal_distribution_says():
    inputs, labels = whole(gaussians(classes=2, samples=40_000, spread=0.4))
    nearest = (inputs[:, 0] < 0).long()  # centres at (1/2, 0) and (-1/2, 0)
    best = NormalDist().cdf(1 / (2 * 0.4))
    spread = math.sqrt(best * (1 - best) / 40_000)
    assert float((nearest == labels).double().mean()) == pytest.approx(best, abs=4 * spread)


@pytest.mark.parametrize("turns", [0.0, 1.0, 1.5])
def test_noiseless_arms_follow_the_formula(turns):
    inputs, labels = whole(spirals(classes=3, turns=turns, spread=0.0))
    radius = inputs.norm(dim=1)
    assert radius.min() >= 0.1 - 1e-6
    assert radius.max() <= 0.9 + 1e-6
    assert float(radius.mean()) == pytest.approx(0.5, abs=5 * 0.8 / math.sqrt(12 * 1200))
    angle = torch.atan2(inputs[:, 1], inputs[:, 0]) / (2 * math.pi)
    off = angle - turns * radius - labels / 3
    assert (off - off.round()).abs().max() < 1e-5


def test_spirals_need_more_than_lines():
    data = spirals()
    parts = data.train_inputs.numpy(), data.train_labels.numpy()
    test = data.test_inputs.numpy(), data.test_labels.numpy()
    assert LogisticRegression().fit(*parts).score(*test) < 0.75
    assert KNeighborsClassifier(1).fit(*parts).score(*test) == 1.0


def test_a_class_has_four_samples_or_more():
    with pytest.raises(ValueError, match="samples must be at least 12; got 11"):
        gaussians(samples=11)
