"""A write phase by phase: which cells, how many pulses, and that the phases make up the whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from toolkit.crossbar import Coincidence, WholePulses, get_device
from toolkit.crossbar.phases import drive, make_update, write_phases
from toolkit.lowrank import LowRank

SHAPE = (8, 6)
FINE = replace(get_device("ideal"), levels_up=10_000, levels_down=10_000)


def test_the_update_has_the_rank_and_the_size_that_were_asked_for():
    dense = make_update(SHAPE, rank=3, largest=0.25, seed=1).dense()
    singular = torch.linalg.svdvals(dense)
    assert float(dense.abs().max()) == pytest.approx(0.25)
    np.testing.assert_allclose(singular[1:3] / singular[0], [0.6, 0.36])
    assert float(singular[3]) < 1e-12


@pytest.mark.parametrize("scheme", ["rank-sequential", "rank-sum"])
def test_the_phases_make_up_the_whole_change(scheme):
    write = write_phases(make_update(SHAPE, rank=3, largest=0.2, seed=0), FINE, scheme=scheme)
    np.testing.assert_allclose(write.phases[-1].wanted, write.wanted, atol=1e-15)
    # a straight line without noise writes what is wanted but for the rounding of each cell
    np.testing.assert_allclose(write.phases[-1].written, write.wanted, atol=4 * 2 / 10_000)


def test_a_sign_phase_pulses_its_own_quarter_and_in_its_own_direction():
    update = make_update(SHAPE, rank=1, largest=0.3, seed=4)
    left, right = update.left[:, 0].numpy(), update.right[:, 0].numpy()
    write = write_phases(update, FINE)
    before = np.zeros(SHAPE)
    titles = [phase.title.split("; ")[0] for phase in write.phases]
    assert titles == [f"rank 1: rows {r}, columns {c}" for r, c in ("++", "−−", "+−", "−+")]
    for phase, (row, column) in zip(
        write.phases, [(1, 1), (-1, -1), (1, -1), (-1, 1)], strict=True
    ):
        quarter = np.outer(left * row > 0, right * column > 0)
        assert (phase.pulses > 0).any()
        assert not phase.pulses[:, ~quarter].any()
        change = phase.written - before
        assert not change[~quarter].any()
        assert (change[quarter] * row * column >= 0).all()
        assert ("rise" in phase.title) == (row == column)
        before = phase.written


def test_row_and_column_pulses_multiply_to_the_pulses_of_a_cell():
    # |dw| / (2 w_max) * levels of the direction: the convention of a pair, by hand
    device = get_device("Ag:a-Si")
    update = make_update(SHAPE, rank=1, largest=0.5, seed=2)
    write = write_phases(update, device, coding=WholePulses(rounding="deterministic"))
    wanted = np.abs(write.wanted) / 2
    before = np.zeros(SHAPE)
    for phase in write.phases:
        levels = 97 if "rise" in phase.title else 100
        product = np.abs(np.outer(phase.rows, phase.columns))
        mine = phase.wanted != before
        np.testing.assert_allclose(product[mine], wanted[mine] * levels)
        assert (np.abs(phase.pulses[0] - product) <= 0.5 + 1e-9).all()
        assert np.abs(phase.rows).max() == pytest.approx(np.abs(phase.columns).max())
        before = phase.wanted


@pytest.mark.parametrize(("largest", "slots"), [(0.6, 1), (4.5, 5), (27.5, 28)])
def test_chances_of_coincidence_give_the_wanted_mean(largest, slots):
    # as many slots as the largest cell wants pulses (up to 31); mean = slots p q, by hand
    left, right = torch.tensor([[0.5], [1.0]]).double(), torch.tensor([[1.0], [0.2]]).double()
    part = LowRank(left * (2 * largest / 1000), torch.ones(1).double(), right)
    rows, columns = drive(part, get_device("ideal"), Coincidence(bit_length=31))
    assert rows.max() <= 1.0 and columns.max() <= 1.0
    wanted = largest * np.array([[0.5, 0.1], [1.0, 0.2]])
    np.testing.assert_allclose(slots * np.outer(rows, columns), wanted)


def test_a_line_fires_at_most_once_in_a_slot():
    left, right = torch.tensor([[0.5], [1.0]]).double(), torch.tensor([[1.0], [0.2]]).double()
    part = LowRank(left / 5, torch.ones(1).double(), right)  # 100 pulses do not fit into 31 slots
    rows, columns = drive(part, get_device("ideal"), Coincidence(bit_length=31))
    assert rows.max() == 1.0 and columns.max() == 1.0


def test_a_sum_is_written_row_by_row():
    write = write_phases(make_update(SHAPE, rank=2, largest=0.2, seed=0), FINE, scheme="rank-sum")
    assert len(write.phases) == 8
    for number, phase in enumerate(write.phases):
        np.testing.assert_array_equal(np.flatnonzero(phase.rows), [number])
        np.testing.assert_array_equal(np.flatnonzero(phase.pulses.any((0, 2))), [number])
        np.testing.assert_allclose(phase.columns, write.wanted[number] / 2 * 10_000)


def test_a_seed_repeats_the_write_and_bad_settings_are_refused():
    update = make_update(SHAPE, rank=2, largest=0.2, seed=0)
    device = get_device("PCMO")
    first, again, other = (write_phases(update, device, seed=s).phases[-1] for s in (1, 1, 2))
    np.testing.assert_array_equal(first.written, again.written)
    assert not np.array_equal(first.written, other.written)
    with pytest.raises(ValueError, match="scheme must be one of"):
        write_phases(update, device, scheme="both")
    with pytest.raises(ValueError, match="rank-sequential"):
        write_phases(update, device, scheme="rank-sum", coding=Coincidence())
    with pytest.raises(ValueError, match="rank must be between 1 and 6; got 7"):
        make_update(SHAPE, rank=7, largest=0.2, seed=0)
