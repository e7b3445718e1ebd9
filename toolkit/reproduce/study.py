"""How a case is measured: tune the learning rate on held-out training samples, then train.

What the cases are and what their numbers mean is said by the claims.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from toolkit.crossbar import Device
from toolkit.lowrank import estimator_knobs, make_estimator
from toolkit.training import Dataset, DivergenceError, Experiment, load_dataset
from toolkit.training.experiment.physics import device_text

TUNING_SEED = 1000
HELD_OUT = 1 / 6
LARGEST_RATE = 10.0
EXTENSIONS = 2
RISE = 0.1  # share of a run in which a ramped learning rate rises
STAIRS = 200  # in which it rises and falls

Row = dict[str, Any]
Labels = dict[str, str | int]


@dataclass(frozen=True)
class Data:
    """A data set by name, whole or a stratified subset of it."""

    name: str
    train: int | None = None
    test: int | None = None

    def load(self, data_dir: str | os.PathLike[str] | None) -> Dataset:
        """Read it. FileNotFoundError if its files are missing."""
        whole = load_dataset(self.name, data_dir=data_dir)
        if self.train is None:
            return whole
        return whole.subset(self.train, self.test or len(whole.test_labels), seed=0)


@dataclass(frozen=True)
class Case:
    """One point of a study: its place in the results, and what is trained there.

    ``rates`` are the learning rates to choose from; the grid grows by factors of 2 while its best
    rate lies at an edge, at most ``EXTENSIONS`` times. A single rate
    is taken as it is. Without ``rates`` and ``data`` the claim measures no training. With
    ``ramped`` the rate is the greatest of the run, see :func:`ramp`. A rate is scored by the mean
    of as many ``trials``, each with a seed of its own.
    """

    labels: Labels
    data: Data | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    epochs: int = 1
    rates: tuple[float, ...] = ()
    seeds: int = 3
    trials: int = 1
    ramped: bool = False

    def settings(self) -> dict[str, Any]:
        """Everything that the result depends on, as plain values."""
        knobs = {k: device_text(v) if isinstance(v, Device) else v for k, v in self.knobs.items()}
        return asdict(replace(self, knobs=knobs))


Measure = Callable[[Case, Dataset | None, float, int], list[Row]]


@dataclass(frozen=True)
class Tuning:
    """The chosen rate, and the score on held-out samples of every rate tried."""

    rate: float
    scores: dict[float, float]

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the least or the greatest tried: a better one may lie beyond."""
        return self.rate in (min(self.scores), max(self.scores))


def tuned_rate(
    score: Callable[[float], float], rates: Sequence[float], *, extensions: int = EXTENSIONS
) -> Tuning:
    """The rate of highest score; the grid is extended while the best one lies at its edge."""
    scores = {rate: score(rate) for rate in sorted(rates)}
    for _ in range(extensions):
        best = max(scores, key=lambda rate: scores[rate])
        further = 2 * best if best == max(scores) else best / 2
        if best not in (min(scores), max(scores)) or further > LARGEST_RATE:
            break
        scores[further] = score(further)
    return Tuning(max(scores, key=lambda rate: scores[rate]), scores)


def measure_case(case: Case, *, data: Dataset | None, measure: Measure) -> list[Row]:
    """Tune, then measure once for each seed; flat rows for :func:`~.results.to_dataset`."""
    started = time.process_time()
    rows: list[Row] = []
    rate = math.nan
    if len(case.rates) == 1:
        rate = case.rates[0]
        rows.append({**case.labels, "learning_rate": rate, "rate_at_edge": 0})
    elif case.rates and data is not None:
        tuning = _tune(case, data)
        rate = tuning.rate
        rows += [
            {**case.labels, "trial_rate": tried, "validation_accuracy": score}
            for tried, score in tuning.scores.items()
        ]
        rows.append({**case.labels, "learning_rate": rate, "rate_at_edge": int(tuning.at_edge)})
    for seed in range(case.seeds):
        rows += [
            {**case.labels, "seed": seed, **found} for found in measure(case, data, rate, seed)
        ]
    return [*rows, {**case.labels, "cpu_seconds": time.process_time() - started}]


def load_and_measure(
    case: Case,
    measure: Measure,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
) -> list[Row]:
    """Measure a case with its data; FileNotFoundError if they are missing.

    ``threads`` is for a process of its own, such as a worker: so many torch threads.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    data = case.data.load(data_dir) if case.data else None
    return measure_case(case, data=data, measure=measure)


def _tune(case: Case, data: Dataset) -> Tuning:
    """Train on five sixths of the training samples, score on the rest."""
    part = data.split(HELD_OUT, seed=TUNING_SEED)

    def score(rate: float) -> float:
        seeds = range(TUNING_SEED, TUNING_SEED + case.trials)
        runs = (trained(case, part, learning_rate=rate, seed=seed) for seed in seeds)
        return sum(accuracy(run, whole=whole) for run, whole in runs) / case.trials

    return tuned_rate(score, case.rates)


def trained(
    case: Case, data: Dataset, *, learning_rate: float, seed: int, record_every: int = 100_000
) -> tuple[Experiment, bool]:
    """Train, and say whether the run came to its end: False where it diverged."""
    run = Experiment(
        dataset=data,
        learning_rate=learning_rate * (ramp(0.0) if case.ramped else 1.0),
        seed=seed,
        record_every=record_every,
        **case.knobs,
    )
    try:
        for _ in run.steps(epochs=case.epochs):
            if case.ramped and run.epoch < case.epochs:
                _set_rate(run, learning_rate * ramp(run.epoch / case.epochs))
    except DivergenceError:
        return run, False
    return run, True


def ramp(done: float) -> float:
    """The learning rate over its greatest value when that share of a run is done, in [0, 1).

    It rises linearly from 0 over the first tenth and falls linearly to 0 over the rest.
    """
    middle = (math.floor(STAIRS * done) + 0.5) / STAIRS
    return min(middle / RISE, (1 - middle) / (1 - RISE))


def _set_rate(run: Experiment, rate: float) -> None:
    if rate != run.learning_rate:
        run.learning_rate = rate


def accuracy(run: Experiment, *, whole: bool) -> float:
    """Percent of the test part at the end; a run that diverged counts 0."""
    return 100 * (float(run.record.evaluations[-1, 2]) if whole else 0.0)


def measure_training(case: Case, data: Dataset | None, rate: float, seed: int) -> list[Row]:
    """Train once: test accuracy at the end, and what was written until then."""
    assert data is not None
    run, whole = trained(case, data, learning_rate=rate, seed=seed)
    return [
        {
            "test_accuracy": accuracy(run, whole=whole),
            "diverged": int(not whole),
            "updates": run.step_count,
            "array_writes": run.step_count * writes_per_update(run),
            **pulses_of(run),
        }
    ]


def pulses_of(run: Experiment) -> dict[str, float]:
    """Pulses in all and of the cell that got most; nothing if none were issued."""
    counts = [each for array in run.arrays.values() if (each := array.pulse_count) is not None]
    if not run.pulses:
        return {}
    worst = max((float(count.max()) for count in counts), default=0.0)
    return {"pulses": float(run.pulses), "worst_cell_pulses": worst}


def writes_per_update(run: Experiment) -> int:
    """Array operations that one update takes, over all arrays.

    An outer product is one write of an array: k of them for a rank-k update, 2 k for NMF, one for
    SGD's single sample. A sum over a batch is no outer product and is written row by row: m writes
    of an (m, n) array.
    """
    if run.method == "sgd" and run.batch_size > 1:
        return sum(array.shape[0] for array in run.arrays.values())
    has_rank = "rank" in estimator_knobs(run.method)
    writes = 0
    for name in run.arrays:
        knobs = {"rank": run.layer_rank(name)} if has_rank else {}
        writes += make_estimator(run.method, **knobs).written_rank(run.batch_size)
    return writes
