"""Gradients that reach weights by another path than their layer's call: added, or refused."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from tests.training.test_optimiser import assert_same
from toolkit.crossbar import Coincidence
from toolkit.training import (
    DivergenceError,
    Experiment,
    LowRankSGD,
    crossbar_layers,
    release_weights,
    to_crossbar,
    to_digital,
)
from toolkit.training.layers.capture import attached

INPUTS = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 2), nn.Unflatten(0, (-1, 1)), nn.Flatten(2)).double()


def on(device: str, model: nn.Module, **options: object) -> nn.Module:
    return model if device == "plain" else to_crossbar(model, device=device, **options)


def plain(model: nn.Module) -> Tensor:
    inputs = INPUTS.view(-1, 1, 2, 3) if model[0].weight.ndim == 4 else INPUTS
    return model(inputs).square().sum()


def l2(model: nn.Module) -> Tensor:
    return plain(model) + 0.1 * sum(p.square().sum() for p in model.parameters())


def used_twice(model: nn.Module) -> Tensor:
    hidden = torch.tanh(functional.linear(INPUTS, model[0].weight))
    return (model(INPUTS) + functional.linear(hidden, model[2].weight)).square().sum()


def penalty(model: nn.Module) -> Tensor:
    inputs = INPUTS.clone().requires_grad_()
    loss = model(inputs).square().sum()
    (gradient,) = torch.autograd.grad(loss, inputs, create_graph=True)
    return loss + gradient.square().sum()


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss=plain, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def held(model: nn.Module) -> list[Tensor]:
    """Weights of plain layers or of arrays, and the pulses that the arrays have counted."""
    layers = [m for m in model.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    arrays = [array for layer in crossbar_layers(model).values() for array in layer.arrays]
    parts = *(layer.weight for layer in layers), *(array.pulse_count for array in arrays)
    return [part.detach().clone() for part in parts if part is not None]


def assert_refused(error: type[Exception], said: str, work, model: nn.Module) -> None:
    """With nothing written."""
    before = held(model)
    with pytest.raises(error, match=said):
        work()
    assert all(map(torch.equal, before, held(model)))


@pytest.mark.parametrize("knobs", [{}, {"momentum": 0.9}, {"weight_decay": 0.3}])
@pytest.mark.parametrize(
    ("make", "loss"), [(network, l2), (network, used_twice), (convolutional, l2)]
)
def test_other_uses_of_a_plain_weight_are_added(make, loss, knobs):
    mine, theirs = make(), make()
    descend(mine, LowRankSGD(mine, 0.01, method="sgd", momentum_rank=8, **knobs), loss)
    descend(theirs, torch.optim.SGD(theirs.parameters(), 0.01, **knobs), loss)
    assert_same(mine, theirs)


@pytest.mark.parametrize("device", ["plain", "digital", "ideal"])
def test_a_second_derivative_is_refused(device):
    model = on(device, network())
    LowRankSGD(model, 0.01)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        penalty(model).backward()
    if device == "plain":
        release_weights(model)
        penalty(model).backward()
    if device == "ideal":
        with pytest.raises(RuntimeError, match="once_differentiable"):
            penalty(to_crossbar(network().requires_grad_(False), device="ideal")).backward()


@pytest.mark.parametrize("device", ["digital", "ideal"])
def test_other_uses_of_what_arrays_hold_are_refused(device):
    model = on(device, network())
    optimizer = LowRankSGD(model, 0.01)
    said = "layer '0' are in arrays"
    assert_refused(RuntimeError, said, lambda: descend(model, optimizer, l2), model)
    with pytest.raises(RuntimeError, match="for reading"):
        model[0].weight.square().sum().backward()


def test_a_copy_of_the_optimiser_is_refused():
    optimizer = LowRankSGD(network(), 0.01)
    for copied in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(optimizer)


def test_a_failed_forward_leaves_the_weight_trainable():
    model = network()
    LowRankSGD(model, 0.01)
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 5, dtype=torch.float64))
    assert model[0].weight.requires_grad


@pytest.mark.parametrize("device", ["digital", "ideal"])
def test_an_averaged_model_averages_the_digital_copy(device):
    model = on(device, network())
    for part in (model, model[0], nn.Sequential(nn.Linear(6, 6), nn.Sequential(model))):
        with pytest.raises(TypeError, match=r"no layers on arrays; give it to_digital\(model\)"):
            AveragedModel(part)
    optimizer = LowRankSGD(model, 0.01)
    averaged, weights = AveragedModel(to_digital(model)), []
    for _ in range(2):
        descend(model, optimizer, steps=1)
        averaged.update_parameters(to_digital(model))
        weights.append(model[0].weight.detach())
    torch.testing.assert_close(averaged.module[0].weight.detach(), sum(weights) / 2)
    with pytest.raises(RuntimeError, match="size"):
        averaged.update_parameters(model)
    with pytest.raises(ValueError, match="must not be an AveragedModel"):
        to_crossbar(AveragedModel(nn.Linear(3, 2)), device="ideal")


COPIES = {"copied": copy.deepcopy, "pickled": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("how", ["SGD", "Adam", "copied", "pickled", "plain"])
def test_another_optimiser_does_not_step_over_samples(how):
    model = on("plain" if how == "plain" else "ideal", network())
    LowRankSGD(model, 0.01)
    model = COPIES[how](model) if how in COPIES else model
    make = torch.optim.Adam if how == "Adam" else torch.optim.SGD
    optimizer = make(model.parameters(), 0.01)
    said = rf"must be a LowRankSGD .*got {make.__name__}"
    bias = model[0].bias.detach().clone()
    assert_refused(RuntimeError, said, lambda: descend(model, optimizer), model)
    assert torch.equal(bias, model[0].bias)


def test_another_optimiser_steps_where_no_samples_wait():
    model = to_crossbar(nn.Sequential(network(), nn.Linear(3, 2).double()), skip=["1"])
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model(INPUTS).sum().backward()
    for layer in crossbar_layers(model).values():  # an update of one's own
        layer.clear_samples()
    optimizer.step()
    model[0].requires_grad_(False)
    descend(model, optimizer, lambda model: model(INPUTS).square().sum())
    other = network()
    LowRankSGD(other, 0.01)
    plain(other).backward()
    release_weights(other)
    before = held(other)
    descend(other, torch.optim.SGD(other.parameters(), 0.01), steps=1)
    assert not torch.equal(before[0], other[0].weight)


@pytest.mark.parametrize("method", ["sbpca", "sgd", "svd"])
@pytest.mark.parametrize("device", ["plain", "digital", "ideal"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_overflow_in_any_layer_writes_none(method, device, momentum):
    model = on(device, network().float())
    optimizer = LowRankSGD(model, 0.1, method=method, momentum=momentum)
    model[2].register_forward_pre_hook(lambda _module, args: (args[0] * 1e25,))
    (model(INPUTS.float()) * 1e-2).sum().backward()
    capture = attached(model[2]) or model[2].capture
    capture.calls[:] = [(inputs, errors * 1e25) for inputs, errors in capture.calls]
    assert_refused(ValueError, r"layer .2.*(finite|overflow)", optimizer.step, model)


def loaded(layer: nn.Module, largest: float) -> None:
    """Scale the errors of the last output alone, so that its gradient has that magnitude."""
    errors, activations = layer.samples[0]
    scale = torch.ones(errors.shape[1])
    scale[-1] = largest / float((errors.T @ activations)[-1].abs().max())
    layer.capture.calls[:] = [(inputs, errors * scale) for inputs, errors in layer.capture.calls]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("tile", [None, (2, 2)])
def test_pulses_that_are_no_number_in_one_array_are_written_to_none(momentum, tile):
    model = to_crossbar(network().float(), device="EpiRAM", w_max=1.0, tile=tile)
    optimizer = LowRankSGD(model, 1.0, method="svd", rank=2, momentum=momentum)
    model(INPUTS.float()).square().sum().backward()
    loaded(model[2], 3e37)  # a number, but 32 pulses each of them are none
    assert_refused(ValueError, r"layer '2'.*finite number of pulses", optimizer.step, model)


def test_an_experiment_writes_all_layers_or_none():
    run = Experiment(hidden=[8], rank=2, method="svd", device="EpiRAM", learning_rate=0.1)
    run.step()
    (_, last) = run.layers.values()
    take = last.capture.streams
    last.capture.streams = lambda *args: [(errors * 1e39, a * 1e3) for errors, a in take(*args)]
    assert_refused(DivergenceError, "layer 'layer2'", run.step, run.network)


@pytest.mark.parametrize("tile", [None, (4, 4)])
def test_coincidences_that_cannot_write_a_sum_are_refused_before(tile):
    model = to_crossbar(network(), device="EpiRAM", coding=Coincidence(), tile=tile)
    said = r"layer '0?': scheme must be rank-sequential with coding Coincidence\(.*; got rank-sum"
    with pytest.raises(ValueError, match=said):
        LowRankSGD(model, 0.01, scheme="rank-sum")
    optimizer = LowRankSGD([{"module": model[0]}, {"module": model[2]}], 0.01)
    with pytest.raises(ValueError, match=said):
        optimizer.add_param_group({"module": model[2], "scheme": "rank-sum"})
    optimizer.param_groups[1]["scheme"] = "rank-sum"
    assert_refused(ValueError, said, lambda: descend(model, optimizer), model)
    optimizer.param_groups[1]["scheme"] = "rank-sequential"
    descend(model, optimizer, steps=1)


@pytest.mark.parametrize("place", ["sequence", "list", "inner"])
@pytest.mark.parametrize("cast", [nn.Module.double, nn.Module.half, lambda m: m.to("meta")])
def test_a_move_refused_by_arrays_leaves_whatever_holds_them(place, cast):
    inner = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 8), nn.BatchNorm1d(8))
    model = to_crossbar(nn.Sequential(inner), skip=["0.0"])
    outer = {
        "sequence": lambda: nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), model)),
        "list": lambda: nn.ModuleList([nn.Linear(6, 6)]).append(model),
        "inner": lambda: model[0],
    }[place]()
    for module in (outer, *(copied(outer) for copied in COPIES.values())):
        with pytest.raises(ValueError, match=r"arrays stay where .*: move the model before to_c"):
            cast(module)
        assert {(p.dtype, p.device.type) for p in module.parameters()} == {(torch.float32, "cpu")}
        assert module.float() is module.to("cpu") is module
    back = cast(to_digital(outer))
    assert (torch.float32, "cpu") not in {(p.dtype, p.device.type) for p in back.parameters()}
    back.load_state_dict(back.state_dict())


@pytest.mark.parametrize("method", ["sbpca", "sgd", "svd"])
@pytest.mark.parametrize("device", ["plain", "digital", "ideal"])
def test_an_empty_batch_is_a_step_of_rank_0(method, device):
    for make, inputs in ((network, INPUTS[:0]), (convolutional, INPUTS[:0].view(0, 1, 2, 3))):
        model = on(device, make())
        optimizer = LowRankSGD(model, 0.1, method=method, momentum=0.5)
        before = held(model)
        model[0](inputs).sum().backward()
        optimizer.step()
        assert all(map(torch.equal, before, held(model)))


@pytest.mark.parametrize("device", ["digital", "ideal"])
@pytest.mark.parametrize("make", [network, convolutional])
def test_converted_layers_show_what_their_arrays_hold(make, device):
    other = make()[0]
    layer = to_crossbar(other, device=device)
    for name in ("weight", "bias"):
        mine, theirs = getattr(layer, name), getattr(other, name)
        torch.testing.assert_close(mine.detach(), theirs.detach())
        assert (mine.shape, mine.dtype, mine.device) == (theirs.shape, theirs.dtype, theirs.device)
        for value in (None, theirs, theirs.detach()):
            with pytest.raises(AttributeError, match=f"{name} must not be assigned"):
                setattr(layer, name, value)
    assert {name for name, _ in layer.named_parameters()} == {"anchor"}
    assert set(layer.state_dict()) == {"anchor", "_extra_state"}


def test_hooks_on_a_weight_are_served_or_refused():
    def trained(make, *others: nn.Module) -> tuple[Tensor, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Linear(6, 4)
        layer.weight.register_hook(lambda gradient: 2 * gradient)
        optimiser = make(nn.Sequential(layer, *others))
        layer(torch.ones(3, 6)).square().sum().backward()
        optimiser.step()
        return layer.weight.detach(), optimiser

    expected, _ = trained(lambda model: torch.optim.SGD(model.parameters(), 0.01))
    found, served = trained(lambda model: LowRankSGD(model, 0.01, rank=1), nn.Linear(4, 4))
    assert served.layer_names == ["1"]
    torch.testing.assert_close(found, expected)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    optimiser = LowRankSGD(model, 0.01, rank=1)
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    model(torch.ones(3, 6)).square().sum().backward()
    with pytest.raises(RuntimeError, match="'0' have hooks"):
        optimiser.step()
