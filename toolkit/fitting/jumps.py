"""The mean step of a polarity at every state, measured from single steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.crossbar.devices.jumps import Jumps

# At most so many intervals, each with at least so many steps.
_INTERVALS, _LEAST_STEPS = 32, 30


def measure_jumps(
    state: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[Jumps, list[float]]:
    """Jumps from single steps: ``size`` (in the polarity's direction) from ``state``, (steps,).

    Least squares of a line bent at nodes so far apart that 30 steps lie in every interval (32
    intervals at most), extended straight to states 0 and 1 where no steps are. Means that come out
    negative are set to 0: on average no pulse goes backwards. Also returns the standard errors of
    the means.

    Raises
    ------
    ValueError
        If there are fewer than 30 steps inside the range.
    """
    inside = (state >= 0.0) & (state <= 1.0)
    state, size = state[inside], size[inside]
    if len(state) < _LEAST_STEPS or not np.ptp(state) > 0.0:
        raise ValueError(
            f"a jump table needs {_LEAST_STEPS} or more different steps of a polarity away from "
            f"the bounds; got {len(state)}"
        )
    nodes = _support(state)
    basis = np.stack([np.interp(state, nodes, row) for row in np.eye(len(nodes))], axis=1)
    inverse = np.linalg.pinv(basis.T @ basis)
    mean = inverse @ (basis.T @ size)
    square = np.square(size - basis @ mean) * len(state) / max(len(state) - len(nodes), 1)
    spread = np.sqrt(basis.T @ square / basis.sum(axis=0))
    error = np.sqrt(np.diag(inverse @ (basis.T * square) @ basis @ inverse))
    return _to_ends(nodes, mean, spread, error)


def _support(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nodes from the lowest to the highest state, with enough states between any two."""
    grid = np.linspace(state.min(), state.max(), _INTERVALS + 1)
    counts, _ = np.histogram(state, grid)
    nodes, waiting = [grid[0]], 0
    for count, end in zip(counts, grid[1:], strict=True):
        waiting += count
        if waiting >= _LEAST_STEPS:
            nodes.append(end)
            waiting = 0
    if len(nodes) > 1:
        nodes.pop()  # what is left over joins the last interval
    return np.array([*nodes, grid[-1]])


def _to_ends(
    nodes: NDArray[np.float64],
    mean: NDArray[np.float64],
    spread: NDArray[np.float64],
    error: NDArray[np.float64],
) -> tuple[Jumps, list[float]]:
    """Add nodes at 0 and 1: straight on from the two outermost, the spread as at the outermost."""
    ends = np.array([0.0, 1.0])
    inner, outer = np.array([1, -2]), np.array([0, -1])
    share = (ends - nodes[outer]) / (nodes[outer] - nodes[inner])
    end_mean = mean[outer] + share * (mean[outer] - mean[inner])
    end_error = np.hypot((1.0 + share) * error[outer], share * error[inner])
    keep = (nodes > 1e-9) & (nodes < 1.0 - 1e-9)
    columns = []
    for middle, edge in ((mean, end_mean), (spread, spread[outer]), (error, end_error)):
        columns.append(np.array([edge[0], *middle[keep], edge[1]]).clip(min=0.0).tolist())
    places = (0.0, *nodes[keep].tolist(), 1.0)
    return Jumps(nodes=places, mean=tuple(columns[0]), spread=tuple(columns[1])), columns[2]


def mirrored(jumps: Jumps) -> Jumps:
    """The same steps from the other end of the range."""
    nodes = tuple(1.0 - node for node in reversed(jumps.nodes))
    return Jumps(nodes=nodes, mean=jumps.mean[::-1], spread=jumps.spread[::-1])
