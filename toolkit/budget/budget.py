"""What a batch of training costs a chip, layer by layer: memory, traffic, writes, energy, time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, nn

from toolkit.budget.activity import Activity, estimated
from toolkit.budget.layers import Layer, layers_of, read_layers
from toolkit.budget.prices import PRICES, Prices, price, read_prices
from toolkit.checks import check_choice, check_count, check_instance, check_pair, check_real, shown
from toolkit.crossbar import Device
from toolkit.lowrank import estimator_knobs, estimator_names, make_estimator

#: Ways to train without factors: one write a sample; a gradient summed in an m x n memory and
#: written row by row; the same memory kept from batch to batch, written where a pulse is due.
DENSE = ("per-sample", "accumulator", "mixed-precision")
#: Where the energy and the time of a batch go.
PARTS = ("reads", "converters", "estimate", "memory", "writes")
MEMORIES = ("sram", "sram-large", "dram")
_MOST = 2**63  # what a file's whole numbers hold
_PRICE_OF = {"sram": "sram_energy", "sram-large": "sram_energy_large", "dram": "dram_energy"}


@dataclass(frozen=True)
class Chip:
    """Arrays and what stands beside them.

    Parameters
    ----------
    device
        The kind of cell; two per weight.
    array_size
        Rows and columns of an array, in weights. Larger layers take several.
    adc_bits, adcs
        Resolution of a converter; converters of an array.
    word_bits
        Of the numbers of the estimate: 8, 16 or 32.
    memory
        Where its numbers are: "sram" (32 KB), "sram-large" (1 MB) or "dram".
    macs_per_second
        Multiply-accumulates of a layer's digital unit.
    endurance
        Pulses that a cell endures; None: the device's, where 0 stands for no limit.

    Raises
    ------
    TypeError, ValueError
        If a value is not allowed; it is named.
    """

    device: Device
    array_size: tuple[int, int] = (256, 256)
    adc_bits: int = 8
    adcs: int = 8
    word_bits: int = 32
    memory: str = "sram"
    macs_per_second: float = 64e9
    endurance: float | None = None

    def __post_init__(self) -> None:
        check_instance("device", self.device, Device, "a Device, as get_device gives")
        self.device.check_pulsed()
        check_pair("array_size", self.array_size)
        check_count("adc_bits", self.adc_bits, 1, 16)
        check_count("adcs", self.adcs)
        if self.word_bits not in (8, 16, 32):
            raise ValueError(f"word_bits must be 8, 16 or 32; got {self.word_bits!r}")
        check_choice("memory", self.memory, MEMORIES)
        check_real("macs_per_second", self.macs_per_second, above=0.0)
        if self.endurance is not None:
            check_real("endurance", self.endurance, 0.0)

    @property
    def lifetime(self) -> float:
        """Pulses that a cell endures; infinite without a limit."""
        return (self.device.endurance if self.endurance is None else self.endurance) or math.inf


def budget_methods() -> tuple[str, ...]:
    """Ways to train: the estimators' names, and ``DENSE``; per-sample and accumulator are sgd."""
    return (*(name for name in estimator_names() if name != "sgd"), *DENSE)


def budget(
    network: nn.Module | Iterable[Layer | Mapping[str, Any]],
    chip: Chip,
    *,
    example: Tensor | Sequence[int] | None = None,
    method: str = "sbpca",
    rank: int | Mapping[str, int] = 4,
    batch_size: int = 64,
    block_size: int = 8,
    samples: int = 1_000_000,
    activity: Mapping[str, Activity] | None = None,
    prices: Prices | None = None,
) -> xr.Dataset:
    r"""First-order budget of training a network in crossbars. No layout, no routing, no control.

    A batch of B network inputs makes :math:`S = B p` samples of a layer (p positions). An m x n
    layer is read S times and, except for the first layer, S times transposed; its estimate is
    written as k outer products (S per sample, m rows from an m x n memory).

    - ``words_kept``, ``words_buffered``, ``macs``: as the estimators say
      (:meth:`~toolkit.lowrank.Estimator.words` and so on).
    - ``edge_words``: numbers that cross the edge of the arrays for reads, transposed reads, writes.
    - ``pulses``: :math:`2 m n` times the pulses per cell of the activity; ``phases``: at most two
      of SET and two of RESET per outer product; one of each per row from an m x n memory.
    - energy of ``reads``: :math:`V^2 t\,\langle x^2\rangle\,2 m n\,G` a read; of ``writes``:
      :math:`V^2 t\,G` a pulse, half up and half down; of ``converters``: :math:`2^b` steps for each
      output of each array; of ``estimate``: a price per multiply-accumulate; of ``memory``: kept
      words are read and written once a block (once a sample by methods without), a sample's m + n
      words written once and read twice.
    - time: reads and conversions one after another, arrays at once, ``adcs`` outputs at a time;
      the estimate at ``macs_per_second``; DRAM by its bandwidth, SRAM within the estimate; phases
      times slots times the mean pulse width.
    - ``trainings``: runs of ``samples`` network inputs until the busiest cell is worn out.

    Parameters
    ----------
    network
        A torch model, with ``example``, or layers; see :func:`layers_of` and :func:`read_layers`.
    chip
        Arrays and periphery.
    example
        The shape of one input of a model, or a batch of one.
    method
        One of :func:`budget_methods`.
    rank
        Outer products per batch: one number, or by layer name. At most min(m, n) of a layer.
    batch_size, block_size
        Network inputs per batch and per block. LRT merges sample by sample, as its paper does.
    samples
        Network inputs of a whole training.
    activity
        By layer name, what :func:`measured` found in a run by this method. Layers without it are
        estimated.
    prices
        From :func:`read_prices`; by default the package's.

    Returns
    -------
    xarray.Dataset
        Variables over ``layer``; ``energy`` (joules) and ``time`` (seconds) over ``layer``,
        ``part`` and ``price`` (low, typical, high of the published numbers).
        ``is_measured`` says of which layers the activity was measured.

    Raises
    ------
    TypeError, ValueError
        If something is not allowed; the layer or argument is named.
    """
    check_instance("chip", chip, Chip, "a Chip")
    check_choice("method", method, budget_methods())
    for name, count in (
        ("batch_size", batch_size),
        ("block_size", block_size),
        ("samples", samples),
    ):
        check_count(name, count)
    layers = _layers(network, example)
    ranks = _ranks(rank, layers)
    activity = {} if activity is None else dict(activity)
    for name in activity:
        check_choice("activity", name, [layer.name for layer in layers])
        check_instance(f"activity of {name!r}", activity[name], Activity, "an Activity")
    prices = read_prices() if prices is None else prices
    rows = []
    for i, layer in enumerate(layers):
        plan = _plan(method, layer, ranks[layer.name], batch_size, block_size)
        does = activity.get(layer.name) or estimated(plan.products)
        row = _row(layer, plan, chip, does, prices, transposed=i > 0)
        for name, value in row.items():
            if isinstance(value, int) and value >= _MOST:
                raise ValueError(
                    f"{name} of layer {layer.name!r} must be below 2^63; got {value:.3g}"
                )
        rows.append(row)
    return _dataset(layers, rows, batch_size, samples, chip, method, rank, block_size)


def compare(
    network: nn.Module | Iterable[Layer | Mapping[str, Any]],
    chip: Chip,
    *,
    methods: Sequence[str] = ("sbpca", "lrt", "feedback", *DENSE),
    **arguments: Any,
) -> xr.Dataset:
    """Budgets of several methods, over ``algorithm``; arguments as for :func:`budget`.

    ``activity`` is by method, then by layer: each method writes in its own way.
    ``.sel(method=...)`` is xarray's own argument, hence another name for the dimension.
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        allowed = ", ".join(budget_methods())
        raise ValueError(f"methods must be a list of some of {allowed}; got {shown(methods)}")
    for place, method in enumerate(methods):
        if method in methods[:place]:
            raise ValueError(f"methods must have each method once; got {shown(method)} twice")
    layers = _layers(network, arguments.pop("example", None))
    if arguments.get("prices") is None:
        arguments["prices"] = read_prices()  # once
    activity = arguments.pop("activity", None) or {}
    for method in activity:
        check_choice("activity", method, methods)
    found = [
        budget(layers, chip, method=method, activity=activity.get(method), **arguments)
        for method in methods
    ]
    joined: xr.Dataset = xr.concat(
        found, xr.IndexVariable("algorithm", list(methods)), combine_attrs="drop_conflicts"
    )
    return joined


@dataclass(frozen=True)
class _Plan:
    """A method on a layer: numbers held, arithmetic, and what is written."""

    samples: int
    kept: int
    buffered: int
    macs: int
    products: int  # outer products
    phases: int
    written_words: int  # that cross the edge for the writes
    touched: int  # words of memory read or written in a batch


def _plan(method: str, layer: Layer, rank: int, batch_size: int, block_size: int) -> _Plan:
    m, n, samples = layer.outputs, layer.inputs, batch_size * layer.positions
    blocks = -(-batch_size // block_size)
    passing = 3 * samples * (m + n)  # each sample is written once and read twice
    if method == "per-sample":
        return _Plan(samples, 0, m + n, 0, samples, 4 * samples, samples * (m + n), 0)
    if method in DENSE:
        kept, buffered = (m * n, 0) if method == "mixed-precision" else (0, m * n)
        words = m * n + (m + n if method == "mixed-precision" else 0)
        touched = passing + 2 * m * n * blocks
        return _Plan(samples, kept, buffered + m + n, samples * m * n, 1, 2 * m, words, touched)
    knobs = estimator_knobs(method)
    block = 1 if method == "lrt" else min(block_size, batch_size) * layer.positions
    wanted = {"rank": rank, "block_size": block}
    estimator = make_estimator(method, **{k: v for k, v in wanted.items() if k in knobs})
    if block == 1 or "block_size" not in knobs:
        blocks = samples
    kept = estimator.words(m, n)
    products = estimator.written_rank(samples)
    return _Plan(
        samples=samples,
        kept=kept,
        buffered=estimator.buffer_words(m, n, samples),
        macs=estimator.macs(m, n, samples),
        products=products,
        phases=4 * products,
        written_words=products * (m + n + 1),
        touched=passing + 2 * kept * blocks,
    )


def _row(
    layer: Layer,
    plan: _Plan,
    chip: Chip,
    does: Activity,
    prices: Prices,
    *,
    transposed: bool,
) -> dict[str, Any]:
    m, n, device = layer.outputs, layer.inputs, chip.device
    down, across = -(-m // chip.array_size[0]), -(-n // chip.array_size[1])
    reads, conversions = plan.samples, plan.samples * m * across
    converting = -(-min(m, chip.array_size[0]) // chip.adcs) * plan.samples
    edge = plan.samples * (m + n) + plan.written_words
    if transposed:
        reads += plan.samples
        conversions += plan.samples * n * down
        converting += -(-min(n, chip.array_size[1]) // chip.adcs) * plan.samples
        edge += plan.samples * (m + n)
    middle = (device.g_min + device.g_max) / 2
    conductance = middle if does.conductance is None else does.conductance
    pulses = 2 * m * n * does.pulses
    phases = plan.phases if does.phases is None else does.phases
    pulse = (device.v_up**2 * device.width_up + device.v_down**2 * device.width_down) / 2
    width = (device.width_up + device.width_down) / 2
    read = device.v_read**2 * device.width_read * does.power * 2 * m * n * conductance
    energy = [
        np.full(3, reads * read),
        conversions * 2**chip.adc_bits * price(prices, "adc_energy"),
        plan.macs * price(prices, f"mac_energy_{chip.word_bits}"),
        plan.touched * price(prices, _PRICE_OF[chip.memory]) * (chip.word_bits / 32),
        np.full(3, pulses * pulse * conductance),
    ]
    streamed = price(prices, "dram_time") * (chip.word_bits / 32) if chip.memory == "dram" else 0.0
    time = [
        np.full(3, reads * device.width_read),
        converting * price(prices, "adc_time"),
        np.full(3, plan.macs / chip.macs_per_second),
        np.full(3, 1.0) * plan.touched * streamed,
        np.full(3, phases * does.slots * width),
    ]
    return {
        "outputs": m,
        "inputs": n,
        "positions": layer.positions,
        "cells": 2 * m * n,
        "arrays": down * across,
        "words_kept": plan.kept,
        "words_buffered": plan.buffered,
        "macs": plan.macs,
        "edge_words": edge,
        "outer_products": plan.products,
        "phases": phases,
        "pulses": pulses,
        "pulses_per_cell": does.pulses,
        "busiest_cell": does.pulses * does.busiest,
        "is_measured": does.is_measured,
        "energy": np.stack(energy),
        "time": np.stack(time),
    }


_UNITS = {"energy": "J", "time": "s"}


def _dataset(
    layers: list[Layer],
    rows: list[dict[str, Any]],
    batch_size: int,
    samples: int,
    chip: Chip,
    method: str,
    rank: int | Mapping[str, int],
    block_size: int,
) -> xr.Dataset:
    data = xr.Dataset(
        {
            name: (
                ("layer", "part", "price") if name in _UNITS else ("layer",),
                np.stack([np.asarray(row[name]) for row in rows]),
                {"units": _UNITS.get(name, "1")},
            )
            for name in rows[0]
        },
        coords={
            "layer": [layer.name for layer in layers],
            "part": list(PARTS),
            "price": list(PRICES),
        },
    )
    batches = -(-samples // batch_size)
    with np.errstate(divide="ignore"):
        data["trainings"] = chip.lifetime / (data["busiest_cell"] * batches)
    data.attrs = {
        "method": method,
        "rank": rank if isinstance(rank, int) else ", ".join(f"{k}: {v}" for k, v in rank.items()),
        "batch_size": batch_size,
        "block_size": block_size,
        "samples": samples,
        "device": chip.device.name,
        "array_size": list(chip.array_size),
        "adc_bits": chip.adc_bits,
        "adcs": chip.adcs,
        "word_bits": chip.word_bits,
        "memory": chip.memory,
        "macs_per_second": chip.macs_per_second,
    }
    return data


def _layers(
    network: nn.Module | Iterable[Layer | Mapping[str, Any]],
    example: Tensor | Sequence[int] | None,
) -> list[Layer]:
    if isinstance(network, nn.Module):
        if example is None:
            raise TypeError("example must be the shape of one input, for a model; got None")
        return layers_of(network, example)
    if example is not None:
        raise TypeError("example must be left out where the network is layers")
    return read_layers(network)


def _ranks(rank: int | Mapping[str, int], layers: list[Layer]) -> dict[str, int]:
    names = [layer.name for layer in layers]
    if not isinstance(rank, Mapping):
        rank = dict.fromkeys(names, check_count("rank", rank))
    for name, value in rank.items():
        check_choice("rank", name, names)
        check_count(f"rank of layer {name!r}", value)
    if missing := [name for name in names if name not in rank]:
        raise ValueError(f"rank must have every layer; it lacks {missing[0]!r}")
    return {each.name: min(rank[each.name], each.outputs, each.inputs) for each in layers}
