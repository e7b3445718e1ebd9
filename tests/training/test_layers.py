"""Layers on arrays against torch's own layers: outputs, input gradients, weight gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.crossbar import Converter, Crossbar, DigitalArray, Periphery, TiledCrossbar, get_device
from toolkit.lowrank import SBPCA, TruncatedSVD
from toolkit.lowrank.estimator import Streamed, check_batch
from toolkit.training import to_crossbar
from toolkit.training.layers.convolution import Geometry
from toolkit.training.layers.convolution_adapters import ConvolutionAdapter
from toolkit.training.layers.modules import CrossbarConv2d, CrossbarLinear, block_samples

GEOMETRIES = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"padding": (2, 1), "stride": (1, 3)},
    {"padding": "same", "kernel_size": (4, 3)},
    {"padding": "valid", "dilation": (1, 2)},
    {"padding": "same", "dilation": 2, "padding_mode": "circular"},
    {"padding": 2, "padding_mode": "reflect", "bias": False},
    {"padding": (1, 2), "padding_mode": "replicate", "stride": 2},
    {"groups": 2, "padding": 1},
    {"groups": 4, "stride": 2, "bias": False},
    {"kernel_size": 1},
    {"kernel_size": (3, 1), "dilation": 3, "stride": 2, "padding": (3, 0)},
]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_bias(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The matrix of a layer, its bias as the last column."""
    parts = [weight.detach().flatten(1)] + ([] if bias is None else [bias.detach()[:, None]])
    return torch.cat(parts, dim=1)


def gradient(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    return with_bias(layer.weight.grad, None if layer.bias is None else layer.bias.grad)


def ideal(matrix: torch.Tensor, **options: object) -> Crossbar:
    """A crossbar that reads exactly: no noise, no converters, no wires."""
    return Crossbar.from_weights(matrix, device=get_device("ideal"), w_max=4.0, **options)


def tiled(matrix: torch.Tensor) -> TiledCrossbar:
    device = get_device("ideal")
    return TiledCrossbar.from_weights(matrix, tile=(3, 10), device=device, w_max=4.0)


def convolution(dtype: torch.dtype = torch.float64, **knobs: object) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(4, 8, **{"kernel_size": 3, **knobs}).to(dtype)


def on_arrays(layer: nn.Conv2d, make: object = DigitalArray.from_weights) -> CrossbarConv2d:
    matrices = with_bias(layer.weight, layer.bias).chunk(layer.groups)
    arrays = [make(matrix) for matrix in matrices]
    return CrossbarConv2d(arrays, geometry=Geometry.of(layer), bias=layer.bias is not None)


DIGITAL_AND_ANALOG = pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal])


@pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal, tiled])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("knobs", GEOMETRIES, ids=str)
def test_convolution_is_torchs(knobs, dtype, tolerance, make):
    layer = convolution(dtype, **knobs)
    arrays = on_arrays(layer, make)
    mine, theirs = (randn(5, 4, 9, 11, dtype=dtype).requires_grad_() for _ in range(2))
    outputs, expected = arrays(mine), layer(theirs)
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=4 * tolerance)
    errors = randn(*expected.shape, seed=1, dtype=dtype)
    outputs.backward(errors)
    expected.backward(errors)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=tolerance, atol=4 * tolerance)
    made = torch.cat([d.T @ a for d, a in arrays.samples])
    atol = 4 * tolerance * float(gradient(layer).abs().max())
    torch.testing.assert_close(made, gradient(layer), rtol=tolerance, atol=atol)


@pytest.mark.parametrize("lead", [(), (6,), (3, 2), (2, 1, 5)])
@pytest.mark.parametrize("bias", [True, False])
@DIGITAL_AND_ANALOG
def test_linear_takes_any_leading_dimensions(lead, bias, make):
    torch.manual_seed(2)
    layer = nn.Linear(7, 3, bias=bias, dtype=torch.float64)
    mine, theirs = (randn(*lead, 7).requires_grad_() for _ in range(2))
    arrays = CrossbarLinear(make(with_bias(layer.weight, layer.bias)), bias=bias)
    outputs, expected = arrays(mine), layer(theirs)
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    ((errors, activations),) = arrays.samples
    assert not (errors.requires_grad or activations.requires_grad)
    torch.testing.assert_close(errors.T @ activations, gradient(layer))


def test_an_image_without_a_batch():
    layer = convolution(padding=1)
    arrays = on_arrays(layer, ideal)
    outputs = arrays(randn(4, 6, 6))
    torch.testing.assert_close(outputs, layer(randn(4, 6, 6)))
    outputs.sum().backward()
    assert arrays.samples[0][0].shape == (36, 8)


@DIGITAL_AND_ANALOG
def test_calls_add_up_until_cleared(make):
    layer = convolution()
    arrays = on_arrays(layer, make)
    inputs = randn(2, 3, 4, 6, 6)
    for each in (arrays, layer):
        (each(inputs[0]).sum() + each(inputs[1]).square().sum()).backward()
    ((errors, activations),) = arrays.samples
    assert len(errors) == 2 * 3 * 16
    torch.testing.assert_close(errors.T @ activations, gradient(layer))
    arrays.clear_samples()
    assert arrays.samples == []


def test_only_calls_that_backward_went_through_count():
    layer = CrossbarLinear(DigitalArray.from_weights(torch.ones(2, 4)))
    with torch.no_grad():
        layer(torch.ones(5, 3))
    layer(torch.ones(5, 3))  # no backward
    assert layer.samples == []
    layer.requires_grad_(False)
    assert not layer(torch.ones(5, 3)).requires_grad


@DIGITAL_AND_ANALOG
def test_an_in_place_activation_may_follow_and_a_changed_input_is_refused(make):
    arrays, inputs, gradients = on_arrays(convolution(), make), randn(3, 4, 6, 6), []
    for inplace in (False, True):
        (nn.ReLU(inplace=inplace)(arrays(inputs)) * 3).square().sum().backward()
        ((errors, activations),) = arrays.samples
        gradients.append(errors.T @ activations)
        arrays.clear_samples()
    assert torch.equal(*gradients)
    loss = arrays(inputs).sum()
    inputs.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_converters_reach_the_convolution():
    periphery = Periphery(adc=Converter(bits=4, bound=2.0))
    arrays = on_arrays(convolution(), lambda matrix: ideal(matrix, periphery=periphery))
    outputs = arrays(randn(3, 4, 6, 6))
    levels = outputs * 7 / 2.0
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    assert outputs.abs().max().item() <= 2.0


def test_block_counts_images():
    layer = on_arrays(convolution(torch.float32))
    assert block_samples(layer, 8) == 8
    layer(torch.ones(3, 4, 9, 11))
    assert block_samples(layer, 8) == 8 * 7 * 9
    linear = CrossbarLinear(DigitalArray.from_weights(torch.ones(2, 4)))
    linear(torch.ones(6, 5, 3))
    assert block_samples(linear, 8) == 40


def test_autocast_leaves_the_arrays_dtype():
    layer = on_arrays(convolution(torch.float32), ideal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = layer(randn(2, 4, 6, 6, dtype=torch.bfloat16))
        outputs.sum().backward()
    assert outputs.dtype == torch.float32
    assert {t.dtype for pair in layer.samples for t in pair} == {torch.float32}


@pytest.mark.parametrize("device", ["digital", "EpiRAM"])
@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("linear", torch.zeros(8, 63), r"^input must have shape \(\.\.\., 64\); got \(8, 63\)"),
        ("conv", torch.zeros(2, 4, 8, 8), r"^input must be \(batch, 3, .*got \(2, 4, 8, 8"),
        (
            "conv",
            torch.ones(1, 3, 2, 6),
            "inputs must be at least as large as the kernel|Kernel size can't be greater",
        ),
        ("conv", torch.full((1, 3, 6, 6), torch.nan), "finite"),
        ("linear", np.zeros((8, 64)), r"^input must be a torch\.Tensor; got array"),
        ("conv", np.zeros((8, 64)), r"^input must be a torch\.Tensor; got array"),
    ],
)
def test_inputs_that_do_not_fit_are_named_as_the_caller_gave_them(device, kind, inputs, message):
    layer = nn.Linear(64, 4) if kind == "linear" else nn.Conv2d(3, 4, 3)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        to_crossbar(layer, device=device)(inputs)


def test_arrays_that_do_not_fit_are_refused():
    array, geometry = DigitalArray.from_weights(torch.ones(2, 4)), Geometry(kernel_size=(3, 3))
    with pytest.raises(TypeError, match="array must be a crossbar"):
        CrossbarLinear(torch.ones(2, 4))
    with pytest.raises(ValueError, match="multiple of 9 columns"):
        CrossbarConv2d([array], geometry=geometry)
    with pytest.raises(ValueError, match="must be 1 of one shape"):
        CrossbarConv2d([array, array], geometry=geometry)


@pytest.mark.filterwarnings("ignore")  # torch's, about what it leaves uncompiled
def test_torch_compile_leaves_arrays_alone():
    model = to_crossbar(nn.Sequential(nn.Linear(4, 3, bias=False)), device="EcRam", seed=0)
    inputs = torch.randn(10, 8)[::2, ::2]  # strided: numba, too, has something to compile
    outputs = torch.compile(model, backend="aot_eager")(inputs)
    torch.testing.assert_close(outputs, model(inputs))
    outputs.sum().backward()
    assert len(model[0].samples) == 1


# ---------------------------------------------------------------- samples made block by block


@pytest.mark.parametrize("knobs", GEOMETRIES, ids=str)
@pytest.mark.parametrize("estimator", [{}, {"passes": 2, "core": "full"}], ids=str)
def test_patches_made_block_by_block_give_the_same_update(knobs, estimator):
    layer = convolution(**knobs)
    adapter, inputs = ConvolutionAdapter.of(layer), randn(7, 4, 9, 11)
    errors = randn(*layer(inputs).shape, seed=1)
    call = {"inputs": inputs, "errors": errors, "bias": layer.bias is not None}
    positions = errors[0, 0].numel()
    for group in range(layer.groups):
        whole, streamed = adapter.samples(**call)[group], adapter.streams(**call)[group]
        assert streamed[1].shape == whole[1].shape
        for block in (2 * positions, 10, 7 * positions):
            one, other = (SBPCA(rank=1, block_size=block, **estimator) for _ in range(2))
            for _ in range(2):
                expected, found = one.update(*whole), other.update(*streamed)
                assert float((found.dense() - expected.dense()).abs().max()) < 1e-11


def test_streamed_activations_are_checked_like_others():
    source, errors = randn(6, 4), randn(6, 3)
    parts = []

    def stream(source, has_ones=False):
        def make(start, stop):
            parts.append((start, stop))
            return source[start:stop]

        return Streamed((6, 4), source, has_ones, make)

    update = SBPCA(rank=2, block_size=4).update(errors, stream(source))
    assert parts == [(0, 4), (4, 6)] and bool(update.sigma.abs().sum() > 0.0)
    parts.clear()
    whole = TruncatedSVD(rank=2).update(errors, stream(source))  # reads no blocks
    assert parts == [(0, 6)]
    assert torch.equal(whole.dense(), TruncatedSVD(rank=2).update(errors, source).dense())
    for entry in (float("nan"), float("inf")):
        spoiled = source.clone()
        spoiled[5, 3] = entry
        with pytest.raises(ValueError, match="activations must be finite"):
            SBPCA(rank=2).update(errors, stream(spoiled))
    with pytest.raises(TypeError, match="share a dtype"):
        SBPCA(rank=2).update(errors, stream(source.float()))
    assert not check_batch(errors, stream(torch.zeros_like(source)))
    assert check_batch(errors, stream(torch.zeros_like(source), has_ones=True))
