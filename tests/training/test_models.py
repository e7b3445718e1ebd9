"""Models by name: shapes, names, first weights, and that they learn."""

import math

import pytest
import torch
from torch import nn

from toolkit.training import Dataset, gaussians, load_dataset, make_model, model_names
from toolkit.training.layers.modules import initial_weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(shape, classes=10):
    """A data set of two random pictures for each class."""
    inputs = torch.rand(2 * classes, *shape, generator=generator())
    labels = torch.arange(2 * classes) % classes
    return Dataset.from_arrays(inputs, labels, inputs, labels, name="pictures")


def matrix_layers(model):
    kinds = nn.Linear | nn.Conv2d
    return {name: part for name, part in model.named_children() if isinstance(part, kinds)}


def test_unknown_models_are_refused():
    assert model_names() == ["mlp", "lenet", "vgg"]
    with pytest.raises(ValueError, match="name must be one of mlp, lenet, vgg; got 'resnet'"):
        make_model("resnet", load_dataset("digits"), generator=generator())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 17), (1, 12, 12)])
@pytest.mark.parametrize("name", ["mlp", "lenet", "vgg"])
def test_flat_pictures_of_any_size_give_one_score_a_class(name, shape):
    data = pictures(shape, classes=7)
    model = make_model(name, data, hidden=[20], generator=generator())
    scores = model(data.train_inputs)
    assert scores.shape == (14, 7)
    scores.sum().backward()
    assert all(part.weight.grad.abs().sum() > 0 for part in matrix_layers(model).values())


def test_layers_have_names_that_tell_what_they_are():
    data = pictures((3, 32, 32))
    names = {
        n: list(matrix_layers(make_model(n, data, generator=generator()))) for n in model_names()
    }
    assert names["mlp"] == ["layer1", "layer2"]
    assert names["lenet"] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert names["vgg"] == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc1"]
    wide = make_model("mlp", data, hidden=[30, 20, 10], generator=generator())
    shapes = {name: tuple(part.weight.shape) for name, part in matrix_layers(wide).items()}
    assert shapes == {
        "layer1": (30, 3072),
        "layer2": (20, 30),
        "layer3": (10, 20),
        "layer4": (10, 10),
    }
    assert list(matrix_layers(make_model("mlp", data, hidden=[], generator=generator()))) == [
        "layer1"
    ]


def test_lenet_on_28_by_28_is_lenet_5():
    """Weights and biases of LeNet-5 with full connections: 156, 2416, 48120, 10164, 850."""
    model = make_model("lenet", pictures((1, 28, 28)), generator=generator())
    sizes = [sum(p.numel() for p in part.parameters()) for part in matrix_layers(model).values()]
    assert sizes == [156, 2416, 48120, 10164, 850]


def test_first_weights_of_the_mlp_are_those_of_initial_weights_in_turn():
    data = load_dataset("digits")
    layers = matrix_layers(make_model("mlp", data, hidden=[32, 16], generator=generator(5)))
    same = generator(5)
    for layer, (outputs, inputs) in zip(
        layers.values(), [(32, 64), (16, 32), (10, 16)], strict=True
    ):
        drawn = initial_weights(outputs, inputs, same)
        assert torch.equal(layer.weight, drawn[:, :-1])
        assert torch.equal(layer.bias, drawn[:, -1])


@pytest.mark.parametrize("name", ["lenet", "vgg"])
def test_first_weights_before_a_relu_are_he_uniform_and_the_last_are_torchs(name):
    model = make_model(name, pictures((3, 32, 32)), hidden=[64], generator=generator())
    *inner, last = matrix_layers(model).values()
    for layer in [*inner, last]:
        inputs = layer.weight[0].numel()
        bound = math.sqrt((1 if layer is last else 6) / inputs)
        drawn = layer.weight.detach().flatten()
        assert 0.97 * bound < drawn.abs().max() <= bound
        spread = bound / math.sqrt(3)
        assert abs(float(drawn.mean())) < 4 * spread / math.sqrt(len(drawn))
        assert float(drawn.std()) == pytest.approx(spread, rel=3 / math.sqrt(len(drawn)))
        assert layer.bias is None or layer.bias.abs().max() <= 1 / math.sqrt(inputs)


@pytest.mark.parametrize("name", ["lenet", "vgg"])
def test_signals_neither_fade_nor_grow_on_their_way(name):
    data = pictures((3, 32, 32))
    model = make_model(name, data, generator=generator())
    found = data.train_inputs - 0.5
    sizes = []
    for part in model:
        found = part(found)
        if isinstance(part, nn.ReLU):
            sizes.append(float(found.detach().square().mean().sqrt()))
    assert 0.2 < min(sizes) < max(sizes) < 3


@pytest.mark.parametrize("name", ["mlp", "lenet", "vgg"])
def test_first_weights_come_from_the_generator_alone(name):
    data = pictures((1, 8, 8))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = make_model(name, data, generator=generator(3)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second = make_model(name, data, generator=generator(3)).state_dict()
    other = make_model(name, data, generator=generator(4)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert all(torch.isfinite(value).all() for value in first.values())


@pytest.mark.parametrize("name", ["lenet", "vgg"])
def test_convolutions_need_pictures(name):
    with pytest.raises(ValueError, match=f"model {name} needs pictures; gaussians has no"):
        make_model(name, gaussians(), generator=generator())


@pytest.mark.parametrize(("name", "side"), [("lenet", 3), ("vgg", 7)])
def test_convolutions_need_pictures_that_are_large_enough(name, side):
    with pytest.raises(ValueError, match=f"of {side + 1} x {side + 1} or more; those of pictures"):
        make_model(name, pictures((1, 40, side)), generator=generator())


@pytest.mark.parametrize(("name", "rate"), [("mlp", 0.5), ("lenet", 0.1), ("vgg", 0.1)])
def test_models_learn_digits(name, rate):
    data, draw = load_dataset("digits"), generator(1)
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
