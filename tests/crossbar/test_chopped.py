"""Chopped Tiki-Taka, AGAD, residual learning: closed forms, and the drift of the zero point."""

import dataclasses

import pytest
import torch

from tests.crossbar.arrays import normals
from tests.crossbar.test_tiki_taka import FINE, SILVER, SOFT, a_change, regression_error
from toolkit.crossbar import AGAD, BufferedTikiTaka, ChoppedTikiTaka, Crossbar, ResidualLearning
from toolkit.lowrank import LowRank

RATE = 0.25


def step_by_step(array, steps):
    """Apply updates, and yield the array's signs of each and the change it asked for."""
    for step in range(steps):
        signs, update = array._signs.double(), a_change(step)
        array.apply(update, learning_rate=0.5)
        yield step, signs, -0.5 * update.dense() * signs


def test_signs_of_the_chopper_are_taken_back():
    """On exact cells: A gets c times the change, and the buffer c times A."""
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    array = ChoppedTikiTaka.from_weights(zeros, device=FINE, transfer_rate=RATE, period=2, seed=1)
    fast, total, seen = torch.zeros_like(zeros), torch.zeros_like(zeros), set()
    for step, signs, change in step_by_step(array, 30):
        column = step % 3
        fast += change
        total[:, column] += RATE * signs[column] * fast[:, column]
        seen.add(tuple(signs.tolist()))
        torch.testing.assert_close(array.fast.weights, fast, atol=1e-5, rtol=0)
        found = array.slow.weights + array.slow.waiting
        torch.testing.assert_close(found, total, atol=1e-5, rtol=0)
    assert len(seen) > 2


def test_without_changes_of_sign_it_is_tiki_taka_v2():
    knobs = {"device": FINE, "transfer_rate": RATE}
    arrays = [
        BufferedTikiTaka.from_weights(torch.zeros(4, 3), **knobs),
        ChoppedTikiTaka.from_weights(torch.zeros(4, 3), period=10**9, **knobs),
    ]
    for step in range(30):
        for array in arrays:
            array.apply(a_change(step), learning_rate=0.1)
    torch.testing.assert_close(arrays[0].slow.weights, arrays[1].slow.weights, atol=1e-5, rtol=0)


def test_signs_change_once_in_a_period_on_average():
    array = ChoppedTikiTaka.from_weights(torch.zeros(2, 40), device=FINE, period=5, columns=40)
    for _ in range(100):
        array._found(torch.arange(40), torch.zeros(40, 2))
    assert int(array._reads[1].sum()) == pytest.approx(40 * 100 / 5, rel=0.1)


def test_agad_subtracts_the_mean_of_the_period_before():
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    array = AGAD.from_weights(zeros, device=FINE, transfer_rate=RATE, period=10)
    fast, total = torch.zeros_like(zeros), torch.zeros_like(zeros)
    mean, past = torch.zeros_like(zeros), torch.zeros_like(zeros)
    for step, signs, change in step_by_step(array, 100):
        column, read = step % 3, step // 3
        assert signs[column] == (-1.0) ** (read // 10)
        fast += change
        if read % 10 == 0:
            past[:, column] = mean[:, column]
        if read >= 10:
            above = fast[:, column] - past[:, column]
            total[:, column] += RATE * signs[column] * above
        mean[:, column] = 0.5 * mean[:, column] + 0.5 * fast[:, column]  # 5 / period
        found = array.slow.weights + array.slow.waiting
        torch.testing.assert_close(found, total, atol=1e-4, rtol=0)
    assert float(total.abs().max()) > 0.05


def drifted(kind, spread, **knobs):
    """Weights after 400 updates that cancel on average, and what the references missed."""
    array = kind.from_weights(
        torch.zeros(3, 8), device=SOFT, columns=8, transfer_rate=0.002, seed=3,
        reference_spread=spread, **knobs,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    for _ in range(400):
        left, right = (torch.randn(size, 2, generator=generator) for size in (3, 8))
        array.apply(LowRank(left, torch.ones(2), right), learning_rate=0.05)
    fast = array.fast
    return array.slow.weights, 2.0 * (fast._pair.reference(fast._cells) - fast._reference)[0]


def test_the_zero_point_drifts_unless_signs_change():
    """What references miss is transferred at every read; the source's methods do without them.

    Cells come to their symmetry points, so plain Tiki-Taka v2 adds transfer_rate times the offset
    at each of 400 reads, less while they are on their way.
    """

    def share(kind, **knobs):
        weights, offset = drifted(kind, 0.1, **knobs)
        return float((weights * offset).sum() / offset.square().sum()) / (0.002 * 400)

    assert 0.6 < share(BufferedTikiTaka) < 1.0
    assert abs(share(ChoppedTikiTaka)) < 0.15
    assert abs(share(AGAD)) < 0.15


def test_agad_learns_with_any_reference_and_tiki_taka_v2_does_not():
    zeros, knobs = torch.zeros(3, 8), {"device": SOFT, "every": 2}

    def error(kind, spread, rate, **own):
        array = kind.from_weights(
            zeros, transfer_rate=rate, reference_spread=spread, **knobs, **own
        )
        return regression_error(array, 0.03)

    exact, off = (error(AGAD, spread, 0.1, period=5) for spread in (0.0, 0.2))
    assert off < 2.0 * exact
    exact, off = (error(BufferedTikiTaka, spread, 0.03) for spread in (0.0, 0.2))
    assert off > 20.0 * exact


@pytest.mark.parametrize(("kind", "words"), [(ChoppedTikiTaka, 2 * 8), (AGAD, 2 * 8 + 2 * 12)])
def test_a_state_comes_back_with_its_signs(kind, words):
    def made():
        return kind.from_weights(
            normals(4, 3, scale=0.1), device=SILVER, memory_rank=2, period=2, seed=2
        )

    array = made()
    for step in range(9):
        array.apply(a_change(step), learning_rate=3.0)
    state, other = array.state_dict(), made()
    other.load_state_dict(state)
    for each in (array, other):
        for step in range(9):
            each.apply(a_change(step), learning_rate=3.0)
    assert torch.equal(array.weights, other.weights) and array.words == words
    for name in {"reads", "means"} & set(state):
        with pytest.raises(ValueError, match=f"{name} of the state"):
            other.load_state_dict({**state, name: state[name][:, :2]})


def test_a_chopper_hides_the_fast_array():
    with pytest.raises(ValueError, match="gamma must be 0 with a chopper"):
        ChoppedTikiTaka.from_weights(torch.zeros(4, 3), device=SOFT, gamma=0.5)


def test_a_spread_of_references_is_as_asked():
    zeros = torch.zeros(60, 50)
    array = Crossbar.from_weights(zeros, device=FINE, pair="reference", reference_spread=0.1)
    assert float(array._reference.std()) == pytest.approx(0.1, rel=0.05)
    assert float(array.weights.abs().max()) < 1e-6


@pytest.mark.parametrize("arrays", [2, 3, 4])
def test_a_chain_adds_up_and_passes_on(arrays):
    """On exact cells; the finest array takes the update, then each takes a share of the next."""
    weights, update = normals(4, 3, scale=0.1), a_change()
    chain = ResidualLearning.from_weights(
        weights, device=FINE, arrays=arrays, gamma=0.5, columns=3, transfer_rate=RATE
    )
    parts = [torch.zeros_like(weights) for _ in range(arrays - 1)] + [weights.clone()]
    for _ in range(3):
        chain.apply(update, learning_rate=0.5)
        parts[0] -= 0.5 * update.dense()
        finer = torch.zeros_like(weights)
        for index in range(1, arrays):
            finer = parts[index - 1] + 0.5 * finer
            parts[index] += RATE * finer
    for part, expected in zip(chain.parts, parts, strict=True):
        torch.testing.assert_close(part.weights, expected, atol=1e-5, rtol=0)
    total = sum(0.5**index * part for index, part in enumerate(reversed(parts)))
    torch.testing.assert_close(chain.weights, total, atol=1e-5, rtol=0)
    signal = normals(5, 3, seed=4)
    torch.testing.assert_close(chain.read(signal), signal @ total.T, atol=1e-4, rtol=0)
    chain.gamma = 0.25
    total = sum(0.25**index * part for index, part in enumerate(reversed(parts)))
    torch.testing.assert_close(chain.weights, total, atol=1e-5, rtol=0)


def test_a_chain_of_coarse_cells_learns_what_one_array_cannot():
    """Cells of 10 levels, as in Li et al. (2025)."""
    coarse = dataclasses.replace(SOFT, levels_up=10, levels_down=10)
    zeros = torch.zeros(3, 8)
    plain = [
        regression_error(Crossbar.from_weights(zeros, device=coarse, pair="reference"), rate)
        for rate in (0.01, 0.03, 0.1)  # the best and its neighbours
    ]
    chain = ResidualLearning.from_weights(zeros, device=coarse, transfer_rate=0.01)
    assert regression_error(chain, 0.1) < 0.5 * min(plain)
