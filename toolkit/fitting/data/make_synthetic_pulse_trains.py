"""Make synthetic_pulse_trains.csv: what four cells of an invented device would show."""

from pathlib import Path

from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import Exponential
from toolkit.fitting.trains import EXAMPLE_CSV, PulseTrains

#: The device behind the example; a fit should find its numbers again.
DEVICE = Device(
    name="synthetic",
    g_min=1e-6,
    g_max=10e-6,
    levels_up=60,
    levels_down=50,
    cycle_to_cycle=0.005,
    response=Exponential(nonlinearity_up=2.0, nonlinearity_down=-3.0, device_to_device=0.2),
    source="invented",
)
COMMENT = """SYNTHETIC pulse trains, made by make_synthetic_pulse_trains.py: no measurement.
4 cells of the NeuroSim curve: 1 to 10 uS, 60 levels up, 50 down, nonlinearity 2.0 / -3.0,
cycle-to-cycle noise 0.5 % of the range, device-to-device spread of the labels 0.2.
Polarity: +1 up, -1 down, 0 reading before the first pulse of a cycle."""


def make(path: Path = EXAMPLE_CSV) -> PulseTrains:
    """Write the example to ``path``; the same numbers at every call."""
    trains = PulseTrains.simulated(DEVICE, cells=4, cycles=2, up=70, down=60, seed=0)
    trains.to_csv(path, comment=COMMENT)
    return trains


if __name__ == "__main__":
    make()
