"""A saved model gives the same outputs in a model built anew, or is refused."""

import copy
import dataclasses
import functools
import operator

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.test_optimiser import same_bits
from toolkit.crossbar import (
    Coincidence,
    Crossbar,
    DigitalArray,
    MixedPrecision,
    Periphery,
    PowerLawDrift,
    TikiTaka,
    TiledCrossbar,
    WholePulses,
    Wires,
    device_names,
    get_device,
)
from toolkit.lowrank import LowRank
from toolkit.training import LowRankSGD, to_crossbar
from toolkit.training.distributed import HookState


def converted(seed, device="EpiRAM", **options):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 5), nn.Linear(5, 2)
    )
    return to_crossbar(model, device=get_device(device), seed=seed, **options)


INPUTS = torch.rand(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def trained(model, seed=0):
    optimiser = LowRankSGD(model, lr=0.1, rank=2, block_size=4, seed=seed)
    for _ in range(3):
        optimiser.zero_grad()
        model(INPUTS).square().mean().backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("device", ["ideal", "EpiRAM", "Ag:a-Si", "EcRam", "GST PCM"])
@pytest.mark.parametrize("options", [{}, {"tile": (7, 9)}, {"pair": "one-sided"}])
def test_a_model_from_another_start_and_a_copy_go_on_alike(tmp_path, device, options):
    model = trained(converted(0, device, **options))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    twin, again = copy.deepcopy(model), converted(1, device, **options)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    before = model(INPUTS)
    for other in (twin, again):
        assert torch.equal(other(INPUTS), before)
        trained(other, 5)
    assert torch.equal(model(INPUTS), before)  # a copy trains apart
    trained(model, 5)  # random numbers included
    for other in (twin, again):
        assert torch.equal(other(INPUTS), model(INPUTS))
        for mine, theirs in zip(other[0].arrays, model[0].arrays, strict=True):
            assert torch.equal(mine.pulse_count, theirs.pulse_count)


TILED = {"tile": (7, 9)}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("saved", "present", "said"),
    [
        ({}, {"device": "FeFET"}, "layer '1.0': .*device"),
        ({}, {"pair": "reference"}, "pair"),
        ({}, TILED, "state must"),
        (TILED, {"tile": (9, 7)}, "tile"),
        (TILED, {}, "state must"),
        ({}, {"coding": Coincidence()}, "coding"),
        ({"overrides": {"4": {"device": get_device("FeFET")}}}, {}, "layer '1.4': state must"),
        ({"overrides": {"4": {"tile": (2, 2)}}}, {}, "layer '1.4': state must"),
    ],
)
def test_a_model_with_other_arrays_loads_all_of_its_layers_or_none(saved, present, said, strict):
    state, other = (
        nn.Sequential(nn.Linear(3, 2), converted(seed, **options))
        for seed, options in enumerate((saved, present))
    )
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=said):
        other.load_state_dict(state.state_dict(), strict=strict)
    assert same_bits(other.state_dict(), before)


WEIGHTS = torch.linspace(-0.5, 0.5, 12).view(3, 4)
UPDATE = LowRank(torch.rand(3, 1), torch.ones(1), torch.rand(4, 1))
MAKE = {
    "digital": lambda: DigitalArray.from_weights(WEIGHTS),
    "crossbar": lambda: Crossbar.from_weights(WEIGHTS, device=get_device("GST PCM")),
    "tiled": lambda: TiledCrossbar.from_weights(WEIGHTS, device=get_device("EpiRAM"), tile=(2, 2)),
    "mixed": lambda: MixedPrecision.from_weights(WEIGHTS, device=get_device("EcRam")),
    "factored": lambda: MixedPrecision.from_weights(
        WEIGHTS, device=get_device("EcRam"), memory_rank=2
    ),
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
    array.apply(UPDATE, learning_rate=0.1)
    before, state = copy.deepcopy(array.state_dict()), MAKE[kind]().state_dict()
    bad = {"empty": {}, "none": None}.get(how, spoiled(state, how))
    with pytest.raises(ValueError, match=r"state|weights"):
        array.load_state_dict(bad)
    assert same_bits(array.state_dict(), before)


class Halfway:
    """A response of one's own: a class that is no dataclass, with Python's own repr."""

    def __init__(self, share):
        self.share = share

    @functools.cached_property
    def worked_out(self):
        return object()

    def cells(self, device, draw=None):
        _ = self.worked_out
        return get_device("ideal").response.cells(device, draw)


class Slotted(Halfway):
    __slots__ = ("extra",)

    def __init__(self, extra):
        super().__init__(0.5)
        self.extra = extra


class Lookalike(WholePulses):
    """With the same fields, but another class."""


def held(**changes):
    """An array of ideal cells with these changes, some of them the array's and not the cells'."""
    own = {
        k: changes.pop(k) for k in ("coding", "periphery", "wires", "half_select") if k in changes
    }
    device = dataclasses.replace(get_device("ideal"), **changes)
    return Crossbar.from_weights(WEIGHTS, device=device, **own)


@pytest.mark.parametrize(
    ("saved", "present"),
    [
        ({"name": "mine"}, {"name": "theirs", "source": "a paper"}),
        ({"levels_up": 500}, {"levels_up": 500.0}),
        ({"levels_up": np.float64(500)}, {"levels_up": 500}),
        ({"response": Halfway(0.5)}, {"response": Halfway(0.5)}),
        ({"response": Slotted(2)}, {"response": Slotted(2)}),
        ({"response": Halfway((1, 2))}, {"response": Halfway(torch.tensor([1.0, 2.0]))}),
        ({"wires": Wires(wire_resistance=1)}, {"wires": Wires(wire_resistance=1.0)}),
    ],
)
def test_settings_are_the_same_where_the_physics_is(tmp_path, saved, present):
    array, other = held(**saved), held(**present)
    array.apply(UPDATE, learning_rate=0.1)
    torch.save(array.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other.weights, array.weights)


@pytest.mark.parametrize(
    ("saved", "present", "said"),
    [
        ({"levels_up": 500}, {"levels_up": 501}, r"device\.levels_up 501\.0; got 500\.0"),
        ({"response": Halfway(0.5)}, {"response": Halfway(0.6)}, r"response\.share 0\.6; got 0\.5"),
        ({"response": Slotted(1)}, {"response": Slotted(2)}, r"response\.extra 2\.0; got 1\.0"),
        ({"response": Halfway(1)}, {}, r"response\.class Exponential; got Halfway"),
        ({}, {"coding": Lookalike()}, r"coding\.class Lookalike; got WholePulses"),
        ({}, {"periphery": Periphery()}, "periphery Periphery; got None"),
        ({}, {"half_select": 0.1}, "half_select"),
        ({}, {"read_noise": 0.2}, "device"),
        (
            {"wires": Wires(wire_resistance=1.0)},
            {"wires": Wires(wire_resistance=(1.0, 1.1))},
            r"wires\.wire_resistance",
        ),
    ],
)
def test_settings_differ_where_the_physics_does(saved, present, said):
    state, other = held(**saved).state_dict(), held(**present)
    with pytest.raises(ValueError, match=f"state must be of an array with .*{said}"):
        other.load_state_dict(state)


def test_settings_of_an_earlier_version_are_read_as_it_wrote_them():
    array, other = held(levels_up=500), held(levels_up=500)
    own = {"device": array.device, "coding": array.coding, "half_select": 0.0}
    text = {name: repr(value) for name, value in own.items()} | {"wires": "None"}
    state = array.state_dict()
    state["settings"] = state["settings"] | text
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="state must be of an array with device"):
        held(levels_up=501).load_state_dict(state)


@pytest.mark.parametrize("kind", ["crossbar", "tiled", "tiki", "model"])
def test_a_state_without_settings_is_said_to_be_an_earlier_versions(kind):
    target = converted(0) if kind == "model" else MAKE[kind]()
    state = target.state_dict()
    old = state["0._extra_state"] if kind == "model" else state
    for name in {"settings", "w_max", "bias", "kernel_size"} & set(old):
        del old[name]
    with pytest.raises(ValueError, match="got one of an earlier version of the toolkit"):
        target.load_state_dict(state)


WRONG = {
    "a negative count": (("cells", "pulse_count"), lambda t: t - 1, "at least 0; got -1"),
    "a count with a fraction": (("cells", "pulse_count"), lambda t: t + 0.5, "must be .*int64"),
    "a negative age": (("cells", "age"), lambda t: t - 1.0, "age .* at least 0"),
    "a cell beyond its bounds": (("cells", "state"), lambda t: t + 0.9, "between the bounds"),
    "a negative seed": (("cells", "seed"), lambda s: -1 - s, "seed must"),
    "a reference beyond the range": (("reference",), lambda t: t + 1.0, "between 0 and 1"),
    "a foreign entry": (("cells", "foreign"), lambda _: 1, "nothing else; got foreign"),
    "another foreign entry": (("foreign",), lambda _: 1, "nothing else; got foreign"),
    "a negative number of reads": (("ledger", "counts"), lambda c: [-1, *c[1:]], "counts .*must"),
    "a sum that is none": (("ledger", "sums"), lambda s: [float("nan"), *s[1:]], "sums .*must"),
    "negative squares": (("ledger", "inputs"), lambda ts: [t - 1.0 for t in ts], "sums of squares"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_state_that_no_array_can_have_is_refused(what):
    path, change, said = WRONG[what]
    array = held(retention=PowerLawDrift(nu=0.1))
    before, state = (copy.deepcopy(array.state_dict()) for _ in range(2))
    *parents, last = path
    place = functools.reduce(operator.getitem, parents, state)
    place[last] = change(place.get(last))
    with pytest.raises(ValueError, match=said):
        array.load_state_dict(state)
    assert same_bits(array.state_dict(), before)


@pytest.mark.parametrize("reads", range(6))
def test_reads_through_wires_go_on_with_the_same_bits(reads):
    """Which way they are solved depends on how many there were since the last write."""
    weights = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    array, other = (
        Crossbar.from_weights(weights, device=get_device("TaOx/HfOx"), w_max=4.0, wires=wires)
        for wires in (Wires(wire_resistance=100.0), Wires(wire_resistance=100.0))
    )
    inputs = torch.rand(1, 30, generator=torch.Generator().manual_seed(1))
    for _ in range(reads):
        array.read(inputs)
    other.load_state_dict(copy.deepcopy(array.state_dict()))
    for _ in range(6):
        assert torch.equal(other.read(inputs), array.read(inputs))
    old = {name: part for name, part in array.state_dict().items() if name != "solved"}
    other.load_state_dict(old)


@pytest.mark.parametrize("device", device_names())
def test_every_device_takes_the_state_that_it_saved(device):
    wears = dataclasses.replace(get_device(device), endurance=30.0, stuck_low=0.1, stuck_high=0.1)
    array, other = (Crossbar.from_weights(WEIGHTS, device=wears, seed=s) for s in (0, 1))
    for _ in range(4):
        array.apply(UPDATE, learning_rate=0.5)
        array.wait(10.0)
    other.load_state_dict(array.state_dict())
    assert torch.equal(other.conductance, array.conductance)
    assert torch.equal(other.stuck, array.stuck)


@pytest.mark.parametrize("device", [None, "EpiRAM"])
def test_layers_whose_arrays_only_look_alike_are_told_apart(device):
    for pair, named in [
        ((nn.Linear(4, 2), nn.Linear(5, 2, bias=False)), "bias"),
        ((nn.Linear(4, 2), nn.Linear(3, 2)), "shape"),
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
    before = copy.deepcopy(optimiser.state_dict())
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
        assert same_bits(optimiser.state_dict(), before)


def test_a_state_of_other_layers_is_refused():
    state = LowRankSGD(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), 0.1).state_dict()
    with pytest.raises(ValueError, match="state must be of a LowRankSGD of the layers"):
        LowRankSGD(nn.Sequential(nn.Linear(6, 5)), 0.1).load_state_dict(state)


def test_a_hook_takes_the_state_of_its_model_or_nothing(monkeypatch):
    monkeypatch.setattr("toolkit.training.distributed.gradient_hook.Channel", lambda group: group)
    model, hook = nn.Linear(6, 5), HookState(rank=2)
    weight = model.weight
    hook._right = {weight: torch.rand(2, 6)}
    hook._residual = {weight: torch.rand(5, 6)}
    good, before = (copy.deepcopy(hook.state_dict(model)) for _ in range(2))
    for bad in (
        {},
        {**good, "generator": torch.zeros(3)},
        {**good, "right": {"foreign": torch.rand(2, 6)}},
        {**good, "right": {"weight": torch.rand(2, 7)}},
        {**good, "residual": {"weight": torch.full((5, 6), torch.nan)}},
    ):
        with pytest.raises(ValueError, match="state must"):
            hook.load_state_dict(bad, model)
        assert same_bits(hook.state_dict(model), before)
    hook.load_state_dict(good, model)
