"""How a pair of cells holds a weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.checks import check_choice, check_real
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.devices.device import Device

PAIRS = ("differential", "one-sided", "reference")

Levels = tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """A kind of pair, for weights up to ``w_max``; states list plus cells first, then minus cells.

    ``differential``: ``w = (G_plus - G_minus) / (g_max - g_min) * w_max``, programmed symmetrically
    about mid-range. A wanted change ``dw > 0`` potentiates G_plus and depresses G_minus, half of it
    each: ``N = |dw| / (2 w_max) * levels`` pulses, with the levels of the direction.

    ``one-sided``: the same w, but pulses only potentiate: G_plus for ``dw > 0``, G_minus for
    ``dw < 0``, ``N = |dw| / w_max * levels_up``.

    ``reference``: G_minus is a fixed cell at the symmetry point of G_plus (mid-range if it has
    none) and ``w = 2 w_max (G_plus - G_minus) / (g_max - g_min)``; N as for differential.
    """

    kind: str
    w_max: float

    def __post_init__(self) -> None:
        check_choice("pair", self.kind, PAIRS)

    @property
    def polarities(self) -> int:
        """Number of cells of a pair that are written."""
        return 1 if self.kind == "reference" else 2

    @property
    def gain(self) -> float:
        """Weight of a state difference of the whole range."""
        return 2.0 * self.w_max if self.kind == "reference" else self.w_max

    def levels(self, device: Device) -> tuple[Levels, Levels]:
        """Signed pulses of each polarity to cross the range: for a rise of w, for a fall.

        With infinite levels they are ranges.
        """
        up, down = map(float, device.pulses_per_range)
        if self.kind == "one-sided":
            return (2.0 * up, 0.0), (0.0, -2.0 * up)
        return ((up,), (down,)) if self.kind == "reference" else ((up, -down), (down, -up))

    def reference(self, cells: Cells) -> Tensor:
        """States of the fixed cells (1, m, n): symmetry points of ``cells`` or mid-range."""
        middle = torch.full_like(cells.state[:1], 0.5)
        if self.kind != "reference":
            return middle
        point = cells.symmetry_point()
        return torch.where(point.isnan(), middle, point).clamp(0.0, 1.0)

    def states(self, weights: Tensor, reference: Tensor) -> Tensor:
        """States (polarities, m, n) that hold ``weights``; outside 0..1 if out of range."""
        share = weights / self.gain
        if self.kind == "reference":
            return reference + share
        if self.kind == "one-sided":
            return torch.stack([share.clamp(min=0.0), (-share).clamp(min=0.0)])
        return torch.stack([0.5 + share / 2.0, 0.5 - share / 2.0])

    def both(self, cells: Tensor, reference: float | Tensor) -> Tensor:
        """Values of plus and minus cells: ``cells``, with the ``reference``'s if it has one."""
        if self.kind != "reference":
            return cells
        return torch.cat([cells, torch.as_tensor(reference).to(cells).expand_as(cells)])


def check_w_max(w_max: float, weights: Tensor) -> float:
    """Check that ``w_max`` and its double are positive and finite in the dtype of the weights."""
    range_ = torch.finfo(weights.dtype)
    return check_real("w_max", w_max, range_.tiny, range_.max / 4.0)
