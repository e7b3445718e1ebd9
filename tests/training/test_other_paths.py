"""Gradients that reach weights by another path than their layer's call: added, or refused."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.Flatten(2)).double()


def l2(model: nn.Module) -> Tensor:
    return model(INPUTS).square().sum() + 0.1 * sum(p.square().sum() for p in model.parameters())


def used_twice(model: nn.Module) -> Tensor:
    other = functional.linear(
        torch.tanh(functional.linear(INPUTS, model[0].weight)), model[2].weight
    )
    return (model(INPUTS) + other).square().sum()


def penalty(model: nn.Module) -> Tensor:
    inputs = INPUTS.clone().requires_grad_()
    loss = model(inputs).square().sum()
    (gradient,) = torch.autograd.grad(loss, inputs, create_graph=True)
    return loss + gradient.square().sum()


def plain(model: nn.Module) -> Tensor:
    return model(INPUTS).square().sum()


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("make", "loss"), [(network, l2), (network, used_twice), (convolutional, l2)]
)
def test_other_uses_of_a_plain_weight_are_added(make, loss, momentum):
    mine, theirs = make(), make()
    descend(mine, LowRankSGD(mine, 0.01, method="sgd", momentum=momentum, momentum_rank=8), loss)
    descend(theirs, torch.optim.SGD(theirs.parameters(), 0.01, momentum=momentum), loss)
    assert_same(mine, theirs)


def test_weight_decay_is_once_where_two_paths_meet():
    mine, theirs = network(), network()
    descend(mine, LowRankSGD(mine, 0.01, method="sgd", weight_decay=0.3), l2)
    descend(theirs, torch.optim.SGD(theirs.parameters(), 0.01, weight_decay=0.3), l2)
    for place in (0, 2):
        torch.testing.assert_close(mine[place].weight, theirs[place].weight)


@pytest.mark.parametrize("device", ["plain", "digital", "ideal"])
def test_a_second_derivative_is_refused(device):
    model = network() if device == "plain" else to_crossbar(network(), device=device)
    LowRankSGD(model, 0.01)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        penalty(model).backward()
    if device == "plain":
        release_weights(model)
        penalty(model).backward()


def test_a_second_derivative_of_a_frozen_array_is_refused():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    model = to_crossbar(model.requires_grad_(False), device="ideal")
    with pytest.raises(RuntimeError, match="once_differentiable"):
        penalty(model).backward()


@pytest.mark.parametrize("device", ["digital", "ideal"])
def test_other_uses_of_what_arrays_hold_are_refused(device):
    model = to_crossbar(network(), device=device)
    optimizer = LowRankSGD(model, 0.01)
    before = [layer.weight.clone() for layer in crossbar_layers(model).values()]
    with pytest.raises(RuntimeError, match="layer '0' are in arrays"):
        descend(model, optimizer, l2)
    with pytest.raises(RuntimeError, match="for reading"):
        model[0].weight.square().sum().backward()
    for old, layer in zip(before, crossbar_layers(model).values(), strict=True):
        assert torch.equal(old, layer.weight)


def test_gradients_asked_for_by_themselves_leave_no_samples():
    model = network()
    optimizer = LowRankSGD(model, 0.01)
    inputs = INPUTS.clone().requires_grad_()
    torch.autograd.grad(plain(model), model[0].bias)
    torch.autograd.grad(model(inputs).sum(), inputs)
    with pytest.raises(RuntimeError, match=r"follow loss\.backward"):
        optimizer.step()


def test_a_copy_is_trained_by_any_optimiser():
    model = network()
    LowRankSGD(model, 0.01)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other = network()
        assert attached(twin[0]) is None
        descend(twin, torch.optim.SGD(twin.parameters(), 0.01), plain)
        descend(other, torch.optim.SGD(other.parameters(), 0.01), plain)
        assert_same(twin, other)


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
def test_an_averaged_model_of_arrays_is_refused(device):
    model = to_crossbar(network(), device=device)
    for part in (model, model[0], nn.Sequential(nn.Linear(6, 6), nn.Sequential(model))):
        with pytest.raises(TypeError, match=r"no layers on arrays; give it to_digital\(model\)"):
            torch.optim.swa_utils.AveragedModel(part)


def test_an_averaged_model_averages_the_digital_copy():
    model = to_crossbar(network())
    optimizer = LowRankSGD(model, 0.01)
    averaged = torch.optim.swa_utils.AveragedModel(to_digital(model))
    weights = []
    for _ in range(2):
        descend(model, optimizer, plain, 1)
        averaged.update_parameters(to_digital(model))
        weights.append(model[0].weight.detach())
    torch.testing.assert_close(averaged.module[0].weight.detach(), sum(weights) / 2)
    with pytest.raises(RuntimeError, match="size"):
        averaged.update_parameters(model)


@pytest.mark.parametrize("how", ["SGD", "Adam", "copied", "pickled", "plain"])
def test_another_optimiser_does_not_step_over_samples(how):
    model = network() if how == "plain" else to_crossbar(network(), device="ideal")
    LowRankSGD(model, 0.01)
    model = {"copied": copy.deepcopy, "pickled": lambda m: pickle.loads(pickle.dumps(m))}.get(
        how, lambda m: m
    )(model)
    make = torch.optim.Adam if how == "Adam" else torch.optim.SGD
    optimizer = make(model.parameters(), 0.01)
    before = [model[0].weight.detach().clone(), model[0].bias.detach().clone()]
    with pytest.raises(RuntimeError, match=rf"must be a LowRankSGD .*got {make.__name__}"):
        descend(model, optimizer, plain, 1)
    assert torch.equal(before[0], model[0].weight)
    assert torch.equal(before[1], model[0].bias)


def test_another_optimiser_steps_where_no_samples_wait():
    model = to_crossbar(nn.Sequential(network(), nn.Linear(3, 2).double()), skip=["1"])
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model(INPUTS).sum().backward()
    for layer in crossbar_layers(model).values():  # an update of one's own
        layer.clear_samples()
    optimizer.step()
    model[0].requires_grad_(False)
    descend(model, optimizer, plain)
    other = network()
    LowRankSGD(other, 0.01)
    plain(other).backward()
    release_weights(other)
    before = other[0].weight.detach().clone()
    descend(other, torch.optim.SGD(other.parameters(), 0.01), plain, 1)
    assert not torch.equal(before, other[0].weight)


@pytest.mark.parametrize("method", ["sbpca", "sgd", "svd"])
@pytest.mark.parametrize("device", ["plain", "digital", "ideal"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_overflow_in_any_layer_writes_none(method, device, momentum):
    model = network().float()
    model = model if device == "plain" else to_crossbar(model, device=device)
    optimizer = LowRankSGD(model, 0.1, method=method, momentum=momentum)
    model[2].register_forward_pre_hook(lambda _module, args: (args[0] * 1e25,))
    before = [layer.weight.detach().clone() for layer in (model[0], model[2])]
    (model(INPUTS.float()) * 1e-2).sum().backward()
    for capture in (attached(model[2]) or model[2].capture,):
        capture.calls[:] = [(inputs, errors * 1e25) for inputs, errors in capture.calls]
    with pytest.raises(ValueError, match=r"layer .2.*(finite|overflow)"):
        optimizer.step()
    for old, layer in zip(before, (model[0], model[2]), strict=True):
        assert torch.equal(old, layer.weight)


def loaded(layer: nn.Module, largest: float) -> None:
    """Scale the errors of the last output alone, so that its gradient has that magnitude."""
    errors, activations = layer.samples[0]
    scale = largest / float((errors.T @ activations)[-1].abs().max())
    layer.capture.calls[:] = [
        (inputs, torch.cat([errors[:, :-1], errors[:, -1:] * scale], 1))
        for inputs, errors in layer.capture.calls
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("tile", [None, (2, 2)])
def test_pulses_that_are_no_number_in_one_array_are_written_to_none(momentum, tile):
    model = to_crossbar(network().float(), device="EpiRAM", w_max=1.0, tile=tile)
    optimizer = LowRankSGD(model, 1.0, method="svd", rank=2, momentum=momentum)
    model(INPUTS.float()).square().sum().backward()
    loaded(model[2], 3e37)  # a number, but 32 pulses each of them are none
    with pytest.raises(ValueError, match=r"layer '2'.*finite number of pulses"):
        optimizer.step()
    for layer in crossbar_layers(model).values():
        assert not layer.arrays[0].pulse_count.any()


def test_an_experiment_writes_all_layers_or_none():
    run = Experiment(hidden=[8], rank=2, method="svd", device="EpiRAM", learning_rate=0.1)
    run.step()
    before = {name: array.pulse_count.clone() for name, array in run.arrays.items()}
    (_, last) = run.layers.values()
    take = last.capture.samples
    last.capture.samples = lambda *args: [(errors * 1e39, a * 1e3) for errors, a in take(*args)]
    with pytest.raises(DivergenceError, match="layer 'layer2'"):
        run.step()
    for name, array in run.arrays.items():
        assert torch.equal(array.pulse_count, before[name])


@pytest.mark.parametrize("tile", [None, (4, 4)])
def test_coincidences_that_cannot_write_a_sum_are_refused_before(tile):
    model = to_crossbar(network(), device="EpiRAM", coding=Coincidence(), tile=tile)
    said = r"layer '0': scheme must be rank-sequential with coding Coincidence\(.*; got rank-sum"
    with pytest.raises(ValueError, match=said):
        LowRankSGD(model, 0.01, scheme="rank-sum")
    optimizer = LowRankSGD([{"module": model[0]}, {"module": model[2]}], 0.01)
    with pytest.raises(ValueError, match=said.replace("0", "")):
        optimizer.add_param_group({"module": model[2], "scheme": "rank-sum"})
    optimizer.param_groups[1]["scheme"] = "rank-sum"
    with pytest.raises(ValueError, match=said.replace("0", "")):
        descend(model, optimizer, plain, 1)
    for layer in crossbar_layers(model).values():
        assert not layer.arrays[0].pulse_count.any()
    optimizer.param_groups[1]["scheme"] = "rank-sequential"
    descend(model, optimizer, plain, 1)


@pytest.mark.parametrize("place", ["sequence", "list", "inner"])
@pytest.mark.parametrize("cast", [nn.Module.double, nn.Module.half, nn.Module.bfloat16])
def test_a_move_refused_by_arrays_leaves_whatever_holds_them(place, cast):
    model = to_crossbar(
        nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 8))), skip=["0.0"]
    )
    outer = {
        "sequence": lambda: nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), model)),
        "list": lambda: nn.ModuleList([nn.Linear(6, 6)]).append(model),
        "inner": lambda: model[0],
    }[place]()
    for module in (outer, copy.deepcopy(outer), pickle.loads(pickle.dumps(outer))):
        with pytest.raises(ValueError, match="arrays stay where they were made"):
            cast(module)
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    back = cast(to_digital(outer))
    assert {p.dtype for p in back.parameters()} != {torch.float32}
    back.load_state_dict(back.state_dict())


def test_a_state_refused_by_arrays_leaves_whatever_holds_them():
    def outer(device):
        return nn.Sequential(nn.Linear(6, 6), to_crossbar(network().float(), device=device))

    module, other = outer("EpiRAM"), outer("ideal")
    before = str(module.state_dict())
    with pytest.raises(ValueError, match=r"layer '1\.0': state must"):
        module.load_state_dict(other.state_dict())
    assert str(module.state_dict()) == before


@pytest.mark.parametrize("method", ["sbpca", "sgd", "svd"])
@pytest.mark.parametrize("device", ["plain", "digital", "ideal"])
def test_an_empty_batch_is_a_step_of_rank_0(method, device):
    for make, place in ((network, 0), (convolutional, 1)):
        model = make() if device == "plain" else to_crossbar(make(), device=device)
        optimizer = LowRankSGD(model, 0.1, method=method, momentum=0.5)
        before = model[place].weight.detach().clone()
        model(INPUTS[:0]).sum().backward()
        optimizer.step()
        assert torch.equal(model[place].weight, before)


@pytest.mark.parametrize("device", ["digital", "ideal"])
@pytest.mark.parametrize("make", [network, convolutional])
def test_converted_layers_show_what_their_arrays_hold(make, device):
    model = make()
    place = 0 if make is network else 1
    converted = to_crossbar(model, device=device)
    layer = converted[place]
    for name in ("weight", "bias"):
        mine, theirs = getattr(layer, name), getattr(model[place], name)
        torch.testing.assert_close(mine.detach(), theirs.detach())
        assert (mine.shape, mine.dtype, mine.device) == (theirs.shape, theirs.dtype, theirs.device)
        for value in (None, theirs, theirs.detach()):
            with pytest.raises(AttributeError, match=f"{name} must not be assigned"):
                setattr(layer, name, value)
    assert {name.split(".")[-1] for name, _ in layer.named_parameters()} == {"anchor"}
    assert set(layer.state_dict()) == {"anchor", "_extra_state"}
    inputs = INPUTS if make is network else INPUTS.view(-1, 1, 2, 3)
    torch.testing.assert_close(layer(input=inputs), model[place](input=inputs))


def test_hooks_on_a_weight_are_served_or_refused():
    def trained(make):
        torch.manual_seed(0)
        model = nn.Linear(6, 4)
        model.weight.register_hook(lambda gradient: 2 * gradient)
        optimiser = make(model)
        model(torch.ones(3, 6)).square().sum().backward()
        optimiser.step()
        return model.weight.detach()

    plain = trained(lambda model: torch.optim.SGD(model.parameters(), 0.01))
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    optimiser = LowRankSGD(model, 0.01, rank=1)
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    model(torch.ones(3, 6)).square().sum().backward()
    with pytest.raises(RuntimeError, match="'0' have hooks"):
        optimiser.step()
    hooked = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4))
    torch.manual_seed(0)
    hooked[0].load_state_dict(nn.Linear(6, 4).state_dict())
    hooked[0].weight.register_hook(lambda gradient: 2 * gradient)
    served = LowRankSGD(hooked, 0.01, rank=1)
    assert served.layer_names == ["1"]
    hooked[0](torch.ones(3, 6)).square().sum().backward()
    served.step()
    torch.testing.assert_close(hooked[0].weight.detach(), plain)


def test_an_averaged_model_is_not_converted():
    with pytest.raises(ValueError, match="must not be an AveragedModel"):
        to_crossbar(torch.optim.swa_utils.AveragedModel(nn.Linear(3, 2)), device="ideal")
