"""Train every scenario of the dashboard and write the numbers that its text names.

python -m benchmarks.scenarios [--only WORD] [--seeds N] [--write]

Prints means over seeds, with the deviation between them, after 5, 10 and 20 epochs. With
``--write`` they go to ``dashboards/scenarios/measured.json``, from which the page takes them.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch

from dashboards.scenarios.page import EPOCHS, MEASURED, SCENARIOS
from toolkit.training import Experiment


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenarios")
    parser.add_argument("--only", default="", help="scenarios with this word in their title")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(MEASURED.read_text("utf-8")) if MEASURED.exists() else {}
    for scenario in SCENARIOS:
        if options.only.lower() not in scenario.title.lower():
            continue
        print(scenario.title)
        found[scenario.title] = []
        for knobs in scenario.runs:
            runs = [_measured(dict(knobs), seed) for seed in range(options.seeds)]
            means = {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}
            spread = {key: statistics.pstdev(run[key] for run in runs) for key in runs[0]}
            print(f"  {dict(knobs)}")
            print("    " + ", ".join(f"{k}: {means[k]:.4g} ± {spread[k]:.2g}" for k in means))
            found[scenario.title].append({key: round(value, 4) for key, value in means.items()})
        if options.write:
            titles = [one.title for one in SCENARIOS]
            kept = {title: found[title] for title in titles if title in found}
            MEASURED.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def _measured(knobs: dict[str, object], seed: int) -> dict[str, float]:
    """Test accuracy (fraction) after so many epochs, and pulses and outer products at the end."""
    run = Experiment(**knobs, seed=seed)
    products = 0
    for record in run.steps(epochs=int(EPOCHS[-1])):
        products += run.outer_products(record.batch_size)[0]
    reached = run.record.evaluations[:, 2]
    after = {epochs: float(reached[int(epochs) - 1]) for epochs in EPOCHS}
    return after | {"pulses": float(run.pulses), "products": float(products)}


if __name__ == "__main__":
    main()
