"""When should FeedbackPCA write? Every batch, or less often but more at once.

    python -m benchmarks.feedback_writing [--device NAME] [--seeds N]

Digits, 64-128-10, batch 64, 20 epochs. Between two writes the memory only gathers. "k" writes k
outer products each time, so every p-th batch writes p times less; "p k" writes p k of them, so that
as many are written in all. The rate of each case is the best of those given on held-out training
samples.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import torch
from torch import Tensor

from benchmarks.estimators import TUNING_SEED, Outcome, Task, digits, train_with
from toolkit.crossbar import device_names
from toolkit.lowrank import Estimator, FeedbackPCA, LowRank


class Sparing(FeedbackPCA):
    """FeedbackPCA that writes ``rank`` outer products on every ``every``-th batch only."""

    def __init__(self, *, rank: int, memory_rank: int, every: int, seed: int) -> None:
        super().__init__(rank=rank, memory_rank=memory_rank, seed=seed)
        self.every, self._batches = every, 0

    def _estimate(self, errors: Tensor, activations: Tensor, nonzero: bool) -> LowRank:
        self._batches += 1
        if self._batches % self.every == 0:
            return super()._estimate(errors, activations, nonzero)
        left, sigma, right = self._directions(errors, activations)
        r, q = sigma.shape[0], self._worked(left.shape[1], right.shape[1])
        if nonzero:
            left, sigma, right = self._merged(left, sigma, right, errors, activations, r, q)
        self._keep(left[:r], sigma[:r], right[:r])
        return LowRank(left[:1].T, 0 * sigma[:1], right[:1].T)


def train(task: Task, rank: int, memory: int, every: int, rate: float, seed: int) -> Outcome:
    """Train once."""

    def make(shapes: list[tuple[int, int]]) -> list[Estimator]:
        return [
            Sparing(rank=min(rank, *shape), memory_rank=memory, every=every, seed=10 * seed + i)
            for i, shape in enumerate(shapes)
        ]

    return train_with(task, make, rate, seed, watch=False)


def main() -> None:
    """Run every case and print one line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback_writing")
    parser.add_argument("--device", choices=device_names(), help="train on crossbars of it")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.1, 0.2, 0.4, 0.8])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = dataclasses.replace(digits(), device=options.device)
    for k, memory in ((1, 8), (4, 12)):
        for every in (1, 2, 4, 8):
            for rank, name in ((k, "k"), (k * every, "p k"))[: 1 if every == 1 else 2]:
                case = (rank, max(memory, rank), every)
                held = {
                    rate: train(task.for_tuning(), *case, rate, TUNING_SEED).accuracy
                    for rate in options.rates
                }
                rate = max(held, key=lambda value: np.nan_to_num(held[value]))
                runs = [train(task, *case, rate, seed) for seed in range(options.seeds)]
                accuracy = [run.accuracy for run in runs]
                print(
                    f"k {k}  every {every}  writes {name:3s}  memory {case[1]:2d}  rate {rate:5.3g}"
                    f"  {np.mean(accuracy):5.2f} ± {np.std(accuracy, ddof=1):4.2f} %"
                    f"  {np.mean([run.pulses for run in runs]) / 1e6:5.2f} Mpulses",
                    flush=True,
                )


if __name__ == "__main__":
    main()
