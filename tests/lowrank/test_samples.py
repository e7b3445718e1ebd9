"""Samples against autograd's own weight gradients (T21, T22)."""

import pytest
import torch
from torch import nn

from toolkit.lowrank import conv2d_samples, layer_samples, linear_samples

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def gradients(layer, inputs):
    """Return the output errors of a random loss, and autograd's gradients."""
    outputs = layer(inputs)
    outputs.retain_grad()
    generator = torch.Generator().manual_seed(1)
    weighting = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    (weighting.to(outputs) * outputs.tanh()).mean().backward()
    weight = layer.weight.grad.flatten(1)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias.grad[:, None]], dim=1)
    return outputs.grad, weight


def check(layer, inputs, dtype):
    layer, inputs = layer.to(dtype), inputs.to(dtype)
    output_errors, expected = gradients(layer, inputs)
    actual = torch.cat([d.T @ a for d, a in layer_samples(layer, inputs, output_errors)])
    assert float((actual - expected).norm() / expected.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("leading", [(7,), (2, 3)])
def test_linear(dtype, bias, leading):
    torch.manual_seed(0)
    check(nn.Linear(5, 4, bias=bias), torch.randn(*leading, 5), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"stride": 2},
        {"padding": 1},
        {"dilation": 2},
        {"groups": 2},
        {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2},
    ],
)
def test_conv2d(dtype, bias, knobs):
    torch.manual_seed(0)
    check(nn.Conv2d(4, 6, (3, 2), bias=bias, **knobs), torch.randn(3, 4, 9, 8), dtype)


def test_each_group_is_a_matrix_of_its_own():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    inputs = torch.randn(2, 4, 5, 5)
    pairs = layer_samples(layer, inputs, torch.randn(2, 6, 3, 3))
    assert [(d.shape, a.shape) for d, a in pairs] == [((18, 3), (18, 19))] * 2


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="agree but for the last dimension"):
        linear_samples(torch.ones(3, 4), torch.ones(2, 5))
    with pytest.raises(ValueError, match="must have 9 positions for 1 inputs; got 16 for 1"):
        conv2d_samples(torch.ones(1, 2, 5, 5), torch.ones(1, 2, 4, 4), kernel_size=(3, 3))
    with pytest.raises(ValueError, match="groups must divide the 3 and 4 channels; got 2"):
        conv2d_samples(torch.ones(1, 3, 5, 5), torch.ones(1, 4, 3, 3), kernel_size=(3, 3), groups=2)
    with pytest.raises(TypeError, match="layer must be a Linear or a Conv2d; got ReLU"):
        layer_samples(nn.ReLU(), torch.ones(1, 1), torch.ones(1, 1))
    with pytest.raises(ValueError, match="mode 'reflect'"):
        layer_samples(
            nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
            torch.ones(1, 1, 4, 4),
            torch.ones(1, 1, 4, 4),
        )
