"""HoloViews elements: what a run looks like. No training, no widgets, no page."""

from toolkit.plots.devices import response_curves
from toolkit.plots.elements import (
    accuracy_curve,
    angle_curve,
    conductance_shares,
    energy_curves,
    heat_map,
    loss_curve,
    spectrum_points,
)
from toolkit.plots.landscape import landscape_map, shared_limits
from toolkit.plots.live import LiveFigure
from toolkit.plots.runs import conductance_maps, convergence, gradient_spectrum
from toolkit.plots.update import outer_products

__all__ = [
    "LiveFigure",
    "accuracy_curve",
    "angle_curve",
    "conductance_maps",
    "conductance_shares",
    "convergence",
    "energy_curves",
    "gradient_spectrum",
    "heat_map",
    "landscape_map",
    "loss_curve",
    "outer_products",
    "response_curves",
    "shared_limits",
    "spectrum_points",
]
