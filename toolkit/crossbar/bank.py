"""Cells under pulses: their states, bounds, noise, wear and clocks. No weights, no lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.crossbar.ageing import endurance_limits, stuck_bounds
from toolkit.crossbar.device import Device
from toolkit.crossbar.noise import CellNoise
from toolkit.crossbar.response import clip_, like


class CellBank:
    """Cells of one device, of any shape, in normalised state ``(G - g_min) / (g_max - g_min)``.

    Attributes: ``state`` (changed in place), ``pulse_count`` int32, ``device``, ``noise``;
    ``pulses``, scratch of the shape of ``state`` in which to prepare :meth:`pulse`.
    """

    def __init__(self, state: Tensor, device: Device, generator: torch.Generator) -> None:
        self.state = state
        self.pulse_count = torch.zeros(state.shape, dtype=torch.int32, device=state.device)
        self.noise = CellNoise(state, generator)
        # pulses, their number, three of the response, noise
        self._work = torch.empty(6, *state.shape).to(state)
        self.pulses = self._work[0]
        self._seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        self.settle(device)

    def settle(self, device: Device) -> None:
        """Become cells of ``device`` in the present state, each keeping its own draws."""
        self.device = device
        self._cells = device.response.cells(device, self.draw)
        self._low, self._high = stuck_bounds(self._cells.low, self._cells.high, device, self.draw)
        self._limit = endurance_limits(device, self.draw)
        self._offset = torch.zeros_like(self.state) if device.write_noise > 0.0 else None
        self._at_rest = self._age = None
        if device.retention is not None:
            self._at_rest, self._age = self.state.clone(), torch.zeros_like(self.state)
        self._wear()
        clip_(self.state, self._low, self._high)

    def renew(self, state: Tensor) -> None:
        """Replace the cells by unused ones in ``state``."""
        self.state.copy_(state)
        self.pulse_count.zero_()
        self.settle(self.device)

    def draw(self, index: int) -> Tensor:
        """Standard normals, one per cell: the same for the same index at any time."""
        generator = torch.Generator(self.state.device).manual_seed(self._seed + index)
        return torch.randn(
            self.state.shape,
            generator=generator,
            dtype=self.state.dtype,
            device=self.state.device,
        )

    def symmetry_point(self) -> Tensor | None:
        """Symmetry point of every cell, or None."""
        point = self._cells.symmetry_point()
        return None if point is None else like(point, self.state).expand(self.state.shape)

    @property
    def stuck(self) -> Tensor:
        """Cells that no longer move (bool), stuck from the start or worn out."""
        closed = like(self._high, self.state) <= like(self._low, self.state)
        return closed.expand(self.state.shape).clone()

    def visible(self) -> Tensor:
        """The state that a read sees: write noise included. Not to be changed."""
        return self.state if self._offset is None else self.state + self._offset

    def pulse(self) -> Tensor:
        """Give every cell its signed number of ``self.pulses``; returns them and their sizes.

        Response, cycle-to-cycle noise, bounds, then what the device has of write noise, wear and
        clock. The returned (2, cells) are scratch: use them before the next pulse.
        """
        pulses, count, noise = self._work[0], self._work[1], self._work[5]
        noisy = self.device.step_noise > 0.0 or self.device.state_noise > 0.0
        before = self.state.clone() if noisy else self.state
        self._cells.step(self.state, pulses, self._work[2:5])
        torch.abs(pulses, out=count)
        self.pulse_count += count.to(torch.int32)
        if noisy:
            self.state.addcmul_(self.noise.normal_(noise), self._deviation(before, count))
        elif self.device.cycle_to_cycle > 0.0:
            root = _root(count, self._work[2])
            self.noise.normal_(noise)
            self.state.addcmul_(noise, root, value=self.device.cycle_to_cycle)
        clip_(self.state, self._low, self._high)
        self._after_write(count)
        return self._work[:2].flatten(1)

    def disturb(self, pulses: Tensor) -> None:
        """Move cells by signed fractions of pulses, without noise and uncounted."""
        self._cells.step(self.state, pulses, self._work[2:5])
        clip_(self.state, self._low, self._high)

    def put(self, where: Tensor, state: Tensor) -> None:
        """Set the cells of mask ``where`` to ``state``, but for those that are stuck."""
        moved = where & ~self.stuck
        self.state.copy_(torch.where(moved, state, self.state))
        clip_(self.state, self._low, self._high)
        self._after_write(moved)

    def wait(self, seconds: float) -> None:
        """Let time pass: the state follows the device's retention law since each cell's write."""
        law = self.device.retention
        if law is None or self._at_rest is None or self._age is None:
            return
        self._age += seconds
        self.state.copy_(law.after(self._at_rest, self._age, self.device, self.draw))
        clip_(self.state, self._low, self._high)

    def state_dict(self) -> dict[str, Any]:
        """State to save, random generator included."""
        saved = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return {**saved, "seed": self._seed, "generator": self.noise.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; ValueError, and nothing changed, if something is missing or does not fit."""
        for name, mine in self._tensors().items():
            new = state.get(name)
            if new is None or new.shape != mine.shape or not bool(torch.isfinite(new).all()):
                raise ValueError(f"state needs a finite {name!r} of shape {tuple(mine.shape)}")
        self._seed = state["seed"]
        self.noise.generator.set_state(state["generator"])
        self.state.copy_(state["state"])
        self.pulse_count.copy_(state["pulse_count"])
        self.settle(self.device)
        for name, mine in self._tensors().items():
            mine.copy_(state[name])

    def _tensors(self) -> dict[str, Tensor]:
        """Tensors of the state, those included that only some devices need."""
        every = {
            "state": self.state,
            "pulse_count": self.pulse_count,
            "offset": self._offset,
            "at_rest": self._at_rest,
            "age": self._age,
        }
        return {name: tensor for name, tensor in every.items() if tensor is not None}

    def _deviation(self, before: Tensor, count: Tensor) -> Tensor:
        """sqrt(n) (cycle_to_cycle + step_noise |dx|/n + state_noise x), 0 where n = 0."""
        device = self.device
        change = (self.state - before).abs_().div_(count.clamp(min=1.0))
        one = change.mul_(device.step_noise).add_(before, alpha=device.state_noise)
        return one.add_(device.cycle_to_cycle).mul_(_root(count, self._work[2]))

    def _after_write(self, written: Tensor) -> None:
        """Write noise, clock and wear of the cells where ``written`` is not 0."""
        if self._offset is None and self._at_rest is None and self._limit is None:
            return
        where = written > 0
        if self._offset is not None:
            fresh = self.noise.normal_(self._work[5]).mul_(self.device.write_noise)
            torch.where(where & ~self.stuck, fresh, self._offset, out=self._offset)
        if self._at_rest is not None and self._age is not None:
            torch.where(where, self.state, self._at_rest, out=self._at_rest)
            self._age.masked_fill_(where, 0.0)
        self._wear()

    def _wear(self) -> None:
        """Close the bounds of cells that have had all the pulses they endure."""
        if self._limit is None:
            return
        worn = self.pulse_count >= self._limit
        self._low = torch.where(worn, self.state, like(self._low, self.state))
        self._high = torch.where(worn, self.state, like(self._high, self.state))


def _root(count: Tensor, out: Tensor) -> Tensor:
    """sqrt(count), exactly 0 at 0; the library's square root is slow where zeros abound."""
    return torch.clamp(count, min=1.0, out=out).rsqrt_().mul_(count)
