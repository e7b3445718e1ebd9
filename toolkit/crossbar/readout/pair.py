"""A pair of conductance matrices behind wires."""

from __future__ import annotations

from torch import Tensor

from toolkit.checks import check_reals
from toolkit.crossbar.readout.converters import SinhCurve
from toolkit.crossbar.readout.wires import Wires


class WiredPair:
    """Plus and minus conductances (2, m, n) behind ``wires``; their difference times ``gain``."""

    def __init__(self, conductance: Tensor, wires: Wires, gain: float) -> None:
        self.wires, self._gain, self._dtype = wires, gain, conductance.dtype
        # Write noise can take a modelled cell below 0, but a network cannot have such a cell.
        self.solvers = [wires.solver(cells) for cells in conductance.clamp(min=0.0)]
        self._effective: Tensor | None = None

    def sums(self, driven: Tensor, curve: SinhCurve | None, *, transposed: bool) -> Tensor:
        """Output of the lines for driven inputs, through the cells' I-V curve if they have one."""
        if curve is None and all(solver.is_direct for solver in self.solvers):
            effective = self._as_matrix()
            return driven @ (effective if transposed else effective.T)
        voltages = driven.double()
        plus, minus = (
            solver.currents(voltages, transposed=transposed)
            if curve is None
            else solver.curved_currents(voltages, curve, transposed=transposed)
            for solver in self.solvers
        )
        return ((plus - minus) * self._gain).to(driven.dtype)

    @property
    def progress(self) -> list[list[float]]:
        """Progress of the solvers, to be saved."""
        return [solver.progress for solver in self.solvers]

    @progress.setter
    def progress(self, saved: list[list[float]]) -> None:
        for solver, progress in zip(self.solvers, saved, strict=True):
            check_reals("solved of the state", progress, count=2, least=0.0)
            solver.progress = progress

    def _as_matrix(self) -> Tensor:
        """The effective weights behind the wires, (m, n)."""
        if self._effective is None:
            plus, minus = (solver.effective for solver in self.solvers)
            self._effective = ((plus - minus) * self._gain).to(self._dtype)
        return self._effective
