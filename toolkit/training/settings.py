"""Settings: every knob of an experiment, declared once.

The command line, the dashboard's widgets, the checks on bad input, the attributes in files and the
table in the README all come from these declarations. ``constant=True`` marks a knob that is fixed
for the length of a run; every other knob may change while training runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import param

from toolkit.crossbar import SCHEMES, Device, Exponential, device_names, get_device
from toolkit.lowrank import estimator_names
from toolkit.training.datasets import dataset_names
from toolkit.training.knobs import Choice, Real, Whole, Widths, knobs_of

DIGITAL = "digital"


class Settings(param.Parameterized):
    """The knobs of one run; raises ``ValueError`` with the knob, the value and what is allowed."""

    dataset = Choice("digits", objects=dataset_names(), constant=True, doc="Data set to learn.")
    hidden = Widths([128], constant=True, doc="Widths of the hidden layers.")
    seed = Whole(
        0, bounds=(0, 2**32 - 1), constant=True, doc="Seed of every random draw of the run."
    )
    w_max = Real(
        1.0,
        bounds=(0.01, 100.0),
        constant=True,
        doc="Weight that a fully written conductance pair stands for.",
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

    def __init__(self, **knobs: Any) -> None:
        known = knobs_of(type(self))
        if unknown := sorted(set(knobs) - set(known)):
            raise ValueError(f"unknown knob {unknown[0]!r}; allowed: {', '.join(known)}.")
        super().__init__(**{name: known[name].plain(value) for name, value in knobs.items()})
        if self.block_size > self.batch_size:
            raise ValueError(
                f"block_size={self.block_size} is above batch_size={self.batch_size}; "
                f"allowed: 1 to {self.batch_size}."
            )
        self.device_with_overrides()

    def knob_values(self) -> dict[str, Any]:
        """Every knob and its present value."""
        return {name: getattr(self, name) for name in knobs_of(self)}

    def device_with_overrides(self) -> Device | None:
        """The preset with the nonidealities that were set here; None where weights are digital."""
        if self.device == DIGITAL:
            return None
        preset = self.device if isinstance(self.device, Device) else get_device(self.device)
        given = {name: getattr(self, name) for name in NONIDEALITIES}
        changes = {name: value for name, value in given.items() if value is not None}
        if not_its_own := sorted(set(changes) & set(LABELS) - set(_applying(preset))):
            raise ValueError(
                f"{not_its_own[0]} does not apply to {preset.name}, whose response is "
                f"{type(preset.response).__name__}; leave it at the preset's."
            )
        if (levels := changes.pop("levels", None)) is not None:
            changes |= {"levels_up": levels, "levels_down": levels}
        return replace(preset, **changes)

    def nonidealities(self) -> dict[str, float]:
        """The nonidealities in force that apply to the device; none for plain weights."""
        device = self.device_with_overrides()
        if device is None:
            return {}
        fields = {name: name for name in _applying(device)} | {"levels": "levels_up"}
        return {name: getattr(device, field) for name, field in fields.items()}


NONIDEALITIES = (
    "nonlinearity_up",
    "nonlinearity_down",
    "cycle_to_cycle",
    "device_to_device",
    "levels",
    "read_noise",
)
LABELS = ("nonlinearity_up", "nonlinearity_down", "device_to_device")


def _applying(device: Device) -> list[str]:
    """The nonidealities that the device's response has: labels are the exponential one's."""
    labelled = isinstance(device.response, Exponential)
    return [name for name in NONIDEALITIES if labelled or name not in LABELS]
