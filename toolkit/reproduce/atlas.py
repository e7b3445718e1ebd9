"""Which algorithm for which cell: the algorithms compared, and what is advised from the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import xarray as xr

from toolkit.checks import check_choice, check_count, check_instance, check_pair
from toolkit.crossbar import Device
from toolkit.lowrank import estimator_knobs, make_estimator
from toolkit.reproduce.results import open_dataset
from toolkit.reproduce.statistics import Interval, interval
from toolkit.training.experiment.physics import (
    BUFFERED,
    CHOPPED,
    DIRECT,
    DYNAMIC,
    MIXED,
    OF_ALGORITHM,
    RESIDUAL,
    TIKI,
)

Entry = tuple[str, int]  # algorithm and rank
NEAR = 1.0  # percent below the best that is as good
SUM, SINGLE = "MBGD, one sum", "MBGD, sample by sample"
_SBPCA = {"method": "sbpca"}
ALGORITHMS: dict[str, dict[str, Any]] = {
    SUM: {"method": "sgd", "scheme": "rank-sum"},
    SINGLE: {"method": "sgd"},
    "SBPCA": _SBPCA,
    "SBPCA, full core": {**_SBPCA, "core": "full", "history": 4.0},
    "FeedbackPCA": {"method": "feedback"},
    "LRT": {"method": "lrt"},
    "SBPCA, mixed precision": {**_SBPCA, "algorithm": MIXED},
    "SBPCA, mixed precision, r = 4": {**_SBPCA, "algorithm": MIXED, "buffer_rank": 4},
    "SBPCA, Tiki-Taka": {**_SBPCA, "algorithm": TIKI},
    "SBPCA, Tiki-Taka v2": {**_SBPCA, "algorithm": BUFFERED},
    "SBPCA, Tiki-Taka v2, r = 4": {**_SBPCA, "algorithm": BUFFERED, "buffer_rank": 4},
    "SBPCA, chopped Tiki-Taka": {**_SBPCA, "algorithm": CHOPPED},
    "SBPCA, AGAD": {**_SBPCA, "algorithm": DYNAMIC},
    "SBPCA, residual learning": {**_SBPCA, "algorithm": RESIDUAL, "gamma": 0.5},
}


def knobs_of_entry(algorithm: str, rank: int) -> dict[str, Any]:
    """The knobs of an Experiment for an algorithm and a rank; rank 0 is the whole gradient."""
    knobs = ALGORITHMS[algorithm]
    return {**knobs, "rank": rank} if rank else dict(knobs)


def memory_words(algorithm: str, rank: int, shapes: Iterable[tuple[int, int]]) -> int:
    """Numbers that an algorithm keeps between batches in digital memory, over layers (m, n).

    Those of the estimator, k (m + n + 1) for SBPCA, of a memory of what is not yet written, m n or
    r (m + n + 1), and AGAD's means, 2 m n. MBGD adds up m n numbers, but keeps none if it writes
    sample by sample.
    """
    knobs = knobs_of_entry(algorithm, rank)
    written = knobs.get("algorithm", DIRECT)
    total = 0
    for m, n in shapes:
        if algorithm != SINGLE:
            chosen = {"rank": min(rank, m, n)} if "rank" in estimator_knobs(knobs["method"]) else {}
            total += make_estimator(knobs["method"], **chosen).words(m, n)
        if "buffer_rank" in OF_ALGORITHM[written]:
            r = knobs.get("buffer_rank")
            total += m * n if r is None else min(r, m, n) * (m + n + 1)
        if written == DYNAMIC:
            total += 2 * m * n
    return total


@dataclass(frozen=True)
class Recommendation:
    """An algorithm for a cell, what it costs, and on what the advice rests.

    ``knobs`` are those of an :class:`~toolkit.training.Experiment`; ``accuracy`` (percent) is the
    atlas's, ``words`` are kept for the layers asked about, ``share`` is their ratio to m n.
    """

    algorithm: str
    rank: int
    knobs: Mapping[str, Any]
    accuracy: Interval
    words: int
    share: float
    reason: str
    basis: str

    def __str__(self) -> str:
        return f"{name_of((self.algorithm, self.rank))}: {self.reason} {self.basis}"


def open_atlas() -> xr.Dataset:
    """The atlas that comes with the package: algorithm x cell x rank x seed."""
    with resources.as_file(resources.files("toolkit.reproduce") / "atlas.nc") as path:
        return open_dataset(path)


def recommend(
    device: Device | str,
    layer_shapes: Iterable[tuple[int, int]],
    *,
    words: int | None = None,
    atlas: xr.Dataset | None = None,
) -> Recommendation:
    """The algorithm that the atlas advises for a cell.

    Of those whose memory fits and whose mean accuracy is within a point of the best, it takes the
    one that keeps the fewest numbers.

    Parameters
    ----------
    device
        The cell, or its name in the atlas ("digital": plain weights).
    layer_shapes
        (m, n) of each layer: outputs, and inputs with the bias.
    words
        Most numbers that may be kept in digital memory, over all layers. None: no limit.
    atlas
        Results of ``python -m toolkit reproduce atlas``, such as with a cell of your own. None: the
        atlas that comes with the package.

    Returns
    -------
    Recommendation
        With the knobs to train with, and a sentence on what the advice rests on.

    Raises
    ------
    ValueError
        If the atlas does not have the cell, a shape is not allowed, or nothing fits ``words``.

    Examples
    --------
    >>> advice = recommend("EcRam", [(128, 785), (10, 129)], words=20_000)
    >>> advice.words <= 20_000
    True
    """
    data = open_atlas() if atlas is None else atlas
    check_instance("atlas", data, xr.Dataset, "an xarray Dataset")
    name = device.name if isinstance(device, Device) else device
    check_choice("device", name, [str(each) for each in data.device.values])
    shapes = [check_pair("layer_shapes", shape) for shape in layer_shapes]
    if not shapes:
        raise ValueError("layer_shapes must have at least one (m, n); got none")
    if words is not None:
        check_count("words", words, least=0)
    found = entries(data, name)
    kept = {entry: memory_words(*entry, shapes) for entry in found}
    fits = {entry: kept[entry] for entry in found if words is None or kept[entry] <= words}
    if not fits:
        raise ValueError(
            f"words must be at least {min(kept.values())} for these layers; got {words}"
        )
    best = max(fits, key=lambda entry: found[entry].mean)
    chosen = min(
        (entry for entry in fits if found[entry].mean >= found[best].mean - NEAR),
        key=lambda entry: (fits[entry], -found[entry].mean),
    )
    cells = sum(m * n for m, n in shapes)
    rest = f"the best of {len(fits)} that fit"
    if chosen != best:
        rest = f"within a point of {rest} ({name_of(best)}: {found[best]} %)"
    reason = (
        f"{found[chosen]} % on {name}, {rest}; it keeps {fits[chosen]:,} numbers, "
        f"{fits[chosen] / cells:.1%} of m n."
    )
    return Recommendation(
        *chosen,
        knobs_of_entry(*chosen) | {"learning_rate": _rate(data, name, chosen), "device": name},
        found[chosen],
        fits[chosen],
        fits[chosen] / cells,
        reason,
        basis_of(data),
    )


def entries(
    data: xr.Dataset, device: str, variable: str = "test_accuracy"
) -> dict[Entry, Interval]:
    """A variable's mean over seeds, with its interval, of everything measured on a cell."""
    here = data[variable].sel(device=device).transpose("algorithm", "rank", ...)
    ranks = [int(rank) for rank in here["rank"].values]
    return {
        (str(algorithm), rank): interval(values)
        for algorithm, row in zip(here.algorithm.values, here.values, strict=True)
        for rank, values in zip(ranks, row, strict=True)
        if np.isfinite(values).any()
    }


def name_of(entry: Entry) -> str:
    """An algorithm and its rank in words."""
    algorithm, rank = entry
    return f"{algorithm}, k = {rank}" if rank else algorithm


def basis_of(data: xr.Dataset) -> str:
    """One sentence on what an atlas was measured on."""
    case = json.loads(data.attrs["cases"])[0]
    hidden = "-".join(map(str, case["knobs"]["hidden"]))
    return (
        f"Measured on {case['data']['name']}, hidden layer {hidden}, {case['epochs']} epochs, "
        f"{data.sizes['seed']} seeds; other tasks may differ."
    )


def _rate(data: xr.Dataset, device: str, entry: Entry) -> float:
    return float(data.learning_rate.sel(device=device, algorithm=entry[0], rank=entry[1]))
