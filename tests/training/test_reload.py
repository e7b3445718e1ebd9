"""A saved model gives the same outputs in a model built anew, or is refused."""

import copy
import dataclasses
import inspect

import pytest
import torch
from torch import nn

from toolkit.crossbar import (
    Coincidence,
    Crossbar,
    DigitalArray,
    Periphery,
    TikiTaka,
    TiledCrossbar,
    Wires,
    get_device,
)
from toolkit.lowrank import LowRank
from toolkit.training import LowRankSGD, to_crossbar
from toolkit.training.distributed import HookState

DEVICES = ("ideal", "EpiRAM", "Ag:a-Si", "EcRam", "GST PCM")


def converted(seed, device="EpiRAM", **options):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5), nn.Linear(5, 2)
    )
    return to_crossbar(model, device=get_device(device), seed=seed, **options)


def trained(model, seed=0, steps=3):
    optimiser = LowRankSGD(model, lr=0.1, rank=2, block_size=4, seed=seed)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        inputs = torch.rand(8, 1, 6, 6, generator=generator)
        optimiser.zero_grad()
        model(inputs).square().mean().backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"tile": (7, 9)}, {"pair": "one-sided"}])
def test_a_model_from_another_start_gives_the_same_outputs(tmp_path, device, options):
    model = trained(converted(0, device, **options))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again = converted(1, device, **options)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    inputs = torch.rand(4, 1, 6, 6)
    assert torch.equal(again(inputs), model(inputs))
    # and goes on alike, random numbers included
    assert torch.equal(trained(again, 5)(inputs), trained(model, 5)(inputs))


@pytest.mark.parametrize(
    ("saved", "present", "said"),
    [
        ({}, {"device": "FeFET"}, "device"),
        ({}, {"pair": "reference"}, "pair"),
        ({}, {"tile": (7, 9)}, "state must"),
        ({"tile": (7, 9)}, {"tile": (9, 7)}, "tile"),
        ({"tile": (7, 9)}, {}, "state must"),
        ({}, {"coding": Coincidence()}, "coding"),
    ],
)
def test_another_kind_of_array_is_refused(saved, present, said):
    state = trained(converted(0, **saved)).state_dict()
    other = converted(1, **present)
    before = other.state_dict()
    with pytest.raises(ValueError, match=said):
        other.load_state_dict(state)
    first = "0._extra_state"
    assert str(other.state_dict()[first]) == str(before[first])


WEIGHTS = torch.linspace(-0.5, 0.5, 12).view(3, 4)
MAKE = {
    "digital": lambda: DigitalArray.from_weights(WEIGHTS),
    "crossbar": lambda: Crossbar.from_weights(WEIGHTS, device=get_device("GST PCM")),
    "tiled": lambda: TiledCrossbar.from_weights(WEIGHTS, device=get_device("EpiRAM"), tile=(2, 2)),
    "tiki": lambda: TikiTaka.from_weights(WEIGHTS, device=get_device("EcRam")),
}


def spoiled(state, how):
    """The state with its last tensor or number missing, of another shape or not finite."""
    state = dict(state)
    for key in reversed(list(state)):
        value = state[key]
        if isinstance(value, dict):
            state[key] = spoiled(value, how)
        elif isinstance(value, list) and value and isinstance(value[-1], dict):
            state[key] = [*value[:-1], spoiled(value[-1], how)]
        elif isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
            state[key] = value[:1, :1] if how == "shape" else value * float("nan")
        else:
            continue
        return state
    return {}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("how", ["empty", "none", "shape", "nan"])
def test_a_state_that_does_not_fit_changes_nothing(kind, how):
    array = MAKE[kind]()
    update = LowRank(torch.rand(3, 1), torch.ones(1), torch.rand(4, 1))
    array.apply(update, learning_rate=0.1)
    before, state = str(array.state_dict()), MAKE[kind]().state_dict()
    bad = {"empty": {}, "none": None}.get(how, spoiled(state, how))
    with pytest.raises(ValueError, match=r"state|weights"):
        array.load_state_dict(bad)
    assert str(array.state_dict()) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("half_select", 0.1),
        ("periphery", Periphery()),
        ("wires", Wires(**{next(iter(inspect.signature(Wires).parameters)): 1.0})),
        ("device", dataclasses.replace(get_device("GST PCM"), read_noise=0.2)),
    ],
)
def test_settings_are_part_of_what_a_state_means(name, value):
    array, other = MAKE["crossbar"](), MAKE["crossbar"]()
    setattr(other, name, value)
    with pytest.raises(ValueError, match=f"state must be of an array with {name}"):
        other.load_state_dict(array.state_dict())


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "changed",
    [{"overrides": {"4": {"device": get_device("FeFET")}}}, {"overrides": {"4": {"tile": (2, 2)}}}],
)
def test_a_model_loads_all_of_its_layers_or_none(strict, changed):
    model, state = converted(0), converted(1, **changed).state_dict()
    before = str(model.state_dict())
    with pytest.raises(ValueError, match="layer '4': state must"):
        model.load_state_dict(state, strict=strict)
    assert str(model.state_dict()) == before


@pytest.mark.parametrize("device", [None, "EpiRAM"])
def test_layers_whose_arrays_only_look_alike_are_told_apart(device):
    for pair, named in [
        ((nn.Linear(4, 2), nn.Linear(5, 2, bias=False)), "bias"),
        ((nn.Conv2d(1, 2, (2, 3)), nn.Conv2d(1, 2, (3, 2))), "kernel_size"),
        ((nn.Linear(4, 2), nn.Linear(4, 2, dtype=torch.float64)), "float"),
    ]:
        one, other = (to_crossbar(nn.Sequential(layer), device=device) for layer in pair)
        with pytest.raises(ValueError, match=named):
            other.load_state_dict(one.state_dict())


def optimised(inputs=6, method="sbpca", momentum=0.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, 5), nn.Linear(5, 4))
    optimiser = LowRankSGD(model, lr=0.1, rank=2, method=method, momentum=momentum)
    model(torch.rand(8, inputs)).square().mean().backward()
    optimiser.step()
    return optimiser


def broken(change):
    state = copy.deepcopy(optimised(momentum=0.5).state_dict())
    change(state["layers"][0][-1])
    return state


def test_an_optimiser_takes_the_whole_state_of_its_like_or_nothing():
    optimiser = optimised(momentum=0.5)
    before = str(optimiser.state_dict())
    for state in (
        None,
        {},
        optimised(inputs=7).state_dict(),
        optimised(method="lrt").state_dict(),
        broken(lambda layer: layer.pop("estimators")),
        broken(lambda layer: layer["estimators"][0]["sigma"].fill_(torch.nan)),
        broken(lambda layer: layer["estimators"][0].update(rank="2")),
        broken(lambda layer: layer["estimators"][0].update(generator=torch.zeros(3))),
        broken(lambda layer: layer.update(velocities=[[torch.ones(3, 1)] * 3])),
    ):
        with pytest.raises(ValueError, match="state"):
            optimiser.load_state_dict(state)
        assert str(optimiser.state_dict()) == before


def test_a_hook_takes_the_state_of_its_model_or_nothing(monkeypatch):
    monkeypatch.setattr("toolkit.training.gradient_hook.Channel", lambda group: group)
    model, hook = nn.Linear(6, 5), HookState(rank=2)
    weight = model.weight
    hook._right = {weight: torch.rand(2, 6)}
    hook._residual = {weight: torch.rand(5, 6)}
    good, before = hook.state_dict(model), str(hook.state_dict(model))
    for bad in (
        {},
        {**good, "generator": torch.zeros(3)},
        {**good, "right": {"foreign": torch.rand(2, 6)}},
        {**good, "right": {"weight": torch.rand(2, 7)}},
        {**good, "residual": {"weight": torch.full((5, 6), torch.nan)}},
    ):
        with pytest.raises(ValueError, match="state must"):
            hook.load_state_dict(bad, model)
        assert str(hook.state_dict(model)) == before
    hook.load_state_dict(good, model)
