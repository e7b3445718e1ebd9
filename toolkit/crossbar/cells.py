"""Cells under pulses: their states, bounds, noise, wear and clocks. No weights, no lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from toolkit.checks import all_finite, check_count
from toolkit.crossbar import kernels
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.devices.responses import TableCells, clip_, like, pick, take
from toolkit.crossbar.devices.retention import endurance_limits, stuck_bounds
from toolkit.crossbar.noise import keys
from toolkit.crossbar.selection import places_not_zero
from toolkit.crossbar.states import load_whole

Place = Tensor | slice

# Cells gone through at once: their temporaries stay in the cache.
_CACHEFUL = 2**17
# Gathering the pulsed cells pays up to this share of all; random numbers are what it saves most.
_SPARSE, _SPARSE_NOISELESS = 0.6, 0.25


@dataclass(frozen=True)
class Written:
    """What a write did."""

    longest: tuple[float, float]  #: trains of pulses: up, down
    sums: Sequence[float]  #: over cells, of n, |n|, n x and |n| x, x the state after

    @classmethod
    def of(cls, sums: np.ndarray) -> Written:
        """From sums, largest and smallest n of every piece of the cells (pieces, 6)."""
        longest = float(sums[:, 4].max(initial=0.0)), -float(sums[:, 5].min(initial=0.0))
        return cls(longest, sums[:, :4].sum(0).tolist())


class _Law(NamedTuple):
    """What the cells have in common, for the compiled kernels."""

    kind: int
    is_noisy: bool
    cycle_to_cycle: np.floating
    step_noise: np.floating
    state_noise: np.floating
    write_noise: np.floating


class CellBank:
    """Cells of one device, of any shape, in normalised state ``(G - g_min) / (g_max - g_min)``.

    Attributes: ``state`` (changed in place), ``pulse_count`` int64, ``device``, ``generator``;
    ``pulses``, scratch of the shape of ``state`` in which to prepare :meth:`pulse`.
    """

    def __init__(self, state: Tensor, device: Device, generator: torch.Generator) -> None:
        self.state = state.contiguous()
        self.pulse_count = torch.zeros(state.shape, dtype=torch.int64, device=state.device)
        self.pulses = torch.empty_like(self.state)
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
        self._steps: Tensor | None = None
        if isinstance(self._cells, TableCells) and self.state.device.type == "cpu":
            self._steps = self._cells.table(self.state)
            self._cells = self._cells.held_in(self._steps)
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

    def symmetry_point(self) -> Tensor:
        """Symmetry point of every cell, NaN where there is none."""
        return like(self._cells.symmetry_point(), self.state).expand(self.state.shape)

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
        clock. On a CPU a compiled loop does it, elsewhere torch, a cacheful at a time: the pulsed
        ones alone where those are few.
        """
        pulses = self.pulses.view(-1)
        if self.is_compiled:
            return self._run(kernels.pulse, pulses.numpy(), ranks=1)[0]
        pulses.clamp_(-kernels.MOST_PULSES, kernels.MOST_PULSES)
        places = places_not_zero(pulses)
        if len(places) < len(pulses) * (_SPARSE if self._is_noisy else _SPARSE_NOISELESS):
            few = places.split(_CACHEFUL), pulses.index_select(0, places).split(_CACHEFUL)
            return self._written(zip(*few, strict=True))
        starts = range(0, len(pulses), _CACHEFUL)
        slices = [slice(start, start + _CACHEFUL) for start in starts]
        return self._written(zip(slices, pulses.split(_CACHEFUL), strict=True))

    def write(
        self, kernel: Callable[..., None], by_rank: Sequence[np.ndarray], *rest: Any
    ) -> list[Written]:
        """Let a compiled ``kernel`` write ranks one after another: only where ``is_compiled``.

        ``by_rank`` are its first arguments, each (ranks, ...); ``rest`` those that follow.
        """
        ranks = len(by_rank[0])
        if self._limit is None:
            return self._run(kernel, *by_rank, *rest, ranks=ranks)
        every: list[Written] = []  # cells wear out between ranks
        for rank in range(ranks):
            given = (array[rank : rank + 1] for array in by_rank)
            every += self._run(kernel, *given, *rest, ranks=1)
        return every

    @property
    def is_compiled(self) -> bool:
        """Whether compiled loops do the writing: on a CPU."""
        return self._steps is not None

    def _run(self, kernel: Callable[..., None], *given: Any, ranks: int) -> list[Written]:
        """Let the kernel write, and say what each rank did."""
        assert self._steps is not None and isinstance(self._cells, TableCells)
        device, real = self.device, np.dtype(str(self.state.dtype).removeprefix("torch.")).type
        noise = device.cycle_to_cycle, device.step_noise, device.state_noise, device.write_noise
        law = _Law(self._cells.kind, self._is_noisy, *(real(value) for value in noise))
        flat = (
            self.state.view(-1),
            self._steps,
            torch.from_numpy(self._cells.nodes.astype(real)),
            like(self._low, self.state).view(-1),
            like(self._high, self.state).view(-1),
            self.pulse_count.view(-1),
            *(
                self.state.view(-1)[:0] if values is None else values.view(-1)
                for values in (self._offset, self._at_rest, self._age)
            ),
        )
        sums = np.zeros((ranks, -(-self.state.numel() // kernels.CHUNK), 6))
        cells = tuple(values.numpy() for values in flat)
        rest = cells, law, keys(3, self.generator), sums
        kernels.in_parts(lambda *part: kernel(*given, *rest, *part), self.state.numel())
        self._wear()
        return [Written.of(each) for each in sums]

    def _written(self, pieces: Iterable[tuple[Place, Tensor]]) -> Written:
        """Pulse piece after piece and say what that did."""
        sums = torch.stack([self._pulse(where, pulses) for where, pulses in pieces])
        self._wear()
        return Written.of(sums.double().cpu().numpy())

    def _pulse(self, where: Place, pulses: Tensor) -> Tensor:
        """Pulse the cells at those places of the flattened bank: sums, largest, smallest."""
        state = pick(self.state, where)
        before = state.clone() if self.device.step_noise or self.device.state_noise else state
        self._cells.take(where).step(state, pulses)
        count = pulses.abs()
        self._add_noise(state, before, count)
        low, high = take(self._low, where), take(self._high, where)
        clip_(state, low, high)
        _add(self.pulse_count, where, count.long())
        if isinstance(where, Tensor):
            self.state.view(-1).index_copy_(0, where, state)
        if self._offset is not None:
            fresh = self.normal(state).mul_(self.device.write_noise)
            free = (pulses != 0.0) & (like(high, state) > like(low, state))
            _replace(self._offset, where, free, fresh)
        if self._at_rest is not None and self._age is not None:
            _replace(self._at_rest, where, pulses != 0.0, state)
            _replace(self._age, where, pulses != 0.0, torch.zeros_like(state))
        sums = (pulses.sum(), count.sum(), pulses.dot(state), count.dot(state))
        ends = torch.aminmax(pulses) if len(pulses) else (pulses.sum(), pulses.sum())
        return torch.stack([*sums, *reversed(ends)])

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
        if self._at_rest is not None and self._age is not None:
            torch.where(moved, self.state, self._at_rest, out=self._at_rest)
            self._age.masked_fill_(moved, 0.0)
        self._wear()

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
        load_whole(state, self.state_dict, self._load)

    def _load(self, state: Mapping[str, Any]) -> None:
        for name, mine in self._tensors().items():
            _check_saved(name, state[name], mine)
        self._seed = check_count("seed", state["seed"], 0, 2**62)
        self.generator.set_state(state["generator"])
        self.state.copy_(state["state"])
        self.pulse_count.copy_(state["pulse_count"])
        self.settle(self.device)
        if not torch.equal(self.state, state["state"].to(self.state)):
            raise ValueError("state must be between the bounds of its cells; got some beyond")
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

    def _wear(self) -> None:
        """Close the bounds of cells that have had all the pulses they endure."""
        if self._limit is None:
            return
        worn = self.pulse_count >= self._limit
        self._low = torch.where(worn, self.state, like(self._low, self.state))
        self._high = torch.where(worn, self.state, like(self._high, self.state))


def _check_saved(name: str, saved: Any, mine: Tensor) -> None:
    """ValueError unless a saved tensor may take the place of ``mine``."""
    is_like = isinstance(saved, Tensor) and saved.shape == mine.shape
    if not is_like or saved.is_floating_point() != mine.is_floating_point():
        got = f"{tuple(saved.shape)} in {saved.dtype}" if isinstance(saved, Tensor) else repr(saved)
        wanted = f"{tuple(mine.shape)} in {mine.dtype}"
        raise ValueError(f"{name} of the state must be {wanted}; got {got}")
    if not all_finite(saved):
        raise ValueError(f"{name} of the state must be finite; got NaN or infinite entries")
    if name in ("pulse_count", "age") and bool((saved < 0).any()):
        raise ValueError(f"{name} of the state must be at least 0; got {saved.min().item():g}")


def _add(total: Tensor, where: Place, counts: Tensor) -> None:
    """Add ``counts`` at those places of the flattened total."""
    if isinstance(where, Tensor):
        total.view(-1).index_add_(0, where, counts)
    else:
        total.view(-1)[where] += counts


def _replace(values: Tensor, where: Place, chosen: Tensor, new: Tensor) -> None:
    """``new`` at those of the places of the flattened ``values`` that are chosen."""
    flat = values.view(-1)
    flat[where] = torch.where(chosen, new, flat[where])
