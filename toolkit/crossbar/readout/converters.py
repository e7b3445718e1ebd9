"""Converters around an array: DACs on the driven lines, ADCs on the sensed lines.

Inputs are in units of activations, outputs in units of weight x activation, so bounds and noise do
not depend on the read voltage. Noise of the cells belongs to :class:`~toolkit.crossbar.Device`,
line resistance to :mod:`toolkit.crossbar.readout.wires`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from toolkit.checks import check_count, check_flag, check_instance, check_real, check_tensor


@dataclass(frozen=True, kw_only=True)
class Converter:
    """Uniform quantiser, symmetric about 0, which is one of its levels (mid-tread).

    ``step = bound / (2^(bits - 1) - 1)``; a signal is clipped to ``[-bound, bound]`` and rounded to
    a multiple of ``step``: ``2^bits - 1`` levels, error at most ``step / 2`` inside the bound.

    Parameters
    ----------
    bits
        Resolution, 2 to 52; None: not quantised.
    bound
        Largest magnitude that is converted, in units of the signal. None: every vector is scaled by
        its own largest magnitude and scaled back afterwards, digitally at a DAC, by an ideal
        programmable amplifier at an ADC; nothing is clipped.
    noise
        Standard deviation of Gaussian noise on the analogue side (after a DAC, before an ADC), in
        units of the signal, redrawn for every conversion.
    stochastic
        Round up with the probability of the remainder: unbiased inside the bound, error below one
        ``step``.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """

    bits: int | None = None
    bound: float | None = None
    noise: float = 0.0
    stochastic: bool = False

    def __post_init__(self) -> None:
        if self.bits is not None:
            check_count("bits", self.bits, 2, 52)
        if self.bound is not None:
            check_real("bound", self.bound, above=0.0)
        check_real("noise", self.noise, 0.0)
        if check_flag("stochastic", self.stochastic) and self.bits is None:
            raise ValueError("stochastic must be False without bits; got True")

    def quantise(self, signal: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Clip and round ``signal`` (batch, lines); ``generator`` draws the stochastic rounding."""
        if self.bits is None:
            return signal if self.bound is None else signal.clamp(-self.bound, self.bound)
        top = 2 ** (self.bits - 1) - 1
        step = self.full_scale(signal) / top
        levels = signal / step
        if self.stochastic:
            chance = torch.empty_like(levels).uniform_(generator=_needed(generator))
            levels = levels.add_(chance).floor_()
        else:
            levels = levels.round_()
        return levels.clamp_(-top, top).mul_(step)

    def add_noise(self, signal: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """``signal`` with the converter's noise."""
        if self.noise == 0.0:
            return signal
        return signal + self.noise * torch.empty_like(signal).normal_(generator=_needed(generator))

    def full_scale(self, signal: Tensor) -> Tensor:
        """The bound, or every vector's own largest magnitude: (batch, 1), positive."""
        if self.bound is not None:
            return signal.new_full((1, 1), self.bound)
        smallest = torch.finfo(signal.dtype).tiny * 2 ** (self.bits or 0)  # a step is above 0
        return signal.abs().amax(1, keepdim=True).clamp_(min=smallest)

    def calibrated(self, samples: Tensor, *, quantile: float = 1.0) -> Converter:
        """Return the converter with its bound at a quantile of ``|samples|``; 1 is the maximum.

        Raises
        ------
        ValueError
            If ``samples`` are empty, not finite or 0 at the quantile, or it is not in (0, 1].
        """
        check_real("quantile", quantile, most=1.0, above=0.0)
        if check_tensor("samples", samples).numel() == 0:
            raise ValueError("samples must have at least one number; got none")
        magnitudes = samples.detach().abs().flatten()
        bound = float(magnitudes.kthvalue(math.ceil(quantile * magnitudes.numel())).values)
        if bound == 0.0:
            raise ValueError(f"samples must not be 0 at quantile {quantile}; got 0")
        return replace(self, bound=bound)


@dataclass(frozen=True)
class SinhCurve:
    """Current of a cell per conductance, ``f(x) = X sinh(a x / X) / sinh(a)``, X the full scale."""

    full_scale: Tensor  #: (batch, 1)
    a: float

    def __call__(self, signal: Tensor) -> Tensor:
        """Currents per conductance at the voltages ``signal`` (batch, ...)."""
        scale = self._scale(signal)
        return torch.sinh(signal / scale * self.a) * (scale / math.sinh(self.a))

    def slope(self, signal: Tensor) -> Tensor:
        """Derivative of f."""
        return torch.cosh(signal / self._scale(signal) * self.a) * (self.a / math.sinh(self.a))

    def part(self, batch: slice) -> SinhCurve:
        """The curve for a slice of the batch."""
        return SinhCurve(self.full_scale[batch], self.a)

    def _scale(self, signal: Tensor) -> Tensor:
        return self.full_scale.view(-1, *[1] * (signal.ndim - 1)).to(signal)


@dataclass(frozen=True, kw_only=True)
class Periphery:
    """The converters of one array, and the I-V curve of its cells.

    A read is ``adc(noise + weights f(noise + dac(activations)))``. The default is ideal.
    ideal.

    Parameters
    ----------
    dac, adc
        Converters of reads: inputs, outputs.
    dac_transposed, adc_transposed
        Converters of transposed reads; None: like those of reads.
    iv_nonlinearity
        ``a = V_read / V_0`` of cells whose current is proportional to ``sinh(V / V_0)``, as compact
        models describe conduction by tunnelling (Guan, Yu and Wong, IEEE Electron Device Lett.
        33(10), 1405, 2012; theory: Simmons, J. Appl. Phys. 34, 1793, 1963). G is measured at the
        read voltage: an input x acts as ``f(x) = X sinh(a x / X) / sinh(a)``, where X is the full
        scale of the DAC and corresponds to V_read. 0: ohmic. With resistive wires, the curve
        applies to the voltage that arrives at the cell.

    Raises
    ------
    ValueError
        If ``iv_nonlinearity`` is negative or above 20.
    """

    dac: Converter = field(default_factory=Converter)
    adc: Converter = field(default_factory=Converter)
    dac_transposed: Converter | None = None
    adc_transposed: Converter | None = None
    iv_nonlinearity: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dac", "adc", "dac_transposed", "adc_transposed"):
            if (value := getattr(self, name)) is not None or not name.endswith("transposed"):
                check_instance(name, value, Converter, "a Converter")
        check_real("iv_nonlinearity", self.iv_nonlinearity, 0.0, 20.0)

    def drive(
        self, signal: Tensor, *, transposed: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """Inputs (batch, lines) as driven onto the lines."""
        dac, _ = self.converters(transposed=transposed)
        return dac.add_noise(dac.quantise(signal, generator=generator), generator=generator)

    def curve(self, signal: Tensor, *, transposed: bool = False) -> SinhCurve | None:
        """I-V curve of the cells for the inputs ``signal``; None if they are ohmic."""
        if self.iv_nonlinearity == 0.0:
            return None
        dac, _ = self.converters(transposed=transposed)
        return SinhCurve(dac.full_scale(signal).expand(len(signal), 1), self.iv_nonlinearity)

    def sense(
        self, output: Tensor, *, transposed: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """Sums of the lines (batch, lines) as the digital side receives them."""
        _, adc = self.converters(transposed=transposed)
        return adc.quantise(adc.add_noise(output, generator=generator), generator=generator)

    def converters(self, *, transposed: bool) -> tuple[Converter, Converter]:
        """DAC and ADC of one direction."""
        if not transposed:
            return self.dac, self.adc
        return self.dac_transposed or self.dac, self.adc_transposed or self.adc

    def calibrated(
        self,
        weights: Tensor,
        activations: Tensor,
        errors: Tensor | None = None,
        *,
        quantile: float = 1.0,
    ) -> Periphery:
        """Set bounds from data: a quantile of the magnitudes in an ideal read.

        ``weights`` (m, n), ``activations`` (batch, n). With ``errors`` (batch, m), transposed reads
        get their own converters.

        Raises
        ------
        ValueError
            As :meth:`Converter.calibrated`.
        """
        calibrated = replace(
            self,
            dac=self.dac.calibrated(activations, quantile=quantile),
            adc=self.adc.calibrated(activations @ weights.T, quantile=quantile),
        )
        if errors is None:
            return calibrated
        dac, adc = self.converters(transposed=True)
        return replace(
            calibrated,
            dac_transposed=dac.calibrated(errors, quantile=quantile),
            adc_transposed=adc.calibrated(errors @ weights, quantile=quantile),
        )


def _needed(generator: torch.Generator | None) -> torch.Generator:
    if generator is None:
        raise ValueError("generator must be given for noise and stochastic rounding; got None")
    return generator
