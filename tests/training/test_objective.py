"""Losses, and what says how well a network fits: accuracy of classes, R^2 of targets."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from torch import nn
from torch.nn import functional

from dashboards.results.page import summary_html
from dashboards.results.run_tables import differences
from toolkit.plots import convergence
from toolkit.results import open_results
from toolkit.training import Dataset, Experiment, load_dataset
from toolkit.training.experiment.sweep import plan_of


def plane(outputs=2, samples=240, seed=0):
    """Targets that are linear in the inputs, in two units, with noise."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(samples, 5))
    slopes = draw.normal(size=(5, outputs))
    targets = inputs @ slopes + 0.1 * draw.normal(size=(samples, outputs))
    return Dataset.from_arrays(inputs, targets, task="regression", name="plane")


def regression(data=None, **knobs):
    given = {"batch_size": 32, "rank": 2, "learning_rate": 0.05, "hidden": [], **knobs}
    return Experiment(dataset=data or plane(), loss="mean-squared-error", **given)


def test_a_regression_finds_what_least_squares_finds():
    data = plane()
    run = regression(data, method="svd")
    records = list(run.steps(epochs=60))
    parts = [data.train_inputs, data.train_labels, data.test_inputs, data.test_labels]
    inputs, targets, test_inputs, test_targets = (part.double().numpy() for part in parts)
    best = LinearRegression().fit(inputs, targets).predict(test_inputs)
    loss, fit = run.evaluate()
    assert loss == pytest.approx(((best - test_targets) ** 2).mean(), rel=0.1)
    assert fit == pytest.approx(r2_score(test_targets, best, multioutput="variance_weighted"), 1e-3)
    assert math.isnan(records[-1].accuracy) and records[-1].r_squared > 0.9


def test_r_squared_is_scikit_learns_and_losses_are_torchs():
    data = plane()
    run = regression(data)
    with torch.no_grad():
        scores, first = run.network(data.test_inputs), run.network(data.train_inputs)
    loss, fit = run.evaluate()
    found = r2_score(data.test_labels.numpy(), scores.numpy(), multioutput="variance_weighted")
    assert fit == pytest.approx(found, 1e-5)
    assert loss == pytest.approx(float(functional.mse_loss(scores, data.test_labels)), 1e-5)
    whole = regression(data, batch_size=len(data.train_labels)).step()
    found = r2_score(data.train_labels.numpy(), first.numpy(), multioutput="variance_weighted")
    assert whole.r_squared == pytest.approx(found, 1e-5)


def test_chunks_change_nothing(monkeypatch):
    before = regression().evaluate()
    monkeypatch.setattr("toolkit.training.experiment.objective.EVALUATED_AT_ONCE", 7)
    assert regression().evaluate() == pytest.approx(before, 1e-6)


def test_classes_learn_with_a_squared_error_too():
    run = Experiment(loss="mean-squared-error", hidden=[32], learning_rate=2.0, seed=1)
    first, data = run.step(), load_dataset("digits")
    again = Experiment(loss="mean-squared-error", hidden=[32], learning_rate=2.0, seed=1)
    picked = again._order.take(64)
    with torch.no_grad():
        scores = again.network(data.train_inputs[picked])
    targets = functional.one_hot(data.train_labels[picked], 10).float()
    assert first.loss == pytest.approx(float(functional.mse_loss(scores, targets)), 1e-6)
    list(run.steps(epochs=8))
    assert run.evaluate()[1] > 0.85
    assert "test_accuracy" in run.results()["training"]


@pytest.mark.parametrize("suffix", ["nc", "zarr", "stream"])
def test_files_of_a_regression_say_r_squared_and_open(tmp_path, suffix):
    run = regression(record_every=5)
    if suffix == "stream":
        path = tmp_path / "run.zarr"
        with run.stream(path):
            list(run.steps(epochs=2))
    else:
        list(run.steps(epochs=2))
        path = run.save(tmp_path / f"run.{suffix}")
    tree = open_results(path, lazy=False)
    training = tree["training"].to_dataset()
    assert {"r_squared", "test_r_squared"} <= set(training.variables)
    assert not {"accuracy", "test_accuracy"} & set(training.variables)
    assert float(training["test_r_squared"][-1]) == pytest.approx(run.evaluate()[1], 1e-6)
    text = summary_html(tree)
    assert "R²" in text and "accuracy" not in text
    assert differences({"run": tree})[1][0][4].startswith("R²")
    assert convergence(tree) is not None


def test_a_checkpoint_of_a_regression_resumes_with_the_same_bits(tmp_path):
    data = plane()
    straight, cut = regression(data), regression(data)
    list(straight.steps(epochs=4))
    list(cut.steps(epochs=2))
    back = Experiment.resume(cut.checkpoint(tmp_path / "run.pt"), dataset=data)
    list(back.steps(epochs=2))
    assert back.record.evaluations.tolist() == straight.record.evaluations.tolist()
    np.testing.assert_array_equal(
        back.record.column("r_squared"), straight.record.column("r_squared")
    )


def test_a_checkpoint_from_before_r_squared_resumes():
    run = Experiment(hidden=[8])
    list(run.steps(epochs=1))
    state = run.record.state_dict()
    del state["_steps"]["r_squared"]
    again = Experiment(hidden=[8])
    again.record.load_state_dict(state)
    np.testing.assert_array_equal(again.record.column("accuracy"), run.record.column("accuracy"))


class Flat(nn.Module):
    """Answers without a dimension of outputs, which would be broadcast against the targets."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, inputs):
        return self.layer(inputs)[:, 0]


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="loss must be mean-squared-error for plane, whose labels"):
        Experiment(dataset=plane())
    with pytest.raises(ValueError, match="loss must be one of cross-entropy, mean-squared-error"):
        Experiment(loss="hinge")
    with pytest.raises(ValueError, match="loss must be one value"):
        plan_of({"loss": ["cross-entropy", "mean-squared-error"]})
    with pytest.raises(TypeError, match=r"model must return .* \(32, 1\) .*; got \(32,\)"):
        regression(plane(outputs=1), model=Flat(), rank=1).step()
    run = regression()
    with pytest.raises(ValueError, match="loss is fixed during a run"):
        run.change(loss="cross-entropy")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.full(8, 2.0), "train_labels must be targets that differ, .* got only 2"),
        (np.full(8, np.nan), "train_labels must be finite in float32"),
        (np.full(8, 1e300), "train_labels must be finite in float32"),
        (np.arange(7.0), r"train_labels must be targets, shape \(8,\) or .*; got \(7,\)"),
        (np.ones((8, 0)), r"train_labels must be targets, shape .*; got \(8, 0\)"),
        (np.ones((8, 2, 2)), r"train_labels must be targets, shape .*; got \(8, 2, 2\)"),
        (["a"] * 8, "train_labels must be an array of numbers"),
        (np.arange(8) > 4, "train_labels must be real numbers"),
    ],
)
def test_bad_targets_are_refused(targets, said):
    with pytest.raises((TypeError, ValueError), match=said):
        Dataset.from_arrays(np.ones((8, 2)), targets, task="regression")
    with pytest.raises(ValueError, match=r"test_labels must have 1 targets .*; got 2"):
        Dataset.from_arrays(
            np.ones((8, 2)), np.arange(8.0), np.ones((2, 2)), np.ones((2, 2)), task="regression"
        )


def test_parts_of_a_regression():
    data = Dataset.from_arrays(*load_diabetes(return_X_y=True), task="regression")
    assert (data.classes, data.outputs, data.task) == (0, 1, "regression")
    assert repr(data) == "Dataset(arrays: 332 + 110 samples of 10, 1 targets)"
    assert len(data.split(validation=0.1).test_labels) == 33
    quick = data.subset(20, 1)
    assert quick.train_labels.shape == (20, 1)
    run = regression(quick, batch_size=10, rank=1)
    run.step()
    assert math.isnan(run.evaluate()[1])  # one test target has no variance
