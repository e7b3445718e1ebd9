"""Updates that wait in a digital memory: against a hand-written loop and closed forms."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.crossbar.arrays import normals
from toolkit.crossbar import PAIRS, Crossbar, MixedPrecision, get_device
from toolkit.lowrank import LowRank

# straight, without noise: a pulse is 1/levels of the range
STRAIGHT = dataclasses.replace(get_device("ideal"), levels_up=50, levels_down=40)


def an_update(rows, columns, rank=2, seed=0, scale=1.0):
    left, right = normals(rows, rank, seed=seed), normals(columns, rank, seed=seed + 1)
    return LowRank(scale * left, torch.ones(rank, dtype=left.dtype), right)


def made(pair="differential", memory_rank=None, device=STRAIGHT, rows=6, columns=5):
    return MixedPrecision.from_weights(
        torch.zeros(rows, columns, dtype=torch.float64),
        device=device,
        pair=pair,
        memory_rank=memory_rank,
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_the_crossbar_follows_the_sum_to_within_a_pulse(pair):
    array, total = made(pair), torch.zeros(6, 5, dtype=torch.float64)
    for seed in range(30):
        update = an_update(6, 5, seed=seed)
        array.apply(update, learning_rate=0.1)
        total -= 0.1 * update.dense()
    # nothing is lost: what is not in the cells waits in the memory
    torch.testing.assert_close(array.weights + array.waiting, total, rtol=0.0, atol=1e-9)
    pulse = 2.0 / 40  # of w_max = 1: the coarser direction of one cell
    assert float(array.waiting.abs().max()) <= pulse


def test_a_loop_by_hand_gives_the_same_pulses():
    array = made(device=dataclasses.replace(STRAIGHT, levels_down=50))
    chi, counts = np.zeros((6, 5)), np.zeros((2, 6, 5))
    for seed in range(20):
        update = an_update(6, 5, seed=seed)
        array.apply(update, learning_rate=0.2)
        chi -= 0.2 * update.dense().numpy()
        pulses = np.trunc(chi / 2.0 * 50)  # a pulse of both cells moves w by 2 w_max / levels
        chi -= pulses * 2.0 / 50
        counts += np.abs(pulses)
    np.testing.assert_array_equal(array.pulse_count.numpy(), counts)
    np.testing.assert_allclose(array.waiting.numpy(), chi, atol=1e-12)


def test_both_cells_of_a_pair_move_where_one_is_finer():
    array = made(device=dataclasses.replace(STRAIGHT, levels_up=100, levels_down=40))
    update = LowRank(*(torch.ones(size, dtype=torch.float64) for size in ((6, 1), 1, (5, 1))))
    for _ in range(100):
        array.apply(update, learning_rate=-0.005)  # a rise of 0.5 of w_max
    plus, minus = (array.conductance - STRAIGHT.g_min) / STRAIGHT.span
    rose, fell = float((plus - 0.5).mean()), float((0.5 - minus).mean())
    assert rose + fell == pytest.approx(0.5, abs=0.05)
    assert rose == pytest.approx(fell, rel=0.35)  # 2 of 100 levels with every one of 40


def test_changes_that_cancel_cost_no_pulses():
    for rank in (None, 2):
        array, update = made(memory_rank=rank), an_update(6, 5, scale=0.1)
        for _ in range(10):
            array.apply(update, learning_rate=0.1)
            array.apply(update, learning_rate=-0.1)
        assert array.pulses == 0
        assert float(array.waiting.abs().max()) < 1e-12


def test_changes_below_a_pulse_add_up_in_a_small_memory():
    array, update = made(memory_rank=3), an_update(6, 5, rank=1)
    small = 0.2 / 50 / float(update.dense().abs().max())  # 0.2 pulses at most: to nearest, none
    for _ in range(200):
        array.apply(update, learning_rate=small)
    wanted = -200 * small * update.dense()
    assert float((array.weights - wanted).norm() / wanted.norm()) < 0.15


def test_a_memory_of_full_rank_is_the_whole_one():
    whole, factored = made(), made(memory_rank=5)
    for seed in range(12):
        for array in (whole, factored):
            array.apply(an_update(6, 5, seed=seed), learning_rate=0.1)
    assert torch.equal(whole.pulse_count, factored.pulse_count)
    torch.testing.assert_close(whole.waiting, factored.waiting, rtol=0.0, atol=1e-12)
    assert [whole.words, factored.words, made(memory_rank=2).words] == [30, 60, 24]


def test_reads_are_those_of_the_crossbar():
    array = made(device=get_device("Ag:a-Si"), memory_rank=2)
    array.apply(an_update(6, 5, scale=5.0), learning_rate=0.1)
    alone = Crossbar.from_weights(array.weights, device=STRAIGHT)
    signal = normals(4, 5)
    torch.testing.assert_close(array.read(signal), alone.read(signal), rtol=0.0, atol=1e-9)
    back = normals(4, 6)
    torch.testing.assert_close(
        array.read_transposed(back), alone.read_transposed(back), rtol=0.0, atol=1e-9
    )


@pytest.mark.parametrize("rank", [None, 2])
def test_a_state_continues_with_the_same_bits(rank):
    arrays = [made(memory_rank=rank, device=get_device("EcRam")) for _ in range(2)]
    for seed in range(3):
        arrays[0].apply(an_update(6, 5, seed=seed), learning_rate=0.1)
    arrays[1].load_state_dict(arrays[0].state_dict())
    for array in arrays:
        array.apply(an_update(6, 5, seed=9), learning_rate=0.1)
    assert torch.equal(arrays[0].conductance, arrays[1].conductance)
    assert torch.equal(arrays[0].waiting, arrays[1].waiting)


@pytest.mark.parametrize("other", [None, 3])
def test_a_state_of_another_memory_is_refused(other):
    saved, array = made(memory_rank=2), made(memory_rank=other)
    saved.apply(an_update(6, 5), learning_rate=0.1)
    before = array.state_dict()
    with pytest.raises(ValueError, match="memory_rank"):
        array.load_state_dict(saved.state_dict())
    assert torch.equal(array.waiting, torch.zeros(6, 5, dtype=torch.float64))
    assert array.state_dict()["memory"][0].shape == before["memory"][0].shape


def test_levels_without_end_are_refused_as_nothing_would_ever_be_due():
    device = dataclasses.replace(STRAIGHT, levels_up=np.inf, levels_down=np.inf)
    array = made(device=device)
    with pytest.raises(ValueError, match="levels_up and levels_down of ideal must be finite"):
        array.apply(an_update(6, 5), learning_rate=0.1)
    assert float(array.waiting.abs().max()) == 0.0
