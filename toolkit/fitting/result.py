"""The result of a fit: the device, its parameters with their errors, and the residuals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.checks import check_count, check_real
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.device_file import device_yaml, save_device
from toolkit.fitting.bounded_steps import EXACT, MIRRORED, BoundedSteps
from toolkit.fitting.models import LEVELS, MODELS, completed
from toolkit.fitting.trains import Booleans, Floats

_DRAWS, _MOST_PULSES = 400, 10_000  # of a band

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
        Errors of the formula's parameters allow for steps of unequal noise and, where cells
        differ, are those of the mean over cells; an error of 0 belongs to data without noise.
    residuals
        Measured minus predicted conductance after each step used, siemens, (steps,).
    rms
        Root mean square of the residuals as a fraction of the conductance range.
    cells, trains, left_out
        Cells and trains measured; steps not used because a bound may have cut them short.
    used
        Which steps of the trains the residuals are of.
    covariance, freedom
        Covariance of the formula's parameters, the first ones of ``parameters``; and its degrees of
        freedom: one less than the cells where these differ, else infinite. A jump table has none.
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
    covariance: Floats = field(default_factory=lambda: np.zeros((0, 0)), repr=False, compare=False)
    freedom: float = math.inf
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
            + (
                f"rms residual {100.0 * self.rms:.3g} % of it"
                if self.rms >= EXACT
                else "every step as measured: no noise"
            ),
        ]
        width = max(map(len, self.parameters))
        for name, value in self.parameters.items():
            lines.append(f"  {name:{width}} {value:11.5g} ± {self.errors[name]:.2g}")
        if fixed := [] if MIRRORED in device.source else self._fixed():
            lines.append(
                f"{' and '.join(fixed)}: 0, as all these pulses start at one conductance, which "
                "does not determine it"
            )
        if loose := [k for k in LEVELS if self.errors.get(k, 0.0) > self.parameters.get(k, 0.0)]:
            lines.append(
                f"these trains do not determine {' and '.join(loose)}: measure more of them, over "
                "more of the range, or use a simpler model"
            )
        if math.isfinite(self.freedom):
            from scipy.stats import t

            lines.append(
                f"these cells differ: the values are the mean of {self.cells} cells, 95 % of such "
                f"means within {t.ppf(0.975, self.freedom):.2g} of these errors"
            )
        if MIRRORED in device.source:
            lines.append(
                "pulses of one polarity only: the other is its mirror image and means nothing; "
                "train it as pair='one-sided'"
            )
        return "\n".join(lines)

    def band(self, up: int, down: int, share: float = 0.95) -> tuple[Floats, Floats]:
        """The device's curve, and how far off it the true curve of the mean cell may be.

        Both ``(up + down + 1,)``, siemens: from g_min through ``up``, then ``down`` pulses. If the
        formula is right, the whole true curve is inside ``curve ± off`` in this ``share`` of
        measurements. Errors of parameters hang together, so their own errors do not give the
        curve's: parameters are drawn from Student's distribution of ``covariance`` and ``freedom``,
        and ``off`` is as many standard deviations of their curves as keep that share inside.

        Raises
        ------
        TypeError, ValueError
            If a number of pulses or ``share`` is out of bounds, or for a jump table.
        """
        if not 0.0 < check_real("share", share) < 1.0:
            raise ValueError(f"share must be between 0 and 1; got {share}")
        names = [*self.parameters][: len(self.covariance)]
        if not names:
            raise ValueError("a jump table has no covariance; band needs a fitted formula")
        for name, value in (("up", up), ("down", down)):
            check_count(name, value, 0, _MOST_PULSES)
        middle = _curve(self.device, up, down)
        rng, count = np.random.default_rng(0), len(names)
        draws = rng.multivariate_normal(np.zeros(count), self.covariance, _DRAWS, method="eigh")
        if math.isfinite(self.freedom):
            draws /= np.sqrt(rng.chisquare(self.freedom, (_DRAWS, 1)) / self.freedom)
        here = np.array([self.parameters[key] for key in names])
        off = np.array([_curve(self._moved(names, point), up, down) for point in here + draws])
        off = np.abs(off - middle)
        scale = np.sqrt(np.square(off).mean(axis=0))
        worst = (off / np.maximum(scale, 1e-12 * self.device.span)).max(axis=1)
        return middle, scale * np.quantile(worst, share)

    def _fixed(self) -> list[str]:
        """Parameters of the formula that were not fitted."""
        shape = MODELS[self.model].shape if self.model in MODELS else {}
        return [key for key in shape if key not in self.parameters]

    def _moved(self, names: list[str], point: Floats) -> Device:
        """The device with other parameters of its formula, as far as they are allowed."""
        values: dict[str, Any] = dict(zip(names, point.tolist(), strict=True))
        if MIRRORED in self.device.source:
            values = completed(values)
        for key, value in values.items():
            _, least, most = MODELS[self.model].shape.get(key, (0.0, 1.0, math.inf))
            if not key.startswith("g_"):
                values[key] = min(max(value, least), most)
        if "g_min" in values:
            values["g_min"] = max(values["g_min"], 1e-3 * self.device.g_min)
            values["g_max"] = max(values["g_max"], 1.001 * values["g_min"])
        return replace(self.device, **values)

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


def _curve(device: Device, up: int, down: int) -> Floats:
    """Siemens of a noiseless cell before and after each pulse, from g_min."""
    return device.g_min + device.span * device.trace(up, down).numpy()


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
