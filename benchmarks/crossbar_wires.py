"""What direct and iterative solutions of resistive lines cost, and which is the faster.

    python -m benchmarks.crossbar_wires --sizes 64 128 256 512

Square arrays of cells of 10 kohm to 1 Mohm. Four tables: both methods against SciPy's sparse LU of
the same nodal equations; many inputs against one; the rule behind ``method="auto"``; a training
step's reads, forth and back, against the plain products. Times are processor seconds of the calling
thread, the best of ``--repeats``: set OMP_NUM_THREADS=1, then they hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import inspect
import math
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from toolkit.crossbar import Crossbar, Wires, get_device
from toolkit.crossbar.readout.wires import effective_conductance, line_currents

LOW_LOSS, HIGH_LOSS = 0.01, 1.0  # ohm per segment


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for table in (against_sparse_lu, many_inputs, rule, training_reads):
        print(f"\n{inspect.getdoc(table)}")
        for size in arguments.sizes:
            table(size, arguments.repeats)


def against_sparse_lu(size: int, repeats: int) -> None:
    """One input at 1 ohm: seconds; ratios to sparse LU (minimum degree); largest difference."""
    conductance, voltages = cells(size), inputs(1, size)
    sparse = best(lambda: sparse_currents(conductance, voltages, HIGH_LOSS), 1)
    exact = sparse_currents(conductance, voltages, HIGH_LOSS)
    line = f"{size:5d}  loss {1 - float(exact.sum() / (voltages @ conductance.T).sum()):6.1%}"
    line += f"  sparse LU {sparse:8.4f} s"
    for method in ("direct", "iterative"):
        solve = solver(conductance, voltages, HIGH_LOSS, method)
        seconds = best(solve, repeats)
        error = float(((solve() - exact) / exact).abs().max())
        line += f"  {method} {seconds:8.4f} s ({sparse / seconds:5.1f}x, {error:.0e})"
    print(line)


def many_inputs(size: int, repeats: int) -> None:
    """64 inputs against one: ratio of the times, both with the solution included."""
    conductance = cells(size)
    line = f"{size:5d}"
    for method in ("direct", "iterative", "auto"):
        one, many = (
            best(solver(conductance, inputs(batch, size), HIGH_LOSS, method), repeats)
            for batch in (1, 64)
        )
        line += f"  {method} {many / one:6.2f}"
    print(line)


def rule(size: int, repeats: int) -> None:
    """Cost of the direct solution in iterations of one input, over the number of lines (rule: 0.7).

    Then the times of one input at low and high loss: direct, iterative, auto.
    """
    conductance, voltages = cells(size), inputs(1, size)
    line = f"{size:5d}"
    for ohms in (LOW_LOSS, HIGH_LOSS):
        direct, iterative, auto = (
            best(solver(conductance, voltages, ohms, method), repeats)
            for method in ("direct", "iterative", "auto")
        )
        steps = Wires(wire_resistance=ohms).solver(conductance).iterations
        line += f"  {ohms} ohm: {direct / iterative * steps / size:5.2f}"
        line += f" ({direct:.4f}, {iterative:.4f}, {auto:.4f} s, {math.ceil(steps)} steps)"
    print(line)


def training_reads(size: int, repeats: int) -> None:
    """Reads of 64, forth and back: after a write, again, and plain products; milliseconds."""
    device = get_device("Ag:a-Si")
    weights, forth = 0.1 * torch.randn(size, size), torch.randn(64, size)
    array = Crossbar.from_weights(weights, device=device, wires=Wires(wire_resistance=1e3))

    def reads() -> None:
        array.read(forth)
        array.read_transposed(forth)

    def fresh() -> None:
        array.pulse(torch.zeros(2, size, size))
        reads()

    after_write, again = best(fresh, repeats), best(reads, repeats)
    array.wires = None
    plain = best(reads, repeats)
    print(
        f"{size:5d}  after a write {after_write * 1e3:8.2f}  again {again * 1e3:6.2f}"
        f"  plain {plain * 1e3:6.2f}  (again / plain {again / plain:.2f})"
    )


def cells(size: int) -> Tensor:
    """Conductances of 1 to 100 uS."""
    generator = torch.Generator().manual_seed(size)
    return 1e-6 + 99e-6 * torch.rand(size, size, generator=generator, dtype=torch.float64)


def inputs(batch: int, size: int) -> Tensor:
    """Voltages between 0 and 1."""
    generator = torch.Generator().manual_seed(batch)
    return torch.rand(batch, size, generator=generator, dtype=torch.float64)


def solver(conductance: Tensor, voltages: Tensor, ohms: float, method: str) -> Callable[[], Tensor]:
    """The read from scratch."""
    return lambda: line_currents(conductance, voltages, ohms, method=method)


def sparse_currents(conductance: Tensor, voltages: Tensor, ohms: float) -> Tensor:
    """The same by sparse LU of Kirchhoff's equations, minimum-degree ordering."""
    m, n = conductance.shape
    node = np.arange(2 * n * m).reshape(2, n, m)
    segments = [
        (node[0], node[1], conductance.numpy().T),
        (node[0][:, :-1], node[0][:, 1:], np.full((n, m - 1), 1 / ohms)),
        (node[1][:-1], node[1][1:], np.full((n - 1, m), 1 / ohms)),
    ]
    start, end, siemens = (np.concatenate([np.ravel(s[k]) for s in segments]) for k in range(3))
    grounded = np.zeros(node.size)
    grounded[node[0][:, 0]] += 1 / ohms
    grounded[node[1][-1]] += 1 / ohms
    rows = np.concatenate([start, end, start, end, np.arange(node.size)])
    columns = np.concatenate([start, end, end, start, np.arange(node.size)])
    values = np.concatenate([siemens, siemens, -siemens, -siemens, grounded])
    system = scipy.sparse.coo_array((values, (rows, columns))).tocsc()
    injected = np.zeros((node.size, len(voltages)))
    injected[node[0][:, 0]] = voltages.numpy().T / ohms
    factors = scipy.sparse.linalg.splu(
        system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return torch.from_numpy(factors.solve(injected)[node[1][-1]].T / ohms)


def best(work: Callable[[], object], repeats: int) -> float:
    """Processor seconds of this thread: the least of ``repeats`` runs."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


if __name__ == "__main__":
    effective_conductance(torch.ones(8, 8), 1.0)  # load the linear algebra
    main()
