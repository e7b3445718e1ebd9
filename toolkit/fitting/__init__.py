"""Measured pulse trains in, devices out: formulas with errors, or a jump table."""

from toolkit.fitting.columns import Layout
from toolkit.fitting.fit import fit_csv, fit_device, model_names
from toolkit.fitting.result import Fit
from toolkit.fitting.trains import EXAMPLE_CSV, PulseTrains

__all__ = ["EXAMPLE_CSV", "Fit", "Layout", "PulseTrains", "fit_csv", "fit_device", "model_names"]
