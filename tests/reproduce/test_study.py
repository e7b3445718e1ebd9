"""Tuning and training of one case: what is tuned on, what is counted."""

import numpy as np
import pytest
import torch

from toolkit.reproduce import study
from toolkit.reproduce.study import Case, Data, measure_case, measure_training, tuned_rate
from toolkit.training import Dataset, DivergenceError, Experiment

KNOBS = {"hidden": [6], "batch_size": 8, "block_size": 8, "rank": 2}


def marked_data() -> Dataset:
    """Every sample can be told by its first feature: below 1000 training, from there on test."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(80, 5, generator=generator)
    inputs[:60, 0], inputs[60:, 0] = torch.arange(60.0), torch.arange(1000.0, 1020.0)
    labels = torch.arange(80) % 3
    return Dataset("marked", inputs[:60], labels[:60], inputs[60:], labels[60:], classes=3)


@pytest.fixture
def seen(monkeypatch):
    """Every data set and learning rate that an Experiment was given."""
    given = []

    def spy(**knobs):
        given.append((knobs["dataset"], knobs["learning_rate"], knobs["seed"]))
        return Experiment(**knobs)

    monkeypatch.setattr(study, "Experiment", spy)
    return given


def test_tuning_never_sees_the_test_set(seen):
    case = Case({"method": "SBPCA"}, knobs=KNOBS, rates=(1e-4, 2e-4), seeds=2)
    measure_case(case, data=marked_data(), measure=measure_training)
    tuning, final = seen[:-2], seen[-2:]
    assert len(tuning) >= 2
    for data, _, seed in tuning:
        used = torch.cat([data.train_inputs, data.test_inputs])[:, 0]
        assert used.max() < 1000
        assert len(used) == len(used.unique()) == 60  # what is held out is not trained on
        assert len(data.test_labels) == 10
        assert seed not in (0, 1)
    for data, _, _ in final:
        assert data.test_inputs[:, 0].min() >= 1000


def test_the_rate_that_did_best_is_taken_for_every_seed(seen):
    case = Case({"method": "SBPCA"}, knobs=KNOBS, rates=(1e-4, 2e-4), seeds=2)
    rows = measure_case(case, data=marked_data(), measure=measure_training)
    trials = {r["trial_rate"]: r["validation_accuracy"] for r in rows if "trial_rate" in r}
    (chosen,) = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert trials[chosen] == max(trials.values())
    assert [rate for _, rate, _ in seen[-2:]] == [chosen, chosen]
    assert [row["seed"] for row in rows if "seed" in row] == [0, 1]


def test_a_rate_may_be_scored_by_several_trials(monkeypatch):
    scores = {1e-4: (50.0, 10.0), 2e-4: (30.0, 40.0)}

    def scored(case, data, *, learning_rate, seed):  # noqa: ARG001
        return scores.get(learning_rate, (0.0, 0.0))[seed - study.TUNING_SEED], True

    monkeypatch.setattr(study, "trained", scored)
    monkeypatch.setattr(study, "accuracy", lambda run, whole: run if whole else 0.0)
    case = Case({}, knobs=KNOBS, rates=(1e-4, 2e-4), seeds=0, trials=2)
    rows = measure_case(case, data=marked_data(), measure=measure_training)
    trials = {r["trial_rate"]: r["validation_accuracy"] for r in rows if "trial_rate" in r}
    assert (trials[1e-4], trials[2e-4]) == (30.0, 35.0)
    assert [row["learning_rate"] for row in rows if "learning_rate" in row] == [2e-4]


def test_a_single_rate_is_taken_as_it_is(seen):
    case = Case({"method": "SBPCA"}, knobs=KNOBS, rates=(1e-4,), seeds=1)
    measure_case(case, data=marked_data(), measure=measure_training)
    assert [rate for _, rate, _ in seen] == [1e-4]


@pytest.mark.parametrize("ramped", [True, False])
def test_a_ramped_rate_rises_and_falls(monkeypatch, ramped):
    rates = []

    class Watched(Experiment):
        def step(self):
            rates.append((self.epoch / 5, self.learning_rate))
            return super().step()

    monkeypatch.setattr(study, "Experiment", Watched)
    measure_training(Case({}, knobs=KNOBS, epochs=5, ramped=ramped), marked_data(), 0.1, 0)
    done, used = np.array(rates).T
    wanted = 0.1 * np.interp(done, [0, 0.1, 1], [0, 1, 0]) if ramped else np.full(len(done), 0.1)
    np.testing.assert_allclose(used, wanted, atol=0.1 * 10 / study.STAIRS)
    assert len(used) == 38
    assert max(used) == (pytest.approx(0.1, rel=0.05) if ramped else 0.1)


def peak_at(best: float):
    return lambda rate: -abs(np.log(rate / best))


def test_best_rate_inside_the_grid():
    tuning = tuned_rate(peak_at(0.2), (0.1, 0.2, 0.4))
    assert (tuning.rate, tuning.at_edge) == (0.2, False)
    assert sorted(tuning.scores) == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(("best", "grown"), [(0.8, 1.6), (0.05, 0.025)])
def test_grid_grows_where_the_best_rate_is_at_its_edge(best, grown):
    tuning = tuned_rate(peak_at(best), (0.1, 0.2, 0.4))
    assert (tuning.rate, tuning.at_edge) == (best, False)
    assert grown in tuning.scores


def test_an_edge_that_stays_is_flagged():
    tuning = tuned_rate(peak_at(100.0), (0.1, 0.2), extensions=2)
    assert sorted(tuning.scores) == [0.1, 0.2, 0.4, 0.8]
    assert (tuning.rate, tuning.at_edge) == (0.8, True)
    assert max(tuned_rate(peak_at(100.0), (4.0, 8.0)).scores) <= 10.0


def test_a_diverged_run_counts_nothing(monkeypatch):
    class Diverging(Experiment):
        def step(self):
            if self.step_count == 3:
                raise DivergenceError("on purpose")
            return super().step()

    monkeypatch.setattr(study, "Experiment", Diverging)
    (row,) = measure_training(Case({}, knobs=KNOBS), marked_data(), 0.1, 0)
    assert (row["test_accuracy"], row["diverged"], row["updates"]) == (0.0, 1, 3)


def test_same_seed_same_rows():
    data, case = marked_data(), Case({}, knobs=KNOBS | {"device": "EpiRAM"})
    first = measure_training(case, data, 0.001, 3)
    assert first == measure_training(case, data, 0.001, 3)
    assert first[0]["pulses"] > 0


@pytest.mark.parametrize(
    ("knobs", "writes"),
    [
        ({"method": "sbpca", "rank": 2}, 2 + 2),
        ({"method": "sbpca", "rank": 5}, 5 + 3),  # clipped: the output layer is 3 x 7
        ({"method": "nmf", "rank": 2}, 2 * (2 + 2)),
        ({"method": "sbe"}, 1 + 1),
        ({"method": "sgd"}, 6 + 3),  # a sum, row by row
        ({"method": "sgd", "batch_size": 1, "block_size": 1}, 1 + 1),
    ],
)
def test_writes_of_one_update(knobs, writes):
    run = Experiment(dataset=marked_data(), **(KNOBS | knobs))
    assert study.writes_per_update(run) == writes


def test_data_is_whole_or_a_subset(tmp_path):
    whole, part = Data("digits").load(None), Data("digits", 100, 50).load(None)
    assert (len(whole.train_labels), len(whole.test_labels)) == (1347, 450)
    assert (len(part.train_labels), len(part.test_labels)) == (100, 50)
    with pytest.raises(FileNotFoundError):
        Data("mnist", 100).load(tmp_path)
