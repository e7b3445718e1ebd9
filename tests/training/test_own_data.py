"""Data of one's own as it comes: names, categories, one-hot rows, pictures, torch's sets."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from toolkit.training import Dataset, Experiment

INPUTS = np.random.default_rng(0).random((8, 3), dtype=np.float32)
NAMES = ["cat", "ant", "bee", "cat", "ant", "bee", "cat", "ant"]
CODES = [2, 0, 1, 2, 0, 1, 2, 0]


def of_labels(labels, test=None, **arguments):
    parts = (INPUTS, labels, INPUTS[:2], labels[:2] if test is None else test)
    return Dataset.from_arrays(*parts, **arguments)


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        np.array(NAMES),
        np.array(NAMES, dtype=object),
        pd.Series(NAMES),
        pd.Series(NAMES, dtype="string"),
        pd.Series(NAMES, dtype="category"),
        pd.Categorical(NAMES),
        pd.Index(NAMES),
    ],
    ids=lambda labels: f"{type(labels).__name__}-{getattr(labels, 'dtype', '')}",
)
def test_names_become_classes_in_alphabetical_order(labels):
    data = of_labels(labels)
    assert data.train_labels.tolist() == CODES
    assert data.test_labels.tolist() == CODES[:2]
    assert (data.classes, data.class_names) == (3, ("ant", "bee", "cat"))


def test_categories_keep_their_order_and_those_that_do_not_occur():
    kind = pd.CategoricalDtype(["cat", "bee", "ant", "dog"])
    data = of_labels(pd.Series(NAMES, dtype=kind), test=["cat", "bee"])
    assert data.train_labels.tolist() == [0, 2, 1, 0, 2, 1, 0, 2]
    assert (data.classes, data.test_labels.tolist()) == (4, [0, 1])


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool"])
def test_one_hot_rows_are_the_class_of_their_1(dtype):
    data = of_labels(np.eye(3, dtype=dtype)[CODES])
    assert data.train_labels.tolist() == CODES
    assert data.classes == 3
    assert of_labels(pd.get_dummies(pd.Series(NAMES))).train_labels.tolist() == CODES
    assert of_labels(torch.eye(4)[CODES], test=[0, 3]).classes == 4


@pytest.mark.parametrize(
    ("labels", "test", "said"),
    [
        ([*NAMES[:7], None], ["ant", "bee"], "train_labels must have no missing labels; got 1"),
        ([*NAMES[:7], np.nan], ["ant"] * 2, "train_labels must have no missing labels; got 1"),
        (pd.Series([*NAMES[:7], None], dtype="category"), ["ant"] * 2, "no missing labels; got 1"),
        (np.array([*NAMES[:7], 3], dtype=object), ["ant"] * 2, "must be all names or all whole"),
        (NAMES, [0, 1], "test_labels must be names or numbers like train_labels"),
        (["ant"] * 8, ["ant"] * 2, "train_labels must have at least two classes; got only 'ant'"),
        (pd.Categorical(NAMES), ["ant", "dog"], "test_labels must be of the categories .*'dog'"),
        (pd.Categorical([1, "1"] * 4), None, "train_labels must have categories that read diff"),
        (np.eye(3)[CODES] * 2, None, r"train_labels must be one-hot, .* got row 0: \[0.0, 0.0, 2"),
        (np.ones((8, 3)), None, "train_labels must be one-hot"),
        (np.eye(3)[CODES] * np.nan, None, "train_labels must be one-hot"),
        (np.eye(3)[CODES], np.eye(4)[:2], "train_labels must have 4 columns, one per class; got 3"),
        (np.eye(3)[CODES], [0, 7], "test_labels must be below 3 classes; got 7"),
        (np.array(NAMES)[:, None], None, r"train_labels must be one label .* got \(8, 1\)"),
        (np.arange(8) / 8, None, "train_labels must be whole numbers .*task='regression'"),
        ([[1], [1, 2]] * 4, None, "train_labels must be an array of numbers"),
        (np.ma.array(CODES, mask=[1] + [0] * 7), None, "train_labels must have no masked values"),
        (torch.eye(8).to_sparse(), [0, 1], "train_labels must be a dense tensor with data"),
        (torch.zeros(8, dtype=torch.int64, device="meta"), None, "train_labels must be a dense"),
        (np.array([2**63, *CODES[1:]], dtype="u8"), None, r"train_labels must be below 2\^63"),
    ],
)
def test_labels_that_are_no_labels_are_refused(labels, test, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        of_labels(labels, test)
    assert "\n" not in str(caught.value)


def test_channels_last_is_said_and_never_guessed():
    pictures = np.random.default_rng(0).random((8, 5, 6, 3), dtype=np.float32)
    parts = (pictures, CODES, pictures[:2], CODES[:2])
    with pytest.raises(ValueError, match=r"channels_last must be True or False .*\(8, 5, 6, 3\)"):
        Dataset.from_arrays(*parts)
    last = Dataset.from_arrays(*parts, channels_last=True)
    assert last.image_shape == (3, 5, 6)
    assert last.train_inputs[2, 1 * 30 + 4 * 6 + 5] == pictures[2, 4, 5, 1]
    first = Dataset.from_arrays(*parts, channels_last=False)
    assert first.image_shape == (5, 6, 3)
    turned = Dataset.from_arrays(
        pictures.transpose(0, 3, 1, 2), CODES, pictures[:2].transpose(0, 3, 1, 2), CODES[:2]
    )
    assert torch.equal(turned.train_inputs, last.train_inputs)
    with pytest.raises(ValueError, match=r"train_inputs must be .* channels_last; got shape"):
        of_labels(CODES, channels_last=True)


def test_one_array_is_split_by_itself_stratified_by_class():
    labels = np.repeat(["a", "b"], [80, 20])
    inputs = np.arange(100.0)[:, None]
    data = Dataset.from_arrays(inputs, labels, name="mine")
    assert (data.name, len(data.train_labels), len(data.test_labels)) == ("mine", 75, 25)
    assert torch.bincount(data.test_labels).tolist() == [20, 5]
    together = torch.cat([data.train_inputs, data.test_inputs])[:, 0]
    assert sorted(together.tolist()) == list(range(100))  # each sample in one part
    fifth = Dataset.from_arrays(inputs, labels, test_fraction=0.2, seed=1)
    assert torch.bincount(fifth.test_labels).tolist() == [16, 4]
    again = Dataset.from_arrays(inputs, labels, test_fraction=0.2, seed=1)
    assert torch.equal(fifth.test_inputs, again.test_inputs)
    for fraction in (0.0, 1.0, 1e-4):
        with pytest.raises(ValueError, match="test_fraction must be a fraction of 100 samples"):
            Dataset.from_arrays(inputs, labels, test_fraction=fraction)


class Items(TorchDataset):
    """Items that are made when they are read, as torchvision's are."""

    def __init__(self, items):
        self.items = items

    def __getitem__(self, index):
        return self.items[index]

    def __len__(self):
        return len(self.items)


def test_a_torch_data_set_is_read_item_by_item():
    from PIL import Image

    pictures = np.random.default_rng(0).integers(0, 256, (8, 4, 5, 3), dtype=np.uint8)
    expected = Dataset.from_arrays(pictures, CODES, channels_last=True)
    of_pil = [(Image.fromarray(one), code) for one, code in zip(pictures, CODES, strict=True)]
    of_tensors = [
        (torch.tensor(one.transpose(2, 0, 1)) / 255, torch.tensor(code))
        for one, code in zip(pictures, CODES, strict=True)
    ]
    found = [
        Dataset.from_torch(Items(of_pil), channels_last=True),
        Dataset.from_torch(Items(of_tensors)),
        Dataset.from_torch(TensorDataset(*map(torch.stack, zip(*of_tensors, strict=True)))),
    ]
    for data in found:
        assert torch.allclose(data.train_inputs, expected.train_inputs)
        assert torch.equal(data.test_labels, expected.test_labels)
        assert data.image_shape == (3, 4, 5)
    both = Dataset.from_torch(Items(of_tensors), Items(of_tensors[:3]), name="both")
    assert (both.name, len(both.train_labels), len(both.test_labels)) == ("both", 8, 3)
    subset = torch.utils.data.Subset(Items(of_tensors), [0, 1, 2, 3])
    assert len(Dataset.from_torch(subset, test_fraction=0.5).test_labels) == 2


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(2), 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Endless(), "train must have a length; got Endless"),
        (Items([]), "train must not be empty; got 0 items"),
        (Items([torch.ones(2)]), r"train must have items \(input, label\)"),
        (Items([(torch.ones(2), 0), (torch.ones(3), 1)]), r"train must have inputs of one shape"),
        (Items([("a", 0), ("b", 1)]), "train_inputs must be an array of numbers"),
        (Items([(None, 0), (None, 1)]), "train_inputs must be an array of numbers"),
        (TensorDataset(torch.ones(2, 3)), r"train must have items \(input, label\); .* 1 parts"),
    ],
)
def test_torch_data_sets_that_do_not_fit_are_refused(given, said):
    with pytest.raises((TypeError, ValueError), match=said):
        Dataset.from_torch(given)


def test_a_run_learns_from_names():
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True)
    names = iris.target.map(dict(enumerate(iris.target_names))).astype("category")
    data = Dataset.from_arrays(iris.data / iris.data.max(), names, name="iris")
    run = Experiment(dataset=data, hidden=[16], batch_size=16, rank=3, learning_rate=0.5)
    list(run.steps(epochs=30))
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert run.evaluate()[1] > 0.85


def test_nullable_numbers_of_pandas_are_numbers():
    frame = pd.DataFrame({"a": [0.1, 0.2, 0.3, 0.4], "b": [1, 0, 1, 0]})
    plain = Dataset.from_arrays(frame, list("xyxy"), test_fraction=0.5)
    nullable = Dataset.from_arrays(frame.convert_dtypes(), list("xyxy"), test_fraction=0.5)
    assert torch.equal(plain.train_inputs, nullable.train_inputs)
    targets = frame.b.astype("Float64")
    found = Dataset.from_arrays(frame, targets, frame, targets, task="regression")
    assert found.train_labels.flatten().tolist() == [1.0, 0.0, 1.0, 0.0]
    frame = frame.convert_dtypes()
    frame.loc[2, "b"] = pd.NA
    with pytest.raises(ValueError, match="train_inputs must be finite"):
        Dataset.from_arrays(frame, list("xyxy"))


def test_a_column_without_numbers_is_named():
    frame = pd.DataFrame({"a": [0.1, 0.2], "place": ["here", "there"]})
    with pytest.raises(TypeError, match=r"train_inputs must have numbers in every .* in 'place'"):
        Dataset.from_arrays(frame, list("xy"))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_one_index_in_two_orders_is_refused(task):
    frame = pd.DataFrame({"a": [0.1, 0.2, 0.3, 0.4]}, index=list("pqrs"))
    labels = pd.Series([0, 1, 0, 1], index=list("pqrs"))
    other = labels[::-1]
    with pytest.raises(ValueError, match="train_labels must have the rows of train_inputs in the"):
        Dataset.from_arrays(frame, other, task=task)
    with pytest.raises(ValueError, match="test_labels must have the rows of test_inputs in the"):
        Dataset.from_arrays(frame, labels, frame, other, task=task)
    for fine in (labels, other.loc[frame.index], other.reset_index(drop=True), other.tolist()):
        Dataset.from_arrays(frame, fine, frame, labels, task=task)
