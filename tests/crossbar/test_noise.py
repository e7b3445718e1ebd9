"""The cells' random numbers: right distributions, independent, reproducible."""

import math

import torch

from toolkit.crossbar.noise import CellNoise

CELLS = 2**18


def make_noise(seed=0, cells=CELLS, dtype=torch.float32):
    like = torch.empty(cells, dtype=dtype)
    return CellNoise(like, torch.Generator().manual_seed(seed)), like


def chi_square_z(counts):
    expected = counts.sum() / counts.numel()
    freedom = counts.numel() - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def test_uniforms_are_uniform_and_pairs_of_them_too():
    noise, out = make_noise()
    single, neighbours, draws = (torch.zeros(64**2) for _ in range(3))
    before = None
    for _ in range(16):
        noise.uniform_(out)
        assert float(out.min()) > 0.0 and float(out.max()) < 1.0
        single += torch.histc(out, 64**2, 0, 1)
        coarse = (out * 64).long()
        neighbours += torch.bincount(coarse[1:] * 64 + coarse[:-1], minlength=64**2)
        if before is not None:
            draws += torch.bincount(coarse * 64 + before, minlength=64**2)
        before = coarse
    assert all(abs(chi_square_z(counts)) < 4.5 for counts in (single, neighbours, draws))


def test_cells_and_draws_are_uncorrelated():
    noise, out = make_noise(1)
    fields = torch.stack([noise.uniform_(out).clone() for _ in range(12)]).double() - 0.5
    limit = 5.0 / math.sqrt(CELLS)
    for first in range(12):
        for second in range(first):
            assert abs(float((fields[first] * fields[second]).mean() * 12)) < limit
    for lag in (1, 2, 64, 512, 1024):
        moments = (fields[:, lag:] * fields[:, :-lag]).mean(1) * 12
        assert float(moments.abs().max()) < limit


def test_rare_events_keep_their_rate():
    noise, out = make_noise(2)
    for rate in (1e-5, 1e-3):
        hits = sum(int((noise.uniform_(out) < rate).sum()) for _ in range(60))
        expected = 60 * CELLS * rate
        assert abs(hits - expected) < 4.5 * math.sqrt(expected)


def test_normals_have_normal_moments_and_tails():
    noise, out = make_noise(3)
    sample = torch.stack([noise.normal_(out).clone() for _ in range(16)]).double().flatten()
    count = sample.numel()
    assert bool(torch.isfinite(sample).all())
    assert abs(float(sample.mean())) < 4.5 / math.sqrt(count)
    assert abs(float(sample.var()) - 1) < 4.5 * math.sqrt(2 / count)
    assert abs(float((sample**4).mean()) - 3) < 4.5 * math.sqrt(96 / count)
    for edge in (1.0, 2.0, 3.0, 4.0):
        share = math.erfc(edge / math.sqrt(2))
        hits = int((sample.abs() > edge).sum())
        assert abs(hits - share * count) < 4.5 * math.sqrt(share * count)


def test_same_seed_same_bits_in_any_number_of_threads():
    threads = torch.get_num_threads()
    draws = []
    for count in (1, 2):
        torch.set_num_threads(count)
        noise, out = make_noise(4)
        draws.append((noise.uniform_(out).clone(), noise.normal_(out).clone()))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))


def test_float64_follows():
    noise, out = make_noise(5, dtype=torch.float64)
    assert noise.uniform_(out).dtype == torch.float64
    assert abs(float(out.mean()) - 0.5) < 4.5 / math.sqrt(12 * CELLS)
