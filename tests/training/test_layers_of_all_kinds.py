"""Every kind of layer that has an adapter against torch's own, and one from outside."""

import copy

import pytest
import torch
from torch import nn

from tests.training.test_optimiser import resumed_alike, same_bits
from toolkit.training import Adapter, LowRankSGD, register_adapter, to_crossbar, to_digital
from toolkit.training.layers import registry


class Conv1D(nn.Module):
    """As in Hugging Face's transformers: a linear layer whose weight is (inputs, outputs)."""

    __module__ = "transformers.pytorch_utils"

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(nx, nf) / 3)
        self.bias = nn.Parameter(torch.randn(nf) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.reshape(-1, x.shape[-1]) @ self.weight + self.bias).view(*x.shape[:-1], -1)


class Expert(nn.Module):
    """A kind that the library does not know: experts side by side, one matrix for each."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(experts, inputs, outputs) / 3)
        self.shift = nn.Parameter(torch.randn(experts, outputs) / 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:  # (batch, experts, inputs)
        return torch.einsum("bei,eio->beo", inputs, self.kernel) + self.shift


class ExpertAdapter(Adapter):
    """What a user writes."""

    kinds = (Expert,)
    weight_name, bias_name, bias_in_array = "kernel", "shift", False

    def matrices(self, weight):
        return list(weight.transpose(1, 2))

    def weight(self, matrices):
        return torch.stack(list(matrices)).transpose(1, 2)

    def activations(self, inputs, *, bias):  # noqa: ARG002
        return list(inputs.unbind(1))

    def errors(self, errors, inputs):  # noqa: ARG002
        return list(errors.unbind(1))

    def outputs(self, products, inputs):  # noqa: ARG002
        return torch.stack(list(products), dim=1)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "ADAPTERS", list(registry.ADAPTERS))
    assert register_adapter(register_adapter(ExpertAdapter)) is ExpertAdapter


TOKENS = torch.tensor([[1, 4, 4, 0], [2, 4, 1, 5]])
# a layer, and the shape of its inputs or the inputs themselves
KINDS = {
    "linear": (lambda: nn.Linear(5, 3), (4, 2, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (3, 4, 9)),
    "conv1d strided": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2),
        (3, 4, 9),
    ),
    "conv1d same": (
        lambda: nn.Conv1d(4, 6, 4, padding="same", padding_mode="reflect", bias=False),
        (3, 4, 9),
    ),
    "conv1d alone": (lambda: nn.Conv1d(4, 6, 3, padding_mode="circular", padding=1), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2), groups=2, padding=(1, 0)), (3, 2, 5, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 3)),
    "conv3d strided": (
        lambda: nn.Conv3d(4, 6, (2, 3, 1), (1, 2, 2), (1, 2, 0), (2, 1, 1), groups=2),
        (2, 4, 4, 5, 6),
    ),
    "conv3d replicated": (
        lambda: nn.Conv3d(2, 3, 3, padding=(1, 0, 2), padding_mode="replicate"),
        (2, 2, 4, 5, 3),
    ),
    "up1d": (lambda: nn.ConvTranspose1d(4, 6, 3), (3, 4, 7)),
    "up1d strided": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, padding=2, output_padding=2, groups=2),
        (3, 4, 7),
    ),
    "up1d dilated": (
        lambda: nn.ConvTranspose1d(4, 6, 2, dilation=3, output_padding=2, bias=False),
        (3, 4, 7),
    ),
    "up1d alone": (lambda: nn.ConvTranspose1d(4, 6, 3), (4, 7)),
    "up2d": (lambda: nn.ConvTranspose2d(4, 3, (3, 2)), (2, 4, 5, 6)),
    "up2d strided": (
        lambda: nn.ConvTranspose2d(4, 6, 3, (2, 1), (1, 2), (1, 0), groups=2, dilation=(1, 2)),
        (2, 4, 5, 6),
    ),
    "up3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2, padding=1), (2, 2, 3, 4, 3)),
    "transposed linear": (lambda: Conv1D(3, 5), (4, 2, 5)),
    "experts": (lambda: Expert(3, 5, 4), (6, 3, 5)),
    "embedding": (lambda: nn.Embedding(7, 3), TOKENS),
    "embedding padded": (lambda: nn.Embedding(7, 3, padding_idx=4), TOKENS),
    "embedding by frequency": (lambda: nn.Embedding(7, 3, scale_grad_by_freq=True), TOKENS),
}
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)]
)


def made(kind: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(3)
    make, shape = KINDS[kind]
    layer = make().to(dtype)
    inputs = shape if isinstance(shape, torch.Tensor) else torch.randn(shape, dtype=dtype)
    return nn.Sequential(layer), inputs


def leaf(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.clone().requires_grad_(inputs.is_floating_point())


def own(layer: nn.Module, which: int) -> nn.Parameter | None:
    """The weight (0) or the bias (1)."""
    return next(iter(list(layer.parameters())[which : which + 1]), None)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@ALL_KINDS
@PRECISIONS
@pytest.mark.parametrize("device", ["digital", "ideal", "tiles"])
def test_layers_on_arrays_are_torchs(kind, dtype, tolerance, device):
    """Outputs, errors of the inputs, the weight gradient in factors, and the way back."""
    model, inputs = made(kind, dtype)
    options = {"device": "ideal", "tile": (3, 4)} if device == "tiles" else {"device": device}
    arrays = to_crossbar(model, strict=True, **options)
    mine, theirs = leaf(inputs), leaf(inputs)
    outputs, expected = arrays(mine), model(theirs)
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=4 * tolerance)
    errors = torch.randn(expected.shape, dtype=dtype)
    outputs.backward(errors)
    expected.backward(errors)
    if inputs.is_floating_point():
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=tolerance, atol=8 * tolerance)
    layer, torchs = arrays[0], model[0]
    gradients = [d.T @ a for d, a in layer.samples]
    found = layer.adapter.weight([g[:, : g.shape[1] - layer.has_bias] for g in gradients])
    dense = own(torchs, 0).grad
    torch.testing.assert_close(found, dense, rtol=0, atol=4 * tolerance * dense.abs().max().item())
    if own(torchs, 1) is not None:
        dense = own(torchs, 1).grad
        found = torch.cat([g[:, -1] for g in gradients]) if layer.has_bias else layer.bias.grad
        close = {"rtol": 0, "atol": 4 * tolerance * dense.abs().max().item()}
        torch.testing.assert_close(found, dense, **close)
    back = to_digital(arrays)
    assert str(back) == str(model) and type(back[0]) is type(torchs)
    for name, values in back.state_dict().items():
        torch.testing.assert_close(values, model.state_dict()[name], rtol=0, atol=tolerance)
    torch.testing.assert_close(back(inputs), expected.detach(), rtol=tolerance, atol=4 * tolerance)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@ALL_KINDS
@pytest.mark.parametrize(
    ("on_arrays", "knobs"),
    [
        (False, {}),
        (False, {"weight_decay": 0.1}),
        (False, {"momentum": 0.9}),
        (True, {}),
        (True, {"momentum": 0.9}),
    ],
)
def test_at_full_rank_every_kind_trains_as_by_torchs_sgd(kind, knobs, on_arrays):
    (model, inputs), (other, _) = made(kind), made(kind)
    model = to_crossbar(model) if on_arrays else model
    full = {"method": "svd", "rank": 100, "momentum_rank": 100, "block_size": 100}
    if not on_arrays and "embedding" in kind:
        model.append(nn.Linear(3, 2).double())  # which is trained at low rank
        other.append(copy.deepcopy(model[1]))
    mine = LowRankSGD(model, 0.1, **full, **knobs)
    theirs = torch.optim.SGD(other.parameters(), 0.1, **knobs)
    for _ in range(3):
        for each, optimiser in ((model, mine), (other, theirs)):
            optimiser.zero_grad()
            each(inputs).square().mean().backward()
            optimiser.step()
    model = to_digital(model) if on_arrays else model
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, other.state_dict()[name], rtol=1e-9, atol=1e-11)


@ALL_KINDS
def test_saved_loaded_and_resumed_it_has_the_same_bits(kind):
    def fresh():
        model = to_crossbar(made(kind, torch.float32)[0], device="EpiRAM", seed=1)
        return model, LowRankSGD(model, 0.1, rank=2, block_size=4, momentum=0.5, seed=2)

    inputs = made(kind, torch.float32)[1]
    whole = resumed_alike(fresh, lambda model: model(inputs).square().mean())
    twin = copy.deepcopy(whole)
    assert same_bits(to_digital(twin).state_dict(), to_digital(whole).state_dict())


def test_only_the_rows_of_tokens_that_occur_are_written():
    torch.manual_seed(0)
    model = to_crossbar(nn.Sequential(nn.Embedding(7, 3, padding_idx=4)), device="EpiRAM")
    before = model[0].weight
    optimiser = LowRankSGD(model, 0.5, rank=1)
    model(TOKENS).sum().backward()
    optimiser.step()
    written = model[0].arrays[0].pulse_count.sum((0, 1)) > 0
    assert written.nonzero().flatten().tolist() == [0, 1, 2, 5]  # 4 is padding
    changed = (model[0].weight != before).any(1)
    assert torch.equal(changed, written)


def test_momentum_of_an_embedding_is_whole_at_any_rank():
    torch.manual_seed(0)
    other = nn.Sequential(nn.Embedding(7, 3)).double()
    model = to_crossbar(other)
    mine = LowRankSGD(model, 0.1, rank=1, momentum=0.9)
    theirs = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    for tokens in (TOKENS, TOKENS[:1], TOKENS[1:]):
        for each, optimiser in ((model, mine), (other, theirs)):
            optimiser.zero_grad()
            each(tokens).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(to_digital(model)[0].weight, other[0].weight)


@pytest.mark.parametrize("size", [[14, 15], [12, 17]])
def test_an_output_size_that_a_call_asks_for(size):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 2, 3, stride=3).double()
    inputs = torch.randn(2, 3, 4, 5).double()
    expected = layer(inputs, output_size=size)
    errors = torch.randn_like(expected)
    expected.backward(errors)
    for device in ("digital", "ideal"):
        arrays = to_crossbar(layer, device=device)
        outputs = arrays(inputs, output_size=size)
        torch.testing.assert_close(outputs, expected)
        outputs.backward(errors)
        ((d, a),) = arrays.samples
        torch.testing.assert_close(arrays.adapter.weight([d.T @ a]), layer.weight.grad)
    plain = copy.deepcopy(layer)
    optimiser = LowRankSGD(plain, 0.1, method="svd", rank=100)
    plain(output_size=size, input=inputs).backward(errors)
    optimiser.step()
    torch.testing.assert_close(plain.weight, layer.weight - 0.1 * layer.weight.grad)


@pytest.mark.parametrize("device", ["digital", "EpiRAM"])
@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [
        (nn.Conv1d(3, 4, 3), torch.zeros(2, 4, 8), r"^input must be \(batch, 3, length\); got"),
        (nn.Conv3d(3, 4, 3), torch.zeros(3, 8, 8), r"\(batch, 3, depth, height, width\); got"),
        (nn.ConvTranspose1d(3, 4, 3), torch.zeros(2, 4, 8), r"^input must be \(batch, 3, length"),
        (nn.ConvTranspose1d(3, 4, 3), torch.full((3, 8), torch.nan), "finite"),
        (nn.Embedding(5, 2), torch.tensor([[1, 5]]), "between 0 and 4; got 1 to 5"),
        (nn.Embedding(5, 2), torch.ones(3), "whole numbers; got torch.float32"),
        (Conv1D(3, 5), torch.ones(2, 3), r"^input must have shape \(\.\.\., 5\); got \(2, 3\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(layer, inputs, message, device):
    with pytest.raises(ValueError, match=message):
        to_crossbar(layer, device=device)(inputs)


def test_what_is_no_adapter_is_refused():
    with pytest.raises(TypeError, match="adapter must be a subclass of Adapter; got"):
        register_adapter(nn.Linear)
