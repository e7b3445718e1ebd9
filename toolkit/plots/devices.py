"""Figures of device responses: potentiation and depression curves."""

from __future__ import annotations

from collections.abc import Mapping

import holoviews as hv
import numpy as np

_POINTS = 200


def response_curves(traces: Mapping[str, tuple[int, int, np.ndarray]]) -> hv.NdOverlay:
    """State of each device through all its pulses up, then all its pulses down.

    Parameters
    ----------
    traces
        By name: pulses up, pulses down, and the states (up + down + 1,) that they lead through,
        ``(G - g_min) / (g_max - g_min)``, as ``Device.trace`` gives them. The x axis counts
        pulses in units of ``up`` and ``down``: 0 to 1 is potentiation, 1 to 2 depression.
    """
    curves = {name: _curve(*trace) for name, trace in traces.items()}
    return hv.NdOverlay(curves, kdims="device", sort=False).opts(
        hv.opts.Curve(color=hv.Cycle("Category20"), line_width=1.5),
        hv.opts.NdOverlay(
            responsive=True,
            height=560,
            legend_position="right",
            show_grid=True,
            xlabel="pulses / levels (up to 1: potentiation, from 1: depression)",
            ylabel="(G − g_min) / (g_max − g_min)",
            title="Device responses, noiseless",
        ),
    )


def _curve(up: int, down: int, state: np.ndarray) -> hv.Curve:
    pulses = np.concatenate([np.arange(up + 1) / up, 1 + np.arange(1, down + 1) / down])
    shown = np.unique(np.linspace(0, up + down, min(up + down + 1, _POINTS)).round().astype(int))
    return hv.Curve((pulses[shown], state[shown]), "pulses", "state")
