"""Updates and crossbar reads beside what they replace, one group a size; `make benchmark` runs it.

The number in brackets in each column is the ratio to the fastest of the group. The scripts beside
this file (`lowrank_speed`, `crossbar_speed`, `crossbar_wires`) take turns and go further.
"""

import pytest
import torch

from toolkit.crossbar import Crossbar, get_device
from toolkit.lowrank import SBPCA, FeedbackPCA, LowRank, TruncatedSVD

SIZES = {"digits": (128, 65, 64, 4), "1024": (1024, 1024, 64, 3), "4096": (4096, 4096, 128, 4)}
WAYS = {
    "dense product": lambda _: None,
    "SBPCA": lambda rank: SBPCA(rank=rank, block_size=32),
    "FeedbackPCA": lambda rank: FeedbackPCA(rank=rank),
    "truncated SVD": lambda rank: TruncatedSVD(rank=rank),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
def test_update(benchmark, size, way):
    m, n, batch, rank = SIZES[size]
    errors, activations = torch.randn(batch, m) / batch, torch.randn(batch, n)
    estimator = WAYS[way](rank)
    benchmark.group = f"update, {m} x {n}, batch {batch}, rank {rank}"
    if estimator is None:
        benchmark(lambda: errors.T @ activations)
    else:
        benchmark(estimator.update, errors, activations)


@pytest.mark.parametrize("way", ["plain product", "crossbar"])
def test_read(benchmark, way):
    weights, activations = torch.rand(512, 512) - 0.5, torch.randn(64, 512)
    array = Crossbar.from_weights(weights, device=get_device("ideal"))
    benchmark.group = "noiseless read, 512 x 512, batch 64"
    if way == "plain product":
        benchmark(lambda: activations @ weights.T)
    else:
        benchmark(array.read, activations)


@pytest.mark.parametrize("way", ["uniforms", "Ag:a-Si", "EcRam"])
def test_write(benchmark, way):
    left, right = torch.linalg.qr(torch.randn(512, 3))[0], torch.linalg.qr(torch.randn(512, 3))[0]
    update = LowRank(left, torch.full((3,), 0.5), right)
    benchmark.group = "rank-3 write, 512 x 512 pairs; uniforms: one random number a cell"
    if way == "uniforms":
        benchmark(torch.rand, 2, 512, 512)
    else:
        array = Crossbar.from_weights(torch.zeros(512, 512), device=get_device(way))
        benchmark(array.apply, update, learning_rate=1.0)
