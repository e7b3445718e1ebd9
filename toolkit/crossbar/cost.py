"""First-order energy and time of the reads and writes of an array."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.checks import all_finite, check_count, check_real
from toolkit.crossbar import kernels
from toolkit.crossbar.cells import Written
from toolkit.crossbar.devices.device import Device
from toolkit.crossbar.states import check_entries
from toolkit.lowrank import LowRank

#: Pulse slots of a phase: for both directions, for SET and RESET, or None for the longest train.
Slots = int | tuple[float, float] | None


@dataclass(frozen=True)
class Cost:
    r"""Energy (joules) and time (seconds) spent so far, cells only: no drivers, no converters.

    - ``write_energy``: sum over pulses of ``V^2 G t``, with V and t of the pulse's direction and G
      the conductance after the write;
    - ``write_time``: sum over phases of slots x pulse width. A phase writes one direction and one
      combination of signs of an outer product (at most 2 SET and 2 RESET); its slots are the
      longest pulse train (whole pulses) or the bit length (coincidence). A rank-sum write takes
      one SET and one RESET phase per row;
    - ``read_energy``: sum over reads and lines of ``(v_read x)^2 width_read`` times the present sum
      of the line's conductances;
    - ``read_time``: reads x ``width_read`` (all lines at once);
    - ``set_phases``, ``reset_phases``, ``pulses_up``, ``pulses_down``, ``reads``: counts.
    """

    write_energy: float
    write_time: float
    read_energy: float
    read_time: float
    set_phases: int
    reset_phases: int
    pulses_up: int
    pulses_down: int
    reads: int

    def __add__(self, other: Cost) -> Cost:
        """Sum, field by field."""
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class CostCounter:
    """Running sums behind :class:`Cost`; energies are computed on request."""

    def __init__(self, weights: Tensor) -> None:
        zeros = torch.zeros((), dtype=torch.float64, device=weights.device)
        self.sums = [0.0] * 6  # n, |n|, n x, |n| x; seconds of SET, of RESET
        self.inputs = zeros.new_zeros(weights.shape[1])  # sum of squared inputs of each line
        self.inputs_transposed = zeros.new_zeros(weights.shape[0])
        self.counts = [0, 0, 0]  # SET phases, RESET phases, reads

    def add_write(
        self, written: Written, phases: tuple[int, int], slots: Slots, device: Device
    ) -> None:
        """Add a write with this many SET and RESET phases."""
        up, down = (slots, slots) if isinstance(slots, int) else slots or written.longest
        seconds = phases[0] * up * device.width_up, phases[1] * down * device.width_down
        for i, value in enumerate((*written.sums, *seconds)):
            self.sums[i] += value
        self.counts[0] += phases[0]
        self.counts[1] += phases[1]

    def add_read(self, signal: Tensor, *, transposed: bool) -> None:
        """Add the inputs of a batch of reads."""
        inputs = self.inputs_transposed if transposed else self.inputs
        if signal.device.type == "cpu" and signal.dtype in (torch.float32, torch.float64):
            kernels.add_squares(inputs.numpy(), signal.detach().numpy())  # half of torch's time
        else:
            inputs += signal.square().sum(0)
        self.counts[2] += signal.shape[0]

    def cost(self, device: Device, conductance: Tensor) -> Cost:
        """Energies and times of ``device``."""
        net, total, net_state, total_state, set_time, reset_time = self.sums
        up, down = (total + net) / 2.0, (total - net) / 2.0
        up_siemens = device.g_min * up + device.span * (total_state + net_state) / 2.0
        down_siemens = device.g_min * down + device.span * (total_state - net_state) / 2.0
        lines = conductance.double().sum(0)
        reads = self.inputs @ lines.sum(0) + self.inputs_transposed @ lines.sum(1)
        return Cost(
            write_energy=device.v_up**2 * device.width_up * up_siemens
            + device.v_down**2 * device.width_down * down_siemens,
            write_time=set_time + reset_time,
            read_energy=device.v_read**2 * device.width_read * float(reads),
            read_time=self.counts[2] * device.width_read,
            set_phases=self.counts[0],
            reset_phases=self.counts[1],
            pulses_up=round(up),
            pulses_down=round(down),
            reads=self.counts[2],
        )

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {
            "sums": list(self.sums),
            "inputs": [self.inputs.clone(), self.inputs_transposed.clone()],
            "counts": list(self.counts),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums; if they are invalid, ValueError and no change."""
        check_entries(state, self.state_dict())
        if len(state["sums"]) != len(self.sums) or len(state["counts"]) != len(self.counts):
            raise ValueError("state must have as many sums and counts of costs as this array")
        sums = [check_real("sums of the state", value) for value in state["sums"]]
        counts = [check_count("counts of the state", value, 0) for value in state["counts"]]
        mine = (self.inputs, self.inputs_transposed)
        for present, saved in zip(mine, state["inputs"], strict=True):
            if saved.shape != present.shape or not all_finite(saved) or bool((saved < 0.0).any()):
                raise ValueError(
                    f"inputs of the state must be {tuple(present.shape)} finite sums of squares; "
                    "got others"
                )
        self.sums, self.counts = sums, counts
        for present, saved in zip(mine, state["inputs"], strict=True):
            present.copy_(saved)


def expected_pulses(
    update: LowRank, device: Device, *, learning_rate: float, w_max: float
) -> float:
    """Average number of pulses of ``update``, written rank-sequentially in whole pulses.

    Both cells of a differential pair are pulsed, one up and the other down. The number is
    ``learning_rate / (2 w_max) (levels_up + levels_down) sum |left| sigma sum |right|``, summed
    over outer products; stochastic rounding gives it on average.
    """
    each = learning_rate / (2 * w_max) * (device.levels_up + device.levels_down)
    left, right = update.left.abs().sum(0), update.right.abs().sum(0)
    return each * float((left * update.sigma.abs()) @ right)
