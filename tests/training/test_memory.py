"""Measured memory: the measure itself, and what a rank-k step takes against a dense one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from toolkit.training import LowRankSGD
from toolkit.training.experiment.memory import peak_bytes

WIDTH, BATCH, RANK, BLOCK = 1024, 128, 4, 32


def test_what_lives_at_once_counts():
    def function() -> torch.Tensor:
        first = torch.zeros(1000, 10)  # 40 kB
        second = first.exp()  # 80 kB
        del first
        return second.neg()  # 80 kB again

    assert peak_bytes(function) == 80_000
    assert peak_bytes(lambda: torch.zeros(1000, 10).sort(0).values.sum()) > 40_000 + 80_000
    assert peak_bytes(lambda: None) == 0


def test_it_is_the_peak_and_not_the_sum():
    def function() -> None:
        for _ in range(5):
            torch.zeros(1000, 10)

    assert peak_bytes(function) == 40_000


def test_a_device_without_a_measure_is_refused():
    with pytest.raises(ValueError, match="device must be a CPU or CUDA device"):
        peak_bytes(lambda: None, device="meta")


def model() -> nn.Sequential:
    layers = [nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH))


def peaks(network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, int, int]:
    """Of a first step with all that is kept afterwards, of its update alone, of its backward."""
    inputs, labels = torch.randn(BATCH, WIDTH), torch.randint(0, WIDTH, (BATCH,))

    def backward() -> None:
        functional.cross_entropy(network(inputs), labels).backward()

    def whole() -> None:
        backward()
        optimiser.step()

    whole_step = peak_bytes(whole)
    optimiser.zero_grad()
    backward()
    update = peak_bytes(optimiser.step)
    optimiser.zero_grad()
    return whole_step, update, peak_bytes(backward)


def test_gradient_memory_is_that_of_the_factors():
    """Beyond weights, activations and errors: at most 1.2 x 4 k (m + n) bytes and one block."""
    network = model()
    factors, block = 3 * 4 * RANK * 2 * WIDTH, 4 * BLOCK * 2 * WIDTH
    optimiser = LowRankSGD(network, 0.1, rank=RANK, block_size=BLOCK)
    whole, update, activations_and_errors = peaks(network, optimiser)
    allowed = 1.2 * factors + block
    assert whole - activations_and_errors <= allowed
    assert factors + update <= allowed  # what is kept between steps, and the worst of the update
    assert 0.5 * factors / 3 < update  # the measure sees the update


def test_a_dense_gradient_would_be_seen():
    network = model()
    whole, _, _ = peaks(network, torch.optim.SGD(network.parameters(), 0.1))
    assert whole > 3 * 4 * WIDTH * WIDTH


def test_a_convolution_holds_the_patches_of_one_block():
    layer, inputs = nn.Conv2d(16, 24, 3, padding=1), torch.randn(32, 16, 20, 20)
    patches = 4 * len(inputs) * 16 * 9 * 400
    optimiser = LowRankSGD(layer, 0.1, rank=RANK, block_size=2)
    layer(inputs).square().mean().backward()
    update = peak_bytes(optimiser.step)
    optimiser.zero_grad()
    whole = LowRankSGD(layer, 0.1, method="svd", rank=RANK)
    layer(inputs).square().mean().backward()
    assert peak_bytes(whole.step) > patches  # the measure sees them
    errors_and_inputs = 4 * inputs.numel() * (24 / 16 + 22**2 / 400)
    assert update < errors_and_inputs + 3 * patches * 2 / len(inputs)
