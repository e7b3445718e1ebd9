"""What one training step costs, measured part by part, fitted, and carried to large networks.

    python -m benchmarks.scaling --write docs/scaling.md --figures docs/figures

One thread, float32, under four minutes. A step is split into reads (forward and transposed, of an
array just written), the estimate (SBPCA) and the write (rank by rank). Each part is timed over
sizes, batches, ranks and kinds of cells and fitted to what its algorithm does, with coefficients
that cannot be negative, to the least relative error. Whole steps of networks that no fit has
seen, through LowRankSGD, check the sum. Times are of the thread's processor, the least of several.
--write renews the marked tables of the page, --figures the figure; the numbers are printed anyway.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from benchmarks.blocks import conditions, rewrite, table
from toolkit.crossbar import Array, Converter, Crossbar, DigitalArray, Periphery, get_device
from toolkit.lowrank import SBPCA, LowRank
from toolkit.training import LowRankSGD, crossbar_layers, to_crossbar
from toolkit.training.experiment.memory import peak_bytes

SIZES = ((128, 128), (256, 1024), (1024, 256), (512, 512), (1024, 1024), (2048, 1024))
BATCHES, RANKS, BLOCK = (16, 64, 256), (1, 4, 16), 32
DEVICES = ("ideal", "EpiRAM", "Ag:a-Si", "ReRamSB")
DENSITIES = (0.003, 0.03, 0.3)  # pulses a cell of one outer product, on average
TILE, NETWORK, WIDTH = 1024, 10**9, 8192
PLAN = {"batch": 256, "k": 4, "density": 0.01}
Terms = Mapping[str, float]


@dataclass(frozen=True)
class Fit:
    """Seconds as a sum of terms with coefficients; predicted over measured, case by case."""

    coefficients: dict[str, float]
    ratios: np.ndarray

    def seconds(self, terms: Terms) -> float:
        """What the fit says of a case."""
        return sum(self.coefficients[name] * amount for name, amount in terms.items())

    @property
    def residuals(self) -> tuple[float, float]:
        """Median and largest |predicted / measured - 1|."""
        off = np.abs(self.ratios - 1)
        return float(np.median(off)), float(off.max())


def fitted(cases: list[tuple[Terms, float]], known: Sequence[float] | None = None) -> Fit:
    """Non-negative least squares of the relative errors; ``known`` is explained already."""
    names = list(cases[0][0])
    seconds = np.array([measured for _, measured in cases])
    given = np.zeros(len(cases)) if known is None else np.array(known)
    matrix = np.array([[terms[name] for name in names] for terms, _ in cases])
    found, _ = nnls(matrix / seconds[:, None], 1.0 - given / seconds)
    return Fit(dict(zip(names, found, strict=True)), (given + matrix @ found) / seconds)


# ---------------------------------------------------------------- what the parts consist of


def read_terms(m: int, n: int, batch: int) -> Terms:
    """Two reads: products, a pass over the weights, a pass over the samples."""
    return {"1": 1, "B m n": batch * m * n, "m n": m * n, "B (m + n)": batch * (m + n)}


def estimate_terms(m: int, n: int, batch: int, k: int, block: int = BLOCK) -> Terms:
    """SBPCA: blocks, Gram-Schmidt in each, thin products."""
    blocks = math.ceil(batch / block)
    return {
        "blocks": blocks,
        "blocks k (m + n)": blocks * k * (m + n),
        "blocks k^2 (m + n)": blocks * k * k * (m + n),
        "B k (3m + 2n)": batch * k * (3 * m + 2 * n),
        "B (m + n)": batch * (m + n),
    }


def write_terms(m: int, n: int, k: int, density: float) -> Terms:
    """Write k outer products: going through the pairs, and moving cells, dearer if few.

    ``density``: pulses a cell of one outer product; 1 - exp(-density) of the cells move.
    """
    pairs, moved = k * m * n, 2 * k * m * n * -math.expm1(-density)
    return {
        "k": k,
        "k m n": pairs,
        "cells": moved,
        "sqrt(cells k m n)": math.sqrt(moved * pairs),
    }


def digital_terms(m: int, n: int, k: int, density: float = 0.0) -> Terms:  # noqa: ARG001
    """One product of thin matrices, added to the weights."""
    return {"1": 1, "m n": m * n, "k m n": k * m * n}


# ---------------------------------------------------------------- measuring


def least(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """The least processor time of several calls, in seconds; for about 0.1 s, 3 calls or more."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.1 and len(times) < 30):
        before()
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return min(times)


def array_of(device: str, m: int, n: int, **knobs: object) -> Array:
    """Random weights on cells of that kind, or on none."""
    weights = torch.randn(m, n, generator=torch.Generator().manual_seed(0)).mul_(0.1)
    if device == "digital":
        return DigitalArray.from_weights(weights)
    return Crossbar.from_weights(weights, device=get_device(device), seed=0, **knobs)


def update_of(m: int, n: int, k: int) -> LowRank:
    """Random factors of mean size 1."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(rows, k, generator=generator) for rows in (m, n))
    return LowRank(left, torch.ones(k), right)


def rate_for(device: str, density: float) -> float:
    """Learning rate at which :func:`update_of` asks a cell for so many pulses on average."""
    kind = get_device(device)
    levels = (kind.levels_up + kind.levels_down) / 2
    return density * 2.0 / levels / (2.0 / math.pi)  # E|u v| = 2/pi; w_max = 1


def measured_reads(device: str, **knobs: object) -> Iterator[tuple[Terms, float]]:
    """Forward and transposed reads, each time after a write."""
    for (m, n), batch in itertools.product(SIZES, BATCHES):
        array, update = array_of(device, m, n, **knobs), update_of(m, n, 1)
        inputs, errors = torch.rand(batch, n), torch.rand(batch, m)

        def reads(array: Array = array, x: Tensor = inputs, d: Tensor = errors) -> None:
            array.read(x)
            array.read_transposed(d)

        def write(array: Array = array, update: LowRank = update) -> None:
            array.apply(update, learning_rate=1e-5)

        yield read_terms(m, n, batch), least(reads, write)


def measured_estimates() -> Iterator[tuple[Terms, float]]:
    """Updates of SBPCA."""
    for (m, n), batch, k, block in itertools.product(SIZES, BATCHES, RANKS, (BLOCK, 256)):
        if block > batch > BLOCK or (block > BLOCK and batch < BLOCK):
            continue  # the same work as with a smaller block
        errors, activations = torch.randn(batch, m), torch.randn(batch, n)
        estimator = SBPCA(rank=k, block_size=block)
        seconds = least(lambda e=estimator, d=errors, a=activations: e.update(d, a))
        yield estimate_terms(m, n, batch, k, block), seconds


def measured_writes(device: str) -> Iterator[tuple[Terms, float]]:
    """Writes of rank 1 and 4, sparse and dense."""
    sizes, digital = ((128, 128), (512, 512), (512, 1024), (1024, 1024)), device == "digital"
    densities = DENSITIES[:1] if digital else DENSITIES
    for (m, n), k, density in itertools.product(sizes, (1, 4), densities):
        array, update = array_of(device, m, n), update_of(m, n, k)
        rate = 1e-5 if digital else rate_for(device, density)
        seconds = least(lambda a=array, u=update, r=rate: a.apply(u, learning_rate=r))
        yield (digital_terms if digital else write_terms)(m, n, k, density), seconds


@dataclass(frozen=True)
class Model:
    """The fits of all parts."""

    reads: dict[str, Fit]
    estimate: Fit
    writes: dict[str, Fit]

    def layer(self, device: str, m: int, n: int, batch: int, k: int, density: float) -> list[float]:
        """Seconds of reads, estimate and write of one array."""
        reads = self.reads["digital" if device == "digital" else "crossbar"]
        terms = (digital_terms if device == "digital" else write_terms)(m, n, k, density)
        return [
            reads.seconds(read_terms(m, n, batch)),
            self.estimate.seconds(estimate_terms(m, n, batch, k)),
            self.writes[device].seconds(terms),
        ]


def measured_model() -> Model:
    """Measure and fit everything."""
    converters = Periphery(dac=Converter(bits=8, bound=1.0), adc=Converter(bits=8, bound=10.0))
    return Model(
        reads={
            "digital": fitted(list(measured_reads("digital"))),
            "crossbar": fitted(list(measured_reads("EpiRAM"))),
            "crossbar, 8-bit converters": fitted(
                list(measured_reads("EpiRAM", periphery=converters))
            ),
        },
        estimate=fitted(list(measured_estimates())),
        writes={name: fitted(list(measured_writes(name))) for name in ("digital", *DEVICES)},
    )


# ---------------------------------------------------------------- whole steps, as a check


@dataclass(frozen=True)
class Step:
    """A step of three square layers: what was measured, what the fits of the parts say."""

    device: str
    width: int
    batch: int
    density: float
    measured: float
    parts: float

    @property
    def terms(self) -> Terms:
        """What a step has besides: the loop, autograd, activation functions, checks."""
        return {"layers": 3, "layers B (m + n)": 3 * self.batch * 2 * self.width}


def rest_of(model: Model, device: str) -> Fit:
    """What a step takes besides its parts, from networks on that device."""
    sizes = ((128, 16), (128, 128), (256, 64), (512, 32), (512, 128), (1024, 64))
    steps = [step_of(model, device, width, batch) for width, batch in sizes]
    return fitted([(s.terms, s.measured) for s in steps], [s.parts for s in steps])


def checked(model: Model) -> list[Step]:
    """Networks of sizes that no fit has seen."""
    cases = itertools.product(("digital", *DEVICES), ((192, 48), (384, 96), (768, 96)))
    return [step_of(model, device, width, batch) for device, (width, batch) in cases]


def step_of(model: Model, device: str, width: int, batch: int) -> Step:
    """Time one network's step through LowRankSGD, count its pulses and predict from both."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(width, width), nn.ReLU()]
    network = to_crossbar(nn.Sequential(*layers[:-1]), device=device, seed=0)
    optimizer = LowRankSGD(network, 0.1, rank=int(PLAN["k"]), block_size=BLOCK)
    inputs, labels = torch.rand(batch, width), torch.randint(0, width, (batch,))
    steps = [0]

    def step() -> None:
        steps[0] += 1
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()

    measured = least(step)
    parts, densities = 0.0, []
    for layer in crossbar_layers(network).values():
        (array,) = layer.arrays
        m, n = array.shape
        pulses = 0 if array.pulse_count is None else int(array.pulse_count.sum())
        densities.append(pulses / (2 * m * n * int(PLAN["k"]) * steps[0]))
        parts += sum(model.layer(device, m, n, batch, int(PLAN["k"]), densities[-1]))
    return Step(device, width, batch, float(np.mean(densities)), measured, parts)


# ---------------------------------------------------------------- memory


def held_bytes(thing: object) -> int:
    """Bytes of all tensors that an object holds, each storage once."""
    storages: dict[int, int] = {}
    seen: set[int] = set()

    def walk(part: object) -> None:
        if id(part) in seen:
            return
        seen.add(id(part))
        if isinstance(part, Tensor):
            storage = part.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(part, Mapping):
            for value in part.values():
                walk(value)
        elif isinstance(part, list | tuple):
            for value in part:
                walk(value)
        elif type(part).__module__.startswith("toolkit"):
            slots = getattr(type(part), "__slots__", ())
            walk([getattr(part, name) for name in slots if hasattr(part, name)])
            walk(getattr(part, "__dict__", {}))

    walk(thing)
    return sum(storages.values())


def memory(device: str, size: int = 512, batch: int = 64) -> list[float]:
    """Bytes a weight: held, and at most besides within a write and within reads."""
    array, update = array_of(device, size, size), update_of(size, size, 4)
    rate = 1e-5 if device == "digital" else rate_for(device, PLAN["density"])
    inputs = torch.rand(batch, size)
    array.apply(update, learning_rate=rate)
    array.read(inputs)
    held = held_bytes(array)
    write = peak_bytes(lambda: array.apply(update, learning_rate=rate))
    reads = peak_bytes(lambda: (array.read(inputs), array.read_transposed(inputs)))
    return [amount / size**2 for amount in (held, write, reads)]


# ---------------------------------------------------------------- many workers


def merge_fit() -> Fit:
    """Seconds to merge factors of total rank q: QRs of both sides, SVD of the core."""
    from toolkit.training.distributed import merge

    cases = []
    for size, q in itertools.product((512, 1024, 2048), (8, 32, 128, 256)):
        update = update_of(size, size, q)
        seconds = least(lambda u=update: merge([u], 4))
        cases.append(({"1": 1, "(m + n) q^2": 2 * size * q * q, "q^3": q**3}, seconds))
    return fitted(cases)


def sweep_overheads() -> dict[str, float]:
    """Seconds that a run costs the one scheduler and the one writer."""
    from distributed import Client, LocalCluster

    from toolkit.results.grid import GridStore

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as c,
        Client(c) as client,
    ):
        begun = time.process_time()
        client.gather([client.submit(int, i, pure=False) for i in range(500)])
        scheduling = (time.process_time() - begun) / 500
    names = ("test_loss", "test_accuracy", "loss", "accuracy", "steps", "samples_seen", "pulses")
    with tempfile.TemporaryDirectory() as folder:
        store = GridStore(
            Path(folder) / "sweep.zarr",
            axes={"rank": list(range(1, 11)), "seed": list(range(10))},
            labels={},
            epochs=10,
            attributes={"sweep": "overheads"},
        )
        begun = time.process_time()
        for index in itertools.product(range(10), range(10)):
            store.put(index, {name: np.zeros(10) for name in names})
        storing = (time.process_time() - begun) / 100
        files = sum(path.is_file() for path in store.path.rglob("*")) / 100
    return {"Dask's scheduler": scheduling, f"store ({files:.0f} files a run)": storing}


# ---------------------------------------------------------------- tables


def number(value: float) -> str:
    """Three digits at most, with thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def formula(fit: Fit) -> str:
    """The fit in nanoseconds, without the terms that are 0."""
    parts = [f"{number(1e9 * c)} {name}" for name, c in fit.coefficients.items() if c]
    return " + ".join(part.removesuffix(" 1") if part.endswith(" 1") else part for part in parts)


def fits_table(model: Model, rests: Mapping[str, Fit], merging: Fit) -> str:
    """Formulas and residuals."""
    fits = {f"reads, {name}": fit for name, fit in model.reads.items()}
    fits |= {"estimate, SBPCA": model.estimate}
    fits |= {f"write, {name}": fit for name, fit in model.writes.items()}
    fits |= {f"rest of a step, {name}": fit for name, fit in rests.items()}
    fits |= {"merge of factors of total rank q": merging}
    rows = [
        [name, formula(fit), str(len(fit.ratios)), *(f"{100 * off:.0f} %" for off in fit.residuals)]
        for name, fit in fits.items()
    ]
    return table(["part", "nanoseconds", "cases", "median error", "largest"], rows)


def whole(step: Step, rests: Mapping[str, Fit]) -> float:
    """Predicted seconds of a step: its parts and the rest."""
    rest = rests["digital" if step.device == "digital" else "crossbar"]
    return step.parts + rest.seconds(step.terms)


def steps_table(steps: list[Step], rests: Mapping[str, Fit]) -> str:
    """Whole steps."""
    rows = [
        [
            f"3 x {s.width} x {s.width}, batch {s.batch}",
            s.device,
            number(s.density),
            f"{1e3 * s.measured:.2f}",
            f"{1e3 * whole(s, rests):.2f}",
            f"{whole(s, rests) / s.measured:.2f}",
        ]
        for s in steps
    ]
    head = ["network", "cells", "pulses a cell and outer product"]
    return table([*head, "measured, ms", "predicted, ms", "ratio"], rows)


def memory_table(found: Mapping[str, list[float]]) -> str:
    """Bytes a weight."""
    rows = [
        [name, *(f"{amount:.1f}" for amount in amounts), f"{amounts[0] * NETWORK / 1e9:.0f} GB"]
        for name, amounts in found.items()
    ]
    head = ["cells", "held", "besides, in a write", "besides, in reads of 64"]
    return table([*head, "held by 10^9 weights"], rows)


def network_seconds(model: Model, rests: Mapping[str, Fit], device: str, batch: int) -> list[float]:
    """Reads, estimate, write and rest of a step of 10^9 weights in square layers on tiles."""
    k, density = int(PLAN["k"]), PLAN["density"]
    layers, tiles = NETWORK / WIDTH**2, (WIDTH // TILE) ** 2
    reads, _, write = model.layer(device, TILE, TILE, batch, k, density)
    estimate = model.estimate.seconds(estimate_terms(WIDTH, WIDTH, batch, k))
    rest = rests["digital" if device == "digital" else "crossbar"]
    others = rest.seconds({"layers": 1, "layers B (m + n)": batch * 2 * WIDTH})
    return [layers * part for part in (tiles * reads, estimate, tiles * write, others)]


def network_table(model: Model, rests: Mapping[str, Fit]) -> str:
    """The large network, simulated on one thread."""
    rows = []
    for device in ("digital", *DEVICES):
        parts = network_seconds(model, rests, device, int(PLAN["batch"]))
        rows.append(
            [
                device,
                *map(number, parts),
                number(sum(parts)),
                number(60_000 / PLAN["batch"] * sum(parts) / 3600),
            ]
        )
    head = ["cells", "reads, s", "estimate, s", "write, s", "rest, s", "step, s"]
    return table([*head, "60,000 samples, h"], rows)


def arrays_table() -> str:
    """What the arrays themselves take for a step: cells only, all tiles at once."""
    tiles, rows = NETWORK / TILE**2, []
    batch, k = int(PLAN["batch"]), int(PLAN["k"])
    for device in DEVICES:
        array = array_of(device, TILE, TILE)
        array.apply(update_of(TILE, TILE, k), learning_rate=rate_for(device, PLAN["density"]))
        written = array.cost()
        array.read(torch.rand(8, TILE))
        reads = array.cost()
        share = 2 * batch / 8  # forward, and about as much transposed
        rows.append(
            [
                device,
                number(1e3 * share * reads.read_time),
                number(1e3 * written.write_time),
                number(tiles * share * reads.read_energy),
                number(tiles * written.write_energy),
            ]
        )
    head = ["cells", "reads, ms", "write, ms", "reads, J", "write, J"]
    return table(head, rows)


def workers_table(merging: Fit) -> str:
    """Bytes that a worker sends in a step of the large network, and the time to merge."""
    k, layers = int(PLAN["k"]), NETWORK / WIDTH**2
    factors, whole = 4 * layers * k * 2 * WIDTH, 4 * NETWORK
    rows = []
    for count in (2, 8, 64, 1000):
        ring = 2 * (count - 1) / count
        q = min((count + 3) * k, WIDTH)
        merge_s = layers * merging.seconds({"1": 1, "(m + n) q^2": 2 * WIDTH * q * q, "q^3": q**3})
        sent = [ring * whole, ring * factors, (count - 1) * factors]
        rows.append([str(count), *(number(1e-6 * amount) for amount in sent), number(merge_s)])
    head = ["workers", "whole gradients, MB", "`sbpca_hook`, MB", "factors, MB"]
    return table([*head, "merging, s"], rows)


def sweeps_table(overheads: Mapping[str, float]) -> str:
    """At how many workers the one scheduler, the one writer is busy all the time."""
    rows = []
    for name, seconds in overheads.items():
        limits = [number(run / seconds) for run in (1, 10, 100)]
        rows.append([name, f"{1e3 * seconds:.2f}", *limits, number(1000 * seconds)])
    head = ["one place", "ms a run", "workers at runs of 1 s", "of 10 s", "of 100 s"]
    return table([*head, "shortest run for 1,000 workers, s"], rows)


# ---------------------------------------------------------------- the figure


def figure(model: Model, rests: Mapping[str, Fit], steps: list[Step], file: Path) -> None:
    """Predicted over measured, and the time of a step of the large network against its batch."""
    import holoviews as hv

    from benchmarks.lowrank_report import photograph

    hv.extension("bokeh", logo=False)
    style = {"width": 620, "height": 440, "show_grid": True, "fontsize": {"legend": 9}}
    ratios = {f"reads, {name}": fit.ratios for name, fit in model.reads.items()}
    ratios |= {"estimate": model.estimate.ratios}
    ratios |= {f"write, {name}": fit.ratios for name, fit in model.writes.items()}
    ratios |= {"whole steps (not fitted)": np.array([whole(s, rests) / s.measured for s in steps])}
    boxes = [(name, float(ratio)) for name, found in ratios.items() for ratio in found]
    spread = hv.BoxWhisker(boxes, "part", "predicted / measured").opts(
        invert_axes=True, title="Residuals of the fits", ylim=(0, 2), **style
    )
    batches = [2**i for i in range(4, 13)]
    lines = [
        hv.Curve(
            [(batch, sum(network_seconds(model, rests, device, batch))) for batch in batches],
            "batch (samples)",
            "seconds a step, one thread",
            label=device,
        )
        for device in ("digital", *DEVICES)
    ]
    growth = hv.Overlay(lines).opts(
        hv.opts.Curve(logx=True, logy=True, line_width=2, xticks=batches[::2]),
        hv.opts.Overlay(
            title=f"10^9 weights on tiles of {TILE}, rank {PLAN['k']} (extrapolated)",
            legend_position="top_left",
            **style,
        ),
    )
    photograph((spread + growth).opts(toolbar=None, shared_axes=False), file)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--write", type=Path, help="page whose tables to renew")
    parser.add_argument("--figures", type=Path, help="folder for the figure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before, begun = conditions(1), time.perf_counter()
    model, merging = measured_model(), merge_fit()
    rests = {"digital": rest_of(model, "digital"), "crossbar": rest_of(model, "EpiRAM")}
    steps = checked(model)
    blocks = {
        "scaling-fits": fits_table(model, rests, merging),
        "scaling-steps": steps_table(steps, rests),
        "scaling-memory": memory_table({name: memory(name) for name in ("digital", *DEVICES)}),
        "scaling-network": network_table(model, rests),
        "scaling-arrays": arrays_table(),
        "scaling-workers": workers_table(merging),
        "scaling-sweeps": sweeps_table(sweep_overheads()),
    }
    blocks["scaling-conditions"] = (
        f"Measured with {before} before and {os.getloadavg()[0]:.1f} after, "
        f"in {time.perf_counter() - begun:.0f} s."
    )
    for name, text in blocks.items():
        print(f"\n{name}\n\n{text}")
        if options.write:
            rewrite(options.write, name, text)
    if options.figures:
        figure(model, rests, steps, options.figures / "scaling.png")


if __name__ == "__main__":
    main()
