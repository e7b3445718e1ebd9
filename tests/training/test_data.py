"""Data sets and the order of samples."""

import pytest
import torch
from sklearn.datasets import load_digits

from toolkit.training import dataset_names, load_dataset
from toolkit.training.data.batches import SampleOrder


def test_digits_are_scikit_learns_split_whole():
    data = load_dataset("digits")
    inputs, labels = load_digits(return_X_y=True)
    rows = torch.cat([data.train_inputs, data.test_inputs])
    given = torch.as_tensor(inputs / 16).float()
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, given.tolist()))
    assert len(data.train_labels) == 1347
    assert len(data.test_labels) == 450
    assert data.features == 64
    assert data.classes == len(set(labels)) == 10
    assert float(data.train_inputs.min()) == 0.0
    assert float(data.train_inputs.max()) == 1.0
    counts = torch.bincount(data.test_labels)
    assert counts.min() >= 43  # stratified


def test_labels_stay_with_their_samples():
    inputs, labels = load_digits(return_X_y=True)
    known = {
        tuple((x / 16).astype("float32").tolist()): y for x, y in zip(inputs, labels, strict=True)
    }
    data = load_dataset("digits")
    for x, y in zip(data.test_inputs.tolist(), data.test_labels.tolist(), strict=True):
        assert known[tuple(x)] == y


def test_digits_are_pictures_8_by_8():
    data = load_dataset("digits")
    picture = data.train_inputs[0].view(data.image_shape)
    assert picture.shape == (1, 8, 8)
    pictures = load_digits().images
    assert any(torch.equal(picture[0], torch.as_tensor(x / 16).float()) for x in pictures)


def test_unknown_dataset_is_refused():
    names = ["digits", "mnist", "fashion-mnist", "cifar-10", "gaussians", "spirals"]
    assert dataset_names() == names
    with pytest.raises(ValueError, match=r"name must be one of digits, mnist, .*; got 'imagenet'"):
        load_dataset("imagenet")


@pytest.mark.parametrize("name", ["digits", "spirals"])
def test_a_data_set_is_loaded_once_a_process(name):
    assert load_dataset(name) is load_dataset(name)


def test_every_sample_once_a_pass_whatever_the_batch_sizes():
    order = SampleOrder(100, seed=0)
    taken = torch.cat([order.take(size) for size in (7, 64, 100, 1, 28, 250, 150)])
    assert len(taken) == 600
    assert order.epoch == 6.0
    for pass_ in taken.split(100):
        assert sorted(pass_.tolist()) == list(range(100))
    first, second = taken[:100], taken[100:200]
    assert not torch.equal(first, second)


def test_batch_sizes_cut_one_and_the_same_order():
    first, second = SampleOrder(100, seed=7), SampleOrder(100, seed=7)
    ones = torch.cat([first.take(1) for _ in range(150)])
    assert torch.equal(ones, torch.cat([second.take(50) for _ in range(3)]))
    assert not torch.equal(ones, SampleOrder(100, seed=8).take(150))
