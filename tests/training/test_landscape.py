"""Loss landscapes: a parabola by hand, filters' norms, cells, and the figure."""

import dataclasses

import holoviews as hv
import numpy as np
import pytest
import torch
from torch import nn

from toolkit.crossbar import get_device
from toolkit.plots import landscape_map
from toolkit.plots.landscape import shared_limits
from toolkit.training import load_dataset, loss_landscape, to_crossbar
from toolkit.training.landscape import _like

DATA = load_dataset("gaussians")
CLASSES = DATA.classes


def linear():
    torch.manual_seed(0)
    return nn.Linear(DATA.test_inputs.shape[1], CLASSES)


def test_every_filter_of_a_direction_has_the_norm_of_the_models():
    weight, generator = torch.randn(5, 3, 2, 2), torch.Generator().manual_seed(1)
    direction = _like(weight, generator)
    norms = [each.flatten(1).norm(dim=1) for each in (direction, weight)]
    torch.testing.assert_close(*norms)
    assert not torch.allclose(direction, weight)
    assert not _like(torch.randn(5), generator).any()  # biases stay


def test_squares_of_a_linear_layer_are_a_parabola():
    """L(a, b) is of second degree, and L(0, 0) is the model's."""
    model = linear()
    with torch.no_grad():
        scores = model(DATA.test_inputs)
        targets = nn.functional.one_hot(DATA.test_labels, CLASSES).float()
        loss = float((scores - targets).square().mean())
        right = float((scores.argmax(1) == DATA.test_labels).double().mean())
    found = loss_landscape(model, DATA, loss="mean-squared-error", points=5, seed=3)
    middle = found.sel(alpha=0.0, beta=0.0)
    assert float(middle.loss) == pytest.approx(loss, rel=1e-5)
    assert float(middle.accuracy) == pytest.approx(right)
    grid = np.meshgrid(found.alpha, found.beta)
    x, y = (each.ravel() for each in grid)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)
    fitted, *_ = np.linalg.lstsq(terms, found.loss.values.ravel(), rcond=None)
    np.testing.assert_allclose(terms @ fitted, found.loss.values.ravel(), rtol=1e-5)
    assert fitted[3] > 0 < fitted[5]


def test_exact_cells_have_the_landscape_of_plain_weights_and_stuck_ones_do_not():
    model, knobs = linear(), {"points": 3, "span": 2.0, "seed": 1}
    ideal = get_device("ideal")
    plain = loss_landscape(model, DATA, **knobs)
    exact = loss_landscape(to_crossbar(model), DATA, device=ideal, **knobs)
    np.testing.assert_allclose(exact.loss, plain.loss, rtol=1e-3)
    stuck = dataclasses.replace(ideal, stuck_low=0.2)
    hurt = loss_landscape(model, DATA, device=stuck, **knobs)
    assert float(abs(hurt.loss - plain.loss).max()) > 0.01
    again = loss_landscape(model, DATA, device=stuck, **knobs)
    assert again.loss.equals(hurt.loss) and "ideal" in hurt.attrs["settings"]


def test_a_map_shows_the_loss_and_where_the_model_is():
    found = loss_landscape(linear(), DATA, points=5)
    image, middle = landscape_map(found, limits=shared_limits(found, 2 * found))
    assert image.interface.coords(image, "alpha").tolist() == found.alpha.values.tolist()
    assert image.dimension_values("loss", flat=False).tolist() == found.loss.values.tolist()
    assert middle.array().tolist() == [[0.0, 0.0]]
    drawn = hv.render(landscape_map(found))
    assert "direction 1" in drawn.xaxis[0].axis_label
