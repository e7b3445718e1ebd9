"""Writes and reads of a crossbar, timed against plain torch operations of the same size in one run.

Each row gives the median and the smallest wall time, the median processor time of all threads, and
the ratio of medians to the first row of its block:

- a write against drawing one uniform per cell with torch (the least any stochastic write needs);
- a read against the plain matrix product with weights of the same size.

A write goes through the cells once, all ranks in turn while a piece of them is in the cache. Pulses
wanted are worked out there from the factors, so that a rank passes over memory at most 8 times, if
it pulses all cells: four parameters of each, its state and its count of pulses, in and out. Rows
where less than a tenth of a pulse is wanted of any cell are gone through in jumps from pulse to
pulse. On a busy machine take ``--threads 1`` and read the smallest times.

    python benchmarks/crossbar_speed.py --threads 2
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from statistics import median

import torch

from toolkit.crossbar import Coincidence, Crossbar, get_device
from toolkit.fitting import EXAMPLE_CSV, fit_csv
from toolkit.lowrank import LowRank


def measure(jobs: dict[str, Callable[[], object]], rounds: int) -> None:
    """Time the jobs turn about; the first is the reference."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(rounds + 3):
        for name, job in jobs.items():
            wall, spent = time.perf_counter(), time.process_time()
            job()
            times[name].append((time.perf_counter() - wall, time.process_time() - spent))
    reference = None
    for name, every in times.items():
        walls, spent = zip(*every[3:], strict=True)
        middle = 1e3 * median(walls)
        reference = reference or middle
        print(
            f"  {name:44s} {middle:9.3f} ms  min {1e3 * min(walls):9.3f}  cpu"
            f" {1e3 * median(spent):9.3f}  ratio {middle / reference:7.2f}"
        )


def share_pulsed(array: Crossbar, update: LowRank, rate: float) -> float:
    """Share of the cells that one outer product of the update pulses."""
    before = array.pulse_count
    first = LowRank(update.left[:, :1], update.sigma[:1], update.right[:, :1])
    array.apply(first, learning_rate=rate)
    return float((array.pulse_count != before).float().mean())


def writes(size: int, rounds: int) -> None:
    """Rank-3 writes on noisy nonlinear devices, at four densities of pulses."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.empty(2, size, size)
    update = LowRank(torch.randn(size, 3) / size, torch.ones(3), torch.randn(size, 3))
    jobs = {"torch uniforms, one per cell": lambda: cells.uniform_(generator=generator)}
    devices = {name: get_device(name) for name in ("Ag:a-Si", "EcRam", "ReRamES")}
    devices["a jump table"] = fit_csv(EXAMPLE_CSV, model="jump-table").device
    for name, device in devices.items():
        for share in (0.002, 0.01, 0.05, 0.2):
            array = Crossbar.from_weights(0.1 * torch.randn(size, size), device=device)
            rate = share * size * 3.14 / array.device.levels_up
            text = f"{name}, rank 3, {share_pulsed(array, update, rate):.1%} pulsed per rank"
            jobs[text] = lambda a=array, r=rate: a.apply(update, learning_rate=r)
    print(f"write {size}x{size} pairs")
    measure(jobs, rounds)


def per_sample(size: int, rounds: int) -> None:
    """64 outer products through coincidence pulses, one cell and a reference per weight."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.empty(size, size)
    update = LowRank(0.1 * torch.randn(size, 64), torch.ones(64), torch.randn(size, 64))
    jobs = {"torch uniforms, one per cell": lambda: cells.uniform_(generator=generator)}
    devices = {name: get_device(name) for name in ("GokmenVlasov", "ReRamSB")}
    devices["GokmenVlasov without noise"] = dataclasses.replace(
        devices["GokmenVlasov"], step_noise=0.0
    )
    for name, device in devices.items():
        array = Crossbar.from_weights(
            0.1 * torch.randn(size, size),
            device=device,
            pair="reference",
            coding=Coincidence(),
        )
        jobs[f"{name}, batch 64 per-sample, lr 0.01"] = lambda a=array: a.apply(
            update, learning_rate=0.01
        )
    print(f"per-sample write {size}x{size}")
    measure(jobs, rounds)


def reads(size: int, rounds: int) -> None:
    """A noiseless read of a batch of 64."""
    weights, signal = 0.1 * torch.randn(size, size), torch.randn(64, size)
    array = Crossbar.from_weights(weights, device=get_device("Ag:a-Si"))
    print(f"read {size}x{size}, batch 64")
    measure(
        {
            "matrix product": lambda: signal @ weights.T,
            "noiseless read": lambda: array.read(signal),
        },
        20 * rounds,
    )


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    for size in (512, 1024):
        writes(size, options.rounds)
        reads(size, options.rounds)
    per_sample(512, max(3, options.rounds // 5))


if __name__ == "__main__":
    main()
