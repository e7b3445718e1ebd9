"""Cells under pulses: states, bounds, noise, wear and clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import all_finite, check_count
from toolkit.crossbar import kernels
from toolkit.crossbar.devices.cell_map import CellMap
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import clip_, like
from toolkit.crossbar.devices.wear import endurance_limits, stuck_bounds
from toolkit.crossbar.states import load_whole


@dataclass(frozen=True)
class Written:
    """Result of a write."""

    longest: tuple[float, float]  #: longest pulse trains: up, down
    sums: Sequence[float]  #: over cells of n, |n|, n x and |n| x; x is the state afterwards

    @classmethod
    def of(cls, sums: np.ndarray) -> list[Written]:
        """From the sums and the largest and smallest n of each chunk of cells, (ranks, chunks, 6).

        A write of each rank.
        """
        most, least = sums[:, :, 4].max(1, initial=0.0), sums[:, :, 5].min(1, initial=0.0)
        longest = zip(most.tolist(), (-least).tolist(), strict=True)
        return [cls(*each) for each in zip(longest, sums[:, :, :4].sum(1).tolist(), strict=True)]


class Cells:
    """Cells of one device, of any shape, in normalised state ``(G - g_min) / (g_max - g_min)``.

    Attributes: ``state`` (changed in place), ``pulse_count`` int64, ``device``, ``generator``.
    """

    def __init__(
        self,
        state: Tensor,
        device: Device,
        generator: torch.Generator,
        cell_map: CellMap | None = None,
    ) -> None:
        self.state = state.contiguous()
        self.cell_map = cell_map.to(self.state) if cell_map else None
        self.pulse_count = torch.zeros(state.shape, dtype=torch.int64, device=state.device)
        self.generator = generator
        self._seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        self.set_device(device)

    def set_device(self, device: Device) -> None:
        """Switch to ``device`` in the present state; every cell keeps its random draws."""
        parameters = device.response.cells(device, self.draw)
        self._parameters = (
            self.cell_map.applied(parameters, device) if self.cell_map else parameters
        )
        self.device = device
        self._low, self._high = stuck_bounds(
            self._parameters.low, self._parameters.high, device, self.draw
        )
        self._limit = endurance_limits(device, self.draw)
        self._offset = torch.zeros_like(self.state) if device.write_noise > 0.0 else None
        self._at_rest = self._age = None
        if device.retention is not None:
            self._at_rest, self._age = self.state.clone(), torch.zeros_like(self.state)
        self._arrays: kernels.Cells | None = None
        if self.is_compiled:
            self._table = self._parameters.table(self.state)
            self._parameters = self._parameters.held_in(self._table)
        self._wear()
        clip_(self.state, self._low, self._high)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}  # a copy gets its own memory

    def renew(self, state: Tensor) -> None:
        """Replace the cells with unused ones in ``state``."""
        self.state.copy_(state)
        self.pulse_count.zero_()
        self.set_device(self.device)

    def draw(self, index: int) -> Tensor:
        """Standard normals, one per cell, always the same for the same index."""
        generator = torch.Generator(self.state.device).manual_seed(self._seed + index)
        return torch.randn(
            self.state.shape,
            generator=generator,
            dtype=self.state.dtype,
            device=self.state.device,
        )

    def symmetry_point(self) -> Tensor:
        """Symmetry point of every cell, NaN where it has none."""
        return like(self._parameters.symmetry_point(), self.state).expand(self.state.shape)

    @property
    def stuck(self) -> Tensor:
        """Cells that no longer move (bool), stuck from the start or worn out."""
        closed = like(self._high, self.state) <= like(self._low, self.state)
        return closed.expand(self.state.shape).clone()

    def visible(self) -> Tensor:
        """The state that a read sees, write noise included. Do not modify it."""
        return self.state if self._offset is None else self.state + self._offset

    def read(self) -> Tensor:
        """States with read noise: conductances times ``1 + N(0, read_noise)``."""
        seen, device = self.visible(), self.device
        if device.read_noise == 0.0:
            return seen.clone()
        noise = self.normal(seen).mul_(device.read_noise)
        return seen + (seen + device.g_min / device.span) * noise

    @property
    def is_compiled(self) -> bool:
        """Whether compiled loops write: on a CPU, if the response has a compiled step."""
        return self.state.device.type == "cpu" and self._parameters.law.compiled is not None

    def pulse(self, pulses: Tensor) -> Written:
        """Apply signed whole ``pulses``, one number per cell, in the shape of ``state``.

        Applies the response, cycle-to-cycle noise and bounds, then the device's write noise,
        wear and clock.
        """
        if self.is_compiled:
            counts = pulses.to(self.state).reshape(1, -1).numpy()
            return self.write(kernels.Demand(kernels.counted_pulses, [counts]))[0]
        device, state, before = self.device, self.state, self.state.clone()
        pulses = pulses.to(state).clamp(-kernels.MOST_PULSES, kernels.MOST_PULSES)
        count, is_pulsed = pulses.abs(), pulses != 0.0
        self._parameters.step(state, pulses)
        root = count.sqrt()
        deviation = root * (device.cycle_to_cycle + device.state_noise * before)
        deviation += device.step_noise * (state - before).abs() / root.clamp(min=1.0)
        state += deviation * self.normal(state)
        clip_(state, self._low, self._high)
        if not device.is_continuous:
            self.pulse_count += count.long()
        if self._offset is not None:
            fresh = device.write_noise * self.normal(state)
            self._offset = torch.where(is_pulsed & ~self.stuck, fresh, self._offset)
        if self._at_rest is not None and self._age is not None:
            self._at_rest = torch.where(is_pulsed, state, self._at_rest)
            self._age = self._age.masked_fill(is_pulsed, 0.0)
        self._wear()
        sums = [part.sum() for part in (pulses, count, pulses * state, count * state)]
        extremes = pulses.max(), pulses.min()
        return Written.of(torch.stack([*sums, *extremes]).cpu().numpy()[None, None])[0]

    def write(self, demand: kernels.Demand) -> list[Written]:
        """Write one outer product after another; only if ``is_compiled``."""
        if self._limit is None:
            return self._run(demand)
        return [self._run(each)[0] for each in demand]  # cells wear out between ranks

    def _run(self, demand: kernels.Demand) -> list[Written]:
        """Run the loop and return the result of each rank."""
        device, cells = self.device, self._arrays or self._as_arrays()
        real = cells[0].dtype.type
        noise = device.cycle_to_cycle, device.step_noise, device.state_noise, device.write_noise
        step = cast("kernels.CompiledStep", self._parameters.law.compiled).address(real)
        sums = np.zeros((demand.ranks, -(-self.state.numel() // kernels.CHUNK), 6))
        given = *demand.by_rank, *demand.rest, step, cells, tuple(map(real, noise))
        keys = kernels.draw_keys(4, self.generator)
        kernels.in_parts(lambda *part: demand.loop(*given, keys, sums, *part), self.state.numel())
        self._wear()
        return Written.of(sums)

    def _as_arrays(self) -> kernels.Cells:
        """Views of the cells for compiled loops, kept until the bounds change."""
        nodes = torch.from_numpy(self._parameters.nodes).to(self.state)
        bounds = like(self._low, self.state).view(-1), like(self._high, self.state).view(-1)
        flat = [self.state.view(-1), self._table, nodes, *bounds, self.pulse_count.view(-1)]
        for values in (self._offset, self._at_rest, self._age):
            flat.append(self.state.view(-1)[:0] if values is None else values.view(-1))
        self._arrays = tuple(values.numpy() for values in flat)
        return self._arrays

    def disturb(self, pulses: Tensor) -> None:
        """Move cells by signed fractions of pulses, without noise; the pulses are not counted."""
        self._parameters.step(self.state, pulses)
        clip_(self.state, self._low, self._high)

    def put(self, where: Tensor, state: Tensor) -> None:
        """Set the cells in the mask ``where`` to ``state``, except stuck ones."""
        moved = where & ~self.stuck
        self.state.copy_(torch.where(moved, state, self.state))
        if self._offset is not None:
            self._offset.masked_fill_(moved, 0.0)
        clip_(self.state, self._low, self._high)
        if self._at_rest is not None and self._age is not None:
            torch.where(moved, self.state, self._at_rest, out=self._at_rest)
            self._age.masked_fill_(moved, 0.0)
        self._wear()

    def wait(self, seconds: float) -> None:
        """Let time pass: every cell follows the device's retention law since its last write."""
        law = self.device.retention
        if law is None or self._at_rest is None or self._age is None:
            return
        self._age += seconds
        self.state.copy_(law.after(self._at_rest, self._age, self.device, self.draw))
        clip_(self.state, self._low, self._high)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, random generator included."""
        saved = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return {**saved, "seed": self._seed, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; if something is missing or does not fit, ValueError and no change."""
        load_whole(state, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        for name, mine in self._tensors().items():
            check_saved(name, state[name], mine)
        self._seed = check_count("seed", state["seed"], 0, 2**62)
        self.generator.set_state(state["generator"])
        self.state.copy_(state["state"])
        self.pulse_count.copy_(state["pulse_count"])
        self.set_device(self.device)
        if not torch.equal(self.state, state["state"].to(self.state)):
            raise ValueError("state must be between the bounds of its cells; got states outside")
        for name, mine in self._tensors().items():
            mine.copy_(state[name])

    def _tensors(self) -> dict[str, Tensor]:
        """Tensors of the state, including those that only some devices use."""
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

    def _wear(self) -> None:
        """Freeze cells that have reached the end of their endurance."""
        if self._limit is None:
            return
        worn, self._arrays = self.pulse_count >= self._limit, None
        self._low = torch.where(worn, self.state, like(self._low, self.state))
        self._high = torch.where(worn, self.state, like(self._high, self.state))


def check_saved(name: str, saved: Any, mine: Tensor) -> None:
    """Raise ValueError unless a saved tensor can replace ``mine``."""
    is_like = isinstance(saved, Tensor) and saved.shape == mine.shape
    floats = is_like and saved.is_floating_point() and mine.is_floating_point()
    if not is_like or not (floats or saved.dtype == mine.dtype):
        got = f"{tuple(saved.shape)} in {saved.dtype}" if isinstance(saved, Tensor) else repr(saved)
        wanted = f"{tuple(mine.shape)} in {mine.dtype}"
        raise ValueError(f"{name} of the state must be {wanted}; got {got}")
    if not all_finite(saved):
        raise ValueError(f"{name} of the state must be finite; got NaN or infinite entries")
    if name in ("pulse_count", "age", "reads") and bool((saved < 0).any()):
        raise ValueError(f"{name} of the state must be at least 0; got {saved.min().item():g}")
