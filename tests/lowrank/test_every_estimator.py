"""What holds for every estimator in the registry, present and future."""

import inspect
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.lowrank import captured_energy, estimator_knobs, estimator_names, make_estimator

DENSE = ()  # the documented dense baselines, which may form the gradient
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
        ([[1.0]], torch.ones(1, 1), TypeError, "errors must be a torch.Tensor; got list"),
        (torch.ones(4, 12), torch.ones(20), ValueError, "activations must be .*got .20,"),
        (torch.ones(0, 12), torch.ones(0, 20), ValueError, "errors must be .batch, features."),
        (torch.ones(4, 12), torch.ones(5, 20), ValueError, "same batch size; got 4 and 5"),
        (
            torch.ones(4, 12).int(),
            torch.ones(4, 20),
            TypeError,
            "errors must be float32 or float64",
        ),
        (torch.ones(4, 12).double(), torch.ones(4, 20), TypeError, "one dtype"),
    ],
)
def test_malformed_input_is_named(name, errors, activations, error, message):
    with pytest.raises(error, match=message):
        make(name).update(errors, activations)


@pytest.mark.parametrize("name", RANKED)
def test_rank_is_checked(batch, name):
    with pytest.raises(ValueError, match="rank must be at least 1; got 0"):
        make(name, rank=0)
    with pytest.raises(TypeError, match=r"rank must be an integer; got 2\.5"):
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


@pytest.mark.parametrize("name", [name for name in estimator_names() if name not in DENSE])
def test_nothing_of_the_gradients_size_is_allocated(name):
    m, n, size = 211, 307, 24
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(size, m, generator=generator), torch.randn(size, n, generator=generator)
    estimator = make(name)
    estimator.update(*data)
    with Spy() as spy:
        update = estimator.update(*data)
    assert 0 < spy.largest <= size * max(m, n) or name == "sgd"
    with Spy() as spy:
        update.dense()
    assert spy.largest == m * n


@pytest.mark.parametrize("name", estimator_names())
def test_public_surface_is_documented(name):
    cls = type(make(name))
    assert inspect.getdoc(cls)
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(cls).parameters.values())
