"""What holds for every estimator in the registry, present and future."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.lowrank import captured_energy, estimator_knobs, estimator_names, make_estimator

RANKED = [name for name in estimator_names() if "rank" in estimator_knobs(name)]


def make(name, rank=3):
    return make_estimator(name, **({"rank": rank} if name in RANKED else {}))


def same_state(first, second):
    def equal(a, b):
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("name", estimator_names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_follow_the_input(batch, name, dtype):
    update = make(name).update(*batch(dtype=dtype))
    assert update.shape == (12, 20)
    assert update.dense().dtype == dtype


@pytest.mark.parametrize("name", estimator_names())
def test_no_gradient_is_tracked(batch, name):
    errors, activations = batch()
    update = make(name).update(errors.requires_grad_(), activations)
    assert not update.left.requires_grad


@pytest.mark.parametrize("name", estimator_names())
@pytest.mark.parametrize("which", ["errors", "activations"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_input_leaves_the_state_untouched(batch, name, which, value):
    estimator = make(name)
    estimator.update(*batch())
    before = estimator.state_dict()
    data = dict(zip(("errors", "activations"), batch(seed=1), strict=True))
    data[which][7, 3] = value
    with pytest.raises(ValueError, match=f"{which} must be finite"):
        estimator.update(**data)
    assert same_state(before, estimator.state_dict())


@pytest.mark.parametrize("name", estimator_names())
@pytest.mark.parametrize(
    ("errors", "activations", "error", "message"),
    [
        ([[1.0]], torch.ones(1, 1), TypeError, "errors must be a torch.Tensor; got \\[\\[1.0"),
        (torch.ones(4, 12), torch.ones(20), ValueError, "activations must be .*got .20,"),
        (torch.ones(0, 12), torch.ones(0, 20), ValueError, "errors must be .batch, features."),
        (torch.ones(4, 12), torch.ones(5, 20), ValueError, "same batch size; got 4 and 5"),
        (
            torch.ones(4, 12).int(),
            torch.ones(4, 20),
            TypeError,
            "errors must be float32 or float64",
        ),
        (torch.ones(4, 12).double(), torch.ones(4, 20), TypeError, "share a dtype"),
    ],
)
def test_malformed_input_is_named(name, errors, activations, error, message):
    with pytest.raises(error, match=message):
        make(name).update(errors, activations)


@pytest.mark.parametrize("name", RANKED)
def test_rank_is_checked(batch, name):
    with pytest.raises(ValueError, match="rank must be at least 1; got 0"):
        make(name, rank=0)
    with pytest.raises(TypeError, match=r"rank must be a whole number; got 2\.5"):
        make(name).rank = 2.5
    with pytest.raises(ValueError, match=r"rank must be at most min\(m, n\) = 12"):
        make(name, rank=13).update(*batch())
    assert make(name, rank=12).update(*batch()).rank <= 2 * 12


@pytest.mark.parametrize("name", RANKED)
def test_another_shape_than_before_is_an_error_or_harmless(batch, name):
    estimator = make(name)
    estimator.update(*batch())
    before = estimator.state_dict()
    try:
        update = estimator.update(*batch(m=13))
    except ValueError as error:
        assert "as before; got 13 and 20" in str(error)
        assert same_state(before, estimator.state_dict())
    else:
        assert update.shape == (13, 20)


@pytest.mark.parametrize("name", estimator_names())
def test_state_round_trip(batch, name):
    estimator = make(name)
    estimator.update(*batch())
    copy = make(name)
    copy.load_state_dict(estimator.state_dict())
    data = batch(seed=1)
    assert torch.equal(estimator.update(*data).dense(), copy.update(*data).dense())
    with pytest.raises(ValueError, match="state must be of a"):
        copy.load_state_dict({"estimator": "another"})


@pytest.mark.parametrize("name", estimator_names())
def test_never_beats_the_truncated_svd(batch, name):
    estimator = make(name)
    for seed in range(3):
        data = batch(seed=seed)
        update = estimator.update(*data)
        values = torch.linalg.svdvals(data[0].T @ data[1]).square()
        best = float(values[: update.rank].sum() / values.sum())
        assert captured_energy(update, *data) <= best + 1e-12


class Spy(TorchDispatchMode):
    """Records the size of every tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("name", estimator_names())
def test_nothing_of_the_gradients_size_is_allocated(name):
    m, n, size = 211, 307, 24
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(size, m, generator=generator), torch.randn(size, n, generator=generator)
    estimator = make(name)
    estimator.update(*data)
    with Spy() as spy:
        update = estimator.update(*data)
    assert spy.largest <= 2 * size * max(m, n) < m * n  # at most the batch itself, twice
    assert spy.largest > 0
    with Spy() as spy:
        update.dense()
    assert spy.largest == m * n


@pytest.mark.parametrize("name", estimator_names())
def test_public_surface_is_documented(name):
    cls = type(make(name))
    assert inspect.getdoc(cls)
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(cls).parameters.values())


@pytest.mark.parametrize("name", estimator_names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_survives_two_thousand_zero_batches(batch, name, dtype):
    estimator = make(name, rank=2)
    estimator.update(*batch(batch=8, dtype=dtype))
    zeros = torch.zeros(8, 12, dtype=dtype), torch.ones(8, 20, dtype=dtype)
    for _ in range(2000 if {"left", "right"} <= set(estimator.state_dict()) else 10):
        update = estimator.update(*zeros)
    assert float(update.dense().abs().max()) == 0.0
    again = [estimator.update(*batch(dtype=dtype)) for _ in range(3)][-1]
    assert torch.isfinite(again.dense()).all() and float(again.dense().norm()) > 0


@pytest.mark.parametrize("name", estimator_names())
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_survives_tiny_and_huge_input(batch, name, which, scale, dtype):
    data = list(batch(dtype=torch.float64))
    expected = make(name).update(*data).dense()
    data[which] = data[which] * scale
    data = [part.to(dtype) for part in data]
    actual = make(name).update(*data).dense().double() / scale
    error = float((actual - expected).norm() / expected.norm())
    assert error < (1e-3 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("name", estimator_names())
def test_overflow_is_refused(batch, name):
    estimator = make(name)
    small = batch(dtype=torch.float32)
    estimator.update(*small)
    before = estimator.state_dict()
    huge = small[0] * 1e30, small[1] * 1e30
    if name == "sgd":
        return  # never multiplies
    with pytest.raises(ValueError, match=r"errors\.T @ activations must not overflow"):
        estimator.update(*huge)
    assert same_state(before, estimator.state_dict())


@pytest.mark.parametrize("name", estimator_names())
def test_survives_a_sudden_change_of_scale(batch, name):
    estimator = make(name)
    for scale in (1e-20, 1e15, 1e-20):
        for seed in range(2):
            errors, activations = batch(seed=seed, dtype=torch.float32)
            update = estimator.update(scale * errors, activations)
            assert torch.isfinite(update.dense()).all()


@pytest.mark.parametrize("name", estimator_names())
@pytest.mark.parametrize("size", [1, 2, 31, 33, 130])
def test_takes_any_batch_size(batch, name, size):
    estimator = make(name)
    errors, activations = batch(batch=size)
    for _ in range(30):
        update = estimator.update(errors, activations)
    assert torch.isfinite(update.dense()).all()
    if size == 1 and name != "feedback":  # one sample is a matrix of rank 1: all can find it
        torch.testing.assert_close(update.dense(), errors.T @ activations)


@pytest.mark.parametrize("name", estimator_names())
def test_takes_non_contiguous_input(batch, name):
    errors, activations = batch()
    strided = torch.stack([errors, errors], dim=2)[:, :, 0], activations.T.contiguous().T
    assert not strided[0].is_contiguous() and not strided[1].is_contiguous()
    expected = make(name).update(errors, activations).dense()
    torch.testing.assert_close(make(name).update(*strided).dense(), expected)


@pytest.mark.parametrize("name", estimator_names())
def test_input_is_not_changed(batch, name):
    errors, activations = batch()
    kept = errors.clone(), activations.clone()
    make(name).update(errors, activations)
    assert torch.equal(errors, kept[0]) and torch.equal(activations, kept[1])


@pytest.mark.parametrize("name", estimator_names())
def test_results_do_not_change_afterwards(batch, name):
    estimator = make(name)
    update = estimator.update(*batch())
    before = update.dense()
    estimator.update(*batch(seed=1))
    assert torch.equal(update.dense(), before)


@pytest.mark.parametrize("name", RANKED)
def test_full_rank_layers(batch, name):
    errors, activations = batch(m=3, n=5)
    estimator = make(name)
    for _ in range(20):
        update = estimator.update(errors, activations)
    assert captured_energy(update, errors, activations) > 0.9


@given(
    name=st.sampled_from(estimator_names()),
    size=st.integers(1, 20),
    m=st.integers(1, 9),
    n=st.integers(1, 9),
    rank=st.integers(1, 9),
    block=st.integers(1, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_rank_and_block(name, size, m, n, rank, block, seed):
    rank = min(rank, m, n)
    wanted = {"rank": rank, "block_size": block, "seed": seed}
    knobs = {knob: wanted[knob] for knob in estimator_knobs(name) if knob in wanted}
    estimator = make_estimator(name, **knobs)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        errors, activations = (
            torch.randn(size, s, generator=generator, dtype=torch.float64) for s in (m, n)
        )
        update = estimator.update(errors, activations)
        assert update.shape == (m, n)
        assert torch.isfinite(update.dense()).all()
        assert estimator.words(m, n) >= 0 and estimator.macs(m, n, size) > 0
        values = torch.linalg.svdvals(errors.T @ activations).square()
        best = float(values[: update.rank].sum() / values.sum())
        assert captured_energy(update, errors, activations) <= best + 1e-9


@pytest.mark.parametrize("name", estimator_names())
def test_same_seed_same_bits(batch, name):
    knobs = {"seed": 5} if "seed" in estimator_knobs(name) else {}
    first, second = make_estimator(name, **knobs), make_estimator(name, **knobs)
    for seed in range(3):
        data = batch(seed=seed)
        assert torch.equal(first.update(*data).dense(), second.update(*data).dense())
