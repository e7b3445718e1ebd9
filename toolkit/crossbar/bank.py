"""Cells under pulses: their states, bounds, noise, wear and clocks. No weights, no lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.crossbar.ageing import endurance_limits, stuck_bounds
from toolkit.crossbar.device import Device
from toolkit.crossbar.response import clip_, like, pick, take

# Cells gone through at once: their temporaries stay in the cache.
_CACHEFUL = 2**17
# Gathering the pulsed cells pays up to this share of all; random numbers are what it saves most.
_SPARSE, _SPARSE_NOISELESS = 0.6, 0.25


@dataclass(frozen=True)
class Written:
    """What a write did."""

    trains: Sequence[Tensor]  #: signed pulses, piece by piece, of all cells that got any
    sums: Sequence[float]  #: over cells, of n, |n|, n x and |n| x, x the state after


class CellBank:
    """Cells of one device, of any shape, in normalised state ``(G - g_min) / (g_max - g_min)``.

    Attributes: ``state`` (changed in place), ``pulse_count`` int32, ``device``, ``generator``;
    ``pulses``, scratch of the shape of ``state`` in which to prepare :meth:`pulse`.
    """

    def __init__(self, state: Tensor, device: Device, generator: torch.Generator) -> None:
        self.state = state.contiguous()
        self.pulse_count = torch.zeros(state.shape, dtype=torch.int32, device=state.device)
        self.pulses = torch.empty_like(self.state)
        self._mask = torch.empty_like(self.state, dtype=torch.bool)
        self.generator = generator
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
        self._is_noisy = any((device.cycle_to_cycle, device.step_noise, device.state_noise))
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

    def pulse(self) -> Written:
        """Give every cell its signed number of ``self.pulses``.

        Response, cycle-to-cycle noise, bounds, then what the device has of write noise, wear and
        clock. Goes once through the cells, a cacheful at a time: through the pulsed ones alone
        where those are few.
        """
        self._mask.copy_(self.pulses)
        size, count = self.pulses.numel(), _count(self._mask)
        pieces: Sequence[Tensor | slice]
        if count < size * (_SPARSE if self._is_noisy else _SPARSE_NOISELESS):
            pieces = _places(self._mask, count).split(_CACHEFUL)
        else:
            pieces = [slice(start, start + _CACHEFUL) for start in range(0, size, _CACHEFUL)]
        trains, sums = zip(*(self._pulse(where) for where in pieces), strict=True)
        self._after_write(self._mask)
        return Written(trains, torch.stack(sums).sum(0, dtype=torch.float64).tolist())

    def _pulse(self, where: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Pulse the cells at those places of the flattened bank: their pulses, and sums."""
        pulses, state = pick(self.pulses, where), pick(self.state, where)
        before = state.clone() if self.device.step_noise or self.device.state_noise else state
        self._cells.take(where).step(state, pulses)
        count = pulses.abs()
        self._add_noise(state, before, count)
        low, high = take(self._low, where), take(self._high, where)
        clip_(state, low, high)
        _add(self.pulse_count, where, count.to(torch.int32))
        if isinstance(where, Tensor):
            self.state.view(-1).index_copy_(0, where, state)
        if self._offset is not None:
            fresh = self.normal(state).mul_(self.device.write_noise)
            free = (pulses != 0.0) & (like(high, state) > like(low, state))
            offset = self._offset.view(-1)
            offset[where] = torch.where(free, fresh, offset[where])
        sums = torch.stack([pulses.sum(), count.sum(), pulses.dot(state), count.dot(state)])
        return pulses, sums

    def disturb(self, pulses: Tensor) -> None:
        """Move cells by signed fractions of pulses, without noise and uncounted."""
        self._cells.step(self.state, pulses)
        clip_(self.state, self._low, self._high)

    def put(self, where: Tensor, state: Tensor) -> None:
        """Set the cells of mask ``where`` to ``state``, but for those that are stuck."""
        moved = where & ~self.stuck
        self.state.copy_(torch.where(moved, state, self.state))
        if self._offset is not None:
            self._offset.masked_fill_(moved, 0.0)
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
        return {**saved, "seed": self._seed, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore; ValueError, and nothing changed, if something is missing or does not fit."""
        for name, mine in self._tensors().items():
            new = state.get(name)
            if new is None or new.shape != mine.shape or not bool(torch.isfinite(new).all()):
                raise ValueError(f"state needs a finite {name!r} of shape {tuple(mine.shape)}")
        self._seed = state["seed"]
        self.generator.set_state(state["generator"])
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

    def normal(self, like: Tensor) -> Tensor:
        """Fresh standard normals."""
        return torch.empty_like(like).normal_(generator=self.generator)

    def _add_noise(self, state: Tensor, before: Tensor, count: Tensor) -> None:
        """Deviation sqrt(n) (cycle_to_cycle + step_noise |dx|/n + state_noise x) of n pulses."""
        if not self._is_noisy:
            return
        device = self.device
        # 1/sqrt(n), 1 where n = 0: the library's square root is 5 times slower where zeros abound
        inverse = count.clamp(min=1.0).rsqrt_()
        root = count * inverse
        if not device.step_noise and not device.state_noise:
            state.addcmul_(self.normal(state), root, value=device.cycle_to_cycle)
            return
        deviation = (state - before).abs_().mul_(inverse).mul_(device.step_noise)
        if device.cycle_to_cycle or device.state_noise:
            deviation.addcmul_(root, device.state_noise * before + device.cycle_to_cycle)
        state.addcmul_(self.normal(state), deviation)

    def _after_write(self, written: Tensor) -> None:
        """Clock and wear of the cells of the mask ``written``."""
        if self._at_rest is not None and self._age is not None:
            torch.where(written, self.state, self._at_rest, out=self._at_rest)
            self._age.masked_fill_(written, 0.0)
        self._wear()

    def _wear(self) -> None:
        """Close the bounds of cells that have had all the pulses they endure."""
        if self._limit is None:
            return
        worn = self.pulse_count >= self._limit
        self._low = torch.where(worn, self.state, like(self._low, self.state))
        self._high = torch.where(worn, self.state, like(self._high, self.state))


def _add(total: Tensor, where: Tensor | slice, counts: Tensor) -> None:
    """Add ``counts`` at those places of the flattened total."""
    if isinstance(where, Tensor):
        total.view(-1).index_add_(0, where, counts)
    else:
        total.view(-1)[where] += counts


def _count(mask: Tensor) -> int:
    """Number of true entries; on the CPU by numpy, some 100 times faster."""
    if mask.device.type == "cpu":
        return int(np.count_nonzero(mask.numpy()))
    return int(mask.count_nonzero())


def _places(mask: Tensor, count: int) -> Tensor:
    """Places of the flattened mask that are true, ``count`` in all; on the CPU by numpy, faster.

    Where they are few, looks at words of 8 entries first.
    """
    if mask.device.type != "cpu":
        return mask.flatten().nonzero().squeeze(1)
    entries = mask.numpy().ravel()
    if len(entries) % 8 or count > 0.08 * len(entries):
        return torch.from_numpy(np.flatnonzero(entries))
    words = entries.view(np.int64)
    hit = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words.take(hit).view(np.bool_))
    return torch.from_numpy(8 * hit.take(inside // 8) + inside % 8)
