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
from typing import Any

import numpy as np
import torch

from toolkit.reproduce.study import Case, Data, accuracy, trained

FORMS: dict[str, tuple[float, dict[str, Any]]] = {
    "MBGD": (0.8, {"method": "sgd"}),
    "SBPCA": (0.4, {"method": "sbpca", "rank": 16}),
    "SBPCA, full core": (0.8, {"method": "sbpca", "rank": 16, "core": "full", "history": 4.0}),
    "FeedbackPCA": (0.8, {"method": "feedback", "rank": 16}),
}


def main() -> None:
    """Print the test accuracy of every run, then mean and standard deviation of every form."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolution_whole")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets' files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Data("cifar-10").load(options.data_dir)
    found: dict[str, list[float]] = {form: [] for form in options.forms}
    for seed in range(options.seeds):
        for form, reached in found.items():
            rate, knobs = FORMS[form]
            knobs = {"model": "vgg", "batch_size": 64, "block_size": 32, **knobs}
            case = Case({}, knobs=knobs, epochs=options.epochs, ramped=True)
            run, whole = trained(case, data, learning_rate=rate, seed=seed)
            reached.append(accuracy(run, whole=whole))
            print(f"{form}, seed {seed}: {reached[-1]:.2f} %", flush=True)
    for form, reached in found.items():
        spread = np.std(reached, ddof=1) if len(reached) > 1 else 0.0
        print(f"{form:20s} {np.mean(reached):6.2f} +- {spread:.2f}  ({len(reached)} seeds)")


if __name__ == "__main__":
    main()
