"""Crossbars: devices, arrays of pairs of cells, reads and pulsed writes, wear and time."""

from toolkit.crossbar.array import Array
from toolkit.crossbar.composites.agad import AGAD
from toolkit.crossbar.composites.buffered import BufferedTikiTaka
from toolkit.crossbar.composites.chopped import ChoppedTikiTaka
from toolkit.crossbar.composites.composite import TikiTaka, TiledCrossbar
from toolkit.crossbar.composites.ensemble import EnsembleCrossbar
from toolkit.crossbar.composites.mixed_precision import MixedPrecision
from toolkit.crossbar.composites.residual import ResidualLearning
from toolkit.crossbar.composites.sliced import SlicedCrossbar
from toolkit.crossbar.cost import Cost
from toolkit.crossbar.crossbar import Crossbar
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.device_file import open_device, save_device
from toolkit.crossbar.devices.jumps import Jumps, JumpTable
from toolkit.crossbar.devices.presets import add_device, device_names, get_device
from toolkit.crossbar.devices.responses import Exponential
from toolkit.crossbar.devices.retention import PCMDrift, PowerLawDrift, Relaxation
from toolkit.crossbar.devices.steps import LinearStep, SoftBounds
from toolkit.crossbar.devices.stepwise import ExpStep, IncrementalPulses, PiecewiseStep, PowStep
from toolkit.crossbar.digital import DigitalArray
from toolkit.crossbar.pairs import PAIRS
from toolkit.crossbar.pulses import SCHEMES, Coincidence, WholePulses
from toolkit.crossbar.readout.converters import Converter, Periphery
from toolkit.crossbar.readout.wires import Wires, line_currents

__all__ = [
    "AGAD",
    "PAIRS",
    "SCHEMES",
    "Array",
    "BufferedTikiTaka",
    "ChoppedTikiTaka",
    "Coincidence",
    "Converter",
    "Cost",
    "Crossbar",
    "Device",
    "DigitalArray",
    "EnsembleCrossbar",
    "ExpStep",
    "Exponential",
    "IncrementalPulses",
    "JumpTable",
    "Jumps",
    "LinearStep",
    "MixedPrecision",
    "PCMDrift",
    "Periphery",
    "PiecewiseStep",
    "PowStep",
    "PowerLawDrift",
    "Relaxation",
    "ResidualLearning",
    "SlicedCrossbar",
    "SoftBounds",
    "TikiTaka",
    "TiledCrossbar",
    "WholePulses",
    "Wires",
    "add_device",
    "device_names",
    "get_device",
    "line_currents",
    "open_device",
    "save_device",
]
