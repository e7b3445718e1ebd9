"""The compiled recursions against the readable ones in torch."""

import pytest
import torch

from toolkit.lowrank import SBPCA, recursions


def both_ways(monkeypatch, batches, **knobs):
    """The updates of one stream, by the compiled loops and by torch."""
    every = []
    for is_compiled in (True, False):
        with monkeypatch.context() as patch:
            if not is_compiled:
                patch.setattr(recursions, "on_arrays", lambda *_: False)
            estimator = SBPCA(seed=0, **knobs)
            every.append([estimator.update(*each) for each in batches])
            state = estimator.state_dict()
            estimator.load_state_dict({**state, "sigma": -state["sigma"]})
            every[-1].append(estimator.update(*batches[0]))
            estimator.rank = 2
            every[-1].append(estimator.update(*batches[0]))
    return every


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
    ],
)
def test_sbpca_is_what_torch_makes_of_it(monkeypatch, batch, dtype, knobs):
    batches = [batch(seed=seed, dtype=dtype) for seed in range(3)]
    compiled, plain = both_ways(monkeypatch, batches, **knobs)
    tolerance = 3e3 * torch.finfo(dtype).eps
    for one, other in zip(compiled, plain, strict=True):
        error = (one.dense() - other.dense()).norm() / other.dense().norm()
        assert float(error) < tolerance
        gram = one.left.T @ one.left
        torch.testing.assert_close(gram, torch.eye(len(gram), dtype=dtype))


def test_a_direction_that_may_have_died_is_left_to_torch(monkeypatch, batch):
    errors, activations = batch()
    one = errors[:1].expand(64, -1).contiguous(), activations[:1].expand(64, -1).contiguous()
    compiled, plain = both_ways(monkeypatch, [one, (errors, activations)], rank=3, block_size=8)
    for first, second in zip(compiled, plain, strict=True):
        torch.testing.assert_close(first.dense(), second.dense())


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_squares_beyond_the_number_range_are_left_to_torch(monkeypatch, batch, scale):
    errors, activations = batch(dtype=torch.float32)
    pair = (scale * errors, activations)
    compiled, plain = both_ways(monkeypatch, [pair], rank=3, block_size=8)
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
