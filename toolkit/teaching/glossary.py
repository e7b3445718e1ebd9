"""Terms and symbols, each explained once: for the notebooks, their table and the tooltips.

The notebook in which a term is derived says more; a knob's bounds are ``training.settings``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Entry:
    """A term of the field: its symbol in LaTeX and in plain text, unit, meaning and notebook.

    ``knob`` is the knob of an Experiment that sets it, if one does. A unit of "1" is a pure number;
    "" is no quantity at all.
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
    Entry("inputs", "Columns of a weight matrix, the bias's column included.", 2, "n", "n", "1"),
    Entry("weights", "The matrix of a layer, of m rows and n columns.", 2, "W", "W", "1"),
    Entry(
        "batch size",
        "Samples whose gradients are added up into one update of the weights.",
        3,
        "B",
        "B",
        "samples",
        "batch_size",
    ),
    Entry(
        "errors",
        "Derivatives of the loss by the outputs of a layer: B rows d, of m numbers each.",
        3,
        "D",
        "D",
        "1",
    ),
    Entry("activations", "Inputs of a layer: B rows x, of n numbers each.", 3, "A", "A", "1"),
    Entry(
        "gradient",
        "Derivative of the loss by the weights: the sum of B outer products, D transposed times A.",
        3,
        "G = D^\\top A",
        "G",
        "1",
    ),
    Entry(
        "outer product",
        "Matrix of all products of one number of d and one of x: it has rank 1.",
        3,
        "d\\,x^\\top",
        "d xᵀ",
    ),
    Entry(
        "learning rate",
        "Step length against the gradient; it enters before pulses are computed.",
        3,
        "\\eta",
        "η",
        "1",
        "learning_rate",
    ),
    Entry(
        "rank",
        "Number of outer products that an update is made of.",
        4,
        "k",
        "k",
        "1",
        "rank",
    ),
    Entry(
        "singular values",
        "How much of a matrix each pair of its singular vectors carries, the largest first.",
        4,
        "\\sigma_p",
        "σ_p",
        "1",
    ),
    Entry(
        "energy",
        "Sum of all squared entries of a matrix; the sum of its squared singular values.",
        4,
        "\\lVert G \\rVert_F^2",
        "‖G‖²",
        "1",
    ),
    Entry(
        "captured energy",
        "Share of the gradient's energy that an estimate accounts for; negative if it does harm.",
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
        "Energy over the largest squared singular value: a rank that small values hardly change.",
        4,
        "\\lVert G \\rVert_F^2 / \\sigma_1^2",
        "‖G‖² / σ₁²",
        "1",
    ),
    Entry(
        "principal angle",
        "Angle between two subspaces, the largest of them: 0° where one holds the other.",
        5,
        "\\theta",
        "θ",
        "degree",
    ),
    Entry(
        "power iteration",
        "Multiplying by a matrix again and again, which turns a vector to its leading direction.",
        5,
    ),
    Entry(
        "eigengap",
        "Distance of neighbouring eigenvalues (or singular values); it sets how fast a power "
        "iteration converges.",
        5,
    ),
    Entry(
        "block size",
        "Samples that SBPCA reads at once, for one step of its power iteration.",
        6,
        "b",
        "b",
        "samples",
        "block_size",
    ),
    Entry("left", "Error-side vectors of an update, k columns of m.", 6, "\\Delta", "Δ", "1"),
    Entry("sigma", "Weights of an update's k outer products.", 6, "\\sigma", "σ", "1"),
    Entry("right", "Activation-side vectors of an update, k columns of n.", 6, "X", "X", "1"),
    Entry(
        "SBPCA",
        "Streaming batch PCA: k directions of the gradient, turned a little by every block.",
        6,
    ),
    Entry("SBE", "Streaming batch eigenupdate: SBPCA's predecessor, rank 1, sample by sample.", 6),
    Entry(
        "estimator",
        "What makes a low-rank update out of errors and activations.",
        8,
        knob="method",
    ),
    Entry("LRT", "Low-rank training: a small SVD after every sample, forgotten after a batch.", 8),
    Entry("NMF", "Factors without negative numbers, of the gradient's two signs each.", 8),
    Entry("error feedback", "What an update left out is added to the next gradient.", 8),
)

CROSSBAR = (
    Entry(
        "crossbar",
        "Wires in rows and columns with a cell at every crossing, whose conductances are a matrix.",
        2,
    ),
    Entry(
        "conductance",
        "Current of a cell over its voltage. A matrix of them, and the gradient, are both "
        "called G; the index tells.",
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
        "pair",
        "Two cells whose difference is a weight, as a conductance cannot be negative.",
        2,
        "G^+,\\, G^-",
        "G⁺, G⁻",
        "S",
        "pair",
    ),
    Entry(
        "largest weight",
        "Weight of a pair with one cell at the top of its range, the other at the bottom.",
        2,
        "w_{\\max}",
        "w_max",
        "1",
        "w_max",
    ),
    Entry(
        "transposed read",
        "Driving the outputs and collecting at the inputs: it multiplies by W transposed.",
        2,
    ),
    Entry(
        "DAC",
        "Digital-to-analogue converter: how finely an input's voltage can be set.",
        2,
        unit="bits",
        knob="dac_bits",
    ),
    Entry(
        "ADC",
        "Analogue-to-digital converter: how finely a line's current is read.",
        2,
        unit="bits",
        knob="adc_bits",
    ),
    Entry(
        "read noise",
        "Scatter of a cell's current from read to read, relative to the current.",
        2,
        "\\sigma_\\mathrm{read}",
        "σ_read",
        "1",
        "read_noise",
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
        "A cell that sees half the voltage, as it shares a line with one that is written.",
        9,
    ),
    Entry(
        "scheme",
        "Rank-sequential: outer products written one after another; rank-sum: their sum at once.",
        9,
        knob="scheme",
    ),
    Entry(
        "stochastic rounding",
        "Rounding up with the probability of the fraction, so that the mean is kept.",
        9,
    ),
    Entry(
        "coding",
        "How a wanted change becomes pulses: counted cell by cell, or where two bit streams meet.",
        9,
        knob="coding",
    ),
    Entry(
        "bit length",
        "Slots of the two bit streams whose coincidences are pulses.",
        9,
        "BL",
        "BL",
        "slots",
        "bit_length",
    ),
    Entry("device", "The kind of cell, with all that is known of it.", 10, knob="device"),
    Entry(
        "state",
        "Where a cell stands in its range: 0 at the lowest conductance, 1 at the highest.",
        10,
        "x",
        "x",
        "1",
    ),
    Entry(
        "levels",
        "Pulses that take a cell through its whole range.",
        10,
        "P_{\\max}",
        "P_max",
        "pulses",
        "levels",
    ),
    Entry(
        "nonlinearity, up",
        "How bent potentiation is, as NeuroSim labels it; 0 is a straight line.",
        10,
        "NL_\\mathrm{up}",
        "NL_up",
        "1",
        "nonlinearity_up",
    ),
    Entry(
        "nonlinearity, down",
        "How bent depression is; a label unlike the other one's makes a cell asymmetric.",
        10,
        "NL_\\mathrm{down}",
        "NL_down",
        "1",
        "nonlinearity_down",
    ),
    Entry(
        "symmetry point",
        "State at which a pulse up and a pulse down are equally long.",
        10,
        "x^*",
        "x*",
        "1",
    ),
    Entry(
        "cycle-to-cycle",
        "Scatter of one and the same pulse on one and the same cell.",
        10,
        "\\sigma_\\mathrm{c2c}",
        "σ_c2c",
        "of range",
        "cycle_to_cycle",
    ),
    Entry(
        "device-to-device",
        "Scatter of the nonlinearity from cell to cell, fixed when the array is made.",
        10,
        "\\sigma_\\mathrm{d2d}",
        "σ_d2d",
        "1",
        "device_to_device",
    ),
    Entry(
        "write amplification",
        "Pulses issued over those that the sum of the outer products would take.",
        11,
        unit="1",
    ),
    Entry(
        "wire resistance",
        "Of the line from one cell to the next; the cause of IR drop, the voltage that never "
        "reaches a cell.",
        12,
        "r",
        "r",
        "ohm",
        "wire_resistance",
    ),
    Entry(
        "stuck low",
        "Share of the cells that stay at the lowest conductance.",
        12,
        unit="of cells",
        knob="stuck_low",
    ),
    Entry(
        "stuck high",
        "Share of the cells that stay at the highest conductance.",
        12,
        unit="of cells",
        knob="stuck_high",
    ),
    Entry(
        "drift",
        "Exponent of the power law by which a conductance falls with the time since its write.",
        12,
        "\\nu",
        "ν",
        "1",
        "drift",
    ),
    Entry(
        "time per step",
        "Time between two updates, in which conductances drift.",
        12,
        "t",
        "t",
        "s",
        "seconds_per_step",
    ),
    Entry("endurance", "Pulses that a cell survives before it is stuck.", 12, unit="pulses"),
)

TRAINING = (
    Entry(
        "live knob",
        "A setting that may change while a run goes on; the change is recorded as an event.",
        1,
    ),
    Entry("im2col", "A convolution as a matrix product: every output position is a sample.", 13),
    Entry("sweep", "The same run over a grid of settings and seeds, as one table.", 14),
)

GLOSSARY = (*GRADIENT, *CROSSBAR, *TRAINING)

# Knobs that are no term of the field, and why.
PLAIN_KNOBS = {
    "dataset": "a choice of what is learned",
    "model": "a choice of network",
    "hidden": "part of the choice of network",
    "torch_device": "says where to compute, not what",
    "seed": "names the random draws, and measures nothing",
    "record_every": "says how often to look, not what happens",
    "sweeps": "a count of readings of a batch",
    "past": "explained with SBPCA's block",
    "core": "a choice of what SBPCA carries",
}


@cache
def entry_of(knob: str) -> Entry | None:
    """What the knob of that name sets; None for one that is no term of the field."""
    return next((entry for entry in GLOSSARY if entry.knob == knob), None)


def reference(knob: str) -> str:
    """The knob's symbol, if it has one, and its notebook, for the end of a tooltip."""
    entry = entry_of(knob)
    if entry is None:
        return ""
    symbol = f"Symbol {entry.plain}; n" if entry.plain else "N"
    return f"{symbol}otebook {entry.notebook}."


def markdown() -> str:
    """All terms as a page of tables, one a part of the field."""
    parts = {"Gradients": GRADIENT, "Crossbars": CROSSBAR, "Training": TRAINING}
    tables = [f"## {title}\n\n{_table(entries)}" for title, entries in parts.items()]
    head = "# Terms and symbols\n\nThe number is that of the notebook that derives the term.\n"
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
