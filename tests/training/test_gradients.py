"""The layers' (errors, activations) and the digital updates against torch's autograd and SGD."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from toolkit.crossbar import DigitalArray
from toolkit.training import Experiment, load_dataset
from toolkit.training.layers.modules import CrossbarLinear


def as_torch(run: Experiment) -> nn.Sequential:
    """The run's network, rebuilt from nn.Linear with its present weights."""
    modules: list[nn.Module] = []
    for layer in run.layers.values():
        weights = layer.array.weights
        linear = nn.Linear(weights.shape[1] - 1, weights.shape[0])
        linear.weight.data, linear.bias.data = weights[:, :-1].clone(), weights[:, -1].clone()
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def linears(model: nn.Sequential) -> list[nn.Linear]:
    return [module for module in model if isinstance(module, nn.Linear)]


def with_biases(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.cat([weight.detach(), bias.detach()[:, None]], dim=1)


def test_errors_and_activations_make_autograds_gradient():
    run = Experiment(hidden=[32, 16], seed=3)
    model = as_torch(run)
    data = load_dataset("digits")
    inputs, labels = data.train_inputs[:50], data.train_labels[:50]
    for network in (run.network, model):
        functional.cross_entropy(network(inputs), labels).backward()
    for layer, linear in zip(run.layers.values(), linears(model), strict=True):
        gradient = with_biases(linear.weight.grad, linear.bias.grad)
        ((errors, activations),) = layer.samples
        assert not (errors.requires_grad or activations.requires_grad)
        made = errors.T @ activations
        torch.testing.assert_close(made, gradient, atol=1e-6 * float(gradient.abs().max()), rtol=0)


def test_gradient_flows_on_to_inputs_that_want_one():
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    layer = CrossbarLinear(DigitalArray.from_weights(weights))
    inputs = torch.randn(7, 4, requires_grad=True)
    layer(inputs).square().sum().backward()
    expected = 2 * (inputs @ weights[:, :4].T + weights[:, 4]) @ weights[:, :4]
    torch.testing.assert_close(inputs.grad, expected.detach())


def test_sgd_is_torchs_sgd():
    knobs = {"batch_size": 32, "learning_rate": 0.4, "seed": 5}
    run = Experiment(method="sgd", device="digital", **knobs)
    model = as_torch(run)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.4)
    data, order = load_dataset("digits"), Experiment(**knobs)._order
    for _ in range(60):  # past an epoch of 43 batches: the second permutation too
        picked = order.take(32)
        loss = functional.cross_entropy(model(data.train_inputs[picked]), data.train_labels[picked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert run.step().loss == pytest.approx(loss.item(), rel=1e-4)
    for layer, linear in zip(run.layers.values(), linears(model), strict=True):
        trained = with_biases(linear.weight, linear.bias)
        torch.testing.assert_close(layer.array.weights, trained, atol=2e-5, rtol=1e-4)


def test_svd_at_full_rank_takes_sgds_steps():
    """No rank is cut when the rank is that of the gradient: the exact methods agree."""
    runs = [Experiment(method=m, rank=10, hidden=[10], batch_size=16) for m in ("sgd", "svd")]
    for _ in range(10):
        losses = [run.step().loss for run in runs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_evaluation_reads_the_test_set_through_the_arrays():
    run = Experiment(seed=1)
    run.step()
    data = load_dataset("digits")
    with torch.no_grad():
        scores = as_torch(run)(data.test_inputs)
    loss, accuracy = run.evaluate()
    assert loss == pytest.approx(float(functional.cross_entropy(scores, data.test_labels)), 1e-5)
    assert accuracy == pytest.approx(float((scores.argmax(1) == data.test_labels).float().mean()))
