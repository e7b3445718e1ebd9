"""The whole of CIFAR-10: ``vgg`` by MBGD and by updates of rank 16, ten epochs.

    python -m benchmarks.convolution_whole --data-dir FOLDER [--seeds 3] [--forms MBGD FeedbackPCA]

Trains on all 50,000 samples in batches of 64, blocks of 32; the learning rate rises over the first
tenth of the run to the rate below, then falls to 0. Nothing is chosen by the test set: the rates
are those of claim C1, tuned on held-out samples; the full core's is MBGD's. A run takes some ten
minutes on one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from toolkit.reproduce.claims.accuracy import FULL_CORE, Task
from toolkit.reproduce.study import Data, accuracy, trained

RATES = {"MBGD": 0.8, "SBPCA": 0.4, FULL_CORE: 0.8, "FeedbackPCA": 0.8}
TASK = Task(
    "CIFAR-10 vgg",
    Data("cifar-10"),
    "vgg",
    hidden=1,  # of no use here
    epochs=10,
    batch_size=64,
    ranks=(16,),
    rates=(),
    ramped=True,
    forms=(FULL_CORE, "FeedbackPCA"),
)


def main() -> None:
    """Print the test accuracy of every run, then mean and standard deviation of every form."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolution_whole")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets' files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=RATES, default=list(RATES), metavar="FORM")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = TASK.data.load(options.data_dir)
    cases = {str(case.labels["method"]): case for case in TASK.cases()}
    found: dict[str, list[float]] = {form: [] for form in options.forms}
    for seed in range(options.seeds):
        for form, reached in found.items():
            run, whole = trained(cases[form], data, learning_rate=RATES[form], seed=seed)
            reached.append(accuracy(run, whole=whole))
            print(f"{form}, seed {seed}: {reached[-1]:.2f} %", flush=True)
    for form, reached in found.items():
        spread = np.std(reached, ddof=1) if len(reached) > 1 else 0.0
        print(f"{form:20s} {np.mean(reached):6.2f} +- {spread:.2f}  ({len(reached)} seeds)")


if __name__ == "__main__":
    main()
