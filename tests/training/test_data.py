"""Data sets by name, of a formula and of one's own arrays; parts, and the order of samples."""

import dataclasses
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from toolkit.training import Dataset, dataset_names, gaussians, load_dataset, spirals
from toolkit.training.data.batches import SampleOrder

INPUTS = np.arange(24.0).reshape(6, 4) / 24
LABELS = np.array([0, 1, 2, 0, 1, 2])


def of_arrays(**changes):
    train, test = (INPUTS, LABELS), (INPUTS[:2], LABELS[:2])
    names = "train_inputs", "train_labels", "test_inputs", "test_labels"
    return Dataset.from_arrays(**(dict(zip(names, train + test, strict=True)) | changes))


def whole(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.cat([data.train_inputs, data.test_inputs]).double()
    return inputs, torch.cat([data.train_labels, data.test_labels])


# --- by name ------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_split_whole_with_their_labels():
    data, (inputs, labels) = load_dataset("digits"), load_digits(return_X_y=True)
    given = [(*row, y) for row, y in zip((inputs / 16).tolist(), labels.tolist(), strict=True)]
    found = [(*row, y) for row, y in zip(*map(torch.Tensor.tolist, whole(data)), strict=True)]
    assert sorted(found) == sorted(given)
    assert (len(data.train_labels), len(data.test_labels)) == (1347, 450)
    assert (data.features, data.classes, data.image_shape) == (64, 10, (1, 8, 8))
    assert torch.bincount(data.test_labels).min() >= 43  # stratified


def test_a_data_set_is_loaded_once_a_process_and_an_unknown_one_refused():
    names = ["digits", "mnist", "fashion-mnist", "cifar-10", "gaussians", "spirals"]
    assert dataset_names() == names
    for name in ("digits", "spirals"):
        assert load_dataset(name) is load_dataset(name)
    with pytest.raises(ValueError, match=r"name must be one of digits, mnist, .*; got 'imagenet'"):
        load_dataset("imagenet")


def test_every_sample_once_a_pass_whatever_the_batch_sizes():
    order = SampleOrder(100, seed=0)
    taken = torch.cat([order.take(size) for size in (7, 64, 100, 1, 28, 250, 150)])
    assert (len(taken), order.epoch) == (600, 6.0)
    for pass_ in taken.split(100):
        assert sorted(pass_.tolist()) == list(range(100))
    assert not torch.equal(taken[:100], taken[100:200])
    assert torch.equal(SampleOrder(100, seed=0).take(600), taken)
    assert not torch.equal(SampleOrder(100, seed=8).take(600), taken)


# --- of a formula -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussians, spirals])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_quarter_is_for_testing_and_classes_are_even(make, classes):
    data = make(classes=classes, samples=480)
    assert data.train_inputs.shape == (360, 2)
    assert torch.bincount(data.train_labels).tolist() == [360 // classes] * classes
    assert torch.bincount(data.test_labels).tolist() == [120 // classes] * classes
    assert data.train_inputs.abs().max() <= 1
    assert (data.classes, data.name) == (classes, make.__name__)
    with pytest.raises(ValueError, match=f"samples must be at least {4 * classes}; got 7"):
        make(classes=classes, samples=7)


@pytest.mark.parametrize("make", [gaussians, spirals, lambda seed: load_digits_part(seed)])
def test_the_seed_is_all_there_is_to_chance(make):
    state = torch.random.get_rng_state()
    seeds = 1, 1, torch.Generator().manual_seed(1), 2
    first, *same, other = (torch.cat([p.flatten() for p in whole(make(seed=s))]) for s in seeds)
    assert all(torch.equal(first, each) for each in same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def load_digits_part(seed):
    return load_dataset("digits").subset(50, 20, seed=seed)


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
    assert 0.1 - 1e-6 <= radius.min() < radius.max() <= 0.9 + 1e-6
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


# --- of one's own arrays ------------------------------------------------------------------------


def read_only_big_endian(array):
    made = array.astype(array.dtype.newbyteorder(">"))
    made.flags.writeable = False
    return made


KINDS = [
    np.asarray,
    torch.as_tensor,
    np.ndarray.tolist,
    lambda array: array[::-1].copy()[::-1],
    read_only_big_endian,
]


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_tensors_and_lists_give_the_same_data(kind):
    inputs, labels = kind(INPUTS.astype("f4")), kind(LABELS.copy())
    data = of_arrays(train_inputs=inputs, train_labels=labels, name="mine")
    if getattr(inputs, "flags", None) is None or inputs.flags.writeable:
        inputs[0], labels[0] = inputs[1], labels[1]  # later changes do not reach the data
    assert torch.equal(data.train_inputs, torch.tensor(INPUTS, dtype=torch.float32))
    assert torch.equal(data.train_labels, torch.tensor(LABELS, dtype=torch.int64))
    assert (data.name, data.classes, data.features, data.image_shape) == ("mine", 3, 4, None)
    assert data == data != of_arrays()  # never compared tensor by tensor
    assert len({data, of_arrays()}) == 2


def test_pictures_are_flattened_channel_by_channel_row_by_row():
    pictures = np.random.default_rng(0).random((6, 3, 4, 5), dtype=np.float32)
    data = of_arrays(train_inputs=pictures, test_inputs=pictures[:2])
    assert data.image_shape == (3, 4, 5)
    assert data.train_inputs[2, 1 * 20 + 3 * 5 + 4] == pictures[2, 1, 3, 4]
    grey = of_arrays(train_inputs=pictures[:, 0], test_inputs=pictures[:2, 0])
    assert grey.image_shape == (1, 4, 5)
    assert grey.train_inputs[2, 3 * 5 + 4] == pictures[2, 0, 3, 4]
    assert of_arrays(image_shape=(1, 2, 2)).image_shape == (1, 2, 2)


def test_bytes_are_grey_levels_and_everything_else_is_taken_as_it_is():
    levels = np.array([[0, 51, 255]] * 6, np.uint8)
    data = of_arrays(train_inputs=levels, test_inputs=levels[:2].astype(int))
    assert data.train_inputs[0].tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert data.test_inputs[0].tolist() == [0.0, 51.0, 255.0]


SQUARES = {"train_inputs": INPUTS.reshape(6, 2, 2), "test_inputs": INPUTS[:2].reshape(2, 2, 2)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_inputs": INPUTS * np.nan}, "train_inputs must be finite"),
        ({"train_inputs": INPUTS * 1e300}, "train_inputs must be finite in float32"),
        ({"train_inputs": INPUTS[0]}, r"train_inputs must be .* got shape \(4,\)"),
        ({"test_inputs": INPUTS[:0]}, "test_inputs must be .* not empty"),
        ({"test_inputs": INPUTS[:2, :3]}, r"shape \(4,\), like train_inputs; got \(3"),
        ({"train_inputs": INPUTS + 1j}, "train_inputs must be an array of numbers"),
        ({"train_inputs": INPUTS.astype(str)}, "train_inputs must be an array of num"),
        ({"train_inputs": torch.tensor(INPUTS + 1j)}, "train_inputs must be real"),
        ({"train_labels": LABELS[:5]}, r"train_labels must be .*\(6,\), .*; got \(5,\)"),
        ({"train_labels": LABELS[:, None]}, r"train_labels must be .* got \(6, 1\)"),
        ({"train_labels": LABELS - 1}, "train_labels must be 0 or more; got -1"),
        ({"train_labels": LABELS + 10**9}, "train_labels must be below 65536"),
        ({"test_labels": [0, 2**16]}, "test_labels must be below 65536.*got 65536"),
        ({"train_labels": LABELS * 1.0}, "train_labels must be whole numbers"),
        ({"train_labels": LABELS > 0}, "train_labels must be whole numbers"),
        ({"train_labels": 0 * LABELS, "test_labels": [0, 0]}, "at least two classes"),
        ({"image_shape": (1, 2, 3)}, r"image_shape must be .* got \(1, 2, 3\)"),
        ({"image_shape": (4,)}, "image_shape must be"),
        ({**SQUARES, "image_shape": (2, 1, 2)}, r"image_shape must be .* got \(2, 1, 2\)"),
    ],
)
def test_bad_arrays_are_refused(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        of_arrays(**changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": 2}, "train_labels must be between 0 and 1; got 2"),
        ({"classes": 10**9}, "classes must be between 1 and 65536"),
        ({"test_labels": torch.tensor([0, -1])}, "test_labels must be between 0 and 2; got -1"),
        ({"train_labels": torch.tensor([0, 1])}, "train_labels must be 6, one per sample; got 2"),
    ],
)
def test_a_set_made_of_its_parts_has_labels_of_its_classes(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(of_arrays(), **change)


# --- parts --------------------------------------------------------------------------------------


def of_labels(labels):
    """A data set whose one feature is the number of the sample."""
    numbers = torch.arange(len(labels), dtype=torch.float32)[:, None]
    return Dataset.from_arrays(numbers, labels, numbers, labels)


def test_split_holds_out_training_samples_and_drops_the_test_samples():
    data = load_dataset("digits")
    tuning = data.split(validation=0.2, seed=3)
    assert (len(tuning.train_labels), len(tuning.test_labels)) == (1078, 269)
    given = torch.cat([data.train_inputs, data.train_labels[:, None]], 1).double()
    found = torch.cat([part if part.ndim == 2 else part[:, None] for part in whole(tuning)], 1)
    assert sorted(found.tolist()) == sorted(given.tolist())
    assert tuning.image_shape == data.image_shape
    assert tuning.name == "digits, 269 samples held out"


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**31),
)
def test_every_class_keeps_its_share_to_within_one_sample(sizes, fraction, seed):
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    data = of_labels(labels[torch.randperm(len(labels))])
    count = max(1, round(fraction * len(labels)))
    kept = data.subset(count, len(labels), seed=seed)
    found = torch.bincount(kept.train_labels, minlength=len(sizes)).tolist()
    assert sum(found) == count
    for size, number in zip(sizes, found, strict=True):
        assert abs(number - count * size / len(labels)) < 1
    numbers = kept.train_inputs[:, 0].long()
    assert torch.equal(kept.train_labels, data.train_labels[numbers])
    assert (numbers.diff() > 0).all()  # each sample once, in their order
    assert torch.equal(kept.test_inputs, data.test_inputs)


def test_every_sample_of_classes_of_one_size_is_as_likely_to_be_drawn():
    data, count = of_labels(torch.arange(21) % 3), 2000
    drawn = torch.zeros(21)
    for seed in range(count):
        drawn[data.subset(5, 1, seed=seed).train_inputs[:, 0].long()] += 1
    expected, spread = count * 5 / 21, (count * 5 / 21 * 16 / 21) ** 0.5
    assert (drawn - expected).abs().max() < 4 * spread


def test_parts_that_are_not_there_are_refused():
    data = load_dataset("digits")
    for validation in (0.0, 1.0, 1e-9):
        with pytest.raises(ValueError, match="validation must be a fraction"):
            data.split(validation=validation)
    with pytest.raises(ValueError, match="test must be between 1 and 450; got 451"):
        data.subset(10, 451)


def test_a_data_set_moves_whole():
    data = load_dataset("digits")
    assert data.to("cpu") is data
    moved = data.to("meta")
    parts = moved.train_inputs, moved.train_labels, moved.test_inputs, moved.test_labels
    assert {part.device.type for part in parts} == {"meta"}
    assert (moved.name, moved.image_shape) == (data.name, data.image_shape)
