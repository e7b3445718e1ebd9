"""How large a streamed run is, how fast it opens, and what writing it costs the training.

    python -m benchmarks.streaming --data-dir FOLDER [--device EpiRAM] [--steps 10000]

A 784-256-10 network on MNIST, spectra and conductance maps every 100 steps. ``raw`` is what the
same values take uncompressed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from toolkit.results import open_results
from toolkit.training import Experiment, load_dataset


def main() -> None:
    """Train without and with a stream, and print a line for each way of storing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--device", default="EpiRAM")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f}; {options.device}, rate {options.learning_rate}")
    with tempfile.TemporaryDirectory() as folder:
        bare = train(options, None, None)
        print(f"not stored: {bare:.1f} s")
        for bits in (None, 15, 12):
            path = Path(folder) / f"{bits}.zarr"
            seconds = train(options, path, bits)
            report(path, bits, seconds / bare)


def train(options: argparse.Namespace, path: Path | None, bits: int | None) -> float:
    """Processor seconds of a run."""
    data = load_dataset("mnist", data_dir=options.data_dir)
    run = Experiment(
        dataset=data,
        hidden=[256],
        device=options.device,
        learning_rate=options.learning_rate,
        record_every=100,
    )
    started = time.process_time()
    if path is None:
        for _ in range(options.steps):
            run.step()
    else:
        with run.stream(path, conductance_bits=bits):
            for _ in range(options.steps):
                run.step()
    return time.process_time() - started


def report(path: Path, bits: int | None, ratio: float) -> None:
    """Size on disk, seconds to open, and processor time against a run that is not stored."""
    sizes = {file: file.stat().st_size for file in path.rglob("*") if file.is_file()}
    size = sum(sizes.values())
    maps = sum(each for file, each in sizes.items() if "conductance" in file.parts)
    started = time.perf_counter()
    tree = open_results(path)
    opened = time.perf_counter() - started
    raw = sum(v.nbytes for node in tree.subtree for v in node.variables.values())
    started = time.perf_counter()
    last = tree["layers/layer1/conductance"][-1].values
    one = time.perf_counter() - started
    kept = "all bits" if bits is None else f"{bits} bits of mantissa"
    print(
        f"{kept}: {size / 1e6:.1f} MB of {raw / 1e6:.0f} raw, {maps / 1e6:.1f} MB of them "
        f"conductances, {tree['training'].sizes['step']} "
        f"steps, opens in {opened:.2f} s, one map of {last.size} cells read in {one:.2f} s, "
        f"{ratio:.2f} x the processor time"
    )


if __name__ == "__main__":
    main()
