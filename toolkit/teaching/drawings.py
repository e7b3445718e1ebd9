"""The schematic at the head of every notebook, as SVG: one style, for light and dark pages.

Lines and words have the colour of the page's text; blue and orange are positive and negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from toolkit.checks import check_choice

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
WIDTH, HEIGHT = 720, 230
Point = tuple[float, float]
INK = "currentColor"
SIGNS = "blue: positive, orange: negative"  # of the squares of ``Drawing.cells``


class Drawing:
    """An SVG image of 720 x 230 that Jupyter shows; ``about`` is its text for screen readers."""

    def __init__(self, about: str) -> None:
        self.about = about
        self._parts: list[str] = []

    def _repr_html_(self) -> str:
        return self.svg

    @property
    def svg(self) -> str:
        """The image as text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'style="max-width:{WIDTH}px;width:100%" font-family="sans-serif" font-size="14">'
            f"<title>{escape(self.about)}</title>"
        )
        return "\n".join([head, *self._parts, "</svg>"])

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "middle",
        size: int = 14,
        ink: str = INK,
    ) -> None:
        """Text around (x, y), one line below the other."""
        lines = text.split("\n")
        for i, line in enumerate(lines):
            at = y + 5 + (i - (len(lines) - 1) / 2) * (size + 4)
            self._parts.append(
                f'<text x="{x:g}" y="{at:g}" text-anchor="{anchor}" font-size="{size}" '
                f'fill="{ink}">{escape(line)}</text>'
            )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        *,
        fill: str = "none",
        opacity: float = 0.35,
        size: int = 14,
    ) -> None:
        """A rectangle with words in it."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" '
            f'fill="{fill}" fill-opacity="{opacity:g}" stroke="{INK}" stroke-width="1.3"/>'
        )
        if text:
            self.words(x + width / 2, y + height / 2, text, size=size)

    def line(
        self,
        *points: Point,
        ink: str = INK,
        arrow: bool = False,
        dashed: bool = False,
        width: float = 1.5,
    ) -> None:
        """A line through points, with a head at its end if it is an arrow."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{ink}" '
            f'stroke-width="{width:g}"{dashes}/>'
        )
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            angle = math.atan2(y1 - y0, x1 - x0)
            sides = [
                (x1 - 9 * math.cos(angle + t), y1 - 9 * math.sin(angle + t)) for t in (-0.4, 0.4)
            ]
            head = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x1, y1), *sides])
            self._parts.append(f'<polygon points="{head}" fill="{ink}"/>')

    def dot(self, x: float, y: float, radius: float = 4, ink: str = INK) -> None:
        """A filled circle."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{ink}"/>')

    def cells(self, x: float, y: float, values: Sequence[Sequence[float]], size: float) -> None:
        """A matrix of squares: blue is positive, orange negative, pale small."""
        places = {
            (x + j * size, y + i * size): value
            for i, row in enumerate(values)
            for j, value in enumerate(row)
        }
        for ink, sign in ((BLUE, 1.0), (ORANGE, -1.0)):
            self._parts.append(f'<g fill="{ink}" stroke="{INK}" stroke-width="0.6">')
            self._parts += [
                f'<path d="M{x0:g} {y0:g}h{size:g}v{size:g}h-{size:g}z" '
                f'fill-opacity="{min(abs(value), 1.0):.2f}"/>'
                for (x0, y0), value in places.items()
                if math.copysign(1.0, value) == sign
            ]
            self._parts.append("</g>")


_LEFT, _RIGHT = (0.9, -0.4, 0.6, -0.8, 0.2), (0.3, 0.9, -0.7, 0.5, -0.2, 0.8)


def _outer(left: Sequence[float], right: Sequence[float]) -> list[list[float]]:
    return [[a * b for b in right] for a in left]


def _quick_start(d: Drawing) -> None:
    names = (
        "a batch",
        "network\non crossbars",
        "errors and\nactivations",
        "SBPCA",
        "k outer\nproducts",
    )
    for i, name in enumerate(names):
        d.box(12 + 142 * i, 60, 112, 62, name, fill=BLUE if i == 3 else "none")
        if i:
            d.line((12 + 142 * i - 30, 91), (12 + 142 * i, 91), arrow=True)
    d.line((636, 122), (636, 180), (210, 180), (210, 124), arrow=True, ink=ORANGE)
    d.words(424, 198, "pulses on rows and columns: the weights move, and the next batch comes")
    d.words(360, 28, "Rank, block, batch and device can change at any step")


def _crossbar(d: Drawing) -> None:
    for j in range(4):
        x = 80 + 80 * j
        d.words(x, 14, f"V{'₀₁₂₃'[j]}")
        d.line((x, 28), (x, 196), ink=BLUE, width=2)
    for i in range(3):
        y = 56 + 55 * i
        d.line((44, y), (384, y), arrow=True, ink=ORANGE, width=2)
        d.words(402, y, f"I{'₀₁₂'[i]}")
        for j in range(4):
            d.box(68 + 80 * j, y - 14, 24, 28, fill=GREEN, opacity=0.2 + 0.12 * ((i + 2 * j) % 5))
    d.words(214, 214, "inputs down, outputs to the right", size=13)
    d.words(570, 50, "Ohm: a cell carries G V", size=14)
    d.words(570, 78, "Kirchhoff: currents of a row add up", size=14)
    d.words(570, 112, "I = Σ G V", size=17)
    d.words(570, 172, "A weight takes two cells:\nw = (G⁺ − G⁻) / (Gₘₐₓ − Gₘᵢₙ) · wₘₐₓ", size=13)


def _outer_products(d: Drawing) -> None:
    d.words(70, 20, "error")
    d.cells(58, 40, [[v] for v in _LEFT], 26)
    d.words(108, 105, "×", size=20)
    d.words(208, 20, "activation")
    d.cells(130, 92, [list(_RIGHT)], 26)
    d.words(312, 105, "=", size=20)
    d.words(416, 20, "outer product, m × n")
    d.cells(338, 40, _outer(_LEFT, _RIGHT), 26)
    d.words(610, 70, "A batch of B samples:", size=14)
    d.words(610, 102, "G = Σ error activationᵀ", size=16)
    d.words(610, 140, "the sum of B outer products,\nof rank at most B", size=13)
    d.words(598, 196, SIGNS, size=13)


def _spectra(d: Drawing) -> None:
    d.line((50, 190), (420, 190))
    d.line((50, 190), (50, 30))
    for i in range(14):
        height = 150 * 0.72**i + 3
        d.box(60 + 25 * i, 190 - height, 18, height, fill=BLUE if i < 4 else "none", opacity=0.6)
    d.line((157, 24), (157, 200), dashed=True)
    d.words(105, 210, "k largest: kept")
    d.words(300, 210, "the rest: left out")
    d.words(290, 40, "singular values of a gradient", size=13)
    d.words(580, 76, "G ≈ Σ σᵢ uᵢ vᵢᵀ", size=17)
    d.words(580, 122, "a few directions\nhold most of the energy", size=14)


def _streaming(d: Drawing) -> None:
    x, y = 150, 185
    d.line((x - 110, y), (x + 250, y), arrow=True)
    d.words(x + 300, y, "first direction")
    d.line((x, y + 20), (x, 24), arrow=True)
    d.words(x, 12, "second direction", size=13)
    for i in range(6):
        angle = math.radians(72) * 0.62**i
        tip = (x + 150 * math.cos(angle), y - 150 * math.sin(angle))
        d.line((x, y), tip, ink=BLUE, arrow=True, width=1 + 0.3 * i)
    d.words(x + 105, 44, "start", ink=BLUE)
    d.words(590, 60, "Multiply and normalise:\nx ← G x / |G x|", size=15)
    d.words(590, 118, "Each turn shrinks the second\ndirection by σ₂/σ₁.", size=13)
    d.words(590, 160, "Streaming: a new G each turn", size=13)


def _sbpca(d: Drawing) -> None:
    boxes = (
        ("X ← qr[past + Aᵀ(D Δ)]", "n × k"),
        ("Δ ← qr[past + Dᵀ(A X)]", "m × k"),
        ("σ ← past + diag(ΔᵀDᵀ A X)", "k"),
    )
    for i, (name, size) in enumerate(boxes):
        d.box(20 + 238 * i, 80, 204, 56, name, fill=BLUE, opacity=0.15)
        d.words(122 + 238 * i, 152, size, size=13)
        if i:
            d.line((20 + 238 * i - 34, 108), (20 + 238 * i, 108), arrow=True)
    d.line((700, 136), (700, 190), (122, 190), (122, 166), arrow=True, ink=ORANGE)
    d.words(400, 208, "the next block of samples", ink=ORANGE)
    d.words(142, 30, "a block: errors D, activations A")
    d.line((122, 44), (122, 80), arrow=True)
    d.line((598, 80), (598, 44), arrow=True)
    d.words(548, 30, "after the batch: k outer products Δ σ Xᵀ")


def _rank_block_batch(d: Drawing) -> None:
    x, y = 120, 190
    ends = {"rank k": (x, 30), "batch B": (x + 210, y), "block b": (x + 110, y - 75)}
    for name, (x1, y1) in ends.items():
        d.line((x, y), (x1, y1), arrow=True, ink=BLUE, width=2)
        d.words(x1 + (0 if name == "rank k" else 38), y1 - (12 if name == "rank k" else 0), name)
    d.words(530, 48, "rank: memory k (m + n + 1),\nand k writes a batch", size=14)
    d.words(530, 108, "batch: samples between writes;\nless noise, fewer pulses", size=14)
    d.words(530, 168, "block: samples read at once;\nbuffer b (m + n)", size=14)


def _relatives(d: Drawing) -> None:
    d.box(270, 12, 180, 38, "a batch of samples")
    groups = (
        ("whole batch at once", "truncated SVD · NMF", "best for this batch"),
        ("sum within a batch", "LRT", "nothing carried over"),
        ("carried to the next", "SBE · SBPCA\nFeedbackPCA", "remembers"),
        ("from the gradient", "power iteration", "needs m × n"),
    )
    for i, (kind, names, note) in enumerate(groups):
        x = 10 + 178 * i
        d.line((360, 50), (x + 83, 84), arrow=True)
        d.box(x, 84, 166, 100, fill=BLUE if i == 2 else "none", opacity=0.2)
        d.words(x + 83, 102, kind, size=13)
        d.words(x + 83, 138, names)
        d.words(x + 83, 206, note, size=13)


def _writing(d: Drawing) -> None:
    left, right = (1, 0, 1, 0, 0), (0, 1, 1, 0, 1, 0)
    d.cells(150, 50, [[0.75 * a * b for b in right] for a in left], 30)
    for i, fires in enumerate(left):
        y = 65 + 30 * i
        d.line(
            (90, y),
            (104, y),
            (104, y - 9 * fires),
            (124, y - 9 * fires),
            (124, y),
            (146, y),
            ink=BLUE,
        )
    for j, fires in enumerate(right):
        x = 165 + 30 * j
        d.line(
            (x, 6), (x, 16), (x + 9 * fires, 16), (x + 9 * fires, 34), (x, 34), (x, 46), ink=ORANGE
        )
    d.words(52, 125, "rows:\nerrors")
    d.words(240, 218, "a cell moves where both lines fire", size=13)
    d.words(390, 26, "columns:\nactivations")
    d.words(580, 84, "All crossings of one sign\nare written in one go", size=16)
    d.words(580, 150, "2 signs × 2 signs:\nat most four phases", size=14)


def _real_devices(d: Drawing) -> None:
    d.line((60, 200), (430, 200), arrow=True)
    d.line((60, 200), (60, 24), arrow=True)
    d.words(250, 218, "pulses", size=13)
    d.words(40, 20, "G")
    for i in range(16):
        up = 1 - math.exp(-i / 4.5)
        d.dot(70 + 11 * i, 190 - 150 * up / 0.965, ink=BLUE)
        down = math.exp(-i / 3.2)
        d.dot(246 + 11 * i, 190 - 150 * (down - 0.009), ink=ORANGE)
    d.words(120, 170, "SET", ink=BLUE, anchor="start")
    d.words(330, 120, "RESET", ink=ORANGE, anchor="start")
    d.words(580, 76, "The same pulse moves a cell\nby less and less", size=15)
    d.words(580, 136, "and SET and RESET\ndo not cancel", size=15)


def _nonideal(d: Drawing) -> None:
    base, unit = 135, 26
    d.line((40, base), (410, base))
    for i, (value, ink) in enumerate(((3.0, BLUE), (-2.0, ORANGE), (2.4, BLUE), (-2.6, ORANGE))):
        top = base - unit * max(value, 0.0)
        d.box(60 + 60 * i, top, 40, unit * abs(value), fill=ink)
    d.words(322, 118, "=", size=22)
    d.box(350, base - 0.8 * unit, 40, 0.8 * unit, fill=GREEN)
    d.words(160, 24, "one outer product after another:\npulses up, pulses down")
    d.words(370, 100, "their sum")
    d.words(580, 70, "Write amplification:\nΣ |pulses| over |Σ pulses|", size=15)
    d.words(580, 136, "on a curved cell, pulses that\ncancel in the sum still move it", size=14)


def _zigzag(x0: float, x1: float, y: float) -> list[Point]:
    steps = 6
    middle = [
        (x0 + (x1 - x0) * (0.2 + 0.6 * (i + 0.5) / steps), y + (4 if i % 2 else -4))
        for i in range(steps)
    ]
    return [(x0, y), (x0 + 0.2 * (x1 - x0), y), *middle, (x0 + 0.8 * (x1 - x0), y), (x1, y)]


def _wires(d: Drawing) -> None:
    for j in range(4):
        x = 80 + 80 * j
        d.words(x, 14, f"V{'₀₁₂₃'[j]}")
        for i in range(3):
            top = 26 + 62 * i
            d.line(*((x + off, along) for along, off in _zigzag(top, top + 62, 0)), ink=BLUE)
    for i in range(3):
        y = 88 + 62 * i
        d.words(424, y, f"I{'₀₁₂'[i]}")
        for j in range(4):
            x = 80 + 80 * j
            d.line(*_zigzag(x, x + 80, y), ink=ORANGE, arrow=j == 3)
            d.dot(x, y, 8, INK if (i, j) == (1, 1) else GREEN)
    d.words(184, 132, "stuck", size=13)
    d.words(574, 40, "wires: each zigzag is a resistance;\nfar cells get less voltage", size=14)
    d.words(580, 110, "faults: the G of a stuck cell\nno longer changes", size=14)
    d.words(580, 180, "drift: G changes\nwhile nobody writes", size=14)


def _convolution(d: Drawing) -> None:
    picture = [[((3 * i + 5 * j) % 7) / 9 for j in range(6)] for i in range(6)]
    d.cells(40, 40, picture, 26)
    d.box(40 + 52, 40 + 26, 78, 78, fill=ORANGE, opacity=0.25)
    d.words(118, 216, "a picture, a patch of 3 × 3", size=13)
    d.line((210, 105), (262, 105), arrow=True, ink=ORANGE)
    d.cells(270, 96, [[picture[1 + i // 3][2 + i % 3] for i in range(9)]], 20)
    d.words(360, 78, "one row: a sample", size=13)
    d.words(360, 140, "every position\nmakes another", size=13)
    d.line((456, 105), (506, 105), arrow=True)
    d.box(512, 50, 190, 110, "samples × kernel\n(im2col)\n× array", fill=BLUE, opacity=0.15)
    d.words(607, 182, "p positions: p reads a picture", size=13)


def _experiment(d: Drawing) -> None:
    d.words(100, 20, "a grid of settings")
    d.cells(40, 40, [[0.15 + 0.2 * ((i + j) % 4) for j in range(5)] for i in range(5)], 26)
    d.words(105, 190, "rank × seed", size=13)
    for i in range(3):
        d.box(270, 40 + 50 * i, 130, 36, f"worker {i + 1}", fill=BLUE, opacity=0.15)
        d.line((176, 105), (268, 58 + 50 * i), arrow=True)
        d.line((402, 58 + 50 * i), (498, 105), arrow=True)
    d.box(500, 78, 190, 54, "one xarray Dataset", fill=GREEN, opacity=0.2)
    d.words(595, 160, "same bits with any number\nof workers", size=13)


def _design(d: Drawing) -> None:
    d.box(60, 40, 170, 130, "m n\nof a gradient", fill=ORANGE, opacity=0.2)
    d.words(145, 190, "n inputs", size=13)
    d.words(38, 105, "m", size=13)
    d.words(280, 105, "or", size=16)
    d.box(330, 40, 22, 130, fill=BLUE, opacity=0.5)
    d.box(358, 40, 170, 22, fill=BLUE, opacity=0.5)
    d.words(440, 105, "k (m + n + 1)\nof factors")
    d.words(620, 62, "memory → energy", size=15)
    d.words(620, 100, "pulses → life", size=15)
    d.words(620, 146, "factors pay where\nthe layer is large", size=14)


_DRAWINGS: dict[str, tuple[Callable[[Drawing], None], str]] = {
    "quick-start": (_quick_start, "A batch runs through crossbars; SBPCA writes k outer products."),
    "crossbar": (_crossbar, "Columns carry voltages, cells conduct, rows add up currents."),
    "outer-products": (
        _outer_products,
        "A column of errors times a row of activations is a matrix.",
    ),
    "spectra": (_spectra, "Singular values fall fast; the k largest are kept."),
    "streaming": (_streaming, "A vector turns towards the first direction step by step."),
    "sbpca": (_sbpca, "The recursion: X, then Delta, then sigma, block after block."),
    "rank-block-batch": (_rank_block_batch, "Three axes: rank, batch, block, and what each costs."),
    "relatives": (_relatives, "Estimators by what they see and what they carry over."),
    "writing": (_writing, "Pulses on rows and columns; cells move where both fire."),
    "real-devices": (_real_devices, "Conductance over pulses: SET saturates, RESET drops fast."),
    "nonideal": (_nonideal, "Pulses up and down that cancel in the sum are written all the same."),
    "wires": (_wires, "Columns and rows as chains of resistors; voltage falls along them."),
    "convolution": (_convolution, "A patch of a picture becomes a row of the matrix that is read."),
    "experiment": (
        _experiment,
        "A grid of settings goes to workers and comes back as one Dataset.",
    ),
    "design": (_design, "A gradient's m n numbers beside the k (m + n + 1) of its factors."),
}


def drawing_names() -> tuple[str, ...]:
    """The drawings, in the order of the notebooks."""
    return tuple(_DRAWINGS)


def drawing(name: str) -> Drawing:
    """The schematic of that name; see :func:`drawing_names`. ValueError if there is none."""
    draw, about = _DRAWINGS[check_choice("name", name, _DRAWINGS)]
    made = Drawing(about)
    draw(made)
    return made
