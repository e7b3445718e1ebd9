"""Models by name: shapes, names, first weights, and that they learn."""

import math

import pytest
import torch
from torch import nn

from toolkit.training import Dataset, gaussians, load_dataset, make_model, model_names
from toolkit.training.layers.modules import initial_weights

NAMES = pytest.mark.parametrize("name", ["mlp", "lenet", "vgg"])
CONVOLUTIONS = pytest.mark.parametrize("name", ["lenet", "vgg"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(*shape, classes=10):
    """A data set of two random pictures for each class."""
    inputs = torch.rand(2 * classes, *shape, generator=seeded())
    labels = torch.arange(2 * classes) % classes
    return Dataset.from_arrays(inputs, labels, inputs, labels, name="pictures")


def made(name, data=None, seed=0, **knobs):
    """A model, and its layers that have matrices by name."""
    data = data or pictures(3, 32, 32)
    model = make_model(name, data, generator=seeded(seed), **knobs)
    kinds = nn.Linear | nn.Conv2d
    return model, {n: part for n, part in model.named_children() if isinstance(part, kinds)}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 17), (1, 12, 12)])
@NAMES
def test_flat_pictures_of_any_size_give_one_score_a_class(name, shape):
    data = pictures(*shape, classes=7)
    model, layers = made(name, data, hidden=[20])
    scores = model(data.train_inputs)
    assert scores.shape == (14, 7)
    scores.sum().backward()
    assert all(part.weight.grad.abs().sum() > 0 for part in layers.values())


@pytest.mark.parametrize(
    ("name", "knobs", "layers"),
    [
        ("mlp", {}, "layer1 layer2"),
        ("mlp", {"hidden": []}, "layer1"),
        ("mlp", {"hidden": [30, 20, 10]}, "layer1 layer2 layer3 layer4"),
        ("lenet", {}, "conv1 conv2 fc1 fc2 fc3"),
        ("vgg", {}, "conv1 conv2 conv3 conv4 conv5 fc1"),
    ],
)
def test_layers_have_names_that_tell_what_they_are(name, knobs, layers):
    _, found = made(name, **knobs)
    assert list(found) == layers.split()
    if len(widths := knobs.get("hidden", [])) == 3:
        shapes = [tuple(part.weight.shape) for part in found.values()]
        assert shapes == list(zip([*widths, 10], [3072, *widths], strict=True))


def test_lenet_on_28_by_28_is_lenet_5():
    """Weights and biases of LeNet-5 with full connections: 156, 2416, 48120, 10164, 850."""
    _, layers = made("lenet", pictures(1, 28, 28))
    sizes = [sum(p.numel() for p in part.parameters()) for part in layers.values()]
    assert sizes == [156, 2416, 48120, 10164, 850]


def test_first_weights_of_the_mlp_are_those_of_initial_weights_in_turn():
    _, layers = made("mlp", load_dataset("digits"), seed=5, hidden=[32, 16])
    same = seeded(5)
    for layer, shape in zip(layers.values(), [(32, 64), (16, 32), (10, 16)], strict=True):
        drawn = initial_weights(*shape, same)
        assert torch.equal(layer.weight, drawn[:, :-1])
        assert torch.equal(layer.bias, drawn[:, -1])


@CONVOLUTIONS
def test_first_weights_before_a_relu_are_he_uniform_and_the_last_are_torchs(name):
    *inner, last = made(name, hidden=[64])[1].values()
    for layer in [*inner, last]:
        inputs = layer.weight[0].numel()
        bound = math.sqrt((1 if layer is last else 6) / inputs)
        drawn = layer.weight.detach().flatten()
        assert 0.97 * bound < drawn.abs().max() <= bound
        spread = bound / math.sqrt(3)
        assert abs(float(drawn.mean())) < 4 * spread / math.sqrt(len(drawn))
        assert float(drawn.std()) == pytest.approx(spread, rel=3 / math.sqrt(len(drawn)))
        assert layer.bias is None or layer.bias.abs().max() <= 1 / math.sqrt(inputs)


@CONVOLUTIONS
def test_signals_neither_fade_nor_grow_on_their_way(name):
    found, sizes = pictures(3, 32, 32).train_inputs - 0.5, []
    for part in made(name)[0]:
        found = part(found)
        if isinstance(part, nn.ReLU):
            sizes.append(float(found.detach().square().mean().sqrt()))
    assert 0.2 < min(sizes) < max(sizes) < 3


@NAMES
def test_first_weights_come_from_the_generator_alone(name):
    data = pictures(1, 8, 8)
    before = torch.random.get_rng_state()
    first = made(name, data, 3)[0].state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = (made(name, data, seed)[0].state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert all(torch.isfinite(value).all() for value in first.values())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("resnet", load_dataset("digits"), "name must be one of mlp, lenet, vgg; got 'resnet'"),
        ("lenet", gaussians(), "model lenet needs pictures, but gaussians has no"),
        ("vgg", gaussians(), "model vgg needs pictures, but gaussians has no"),
        ("lenet", pictures(1, 40, 3), "of 4 x 4 or more; those of pictures"),
        ("vgg", pictures(1, 40, 7), "of 8 x 8 or more; those of pictures"),
    ],
)
def test_what_no_model_fits_is_refused(name, data, message):
    assert model_names() == ["mlp", "lenet", "vgg"]
    with pytest.raises(ValueError, match=message):
        made(name, data)


@pytest.mark.parametrize(("name", "rate"), [("mlp", 0.5), ("lenet", 0.1), ("vgg", 0.1)])
def test_models_learn_digits(name, rate):
    data, draw = load_dataset("digits"), seeded(1)
    model = make_model(name, data, generator=draw)
    optimiser = torch.optim.SGD(model.parameters(), rate)
    for _ in range(8):
        for chosen in torch.randperm(len(data.train_labels), generator=draw).split(32)[:-1]:
            optimiser.zero_grad()
            scores = model(data.train_inputs[chosen])
            nn.functional.cross_entropy(scores, data.train_labels[chosen]).backward()
            optimiser.step()
    found = model.eval()(data.test_inputs).argmax(1)
    assert float((found == data.test_labels).float().mean()) > 0.93
