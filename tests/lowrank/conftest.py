import pytest
import torch


@pytest.fixture
def batch():
    """Make a (errors, activations) batch in float64 with a decaying spectrum."""

    def make(batch=64, m=12, n=20, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        size = min(m, n)
        hidden = torch.randn(batch, size, generator=generator, dtype=torch.float64)
        hidden *= 2.0 ** -torch.arange(size)
        errors = hidden @ torch.randn(size, m, generator=generator, dtype=torch.float64)
        activations = hidden @ torch.randn(size, n, generator=generator, dtype=torch.float64)
        errors += 0.1 * torch.randn(batch, m, generator=generator, dtype=torch.float64)
        return (errors / batch).to(dtype), activations.to(dtype)

    return make
