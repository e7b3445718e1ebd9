"""Every public name refuses a wrong argument in one style, names it, and changes nothing.

``CALLS`` has a row for every public callable and every method that takes arguments, with a value
that is right for each parameter and the kind of value that it takes. A new parameter that no row
mentions fails the last test.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import torch
import xarray as xr
from torch import nn

from toolkit import crossbar, fitting, lowrank, results, training
from toolkit.lowrank import LowRank
from toolkit.training.layers.adapters import LinearAdapter

PACKAGES = (lowrank, crossbar, fitting, training, results)
NAN, INF = math.nan, math.inf

NOT_NUMBERS = ["1", None, True, [1.0], torch.ones(2)]
NOT_FINITE = [NAN, INF, -INF, 10**400]
WRONG: dict[str, list[Any]] = {
    "count": [0, -1, 1.5, NAN, "1", None, True, torch.ones(2)],
    "count or 0": [-1, 1.5, NAN, "1", None, True],
    "count or None": [0, -1, 1.5, "1", True],
    "few": [0, -1, 1.5, NAN, "1", None, True, 10**9],
    "seed": [-1, 1.5, NAN, "1", None, True, 2**64],
    "number": [*NOT_NUMBERS, *NOT_FINITE],
    "number or 0": [*NOT_NUMBERS, *NOT_FINITE, -1.0],
    "above 0": [*NOT_NUMBERS, *NOT_FINITE, -1.0, 0.0],
    "above 0 or None": ["1", True, NAN, INF, -1.0, 0.0],
    "share": [*NOT_NUMBERS, *NOT_FINITE, -0.1, 1.1],
    "share above 0": [*NOT_NUMBERS, *NOT_FINITE, 0.0, 1.1],
    "flag": [1, "yes", None, 0.0],
    "choice": ["none such", None, 3, ["sbpca"]],
    "text": [None, 3, ["a"]],
    "text or None": [3, ["a"]],
    "path": [None, 3, ["a"], 1.5],
    "path or None": [3, ["a"], 1.5],
    "pair": [8, (8,), (8, 8, 8), (0, 8), (8, 1.5), "ab", None],
    "pair or None": [8, (8,), (8, 8, 8), (0, 8), (8, 1.5), "ab"],
    "numbers": [None, 1.0, (1.0,), (NAN, 1.0), ("1", 1.0)],
    "numbers or None": [1.0, (1.0,), (NAN, 1.0), ("1", 1.0)],
    "tensor": [None, 1.0, [[1.0, 2.0]], "x"],
    "floats": [None, 1.0, [[1.0]], torch.tensor([[NAN, 1.0]]), torch.tensor([[INF, 1.0]])],
    "object": [None, 1.0, "x", [], object],
    "object or None": [1.0, "x", [], object],
}
WRONG["matrix"] = [*WRONG["floats"], torch.ones(3), torch.ones(0, 3), torch.ones(3, 4).half()]
WRONG["signal"] = [
    *WRONG["floats"],
    torch.ones(3),
    torch.ones(2, 9),
    torch.ones(2, 4, dtype=torch.float64),
    torch.ones(2, 4, dtype=torch.float16),
    torch.ones(2, 4, dtype=torch.int64),
]
WRONG["batch"] = [
    *WRONG["floats"],
    torch.ones(3),
    torch.ones(0, 4),
    torch.ones(2, 4).half(),
    torch.ones(2, 4, dtype=torch.int64),
]
WRONG["state"] = [None, 3, [], {}, {"unknown": 1}]


class Call(NamedTuple):
    """A callable, or the method of what ``make`` makes, and for each parameter (kind, value)."""

    name: str
    make: Callable[[], Any]
    parameters: dict[str, tuple[str, Any]]


def free(value: Any) -> tuple[str, Any]:
    """A parameter that is checked in a test of its own, or that takes anything."""
    return "free", value


TORCH = torch.Generator
DEVICE = crossbar.get_device("TaOx/HfOx")
MATRIX = torch.tensor([[0.1, -0.2, 0.3, 0.0], [0.2, 0.1, -0.1, 0.4], [0.0, 0.3, 0.1, -0.3]])
CELLS_WRONG = ["x", None, 1.0, torch.ones(3, 4), torch.full((2, 3, 4), NAN), torch.zeros(2, 3, 4)]
UPDATE = LowRank(torch.ones(3, 1), torch.tensor([0.01]), torch.ones(4, 1))
BATCH = {"errors": ("batch", torch.ones(2, 4)), "activations": ("batch", torch.ones(2, 4))}
RANK, BLOCK, SEED = ("count", 2), ("count", 4), ("seed", 0)
SPREADS = {
    "zero": ("share", 0.5),
    "asymmetry": ("number", 0.0),
    "step_spread": ("number or 0", 0.1),
    "step_log_normal": ("flag", False),
    "asymmetry_spread": ("number or 0", 0.0),
    "high_spread": ("number or 0", 0.0),
    "low_spread": ("number or 0", 0.0),
}
FIT = {
    "model": ("choice", "neurosim"),
    "name": ("text", "cell"),
    "conductance_range": ("numbers or None", None),
    "robust": ("flag", False),
}


def an_array() -> crossbar.Crossbar:
    return crossbar.Crossbar.from_weights(MATRIX, device=DEVICE)


def tiles() -> crossbar.TiledCrossbar:
    return crossbar.TiledCrossbar.from_weights(MATRIX, tile=(2, 2), device=DEVICE)


def buffered() -> crossbar.BufferedTikiTaka:
    return crossbar.BufferedTikiTaka.from_weights(MATRIX, device=DEVICE, memory_rank=2)


def chopping() -> crossbar.ChoppedTikiTaka:
    return crossbar.ChoppedTikiTaka.from_weights(MATRIX, device=DEVICE)


def dynamic() -> crossbar.AGAD:
    return crossbar.AGAD.from_weights(MATRIX, device=DEVICE)


def residual() -> crossbar.ResidualLearning:
    return crossbar.ResidualLearning.from_weights(MATRIX, device=DEVICE)


def averaged() -> crossbar.EnsembleCrossbar:
    return crossbar.EnsembleCrossbar.from_weights(MATRIX, device=DEVICE)


def tiki_taka() -> crossbar.TikiTaka:
    return crossbar.TikiTaka.from_weights(MATRIX, device=DEVICE)


def mixed() -> crossbar.MixedPrecision:
    return crossbar.MixedPrecision(an_array(), memory_rank=2)


def sliced() -> crossbar.SlicedCrossbar:
    return crossbar.SlicedCrossbar.from_weights(MATRIX, device=DEVICE)


def digital() -> crossbar.DigitalArray:
    return crossbar.DigitalArray.from_weights(MATRIX)


def trains() -> fitting.PulseTrains:
    device = crossbar.get_device("ideal")
    return fitting.PulseTrains.simulated(device, cells=2, cycles=1, up=40, down=40, seed=0)


def a_fit() -> fitting.Fit:
    return fitting.fit_device(trains(), model="constant-step")


def columns() -> dict[str, Any]:
    names = ("cell", "cycle", "pulse", "polarity", "conductance")
    return {name: getattr(trains(), name) for name in names}


def a_run() -> training.Experiment:
    return training.Experiment(dataset="gaussians", hidden=[4], rank=2, device="ideal")


def a_tree() -> xr.DataTree:
    return a_run().results()


def toy() -> training.Dataset:
    return training.load_dataset("gaussians")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def on_arrays() -> nn.Sequential:
    return training.to_crossbar(net(), device=DEVICE)


def updated(name: str) -> Callable[[], Any]:
    def make() -> Any:
        estimator = lowrank.make_estimator(name)
        estimator.update(torch.ones(2, 4), torch.ones(2, 4))
        return estimator

    return make


WRITE = {
    "update": ("object", UPDATE),
    "learning_rate": ("number", 0.1),
    "scheme": ("choice", "rank-sum"),
}
TARGETS = {"path": ("path", "targets.csv"), "tolerance": ("above 0", 0.01)}
GOAL = {"weights": ("matrix", MATRIX), "tolerance": ("above 0", 0.5), "max_pulses": ("count", 9)}
PULSES = {"pulses": ("tensor", torch.ones(2, 3, 4))}
KNOBS = {
    "w_max": ("above 0", 1.0),
    "seed": SEED,
    "pair": ("choice", "differential"),
    "coding": ("object or None", None),
    "half_select": ("share", 0.0),
    "periphery": ("object or None", None),
    "wires": ("object or None", None),
    "reference_spread": ("share", 0.0),
}
LIMITS = {
    **dict.fromkeys(("cycle_to_cycle", "step_noise"), ("number or 0", 0.0)),
    **dict.fromkeys(("state_noise", "write_noise", "read_noise"), ("number or 0", 0.0)),
    **dict.fromkeys(("width_up", "width_down", "width_read"), ("number or 0", 1e-7)),
    **dict.fromkeys(("endurance", "endurance_spread"), ("number or 0", 0.0)),
    **dict.fromkeys(("v_up", "v_down", "v_read"), ("number", 1.0)),
    **dict.fromkeys(("stuck_low", "stuck_high"), ("share", 0.0)),
    **dict.fromkeys(("g_stuck_low", "g_stuck_high"), ("free", None)),
    **dict.fromkeys(("levels_up", "levels_down"), ("above 0", 10)),
}


def estimators() -> Iterator[Call]:
    own: dict[str, dict[str, tuple[str, Any]]] = {
        "SBPCA": {
            "rank": RANK,
            "block_size": BLOCK,
            "passes": ("count", 1),
            "history": ("number or 0", 1.0),
            "core": ("choice", "diagonal"),
            "seed": SEED,
        },
        "FeedbackPCA": {
            "rank": RANK,
            "memory_rank": ("count or None", None),
            "decay": ("share", 1.0),
            "block_size": BLOCK,
            "seed": SEED,
        },
        "SBE": {"seed": SEED},
        "LRT": {"rank": RANK, "block_size": BLOCK, "unbiased": ("flag", False), "seed": SEED},
        "NMF": {"rank": RANK, "iterations": ("count", 2), "seed": SEED},
        "PowerIteration": {"rank": RANK, "error_feedback": ("flag", False), "seed": SEED},
        "TruncatedSVD": {"rank": RANK},
        "FullGradient": {},
    }
    for name, parameters in own.items():
        yield Call(name, lambda name=name: getattr(lowrank, name), parameters)
        make = updated(getattr(lowrank, name).name)
        yield Call(f"{name}.update", make, BATCH)
        yield Call(f"{name}.load_state_dict", make, {"state": ("state", make().state_dict())})


def diagnostics() -> Iterator[Call]:
    update = lowrank.FullGradient().update(torch.ones(2, 4), torch.ones(2, 4))
    for name in ("captured_energy", "relative_error"):
        parameters = {"update": ("object", update), **BATCH}
        yield Call(name, lambda name=name: getattr(lowrank, name), parameters)
    yield Call("stable_rank", lambda: lowrank.stable_rank, BATCH)
    counted = {**BATCH, "count": ("count or None", 2)}
    yield Call("singular_values", lambda: lowrank.singular_values, counted)
    yield Call("optimal_energy", lambda: lowrank.optimal_energy, {**BATCH, "rank": RANK})
    spaces = {"first": ("floats", torch.ones(3, 1)), "second": ("floats", torch.ones(3, 1))}
    yield Call("principal_angles", lambda: lowrank.principal_angles, spaces)
    parts = {name: ("tensor", getattr(UPDATE, name)) for name in ("left", "sigma", "right")}
    yield Call("LowRank", lambda: LowRank, parts)
    added = {"weights": ("tensor", MATRIX.clone()), "alpha": ("number", 1.0)}
    yield Call("LowRank.add_to", lambda: UPDATE, added)
    yield Call("estimator_knobs", lambda: lowrank.estimator_knobs, {"name": ("choice", "sbpca")})
    named = {"name": ("choice", "sbpca"), "knobs": free({})}
    yield Call("make_estimator", lambda: lowrank.make_estimator, named)


def arrays() -> Iterator[Call]:
    made = {"weights": ("matrix", MATRIX), "device": ("object", DEVICE)}
    measured = {"cells": ("cells or None", None)}
    WRONG["cells or None"] = [3, "x", [], {}, {"none such": 1}, {"g_min": torch.ones(2, 3, 4)}]
    WRONG["cells or None"] += [dict.fromkeys(("g_min", "g_max"), value) for value in CELLS_WRONG]
    yield Call("Crossbar.from_weights", lambda: crossbar.Crossbar, {**made, **KNOBS, **measured})
    tiled = {**made, "tile": ("pair", (2, 2)), "seed": SEED, "knobs": free({})}
    yield Call("TiledCrossbar.from_weights", lambda: crossbar.TiledCrossbar, tiled)
    tiki = {
        **made,
        "every": ("count", 2),
        "columns": ("count", 3),
        "transfer_rate": ("above 0", 0.1),
        "gamma": ("number", 0.5),
        "seed": SEED,
        "pair": ("choice", "reference"),
        "knobs": free({}),
    }
    yield Call("TikiTaka.from_weights", lambda: crossbar.TikiTaka, tiki)
    memory = {"memory_rank": ("rank or None", 2)}
    WRONG["rank or None"] = [0, 2.5, True, "2", 4, -1]
    mixed_knobs = {"weights": made["weights"], **memory, "knobs": free({"device": DEVICE})}
    yield Call("MixedPrecision.from_weights", lambda: crossbar.MixedPrecision, mixed_knobs)
    buffered_knobs = {**made, **memory, "knobs": free({})}
    yield Call("BufferedTikiTaka.from_weights", lambda: crossbar.BufferedTikiTaka, buffered_knobs)
    chopped = {**made, "period": ("count", 5), "knobs": free({})}
    for kind in (crossbar.ChoppedTikiTaka, crossbar.AGAD):
        yield Call(f"{kind.__name__}.from_weights", lambda kind=kind: kind, chopped)
    WRONG["arrays"] = [*WRONG["count"], 1, 9]
    chain = {**made, "arrays": ("arrays", 3), "gamma": ("number", 0.5), "seed": SEED}
    chain |= {"knobs": free({})}
    yield Call("ResidualLearning.from_weights", lambda: crossbar.ResidualLearning, chain)
    WRONG["copies"], WRONG["kept"] = [*WRONG["count"], 65], [0, 2.5, True, "2", 4, -1]
    ensemble = {**made, "copies": ("copies", 3), "kept": ("kept", 2), "seed": SEED}
    ensemble |= {"knobs": free({})}
    yield Call("EnsembleCrossbar.from_weights", lambda: crossbar.EnsembleCrossbar, ensemble)
    by_hand = {"array": ("object", an_array()), **memory}
    yield Call("MixedPrecision", lambda: crossbar.MixedPrecision, by_hand)
    WRONG["base"] = [*WRONG["above 0"], 0.5, 1025.0]
    bits = {
        **made,
        "slices": ("count", 2),
        "base": ("base", 4.0),
        "every": ("count", 5),
        "w_max": ("above 0", 1.0),
        "seed": SEED,
        "knobs": free({}),
    }
    yield Call("SlicedCrossbar.from_weights", lambda: crossbar.SlicedCrossbar, bits)
    WRONG["crossbars"] = [None, 3, "x", [], [None], [an_array(), digital()]]
    parts = {"slices": ("crossbars", [an_array()]), "every": ("count", 5)}
    yield Call("SlicedCrossbar", lambda: crossbar.SlicedCrossbar, parts)
    weights = {"weights": ("matrix", MATRIX)}
    yield Call("DigitalArray", lambda: crossbar.DigitalArray, weights)
    yield Call("DigitalArray.from_weights", lambda: crossbar.DigitalArray, weights)
    for kind, make in {
        "Crossbar": an_array,
        "TiledCrossbar": tiles,
        "TikiTaka": tiki_taka,
        "BufferedTikiTaka": buffered,
        "ChoppedTikiTaka": chopping,
        "AGAD": dynamic,
        "ResidualLearning": residual,
        "EnsembleCrossbar": averaged,
        "MixedPrecision": mixed,
        "SlicedCrossbar": sliced,
        "DigitalArray": digital,
    }.items():
        yield Call(f"{kind}.read", make, {"activations": ("signal", torch.ones(2, 4))})
        yield Call(f"{kind}.read_transposed", make, {"errors": ("signal", torch.ones(2, 3))})
        yield Call(f"{kind}.apply", make, WRITE)
        yield Call(f"{kind}.load_state_dict", make, {"state": ("state", make().state_dict())})
        yield Call(f"{kind}.check_apply", make, WRITE)
        yield Call(f"{kind}.check_scheme", make, {"scheme": WRITE["scheme"]})
        if kind != "DigitalArray":
            yield Call(f"{kind}.wait", make, {"seconds": ("number or 0", 1.0)})
        if kind in ("Crossbar", "TiledCrossbar"):
            yield Call(f"{kind}.pulse", make, PULSES)
        if kind in ("Crossbar", "TiledCrossbar", "SlicedCrossbar"):
            yield Call(f"{kind}.program", make, GOAL)
        if kind in ("Crossbar", "TiledCrossbar", "MixedPrecision"):
            yield Call(f"{kind}.save_targets", make, TARGETS)
            yield Call(f"{kind}.load_reached", make, {"path": TARGETS["path"]})
    yield Call("Crossbar.refresh", an_array, {"threshold": ("share", 0.9)})


def cells() -> Iterator[Call]:
    device = {
        "name": ("text", "cell"),
        "g_min": ("above 0", 1e-6),
        "g_max": ("above 0", 2e-6),
        **LIMITS,
        "response": ("object", crossbar.Exponential()),
        "retention": ("object or None", None),
        "source": ("text", ""),
        "provenance": ("object or None", None),
    }
    yield Call("Device", lambda: crossbar.Device, device)
    half = torch.tensor([0.5])
    moved = {"state": ("floats", half), "pulses": ("floats", torch.ones(1))}
    yield Call("Device.step", lambda: DEVICE, moved)
    trace = {"up": ("count or 0", 3), "down": ("count or 0", 3), "start": ("share", 0.0)}
    yield Call("Device.trace", lambda: DEVICE, trace)
    yield Call("get_device", lambda: crossbar.get_device, {"name": ("choice", "ideal")})
    drift = {
        "nu": ("number or 0", 0.1),
        "nu_spread": ("number or 0", 0.0),
        "reference_time": ("above 0", 20.0),
    }
    yield Call("PowerLawDrift", lambda: crossbar.PowerLawDrift, drift)
    reference = {"reference_time": ("above 0", 20.0)}
    yield Call("PCMDrift", lambda: crossbar.PCMDrift, reference)
    relaxed = {
        "time_constant": ("above 0", 1.0),
        "spread": ("number or 0", 0.0),
        "target": ("share", 0.5),
    }
    yield Call("Relaxation", lambda: crossbar.Relaxation, relaxed)
    not_negative = ("decrease_up", "decrease_down", "decrease_spread")
    linear = {**SPREADS, **dict.fromkeys(not_negative, ("number or 0", 0.1))}
    yield Call("LinearStep", lambda: crossbar.LinearStep, linear)
    yield Call("SoftBounds", lambda: crossbar.SoftBounds, SPREADS)
    gammas = dict.fromkeys(("gamma_up", "gamma_down", "gamma_spread"), ("number or 0", 1.0))
    yield Call("PowStep", lambda: crossbar.PowStep, {**SPREADS, **gammas})
    nodes = dict.fromkeys(("nodes_up", "nodes_down"), ("numbers", (1.0, 0.5)))
    yield Call("PiecewiseStep", lambda: crossbar.PiecewiseStep, {**SPREADS, **nodes})
    numbers = ("amplitude_up", "amplitude_down", "gamma_up", "gamma_down", "a", "b")
    shaped = {**dict.fromkeys(numbers, ("number", 0.5)), "shape_spread": ("number or 0", 0.0)}
    yield Call("ExpStep", lambda: crossbar.ExpStep, {**SPREADS, **shaped})
    labels = dict.fromkeys(("nonlinearity_up", "nonlinearity_down"), ("number", 0.0))
    labels["device_to_device"] = "number or 0", 0.0
    yield Call("Exponential", lambda: crossbar.Exponential, labels)
    yield Call("IncrementalPulses", lambda: crossbar.IncrementalPulses, labels)
    jumps = dict.fromkeys(("nodes", "mean", "spread"), ("numbers", (0.0, 1.0)))
    yield Call("Jumps", lambda: crossbar.Jumps, jumps)
    one = crossbar.Jumps(nodes=(0.0, 1.0), mean=(0.1, 0.1), spread=(0.0, 0.0))
    table = {"up": ("object", one), "down": ("object", one), "scale_spread": ("number or 0", 0.0)}
    yield Call("JumpTable", lambda: crossbar.JumpTable, table)


def lines() -> Iterator[Call]:
    yield Call("WholePulses", lambda: crossbar.WholePulses, {"rounding": ("choice", "stochastic")})
    streams = {
        "bit_length": ("few", 31),
        "update_management": ("flag", True),
        "adapt_length": ("flag", True),
    }
    yield Call("Coincidence", lambda: crossbar.Coincidence, streams)
    share = {
        "left": ("vector", torch.ones(3)),
        "right": ("vector", torch.ones(4)),
        "levels": ("above 0", 100),
    }
    WRONG["vector"] = [*WRONG["floats"], torch.ones(3, 2), torch.ones(0)]
    yield Call("Coincidence.written_share", crossbar.Coincidence, share)
    converter = {
        "bits": ("count or None", 8),
        "bound": ("above 0 or None", 1.0),
        "noise": ("number or 0", 0.0),
        "stochastic": ("flag", False),
    }
    yield Call("Converter", lambda: crossbar.Converter, converter)
    samples = {"samples": ("floats", torch.ones(3)), "quantile": ("share above 0", 1.0)}
    yield Call("Converter.calibrated", lambda: crossbar.Converter(bits=4), samples)
    ideal = crossbar.Converter()
    periphery = {
        **dict.fromkeys(("dac", "adc"), ("object", ideal)),
        **dict.fromkeys(("dac_transposed", "adc_transposed"), ("object or None", None)),
        "iv_nonlinearity": ("number or 0", 0.0),
    }
    yield Call("Periphery", lambda: crossbar.Periphery, periphery)
    wires = {
        "wire_resistance": ("number or 0", 1.0),
        "method": ("choice", "auto"),
        "tolerance": ("share above 0", 0.1),
    }
    yield Call("Wires", lambda: crossbar.Wires, wires)
    conductance = {"conductance": ("matrix", MATRIX.abs())}
    yield Call("Wires.solver", lambda: crossbar.Wires(wire_resistance=1.0), conductance)
    currents = {
        **conductance,
        "voltages": ("floats", torch.ones(2, 4)),
        "wire_resistance": ("number or 0", 1.0),
        "transposed": ("flag", False),
        "method": ("choice", "auto"),
        "tolerance": ("share above 0", 0.1),
    }
    yield Call("line_currents", lambda: crossbar.line_currents, currents)


def measurements() -> Iterator[Call]:
    fit = {"trains": ("object", trains()), **FIT}
    yield Call("fit_device", lambda: fitting.fit_device, fit)
    layout = {"layout": ("free", {})}
    path = {"path": ("path", fitting.EXAMPLE_CSV), **FIT, "name": ("text or None", None), **layout}
    yield Call("fit_csv", lambda: fitting.fit_csv, path)
    read = {"path": ("path", fitting.EXAMPLE_CSV), **layout}
    yield Call("PulseTrains.from_csv", lambda: fitting.PulseTrains, read)
    given = {"table": ("object", columns()), **layout}
    yield Call("PulseTrains.from_table", lambda: fitting.PulseTrains, given)
    arrays = dict.fromkeys(("pulses", "conductances"), ("object", [1.0, 2.0]))
    yield Call("PulseTrains.from_arrays", lambda: fitting.PulseTrains, {**arrays, **layout})
    own = {"device": ("object", replace(DEVICE, name="own")), "path": ("path", "own.yaml")}
    yield Call("add_device", lambda: crossbar.add_device, {"device": own["device"]})
    yield Call("open_device", lambda: crossbar.open_device, {"path": ("path", "none.yaml")})
    provenance = {"provenance": ("object or None", None)}
    yield Call("save_device", lambda: crossbar.save_device, {**own, **provenance})
    WRONG["inner share"] = [*WRONG["above 0"], 1.0]
    band = {"up": ("count or 0", 5), "down": ("count or 0", 5), "share": ("inner share", 0.9)}
    yield Call("Fit.band", a_fit, band)
    yield Call("Fit.save", a_fit, {"path": ("path", "own.yaml")})
    told = {"columns": ("object", {}), "read_voltage": ("above 0 or None", 0.1)}
    told |= {"unit": ("text or None", "uS"), "polarities": ("object or None", None)}
    WRONG["protocol"] = [8, (8,), (8, 8, 8), (0, 0), (8, -1), (8, 1.5), "ab"]
    yield Call("Layout", lambda: fitting.Layout, {**told, "protocol": ("protocol", None)})
    counts = dict.fromkeys(("cells", "cycles"), ("count", 3))
    counts |= dict.fromkeys(("up", "down"), ("count or 0", 3))
    simulated = {"device": ("object", DEVICE), **counts, "seed": SEED}
    yield Call("PulseTrains.simulated", lambda: fitting.PulseTrains, simulated)


def networks() -> Iterator[Call]:
    converted = {
        "model": ("object", net()),
        "device": ("object or None", DEVICE),
        "w_max": ("above 0 or None", None),
        "seed": SEED,
        "tile": ("pair or None", None),
        "skip": ("names", ()),
        "overrides": ("names", None),
        "strict": ("flag", False),
        "array": free({}),
    }
    WRONG["names"] = [3, "0", [3], ["none such"]]
    yield Call("to_crossbar", lambda: training.to_crossbar, converted)
    WRONG["loss"], WRONG["points"] = [None, 3, "hinge"], [*WRONG["count"], 2, 202]
    plane = {
        "model": ("object", nn.Sequential(nn.Linear(2, 2))),
        "data": ("object", toy()),
        "loss": ("loss", "cross-entropy"),
        "span": ("above 0", 0.5),
        "points": ("points", 3),
        "seed": SEED,
        "cells": free({}),
    }
    yield Call("loss_landscape", lambda: training.loss_landscape, plane)
    yield Call("to_digital", lambda: training.to_digital, {"model": ("object", on_arrays())})
    for name in ("crossbar_layers", "release_weights"):
        yield Call(name, lambda name=name: getattr(training, name), {"model": ("object", net())})
    known = {"adapter": ("object", LinearAdapter)}
    yield Call("register_adapter", lambda: training.register_adapter, known)
    block = {"layer": ("object", nn.Linear(4, 3)), "block_size": BLOCK}
    yield Call("block_samples", lambda: training.block_samples, block)
    linear = {"array": ("object", an_array()), "bias": ("flag", True)}
    yield Call("CrossbarLinear", lambda: training.CrossbarLinear, linear)
    geometry = training.Geometry(kernel_size=(1, 1))
    conv = {
        "arrays": ("object", [an_array()]),
        "geometry": ("object", geometry),
        "bias": ("flag", True),
    }
    yield Call("CrossbarConv2d", lambda: training.CrossbarConv2d, conv)
    sides = {
        **dict.fromkeys(("kernel_size", "stride", "dilation"), ("pair", (1, 1))),
        "padding": ("object", (0, 0, 0, 0)),
        "padding_mode": ("choice", "zeros"),
        "groups": ("count", 1),
    }
    yield Call("Geometry", lambda: training.Geometry, sides)
    layer = {"layer": ("object", nn.Conv2d(1, 1, 1))}
    yield Call("Geometry.of", lambda: training.Geometry, layer)
    optimiser = {
        "model": ("object", net()),
        "lr": ("number or 0", 0.1),
        "method": ("choice", "sbpca"),
        "rank": RANK,
        "block_size": BLOCK,
        "momentum": ("share", 0.0),
        "momentum_rank": ("count or None", None),
        "weight_decay": ("number or 0", 0.0),
        "scheme": ("choice", "rank-sum"),
        "seed": SEED,
        "knobs": free({}),
    }
    yield Call("LowRankSGD", lambda: training.LowRankSGD, optimiser)


def data() -> Iterator[Call]:
    loaded = {
        "name": ("choice", "gaussians"),
        "data_dir": ("path or None", None),
        "download": ("flag", False),
    }
    yield Call("load_dataset", lambda: training.load_dataset, loaded)
    toys = {
        "classes": ("few", 3),
        "samples": ("count", 60),
        "spread": ("number or 0", 0.1),
        "seed": SEED,
    }
    yield Call("gaussians", lambda: training.gaussians, toys)
    yield Call("spirals", lambda: training.spirals, {**toys, "turns": ("number or 0", 1.0)})
    made = {
        "name": ("choice", "mlp"),
        "dataset": ("object", toy()),
        "hidden": ("widths", None),
        "generator": ("object", TORCH()),
    }
    WRONG["widths"] = [3, [0], [1.5], "ab", [True]]
    yield Call("make_model", lambda: training.make_model, made)
    inputs, labels = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    part = {"train_inputs": inputs, "train_labels": labels}
    part |= {"test_inputs": inputs, "test_labels": labels}
    own = {name: ("samples", value) for name, value in part.items()}
    WRONG["samples"] = [None, "x", [], [[]], torch.tensor(1.0), torch.full((4, 3), NAN)]
    shaped = {**own, "name": ("text", "mine"), "image_shape": ("shape", None)}
    shaped |= {
        "task": ("choice", "classification"),
        "channels_last": ("flag or None", None),
        "test_fraction": ("fraction or None", None),
        "seed": free(0),
    }
    WRONG["flag or None"] = [1, "yes", 0.0]
    WRONG["fraction or None"] = ["1", True, NAN, INF, -0.1, 1.1, 0.5]
    WRONG["shape"] = [3, (1, 2), (0, 1, 3), "abc", (1.0, 1.0, 3.0), (1, 1, 4)]
    yield Call("Dataset.from_arrays", lambda: training.Dataset, shaped)
    items = torch.utils.data.TensorDataset(inputs, labels)
    stored = {"train": ("items", items), "test": ("items or None", None), "arguments": free({})}
    WRONG["items or None"] = [3, "x", [1], iter([]), torch.utils.data.TensorDataset(inputs)]
    WRONG["items"] = [None, *WRONG["items or None"]]
    yield Call("Dataset.from_torch", lambda: training.Dataset, stored)
    yield Call("Dataset.split", toy, {"validation": ("share above 0", 0.5), "seed": SEED})
    few = {"train": ("few", 9), "test": ("few", 9), "seed": SEED}
    yield Call("Dataset.subset", toy, few)


def runs() -> Iterator[Call]:
    yield Call("Experiment.steps", a_run, {"epochs": ("count", 1)})
    yield Call("Experiment.change", a_run, {"knobs": free({})})
    yield Call("Experiment.layer_rank", a_run, {"name": ("choice", "layer1")})
    yield Call("Experiment.outer_products", a_run, {"inputs": ("count", 1)})
    yield Call("Experiment.save", a_run, {"path": ("path", "run.nc")})
    yield Call("Experiment.checkpoint", a_run, {"path": ("path", "run.sbpca")})
    yield Call("Experiment.resume", a_run, {"path": ("path", "run.sbpca"), "objects": free({})})
    streamed = {"path": ("path", "run.zarr"), "conductance_bits": ("count or None", None)}
    yield Call("Experiment.stream", a_run, streamed)
    swept = {
        "grid": ("grid", {"rank": 1}),
        "seeds": ("seeds", 1),
        "epochs": ("count", 1),
        "out": ("path or None", None),
        "scheduler": ("text or None", None),
        "workers": ("count or None", None),
        "progress": ("flag", False),
    }
    WRONG["grid"] = [None, 3, "x", {"none such": 1}]
    WRONG["seeds"] = [0, 1.5, "x", []]
    yield Call("sweep", lambda: training.sweep, swept)
    yield Call("stored_devices", lambda: training.stored_devices, {"results": ("object", a_tree())})
    yield Call("read_plan", lambda: training.read_plan, {"path": ("path", "run.sbpca")})


def files() -> Iterator[Call]:
    tree = a_tree()
    yield Call(
        "save_results",
        lambda: results.save_results,
        {"tree": ("object", tree), "path": ("path", "run.nc")},
    )
    for name in ("to_bytes", "to_zarr_zip"):
        yield Call(name, lambda name=name: getattr(results, name), {"tree": ("object", tree)})
    opened = {"source": ("source", "run.nc"), "lazy": ("flag", True), "group": ("text", "training")}
    yield Call("open_results", lambda: results.open_results, opened)
    WRONG["source"] = [None, 3, 1.5]
    attributes = {
        "seed": ("count or 0", 0),
        "settings": ("object", {}),
        "title": ("text", "run"),
        "created": ("object", datetime.now(UTC)),
    }
    yield Call("root_attributes", lambda: results.root_attributes, attributes)
    nodes = {
        "attributes": ("object", {}),
        "training": ("object", xr.Dataset()),
        "events": ("object", xr.Dataset()),
        "layers": ("object", {}),
    }
    yield Call("build_tree", lambda: results.build_tree, nodes)


SOURCES = (estimators, diagnostics, arrays, cells, lines, measurements, networks, data)
CALLS = [call for source in (*SOURCES, runs, files) for call in source()]


ATTRIBUTES: list[tuple[Callable[[], Any], str, str]] = [
    (updated("sbpca"), "rank", "count"),
    (updated("sbpca"), "block_size", "count"),
    (updated("feedback"), "memory_rank", "count or None"),
    (an_array, "device", "object"),
    (an_array, "coding", "object"),
    (an_array, "half_select", "share"),
    (an_array, "periphery", "object or None"),
    (an_array, "wires", "object or None"),
    (tiles, "device", "object"),
    (tiki_taka, "device", "object"),
    (mixed, "device", "object"),
    (sliced, "device", "object"),
    (sliced, "every", "count"),
    (tiki_taka, "every", "count"),
    (tiki_taka, "columns", "count"),
    (tiki_taka, "transfer_rate", "above 0"),
    (tiki_taka, "gamma", "number"),
    (lambda: on_arrays()[0], "array", "object"),
]

# Methods that take no arguments of users: formulas of sizes, what one part of the toolkit hands to
# another, and torch's own.
INTERNAL = re.compile(
    r"""(\w+\.)?(words|buffer_words|macs|written_rank|state_dict|cells|after|counts|demand|dense|write|
    advance|symmetry_point|check_not_negative|sizes|bounds|quantise|add_noise|full_scale|drive|sense|
    curve|converters|of|folded|output_size|padded|cropped|patches|streamed|samples|check_stays|forward|
    set_extra_state|add_param_group|grouped_layers|step|zero_grad|to)$
    |(Estimator|Cost|Fit|DivergenceError|Plan|PulseTrains|Dataset|Settings|Experiment)$
    |(Array|(Tiled|Ensemble)?Crossbar|(Buffered|Chopped)?TikiTaka|AGAD|ResidualLearning)$  # made by
    # from_weights; the next are refused
    |(DigitalArray|(Buffered|Chopped)?TikiTaka|AGAD|ResidualLearning|(Sliced|Ensemble)Crossbar)
    \.(save_targets|load_reached)$
    |Adapter\.|Estimator\.|Array\.|.*calibrated$|PulseTrains\.to_csv|LowRankSGD\.|LowRank\.dense""",
    re.VERBOSE,
)


def cases() -> list[Any]:
    return [
        pytest.param(call, name, id=f"{call.name}-{name}")
        for call in CALLS
        for name, (kind, _) in call.parameters.items()
        if kind != "free"
    ]


def made(call: Call) -> Callable[..., Any]:
    """The callable, of an object that nothing else has used."""
    made = call.make()
    return getattr(made, call.name.split(".")[1]) if "." in call.name else made


def arguments(call: Call) -> dict[str, Any]:
    return {
        name: value
        for name, (kind, value) in call.parameters.items()
        if value is not None and not (kind == "free" and value == {})
    }


def begin(result: Any) -> None:
    """Run a generator or a context manager until something is checked."""
    if inspect.isgenerator(result):
        next(result)
    elif hasattr(result, "__enter__"):
        result.__enter__()


def state(target: Any) -> Any:
    owner = getattr(target, "__self__", None)
    return owner.state_dict() if hasattr(type(owner), "state_dict") else None


@pytest.mark.parametrize(("call", "name"), cases())
def test_a_wrong_argument_is_named_and_changes_nothing(call: Call, name: str) -> None:
    for wrong in WRONG[call.parameters[name][0]]:
        target, given = made(call), {**arguments(call), name: wrong}
        before = state(target)
        with pytest.raises((TypeError, ValueError)) as caught:
            begin(target(**given))
        message = str(caught.value)
        assert re.search(rf"\b{name}\b.* must ", message), (wrong, message)
        assert "\n" not in message and len(message) < 600
        after = state(target)
        assert repr(after) == repr(before)


@pytest.mark.parametrize(("make", "name", "kind"), ATTRIBUTES)
def test_a_wrong_value_of_an_attribute_is_named_and_not_set(
    make: Callable[[], Any], name: str, kind: str
) -> None:
    owner = make()
    before = getattr(owner, name)
    for wrong in WRONG[kind]:
        with pytest.raises((TypeError, ValueError), match=rf"{name}\b.* must "):
            setattr(owner, name, wrong)
        assert getattr(owner, name) is before


@pytest.mark.parametrize(
    ("make", "name"),
    [(an_array, "w_max"), (an_array, "pair"), (an_array, "shape"), (tiles, "coding")],
)
def test_what_an_array_was_made_with_is_not_set(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        setattr(make(), name, "reference")


@pytest.mark.parametrize("w_max", [1e-320, 1e39, 3e38])
@pytest.mark.parametrize("pair", ["differential", "reference"])
def test_a_w_max_that_the_dtype_cannot_hold_is_refused(w_max: float, pair: str) -> None:
    with pytest.raises(ValueError, match="w_max must be between"):
        crossbar.Crossbar.from_weights(MATRIX, device=DEVICE, w_max=w_max, pair=pair)


@pytest.mark.parametrize("weights", [MATRIX.to_sparse(), MATRIX.to("meta")])
def test_weights_without_numbers_are_refused(weights: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="weights must be a dense tensor with data"):
        crossbar.Crossbar.from_weights(weights, device=DEVICE)


@pytest.mark.parametrize("call", [pytest.param(call, id=call.name) for call in CALLS])
def test_every_parameter_has_a_row(call: Call) -> None:
    found = set(inspect.signature(made(call)).parameters)
    assert set(call.parameters) == found


def test_every_public_callable_has_a_row() -> None:
    rows = {call.name for call in CALLS}
    assert [name for name in public() if name not in rows and not INTERNAL.match(name)] == []


def public() -> Iterator[str]:
    """Public callables that take arguments, and the methods of classes that do."""
    for package in PACKAGES:
        for name in package.__all__:
            found = getattr(package, name)
            if not callable(found):
                continue
            if issubclass(found, Exception) if inspect.isclass(found) else False:
                continue
            if inspect.signature(found).parameters:
                yield name
            if inspect.isclass(found):
                yield from (f"{name}.{method}" for method in methods(found))


def methods(cls: type) -> Iterator[str]:
    for name, member in inspect.getmembers(cls, callable):
        owner = next(each for each in cls.__mro__ if name in vars(each))
        is_ours = owner.__module__.startswith("toolkit") and not name.startswith("_")
        if is_ours and set(inspect.signature(member).parameters) - {"self"}:
            yield name
