"""Models onto crossbars and back: nested, shared, tied, odd and foreign ones."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.test_optimiser import same_bits
from toolkit.crossbar import Crossbar, DigitalArray, TiledCrossbar, Wires, get_device
from toolkit.lowrank import FullGradient
from toolkit.training import crossbar_layers, to_crossbar, to_digital
from toolkit.training.layers.modules import CrossbarConv2d, CrossbarLinear
from toolkit.training.layers.optimiser import LowRankSGD


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    head = nn.ModuleDict({"out": nn.Linear(6, 4)})
    return Net(body, head)


class Net(nn.Module):
    def __init__(self, body: nn.Module, head: nn.ModuleDict) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head["out"](self.body(images).mean((2, 3)))


class Renamed(nn.Linear):
    """A subclass that computes what its base does."""


def images(count: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 8, 8, generator=generator).to(dtype)


def odd() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, (4, 3), padding="same", groups=3),
        nn.Conv2d(6, 8, 3, stride=2, dilation=2, padding=2, padding_mode="reflect"),
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", [None, "digital", "ideal", get_device("PCMO")])
@pytest.mark.parametrize("make", [network, odd])
def test_there_and_back_gives_the_same_outputs(make, device, dtype):
    model = make().to(dtype).eval()
    converted = to_crossbar(model, device=device)
    back = to_digital(converted)
    inputs = images(dtype=dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {}
    for other in (converted, back):
        assert not any(module.training for module in other.modules())
        torch.testing.assert_close(other(inputs), model(inputs), **tolerance)
    kinds = {nn.Conv2d: CrossbarConv2d, nn.Linear: CrossbarLinear}
    types = [type(module) for module in model.modules()]
    assert [type(m) for m in converted.modules()] == [kinds.get(kind, kind) for kind in types]
    assert str(back) == str(model)  # the geometry, and which layers have a bias


def test_the_model_is_not_touched():
    model = network()
    converted = to_crossbar(model, device="Ag:a-Si")
    optimiser = LowRankSGD(converted, lr=0.5, rank=2)
    converted(images()).square().mean().backward()
    optimiser.step()
    assert same_bits(model.state_dict(), network().state_dict())
    assert str(model) == str(network())


@pytest.mark.parametrize("kind", [nn.Linear, Renamed])
def test_a_model_that_is_one_layer(kind):
    converted = to_crossbar(kind(3, 2))
    assert isinstance(converted, CrossbarLinear)
    assert isinstance(to_digital(converted), nn.Linear)
    assert list(crossbar_layers(converted)) == [""]


def test_a_layer_used_twice_is_one_array():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    converted = to_crossbar(model)
    assert converted[0] is converted[2]
    inputs = torch.randn(3, 4)
    torch.testing.assert_close(converted(inputs), model(inputs))
    converted(inputs).sum().backward()
    assert len(converted[0].samples[0][0]) == 6


def test_skip_and_overrides_by_name_and_pattern():
    model = network()
    assert list(crossbar_layers(to_crossbar(model, skip=["head.*"]))) == ["body.0"]
    converted = to_crossbar(
        model,
        device="Ag:a-Si",
        overrides={
            "body.*": {"device": "FeFET", "w_max": 3.0, "tile": (4, 10)},
            "head.out": {"device": "digital"},
        },
    )
    (conv,) = converted.body[0].arrays
    assert isinstance(conv, TiledCrossbar)
    assert (conv.device.name, conv.tiles[0][0].w_max) == ("FeFET", 3.0)
    assert isinstance(converted.head["out"].array, DigitalArray)


def test_w_max_is_twice_the_largest_weight_unless_given():
    model = network()
    converted = to_crossbar(model, device="ideal")
    largest = model.body[0].weight.abs().max().item()
    assert converted.body[0].arrays[0].w_max == pytest.approx(2 * largest)
    nn.init.zeros_(model.body[0].weight)
    assert to_crossbar(model, device="ideal").body[0].arrays[0].w_max == 1.0


def test_array_options_reach_the_arrays():
    wires = Wires(wire_resistance=1.0)
    converted = to_crossbar(network(), device="Ag:a-Si", wires=wires, pair="one-sided")
    for layer in crossbar_layers(converted).values():
        assert (layer.arrays[0].wires, layer.arrays[0].pair) == (wires, "one-sided")


def test_seed_decides_the_draws_and_skipping_moves_none():
    def bits(**knobs: object) -> torch.Tensor:
        array = to_crossbar(network(), device="Ag:a-Si", **knobs).head["out"].array
        update = FullGradient().update(torch.ones(2, 4), torch.ones(2, 7))
        array.apply(update, learning_rate=0.05)
        return array.conductance

    expected = bits(seed=3)
    for alike in ({"seed": torch.Generator().manual_seed(3)}, {"seed": 3, "skip": ["body.0"]}):
        assert torch.equal(bits(**alike), expected)
    assert not torch.equal(bits(seed=4), expected)


def test_groups_have_cells_of_their_own():
    converted = to_crossbar(nn.Conv2d(4, 4, 3, groups=2), device="PCMO")
    first, second = converted.arrays
    assert isinstance(first, Crossbar) and first.shape == (2, 19)
    assert first._cells._seed != second._cells._seed


def test_frozen_layers_stay_frozen():
    model = network()
    model.body.requires_grad_(False)
    converted = to_crossbar(model)
    trained = {n: layer.anchor.requires_grad for n, layer in crossbar_layers(converted).items()}
    assert trained == {"body.0": False, "head.out": True}
    converted(images()).sum().backward()
    assert converted.body[0].samples == []
    assert not to_digital(converted).body[0].weight.requires_grad


@pytest.mark.parametrize(("skip", "count"), [((), 12), (["*.self_attn"], 4), (["*.?_proj"], 6)])
def test_a_transformer_is_on_arrays_whole_or_without_its_attention(skip, count):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    converted = to_crossbar(model, skip=skip, strict=True)
    assert len(crossbar_layers(converted)) == count
    assert str(to_digital(converted)) == str(model)
    inputs = torch.randn(3, 5, 8)
    for training in (True, False):
        model.train(training)
        converted.train(training)
        with torch.no_grad():
            torch.testing.assert_close(converted(inputs), model(inputs), rtol=1e-4, atol=1e-5)


class Doubled(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False), nn.Linear(5, 2))
    model[1].weight = model[0].weight
    return model


def three(middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Identity(), middle, nn.Linear(3, 2))


def hooked() -> nn.Module:
    model = three(nn.Linear(3, 3))
    model[1].register_forward_hook(lambda _module, _args, outputs: outputs + 1)
    return model


def half_frozen(frozen: str) -> nn.Module:
    model = three(nn.Linear(3, 3))
    getattr(model[1], frozen).requires_grad_(False)
    return model


NORMED = nn.utils.parametrizations.weight_norm


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (tied, "shares a parameter with '0'"),
        (lambda: three(NORMED(nn.Linear(3, 3))), "computed from other parameters"),
        (hooked, "it has hooks"),
        (lambda: three(Doubled(3, 3)), "class Doubled has a forward of its own"),
        (lambda: three(nn.Embedding(5, 3, max_norm=1.0)), "its max_norm changes weights"),
        (lambda: three(nn.LazyConv1d(3, 3)), "run a batch through the model first"),
        (lambda: three(nn.LazyLinear(3)), "run a batch through the model first"),
        (lambda: half_frozen("weight"), "either its weight or its bias is frozen"),
        (lambda: half_frozen("bias"), "either its weight or its bias is frozen"),
    ],
    ids=[
        "tied",
        "parametrised",
        "hooked",
        "own forward",
        "rescaled",
        "lazy convolution",
        "lazy",
        "weight",
        "bias",
    ],
)
def test_what_cannot_be_swapped_is_named_and_stays(make, reason, request):
    model = make()
    with pytest.warns(UserWarning, match=f"stay digital:.* '1'.*{reason}"):
        converted = to_crossbar(model)
    assert list(crossbar_layers(converted)) == ["2"]
    assert type(converted[1]) is type(model[1])
    if (frozen := request.node.callspec.id) in ("weight", "bias"):
        optimiser = LowRankSGD(converted, 0.1)
        converted(torch.ones(4, 3)).square().sum().backward()
        optimiser.step()
        pairs = zip(converted[1].named_parameters(), model[1].parameters(), strict=True)
        assert {name for (name, now), then in pairs if torch.equal(now, then)} == {frozen}


class Conv1D(nn.Module):
    """Nobody's: the name alone does not make it a transformer library's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.zeros(4))


OTHER_KINDS = [
    nn.LSTMCell(3, 4),
    nn.Bilinear(2, 3, 4),
    nn.EmbeddingBag(5, 3),
    Conv1D(),
]


@pytest.mark.parametrize("module", OTHER_KINDS, ids=lambda module: type(module).__name__)
def test_every_other_module_with_matrices_is_named_once(module):
    model = nn.Sequential(nn.BatchNorm1d(3), module, nn.Linear(3, 2))
    reason = f"'1': {type(module).__name__} has no adapter"
    with pytest.warns(UserWarning, match=f"^layers that stay digital: {reason}$") as found:
        to_crossbar(model)
    assert len(found) == 1
    with pytest.raises(ValueError, match=f"on arrays whole but for skip.*{reason}"):
        to_crossbar(model, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_crossbar(model, skip=["1"], strict=True)


def test_strict_converts_what_is_on_arrays_whole():
    assert len(crossbar_layers(to_crossbar(network(), strict=True))) == 2


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (nn.ReLU, {}, "a layer with an adapter to convert; it has none"),
        (lambda: to_crossbar(network()), {"device": "EpiRAM"}, "its layers are on arrays already"),
        (network, {"skip": ["heads"]}, r"skip must name .*'body.0', 'head.out'; got 'heads'"),
        (network, {"overrides": {"nothing.*": {}}}, "overrides must name"),
        (network, {"wire": 1}, "unknown option 'wire'; allowed: device, w_max"),
        (network, {"overrides": {"body.0": {"rank": 1}}}, "unknown option 'rank'"),
        (network, {"device": "stone"}, r"device must be one of digital, .*; got 'stone'"),
        (lambda: network().half(), {}, r"layer 'body.0' must be float32 or float64"),
        (lambda: network().to("meta"), {}, r"layer 'body.0' has no numbers yet, .* meta device"),
        (
            lambda: tied()[:2],
            {},
            r"'0': it shares a parameter with '1'; '1': it shares a parameter with '0'",
        ),
        (network, {"strict": 1}, "strict must be True or False; got 1"),
        (network, {"w_max": 0.1}, r"w_max=0.1 is below the largest weight of layer 'body"),
    ],
)
def test_bad_input_is_one_clear_error(make, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        to_crossbar(make(), **{"device": "ideal", **options})
    with pytest.raises(ValueError, match="it has none"):
        to_digital(network())


# --- models that nobody wrote for this purpose -------------------------------------------------


class Block(nn.Module):
    """Residual block of He et al. (2016), section 4.2: two 3 x 3 convolutions, identity shortcut.

    Where the shape changes the shortcut takes every second pixel and pads channels with zeros
    (option A of the paper).
    """

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.stride, self.more = wider // channels, wider - channels
        self.conv1 = nn.Conv2d(channels, wider, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = functional.relu(self.bn1(self.conv1(inputs)), inplace=True)
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.more))
        return functional.relu(self.bn2(self.conv2(outputs)) + shortcut, inplace=True)


def paper_resnet() -> nn.Module:
    """The 6n + 2 = 8 layer network for CIFAR of the same section."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        Block(16, 16),
        Block(16, 32),
        Block(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def library_resnet() -> nn.Module:
    resnet = pytest.importorskip("pytorchcv.models.resnet_cifar")
    return resnet.CIFARResNet(
        channels=[[16], [32], [64]], init_block_channels=16, bottleneck=False, num_classes=10
    )


@pytest.mark.parametrize("make", [paper_resnet, library_resnet])
def test_a_resnet_trains_on_crossbars_and_comes_back(make):
    torch.manual_seed(0)
    model = make()
    converted = to_crossbar(model, device="EpiRAM", seed=0)
    optimiser = LowRankSGD(converted, lr=0.4, method="sbpca", rank=4, block_size=16)
    inputs, labels, losses = torch.randn(12, 3, 16, 16), torch.arange(12) % 10, []
    for _ in range(6):
        optimiser.zero_grad()
        loss = functional.cross_entropy(converted(inputs), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    back = to_digital(converted)
    assert str(back) == str(model)
    close = {"rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad():
        torch.testing.assert_close(back.eval()(inputs), converted.eval()(inputs), **close)


def test_a_state_of_torchs_own_layers_is_refused_with_what_to_do():
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match=r"layer '0' is on arrays.* load it before to_crossbar"):
        to_crossbar(model, device="EpiRAM").load_state_dict(model.state_dict())
