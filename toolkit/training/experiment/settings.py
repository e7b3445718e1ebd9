"""Settings: every knob of an experiment, declared once.

The command line, the dashboard's widgets, the checks on bad input, the attributes in files and the
table in the README all come from these declarations. ``constant=True`` marks a knob that is fixed
for the length of a run; every other knob may change while training runs.
"""

from __future__ import annotations

from typing import Any

import param
from torch import nn

from toolkit.crossbar import PAIRS, SCHEMES, Device, device_names, get_device
from toolkit.crossbar.pulses import MOST_BITS
from toolkit.lowrank import estimator_names
from toolkit.lowrank.sbpca import CORES
from toolkit.training.data.dataset import Dataset
from toolkit.training.data.datasets import dataset_names
from toolkit.training.experiment import physics
from toolkit.training.experiment.knobs import Choice, Real, Whole, Widths, knobs_of
from toolkit.training.models import model_names

DIGITAL = "digital"


class Settings(param.Parameterized):
    """The knobs of one run; raises ``ValueError`` with the knob, the value and what is allowed."""

    dataset = Choice(
        "digits", objects=dataset_names(), made=Dataset, constant=True, doc="Data set to learn."
    )
    model = Choice(
        "mlp", objects=model_names(), made=nn.Module, constant=True, doc="Network to train."
    )
    hidden = Widths([128], constant=True, doc="Widths of the hidden layers of an mlp.")
    torch_device = Choice(
        "cpu",
        objects=["cpu", "cuda", "mps"],
        constant=True,
        doc="Processor that computes: torch's name of it.",
    )
    seed = Whole(
        0, bounds=(0, 2**32 - 1), constant=True, doc="Seed of every random draw of the run."
    )
    w_max = Real(
        1.0,
        bounds=(0.01, 100.0),
        constant=True,
        doc="Weight that a fully written conductance pair stands for.",
    )
    pair = Choice(
        "differential",
        objects=list(PAIRS),
        constant=True,
        doc="How two cells hold a weight: both pulsed both ways, upwards only, or one fixed.",
    )
    record_every = Whole(
        50,
        bounds=(1, 100_000),
        unit="steps",
        constant=True,
        doc="Steps between records of spectra, weights and conductances.",
    )
    method = Choice("sbpca", objects=list(estimator_names()), doc="How the gradient is estimated.")
    rank = Whole(4, bounds=(1, 512), doc="Outer products per update: the k of rank-k.")
    block_size = Whole(
        8,
        bounds=(1, 4096),
        unit="samples",
        doc="Samples per power-iteration step, at most a batch.",
    )
    sweeps = Whole(1, bounds=(1, 100), doc="How often SBPCA reads each batch.")
    past = Real(
        1.0,
        bounds=(0.0, 1000.0),
        unit="blocks",
        doc="How much SBPCA's past counts, its history: 0 keeps its directions only.",
    )
    core = Choice(
        "diagonal",
        objects=list(CORES),
        doc="What SBPCA knows of its past: the k singular values, or all k x k products.",
    )
    batch_size = Whole(64, bounds=(1, 4096), unit="samples", doc="Samples per weight update.")
    learning_rate = Real(
        0.3,
        bounds=(0.0, 10.0),
        inclusive_bounds=(False, True),
        doc="Step length; enters before the pulses are computed.",
    )
    scheme = Choice(
        "rank-sequential",
        objects=list(SCHEMES),
        doc="Write the outer products one after another, or their sum at once.",
    )
    device = Choice(
        DIGITAL,
        objects=[DIGITAL, *device_names()],
        made=Device,
        doc="Cell of the crossbar, or plain weights.",
    )
    nonlinearity_up = Real(
        None, bounds=(-9.0, 9.0), doc="Curvature label of potentiation; 0 is a straight line."
    )
    nonlinearity_down = Real(
        None, bounds=(-9.0, 9.0), doc="Curvature label of depression; 0 is a straight line."
    )
    cycle_to_cycle = Real(
        None,
        label="Cycle-to-cycle",
        bounds=(0.0, 0.5),
        unit="of range",
        doc="Noise of one pulse, standard deviation; grows with the square root of pulses.",
    )
    device_to_device = Real(
        None,
        label="Device-to-device",
        bounds=(0.0, 5.0),
        doc="Spread of the nonlinearity label between cells.",
    )
    levels = Whole(
        None, bounds=(2, 10_000), unit="pulses", doc="Pulses across the whole conductance range."
    )
    read_noise = Real(
        None, bounds=(0.0, 0.5), unit="of current", doc="Noise of a read, standard deviation."
    )

    stuck_low = Real(
        None,
        label="Stuck low",
        bounds=(0.0, 0.5),
        unit="of cells",
        doc="Share of the cells that stay at the lowest conductance.",
    )
    stuck_high = Real(
        None,
        label="Stuck high",
        bounds=(0.0, 0.5),
        unit="of cells",
        doc="Share of the cells that stay at the highest conductance.",
    )
    drift = Real(
        None,
        bounds=(0.0, 1.0),
        doc="Exponent nu of the power law by which conductance falls after a write.",
    )
    seconds_per_step = Real(
        0.0,
        label="Time per step",
        bounds=(0.0, 1e6),
        unit="s",
        doc="Time that passes between two updates, in which conductances drift.",
    )
    coding = Choice(
        "whole pulses",
        objects=list(physics.CODINGS),
        doc="Whole pulses to each cell, or coincidences of bit streams on rows and columns.",
    )
    bit_length = Whole(
        31,
        bounds=(1, MOST_BITS),
        unit="slots",
        doc="Longest bit stream of a coincidence write: the most pulses that it gives a cell.",
    )
    dac_bits = Whole(
        None,
        label="DAC",
        bounds=(2, 16),
        unit="bits",
        none="ideal",
        doc="Resolution of the converters of inputs.",
    )
    adc_bits = Whole(
        None,
        label="ADC",
        bounds=(2, 16),
        unit="bits",
        none="ideal",
        doc="Resolution of the converters of outputs.",
    )
    wire_resistance = Real(
        0.0,
        bounds=(0.0, 100.0),
        unit="ohm",
        doc="Resistance of a wire from one cell to the next, in reads.",
    )

    def __init__(self, **knobs: Any) -> None:
        known = knobs_of(type(self))
        if unknown := sorted(set(knobs) - set(known)):
            raise ValueError(f"unknown knob {unknown[0]!r}; allowed: {', '.join(known)}.")
        super().__init__(**{name: known[name].plain(value) for name, value in knobs.items()})
        if self.block_size > self.batch_size and "block_size" not in knobs:
            self.block_size = self.batch_size
        if self.block_size > self.batch_size:
            raise ValueError(
                f"block_size={self.block_size} is above batch_size={self.batch_size}; "
                f"allowed: 1 to {self.batch_size}."
            )
        on_cells = self.device_with_overrides() is not None
        if on_cells and self.coding == "coincidence" and self.scheme == "rank-sum":
            raise ValueError(
                "scheme must be rank-sequential with coding='coincidence', which writes outer "
                "products; got rank-sum."
            )

    def knob_values(self) -> dict[str, Any]:
        """Every knob and its present value."""
        return {name: getattr(self, name) for name in knobs_of(self)}

    def device_with_overrides(self) -> Device | None:
        """The preset with the nonidealities that were set here; None where weights are digital."""
        if self.device == DIGITAL:
            return None
        preset = self.device if isinstance(self.device, Device) else get_device(self.device)
        return physics.overridden(preset, self.knob_values())

    def nonidealities(self) -> dict[str, float]:
        """The nonidealities in force that apply to the device; none for plain weights."""
        device = self.device_with_overrides()
        return {} if device is None else physics.in_force(device)
