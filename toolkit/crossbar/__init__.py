"""Crossbars: devices, arrays of pairs of cells, reads and pulsed writes, wear and time."""

from toolkit.crossbar.ageing import PCMDrift, PowerLawDrift, Relaxation
from toolkit.crossbar.array import Crossbar
from toolkit.crossbar.cost import Cost
from toolkit.crossbar.device import Device
from toolkit.crossbar.digital import DigitalArray
from toolkit.crossbar.jumps import Jumps, JumpTable
from toolkit.crossbar.periphery import Converter, Periphery
from toolkit.crossbar.presets import device_names, get_device
from toolkit.crossbar.pulses import PAIRS, SCHEMES, Coincidence, WholePulses
from toolkit.crossbar.response import Exponential
from toolkit.crossbar.steps import ExpStep, LinearStep, PiecewiseStep, PowStep, SoftBounds
from toolkit.crossbar.tiki_taka import TikiTaka
from toolkit.crossbar.tiles import TiledCrossbar
from toolkit.crossbar.wires import Wires, line_currents

__all__ = [
    "PAIRS",
    "SCHEMES",
    "Coincidence",
    "Converter",
    "Cost",
    "Crossbar",
    "Device",
    "DigitalArray",
    "ExpStep",
    "Exponential",
    "JumpTable",
    "Jumps",
    "LinearStep",
    "PCMDrift",
    "Periphery",
    "PiecewiseStep",
    "PowStep",
    "PowerLawDrift",
    "Relaxation",
    "SoftBounds",
    "TikiTaka",
    "TiledCrossbar",
    "WholePulses",
    "Wires",
    "device_names",
    "get_device",
    "line_currents",
]
