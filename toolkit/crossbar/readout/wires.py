r"""Voltage lost along resistive lines (IR drop): line currents by exact nodal analysis.

Geometry. Every input has a word line, driven at its left end; every output has a bit line, held at
0 V at its bottom end, where its current is sensed. Each line starts at its terminal with one
segment of resistance r and has one more between any two cells. Conductances are ``(m, n)`` =
(outputs, inputs), so the picture shows their transpose. Here m = 3 and n = 2; every ``\`` is a
cell between its word line and the bit line below::

    V[0] --r--+-----r-----+-----r-----+
               \ G[0,0]    \ G[1,0]    \ G[2,0]
                +           +           +
                r           r           r
    V[1] --r--+-|---r-----+-|---r-----+ |
               \| G[0,1]   \| G[1,1]   \| G[2,1]
                +           +           +
                r           r           r
               I[0]        I[1]        I[2]      at 0 V

A transposed read drives the terminals of the bit lines and senses at those of the word lines.

With linear cells, everything follows from one equation. The current of a cell, ``G x``, flows
through every segment between the cell and the terminals of its two lines, so the voltage over cell
(i, j) is that of the terminals minus the drops caused by the cells of its two lines::

    x[i,j] = x0[i,j] - r_word sum_a (min(i, a) + 1) G[a,j] x[a,j]
                     - r_bit  sum_b (n - max(j, b)) G[i,b] x[i,b]

in short ``x = x0 - K G x`` with K symmetric and positive definite and ``x0[i,j] = V[j]``, or
``V[i]`` transposed.

There are two solvers. *Iterative*: conjugate gradients on ``(1 + S K S) y = S x0``,
``S = sqrt(G)``, whose eigenvalues are at least 1, so a few steps suffice if little voltage is lost.
*Direct*: :mod:`~toolkit.crossbar.readout.dissection` computes the effective conductance, the linear
map from driving voltages to sensed currents; every later read, in either direction, is one matrix
product.

Cells with a curved I-V are solved by Newton's method; each of its steps is solved iteratively.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from toolkit.checks import check_choice, check_flag, check_matrix, check_real, check_signal
from toolkit.crossbar.readout.converters import SinhCurve
from toolkit.crossbar.readout.dissection import dissect

METHODS = ("auto", "direct", "iterative")
# Iterations per input that cost as much as a direct solution, over sqrt(m n): measured from 1.6 at
# 64 lines to 0.3 at 512 (benchmarks/crossbar_wires.py).
_DIRECT_COST = 0.7
# Voltage lost if every cell had 1 V over it: some hundred thousand in the largest arrays that a run
# can have, at 100 ohm. Far above that, float64 keeps little of a current.
_MOST_LOSS = 1e7
# Cells times inputs that are iterated at a time.
_CHUNK = 2**18

# Tolerance of the curve, as a fraction of the largest voltage, and the most steps.
_NEWTON_TOLERANCE, _NEWTON_STEPS = 1e-10, 50

Resistance = float | tuple[float, float]


def line_currents(
    conductance: Tensor,
    voltages: Tensor,
    wire_resistance: Resistance,
    *,
    transposed: bool = False,
    method: str = "auto",
    tolerance: float = 1e-12,
) -> Tensor:
    """Compute the currents at the ends of the bit lines of an array with resistive lines.

    Parameters
    ----------
    conductance
        (m, n) siemens, not negative; 0 is an open cell.
    voltages
        (batch, n) volts at the word lines; transposed: (batch, m) at the bit lines.
    wire_resistance
        Ohm per segment, or a pair: word lines, bit lines. 0 is an ideal line.
    transposed
        Drive the bit lines and sense at the word lines.
    method
        "direct", "iterative", or "auto", which takes the one expected to be faster; see
        :class:`WireSolver`.
    tolerance
        For the iterative method: the error of a current ``I[i]`` is at most
        ``tolerance * sqrt(sum_j G[i,j]) * sqrt(sum_ij G[i,j] V[j]^2)``.

    Returns
    -------
    Tensor
        (batch, m) amperes, or (batch, n) transposed, in the dtype of ``voltages``; computed in
        float64.

    Raises
    ------
    TypeError, ValueError
        If the conductances are not a matrix of finite numbers that are at least 0, or another
        value does not fit.

    Examples
    --------
    >>> cells = torch.full((1, 2), 1e-4)
    >>> line_currents(cells, torch.tensor([[1.0, 1.0]]), 0.0)  # Ohm and Kirchhoff
    tensor([[0.0002]])
    >>> # lines of 100 ohm a segment take a share
    >>> bool(line_currents(cells, torch.tensor([[1.0, 1.0]]), 100.0) < 0.0002)
    True
    """
    wires = Wires(wire_resistance=wire_resistance, method=method, tolerance=tolerance)
    return wires.solver(conductance).currents(voltages, transposed=transposed)


def effective_conductance(conductance: Tensor, wire_resistance: Resistance) -> Tensor:
    """Compute the map M from driving voltages to sensed currents.

    ``I = V M.T``, transposed ``I = V M``: one matrix (m, n), siemens, float64, serves both, as the
    network is reciprocal. It takes about ``30 (m n)^1.5`` multiplications and ``50 m n`` numbers of
    memory. Parameters and errors as in :func:`line_currents`.
    """
    return Wires(wire_resistance=wire_resistance).solver(conductance).effective


def cell_voltages(
    conductance: Tensor,
    voltages: Tensor,
    wire_resistance: Resistance,
    *,
    transposed: bool = False,
    tolerance: float = 1e-12,
) -> Tensor:
    """Compute the voltage over every cell, volts, (batch, m, n).

    Times ``conductance``, these are the currents of the cells. Solved iteratively. Parameters,
    dtype and errors as in :func:`line_currents`.
    """
    wires = Wires(wire_resistance=wire_resistance, tolerance=tolerance)
    return wires.solver(conductance).cell_voltages(voltages, transposed=transposed)


@dataclass(frozen=True, kw_only=True)
class Wires:
    """Resistance of the lines of a :class:`~toolkit.crossbar.Crossbar`.

    Parameters
    ----------
    wire_resistance
        Ohm per segment, or a pair: word lines, bit lines.
    method, tolerance
        As in :func:`line_currents`.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """

    wire_resistance: Resistance
    method: str = "auto"
    tolerance: float = 1e-12

    def __post_init__(self) -> None:
        if len(self.ohms) != 2:
            got = f"got {self.wire_resistance}"
            raise ValueError(f"wire_resistance must be a number of ohms or a pair of them; {got}")
        for ohms in self.ohms:
            check_real("wire_resistance", ohms, 0.0)
        check_choice("method", self.method, METHODS)
        check_real("tolerance", self.tolerance, most=1.0, above=0.0)

    @property
    def ohms(self) -> tuple[float, float]:
        """Ohm per segment of a word line and of a bit line."""
        given = self.wire_resistance
        return given if isinstance(given, tuple) else (given, given)

    def solver(self, conductance: Tensor) -> WireSolver:
        """Solver for all reads while ``conductance`` (m, n) does not change."""
        return WireSolver(conductance, self)


class WireSolver:
    """Reads of one conductance matrix; each read reuses the results of earlier ones.

    With ``wires.method`` "direct", the first read computes the :attr:`effective` conductance.
    "auto" iterates while the iterations of all inputs so far are at most ``0.7 sqrt(m n)``, about
    the cost of the effective conductance, and computes that at the first read that would exceed
    this. Reads therefore take at most about twice the time of the better choice, and repeated
    reads of constant conductances become one matrix product.

    The number of iterations of an input follows from a bound on the condition number,
    ``kappa <= 1 + max(K G)``: 1 plus the largest drop if every cell had 1 V over it.

    Parameters
    ----------
    conductance
        (m, n) siemens, at least 0; do not change it in place afterwards.
    wires
        Resistances and method.

    Raises
    ------
    TypeError, ValueError
        If ``conductance`` is not a matrix of finite numbers that are at least 0, or the wires lose
        more than 10^7 times the voltage, for which the iterations hardly converge.
    """

    def __init__(self, conductance: Tensor, wires: Wires) -> None:
        self.wires = wires
        self._conductance = _check_conductance(conductance).double()
        _check_loss(self._conductance, *wires.ohms)
        self._worked = 0.0

    @cached_property
    def effective(self) -> Tensor:
        """Effective conductance (m, n), siemens, float64; see :func:`effective_conductance`."""
        if not any(self.wires.ohms):
            return self._conductance
        return dissect(self._conductance, *self.wires.ohms)

    @property
    def is_direct(self) -> bool:
        """Whether this and every later read is a product with :attr:`effective`."""
        if self.wires.method != "auto":
            return self.wires.method == "direct"
        return "effective" in vars(self) or not any(self.wires.ohms)

    @property
    def progress(self) -> list[float]:
        """State that decides how the next reads are solved, and so their last bits; to be saved."""
        return [self._worked, float("effective" in vars(self))]

    @progress.setter
    def progress(self, saved: list[float]) -> None:
        self._worked, is_direct = saved
        if is_direct:
            _ = self.effective

    @cached_property
    def iterations(self) -> float:
        """Bound on the steps of the iterative method: ``ln(2 / tolerance) / ln(1 / rate)``.

        The rate of conjugate gradients is ``(sqrt(kappa) - 1) / (sqrt(kappa) + 1)``.
        """
        root = math.sqrt(1.0 + float(self._drops(self._conductance).max()))
        rate = (root - 1.0) / (root + 1.0)
        return 1.0 + math.log(self.wires.tolerance / 2.0) / math.log(max(rate, 1e-300))

    def currents(self, voltages: Tensor, *, transposed: bool = False) -> Tensor:
        """(batch, n) volts -> (batch, m) amperes; transposed, (batch, m) -> (batch, n)."""
        driving = self._driving(voltages, transposed)
        if self._iterates(len(driving)):
            return self._in_parts(driving, None, transposed).to(voltages)
        effective = self.effective if transposed else self.effective.T
        return (driving @ effective).to(voltages.dtype)

    def curved_currents(
        self, voltages: Tensor, curve: SinhCurve, *, transposed: bool = False
    ) -> Tensor:
        """Like :meth:`currents`, for cells with current ``G curve(x)`` at the voltage x over them.

        Uses Newton's method: every step is an iterative solution with the slopes of the curve at
        the voltages of the previous step. Several times slower than :meth:`currents`, and never
        direct.
        """
        return self._in_parts(self._driving(voltages, transposed), curve, transposed).to(voltages)

    def cell_voltages(self, voltages: Tensor, *, transposed: bool = False) -> Tensor:
        """Voltage over every cell, volts, (batch, m, n), solved iteratively."""
        driving = self._driving(voltages, transposed)
        given = self._given(driving, transposed)
        return self._solve(given, self._conductance.sqrt()).to(voltages.dtype)

    def _driving(self, voltages: Tensor, transposed: bool) -> Tensor:
        check_flag("transposed", transposed)
        check_signal("voltages", voltages, self._conductance.shape[0 if transposed else 1])
        return voltages.to(self._conductance)

    def _iterates(self, batch: int) -> bool:
        """Whether this read uses the iterative method."""
        if self.is_direct or self.wires.method == "iterative":
            return not self.is_direct
        self._worked += self.iterations * batch
        return self._worked <= _DIRECT_COST * math.sqrt(self._conductance.numel())

    def _in_parts(self, driving: Tensor, curve: SinhCurve | None, transposed: bool) -> Tensor:
        """Currents by the iterative method, a part of the inputs at a time."""
        size, found = max(1, _CHUNK // self._conductance.numel()), []
        for start in range(0, max(1, len(driving)), size):
            part = slice(start, start + size)
            given = self._given(driving[part], transposed)
            if curve is None:
                through = self._conductance * self._solve(given, self._conductance.sqrt())
            else:
                through = self._curved(given, curve.part(part))
            found.append(through.sum(-2 if transposed else -1))
        return torch.cat(found)

    def _curved(self, given: Tensor, curve: SinhCurve) -> Tensor:
        """Currents of the cells by Newton's method."""
        over, largest = given, given.abs().amax((-2, -1), keepdim=True)
        for _ in range(_NEWTON_STEPS):
            slope = self._conductance * curve.slope(over)
            rest = self._conductance * curve(over) - slope * over
            before, over = over, self._solve(given - self._drops(rest), slope.sqrt())
            if bool(((over - before).abs() <= _NEWTON_TOLERANCE * largest).all()):
                return self._conductance * curve(over)
        raise RuntimeError(f"the I-V curve was not solved in {_NEWTON_STEPS} Newton steps")

    def _given(self, driving: Tensor, transposed: bool) -> Tensor:
        """Voltages that the driven terminals alone would put over every cell, (batch, m, n)."""
        return driving.unsqueeze(-1 if transposed else -2).expand(-1, *self._conductance.shape)

    def _solve(self, given: Tensor, root: Tensor) -> Tensor:
        """Solve ``x = given - K G x`` for the voltages x over the cells, with ``G = root^2``.

        Conjugate gradients, all inputs at once, each at its own pace. No eigenvalue is below 1, so
        the error of y is at most the residual.
        """
        residual = root * given
        solution, direction = torch.zeros_like(residual), residual.clone()
        power = _power(residual)
        target = power * self.wires.tolerance**2
        while bool((power > target).any()):
            image = torch.addcmul(direction, root, self._drops(root * direction))
            step = _ratio(power, (direction * image).sum((-2, -1), keepdim=True))
            solution.addcmul_(step, direction)
            residual.addcmul_(step, image, value=-1.0)
            power, before = _power(residual), power
            direction.mul_(_ratio(power, before)).add_(residual)
        return given - self._drops(root * solution)

    def _drops(self, currents: Tensor) -> Tensor:
        """``K`` times the cells' currents (..., m, n): volts lost along both lines of each cell."""
        word, bit = self.wires.ohms
        along_word = _to_end(currents, -2).cumsum(-2)  # currents of the segments, then their totals
        along_bit = _to_end(currents.cumsum(-1), -1)
        return along_word.mul_(word).add_(along_bit, alpha=bit)


def _to_end(values: Tensor, dim: int) -> Tensor:
    """Sums from each entry to the last."""
    return values + values.sum(dim, keepdim=True) - values.cumsum(dim)


def _power(cells: Tensor) -> Tensor:
    return cells.square().sum((-2, -1), keepdim=True)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, or 0 for finished inputs, for which both are 0."""
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def _check_loss(conductance: Tensor, word: float, bit: float) -> None:
    """Raise ValueError if the lines would lose too much voltage."""
    m, n = conductance.shape
    loss = (word * m * m + bit * n * n) * float(conductance.max())
    if not loss <= _MOST_LOSS:
        raise ValueError(
            f"wire_resistance must lose at most {_MOST_LOSS:g} times the voltage, (r_word m^2 + "
            f"r_bit n^2) times the largest conductance; got {word:g} and {bit:g} ohm, which lose "
            f"{loss:g} times"
        )


def _check_conductance(conductance: Tensor) -> Tensor:
    check_matrix("conductance", conductance)
    if not bool(((conductance >= 0.0) & (conductance < math.inf)).all()):
        raise ValueError(
            "conductance must be finite and at least 0; got values from "
            f"{float(conductance.min())} to {float(conductance.max())}"
        )
    return conductance.detach()
