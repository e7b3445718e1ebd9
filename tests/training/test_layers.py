"""Layers on arrays against torch's own layers: outputs, input gradients, weight gradients."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from toolkit.crossbar import Crossbar, DigitalArray, TiledCrossbar, get_device
from toolkit.training import to_crossbar
from toolkit.training.layers.convolution import Geometry
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


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrices(layer: nn.Linear | nn.Conv2d, groups: int = 1) -> list[torch.Tensor]:
    """The layer's weights, one matrix for each group, its bias as their last column."""
    matrix = layer.weight.detach().flatten(1)
    if layer.bias is not None:
        matrix = torch.cat([matrix, layer.bias.detach()[:, None]], dim=1)
    return list(matrix.chunk(groups))


def ideal(matrix: torch.Tensor) -> Crossbar:
    """A crossbar that reads exactly: no noise, no converters, no wires."""
    return Crossbar.from_weights(matrix, device=get_device("ideal"), w_max=4.0)


def convolution(dtype: torch.dtype, **knobs: object) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(4, 8, **{"kernel_size": 3, **knobs}).to(dtype)


def on_arrays(layer: nn.Conv2d, make: object = DigitalArray.from_weights) -> CrossbarConv2d:
    arrays = [make(matrix) for matrix in matrices(layer, layer.groups)]
    return CrossbarConv2d(arrays, geometry=Geometry.of(layer), bias=layer.bias is not None)


@pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("knobs", GEOMETRIES, ids=str)
def test_convolution_is_torchs(knobs, dtype, tolerance, make):
    layer = convolution(dtype, **knobs)
    arrays = on_arrays(layer, make)
    inputs = torch.randn(5, 4, 9, 11, generator=seeded(), dtype=dtype)
    mine, theirs = (inputs.clone().requires_grad_() for _ in range(2))
    outputs, expected = arrays(mine), layer(theirs)
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=4 * tolerance)
    errors = torch.randn(expected.shape, generator=seeded(1), dtype=dtype)
    outputs.backward(errors)
    expected.backward(errors)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=tolerance, atol=4 * tolerance)
    made = torch.cat([d.T @ a for d, a in arrays.samples])
    gradient = layer.weight.grad.flatten(1)
    if layer.bias is not None:
        gradient = torch.cat([gradient, layer.bias.grad[:, None]], dim=1)
    atol = 4 * tolerance * float(gradient.abs().max())
    torch.testing.assert_close(made, gradient, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("lead", [(), (6,), (3, 2), (2, 1, 5)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal])
def test_linear_takes_any_leading_dimensions(lead, bias, make):
    torch.manual_seed(2)
    layer = nn.Linear(7, 3, bias=bias, dtype=torch.float64)
    mine = torch.randn(*lead, 7, generator=seeded(), dtype=torch.float64, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    arrays = CrossbarLinear(make(matrices(layer)[0]), bias=bias)
    outputs, expected = arrays(mine), layer(theirs)
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    ((errors, activations),) = arrays.samples
    torch.testing.assert_close(errors.T @ activations[:, :7], layer.weight.grad)
    assert activations.shape[1] == 7 + bias


def test_tiles_are_one_layer():
    layer = convolution(torch.float64, padding=1)
    tiled = on_arrays(
        layer,
        lambda m: TiledCrossbar.from_weights(m, tile=(3, 10), device=get_device("ideal"), w_max=2),
    )
    inputs = torch.randn(2, 4, 6, 6, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(tiled(inputs), layer(inputs).detach(), rtol=1e-12, atol=1e-12)


def test_an_image_without_a_batch():
    layer = convolution(torch.float32, padding=1)
    arrays = on_arrays(layer, ideal)
    image = torch.randn(4, 6, 6, generator=seeded())
    outputs = arrays(image)
    torch.testing.assert_close(outputs, layer(image), rtol=1e-5, atol=1e-6)
    outputs.sum().backward()
    assert arrays.samples[0][0].shape == (36, 8)


@pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal])
def test_calls_add_up_until_cleared(make):
    layer = convolution(torch.float64)
    arrays = on_arrays(layer, make)
    inputs = torch.randn(2, 3, 4, 6, 6, generator=seeded(), dtype=torch.float64)
    (arrays(inputs[0]).sum() + arrays(inputs[1]).square().sum()).backward()
    layer.zero_grad()
    (layer(inputs[0]).sum() + layer(inputs[1]).square().sum()).backward()
    ((errors, activations),) = arrays.samples
    assert len(errors) == 2 * 3 * 16
    torch.testing.assert_close((errors.T @ activations)[:, :-1], layer.weight.grad.flatten(1))
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


@pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal])
def test_an_in_place_activation_may_follow(make):
    arrays = on_arrays(convolution(torch.float64), make)
    inputs = torch.randn(3, 4, 6, 6, generator=seeded(), dtype=torch.float64)
    gradients = []
    for inplace in (False, True):
        (nn.ReLU(inplace=inplace)(arrays(inputs)) * 3).square().sum().backward()
        ((errors, activations),) = arrays.samples
        gradients.append(errors.T @ activations)
        arrays.clear_samples()
    assert torch.equal(*gradients)


def test_an_input_changed_before_backward_is_refused():
    layer = CrossbarLinear(DigitalArray.from_weights(torch.ones(2, 4)))
    inputs = torch.ones(5, 3)
    loss = layer(inputs).sum()
    inputs.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_read_noise_and_converters_reach_the_convolution():
    from toolkit.crossbar import Converter, Periphery

    layer = convolution(torch.float64)
    periphery = Periphery(adc=Converter(bits=4, bound=2.0))
    arrays = on_arrays(
        layer,
        lambda m: Crossbar.from_weights(
            m, device=get_device("ideal"), w_max=2.0, periphery=periphery
        ),
    )
    outputs = arrays(torch.randn(3, 4, 6, 6, generator=seeded(), dtype=torch.float64))
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


def trained_a_little(model: nn.Module, steps: int, inputs: torch.Tensor) -> None:
    from toolkit.lowrank import FullGradient

    for _ in range(steps):
        model(inputs).square().mean().backward()
        for layer in model:
            for array, (d, a) in zip(layer.arrays, layer.samples, strict=True):
                array.apply(FullGradient().update(d, a), learning_rate=0.1)
            layer.clear_samples()


def noisy_model(seed: int) -> nn.Sequential:
    def make(matrix: torch.Tensor) -> Crossbar:
        return Crossbar.from_weights(matrix, device=get_device("Ag:a-Si"), w_max=2.0, seed=seed)

    return nn.Sequential(on_arrays(convolution(torch.float32, groups=2), make))


def test_state_dict_saves_and_restores_bit_for_bit(tmp_path):
    inputs = torch.randn(2, 4, 6, 6, generator=seeded())
    model, other = noisy_model(0), noisy_model(1)
    trained_a_little(model, 2, inputs)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    for each in (model, other):
        trained_a_little(each, 2, inputs)
    for a, b in zip(model[0].arrays, other[0].arrays, strict=True):
        assert torch.equal(a.conductance, b.conductance)
        assert torch.equal(a.pulse_count, b.pulse_count)
    assert torch.equal(model(inputs), other(inputs))


def test_a_deep_copy_trains_alike_and_apart():
    inputs = torch.randn(2, 4, 6, 6, generator=seeded())
    model = noisy_model(0)
    twin = copy.deepcopy(model)
    before = model[0].arrays[0].conductance
    trained_a_little(twin, 2, inputs)
    assert torch.equal(model[0].arrays[0].conductance, before)
    trained_a_little(model, 2, inputs)
    assert torch.equal(model[0].arrays[0].conductance, twin[0].arrays[0].conductance)


def test_arrays_stay_where_they_are():
    model = noisy_model(0)
    with pytest.raises(ValueError, match="move the model before to_crossbar"):
        model.double()
    assert model[0].anchor.dtype == torch.float32
    model.to("cpu")
    assert model(torch.ones(1, 4, 6, 6)).dtype == torch.float32


def test_autocast_leaves_the_arrays_dtype():
    layer = on_arrays(convolution(torch.float32), ideal)
    inputs = torch.randn(2, 4, 6, 6, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = layer(inputs.bfloat16())
        outputs.sum().backward()
    assert outputs.dtype == torch.float32
    assert {t.dtype for pair in layer.samples for t in pair} == {torch.float32}


@pytest.mark.parametrize("make", [DigitalArray.from_weights, ideal])
def test_nan_is_refused_at_the_door(make):
    layer = on_arrays(convolution(torch.float32), make)
    with pytest.raises(ValueError, match="finite"):
        layer(torch.full((1, 4, 6, 6), torch.nan))


def test_bad_input_is_one_clear_error():
    array = DigitalArray.from_weights(torch.ones(2, 4))
    geometry = Geometry(kernel_size=(3, 3))
    with pytest.raises(TypeError, match="array must be a crossbar"):
        CrossbarLinear(torch.ones(2, 4))
    with pytest.raises(ValueError, match="multiple of 9 columns"):
        CrossbarConv2d([array], geometry=geometry)
    with pytest.raises(ValueError, match="must be 1 of one shape"):
        CrossbarConv2d([array, array], geometry=geometry)
    layer = on_arrays(convolution(torch.float32), ideal)
    with pytest.raises(ValueError, match=r"input must be \(batch, 4, height, width\)"):
        layer(torch.ones(1, 3, 6, 6))
    with pytest.raises(ValueError, match="at least as large as the kernel"):
        layer(torch.ones(1, 4, 2, 6))


def test_patches_are_unfolds_patches():
    """Against torch's own im2col and col2im, for every combination of a few geometries."""
    inputs = torch.randn(2, 3, 8, 9, generator=seeded(), dtype=torch.float64)
    for kernel, stride, dilation in itertools.product([(1, 1), (2, 3)], [1, 2], [1, 2]):
        geometry = Geometry(kernel_size=kernel, stride=(stride,) * 2, dilation=(dilation,) * 2)
        columns = functional.unfold(inputs, kernel, dilation, 0, stride)
        expected = columns.transpose(1, 2).reshape(-1, columns.shape[1])
        patches = geometry.patches(inputs, bias=True)
        assert torch.equal(patches[:, :-1], expected)
        assert bool((patches[:, -1] == 1).all())
        folded = functional.fold(columns, (8, 9), kernel, dilation, 0, stride)
        torch.testing.assert_close(geometry.folded(patches, inputs.shape), folded)


@pytest.mark.filterwarnings("ignore")  # torch's, about what it leaves uncompiled
def test_torch_compile_leaves_arrays_alone():
    model = to_crossbar(nn.Sequential(nn.Linear(4, 3, bias=False)), device="EcRam", seed=0)
    inputs = torch.randn(10, 8)[::2, ::2]  # strided: numba, too, has something to compile
    outputs = torch.compile(model, backend="aot_eager")(inputs)
    torch.testing.assert_close(outputs, model(inputs))
    outputs.sum().backward()
    assert len(model[0].samples) == 1
