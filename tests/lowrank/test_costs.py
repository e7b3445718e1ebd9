"""Words against the size of the state, multiply-accumulates against torch's own flop counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from toolkit.lowrank import make_estimator
from toolkit.lowrank.compiled import recursions

M, N, BATCH = 60, 90, 32


def updated(name, **knobs):
    generator = torch.Generator().manual_seed(0)
    data = (torch.randn(BATCH, size, generator=generator) for size in (M, N))
    errors, activations = data
    estimator = make_estimator(name, **knobs)
    estimator.update(errors, activations)
    with FlopCounterMode(display=False) as counter:
        estimator.update(errors, activations)
    return estimator, counter.get_total_flops() // 2  # a multiply-accumulate is two flops


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("sbpca", {"rank": 3}),
        ("sbpca", {"rank": 3, "core": "full"}),
        ("feedback", {"rank": 3}),
        ("feedback", {"rank": 2, "memory_rank": 5}),
        ("nmf", {"rank": 3}),
    ],
)
def test_words_are_the_numbers_in_the_state(name, knobs):
    estimator, _ = updated(name, **knobs)
    state = estimator.state_dict()
    assert estimator.words(M, N) == sum(state[k].numel() for k in ("left", "sigma", "right"))


def test_words_of_the_others():
    assert make_estimator("sbe").words(M, N) == M + N + 1
    assert make_estimator("sgd").words(M, N) == M * N
    assert make_estimator("svd", rank=4).words(M, N) == 0
    assert make_estimator("power", rank=4).words(M, N) == 4 * N
    assert make_estimator("lrt", rank=4).words(M, N) == 4 * (M + N + 1)


# Matrix products are counted; Gram-Schmidt and small SVDs, which the counter does not see, are not.
@pytest.mark.parametrize("block", [8, 32])
@pytest.mark.parametrize("passes", [1, 3])
def test_macs_of_sbpca(monkeypatch, block, passes):
    monkeypatch.setattr(recursions, "on_arrays", lambda *_: False)  # the counter sees only torch
    estimator, counted = updated("sbpca", rank=3, block_size=block, passes=passes)
    assert counted == passes * BATCH * 3 * (3 * M + 2 * N)
    gram_schmidt = passes * (BATCH // block) * 3 * 3 * (M + N)
    assert estimator.macs(M, N, BATCH) == counted + gram_schmidt


@pytest.mark.parametrize(
    ("name", "knobs", "unseen"),
    [
        ("sbpca", {"rank": 4, "core": "full"}, 4 * 4 * (M + N)),
        ("power", {"rank": 4}, 4 * 4 * (M + N)),
        ("feedback", {"rank": 2, "memory_rank": 5}, 3 * 7 * 7 * (M + N) + 10 * 7**3),
        ("nmf", {"rank": 4}, 0),
    ],
)
def test_macs_of_the_others(monkeypatch, name, knobs, unseen):
    monkeypatch.setattr(recursions, "on_arrays", lambda *_: False)
    estimator, counted = updated(name, **knobs)
    assert estimator.macs(M, N, BATCH) == pytest.approx(counted + unseen, rel=0.06)


@pytest.mark.parametrize("name", ["svd", "lrt"])
def test_macs_of_decompositions_grow_as_said(name):
    # leading terms: linear in m + n at fixed batch and rank
    estimator = make_estimator(name, rank=2)
    small, large = (estimator.macs(1000 * s, 1000 * s, 8) for s in (1, 10))
    assert large / small == pytest.approx(10, rel=0.1)
    assert make_estimator("sgd").macs(M, N, BATCH) == M * N * BATCH
    assert make_estimator("sbe").macs(M, N, BATCH) == BATCH * (5 * M + 4 * N)
