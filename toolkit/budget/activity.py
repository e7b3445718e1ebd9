"""What happens in an array during training: measured in a run, or an estimate marked as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.checks import check_count, check_instance, check_real
from toolkit.crossbar import Crossbar

#: Pulses of the sum of k outer products, and of k written one by one, grow by about this power of
#: k: SVD's factors needed 1.4 and 2.0 times the pulses at k = 3 and 10 (docs/devices.md).
GROWTH = 0.3
#: Without a run: pulses per cell and batch of a full gradient's write; busiest cell over the mean.
_PULSES, _BUSIEST, _POWER = 0.02, 10.0, 0.1


@dataclass(frozen=True)
class Activity:
    """Averages over an array's cells and a training's batches.

    Parameters
    ----------
    pulses
        Pulses per cell and batch, of either sign.
    power
        Mean square of a line's signal over all reads, in units of ``v_read``.
    conductance
        Mean over cells, siemens. None: the middle of the device's range.
    slots
        Of a write's phase: the longest pulse train.
    phases
        SET and RESET phases per batch. None: as many as the method may need.
    busiest
        Pulses of the busiest cell over those of the mean one.
    is_measured
        Whether the numbers come from a run.

    Raises
    ------
    TypeError, ValueError
        If a number is negative, or the busiest cell has less than the mean.
    """

    pulses: float
    power: float = _POWER
    conductance: float | None = None
    slots: float = 1.0
    phases: float | None = None
    busiest: float = _BUSIEST
    is_measured: bool = False

    def __post_init__(self) -> None:
        for name in ("pulses", "power", "slots"):
            check_real(name, getattr(self, name), 0.0)
        for name in ("conductance", "phases"):
            if getattr(self, name) is not None:
                check_real(name, getattr(self, name), 0.0)
        check_real("busiest", self.busiest, 1.0)


def estimated(outer_products: int) -> Activity:
    """For a write of so many outer products, where there is no run: see ``GROWTH``."""
    return Activity(pulses=_PULSES * outer_products**GROWTH)


def measured(arrays: Mapping[str, Crossbar], *, batches: int) -> dict[str, Activity]:
    """From arrays after a run, such as ``run.arrays``, by layer.

    Parameters
    ----------
    arrays
        Crossbars, by layer name.
    batches
        How many batches have been written.

    Returns
    -------
    dict
        For ``budget(activity=...)``.

    Raises
    ------
    TypeError, ValueError
        If an array is not a crossbar, or nothing was written.
    """
    check_instance("arrays", arrays, Mapping, "a mapping of layer names to crossbars")
    check_count("batches", batches)
    return {name: _measured(name, array, batches) for name, array in arrays.items()}


def _measured(name: str, array: Crossbar, batches: int) -> Activity:
    check_instance(f"array {name!r}", array, Crossbar, "a Crossbar")
    cost, counts, device = array.cost(), array.pulse_count, array.device
    if not cost.pulses_up + cost.pulses_down:
        raise ValueError(f"array {name!r} must have been written; it has not")
    total, mean = float(array.conductance.double().sum()), float(counts.double().mean())
    read = device.v_read**2 * device.width_read * total * cost.reads
    seconds = cost.set_phases * device.width_up + cost.reset_phases * device.width_down
    return Activity(
        pulses=mean / batches,
        power=cost.read_energy / read if read else 0.0,
        conductance=total / counts.numel(),
        slots=cost.write_time / seconds,
        phases=(cost.set_phases + cost.reset_phases) / batches,
        busiest=max(float(counts.max()) / mean, 1.0),
        is_measured=True,
    )
