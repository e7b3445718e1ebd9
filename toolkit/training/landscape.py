"""Loss landscapes: the loss on a plane through trained weights, digital or on cells."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from toolkit.checks import as_generator, check_choice, check_count, check_instance, check_real
from toolkit.results.schema import root_attributes
from toolkit.training.data.dataset import Dataset
from toolkit.training.experiment.objective import LOSSES, Objective
from toolkit.training.layers.convert import HEADROOM, to_crossbar, to_digital
from toolkit.training.layers.guards import crossbar_layers

MOST_POINTS = 201


def loss_landscape(
    model: nn.Module,
    data: Dataset,
    *,
    loss: str = LOSSES[0],
    span: float = 1.0,
    points: int = 21,
    seed: int = 0,
    **cells: Any,
) -> xr.Dataset:
    r"""Loss and fit on the test part, over a plane through the weights of ``model``.

    .. math:: f(\alpha, \beta) = L(\theta + \alpha\,\delta + \beta\,\eta)

    The directions are normal random numbers, scaled so that every filter (row of a weight) of
    :math:`\delta` and :math:`\eta` has the norm of the model's: landscapes of networks whose
    weights are scaled differently can be compared. Parameters of one dimension (biases,
    normalisation) stay.

    Parameters
    ----------
    model
        A trained network, plain or on arrays, whose weights are taken then.
    data
        Its data set.
    loss
        "cross-entropy" or "mean-squared-error".
    span
        The plane reaches from -span to span in both directions; 1 is the norm of the weights.
    points
        Points along each direction, 3 to 201; an odd number has the model itself in the middle.
    seed
        Seed of the directions and of the cells, which are the same at all points.
    **cells
        As for :func:`~toolkit.training.to_crossbar`, such as ``device``: the weights of every point
        are programmed onto these cells. Without any: plain weights.

    Returns
    -------
    xarray.Dataset
        ``loss`` and ``accuracy`` (or ``r_squared``) over ``beta`` and ``alpha``.

    Raises
    ------
    TypeError, ValueError
        If a value is not allowed.

    References
    ----------
    Li et al., Visualizing the loss landscape of neural nets, NeurIPS (2018), arXiv 1712.09913.
    """
    check_instance("model", model, nn.Module, "an nn.Module")
    check_instance("data", data, Dataset, "a Dataset, as load_dataset gives")
    check_choice("loss", loss, LOSSES)
    check_real("span", span, above=0.0)
    check_count("points", points, 3, MOST_POINTS)
    centre = to_digital(model) if crossbar_layers(model) else copy.deepcopy(model)
    centre.eval().requires_grad_(requires_grad=False)
    generator = as_generator(seed)
    directions = [_direction(centre, generator), _direction(centre, generator)]
    if cells:
        cells |= {"seed": seed, "overrides": _ranges(centre, directions, span, cells)}
    objective, steps = Objective(data, loss), np.linspace(-span, span, points)
    found = np.empty((2, points, points))
    for row, beta in enumerate(steps):
        for column, alpha in enumerate(steps):
            network = _moved(centre, directions, (float(alpha), float(beta)))
            network = to_crossbar(network, **cells) if cells else network
            found[:, row, column] = objective.on_test_part(network, data)
    settings = {"dataset": data.name, "loss": loss}
    settings |= {name: str(value) for name, value in cells.items()}
    return _dataset(found, steps, objective.measure, seed, settings)


def _direction(model: nn.Module, generator: torch.Generator) -> list[Tensor]:
    """A random change of every parameter, filter by filter as large as the parameter."""
    return [_like(each, generator) for each in model.parameters()]


def _like(weight: Tensor, generator: torch.Generator) -> Tensor:
    if weight.dim() < 2:
        return torch.zeros_like(weight)
    drawn = torch.randn(weight.shape, generator=generator).to(weight)
    ratio = weight.flatten(1).norm(dim=1) / drawn.flatten(1).norm(dim=1)
    return drawn * ratio.reshape(-1, *[1] * (weight.dim() - 1))


def _moved(
    model: nn.Module, directions: list[list[Tensor]], place: tuple[float, float]
) -> nn.Module:
    made = copy.deepcopy(model)
    for weight, *changes in zip(made.parameters(), *directions, strict=True):
        for share, change in zip(place, changes, strict=True):
            weight.add_(change, alpha=share)
    return made


def _ranges(
    model: nn.Module, directions: list[list[Tensor]], span: float, cells: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """A ``w_max`` for each layer that holds its weights at the corners, the farthest points."""
    given = {name: dict(changes) for name, changes in (cells.get("overrides") or {}).items()}
    if "w_max" in cells:
        return given
    own = _w_max(to_crossbar(model, **cells))
    for place in ((a, b) for a in (-span, span) for b in (-span, span)):
        corner = _w_max(to_crossbar(_moved(model, directions, place), **cells))
        own = {name: max(limit, corner[name] / HEADROOM) for name, limit in own.items()}
    return {name: {"w_max": limit} for name, limit in own.items()} | given


def _w_max(model: nn.Module) -> dict[str, float]:
    arrays = {name: layer.arrays[0] for name, layer in crossbar_layers(model).items()}
    parts = {name: getattr(array, "parts", [array]) for name, array in arrays.items()}
    return {name: each[0].w_max for name, each in parts.items() if hasattr(each[0], "w_max")}


def _dataset(
    found: np.ndarray, steps: np.ndarray, measure: str, seed: int, settings: dict[str, str]
) -> xr.Dataset:
    axis = {"units": "1", "long_name": "step over the norm of the weights, direction "}
    coords = {
        name: (name, steps, axis | {"long_name": axis["long_name"] + str(index)})
        for index, name in enumerate(("alpha", "beta"), 1)
    }
    loss = settings["loss"]
    unit = "nat" if loss == LOSSES[0] else "1"
    variables = {
        "loss": (("beta", "alpha"), found[0], {"units": unit, "long_name": f"test {loss}"}),
        measure: (("beta", "alpha"), found[1], {"units": "1", "long_name": f"test {measure}"}),
    }
    attributes = root_attributes(
        seed=seed,
        settings=settings,
        title=f"Loss landscape, {settings['dataset']}",
        created=datetime.now(UTC),
    )
    return xr.Dataset(variables, coords, attributes)
