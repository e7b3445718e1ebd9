"""Figures of a finished or current run, from its results tree (``toolkit.results``)."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from toolkit.plots.elements import (
    accuracy_curve,
    energy_curves,
    heat_map,
    loss_curve,
    siemens_prefix,
    spectrum_points,
)


def convergence(tree: xr.DataTree) -> hv.Layout:
    """Training loss, with knob changes marked, beside test accuracy."""
    training, events = tree["training"].to_dataset(), tree["events"].to_dataset()
    changes = events["event_step"].values if "event_step" in events else None
    loss = loss_curve(training["step"].values, training["loss"].values, changes)
    if ticks := _log_ticks(training["loss"].values):
        loss = loss.opts(yticks=ticks)
    if "mean-squared-error" in tree.attrs.get("settings", ""):
        loss = loss.opts(ylabel="mean squared error")
    if "test_accuracy" not in training:
        return hv.Layout([loss])
    return loss + accuracy_curve(
        training["evaluation_step"].values, training["test_accuracy"].values
    )


def gradient_spectrum(tree: xr.DataTree, layer: str = "layer1", record: int = -1) -> hv.Layout:
    """One record's singular values and sigma, beside captured and optimal energy over all records.

    Raises
    ------
    ValueError
        If the run has no such layer or no record of it yet.
    """
    data = _layer(tree, layer)
    one = data.isel(step=record)
    points = spectrum_points(one["singular_value"].values, one["sigma"].values)
    energy = energy_curves(
        data["step"].values, data["captured_energy"].values, data["optimal_energy"].values
    )
    return points.opts(title=f"Gradient spectrum, {layer}, step {int(one['step'])}") + energy


def conductance_maps(tree: xr.DataTree, layer: str = "layer1", record: int = -1) -> hv.Layout:
    """One record's conductances, plus and minus, on one scale, and their difference.

    Weights, if there are no conductances.

    Raises
    ------
    ValueError
        If the run has no such layer or no record of it yet.
    """
    one = _layer(tree, layer).isel(step=record)
    if "conductance" not in one or not np.isfinite(one["conductance"]).any():
        weight = one["weight"].values
        limit = float(np.abs(weight).max())
        return hv.Layout(
            [heat_map(weight, title="Weights", unit="1", limits=(-limit, limit), diverging=True)]
        )
    factor, unit = siemens_prefix(float(one["conductance"].max()))
    shown = one["conductance"] * factor
    limits = (float(shown.min()), float(shown.max()))
    names = {"plus": "G+", "minus": "G−"}
    maps = [
        heat_map(
            shown.sel(polarity=polarity).values,
            title=f"{name}, {layer} ({unit})",
            unit=" ",
            limits=limits,
        )
        for polarity, name in names.items()
    ]
    difference = shown.sel(polarity="plus").values - shown.sel(polarity="minus").values
    most = float(np.nanmax(np.abs(difference))) or 1.0
    title, ends = f"G+ − G−, {layer} ({unit})", (-most, most)
    maps.append(heat_map(difference, title=title, unit=" ", limits=ends, diverging=True))
    return hv.Layout(maps)


def _log_ticks(values: np.ndarray) -> list[tuple[float, str]]:
    """1, 2 and 5 of each decade, whose labels never meet; none where these are too few or many."""
    ticks = (digit * 10.0**power for power in range(-6, 3) for digit in (1, 2, 5))
    least, most = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=0.0)
    inside = [(tick, f"{tick:g}") for tick in ticks if least <= tick <= most]
    return inside if 3 <= len(inside) <= 9 else []


def _layer(tree: xr.DataTree, layer: str) -> xr.Dataset:
    names = list(tree["layers"].children)
    if layer not in names:
        raise ValueError(f"layer must be one of {', '.join(names)}; got {layer!r}")
    data = tree[f"layers/{layer}"].to_dataset()
    if data.sizes.get("step", 0) == 0:
        raise ValueError(f"layer {layer!r} has no record yet; train for a step first.")
    return data
