"""Thousands of draws of whole settings and live changes, as tests/training/test_within_bounds.py.

    python -m benchmarks.within_bounds 1000 [--seed 0]

Every draw trains, is changed, saved, resumed and exported, or is refused in a sentence. The first
that is neither is made as small as it can be and raised.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import torch

from tests.training.test_within_bounds import SETTINGS, trained


def main() -> None:
    """Draw, and print how many trained and how many were refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("draws", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    counts: Counter[bool] = Counter()

    @hypothesis.seed(options.seed)
    @hypothesis.settings(
        max_examples=options.draws,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(**SETTINGS)
    def draw(first: dict[str, Any], change: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            counts[trained(Path(folder), first, change)] += 1

    begun = time.perf_counter()
    draw()
    seconds = time.perf_counter() - begun
    print(f"{counts[True]} trained, {counts[False]} refused in a sentence, {seconds:.0f} s")


if __name__ == "__main__":
    main()
