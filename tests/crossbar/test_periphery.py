"""Converters, the I-V curve, and the whole read path of an array."""

import dataclasses
import math

import pytest
import torch

from tests.crossbar.arrays import normals
from toolkit.crossbar import Crossbar, TiledCrossbar, get_device
from toolkit.crossbar.readout.converters import Converter, Periphery
from toolkit.crossbar.readout.wires import Wires, line_currents
from toolkit.lowrank import LowRank

SILVER = get_device("Ag:a-Si")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(rows, columns, **options):
    return normals(rows, columns, scale=1.0, **options)


def silver_array(rows=12, columns=9, *, device=SILVER, **knobs):
    return Crossbar.from_weights(0.2 * normal(rows, columns), device=device, seed=3, **knobs)


# --- one converter


def test_three_bits_by_hand():
    converter = Converter(bits=3, bound=1.5)  # levels -1.5, -1, ..., 1.5
    signal = torch.tensor([[-9.0, -1.26, -1.24, -0.2, 0.0, 0.3, 0.74, 0.76, 1.5, 2.0]])
    expected = [[-1.5, -1.5, -1.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.5, 1.5]]
    assert converter.quantise(signal).tolist() == expected


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_levels_and_error_bound(bits):
    bound = 0.7
    signal = torch.linspace(-bound, bound, 20_001, dtype=torch.float64)[None]
    found = Converter(bits=bits, bound=bound).quantise(signal)
    step = 2.0 * bound / (2**bits - 2)
    assert len(found.round(decimals=12).unique()) == 2**bits - 1
    error = (found - signal).abs().max()
    assert 0.499 * step < error <= 0.5 * step * (1 + 1e-12)


def test_without_bits_there_is_only_the_bound():
    signal = torch.tensor([[-3.0, 0.123456, 5.0]])
    assert Converter().quantise(signal) is signal
    assert Converter(bound=1.0).quantise(signal).tolist() == [[-1.0, signal[0, 1].item(), 1.0]]


def test_without_a_bound_every_vector_has_its_own():
    signal = normal(4, 50) * torch.tensor([[1e-20], [1.0], [1e3], [0.0]]).double()
    *found, nothing = Converter(bits=6).quantise(signal)
    assert not nothing.any()
    for row, before in zip(found, signal, strict=False):
        scale = float(before.abs().max())
        expected = Converter(bits=6, bound=scale).quantise(before[None])[0]
        assert torch.allclose(row, expected, rtol=1e-12, atol=0.0)
        assert float(row.abs().max()) == pytest.approx(scale, rel=1e-12)


def test_stochastic_rounding_is_unbiased():
    """Mean within 4 sigma of the input; each result one of the two neighbours."""
    count, step = 40_000, 1.0 / 3.0
    converter = Converter(bits=3, bound=1.0, stochastic=True)
    values = torch.tensor([-0.97, -0.4, -1e-3, 0.0, 0.1, 0.5, 1.0], dtype=torch.float64)
    found = converter.quantise(values.expand(count, -1).contiguous(), generator=seeded())
    share = (values / step) % 1.0
    error = step * (share * (1 - share) / count).sqrt()
    assert bool(((found.mean(0) - values).abs() <= 4.0 * error + 1e-12).all())
    assert bool(((found - values).abs() < step * (1 + 1e-12)).all())
    assert len(found[:, 1].unique()) == 2


def test_noise_is_gaussian_of_the_given_deviation():
    count = 40_000
    noise = Converter(noise=0.3).add_noise(torch.zeros(count, 1), generator=seeded())
    assert abs(float(noise.mean())) < 4 * 0.3 / math.sqrt(count)
    assert float(noise.var()) == pytest.approx(0.09, rel=4 * math.sqrt(2 / count))


def test_calibration_takes_a_quantile_of_the_magnitudes():
    samples = torch.arange(-100.0, 1.0).view(1, -1)
    assert Converter(bits=8).calibrated(samples).bound == 100.0
    assert Converter(bits=8).calibrated(samples, quantile=0.5).bound == 50.0
    assert Converter(bits=8).calibrated(samples, quantile=0.5).bits == 8


# --- periphery of an array


def test_reads_go_through_dac_product_and_adc_transposed_ones_through_their_own():
    own = Converter(bits=3, bound=0.5), Converter(bits=6, bound=0.3)
    periphery = Periphery(dac=Converter(bits=4, bound=2.0), adc=Converter(bits=5, bound=1.0))
    array = silver_array(periphery=periphery)
    signal, errors = normal(6, 9, seed=1), normal(6, 12, seed=1)
    expected = periphery.adc.quantise(periphery.dac.quantise(signal) @ array.weights.T)
    assert torch.allclose(array.read(signal), expected, atol=1e-12)
    assert not torch.allclose(expected, signal @ array.weights.T, atol=1e-3)
    shared = periphery.adc.quantise(periphery.dac.quantise(errors) @ array.weights)
    assert torch.allclose(array.read_transposed(errors), shared, atol=1e-12)
    array.periphery = dataclasses.replace(periphery, dac_transposed=own[0], adc_transposed=own[1])
    expected = own[1].quantise(own[0].quantise(errors) @ array.weights)
    assert torch.allclose(array.read_transposed(errors), expected, atol=1e-12)


def test_error_of_a_calibrated_read_is_within_half_steps():
    array, signal, errors = silver_array(), normal(40, 9, seed=1), normal(40, 12, seed=2)
    exact, exact_back = array.read(signal), array.read_transposed(errors)
    periphery = Periphery(dac=Converter(bits=8), adc=Converter(bits=9))
    array.periphery = periphery = periphery.calibrated(array.weights, signal, errors)
    for transposed, error in (
        (False, array.read(signal) - exact),
        (True, array.read_transposed(errors) - exact_back),
    ):
        dac, adc = periphery.converters(transposed=transposed)
        reach = array.weights.abs().sum(0 if transposed else 1)
        # an output pushed past the ADC's range by the DAC's rounding is clipped by as much
        assert bool((error.abs() <= dac.bound / 254 * reach + adc.bound / 510 + 1e-12).all())


def test_adc_noise_adds_to_every_output():
    count, deviation = 20_000, 0.05
    array = silver_array(periphery=Periphery(adc=Converter(noise=deviation)))
    signal = normal(1, 9, seed=1)
    error = array.read(signal.expand(count, -1)) - signal @ array.weights.T
    assert float(error.var()) == pytest.approx(deviation**2, rel=4 * math.sqrt(2 / error.numel()))


def test_same_seed_same_bits_and_state():
    periphery = Periphery(
        dac=Converter(bits=6, bound=2.0, noise=0.1), adc=Converter(bits=6, stochastic=True)
    )
    signal = normal(5, 9, seed=1)
    one, two = silver_array(periphery=periphery), silver_array(periphery=periphery)
    assert torch.equal(one.read(signal), two.read(signal))
    saved = one.state_dict()
    first = one.read(signal)
    assert not torch.equal(first, one.read(signal))
    one.load_state_dict(saved)
    assert torch.equal(one.read(signal), first)


# --- I-V curve


def test_sinh_curve_of_the_cells():
    a, full = 2.0, 1.5
    periphery = Periphery(dac=Converter(bound=full), iv_nonlinearity=a)
    signal = torch.linspace(-full, full, 31, dtype=torch.float64)[None]
    found = periphery.curve(signal)(periphery.drive(signal))
    expected = [full * math.sinh(a * x / full) / math.sinh(a) for x in signal[0].tolist()]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    ends = found[0, 0], found[0, -1]  # conductances are those measured at full read voltage
    assert [float(x) for x in ends] == pytest.approx([-full, full], rel=1e-14)
    array = silver_array(1, 31, periphery=periphery)
    assert torch.allclose(array.read(signal), found @ array.weights.T, atol=1e-13)


def test_a_faint_curve_is_ohmic():
    signal = normal(3, 9).clamp(-2, 2)
    found = Periphery(dac=Converter(bound=2.0), iv_nonlinearity=1e-5).curve(signal)(signal)
    assert torch.allclose(found, signal, rtol=1e-9)


def test_the_slope_of_the_curve_is_its_derivative():
    signal = normal(3, 9).requires_grad_()
    curve = Periphery(iv_nonlinearity=3.0).curve(signal.detach())
    curve(signal).sum().backward()
    assert torch.allclose(curve.slope(signal.detach()), signal.grad, rtol=1e-12)


# --- wires in an array


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pair", ["differential", "reference"])
def test_reads_lose_voltage_along_the_wires(dtype, pair):
    ohms = 2e4  # against nanosiemens
    weights = 0.2 * normal(12, 9, dtype=dtype)
    array = Crossbar.from_weights(
        weights, device=SILVER, pair=pair, wires=Wires(wire_resistance=ohms)
    )
    for transposed, read in ((False, array.read), (True, array.read_transposed)):
        signal = normal(70, 12 if transposed else 9, seed=1, dtype=dtype)
        plus, minus = (
            line_currents(g.double(), signal.double(), ohms, transposed=transposed)
            for g in array.conductance
        )
        gain = {"differential": 1.0, "reference": 2.0}[pair] / SILVER.span
        found = read(signal)
        assert found.dtype == dtype
        assert torch.allclose(found.double(), (plus - minus) * gain, rtol=1e-5, atol=1e-6)
        ideal = signal @ (array.weights if transposed else array.weights.T)
        assert float((found - ideal).abs().max()) > 1e-3


@pytest.mark.parametrize("nonlinearity", [0.5, 3.0])
def test_what_arrives_at_a_cell_goes_through_the_curve(nonlinearity):
    # one row of cells on ideal bit lines: every cell is in series with its part of the word line
    ohms = 1e7
    array = silver_array(
        1,
        9,
        periphery=Periphery(dac=Converter(bound=2.0), iv_nonlinearity=nonlinearity),
        wires=Wires(wire_resistance=(ohms, 0.0)),
    )
    signal = normal(4, 9).clamp(-2.0, 2.0)
    sums = torch.zeros(4, 1, dtype=torch.float64)
    for sign, siemens in zip((1.0, -1.0), array.conductance[:, 0], strict=True):
        # bisection of u + ohms G f(u) = V
        low, high = torch.full_like(signal, -2.0), torch.full_like(signal, 2.0)
        for _ in range(60):
            middle = (low + high) / 2.0
            f = 2.0 * torch.sinh(nonlinearity * middle / 2.0) / math.sinh(nonlinearity)
            above = middle + ohms * siemens * f > signal
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        sums += sign * (siemens * f).sum(1, keepdim=True) / SILVER.span
    assert torch.allclose(array.read(signal), sums, rtol=1e-8, atol=1e-11)
    # and not what is driven, less what ohmic cells would lose
    array.periphery = Periphery(dac=Converter(bound=2.0))
    assert float((array.read(signal) - sums).abs().max()) > 0.01


def test_wire_solutions_last_until_conductances_or_wires_change():
    array = silver_array(wires=Wires(wire_resistance=1e4, method="direct"))
    signal = normal(5, 9, seed=1)

    def expected():
        fresh = silver_array(wires=array.wires)
        fresh.load_state_dict(array.state_dict())
        return fresh.read(signal)

    first = array.read(signal)
    assert torch.equal(array.read(signal), first)
    array.apply(LowRank(normal(12, 1), torch.ones(1), normal(9, 1)), learning_rate=0.1)
    assert not torch.allclose(array.read(signal), first, atol=1e-3)
    assert torch.equal(array.read(signal), expected())
    array.wires = Wires(wire_resistance=5e4)
    assert torch.allclose(array.read(signal), expected(), atol=1e-12)
    array.wires = None
    assert torch.allclose(array.read(signal), signal @ array.weights.T, atol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_reads_are_the_same_before_and_after_wires_are_solved_directly(transposed):
    array = silver_array(wires=Wires(wire_resistance=1e4))
    read = array.read_transposed if transposed else array.read
    signal = normal(1, 12 if transposed else 9, seed=1)
    iterated = read(signal)
    assert not any(solver.is_direct for solver in array._wired.solvers)
    read(signal.expand(1000, -1))  # enough inputs to make it worth while
    assert all(solver.is_direct for solver in array._wired.solvers)
    assert torch.allclose(read(signal), iterated, rtol=1e-9, atol=1e-12)


def test_write_noise_below_zero_is_an_open_cell():
    noisy = dataclasses.replace(SILVER, write_noise=1.0)
    array = silver_array(device=noisy, wires=Wires(wire_resistance=1.0))
    array.pulse(torch.ones(2, 12, 9, dtype=torch.float64))
    assert float(array.conductance.min()) < 0.0
    assert bool(torch.isfinite(array.read(normal(2, 9))).all())


def test_tiles_have_shorter_wires():
    weights, signal = 0.2 * normal(16, 16), normal(4, 16, seed=1)
    wires = Wires(wire_resistance=2e4)
    whole = Crossbar.from_weights(weights, device=SILVER, wires=wires)
    tiled = TiledCrossbar.from_weights(weights, tile=(4, 4), device=SILVER, wires=wires)
    ideal = signal @ weights.T
    assert (tiled.read(signal) - ideal).norm() < 0.5 * (whole.read(signal) - ideal).norm()


# --- bad input


@pytest.mark.parametrize(
    ("samples", "quantile", "message"),
    [
        (torch.zeros(3), 1.0, "samples must not be 0"),
        (torch.empty(0), 1.0, "samples must have at least one"),
        (torch.tensor([1.0, math.nan]), 1.0, "samples must be finite"),
        (torch.ones(3), 0.0, "quantile must be"),
        (torch.ones(3), 1.5, "quantile must be"),
    ],
)
def test_bad_calibration(samples, quantile, message):
    with pytest.raises(ValueError, match=message):
        Converter(bits=8).calibrated(samples, quantile=quantile)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Converter(stochastic=True), "stochastic must be False without bits"),
        (lambda: Periphery(iv_nonlinearity=21.0), "iv_nonlinearity must be"),
        (lambda: Converter(noise=0.1).add_noise(torch.zeros(1, 1)), "generator must be given"),
        (
            lambda: Converter(bits=4, bound=1.0, stochastic=True).quantise(torch.zeros(1, 1)),
            "generator must be given",
        ),
    ],
)
def test_bad_converters(call, message):
    with pytest.raises(ValueError, match=message):
        call()
