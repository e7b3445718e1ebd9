"""Terms and symbols for the notebooks and their table, each explained once.

Knobs of an Experiment with a notebook are terms, too, from their own declarations.
"""

from __future__ import annotations

from typing import NamedTuple

from toolkit.training import Settings
from toolkit.training.experiment.knobs import doc_of, knobs_of


class Entry(NamedTuple):
    """A term of the field: meaning, notebook that derives it, symbol in LaTeX and plain text, unit.

    ``knob`` is the knob of an Experiment that sets it, if any. A unit of "1" is a pure number; ""
    means that the term is not a quantity.
    """

    term: str
    meaning: str
    notebook: int
    latex: str = ""
    plain: str = ""
    unit: str = ""
    knob: str = ""


GRADIENT = (
    Entry(
        "outputs", "Rows of a weight matrix: one for each neuron of the layer.", 2, "m", "m", "1"
    ),
    Entry("inputs", "Columns of a weight matrix, including that of the bias.", 2, "n", "n", "1"),
    Entry("weights", "The matrix of a layer, with m rows and n columns.", 2, "W", "W", "1"),
    Entry(
        "errors",
        "Derivatives of the loss with respect to a layer's outputs: B rows d of m numbers.",
        3,
        "D",
        "D",
        "1",
    ),
    Entry("activations", "Inputs of a layer: B rows x of n numbers each.", 3, "A", "A", "1"),
    Entry(
        "gradient",
        "Derivative of the loss with respect to the weights: a sum of B outer products, DᵀA.",
        3,
        "G = D^\\top A",
        "G",
        "1",
    ),
    Entry(
        "outer product",
        "Matrix of the products of each number of d with each of x; it has rank 1.",
        3,
        "d\\,x^\\top",
        "d xᵀ",
    ),
    Entry(
        "singular values",
        "Size of the part of a matrix along each pair of singular vectors, largest first.",
        4,
        "\\sigma_p",
        "σ_p",
        "1",
    ),
    Entry(
        "energy",
        "Sum of the squared entries of a matrix, equal to that of its squared singular values.",
        4,
        "\\lVert G \\rVert_F^2",
        "‖G‖²",
        "1",
    ),
    Entry(
        "captured energy",
        "Fraction of the gradient's energy that an estimate captures; negative if it does harm.",
        4,
        "1 - \\lVert G - \\hat G \\rVert_F^2 / \\lVert G \\rVert_F^2",
        "1 − ‖G − Ĝ‖² / ‖G‖²",
        "1",
    ),
    Entry(
        "optimal energy",
        "The most energy that any matrix of rank k can capture: that of the truncated SVD.",
        4,
    ),
    Entry(
        "stable rank",
        "Energy over the largest squared singular value: a rank that ignores small values.",
        4,
        "\\lVert G \\rVert_F^2 / \\sigma_1^2",
        "‖G‖² / σ₁²",
        "1",
    ),
    Entry(
        "principal angle",
        "Largest angle between two subspaces; 0° if one contains the other.",
        5,
        "\\theta",
        "θ",
        "degree",
    ),
    Entry(
        "power iteration",
        "Repeated multiplication by a matrix, which turns a vector towards its leading direction.",
        5,
    ),
    Entry(
        "eigengap",
        "Distance between neighbouring eigenvalues (or singular values); it determines how fast a "
        "power iteration converges.",
        5,
    ),
    Entry("left", "Error-side vectors of an update, k columns of m.", 6, "\\Delta", "Δ", "1"),
    Entry("sigma", "Weights of an update's k outer products.", 6, "\\sigma", "σ", "1"),
    Entry("right", "Activation-side vectors of an update, k columns of n.", 6, "X", "X", "1"),
    Entry(
        "SBPCA",
        "Streaming batch PCA: k directions of the gradient, turned slightly by every block.",
        6,
    ),
    Entry("SBE", "Streaming batch eigenupdate: SBPCA's predecessor, rank 1, sample by sample.", 6),
    Entry("LRT", "Low-rank training: a small SVD after every sample, reset after every batch.", 8),
    Entry("NMF", "Non-negative factors of the gradient's positive and negative parts.", 8),
    Entry("error feedback", "The part that an update left out is added to the next gradient.", 8),
)

CROSSBAR = (
    Entry(
        "crossbar",
        "Wires in rows and columns with a cell at every crossing; the conductances form a matrix.",
        2,
    ),
    Entry(
        "conductance",
        "Current of a cell over its voltage. A matrix of conductances and the gradient are both "
        "called G; the index tells them apart.",
        2,
        "G_{ij}",
        "G_ij",
        "S",
    ),
    Entry(
        "range",
        "Lowest and highest conductance that a cell can hold.",
        2,
        "G_{\\min},\\, G_{\\max}",
        "G_min, G_max",
        "S",
    ),
    Entry("voltage", "What drives a line; in a read it stands for an input.", 2, "V", "V", "V"),
    Entry("current", "What a line collects; in a read it stands for an output.", 2, "I", "I", "A"),
    Entry(
        "transposed read",
        "Driving the outputs and collecting at the inputs, which multiplies by W transposed.",
        2,
    ),
    Entry(
        "pulse",
        "One short voltage across a cell, which moves its conductance by one step.",
        9,
        "N",
        "N",
        "pulses",
    ),
    Entry(
        "SET, RESET",
        "Pulses that raise (potentiation) and lower (depression) a conductance.",
        9,
    ),
    Entry(
        "sign phases",
        "The four parts of writing an outer product: each sign of d with each sign of x.",
        9,
    ),
    Entry(
        "half-select",
        "A cell at half the voltage, because it shares a line with a cell that is written.",
        9,
    ),
    Entry(
        "stochastic rounding",
        "Rounding up with the probability of the fraction, which preserves the mean.",
        9,
    ),
    Entry(
        "state",
        "Position of a cell in its range: 0 at the lowest conductance, 1 at the highest.",
        10,
        "x",
        "x",
        "1",
    ),
    Entry(
        "symmetry point",
        "State at which a pulse up and a pulse down make equal steps.",
        10,
        "x^*",
        "x*",
        "1",
    ),
    Entry(
        "write amplification",
        "Pulses issued, divided by those that the sum of the outer products would need.",
        11,
        unit="1",
    ),
    Entry("endurance", "Pulses that a cell survives before it is stuck.", 12, unit="pulses"),
)

TRAINING = (
    Entry(
        "live knob",
        "A setting that can change during a run; the change is recorded as an event.",
        1,
    ),
    Entry("im2col", "A convolution as a matrix product: every output position is a sample.", 13),
    Entry("sweep", "The same run over a grid of settings and seeds, as one table.", 14),
)


def _term(label: str) -> str:
    return label if label.isupper() else label.lower()


def _knobs(*, of_gradient: bool) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            _term(str(knob.label)),
            doc_of(knob),
            knob.notebook,
            knob.latex,
            knob.symbol,
            knob.unit,
            name,
        )
        for name, knob in knobs_of(Settings).items()
        if knob.notebook and (knob.group == "Gradient") == of_gradient
    )


PARTS = {
    "Gradients": GRADIENT + _knobs(of_gradient=True),
    "Crossbars": CROSSBAR + _knobs(of_gradient=False),
    "Training": TRAINING,
}
GLOSSARY = tuple(entry for entries in PARTS.values() for entry in entries)


def markdown() -> str:
    """All terms as a page of tables, one per part of the field."""
    tables = [f"## {title}\n\n{_table(entries)}" for title, entries in PARTS.items()]
    head = "# Terms and symbols\n\nThe number is the notebook that derives the term.\n"
    return "\n".join([head, *tables])


def _table(entries: tuple[Entry, ...]) -> str:
    rows = ["| term | symbol | unit | meaning | knob | notebook |", "|" + " --- |" * 6]
    for entry in sorted(entries, key=lambda entry: entry.notebook):
        symbol = f"${entry.latex}$" if entry.latex else ""
        unit = "" if entry.unit == "1" else entry.unit
        knob = f"`{entry.knob}`" if entry.knob else ""
        cells = (entry.term, symbol, unit, entry.meaning, knob, f"{entry.notebook:02}")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
