"""A drawing of the network: data, weight layers with their arrays, activations, classes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import NamedTuple

from dashboards.app.figure_pane import explanation
from dashboards.app.site import Text
from dashboards.playground.predictions import picture_of
from toolkit.plots.elements import ORANGE
from toolkit.training.layers.modules import CrossbarLayer
from toolkit.training.live.snapshot import Look

LAYER = "Layer"  # label of the select that a click sets
SIDE, THINNEST = 34, 5  # pixels of an array's longer side, and of its shorter one at least
WRAPPED = 9  # parts: a longer network scrolls
_WORDS = {
    "MaxPool2d": "max pooling",
    "BatchNorm2d": "batch norm",
    "Unflatten": "",
    "Flatten": "",
}
# A changed text replaces the buttons, so the one pressed has to get the focus back.
_PICK = f"""
if (this.ariaPressed === 'true') return
const name = this.value, root = this.getRootNode()
const focus = (_, seen) => {{
  seen.disconnect()
  for (const other of root.querySelectorAll('button')) if (other.value === name) other.focus()
}}
new MutationObserver(focus).observe(root, {{childList: true, subtree: true}})
for (const document of Bokeh.documents)
  for (const model of document._all_models.values())
    if (model.data && model.data.label === '{LAYER}') model.data.value = name
"""
ABOUT = (
    "Signals run from left to right. Every rectangle is the array of one layer, in proportion: a "
    "row for each output, a column for each input, and the orange column for the biases. Two "
    "rectangles are the two cells of every pair, whose difference is the weight. Click a layer to "
    "see it in the figures."
)
LESSON = ("02_crossbar", "A layer on an array")
_ROW = "display:flex;align-items:center;gap:6px;white-space:nowrap"
_BUTTON = (
    "padding:1px 6px;border-radius:6px;background:none;color:inherit;font:inherit;cursor:pointer;"
    "outline-offset:1px"
)


class Array(NamedTuple):
    """The array of a layer; ``bias``: its last column is biases, ``cells``: pairs of cells."""

    name: str
    shape: tuple[int, int]
    bias: bool
    cells: bool


class Network(NamedTuple):
    """A network in its order: arrays, and what happens between them in words."""

    data: str
    picture: str
    parts: tuple[Array | str, ...]
    classes: int


def network(look: Look) -> Network:
    """The run's network, read in its thread."""
    data = look.run.data
    size = " × ".join(map(str, data.image_shape[1:] if data.image_shape else [data.features]))
    picture = picture_of(data, data.test_inputs[0]) if data.image_shape else ""
    return Network(f"{data.name}, {size}", picture, tuple(_parts(look)), data.classes)


def _parts(look: Look) -> Iterator[Array | str]:
    for path, module in look.run.network.named_modules():
        if isinstance(module, CrossbarLayer):
            for name, array in look.run.arrays.items():
                if name == path or name.startswith(f"{path}.group"):
                    yield Array(name, array.shape, module.has_bias, array.device is not None)
        elif path and not [*module.children()]:
            kind = type(module).__name__
            yield _WORDS.get(kind, kind)


class Drawing(Text):
    """The drawing as HTML; a button for each array sets the page's choice of the layer."""

    def __init__(self) -> None:
        super().__init__("", sizing_mode="stretch_width", margin=(0, 10))
        self._about = explanation(ABOUT, LESSON)

    def draw(self, found: Network | None, layer: str | None) -> None:
        """Draw a network with one of its layers marked."""
        if found is not None:
            self.object = network_html(found, layer, self._about)


def network_html(found: Network, layer: str | None, about: str = "") -> str:
    """The network as a row of buttons and words."""
    image = f'<img src="{found.picture}" alt="" style="height:{SIDE}px;image-rendering:pixelated">'
    data = f'<span style="{_ROW}">{image if found.picture else ""}{escape(found.data)}</span>'
    steps = [data]
    for _, parts in groupby(found.parts, type):
        arrays, words = [], []
        for part in parts:
            if isinstance(part, Array):
                arrays.append(_button(part, layer))
            elif part:
                words.append(escape(part))
        between = f'<span style="display:block;font-size:11px;line-height:1.1">{"<br>".join(words)}'
        steps += [*arrays, *([f"{between}</span>"] if words else [])]
    steps.append(f"{found.classes} classes")
    wrap = "wrap" if len(found.parts) <= WRAPPED else "nowrap"
    row = '<span aria-hidden="true">→</span>'.join(f"<span>{step}</span>" for step in steps)
    return (
        '<div style="display:flex;align-items:center;gap:8px"><div role="group" tabindex="0" '
        'aria-label="The network: choose the layer that the figures show" '
        f'style="{_ROW};flex-wrap:{wrap};overflow-x:auto;font-size:12px;padding:3px">{row}</div>{about}</div>'
    )


def _button(array: Array, layer: str | None) -> str:
    held = f"{array.shape[0]} × {array.shape[1]} {'pairs' if array.cells else 'weights'}"
    words = f"{array.name}: {held}" + (", with biases in the last column" if array.bias else "")
    words, name, here = escape(words), escape(array.name), array.name == layer
    edge = "2px solid var(--mui-palette-primary-main,#0072B2)" if here else "1px solid #8888"
    return (
        f'<button type="button" value="{name}" aria-pressed="{str(here).lower()}" '
        f'aria-label="{words}" title="{words}" onclick="{escape(_PICK)}" '
        f'style="{_ROW};{_BUTTON};border:{edge}">{_picture(array)}'
        f'<span style="text-align:left"><strong>{name}</strong><br>{held}</span></button>'
    )


def _picture(array: Array) -> str:
    """The array in proportion, once for each cell of a pair, with the column of biases."""
    height, width = (max(THINNEST, SIDE * side / max(array.shape)) for side in array.shape)
    drawn = ""
    for shift in (0, 3) if array.cells else (0,):
        x, y = (SIDE - width) / 2 + shift, (SIDE - height) / 2 + shift
        place = f'y="{y:.1f}" height="{height:.1f}"'
        drawn += (
            f'<rect x="{x:.1f}" {place} width="{width:.1f}" fill="#56B4E9" fill-opacity=".45" '
            'stroke="currentColor" stroke-width=".8"/>'
        )
        if array.bias:
            drawn += f'<rect x="{x + width - 2:.1f}" {place} width="2" fill="{ORANGE}"/>'
    return f'<svg aria-hidden="true" width="{SIDE + 4}" height="{SIDE + 4}">{drawn}</svg>'
