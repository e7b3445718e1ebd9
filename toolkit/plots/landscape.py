"""Loss landscapes, as maps with contours."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from toolkit.plots.elements import SEQUENTIAL, framed


def landscape_map(
    data: xr.Dataset, *, title: str = "Loss landscape", limits: tuple[float, float] | None = None
) -> hv.Overlay:
    """The loss of a :func:`~toolkit.training.loss_landscape` in colour, on a log scale.

    The tooltip has the loss and the accuracy or R², the cross marks the model itself. ``limits``
    are those of the colours, to compare landscapes; None: the least and the greatest loss.
    """
    measure = "accuracy" if "accuracy" in data else "r_squared"
    low, high = limits or (float(data.loss.min()), float(data.loss.max()))
    grid = (data.alpha.values, data.beta.values, data.loss.values, data[measure].values)
    image = hv.Image(grid, ["alpha", "beta"], ["loss", measure]).opts(
        cmap=SEQUENTIAL, colorbar=True, clim=(max(low, 1e-6), max(high, 1e-5)), logz=True,
        clabel=f"{data.loss.attrs['long_name']} ({data.loss.attrs['units']})", tools=["hover"],
    )  # fmt: skip
    middle = hv.Points([(0.0, 0.0)]).opts(color="white", marker="x", size=10, line_width=2)
    labels = (str(data[name].attrs["long_name"]) for name in ("alpha", "beta"))
    return framed(image * middle, title, *labels, show_grid=False)


def shared_limits(*landscapes: xr.Dataset) -> tuple[float, float]:
    """The least and the greatest loss of several landscapes."""
    losses = np.concatenate([each.loss.values.ravel() for each in landscapes])
    return float(losses.min()), float(losses.max())
