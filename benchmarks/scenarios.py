"""Train every scenario of the dashboard headless and print what its text speaks of.

python -m benchmarks.scenarios [--epochs N] [--only WORD]

One seed, as on the page: the figures are examples, not statistics.
"""

from __future__ import annotations

import argparse

import torch

from dashboards.scenarios.page import SCENARIOS
from toolkit.training import Experiment


def main() -> None:
    """Print test accuracy after 5, 10 and all epochs, and the pulses written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenarios")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", default="", help="scenarios with this word in their title")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for scenario in SCENARIOS:
        if options.only.lower() not in scenario.title.lower():
            continue
        print(scenario.title)
        for knobs in scenario.runs:
            run = Experiment(**knobs)
            for _ in run.steps(epochs=options.epochs):
                pass
            reached = 100 * run.record.evaluations[:, 2]
            at = ", ".join(f"{n}: {reached[n - 1]:.1f} %" for n in (5, 10) if n < len(reached))
            print(f"  {dict(knobs)}\n    {at}, end: {reached[-1]:.1f} %, {run.pulses:,} pulses")


if __name__ == "__main__":
    main()
