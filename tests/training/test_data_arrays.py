"""Data sets of one's own arrays; held-out parts and subsets."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.training import Dataset, Experiment, load_dataset

INPUTS = np.arange(24.0).reshape(6, 4) / 24
LABELS = np.array([0, 1, 2, 0, 1, 2])


def of_arrays(**changes):
    parts = {
        "train_inputs": INPUTS,
        "train_labels": LABELS,
        "test_inputs": INPUTS[:2],
        "test_labels": LABELS[:2],
    }
    return Dataset.from_arrays(**(parts | changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": 2}, "train_labels must be between 0 and 1; got 2"),
        ({"classes": 10**9}, "classes must be between 1 and 65536"),
        ({"test_labels": torch.tensor([0, -1])}, "test_labels must be between 0 and 2; got -1"),
        ({"train_labels": torch.tensor([0, 1])}, "train_labels must be 6, one a sample; got 2"),
    ],
)
def test_a_set_made_of_its_parts_has_labels_of_its_classes(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(of_arrays(), **change)


def of_labels(labels):
    """A data set whose one feature is the number of the sample."""
    numbers = torch.arange(len(labels), dtype=torch.float32)[:, None]
    return Dataset.from_arrays(numbers, labels, numbers, labels)


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.as_tensor, np.ndarray.tolist, lambda x: x[::-1][::-1]]
)
def test_arrays_tensors_and_lists_give_the_same_data(kind):
    data = of_arrays(train_inputs=kind(INPUTS), train_labels=kind(LABELS), name="mine")
    assert torch.equal(data.train_inputs, torch.tensor(INPUTS, dtype=torch.float32))
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.train_inputs.dtype == torch.float32
    assert data.train_labels.dtype == torch.int64
    assert (data.name, data.classes, data.features, data.image_shape) == ("mine", 3, 4, None)


def test_later_changes_of_the_arrays_do_not_reach_the_data():
    inputs, labels = torch.tensor(INPUTS, dtype=torch.float32), torch.tensor(LABELS)
    data = of_arrays(train_inputs=inputs, train_labels=labels)
    inputs.zero_()
    labels.zero_()
    assert data.train_inputs.sum() > 0
    assert data.train_labels.sum() > 0


def test_big_endian_and_read_only_arrays_are_taken():
    inputs = INPUTS.astype(">f8")
    inputs.flags.writeable = False
    data = of_arrays(train_inputs=inputs, train_labels=LABELS.astype(">i2"))
    assert torch.equal(data.train_inputs, of_arrays().train_inputs)
    assert torch.equal(data.train_labels, of_arrays().train_labels)


def test_pictures_are_flattened_channel_by_channel_row_by_row():
    pictures = np.random.default_rng(0).random((6, 3, 4, 5), dtype=np.float32)
    data = of_arrays(train_inputs=pictures, test_inputs=pictures[:2])
    assert data.image_shape == (3, 4, 5)
    assert data.train_inputs[2, 1 * 20 + 3 * 5 + 4] == pictures[2, 1, 3, 4]
    grey = of_arrays(train_inputs=pictures[:, 0], test_inputs=pictures[:2, 0])
    assert grey.image_shape == (1, 4, 5)
    assert grey.train_inputs[2, 3 * 5 + 4] == pictures[2, 0, 3, 4]


def test_bytes_are_grey_levels_and_everything_else_is_taken_as_it_is():
    levels = np.array([[0, 51, 255]] * 6, np.uint8)
    data = of_arrays(train_inputs=levels, test_inputs=levels[:2].astype(int))
    assert data.train_inputs[0].tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert data.test_inputs[0].tolist() == [0.0, 51.0, 255.0]


def test_image_shape_of_flat_samples():
    assert of_arrays(image_shape=(1, 2, 2)).image_shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"train_inputs": INPUTS * np.nan}, ValueError, "train_inputs must be finite"),
        ({"train_inputs": INPUTS * 1e300}, ValueError, "train_inputs must be finite in float32"),
        ({"train_inputs": INPUTS[0]}, ValueError, r"train_inputs must be .* got shape \(4,\)"),
        ({"test_inputs": INPUTS[:0]}, ValueError, "test_inputs must be .* not empty"),
        ({"test_inputs": INPUTS[:2, :3]}, ValueError, r"shape \(4,\), like train_inputs; got \(3"),
        ({"train_inputs": INPUTS + 1j}, TypeError, "train_inputs must be an array of numbers"),
        ({"train_inputs": INPUTS.astype(str)}, TypeError, "train_inputs must be an array of num"),
        ({"train_inputs": torch.tensor(INPUTS + 1j)}, TypeError, "train_inputs must be real"),
        ({"train_labels": LABELS[:5]}, ValueError, r"train_labels must be .*\(6,\); got \(5,\)"),
        ({"train_labels": LABELS[:, None]}, ValueError, r"train_labels must be .* got \(6, 1\)"),
        ({"train_labels": LABELS - 1}, ValueError, "train_labels must be 0 or more; got -1"),
        ({"train_labels": LABELS + 10**9}, ValueError, "train_labels must be below 65536"),
        ({"test_labels": [0, 2**16]}, ValueError, "test_labels must be below 65536.*got 65536"),
        ({"train_labels": LABELS * 1.0}, TypeError, "train_labels must be whole numbers"),
        ({"train_labels": LABELS > 0}, TypeError, "train_labels must be whole numbers"),
        ({"train_labels": 0 * LABELS, "test_labels": [0, 0]}, ValueError, "at least two classes"),
        ({"image_shape": (1, 2, 3)}, ValueError, r"image_shape must be .* got \(1, 2, 3\)"),
        ({"image_shape": (4,)}, ValueError, "image_shape must be"),
    ],
)
def test_bad_arrays_are_refused(changes, error, words):
    with pytest.raises(error, match=words):
        of_arrays(**changes)


def test_image_shape_must_be_that_of_the_pictures():
    pictures = INPUTS.reshape(6, 2, 2)
    with pytest.raises(ValueError, match=r"image_shape must be .* got \(2, 1, 2\)"):
        of_arrays(train_inputs=pictures, test_inputs=pictures[:2], image_shape=(2, 1, 2))


def test_split_holds_out_training_samples_and_drops_the_test_samples():
    data = load_dataset("digits")
    tuning = data.split(validation=0.2, seed=3)
    assert (len(tuning.train_labels), len(tuning.test_labels)) == (1078, 269)
    rows = torch.cat([tuning.train_inputs, tuning.test_inputs]).tolist()
    assert sorted(rows) == sorted(data.train_inputs.tolist())
    known = dict(
        zip(map(tuple, data.train_inputs.tolist()), data.train_labels.tolist(), strict=True)
    )
    held = zip(map(tuple, tuning.test_inputs.tolist()), tuning.test_labels.tolist(), strict=True)
    assert all(known[row] == label for row, label in held)
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
    data = of_labels(torch.arange(21) % 3)
    drawn = torch.zeros(21)
    for seed in range(2000):
        drawn[data.subset(5, 1, seed=seed).train_inputs[:, 0].long()] += 1
    expected, spread = 2000 * 5 / 21, (2000 * 5 / 21 * 16 / 21) ** 0.5
    assert (drawn - expected).abs().max() < 4 * spread


def test_same_seed_same_samples():
    data = load_dataset("digits")
    first, same, other = (data.subset(50, 20, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train_inputs, same.train_inputs)
    assert torch.equal(first.test_inputs, same.test_inputs)
    assert not torch.equal(first.train_inputs, other.train_inputs)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(data.subset(50, 20, seed=generator).train_inputs, first.train_inputs)


@pytest.mark.parametrize("validation", [0.0, 1.0, 1e-9])
def test_a_split_must_leave_both_parts_some(validation):
    with pytest.raises(ValueError, match="validation must be a fraction"):
        load_dataset("digits").split(validation=validation)


def test_a_subset_must_be_there():
    with pytest.raises(ValueError, match="test must be between 1 and 450; got 451"):
        load_dataset("digits").subset(10, 451)


def test_two_data_sets_are_never_compared_tensor_by_tensor():
    data = of_arrays()
    assert data == data
    assert data != of_arrays()
    assert len({data, of_arrays()}) == 2


@pytest.mark.parametrize("name", ["gaussians", "spirals"])
def test_an_experiment_takes_toys_by_name(name):
    run = Experiment(dataset=name, hidden=[16], batch_size=64, block_size=8, rank=2)
    losses = [record.loss for record in run.steps(epochs=2)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_a_data_set_moves_whole():
    data = load_dataset("digits")
    assert data.to("cpu") is data
    moved = data.to("meta")
    parts = moved.train_inputs, moved.train_labels, moved.test_inputs, moved.test_labels
    assert {part.device.type for part in parts} == {"meta"}
    assert (moved.name, moved.image_shape) == (data.name, data.image_shape)
