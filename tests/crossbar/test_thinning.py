"""Hits drawn for outer products of chances, against independent draws of every cell."""

import pytest
import torch

from toolkit.crossbar.thinning import hits

RANKS, HEIGHT, WIDTH, DRAWS = 3, 24, 30, 3000


def chances(seed=0, dtype=torch.float64):
    """Rows and columns whose products are signed chances up to 1/2, some 0."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(RANKS, HEIGHT, 2, generator=generator, dtype=torch.float64)
    columns = torch.rand(RANKS, 1, WIDTH, generator=generator, dtype=torch.float64) ** 3
    side = torch.rand(RANKS, 1, WIDTH, generator=generator) < 0.5
    columns = torch.cat([columns * side, columns * ~side], 1)
    rows[:, 0], columns[:, :, 0] = 0.0, 0.0
    rows *= 0.5 / (rows @ columns).abs().amax((1, 2), keepdim=True)
    return rows.to(dtype), columns.to(dtype)


@pytest.fixture(scope="module")
def drawn():
    """Hits of many draws (draws, ranks, m, n), as 0 and 1, and their chances."""
    rows, columns = chances()
    generator = torch.Generator().manual_seed(1)
    fields = torch.zeros(DRAWS, RANKS, HEIGHT * WIDTH)
    signs = (rows @ columns).sign().flatten(1)
    for field in fields:
        for mine, sign, (places, values) in zip(
            field, signs, hits(rows, columns, generator), strict=True
        ):
            assert bool((places[1:] > places[:-1]).all())
            assert torch.equal(values, sign[places])
            mine[places] = 1.0
    return fields.unflatten(2, (HEIGHT, WIDTH)), (rows @ columns).abs().float()


def test_every_cell_is_hit_with_its_chance(drawn):
    fields, chance = drawn
    error = (chance * (1.0 - chance) / DRAWS).sqrt()
    misses = (fields.mean(0) - chance) / error.clamp(min=1e-9)
    assert float(chance.max()) == pytest.approx(0.5)
    misses = misses[chance * DRAWS > 20.0]  # then nearly normal
    assert float(misses.abs().max()) < 4.5
    squares = misses.square()
    assert abs(float(squares.mean()) - 1.0) < 5.0 * (2.0 / len(squares)) ** 0.5


@pytest.mark.parametrize("dims", [(3,), (2,), (1,), (2, 3)], ids=["row", "column", "rank", "all"])
def test_cells_are_independent(drawn, dims):
    # the variance of a sum of independent hits is the sum of their variances
    fields, chance = drawn
    sums = fields.sum(dims)
    expected = (chance * (1.0 - chance)).sum([dim - 1 for dim in dims])
    used = expected > 0.05
    ratios = (sums.var(0) / expected)[used]
    spread = (2.0 / DRAWS + 1.0 / (DRAWS * expected[used])).sqrt()
    assert float(((ratios - 1.0) / spread).abs().max()) < 4.5


def test_successive_draws_differ_and_seeds_repeat():
    rows, columns = chances(dtype=torch.float32)
    first, second = (torch.Generator().manual_seed(5) for _ in range(2))
    a, b, c = hits(rows, columns, first), hits(rows, columns, first), hits(rows, columns, second)
    assert all(torch.equal(x.places, y.places) for x, y in zip(a, c, strict=True))
    assert not all(torch.equal(x.places, y.places) for x, y in zip(a, b, strict=True))


def test_chances_of_nothing_hit_nothing():
    rows, columns = torch.zeros(2, 5, 2), torch.zeros(2, 2, 7)
    for given in ((rows, columns), (rows + 1.0, columns), (rows, columns + 1.0)):
        assert [len(some.places) for some in hits(*given, torch.Generator())] == [0, 0]


def test_rare_hits_keep_their_rate():
    rows, columns = torch.full((50, 1000, 2), 1e-3), torch.zeros(50, 2, 1000)
    columns[:, 1, :500] = 1e-3  # half a hit per rank
    generator = torch.Generator().manual_seed(6)
    count = sum(len(some.places) for _ in range(80) for some in hits(rows, columns, generator))
    assert abs(count - 2000) < 4.5 * 2000**0.5
