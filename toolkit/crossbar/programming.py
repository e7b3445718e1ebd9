"""Write-verify: bring cells to target states by alternating pulses and reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.crossbar.cells import Cells


@dataclass(frozen=True)
class Programming:
    """Report of a write-verify."""

    within_tolerance: float  #: fraction of the cells whose true state is within the tolerance
    rms_error: float  #: root mean square of state minus target, as a fraction of the range
    pulses: int  #: pulses issued
    rounds: int  #: reads of the whole array

    @classmethod
    def of_all(cls, reports: Sequence[Programming], cells: Sequence[int]) -> Programming:
        """Merge the reports of arrays with these numbers of cells; ``rounds`` is the largest."""
        share = [count / sum(cells) for count in cells]
        within = sum(s * each.within_tolerance for s, each in zip(share, reports, strict=True))
        square = sum(s * each.rms_error**2 for s, each in zip(share, reports, strict=True))
        return cls(
            within_tolerance=within,
            rms_error=math.sqrt(square),
            pulses=sum(each.pulses for each in reports),
            rounds=max(each.rounds for each in reports),
        )


def write_verify(
    cells: Cells,
    targets: Tensor,
    tolerance: float,
    max_pulses: int,
    issue: Callable[[Tensor], None],
) -> Programming:
    """Pulse ``cells`` towards ``targets``; ``issue`` sends pulses.

    Targets outside 0..1 cannot be reached: cells are pulsed to the end of the range, and the report
    counts the full error.

    Each round reads every cell (with read noise) and gives those outside the tolerance half of the
    pulses that a straight line would need, at least one, so as not to overshoot steep parts of a
    curve. Stops when all reads are within the tolerance or no cell has pulses left.
    """
    device = cells.device
    spent = torch.zeros_like(cells.state)
    rounds = 0
    while True:
        rounds += 1
        error = targets.clamp(0.0, 1.0) - cells.read()
        up, down = map(float, device.pulses_per_range)
        wanted = error.abs() * torch.where(error > 0.0, up, down) / 2.0
        if not device.is_continuous:
            wanted = wanted.floor_().clamp_(min=1.0)
        wanted = torch.minimum(wanted, max_pulses - spent) * (error.abs() > tolerance)
        if not bool((wanted > 0.0).any()):
            break
        spent += wanted
        issue(wanted * error.sign())
    miss = cells.visible() - targets
    return Programming(
        within_tolerance=float((miss.abs() <= tolerance).double().mean()),
        rms_error=float(miss.square().mean().sqrt()),
        pulses=int(spent.sum()),
        rounds=rounds,
    )
