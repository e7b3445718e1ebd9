"""What workers buy a sweep, and what a run costs beside its training.

    OMP_NUM_THREADS=1 python -m benchmarks.sweeps [--epochs 40]

A sweep of 32 runs by one worker and by two, workers already there (a cluster takes seconds to
start, whatever is run), in turns so that what else the machine does meets both alike; the results
have to be the same bits. Then 64 runs of one short epoch: the time a run takes through Dask and
into the store, less what the same run takes by itself in a process that has done one before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import xarray as xr
from distributed import Client, LocalCluster

from toolkit.training import sweep
from toolkit.training.experiment.sweep import plan_of, run_one

GRID = {"method": ["sbpca", "svd"], "rank": [1, 2, 4, 8], "hidden": [32]}
SHORT = {"hidden": [4], "batch_size": 1024, "dataset": "digits"}


def main() -> None:
    """Print the two figures and the bars of the project beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} processors")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    results = {}
    for _ in range(options.rounds):
        for workers, times in seconds.items():
            taken, results[workers] = timed(workers, GRID, seeds=4, epochs=options.epochs)
            times.append(taken)
    xr.testing.assert_identical(results[1].drop_attrs(), results[2].drop_attrs())
    one, two = (statistics.median(times) for times in seconds.values())
    print(f"32 runs: 1 worker {one:.1f} s, 2 workers {two:.1f} s, {two / one:.2f} x (bar 0.6)")
    print(f"overhead of a run: {1000 * overhead():.1f} ms (bar 50)")


def timed(workers: int, grid: dict[str, object], **size: int) -> tuple[float, xr.Dataset]:
    """Seconds of a sweep on a cluster that has imported everything, and its results."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        client.run(run_one, SHORT, 1)
        started = time.perf_counter()
        found = sweep(
            grid,
            out=Path(folder) / "sweep.zarr",
            scheduler=cluster.scheduler_address,
            progress=False,
            **size,
        )
        return time.perf_counter() - started, found


def overhead(runs: int = 64) -> float:
    """Seconds of a run in a sweep beyond what it takes by itself, on one worker."""
    knobs = [knobs for _, knobs in plan_of(SHORT, seeds=runs).runs()]
    run_one(knobs[0], 1)
    started = time.perf_counter()
    for one in knobs:
        run_one(one, 1)
    alone = time.perf_counter() - started
    swept, _ = timed(1, SHORT, seeds=runs, epochs=1)
    return (swept - alone) / runs


if __name__ == "__main__":
    main()
