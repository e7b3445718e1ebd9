"""The crossbar: weights held as differential pairs of cells, read and written through pulses.

How a cell answers a pulse is in :mod:`toolkit.crossbar.response`. Here are the pair convention,
the reads, and the writes: wanted change -> whole pulses -> response -> noise -> range.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.crossbar.checks import (
    check_finite,
    check_positive,
    check_signal,
    check_update,
    check_weights,
)
from toolkit.crossbar.device import Device
from toolkit.lowrank import LowRank

SCHEMES = ("rank-sequential", "rank-sum")


class Crossbar:
    """An array of differential pairs of cells.

    A pair holds ``w = (G_plus - G_minus) / (g_max - g_min) * w_max`` and is programmed symmetric
    about mid-range, ``G_plus, G_minus = G_mid +- (w / w_max) (g_max - g_min) / 2``. A wanted change
    ``dw > 0`` potentiates G_plus and depresses G_minus, each asked for half of it: ``N = |dw| / (2
    w_max) * levels`` pulses with the levels of the direction, rounded stochastically to whole
    pulses, cell by cell. ``n`` pulses in one write carry cycle-to-cycle noise
    ``N(0, cycle_to_cycle) * sqrt(n)`` of the range, after which the state is clipped to the range.

    Make one with :meth:`from_weights`. Attributes: ``w_max``, the largest weight a pair can hold.
    """

    def __init__(
        self, state: Tensor, *, device: Device, w_max: float, generator: torch.Generator
    ) -> None:
        self.w_max = w_max
        self._device = device
        self._generator = generator
        self._state = state  # (2, m, n): (G - g_min) / (g_max - g_min), plus then minus
        self._pulse_count = torch.zeros(state.shape, dtype=torch.int64, device=state.device)
        self._cell_seed = int(
            torch.randint(2**62, (), generator=generator, device=generator.device)
        )
        self._renew_cells()

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        *,
        device: Device,
        w_max: float = 1.0,
        seed: int | torch.Generator = 0,
    ) -> Crossbar:
        """Program ``weights`` (m, n) onto new cells, exactly, clipped to ``-w_max..w_max``.

        Parameters
        ----------
        weights
            (m, n) floating point; the array keeps its dtype and torch device.
        device
            The kind of cell.
        w_max
            Weight at the end of the range.
        seed
            Of all randomness of this array: an int, or a generator on the device of ``weights``.

        Raises
        ------
        TypeError, ValueError
            If ``weights`` is not a finite floating-point matrix or ``w_max`` not positive.
        """
        weights = check_weights(weights)
        check_positive(w_max=w_max)
        if not isinstance(device, Device):
            raise TypeError(f"device must be a Device, got {type(device).__name__}")
        if not isinstance(seed, torch.Generator):
            seed = torch.Generator(weights.device).manual_seed(seed)
        state = _program(weights, w_max)
        return cls(state, device=device, w_max=float(w_max), generator=seed)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        _, rows, columns = self._state.shape
        return rows, columns

    @property
    def weights(self) -> Tensor:
        """The weights now held, (m, n), without read noise."""
        return (self._state[0] - self._state[1]).mul_(self.w_max)

    @property
    def conductance(self) -> Tensor:
        """(2, m, n) siemens, plus then minus."""
        return self._state * (self._device.g_max - self._device.g_min) + self._device.g_min

    @property
    def pulse_count(self) -> Tensor:
        """(2, m, n) int64: pulses issued to each cell so far, plus then minus."""
        return self._pulse_count.clone()

    @property
    def device(self) -> Device:
        """The kind of cell; may be set at any time.

        With the same conductance range the conductances stay and the response changes, each cell
        keeping its own standard-normal draws; with another, the present weights are programmed onto
        new cells, whose pulse counts start at zero.
        """
        return self._device

    @device.setter
    def device(self, device: Device) -> None:
        if not isinstance(device, Device):
            raise TypeError(f"device must be a Device, got {type(device).__name__}")
        same_range = (device.g_min, device.g_max) == (self._device.g_min, self._device.g_max)
        if not same_range:
            self._state = _program(self.weights, self.w_max)
            self._pulse_count.zero_()
        self._device = device
        self._renew_cells()

    def read(self, activations: Tensor) -> Tensor:
        """``activations @ weights.T`` with read noise: (batch, n) -> (batch, m).

        Every cell's current is ``V G (1 + N(0, read_noise))``, drawn anew for every input vector;
        the sum over a line is drawn as one normal of the summed variance, which is the same thing.
        """
        check_signal("activations", activations, self.shape[1])
        return self._multiply(activations, self._difference().T, transposed=False)

    def read_transposed(self, errors: Tensor) -> Tensor:
        """``errors @ weights`` with read noise: (batch, m) -> (batch, n)."""
        check_signal("errors", errors, self.shape[0])
        return self._multiply(errors, self._difference(), transposed=True)

    def apply(
        self, update: LowRank, *, learning_rate: float, scheme: str = "rank-sequential"
    ) -> None:
        """Descend: wanted change of the weights ``-learning_rate * left diag(sigma) right.T``.

        ``rank-sequential`` writes one outer product after another into the cells, each rounded to
        pulses of its own; ``rank-sum`` adds them outside and writes the sum once.

        Raises
        ------
        ValueError
            If the shapes differ, a value is not finite or the scheme is unknown; then nothing
            is written.
        """
        check_finite(learning_rate=learning_rate)
        check_update(update, self.shape)
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
        left = (update.left * update.sigma).to(self._state) * (-learning_rate / (2.0 * self.w_max))
        right = update.right.to(self._state)
        if scheme == "rank-sum":
            self._write(left @ right.T)
        else:
            for column, row in zip(left.T, right.T, strict=True):
                self._write(torch.outer(column, row))

    def state_dict(self) -> dict[str, Any]:
        """State to save: cells, pulse counts and random generator (not the device)."""
        return {
            "state": self._state.clone(),
            "pulse_count": self._pulse_count.clone(),
            "cell_seed": self._cell_seed,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, under the present device.

        Raises
        ------
        ValueError
            If the shape differs or a state is not finite.
        """
        cells = state["state"]
        if cells.shape != self._state.shape or not bool(torch.isfinite(cells).all()):
            raise ValueError(
                f"state must be finite of shape {tuple(self._state.shape)}, "
                f"got shape {tuple(cells.shape)}"
            )
        self._state = torch.empty_like(self._state).copy_(cells)
        self._pulse_count.copy_(state["pulse_count"])
        self._cell_seed = state["cell_seed"]
        self._generator.set_state(state["generator"])
        self._renew_cells()

    def _renew_cells(self) -> None:
        """Parameters of the cells of the present device, from this array's own draws."""
        self._cells = self._device.response.cells(self._device, self._draw)
        self._cells.clip(self._state)
        self._weights_cache: Tensor | None = None

    def _draw(self, index: int) -> Tensor:
        """Standard normals of the cells, (2, m, n): the same for the same index at any time."""
        generator = torch.Generator(self._state.device).manual_seed(self._cell_seed + index)
        return torch.randn(
            self._state.shape,
            generator=generator,
            dtype=self._state.dtype,
            device=self._state.device,
        )

    def _difference(self) -> Tensor:
        if self._weights_cache is None:
            self._weights_cache = self.weights
        return self._weights_cache

    def _multiply(self, signal: Tensor, matrix: Tensor, *, transposed: bool) -> Tensor:
        output = signal @ matrix
        if self._device.read_noise > 0.0:
            span = self._device.g_max - self._device.g_min
            power = (self._state + self._device.g_min / span).square_().sum(0)
            variance = signal.square() @ (power if transposed else power.T)
            noise = torch.empty_like(output).normal_(generator=self._generator)
            output.addcmul_(noise, variance.sqrt_(), value=self._device.read_noise * self.w_max)
        return output

    def _write(self, wanted: Tensor) -> None:
        """Write ``wanted`` (m, n): change of the plus cells as a fraction of the range."""
        pulses = self._whole_pulses(wanted)
        self._cells.step(self._state, pulses)
        count = pulses.abs_()
        self._pulse_count += count.to(torch.int64)
        if self._device.cycle_to_cycle > 0.0:
            noise = torch.empty_like(count).normal_(generator=self._generator)
            self._state.addcmul_(noise, count.sqrt_(), value=self._device.cycle_to_cycle)
        self._cells.clip(self._state)
        self._weights_cache = None

    def _whole_pulses(self, wanted: Tensor) -> Tensor:
        """Signed whole pulses (2, m, n), stochastically rounded so that the mean is exact."""
        up, down = self._device.levels_up, self._device.levels_down
        pulses = torch.empty_like(self._state).uniform_(generator=self._generator)
        rise, fall = wanted.clamp(min=0.0), wanted.clamp(max=0.0)
        pulses[0].add_(rise, alpha=up).add_(fall, alpha=down)
        pulses[1].sub_(rise, alpha=down).sub_(fall, alpha=up)
        return pulses.floor_()


def _program(weights: Tensor, w_max: float) -> Tensor:
    """Normalised state (2, m, n) of pairs symmetric about mid-range."""
    half = (weights / (2.0 * w_max)).clamp(-0.5, 0.5)
    return torch.stack([0.5 + half, 0.5 - half])
