"""Settings: every knob of an experiment, declared once.

The command line, the dashboard's widgets, the checks of input, the attributes in files and the
table in the README all come from these declarations. ``constant=True`` marks a knob that is fixed
during a run; every other knob can change while training runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import param
from torch import nn

from toolkit.crossbar import PAIRS, SCHEMES, Device, Exponential, device_names, get_device
from toolkit.crossbar.devices.parameter import about
from toolkit.crossbar.pulses import CODINGS, MOST_BITS
from toolkit.lowrank import ESTIMATORS, estimator_names
from toolkit.training.data.dataset import Dataset
from toolkit.training.data.datasets import dataset_names
from toolkit.training.experiment import physics
from toolkit.training.experiment.knobs import (
    Choice,
    Real,
    Whole,
    Widths,
    knobs_of,
    knobs_of_constructor,
)
from toolkit.training.experiment.objective import LOSSES
from toolkit.training.layers.convert import DIGITAL
from toolkit.training.models import model_names

FORMER_NAMES = {"past": "history", "sweeps": "passes"}  # in older files and URLs
_NUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
_RATES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
_LEVELS = (2, 4, 8, 16, 32, 64, 97, 128, 256, 512, 1000, 2000, 5000, 10_000)
_POWERS = tuple(2**i for i in range(11))
_NEW, _GRADIENT, _DEVICE, _CELLS = "New run", "Gradient", "Device", "Cells"
_LINES, _FURTHER = "Lines and converters", "Estimators, further"
_ALGORITHM = "Algorithms for imperfect cells"


_OF_CELLS = about(Device) | about(Exponential)


def _devices() -> list[str]:
    """Plain weights and the devices in the list, those that were added included."""
    return [DIGITAL, *device_names()]


def _of_cells(name: str, **shown: Any) -> Real:
    """A knob that overrides this parameter of the device or its response."""
    one = _OF_CELLS[name]
    described = {"label": one.label, "doc": one.doc, "unit": one.unit}
    return Real(None, bounds=(one.low, one.high), sets="device", **described, **shown)


def _bits(label: str, doc: str) -> Whole:
    """Resolution of one kind of converter."""
    return Whole(
        None,
        label=label,
        bounds=(2, 16),
        unit="bits",
        none="ideal",
        group=_LINES,
        sets="array",
        notebook=2,
        doc=doc,
    )


class Settings(param.Parameterized):
    """The knobs of one run; raises ``ValueError`` with the knob, the value and what is allowed.

    The other arguments of every estimator are knobs, too.
    """

    dataset = Choice(
        "digits",
        objects=dataset_names(),
        made=Dataset,
        constant=True,
        group=_NEW,
        doc="Data set to learn.",
    )
    model = Choice(
        "mlp",
        objects=model_names(),
        made=nn.Module,
        constant=True,
        group=_NEW,
        doc="Network to train.",
    )
    hidden = Widths(
        [128],
        unit="neurons",
        constant=True,
        group=_NEW,
        doc="Widths of the hidden layers of an mlp.",
    )
    loss = Choice(
        LOSSES[0],
        objects=list(LOSSES),
        constant=True,
        doc="What training minimises; mean-squared-error of targets or, of classes, of 0 and 1.",
    )
    torch_device = Choice(
        "cpu",
        objects=["cpu", "cuda", "mps"],
        constant=True,
        doc="Processor that computes, by torch's name.",
    )
    seed = Whole(
        0,
        bounds=(0, 2**32 - 1),
        constant=True,
        group=_NEW,
        doc="Seed of every random draw of the run.",
    )
    w_max = Real(
        1.0,
        label="Largest weight",
        bounds=(0.01, 100.0),
        constant=True,
        group=_NEW,
        symbol="w_max",
        latex="w_{\\max}",
        notebook=2,
        doc="Weight of a pair with one cell at the top of its range and the other at the bottom.",
    )
    pair = Choice(
        "differential",
        objects=list(PAIRS),
        constant=True,
        group=_NEW,
        symbol="G⁺, G⁻",
        latex="G^+,\\, G^-",
        notebook=2,
        doc="How two cells hold a weight: both pulsed both ways, upwards only, or one fixed.",
    )
    record_every = Whole(
        50,
        bounds=(1, 100_000),
        unit="steps",
        constant=True,
        doc="Steps between records of spectra, weights and conductances.",
    )
    method = Choice(
        "sbpca",
        objects=list(estimator_names()),
        group=_GRADIENT,
        notebook=8,
        doc="Estimator that makes a low-rank update from errors and activations.",
    )
    rank = Whole(
        4,
        bounds=(1, 512),
        stops=_NUMBERS,
        group=_GRADIENT,
        sets="estimator",
        symbol="k",
        latex="k",
        notebook=4,
        doc="Outer products per update: the k of rank-k.",
    )
    block_size = Whole(
        8,
        bounds=(1, 4096),
        stops=_POWERS,
        unit="samples",
        group=_GRADIENT,
        sets="estimator",
        symbol="b",
        latex="b",
        notebook=6,
        doc="Samples per power-iteration step, at most a batch.",
    )
    batch_size = Whole(
        64,
        bounds=(1, 4096),
        stops=_POWERS,
        unit="samples",
        group=_GRADIENT,
        symbol="B",
        latex="B",
        notebook=3,
        doc="Samples per weight update.",
    )
    learning_rate = Real(
        0.3,
        bounds=(0.0, 10.0),
        inclusive_bounds=(False, True),
        stops=_RATES,
        group=_GRADIENT,
        symbol="η",
        latex="\\eta",
        notebook=3,
        doc="Step length, applied before the pulses are computed.",
    )
    scheme = Choice(
        "rank-sequential",
        objects=list(SCHEMES),
        group=_GRADIENT,
        notebook=9,
        doc="Write the outer products one after another, or their sum at once.",
    )
    algorithm = Choice(
        physics.DIRECT,
        objects=list(physics.ALGORITHMS),
        group=_ALGORITHM,
        sets="array",
        notebook=11,
        doc="Write updates to the cells at once, from a digital memory, or through a second array.",
    )
    buffer_rank = Whole(
        None,
        bounds=(1, 512),
        stops=_NUMBERS,
        none="all m n",
        group=_ALGORITHM,
        sets="array",
        doc="Outer products in the memory of mixed precision and of buffered transfers.",
    )
    transfer_columns = Whole(
        64,
        bounds=(1, 4096),
        stops=_POWERS,
        unit="columns",
        group=_ALGORITHM,
        sets="array",
        doc="Columns of Tiki-Taka's fast array that are transferred after an update.",
    )
    transfer_rate = Real(
        0.1,
        bounds=(0.0, 10.0),
        inclusive_bounds=(False, True),
        stops=_RATES,
        group=_ALGORITHM,
        sets="array",
        doc="Share of a column that Tiki-Taka transfers to the slow array.",
    )
    gamma = Real(
        1.0,
        label="Weight of the fast array",
        bounds=(0.0, 10.0),
        step=0.1,
        group=_ALGORITHM,
        sets="array",
        symbol="γ",
        latex="\\gamma",
        doc="Weight of Tiki-Taka's fast array in what the network sees.",
    )
    chopper_period = Whole(
        10,
        bounds=(1, 1000),
        stops=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        unit="reads",
        group=_ALGORITHM,
        sets="array",
        doc="Reads of a column between changes of its sign, in chopped Tiki-Taka and AGAD.",
    )
    residual_arrays = Whole(
        3,
        bounds=(2, 8),
        unit="arrays",
        group=_ALGORITHM,
        sets="array",
        doc="Arrays of residual learning, each for what those before it miss.",
    )
    device = Choice(
        DIGITAL,
        listed=_devices,
        made=Device,
        group=_DEVICE,
        notebook=10,
        doc="Cell of the crossbar, or plain weights.",
    )
    nonlinearity_up = _of_cells(
        "nonlinearity_up",
        step=0.1,
        group=_DEVICE,
        symbol="NL_up",
        latex="NL_\\mathrm{up}",
        notebook=10,
    )
    nonlinearity_down = _of_cells(
        "nonlinearity_down",
        step=0.1,
        group=_DEVICE,
        symbol="NL_down",
        latex="NL_\\mathrm{down}",
        notebook=10,
    )
    cycle_to_cycle = _of_cells(
        "cycle_to_cycle",
        step=0.005,
        group=_DEVICE,
        symbol="σ_c2c",
        latex="\\sigma_\\mathrm{c2c}",
        notebook=10,
    )
    device_to_device = _of_cells(
        "device_to_device",
        step=0.05,
        group=_DEVICE,
        symbol="σ_d2d",
        latex="\\sigma_\\mathrm{d2d}",
        notebook=10,
    )
    levels = Whole(
        None,
        bounds=(2, 10_000),
        stops=_LEVELS,
        unit="pulses",
        group=_DEVICE,
        sets="device",
        symbol="P_max",
        latex="P_{\\max}",
        notebook=10,
        doc="Pulses across the whole conductance range.",
    )
    read_noise = _of_cells(
        "read_noise",
        step=0.005,
        group=_CELLS,
        symbol="σ_read",
        latex="\\sigma_\\mathrm{read}",
        notebook=2,
    )
    stuck_low = _of_cells("stuck_low", step=0.005, group=_CELLS, notebook=12)
    stuck_high = _of_cells("stuck_high", step=0.005, group=_CELLS, notebook=12)
    drift = Real(
        None,
        bounds=(0.0, 1.0),
        step=0.005,
        group=_CELLS,
        sets="device",
        symbol="ν",
        latex="\\nu",
        notebook=12,
        doc="Exponent of the power law by which conductance falls after a write.",
    )
    seconds_per_step = Real(
        0.0,
        label="Time per step",
        bounds=(0.0, 1e6),
        stops=(0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
        unit="s",
        group=_CELLS,
        symbol="t",
        latex="t",
        notebook=12,
        doc="Time between two updates, during which conductances drift.",
    )
    reference_spread = Real(
        0.0,
        bounds=(0.0, 0.5),
        step=0.01,
        group=_CELLS,
        sets="array",
        doc="Spread of fixed reference cells about the symmetry points, as a share of the range.",
    )
    coding = Choice(
        "whole pulses",
        objects=list(CODINGS),
        group=_LINES,
        sets="array",
        notebook=9,
        doc="Whole pulses to each cell, or coincidences of bit streams on rows and columns.",
    )
    bit_length = Whole(
        31,
        bounds=(1, MOST_BITS),
        stops=(1, 3, 7, 10, 15, 31, 63, 127),
        unit="slots",
        group=_LINES,
        sets="array",
        symbol="BL",
        latex="BL",
        notebook=9,
        doc="Longest bit stream of a coincidence write, the most pulses that a cell can get.",
    )
    dac_bits = _bits("DAC", doc="Resolution of the digital-to-analogue converters of inputs.")
    adc_bits = _bits("ADC", doc="Resolution of the analogue-to-digital converters of outputs.")
    sample_bits = Whole(
        None,
        label="Samples",
        bounds=(2, 16),
        unit="bits",
        none="exact",
        group=_LINES,
        doc="Resolution of the errors and activations from which the update is estimated.",
    )
    wire_resistance = Real(
        0.0,
        bounds=(0.0, 100.0),
        stops=(0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
        unit="ohm",
        group=_LINES,
        sets="array",
        symbol="r",
        latex="r",
        notebook=12,
        doc="Resistance of a wire from one cell to the next, in reads.",
    )

    def __init__(self, **knobs: Any) -> None:
        known, knobs = knobs_of(type(self)), present_names(knobs)
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
        """The preset with the nonidealities that were set here; None for plain weights."""
        if self.device == DIGITAL:
            return None
        preset = self.device if isinstance(self.device, Device) else get_device(self.device)
        set_here = {name: getattr(self, name) for name in knobs_of(self, sets="device")}
        return physics.overridden(preset, set_here)

    def nonidealities(self) -> dict[str, float]:
        """The nonidealities in force that apply to the device; none for plain weights."""
        device = self.device_with_overrides()
        if device is None:
            return {}
        return physics.in_force(device, knobs_of(self, sets="device"))


def present_names(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the knobs in ``knobs`` to their present names."""
    return {FORMER_NAMES.get(name, name): value for name, value in knobs.items()}


for _estimator in ESTIMATORS.values():
    _declared = {"group": _FURTHER, "sets": "estimator"}
    for _name, _knob in knobs_of_constructor(_estimator, **_declared).items():
        if _name not in Settings.param:
            Settings.param.add_parameter(_name, _knob)
