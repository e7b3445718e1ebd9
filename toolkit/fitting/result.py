"""The result of a fit: the device, its parameters with their errors, and the residuals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.device_file import device_yaml, save_device
from toolkit.fitting.bounded_steps import MIRRORED, BoundedSteps
from toolkit.fitting.trains import Booleans, Floats

Values = dict[str, float]
Parameters = dict[str, tuple[float, float]]  # value, standard error


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A device made from measurements, and how well it describes them.

    Attributes
    ----------
    device
        The device, its noise and spreads included.
    model
        Name of the formula, or "jump-table".
    parameters, errors
        Fitted values and their standard errors, by name: the formula's (siemens or plain numbers),
        then noise and spreads. For a jump table ``up[x]``, ``down[x]``: mean step at the state x.
        Errors of the formula's parameters allow for steps of unequal noise and for the finite
        number of cells; an error of 0 belongs to data without noise.
    residuals
        Measured minus predicted conductance after each step used, siemens, (steps,).
    rms
        Root mean square of the residuals as a fraction of the conductance range.
    cells, trains, left_out
        Cells and trains measured; steps not used because a bound may have cut them short.
    used
        Which steps of the trains the residuals are of.
    understood
        How the table was read.
    comparison
        With ``model="best"``: the models that were compared, and why this one.
    origin
        File name and SHA-256 of the table.
    """

    device: Device
    model: str
    parameters: Values
    errors: Values
    residuals: Floats = field(repr=False)
    rms: float
    cells: int
    trains: int
    left_out: int
    used: Booleans = field(repr=False, compare=False)
    understood: str = ""
    comparison: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        device: Device,
        model: str,
        data: BoundedSteps,
        parameters: Parameters,
        residuals: Floats,
        used: Booleans,
    ) -> Fit:
        """Assemble the result; ``parameters`` with their errors, ``residuals`` in siemens."""
        return cls(
            device=device,
            model=model,
            parameters=best_values(parameters),
            errors={key: error for key, (_, error) in parameters.items()},
            residuals=residuals,
            rms=rms(residuals) / device.span,
            cells=data.cells,
            trains=data.trains,
            left_out=len(data.steps) - len(residuals),
            used=used,
        )

    def summary(self) -> str:
        """A few lines to print."""
        device = self.device
        lines = [line for line in (self.understood, self.comparison) if line]
        lines += [
            f"{device.name}: {self.model} fitted to {self.cells} cells, {self.trains} trains, "
            f"{len(self.residuals)} steps ({self.left_out} left out near the bounds)",
            f"range {device.g_min:.4g} to {device.g_max:.4g} S, "
            f"rms residual {100.0 * self.rms:.3g} % of it",
        ]
        width = max(map(len, self.parameters))
        for name, value in self.parameters.items():
            lines.append(f"  {name:{width}} {value:11.5g} ± {self.errors[name]:.2g}")
        if MIRRORED in device.source:
            lines.append(
                "pulses of one polarity only: the other is its mirror image and means nothing; "
                "train it as pair='one-sided'"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def save(self, path: str | Path) -> None:
        """Write the device as YAML; :func:`toolkit.crossbar.open_device` reads it."""
        save_device(self.device, path, self.provenance())

    def to_yaml(self) -> str:
        """The text that :meth:`save` writes."""
        return device_yaml(self.device, self.provenance())

    def signed(self) -> Fit:
        """The same fit, its device with the :meth:`provenance`, which then travels with it."""
        return replace(self, device=replace(self.device, provenance=self.provenance()))

    def provenance(self) -> dict[str, Any]:
        """Where the device comes from: file, checksum, model, parameters and errors."""
        provenance = {
            **self.origin,
            "read": self.understood,
            "model": self.model,
            "cells": self.cells,
            "trains": self.trains,
            "rms": self.rms,
            "parameters": self.parameters,
            "errors": self.errors,
        }
        return {key: value for key, value in provenance.items() if value != ""}


def root_with_error(square: float, error: float) -> tuple[float, float]:
    """Root of an estimated variance (0 if it came out negative) and its standard error."""
    root = math.sqrt(max(float(square), 0.0))
    bound = math.sqrt(float(error))
    return root, bound if root <= bound else float(error) / (2.0 * root)


def rms(values: Floats) -> float:
    """Root mean square."""
    return math.sqrt(float(np.square(values).mean()))


def best_values(parameters: Parameters) -> Values:
    """The values without their errors."""
    return {key: value for key, (value, _) in parameters.items()}
