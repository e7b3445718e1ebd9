"""The live view of the data, and of what the network makes of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dashboards.app.site import Text
from dashboards.playground.view import View
from toolkit.plots.elements import COLOURS
from toolkit.training.data.dataset import Dataset
from toolkit.training.live.snapshot import Look, Snapshot

CANDIDATES = 200  # test samples looked at
SHOWN = 12
GRID = 90  # points along each side of a plane
RIGHT, WRONG = "#007a55", "#c0392b"


@dataclass(frozen=True)
class Prediction:
    """One test sample: its class, the predicted one, its probability, and a picture as a URL."""

    label: int
    predicted: int
    probability: float
    picture: str


@dataclass(frozen=True)
class Predictions:
    """The hardest of the first test samples; of a plane (two features), the plane as a picture."""

    hardest: Sequence[Prediction]
    plane: str


def predictions(look: Look) -> Predictions | None:
    """Read through a copy of the network: looking costs the run no read and no random number."""
    try:
        return _of_data(look.run.data, look)
    except ValueError:  # values are no longer finite
        return None


def _of_data(data: Dataset, look: Look) -> Predictions:
    if data.features == 2 and data.image_shape is None:
        return Predictions((), _plane(data, look))
    inputs, labels = data.test_inputs[:CANDIDATES], data.test_labels[:CANDIDATES]
    shares = look.scores(inputs).softmax(1)
    hardest = shares[torch.arange(len(labels)), labels].argsort()[:SHOWN].tolist()
    return Predictions([_prediction(data, shares, place) for place in hardest], "")


def _prediction(data: Dataset, shares: Tensor, place: int) -> Prediction:
    best = int(shares[place].argmax())
    picture = picture_of(data, data.test_inputs[place]) if data.image_shape else ""
    return Prediction(int(data.test_labels[place]), best, float(shares[place, best]), picture)


def picture_of(data: Dataset, sample: Tensor) -> str:
    """A sample of pictures as a PNG in a URL."""
    pixels = sample.cpu().reshape(data.image_shape or ()).clamp(0, 1).mul(255).to(torch.uint8)
    channels = pixels.permute(1, 2, 0).numpy()
    shape = channels.shape if channels.shape[2] == 3 else channels.shape[:2]
    return _url(channels.tobytes(), shape)


def _plane(data: Dataset, look: Look) -> str:
    """The predicted class of every point in its colour, paler where it is less certain."""
    points = data.test_inputs.cpu()
    low, high = points.min(0).values, points.max(0).values
    axes = [torch.linspace(float(a), float(b), GRID) for a, b in zip(low, high, strict=True)]
    grid = torch.cartesian_prod(axes[1].flip(0), axes[0]).flip(1)
    shares = look.scores(grid.to(data.test_inputs)).softmax(1).cpu()
    certain, best = shares.max(1)
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS], dtype=float)
    share = 0.6 * certain.numpy()[:, None]
    picture = 255 * (1 - share) + share * colours[best.numpy() % len(colours)]
    picture = picture.reshape(GRID, GRID, 3)
    column, row = ((GRID - 1) * (points - low) / (high - low)).round().long().numpy().T
    picture[GRID - 1 - row, column] = 0.8 * colours[data.test_labels.cpu().numpy() % len(colours)]
    return _url(picture.astype(np.uint8).tobytes(), picture.shape)


@lru_cache(200)  # the same hard samples come again and again
def _url(pixels: bytes, shape: tuple[int, ...]) -> str:
    file = io.BytesIO()
    Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(shape)).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _draw(pane: Text, snapshot: Snapshot, found: Predictions | None) -> str:  # noqa: ARG001
    if found is None:
        return "Predictions: the network's values are not finite"
    pane.object = predictions_html(found)
    return "Decision surface and test samples" if found.plane else "Hardest test samples"


def predictions_html(found: Predictions) -> str:
    """The plane, or each sample with what it is and what the network takes it for."""
    if found.plane:
        return (
            f'<img src="{found.plane}" alt="Predicted class of every point of the plane" '
            'style="height:100%;max-height:230px;image-rendering:pixelated">'
        )
    cards = "".join(map(_card, found.hardest))
    high = 70 if found.hardest[0].picture else 32
    return (  # as many rows as there is room for
        '<div style="display:grid;height:100%;overflow:hidden;gap:0 8px;grid-auto-rows:0;'
        f"grid-template-columns:repeat(auto-fill,76px);grid-template-rows:repeat(auto-fill,{high}px)"
        f'">{cards}</div>'
    )


def _card(one: Prediction) -> str:
    right = one.label == one.predicted
    mark, colour = ("✓", RIGHT) if right else ("✗", WRONG)
    image = (
        f'<img src="{one.picture}" alt="a sample of class {one.label}" '
        'style="display:block;margin:auto;width:38px;height:38px;image-rendering:pixelated">'
        if one.picture
        else ""
    )
    return (
        '<figure style="margin:0;overflow:hidden;text-align:center;font-size:11px;line-height:1.2">'
        f'{image}<figcaption style="border-bottom:3px solid {colour}">'
        f"says {one.predicted} ({one.probability:.0%})<br>is {one.label} {mark}"
        "</figcaption></figure>"
    )


PREDICTIONS = View(
    "Predictions",
    lambda: Text("", sizing_mode="stretch_both", margin=(2, 10)),
    _draw,
    "Test samples that the network finds hardest: what it takes each for, how sure it is, and "
    "whether that is right. If samples have two features, it shows the predicted class of every "
    "point of the plane.",
    ("01_quick_start", "A first run"),
    predictions,
)
