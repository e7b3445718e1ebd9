"""Codings: rounding, coincidences, phases, half-select; pair conventions; write-verify."""

import dataclasses
import math

import pytest
import torch

from tests.crossbar.arrays import outer_update, zeros
from toolkit.crossbar import Coincidence, Crossbar, WholePulses, get_device
from toolkit.crossbar.cells import Cells
from toolkit.crossbar.pairs import Pair
from toolkit.crossbar.pulses import Wanted, half_selected, sign_phases
from toolkit.lowrank import LowRank

IDEAL = get_device("ideal")
SILVER = get_device("Ag:a-Si")
FINE = dataclasses.replace(IDEAL, levels_up=1e6, levels_down=1e6)
UNEVEN = dataclasses.replace(IDEAL, levels_up=1000, levels_down=2000)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def lies_within(found, expected, variance, repeats):
    """Whether the mean of repeated counts is the expected one, entry by entry."""
    error = (variance / repeats).sqrt().clamp(min=1e-12)
    return float(((found - expected) / error).abs().max()) < 4.5


class Counter:
    """Cells that tell how many signed pulses each outer product gave them."""

    device = FINE

    def __init__(self, *shape):
        start = torch.full(shape, 0.5, dtype=torch.float64)
        self.cells = Cells(start, self.device, torch.Generator().manual_seed(0))

    def issued(self, coding, left, right, levels):
        """Of one outer product, (polarities, m, n)."""
        cells = self.cells
        cells.state.fill_(0.5)
        cells.pulse_count.zero_()
        wanted = Wanted(left[:, None], right[:, None], *levels), cells.generator
        if cells.is_compiled:
            (written,) = cells.write(coding.demand(*wanted))
        else:
            written = cells.pulse(next(coding.counts(*wanted)))
        signed = ((cells.state - 0.5) * self.device.levels_up).round()
        assert torch.equal(signed.abs().int(), cells.pulse_count)
        assert written.sums[:2] == [float(signed.sum()), float(signed.abs().sum())]
        assert written.longest == (max(float(signed.max()), 0.0), max(-float(signed.min()), 0.0))
        return signed

    def mean(self, repeats, *demand):
        return torch.stack([self.issued(*demand) for _ in range(repeats)]).mean(0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("pair", ["differential", "one-sided", "reference"])
@pytest.mark.parametrize("scale", [1.0, 0.03], ids=["many", "few"])
def test_rounded_outer_products_have_the_wanted_mean(pair, scale):
    # pulses wanted of each polarity from the conventions of the pairs, cell by cell
    up, down = UNEVEN.levels_up, UNEVEN.levels_down
    left, right = scale * vector(0.9, -0.3, 0.0), vector(3e-3, -1e-3)
    change = torch.outer(left, right)
    rise, fall = change.clamp(min=0.0), change.clamp(max=0.0)
    wanted = {
        "differential": [up * rise + down * fall, -down * rise - up * fall],
        "one-sided": [2 * up * rise, -2 * up * fall],
        "reference": [up * rise + down * fall],
    }[pair]
    wanted, counter = torch.stack(wanted), Counter(len(wanted), 3, 2)
    demand = WholePulses(), left, right, Pair(pair, 1.0).levels(UNEVEN)
    once = counter.issued(*demand)
    assert bool(((once == wanted.floor()) | (once == wanted.ceil())).all())
    fraction = wanted - wanted.floor()
    assert lies_within(counter.mean(1500, *demand), wanted, fraction * (1.0 - fraction), 1500)


@pytest.fixture(scope="module", params=[0.029, 0.5, 0.9], ids=["rare", "mixed", "dense"])
def hits(request):
    """Hits of many outer products on cells of chances up to the given one, and the chances.

    Below 0.03 the compiled loop jumps from hit to hit, above it looks at every cell.
    """
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(size, generator=generator).double() for size in (24, 30))
    left[5], right[7] = 0.0, 0.0
    left *= request.param / (left.abs().max() * right.abs().max())
    counter, levels = Counter(2, 24, 30), ((1.0, -1.0), (1.0, -1.0))
    fields = [counter.issued(WholePulses(), left, right, levels).float() for _ in range(3000)]
    wanted = torch.outer(left, right).float()
    return torch.stack(fields), torch.stack([wanted, -wanted])


def test_every_cell_is_hit_with_its_chance(hits):
    fields, wanted = hits
    chance = wanted.abs()
    assert bool((fields * wanted >= 0.0).all())  # of the right sign
    error = (chance * (1.0 - chance) / len(fields)).sqrt()
    misses = (fields.mean(0).abs() - chance) / error.clamp(min=1e-9)
    misses = misses[chance * len(fields) > 20.0]  # then nearly normal
    assert float(misses.abs().max()) < 4.5
    squares = misses.square()
    assert abs(float(squares.mean()) - 1.0) < 5.0 * (2.0 / len(squares)) ** 0.5


@pytest.mark.parametrize("dims", [(3,), (2,), (1,), (2, 3)], ids=["row", "column", "pair", "all"])
def test_hits_are_independent(hits, dims):
    # the variance of a sum of independent hits is the sum of their variances
    fields, wanted = hits
    sums = fields.abs().sum(dims)
    chance = wanted.abs()
    expected = (chance * (1.0 - chance)).sum([dim - 1 for dim in dims])
    used = expected > 0.02
    ratios = (sums.var(0) / expected)[used]
    spread = (2.0 / len(fields) + 1.0 / (len(fields) * expected[used])).sqrt()
    assert float(((ratios - 1.0) / spread).abs().max()) < 4.5


@pytest.mark.parametrize("half_select", [0.0, 0.01])
def test_outer_products_write_what_the_same_pulses_write(half_select):
    arrays = [
        Crossbar.from_weights(torch.zeros(300, 200), device=UNEVEN, seed=1, half_select=half_select)
        for _ in range(2)
    ]
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.randn(size, 1, generator=generator) for size in (300, 200))
    update = LowRank(left, torch.tensor([1e-5]), right)
    arrays[0].apply(update, learning_rate=1.0)
    count = arrays[0].pulse_count
    assert 0 < int(count.sum()) < 0.05 * count.numel()
    rising = -update.dense() > 0.0
    arrays[1].pulse(torch.where(torch.stack([rising, ~rising]), count, -count))
    assert torch.allclose(arrays[0].weights, arrays[1].weights, atol=1e-6)


def test_all_ranks_at_once_write_what_one_after_another_writes():
    # noiseless cells and deterministic rounding: nothing is left to chance
    device = dataclasses.replace(SILVER, cycle_to_cycle=0.0)
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.randn(size, 3, generator=generator).double() for size in (150, 130))
    update = LowRank(left, torch.tensor([0.1, 0.08, 0.05]).double(), right)
    coding = WholePulses("deterministic")
    one, two = (
        Crossbar.from_weights(zeros(150, 130), device=device, coding=coding, seed=1)
        for _ in range(2)
    )
    one.apply(update, learning_rate=1.0)
    for rank in range(3):
        some = slice(rank, rank + 1)
        part = LowRank(left[:, some], update.sigma[some], right[:, some])
        two.apply(part, learning_rate=1.0)
    assert one.pulses > 1000 and torch.equal(one.weights, two.weights)
    assert torch.equal(one.pulse_count, two.pulse_count) and one.cost() == two.cost()


@pytest.mark.parametrize("coding", [WholePulses(), Coincidence()], ids=["whole", "coincidence"])
@pytest.mark.parametrize("rate", [1.0, 300.0], ids=["few", "many"])
def test_writes_are_the_same_bits_in_any_number_of_threads(coding, rate):
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(size, 4, generator=generator) for size in (400, 500))
    update = LowRank(left, torch.full((4,), 2e-4), right)
    threads, arrays = torch.get_num_threads(), {}
    for count, seed in ((1, 0), (2, 0), (3, 0), (1, 1)):
        torch.set_num_threads(count)
        array = Crossbar.from_weights(
            torch.zeros(400, 500), device=SILVER, seed=seed, coding=coding
        )
        array.apply(update, learning_rate=rate)
        array.apply(update, learning_rate=3.0 * rate)
        arrays[count, seed] = array
    torch.set_num_threads(threads)
    first = arrays.pop((1, 0))
    for (_, seed), array in arrays.items():
        assert torch.equal(array.weights, first.weights) == (seed == 0)
        assert (array.cost() == first.cost()) == (seed == 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("bit_length", "management", "adapt"),
    [(1, True, False), (7, True, True), (31, False, False), (64, True, True), (100, True, False)],
)
def test_coincidences_are_binomial(bit_length, management, adapt):
    # as many slots as the train has, each hit with the chance of the wanted number over them
    coding = Coincidence(bit_length, management, adapt)
    left, right = vector(0.9, -0.3, 0.1), vector(0.8, -0.4)
    full, repeats = 0.8 * bit_length, 2000
    counter, levels = Counter(2, 3, 2), ((full, -0.5 * full), (0.5 * full, -full))
    counts = [counter.issued(coding, left, right, levels) for _ in range(repeats)]
    change = torch.outer(left, right)
    rising = torch.stack([change > 0.0, change < 0.0])
    wanted = torch.where(rising, full, 0.5 * full) * change.abs()
    length = torch.full_like(wanted, bit_length)
    if adapt:  # no more slots than the largest wanted number of the direction
        length = torch.where(rising, math.ceil(0.72 * full), math.ceil(0.36 * full))
    variance = wanted * (1.0 - wanted / length)
    signed = torch.stack(counts) * torch.stack([change, -change]).sign()
    assert float(signed.min()) >= 0.0
    assert lies_within(signed.mean(0), wanted, variance, repeats)
    error = variance * (2.0 / repeats + 1.0 / (repeats * variance)).sqrt()
    assert float(((signed.var(0) - variance) / error).abs().max()) < 4.5


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("management", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(1e-4, 1.0), (3.0, 0.004), (0.4, 0.5)])
def test_the_share_of_saturated_streams_is_the_closed_form(rows, columns, management, adapt):
    generator = torch.Generator().manual_seed(0)
    left = rows * (1.0 + torch.randn(5, generator=generator, dtype=torch.float64))
    right = columns * torch.rand(8, generator=generator, dtype=torch.float64)
    full = 200.0
    coding = Coincidence(update_management=management, adapt_length=adapt)
    counter, levels = Counter(1, 5, 8), ((full,), (full,))
    issued = [counter.issued(coding, left, right, levels)[0].abs().sum() for _ in range(600)]
    counts = torch.stack(issued).double()
    wanted = full * float(torch.outer(left, right).abs().sum())
    share = coding.written_share(left, right, full)
    error = float(counts.std()) / len(counts) ** 0.5
    assert abs(float(counts.mean()) - share * wanted) < 4.5 * error + 1e-9
    most = full * float(torch.outer(left, right).abs().max())
    if management and most <= 31:
        assert share == pytest.approx(1.0)
    if not management and rows == 1e-4:
        assert share < (0.2 if adapt else 0.9)


def test_the_share_of_trains_by_hand():
    # BL 4, N 100, no management: rows fire always or with chance 0.05, columns with 0.5 or always
    coding = Coincidence(bit_length=4, update_management=False, adapt_length=False)
    left, right = torch.tensor([3.0, -0.01]), torch.tensor([0.1, 2.0])
    share = coding.written_share(left, right, 100.0)
    assert share * 100.0 * 3.01 * 2.1 == pytest.approx(4 * 1.05 * 1.5)
    assert coding.written_share(0 * left, right, 100.0) == 1.0


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("chance", [0.025, 0.5], ids=["rare", "dense"])
def test_ranks_draw_their_own_random_numbers(chance):
    # the same outer product twice: counts ~ Binomial(2, chance), noise of two draws a hit each
    device = dataclasses.replace(FINE, cycle_to_cycle=1e-3)
    counts, noises = [], []
    for share in (chance, 1.0):
        array = Crossbar.from_weights(zeros(100, 400), device=device, pair="reference")
        left, right = (torch.ones(size, 2).double() for size in (100, 400))
        update = LowRank(-2.0 * share / 1e6 * left, torch.ones(2).double(), right)
        array.apply(update, learning_rate=1.0)
        counts.append(array.pulse_count[0].double())
        noises.append(array.weights / 2 / 1e-3)
    expected = vector((1 - chance) ** 2, 2 * chance * (1 - chance), chance**2)
    found = vector(*(float((counts[0] == n).double().mean()) for n in range(3)))
    assert lies_within(found, expected, expected * (1 - expected), 40_000)
    assert int(counts[1].min()) == 2
    assert abs(float(noises[1].var()) - 2.0) < 4.5 * 2.0 * (2.0 / 40_000) ** 0.5


@pytest.mark.usefixtures("way")
def test_coincidence_moves_weights_the_right_way():
    for pair in ("differential", "reference", "one-sided"):
        array = Crossbar.from_weights(
            zeros(30, 20), device=UNEVEN, coding=Coincidence(), pair=pair, seed=1
        )
        left, right = torch.linspace(-1, 1, 30), 0.05 * torch.linspace(-1, 1, 20)
        for _ in range(20):
            array.apply(outer_update(left, right), learning_rate=0.2)
        wanted = 4.0 * torch.outer(left, right).double()
        slope = float((array.weights * wanted).sum() / wanted.square().sum())
        assert slope == pytest.approx(1.0, abs=0.03), pair


def test_coincidence_refuses_a_dense_write():
    array = Crossbar.from_weights(zeros(3, 2), device=IDEAL, coding=Coincidence())
    with pytest.raises(ValueError, match="rank-sequential"):
        array.apply(outer_update([1, 1, 1], [1, 1]), learning_rate=0.1, scheme="rank-sum")
    with pytest.raises(ValueError, match="bit_length"):
        Coincidence(bit_length=0)
    with pytest.raises(ValueError, match="rounding"):
        WholePulses("nearest")


def test_zero_update_pulses_nothing():
    for coding in (WholePulses(), Coincidence()):
        array = Crossbar.from_weights(zeros(30, 20), device=SILVER, coding=coding)
        array.apply(outer_update(torch.zeros(30), torch.ones(20)), learning_rate=1.0)
        assert int(array.pulse_count.sum()) == 0 and float(array.weights.abs().max()) == 0.0


def test_sign_phases():
    left = torch.tensor([[1.0, 1.0, 1.0, 0.0], [-1.0, 2.0, -1.0, 0.0]])
    right = torch.tensor([[1.0, 1.0, 2.0, 1.0], [-1.0, 2.0, 3.0, 1.0]])
    assert sign_phases(left, right) == [(2, 2), (1, 0), (1, 1), (0, 0)]


def test_half_selected_against_a_loop():
    pulses = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(0)).double()
    expected = torch.zeros_like(pulses)
    for k, i, j in pulses.nonzero().tolist():
        for other in range(5):
            expected[k, i, other] += pulses[k, i, j] * (other != j)
        for other in range(4):
            expected[k, other, j] += pulses[k, i, j] * (other != i)
    assert torch.equal(half_selected(pulses), expected)


def test_half_select_disturbs_the_neighbours_only():
    array = Crossbar.from_weights(zeros(4, 5), device=IDEAL, half_select=0.1)
    pulses = torch.zeros(2, 4, 5)
    pulses[0, 1, 2] = 3.0
    array.pulse(pulses)
    moved = array.weights * IDEAL.levels_up
    expected = zeros(4, 5)
    expected[1], expected[:, 2] = 0.3, 0.3
    expected[1, 2] = 3.0
    assert torch.allclose(moved, expected)


def test_pulse_takes_whole_numbers():
    array = Crossbar.from_weights(zeros(4, 5), device=IDEAL, pair="reference")
    with pytest.raises(ValueError, match="whole"):
        array.pulse(torch.full((2, 4, 5), 0.5))
    with pytest.raises(ValueError, match="reference"):
        array.pulse(torch.ones(2, 4, 5))


def test_reference_pairs_move_one_cell():
    weights = torch.linspace(-0.5, 0.9, 12, dtype=torch.float64).reshape(3, 4)
    device = dataclasses.replace(get_device("EcRam"), step_noise=0.0)
    array = Crossbar.from_weights(weights, device=device, pair="reference")
    assert torch.allclose(array.weights, weights, atol=1e-12)
    span = device.g_max - device.g_min
    difference = array.conductance[0] - array.conductance[1]
    assert torch.allclose(array.weights, 2.0 * difference / span)
    fixed = array.conductance[1]
    array.apply(outer_update([1.0, -1.0, 0.5], [0.1, -0.1, 0.2, 0.0]), learning_rate=1.0)
    assert torch.equal(array.conductance[1], fixed)
    assert int(array.pulse_count[1].sum()) == 0 and int(array.pulse_count[0].sum()) > 0
    signal = torch.ones(2, 4, dtype=torch.float64)
    assert torch.allclose(array.read(signal), signal @ array.weights.T)


@pytest.mark.parametrize("name", ["ReRamSB", "ReRamES"])
def test_reference_is_each_cells_symmetry_point(name):
    device = dataclasses.replace(
        get_device(name), cycle_to_cycle=0.0, step_noise=0.0, write_noise=0.0
    )
    array = Crossbar.from_weights(zeros(30, 30), device=device, pair="reference", seed=2)
    for sign in (1.0, -1.0) * 400:
        pulses = torch.zeros(2, 30, 30)
        pulses[0] = sign
        array.pulse(pulses)
    reference = (array.conductance[1] - device.g_min) / device.span
    has_none = (reference - 0.5).abs() < 1e-9  # cells without one: mid-range
    assert 0 <= int(has_none.sum()) < 20
    inside = (reference > 0.0) & (reference < 1.0) & ~has_none
    assert float(array.weights[inside].abs().max()) < 0.02  # a symmetric cell stays at weight 0
    assert float(reference[inside].std()) > 0.003


def test_one_sided_pairs_only_potentiate_and_are_refreshed():
    array = Crossbar.from_weights(zeros(3, 4), device=IDEAL, pair="one-sided")
    update = outer_update([1.0, -1.0, 0.5], [0.04, -0.04, 0.02, 0.0])
    down = outer_update([-1.0, 1.0, -0.5], [0.04, -0.04, 0.02, 0.0])
    start = array.conductance
    array.apply(update, learning_rate=1.0)
    assert bool((array.conductance >= start - 1e-18).all())
    assert torch.allclose(array.weights, update.dense() * -1.0, atol=2.1 / IDEAL.levels_up)
    for _ in range(40):
        array.apply(down, learning_rate=1.0)
        array.apply(update, learning_rate=1.0)
    assert float(array.conductance.max()) <= IDEAL.g_min + 0.9001 * (IDEAL.g_max - IDEAL.g_min)
    assert torch.allclose(array.weights, update.dense() * -1.0, atol=20 / IDEAL.levels_up)
    lower = array.conductance.amin(0)
    assert bool((lower > IDEAL.g_min).any())  # pairs do fill up between refreshes


@pytest.mark.parametrize("name", ["ideal", "Ag:a-Si", "PCMO", "GST PCM", "EcRam"])
def test_write_verify_reaches_the_tolerance(name):
    device = dataclasses.replace(get_device(name), cycle_to_cycle=0.005, step_noise=0.0)
    generator = torch.Generator().manual_seed(0)
    weights = 1.6 * torch.rand(20, 20, generator=generator, dtype=torch.float64) - 0.8
    array = Crossbar.from_weights(zeros(20, 20), device=device, seed=1)
    report = array.program(weights, tolerance=0.02, max_pulses=2000)
    assert report.within_tolerance > 0.99
    assert float((array.weights - weights).abs().max()) < 0.1
    assert report.pulses == int(array.pulse_count.sum())


def test_write_verify_keeps_its_budget():
    array = Crossbar.from_weights(zeros(5, 5), device=SILVER, seed=1)
    report = array.program(zeros(5, 5) + 0.9, tolerance=1e-4, max_pulses=7)
    assert int(array.pulse_count.max()) == 7
    assert report.within_tolerance < 0.5
    with pytest.raises(ValueError, match="tolerance"):
        array.program(zeros(5, 5), tolerance=0.0)


@pytest.mark.parametrize("pair", ["differential", "one-sided", "reference"])
def test_write_verify_reports_weights_out_of_reach_as_missed(pair):
    array = Crossbar.from_weights(zeros(5, 5), device=get_device("ideal"), pair=pair)
    report = array.program(zeros(5, 5) + 1.5, tolerance=0.01)
    torch.testing.assert_close(array.weights, zeros(5, 5) + 1.0, atol=0.02, rtol=0.0)
    assert report.within_tolerance <= 0.5 and report.rms_error > 0.2
    assert report.pulses == int(array.pulse_count.sum()) <= 2 * 25 * 1000
