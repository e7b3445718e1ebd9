"""Crossbars: devices, arrays of differential pairs, reads and pulsed writes."""

from toolkit.crossbar.array import SCHEMES, Crossbar
from toolkit.crossbar.device import Device
from toolkit.crossbar.digital import DigitalArray
from toolkit.crossbar.presets import device_names, get_device

__all__ = ["SCHEMES", "Crossbar", "Device", "DigitalArray", "device_names", "get_device"]
