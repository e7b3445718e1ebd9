"""Drawings that a slider steps through: real computations on small arrays, frame by frame.

A stepping is one piece of HTML without identifiers, so it works wherever it is put, any number of
times: in a notebook, on a page or a slide, without a kernel or a network. Paper shows all frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from toolkit.checks import check_choice
from toolkit.crossbar import get_device
from toolkit.crossbar.phases import Phase, Write, make_update, write_phases
from toolkit.lowrank import SBPCA, LowRank, TruncatedSVD, captured_energy
from toolkit.teaching.drawings import BLUE, GREEN, INK, ORANGE, SIGNS, Drawing

OUTPUTS, INPUTS, BATCH, BLOCK, RANK = 5, 6, 12, 3, 2
DEVICE = "EpiRAM"
_STYLE = """<style>
.steps { max-width: 720px }
.steps label { display: flex; gap: 0.6em; align-items: center }
.steps input { flex: 1; max-width: 20em }
.steps output { display: block; min-height: 3em }
.steps figure { margin: 0 }
.steps figure[hidden] { display: none }
@media screen { .steps figcaption { display: none } }
@media print {
  .steps { max-width: none }
  .steps label, .steps output { display: none }
  .steps div { display: grid; grid-template-columns: 1fr 1fr; gap: 1em }
  .steps figure, .steps figure[hidden] { display: block; break-inside: avoid }
}
</style>"""
# An attribute, not a script: it also works where a page adds the HTML later, as Jupyter does.
# data-lm-suppress-shortcuts, below: Jupyter leaves arrow keys to the slider.
_MOVED = (
    "const all = this.closest('.steps'), frames = [...all.querySelectorAll('figure')];"
    "frames.forEach((frame, i) => { frame.hidden = i != this.value });"
    "all.querySelector('output').textContent = "
    "frames[this.value].querySelector('figcaption').textContent"
)


@dataclass(frozen=True)
class Stepping:
    """Frames to step through; Jupyter shows them with a slider, which arrow keys move.

    ``title`` says what happens, ``unit`` what the slider counts, ``about`` what to look at.
    """

    title: str
    unit: str
    about: str
    frames: tuple[tuple[Drawing, str], ...]

    def _repr_html_(self) -> str:
        return self.html

    @property
    def html(self) -> str:
        """Slider, the text of the frame that it shows, and all frames."""
        figures = "\n".join(
            f"<figure{' hidden' if i else ''}>{drawing.svg}"
            f"<figcaption>{escape(text)}</figcaption></figure>"
            for i, (drawing, text) in enumerate(self.frames)
        )
        return (
            f'<div class="steps" role="group" aria-label="{escape(self.title)}">{_STYLE}'
            f'<label>{escape(self.unit)} <input type="range" min="0" max="{len(self.frames) - 1}" '
            f'value="0" autocomplete="off" data-lm-suppress-shortcuts="true" '
            f'oninput="{_MOVED}"></label>'
            f"<output>{escape(self.frames[0][1])}</output><div>{figures}</div></div>"
        )


def read_blocks() -> tuple[Tensor, Tensor, list[LowRank]]:
    """Errors and activations of a batch, and SBPCA's estimate before it and after each block.

    The batches, (12, 5) and (12, 6), have two common causes. Only a block of the batch before was
    read. After some blocks the estimate is that of a batch of these alone, with errors scaled to
    the whole batch.
    """
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    to_errors, to_activations = normal(2, OUTPUTS), normal(2, INPUTS)

    def batch(size: int) -> tuple[Tensor, Tensor]:
        causes = normal(size, 2) * torch.tensor([1.0, 0.5], dtype=torch.float64)
        noise = 0.6 * normal(size, OUTPUTS), 0.6 * normal(size, INPUTS)
        return causes @ to_errors + noise[0], causes @ to_activations + noise[1]

    estimator = SBPCA(rank=RANK, block_size=BLOCK, seed=5)
    estimates, (errors, activations) = [estimator.update(*batch(BLOCK))], batch(BATCH)
    before = estimator.state_dict()
    for read in range(BLOCK, BATCH + 1, BLOCK):
        estimator.load_state_dict(before)
        estimates.append(estimator.update(errors[:read] * (BATCH / read), activations[:read]))
    return errors, activations, estimates


def _recursion() -> Stepping:
    errors, activations, estimates = read_blocks()
    best = captured_energy(TruncatedSVD(rank=RANK).update(errors, activations), errors, activations)
    frames = []
    for done, estimate in enumerate(estimates):
        captured = captured_energy(estimate, errors, activations)
        sigma = ", ".join(f"{value:.1f}" for value in estimate.sigma)
        found = f"σ = {sigma}. Captured energy {captured:.2f}; the best of rank {RANK}: {best:.2f}."
        last = done * BLOCK
        text = f"Block {done} of {BATCH // BLOCK}: samples {last - BLOCK + 1} to {last}. "
        text += f"The past and the blocks read so far weigh 1/{done + 1} each. "
        text = text if done else "Before the batch: the past is what the last batch left. "
        d = Drawing(text.split(".")[0].split(":")[0])
        _draw_block(d, errors, activations, done)
        _draw_estimate(d, estimate, errors.T @ activations, estimates)
        frames.append((d, text + found))
    return Stepping(
        "SBPCA reads a batch, block by block",
        "Block",
        "X turns first, then Δ, then σ is measured; the estimate approaches the batch's gradient.",
        tuple(frames),
    )


def _draw_block(d: Drawing, errors: Tensor, activations: Tensor, done: int) -> None:
    """The block that was read last, and what weighs how much."""
    block = slice(BLOCK * (done - 1), BLOCK * done)
    for x, name, signal in ((14, "errors D", errors), (120, "activations A", activations)):
        if done:
            d.words(x + 9 * signal.shape[1], 30, name, size=13)
            d.cells(x, 44, (signal[block] / signal.abs().max()).tolist(), 18)
    if not done:
        d.words(120, 70, "no block yet", size=13)
    for i in range(BATCH // BLOCK):
        grey = 0.3 if i == done - 1 else 0.1
        d.box(14 + 54 * i, 124, 48, 20, f"{i + 1}", fill=INK if i < done else "none", opacity=grey)
    d.words(120, 112, "blocks of the batch", size=13)
    width = 210 / (done + 1)
    for i in range(done + 1):
        name = f"{i}" if i else "past"
        d.box(14 + width * i, 180, width, 20, name, fill=INK if i else "none", opacity=0.1)
    d.words(120, 168, "their weights", size=13)


def _draw_estimate(d: Drawing, estimate: LowRank, gradient: Tensor, every: list[LowRank]) -> None:
    """The factors, and their product above the gradient."""
    d.cells(264, 56, estimate.left.tolist(), 20)
    d.words(284, 176, "Δ")
    most = max(float(each.sigma.max()) for each in every)
    for i, value in enumerate(estimate.sigma.tolist()):
        d.box(322 + 24 * i, 156 - 100 * value / most, 16, 100 * value / most, fill=GREEN)
    d.words(342, 176, "σ")
    d.cells(382, 56, estimate.right.T.tolist(), 20)
    d.words(442, 114, "Xᵀ")
    d.words(384, 30, "the estimate: k = 2 directions", size=13)
    d.words(384, 212, SIGNS, size=13)
    d.words(524, 106, "=", size=20)
    for y, matrix, name in (
        (24, estimate.dense(), "estimate\nΔ σ Xᵀ"),
        (130, gradient, "gradient\nDᵀ A"),
    ):
        d.cells(544, y, (matrix / gradient.abs().max()).tolist(), 17)
        d.words(682, y + 42, name, size=13)


def written() -> Write:
    """An outer product written to 5 x 6 pairs of cells, phase by phase."""
    update = make_update((OUTPUTS, INPUTS), rank=1, largest=0.3, seed=0)
    return write_phases(update, get_device(DEVICE), seed=0)


def _write() -> Stepping:
    write = written()
    start = (
        f"An outer product u vᵀ for {OUTPUTS} × {INPUTS} weights, each a pair of {DEVICE} cells. "
        "No line is driven yet."
    )
    d = Drawing("Before the first phase")
    _draw_lines(d, write, None)
    frames = [(d, start)]
    for number, phase in enumerate(write.phases, start=1):
        d = Drawing(f"Phase {number}")
        _draw_lines(d, write, phase)
        missed = float(torch.from_numpy(phase.written - phase.wanted).norm())
        share = missed / float(torch.from_numpy(phase.wanted).norm())
        what = phase.title.partition(": ")[2]
        text = (
            f"Phase {number} of {len(write.phases)}: {what}. {int(phase.pulses.sum())} pulses on "
            f"{int((phase.pulses > 0).sum())} of {phase.pulses.size} cells. "
            f"Written minus wanted so far: {share:.0%} of what was wanted."
        )
        frames.append((d, text))
    return Stepping(
        "An outer product is written, phase by phase",
        "Phase",
        "Signs of rows and columns decide the phase; a cell moves where both lines are driven.",
        tuple(frames),
    )


def _draw_lines(d: Drawing, write: Write, phase: Phase | None) -> None:
    """Lines that are driven, pulses where they cross, and the change so far."""
    rows = [0.0] * OUTPUTS if phase is None else phase.rows.tolist()
    columns = [0.0] * INPUTS if phase is None else phase.columns.tolist()
    most = max(abs(value) for each in write.phases for value in (*each.rows, *each.columns))
    for i, value in enumerate(rows):
        y, rise = 70 + 28 * i, 12 * value / most
        steps = [(40, 0.0), (68, 0.0), (68, rise), (92, rise), (92, 0.0), (124, 0.0)]
        d.line(*((x, y - up) for x, up in steps), ink=BLUE if value else INK, width=2)
    for j, value in enumerate(columns):
        x, rise = 138 + 28 * j, 12 * value / most
        steps = [(4, 0.0), (14, 0.0), (14, rise), (36, rise), (36, 0.0), (52, 0.0)]
        d.line(*((x + up, y) for y, up in steps), ink=ORANGE if value else INK, width=2)
    pulses = torch.zeros(OUTPUTS, INPUTS) if phase is None else torch.from_numpy(phase.pulses[0])
    rises = phase is None or phase.title.endswith("rise")
    largest = max(int(each.pulses[0].max()) for each in write.phases)
    signed = (1 if rises else -1) * pulses * 0.7 / largest
    d.cells(124, 56, signed.tolist(), 28)
    for i, j in pulses.nonzero().tolist():
        d.words(138 + 28 * j, 70 + 28 * i, f"{int(pulses[i, j])}", size=13)
    kind = "" if phase is None else f" ({'SET' if rises else 'RESET'})"
    d.words(208, 212, f"pulses to G⁺{kind}", size=13)
    nothing = torch.zeros(OUTPUTS, INPUTS)
    changes: Sequence[tuple[str, Tensor]] = (
        ("wanted so far", nothing if phase is None else torch.from_numpy(phase.wanted)),
        ("written so far", nothing if phase is None else torch.from_numpy(phase.written)),
    )
    limit = max(float(abs(each.written).max()) for each in write.phases)
    for k, (name, change) in enumerate(changes):
        d.cells(340 + 190 * k, 56, (change / limit).tolist(), 28)
        d.words(424 + 190 * k, 212, name, size=13)
    d.words(519, 30, "change of the weights: blue up, orange down", size=13)


_STEPPINGS: dict[str, Callable[[], Stepping]] = {"recursion": _recursion, "write": _write}


def stepping_names() -> tuple[str, ...]:
    """The drawings to step through."""
    return tuple(_STEPPINGS)


def stepping(name: str) -> Stepping:
    """The one of that name; see :func:`stepping_names`. ValueError if there is none."""
    return _STEPPINGS[check_choice("name", name, _STEPPINGS)]()
