"""The compiled recursions against the readable ones in torch."""

import itertools

import numpy as np
import pytest
import torch

from toolkit.lowrank import SBPCA, make_estimator
from toolkit.lowrank.compiled import recursions


def both_ways(monkeypatch, work):
    """What ``work`` makes by the compiled loops and by torch."""
    with monkeypatch.context() as patch:
        patch.setattr(recursions, "on_arrays", lambda *_: False)
        plain = work()
    return work(), plain


def sbpca_both_ways(monkeypatch, batches, **knobs):
    """The updates of one stream, with a flipped sign and another rank on the way."""

    def work():
        estimator = SBPCA(seed=0, **knobs)
        made = [estimator.update(*each) for each in batches]
        state = estimator.state_dict()
        estimator.load_state_dict({**state, "sigma": -state["sigma"]})
        made.append(estimator.update(*batches[0]))
        estimator.rank = 2
        return [*made, estimator.update(*batches[0])]

    return both_ways(monkeypatch, work)


OTHERS = {
    "sbe": ("sbe", {}),
    "lrt": ("lrt", {"rank": 3}),
    "lrt in blocks": ("lrt", {"rank": 4, "block_size": 5}),
    "feedback": ("feedback", {"rank": 2}),
    "feedback in blocks": ("feedback", {"rank": 3, "block_size": 16, "decay": 0.5}),
    "feedback of all directions": ("feedback", {"rank": 4, "memory_rank": 50}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OTHERS)
def test_others_are_what_torch_makes_of_them(monkeypatch, batch, dtype, name):
    # the last: one sample again and again, and samples without an error
    batches = [batch(seed=seed, dtype=dtype) for seed in range(3)]
    errors, activations = batches[0]
    batches.append((errors[:1].repeat(64, 1), activations))
    batches.append((errors * (torch.arange(64) % 3 > 0)[:, None], activations[:1].repeat(64, 1)))

    def work():
        kind, knobs = OTHERS[name]
        estimator = make_estimator(kind, seed=0, **knobs)
        return [estimator.update(*each).dense() for each in batches]

    for compiled, plain in zip(*both_ways(monkeypatch, work), strict=True):
        assert float((compiled - plain).norm() / plain.norm()) < 3e3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("scale", [1e25, 1e-25, 1e-36])
def test_others_keep_numbers_whose_squares_are_out_of_range(monkeypatch, batch, name, scale):
    errors, activations = batch(dtype=torch.float32)

    def work():
        kind, knobs = OTHERS[name]
        update = make_estimator(kind, seed=0, **knobs).update(scale * errors, activations)
        return (update.left * (update.sigma / scale)) @ update.right.T

    compiled, plain = both_ways(monkeypatch, work)
    assert float((compiled - plain).norm() / plain.norm()) < 1e-3


@pytest.mark.parametrize("name", OTHERS)
def test_at_the_end_of_the_number_range_an_update_is_finite_or_refused(monkeypatch, batch, name):
    errors, activations = batch(n=400, dtype=torch.float32)
    kind, knobs = OTHERS[name]

    def outcome(scale):
        try:
            update = make_estimator(kind, seed=0, **knobs).update(
                scale * errors, scale * activations
            )
        except ValueError as error:
            return "overflow" in str(error)
        return bool(update.sigma.isfinite().all())

    def work():
        return [outcome(10.0**power) for power in np.arange(18.0, 20.0, 0.05)]

    assert all(all(each) for each in both_ways(monkeypatch, work))


def test_an_unbiased_reduction_keeps_the_mean_over_all_signs():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(5, generator=generator, dtype=torch.float64).sort(descending=True)[0]
    values = values.numpy()
    total = np.zeros((5, 5))
    for signs in itertools.product((-1.0, 1.0), repeat=5):
        rows, kept = np.eye(5), values.copy()
        recursions.one_fewer(rows, kept, np.array(signs), 5)
        total += (rows[:, :4] * kept[:4]) @ rows[:, :4].T / 32
    np.testing.assert_allclose(total, np.diag(values), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "knobs",
    [
        {"rank": 1, "block_size": 1},
        {"rank": 3, "block_size": 8},
        {"rank": 5, "block_size": 7},
        {"rank": 12, "block_size": 64},
        {"rank": 4, "block_size": 1000, "history": 0.0},
        {"rank": 4, "block_size": 16, "history": 2.5, "passes": 3},
        {"rank": 3, "block_size": 8, "core": "full"},
        {"rank": 4, "block_size": 7, "core": "full", "history": 2.5, "passes": 2},
    ],
)
def test_sbpca_is_what_torch_makes_of_it(monkeypatch, batch, dtype, knobs):
    batches = [batch(seed=seed, dtype=dtype) for seed in range(3)]
    compiled, plain = sbpca_both_ways(monkeypatch, batches, **knobs)
    tolerance = 3e3 * torch.finfo(dtype).eps
    for one, other in zip(compiled, plain, strict=True):
        error = (one.dense() - other.dense()).norm() / other.dense().norm()
        assert float(error) < tolerance
        gram = one.left.T @ one.left
        torch.testing.assert_close(gram, torch.eye(len(gram), dtype=dtype))


def test_a_direction_that_may_have_died_is_left_to_torch(monkeypatch, batch):
    errors, activations = batch()
    one = errors[:1].expand(64, -1).contiguous(), activations[:1].expand(64, -1).contiguous()
    batches = [one, (errors, activations)]
    compiled, plain = sbpca_both_ways(monkeypatch, batches, rank=3, block_size=8)
    for first, second in zip(compiled, plain, strict=True):
        torch.testing.assert_close(first.dense(), second.dense())


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_squares_beyond_the_number_range_are_left_to_torch(monkeypatch, batch, scale):
    errors, activations = batch(dtype=torch.float32)
    pair = (scale * errors, activations)
    compiled, plain = sbpca_both_ways(monkeypatch, [pair], rank=3, block_size=8)
    for first, second in zip(compiled, plain, strict=True):
        torch.testing.assert_close(first.dense() / scale, second.dense() / scale)


def test_the_loops_are_taken():
    loops = recursions._blocks
    estimator, taken = SBPCA(rank=2), []
    rows = torch.rand(8, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            recursions, "_blocks", lambda *given: taken.append(loops(*given)) or taken[-1]
        )
        estimator.update(rows, rows)
    assert taken == [True]
