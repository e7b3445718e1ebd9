"""The Playground's live views by name: a new one is a row of ``VIEWS``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch

from dashboards.app.widgets import method_name
from dashboards.playground.cost import COST
from dashboards.playground.maps import MAPS, ON_CELLS
from dashboards.playground.predictions import PREDICTIONS
from dashboards.playground.update import UPDATE
from dashboards.playground.view import View
from toolkit.plots import (
    LiveFigure,
    accuracy_curve,
    angle_curve,
    conductance_shares,
    energy_curves,
    loss_curve,
    spectrum_points,
)
from toolkit.plots.elements import GREY, energy_columns, siemens_prefix, spectrum_columns
from toolkit.training.live.snapshot import LayerView, Look, Snapshot

BINS = 60
BEFORE = "before Reset"
DRAG = 25  # steps within which changes of one knob count as one: a slider passes values
_NONE = np.zeros(0)


def changes(snapshot: Snapshot) -> list[tuple[int, str, Any, Any]]:
    """The changes of knobs (step, knob, old, new); those of one drag are one, at its end."""
    kept: dict[str, tuple[int, str, Any, Any]] = {}  # the last of each knob
    done: list[tuple[int, str, Any, Any]] = []
    for step, knob, old, new in snapshot.events:
        last = kept.get(knob)
        if last and step - last[0] <= DRAG:
            done.remove(last)
            old = last[2]
        kept[knob] = (step, knob, old, new)
        done.append(kept[knob])
    return done


def change_marks(snapshot: Snapshot) -> dict[str, Any]:
    """One mark per step with changed knobs: its position, and what changed."""
    words: dict[int, list[str]] = {}
    for step, knob, old, new in changes(snapshot):
        words.setdefault(step, []).append(f"{knob} {_name(old)} → {_name(new)}")
    steps = np.array(list(words), dtype=float)
    texts = [f"after step {step}: {', '.join(changed)}" for step, changed in words.items()]
    return {"x": steps, "what": [escape(text) for text in texts]}


def _name(value: Any) -> str:
    if value is None:
        return "preset"
    return f"{value:g}" if isinstance(value, float) else method_name(value)


def _last_change(snapshot: Snapshot) -> str:
    """What changed last, its new value first: a narrow figure cuts off the end."""
    found = changes(snapshot)
    last = found[-1][0] if found else 0
    named = ", ".join(f"{knob} {_name(new)}" for step, knob, _, new in found if step == last)
    return f" · {named} from step {last}" if found else ""


# --- curves -------------------------------------------------------------------------------------


def _with_marks(live: LiveFigure, glyph: int) -> LiveFigure:
    live.set_columns(glyph, {"x": _NONE, "what": []})
    live.explain(glyph, "what")
    return live


def _blank_loss() -> LiveFigure:
    live = LiveFigure(loss_curve(_NONE, _NONE), from_zero=True)
    live.add_curve("step", "loss", color=GREY, name=BEFORE, legend="top_right")
    return _with_marks(live, 1)


def _blank_accuracy() -> LiveFigure:
    live = LiveFigure(accuracy_curve(_NONE, _NONE), follow="x", from_zero=True)
    live.add_curve("step", "accuracy", color=GREY, name=BEFORE, legend="bottom_right")
    return _with_marks(live, 2)


def _draw_loss(live: LiveFigure, snapshot: Snapshot, past: Snapshot | None) -> str:
    live.set_past(_so_far(_losses(past), snapshot.step))
    live.set_columns(0, _losses(snapshot))
    live.set_columns(1, change_marks(snapshot))
    return "Loss" + _last_change(snapshot)


def _so_far(past: dict[str, Any], step: int) -> dict[str, Any]:
    """The run before as far as this one has come, and up to half further; all at step 0.

    Its end moves seldom, as what changes is sent to the browser again.
    """
    if step == 0:
        return past
    end = 100 * 1.5 ** math.ceil(math.log(max(step / 100, 1), 1.5))
    return {name: column[past["step"] <= end] for name, column in past.items()}


def _losses(snapshot: Snapshot | None) -> dict[str, Any]:
    columns = (snapshot.loss_steps, snapshot.losses) if snapshot else (_NONE, _NONE)
    return dict(zip(("step", "loss"), columns, strict=True))


def _accuracies(snapshot: Snapshot | None) -> dict[str, Any]:
    """In percent."""
    steps, _, shares = snapshot.evaluations.T if snapshot else [_NONE] * 3
    return {"step": steps, "accuracy": 100 * shares}


def _draw_accuracy(live: LiveFigure, snapshot: Snapshot, past: Snapshot | None) -> str:
    live.set_past(_so_far(_accuracies(past), snapshot.step))
    percent = _accuracies(snapshot)
    live.set_columns(0, percent)
    live.set_columns(1, percent)
    live.set_columns(2, change_marks(snapshot))
    return "Test accuracy"


def _draw_spectrum(live: LiveFigure, snapshot: Snapshot, _: Any) -> str:
    found = _layer(snapshot).spectrum
    live.set_columns(0, spectrum_columns(found.singular_value if found else _NONE))
    has_sigma = snapshot.knobs["method"] != "sgd"  # its outer products are the samples'
    live.set_columns(1, spectrum_columns(found.sigma if found and has_sigma else _NONE))
    live.list_curve(1, has_sigma)
    return f"Gradient spectrum, {snapshot.focus.layer}"


def _draw_energy(live: LiveFigure, snapshot: Snapshot, _: Any) -> str:
    steps, captured, optimal, _ = _layer(snapshot).energy.T
    mean, band = energy_columns(steps, captured)
    around = np.concatenate([steps, steps[::-1]]), np.concatenate([band["low"], band["high"][::-1]])
    live.set_columns(0, dict(zip("xy", around, strict=True)))
    live.set_columns(1, {"step": steps, "energy": 100 * optimal})
    live.set_columns(2, mean)
    return f"Captured energy, {snapshot.focus.layer}"


def _draw_angle(live: LiveFigure, snapshot: Snapshot, _: Any) -> str:
    steps, _, _, degrees = _layer(snapshot).energy.T
    live.set_columns(0, {"step": steps, "angle": degrees})
    return f"Angle to the optimal subspace, {snapshot.focus.layer}"


@dataclass(frozen=True)
class Histogram:
    """Share of the cells (percent) in equal bins between the ends of the conductance range."""

    centre: np.ndarray
    plus: np.ndarray
    minus: np.ndarray


def histogram(look: Look) -> Histogram | None:
    """Of the layer's conductances; None for plain weights."""
    array = look.array
    if array.device is None or array.conductance is None:
        return None
    low, high = array.device.g_min, array.device.g_max
    edges = np.linspace(low, high, BINS + 1)
    counts = [
        torch.histc(cells.float(), BINS, low, high).numpy() for cells in array.conductance.cpu()
    ]
    plus, minus = (100.0 * count / max(1.0, count.sum()) for count in counts)
    return Histogram((edges[1:] + edges[:-1]) / 2, plus, minus)


def _draw_histogram(live: LiveFigure, snapshot: Snapshot, found: Histogram | None) -> str:
    title = f"Conductance histogram, {snapshot.focus.layer}"
    if found is None:
        for glyph in (0, 1):
            live.set_columns(glyph, {"conductance": _NONE, "share": _NONE})
        return f"{title}: {ON_CELLS}"
    factor, unit = siemens_prefix(float(found.centre[-1]))
    live.label_axes(x=f"conductance ({unit})", y="cells per bin (%)")
    for glyph, share in enumerate((found.plus, found.minus)):
        live.set_columns(glyph, {"conductance": factor * found.centre, "share": share})
    return title


def _layer(snapshot: Snapshot) -> LayerView:
    return snapshot.layers[str(snapshot.focus.layer)]


def _blank(element: Callable[..., Any], columns: int, **how: Any) -> Callable[[], LiveFigure]:
    return lambda: LiveFigure(element(*[_NONE] * columns), **how)


VIEWS: dict[str, View] = {
    "loss": View(
        "Loss",
        _blank_loss,
        _draw_loss,
        "The error on the batches that the network trains on, lower is better; a grey line marks "
        "every change of a knob. A loss of 2.3 is pure guessing among ten classes. The pale curve "
        "is the run before Reset, as far as this one has come.",
        ("01_quick_start", "A first run"),
        recalls=True,
    ),
    "accuracy": View(
        "Test accuracy",
        _blank_accuracy,
        _draw_accuracy,
        "The share of pictures classified correctly among those never used in training. It is "
        "measured after every pass over the training set (an epoch). The pale curve is the run "
        "before Reset.",
        ("01_quick_start", "A first run"),
        recalls=True,
    ),
    "energy": View(
        "Captured energy",
        _blank(energy_curves, 3, follow="x", from_zero=True),
        _draw_energy,
        "How much of each batch's gradient the update contains, as a mean of ten batches within "
        "the band of single ones; grey is the most that this rank allows. SBPCA averages over "
        "batches, so a single batch may point elsewhere: its value can even be negative.",
        ("04_spectra", "A look at a gradient"),
    ),
    "spectrum": View(
        "Gradient spectrum",
        _blank(spectrum_points, 2),
        _draw_spectrum,
        "The singular values of the last gradient, from the strongest direction to the weakest "
        "(grey), and those that the update keeps (orange). They fall fast: a few directions "
        "carry most of the gradient, which is why a low rank trains well.",
        ("04_spectra", "A look at a gradient"),
    ),
    "angle": View(
        "Angle to the optimum",
        _blank(angle_curve, 2, follow="x", from_zero=True),
        _draw_angle,
        "The largest angle between the directions of the update and the best ones of this batch: "
        "0 degrees is optimal, 90 degrees means that a direction is missing.",
        ("04_spectra", "A look at a gradient"),
    ),
    "predictions": PREDICTIONS,
    **UPDATE,
    **MAPS,
    "histogram": View(
        "Conductance histogram",
        _blank(conductance_shares, 3),
        _draw_histogram,
        "How many cells have which conductance, for both cells of the pairs. Cells that pile up "
        "at an end of the range can move no further.",
        ("10_real_devices", "The effect of a pulse depends on the state"),
        histogram,
    ),
    "cost": COST,
}
