"""IR drop: published values, closed forms, and nodal analysis written out anew."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
import torch

from toolkit.crossbar import Crossbar, Periphery, get_device
from toolkit.crossbar.readout import wires
from toolkit.crossbar.readout.converters import SinhCurve
from toolkit.crossbar.readout.wires import (
    Wires,
    cell_voltages,
    effective_conductance,
    line_currents,
)

# README of badcrossbar: resistances (word lines, bit lines), voltages (word lines, inputs).
RESISTANCES = [[345, 903, 755, 257, 646], [652, 401, 508, 166, 454], [442, 874, 190, 244, 635]]
VOLTAGES = [[1.5, 4.1, 2.6, 2.1], [2.3, 4.5, 1.1, 0.8], [1.7, 4.0, 3.3, 1.1]]
FIRST_ROW = [0.01158503, 0.00919064, 0.01511568, 0.02583321, 0.00981179]

METHODS = ("direct", "iterative")


def published():
    conductance = 1.0 / torch.tensor(RESISTANCES, dtype=torch.float64).T
    return conductance, torch.tensor(VOLTAGES, dtype=torch.float64).T


def random_cells(m, n, *, seed=0, low=1e-6, high=1e-4):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(m, n, generator=generator, dtype=torch.float64)


def random_inputs(batch, lines, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, lines, generator=generator, dtype=torch.float64)


def nodal(conductance, word, bit, *, transposed=False):
    """Node potentials per volt at each driven terminal, by Kirchhoff's laws; all as numpy.

    Returns sensed currents (sensed, driven) and the voltages over the cells (m, n, driven).
    Rows of the array are word lines from top to bottom, columns bit lines from left to right.
    """
    cells = conductance.numpy().T
    n, m = cells.shape
    node = np.arange(2 * n * m).reshape(2, n, m)  # word-line nodes, bit-line nodes
    ends = [
        (node[0], node[1], cells),
        (node[0][:, :-1], node[0][:, 1:], np.full((n, m - 1), 1 / word)),
        (node[1][:-1], node[1][1:], np.full((n - 1, m), 1 / bit)),
    ]
    start, end, siemens = (np.concatenate([np.ravel(part[k]) for part in ends]) for k in range(3))
    terminals = {False: (node[0][:, 0], 1 / word), True: (node[1][-1], 1 / bit)}
    grounded = np.zeros(node.size)
    for nodes, siemens_there in terminals.values():
        grounded[nodes] += siemens_there
    rows = np.concatenate([start, end, start, end, np.arange(node.size)])
    columns = np.concatenate([start, end, end, start, np.arange(node.size)])
    values = np.concatenate([siemens, siemens, -siemens, -siemens, grounded])
    system = scipy.sparse.coo_array((values, (rows, columns))).tocsc()
    driven, given = terminals[transposed]
    injected = np.zeros((node.size, len(driven)))
    injected[driven, np.arange(len(driven))] = given
    small = node.size <= 1000
    solve = np.linalg.solve if small else scipy.sparse.linalg.spsolve
    potential = solve(system.toarray() if small else system, injected)
    sensed, siemens_there = terminals[not transposed]
    over = np.abs(potential[node[0]] - potential[node[1]]).transpose(1, 0, 2)
    return siemens_there * potential[sensed], over


def worst(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    return np.max(np.abs(found - expected) / np.abs(expected))


@pytest.mark.parametrize("method", METHODS)
def test_published_example(method):
    conductance, voltages = published()
    currents = line_currents(conductance, voltages, 0.5, method=method)
    assert currents[0].tolist() == pytest.approx(FIRST_ROW, abs=5e-9)
    over = cell_voltages(conductance, voltages, 0.5)
    assert torch.allclose((conductance * over).sum(2), currents, rtol=1e-10)
    # the cell at word line 0, bit line 3, of input 2
    assert float((conductance * over)[2, 3, 0]) == pytest.approx(0.009856197822795888, rel=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_cell_is_in_series_with_its_wires(method):
    m, n, word, bit, ohm = 6, 9, 2.0, 3.0, 1e4
    for i, j in ((0, 0), (5, 0), (0, 8), (5, 8), (2, 4)):
        conductance = torch.zeros(m, n, dtype=torch.float64)
        conductance[i, j] = 1.0 / ohm
        currents = line_currents(conductance, torch.eye(n).double(), (word, bit), method=method)
        series = ohm + word * (i + 1) + bit * (n - j)
        assert float(currents[j, i]) == pytest.approx(1.0 / series, rel=1e-13)
        assert float(currents.abs().sum()) == pytest.approx(1.0 / series, rel=1e-13)


@pytest.mark.parametrize(
    ("m", "n"), [(1, 1), (1, 9), (9, 1), (5, 7), (8, 8), (13, 20), (3, 40), (40, 3), (24, 17)]
)
@pytest.mark.parametrize("ohms", [1e-3, 1.0, (20.0, 0.5), (1e-2, 300.0)])
def test_against_dense_nodal_analysis(m, n, ohms):
    conductance = random_cells(m, n)
    word, bit = ohms if isinstance(ohms, tuple) else (ohms, ohms)
    for transposed, lines in ((False, n), (True, m)):
        expected, over = nodal(conductance, word, bit, transposed=transposed)
        if not transposed:
            assert worst(effective_conductance(conductance, ohms), expected) < 1e-10
        each = torch.eye(lines).double()  # one terminal at a time
        for method in METHODS:
            found = line_currents(conductance, each, ohms, method=method, transposed=transposed)
            assert np.abs(found.T.numpy() - expected).max() < 1e-10 * expected.max()
        found = cell_voltages(conductance, each, ohms, transposed=transposed).abs()
        assert np.abs(found.permute(1, 2, 0).numpy() - over).max() < 1e-9


@pytest.mark.parametrize(("m", "n"), [(64, 64), (10, 150), (70, 33)])
def test_against_sparse_nodal_analysis(m, n):
    conductance = random_cells(m, n)
    conductance[random_cells(m, n, seed=5) < 2e-5] = 0.0
    expected, _ = nodal(conductance, 1.0, 1.0)
    assert worst(effective_conductance(conductance, 1.0), expected) < 1e-10


@pytest.mark.parametrize(("lines", "loss"), [(16, 0.0096), (32, 0.0347), (64, 0.122), (128, 0.35)])
def test_published_mean_losses(lines, loss):
    """1-100 uS at 1 ohm, all lines at 1 V; published for other random numbers."""
    conductance = random_cells(lines, lines, seed=1234)
    effective = effective_conductance(conductance, 1.0)
    assert 1.0 - float(effective.sum() / conductance.sum()) == pytest.approx(loss, rel=0.05)


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_ideal_wires_give_the_plain_product(method):
    conductance, voltages = random_cells(7, 12), random_inputs(3, 12)
    plain = voltages @ conductance.T
    assert torch.allclose(
        line_currents(conductance, voltages, 0.0, method=method), plain, rtol=1e-14, atol=0.0
    )
    assert torch.equal(line_currents(conductance, voltages, 0.0), plain)
    assert torch.equal(effective_conductance(conductance, 0.0), conductance)


@pytest.mark.parametrize("ohms", [(0.0, 2.0), (2.0, 0.0)])
def test_one_kind_of_line_may_be_ideal(ohms):
    conductance = random_cells(12, 19)
    found = effective_conductance(conductance, ohms)
    almost, _ = nodal(conductance, *(max(r, 1e-6) for r in ohms))
    assert worst(found, almost) < 1e-7
    iterated = line_currents(conductance, torch.eye(19).double(), ohms, method="iterative").T
    assert worst(iterated, found) < 1e-10


def test_tiny_resistance_costs_no_accuracy():
    """To first order the loss is r times that of the drops of the ideal currents."""
    conductance, r = random_cells(20, 30), 1e-9
    loss = conductance - effective_conductance(conductance, r)
    m, n = conductance.shape
    first, drop = torch.zeros(m, n).double(), torch.minimum
    along_word = drop(torch.arange(m), torch.arange(m)[:, None]).double() + 1.0
    along_bit = n - torch.maximum(torch.arange(n), torch.arange(n)[:, None]).double()
    first += conductance * (along_word @ conductance)  # the cells of one word line see its volt
    first += torch.einsum("ij,jk,ik->ik", conductance, along_bit, conductance)
    assert torch.allclose(loss, r * first, rtol=1e-4, atol=1e-18)


def test_open_cells_and_dead_arrays():
    voltages = torch.tensor([[0.0] * 11, [1.0] * 11])
    for method in METHODS:
        assert not line_currents(torch.zeros(9, 11), voltages, 1.0, method=method).any()
        assert not line_currents(torch.ones(9, 11), voltages, 1.0, method=method)[0].any()


@pytest.mark.parametrize("transposed", [False, True])
def test_methods_agree(transposed):
    conductance = random_cells(60, 45)
    voltages = random_inputs(200, 60 if transposed else 45)  # more than one chunk
    direct, iterative = (
        line_currents(conductance, voltages, 3.0, method=method, transposed=transposed)
        for method in METHODS
    )
    assert torch.allclose(direct, iterative, rtol=1e-9, atol=1e-12 * float(direct.abs().max()))


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_iterative_error_is_within_its_bound(tolerance):
    conductance, voltages = random_cells(40, 30), random_inputs(6, 30)
    exact = line_currents(conductance, voltages, 5.0, method="direct")
    found = line_currents(conductance, voltages, 5.0, method="iterative", tolerance=tolerance)
    power = (voltages.square() @ conductance.T).sum(1, keepdim=True)
    bound = tolerance * power.sqrt() * conductance.sum(1).sqrt()
    error = (found - exact).abs()
    assert bool((error <= bound).all())
    assert float(error.max()) > 1e-4 * float(bound.min())  # it does stop early


def test_bound_on_the_iterations_holds(monkeypatch):
    solver = Wires(wire_resistance=10.0, method="iterative").solver(random_cells(30, 30))
    steps = []
    drops = type(solver)._drops
    monkeypatch.setattr(
        type(solver), "_drops", lambda self, x: (steps.append(1), drops(self, x))[1]
    )
    solver.currents(random_inputs(1, 30))
    assert 5 < len(steps) - 1 <= solver.iterations


def test_auto_iterates_for_few_inputs_and_is_direct_for_many_or_in_the_end():
    wires, cells = Wires(wire_resistance=0.1), random_cells(64, 64)
    solver, one = wires.solver(cells), random_inputs(1, 64)
    expected, reads = solver.currents(one), 0
    while "effective" not in vars(solver):
        assert torch.allclose(solver.currents(one), expected, rtol=1e-10)
        reads += 1
    assert reads == math.floor(0.7 * 64 / solver.iterations) > 0
    at_once = wires.solver(cells)
    at_once.currents(random_inputs(64, 64))
    assert "effective" in vars(at_once)


def test_dtype_follows_the_voltages():
    conductance, voltages = random_cells(6, 5), random_inputs(3, 5)
    exact = line_currents(conductance, voltages, 2.0)
    single = line_currents(conductance.float(), voltages.float(), 2.0)
    assert exact.dtype == torch.float64
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conductance", torch.tensor([[1.0, math.nan]]), "conductance must be finite"),
        ("conductance", torch.tensor([[1.0, math.inf]]), "conductance must be finite"),
        ("conductance", torch.tensor([[1.0, -1e-6]]), "conductance must be finite and at least 0"),
        ("conductance", torch.ones(2, 2, 2), "conductance must be a matrix"),
        ("conductance", torch.ones(0, 2), "conductance must be a matrix"),
        ("conductance", [[1.0]], r"must be a torch\.Tensor"),
        ("voltages", torch.ones(2, 4), "voltages must"),
        ("voltages", torch.ones(3), "voltages must"),
        ("voltages", torch.full((1, 3), math.nan), "voltages must"),
        *(
            ("wire_resistance", ohms, "wire_resistance must")
            for ohms in (-1.0, math.nan, math.inf, (1.0, -1.0), (1.0, 1.0, 1.0))
        ),
        ("method", "exact", "method must be one of auto, direct, iterative"),
        ("tolerance", 0.0, "tolerance must be above 0 and at most 1"),
    ],
)
def test_bad_arguments(name, value, message):
    good = {"conductance": torch.ones(2, 3), "voltages": torch.ones(1, 3), "wire_resistance": 1.0}
    with pytest.raises((ValueError, TypeError), match=message):
        line_currents(**good | {name: value})


@pytest.mark.parametrize("method", ["auto", "direct", "iterative"])
@pytest.mark.parametrize("ohms", [1e15, 1e100, 1e300, (0.0, 1e15)])
def test_wires_that_lose_everything_are_refused(ohms, method):
    wires = Wires(wire_resistance=ohms, method=method)
    with pytest.raises(ValueError, match=r"wire_resistance must lose at most 1e\+07 .*; got"):
        wires.solver(random_cells(20, 30)).currents(torch.ones(1, 30, dtype=torch.float64))
    curved = Periphery(iv_nonlinearity=1.0)
    array = Crossbar.from_weights(
        torch.zeros(20, 30), device=get_device("EpiRAM"), wires=wires, periphery=curved
    )
    with pytest.raises(ValueError, match="wire_resistance must lose"):
        array.read(torch.ones(1, 30))


def test_the_worst_wires_allowed_have_the_currents_of_both_methods():
    cells = random_cells(20, 30)
    ohms = 1e7 / (20**2 + 30**2) / float(cells.max())
    given = torch.rand(2, 30, dtype=torch.float64)
    direct, iterative = (
        line_currents(cells, given, 0.999 * ohms, method=method)
        for method in ("direct", "iterative")
    )
    torch.testing.assert_close(iterative, direct, rtol=1e-4, atol=0.0)


def curved_nodal(conductance, ohms, word_ends, bit_ends, curve):
    """Currents into the terminals of the word and of the bit lines, cells carrying ``G curve(u)``.

    Kirchhoff's current law at every node, by a general solver of nonlinear equations.
    """
    cells = conductance.numpy().T
    word_ends, bit_ends = word_ends[:, None], bit_ends[None, :]

    def segments(potential):
        word, bit = potential.reshape(2, *cells.shape)
        along_word = -np.diff(word, axis=1, prepend=word_ends) / ohms[0]  # from the left
        along_bit = -np.diff(bit, axis=0, append=bit_ends) / ohms[1]  # downwards
        return along_word, along_bit, cells * curve(word - bit)

    def excess(potential):
        along_word, along_bit, through = segments(potential)
        word = along_word - through
        word[:, :-1] -= along_word[:, 1:]
        bit = through - along_bit
        bit[1:] += along_bit[:-1]
        return np.concatenate([word.ravel(), bit.ravel()]) * 1e4

    start = np.stack([word_ends + 0.0 * cells, bit_ends + 0.0 * cells])
    found = scipy.optimize.root(excess, start.ravel(), tol=1e-13).x
    assert np.abs(excess(found)).max() < 1e-9
    along_word, along_bit, _ = segments(found)
    return -along_word[:, 0], along_bit[-1]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("a", [0.5, 2.0, 6.0])
def test_cells_with_a_curve_obey_kirchhoff(a, transposed, monkeypatch):
    monkeypatch.setattr(wires, "_CHUNK", 35)  # one input at a time
    conductance, ohms = random_cells(7, 5), (300.0, 500.0)
    voltages = random_inputs(2, 7 if transposed else 5)
    curve = SinhCurve(voltages.abs().amax(1, keepdim=True), a)
    solver = Wires(wire_resistance=ohms).solver(conductance)
    found = solver.curved_currents(voltages, curve, transposed=transposed)
    for row, (currents, inputs) in enumerate(zip(found, voltages.numpy(), strict=True)):
        full = float(curve.full_scale[row])
        ends = (np.zeros(5), inputs) if transposed else (inputs, np.zeros(7))
        at_word, at_bit = curved_nodal(
            conductance, ohms, *ends, lambda u, x=full: x * np.sinh(a * u / x) / math.sinh(a)
        )
        assert worst(currents, at_word if transposed else at_bit) < 1e-8
    ohmic = solver.currents(voltages, transposed=transposed)
    assert float(((found - ohmic) / ohmic).abs().max()) > 0.01


def test_an_ohmic_curve_is_the_linear_network():
    conductance, voltages = random_cells(7, 5), random_inputs(3, 5)
    solver = Wires(wire_resistance=100.0).solver(conductance)
    curve = SinhCurve(torch.ones(3, 1, dtype=torch.float64), 1e-6)
    assert worst(solver.curved_currents(voltages, curve), solver.currents(voltages)) < 1e-9
