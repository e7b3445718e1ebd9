"""The cells' random numbers: right distributions, independent, reproducible."""

import math

import torch

from toolkit.crossbar.noise import uniform_

CELLS = 2**18


class Noise:
    """A generator and a tensor to fill."""

    def __init__(self, seed, cells=CELLS, dtype=torch.float32):
        self.out = torch.empty(cells, dtype=dtype)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self):
        return uniform_(self.out, self.generator)


def chi_square_z(counts):
    expected = counts.sum() / counts.numel()
    freedom = counts.numel() - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def test_uniforms_are_uniform_and_pairs_of_them_too():
    noise = Noise(0)
    single, neighbours, draws = (torch.zeros(64**2) for _ in range(3))
    before = None
    for _ in range(16):
        out = noise.draw()
        assert float(out.min()) >= 0.0 and float(out.max()) < 1.0
        single += torch.histc(out, 64**2, 0, 1)
        coarse = (out * 64).long()
        neighbours += torch.bincount(coarse[1:] * 64 + coarse[:-1], minlength=64**2)
        if before is not None:
            draws += torch.bincount(coarse * 64 + before, minlength=64**2)
        before = coarse
    assert all(abs(chi_square_z(counts)) < 4.5 for counts in (single, neighbours, draws))


def test_cells_and_draws_are_uncorrelated():
    noise = Noise(1)
    fields = torch.stack([noise.draw().clone() for _ in range(12)]).double() - 0.5
    limit = 5.0 / math.sqrt(CELLS)
    for first in range(12):
        for second in range(first):
            assert abs(float((fields[first] * fields[second]).mean() * 12)) < limit
    for lag in (1, 2, 64, 512, 1024):
        moments = (fields[:, lag:] * fields[:, :-lag]).mean(1) * 12
        assert float(moments.abs().max()) < limit


def test_rare_events_keep_their_rate():
    noise = Noise(2)
    for rate in (1e-4, 1e-3):
        hits = sum(int((noise.draw() < rate).sum()) for _ in range(60))
        expected = 60 * CELLS * rate
        assert abs(hits - expected) < 4.5 * math.sqrt(expected)


def test_events_rarer_than_the_step_keep_their_rate_over_draws():
    noise = Noise(3, cells=4096)
    rate, draws = 2.0**-18, 6000  # a quarter of the step: hits come in one draw of four
    hits = torch.tensor([int((noise.draw() < rate).sum()) for _ in range(draws)]).double()
    error = float(hits.std()) / math.sqrt(draws)
    assert abs(float(hits.mean()) - 4096 * rate) < 4.5 * error


def test_same_seed_same_bits_in_any_number_of_threads():
    threads = torch.get_num_threads()
    draws = []
    for count in (1, 2):
        torch.set_num_threads(count)
        noise = Noise(4)
        draws.append(noise.draw())
    torch.set_num_threads(threads)
    assert torch.equal(*draws)


def test_float64_follows():
    noise = Noise(5, dtype=torch.float64)
    assert noise.draw().dtype == torch.float64
    assert abs(float(noise.out.mean()) - 0.5) < 4.5 / math.sqrt(12 * CELLS)
