"""Recurrent layers and attention on arrays against torch's own."""

import copy
import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves, tree_map

from tests.training.test_optimiser import resumed_alike
from toolkit.training import LowRankSGD, block_samples, crossbar_layers, to_crossbar, to_digital

RECURRENT = {
    "lstm": lambda: nn.LSTM(3, 4),
    "lstm deep": lambda: nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True),
    "lstm projected": lambda: nn.LSTM(3, 4, 2, proj_size=2, bias=False),
    "gru": lambda: nn.GRU(3, 4, batch_first=True),
    "gru deep": lambda: nn.GRU(3, 4, 2, bidirectional=True),
    "rnn": lambda: nn.RNN(3, 4),
    "rnn relu": lambda: nn.RNN(3, 4, 2, nonlinearity="relu", bidirectional=True),
}
ATTENTION = {
    "attention": lambda: nn.MultiheadAttention(6, 2, batch_first=True),
    "attention plain": lambda: nn.MultiheadAttention(6, 3, bias=False),
    "attention other widths": lambda: nn.MultiheadAttention(6, 2, kdim=5, vdim=4),
    "attention more rows": lambda: nn.MultiheadAttention(
        6, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True
    ),
}
ALL = RECURRENT | ATTENTION
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)]
)


def made(kind: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(4)
    layer = ALL[kind]()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)  # attention's biases too
    return layer.to(dtype)


def calls(kind: str, dtype: torch.dtype = torch.float64) -> list[tuple[tuple, dict]]:
    """Arguments of some calls: states, masks, sequences of several lengths, no batch."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    layer = made(kind)
    if kind in RECURRENT:
        steps = draw(2, 5, 3)
        places = layer.num_layers * (1 + layer.bidirectional)
        sizes = [layer.proj_size or 4] + [4] * isinstance(layer, nn.LSTM)
        state = tuple(draw(places, 2 if layer.batch_first else 5, size) for size in sizes)
        alone = tuple(s[:, 0] for s in state)
        sequences = pack_sequence([draw(n, 3) for n in (2, 4, 1)], enforce_sorted=False)
        packed = tuple(draw(places, 3, size) for size in sizes)
        wrap = (lambda s: s) if isinstance(layer, nn.LSTM) else (lambda s: s[0])
        inputs = [(steps,), (steps, wrap(state)), (steps[0],), (steps[0], wrap(alone))]
        return [(each, {}) for each in [*inputs, (sequences,), (sequences, wrap(packed))]]
    query, key, value = draw(4, 3, 6), draw(5, 3, layer.kdim), draw(5, 3, layer.vdim)
    rows = [x.transpose(0, 1) if layer.batch_first else x for x in (query, key, value)]
    hidden = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]]).bool()
    causal = torch.ones(4, 5).triu(2).bool()
    by_head = draw(3 * layer.num_heads, 4, 5)
    padding = torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, -torch.inf)
    options = [
        {},
        {"need_weights": False},
        {"key_padding_mask": hidden},
        {"attn_mask": causal, "need_weights": False},
        {"attn_mask": causal, "key_padding_mask": hidden, "average_attn_weights": False},
        {"attn_mask": by_head, "key_padding_mask": padding},
    ]
    alone = tuple(x[:, 0] for x in (query, key, value))
    return [(tuple(rows), o) for o in options] + [(alone, {"key_padding_mask": hidden[0]})]


def leaves(nest: object) -> list[torch.Tensor]:
    """The floating-point tensors in it."""
    return [t for t in tree_leaves(nest) if isinstance(t, torch.Tensor) and t.is_floating_point()]


def outputs_of(found: object) -> list[torch.Tensor]:
    if isinstance(found[0], nn.utils.rnn.PackedSequence):
        found = (*pad_packed_sequence(found[0]), found[1])
    return leaves(found)


def run(layer: nn.Module, args: tuple, options: dict) -> tuple[list, list]:
    """Outputs, and errors of the inputs."""
    args = tree_map(lambda t: t.clone().requires_grad_() if t.is_floating_point() else t, args)
    found = outputs_of(layer(*args, **options))
    generator = torch.Generator().manual_seed(6)
    total = sum((t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum() for t in found)
    total.backward()
    return found, [t.grad for t in leaves(args)]


def gradients_of(arrays: nn.Module) -> nn.Module:
    """Torch's layer with the gradients in place of its weights."""
    twin = copy.deepcopy(arrays)
    for name, layer in crossbar_layers(twin).items():
        ((errors, activations),) = arrays.get_submodule(name).samples
        layer.arrays[0]._weights.copy_(errors.T @ activations)
    for name, row in twin._parameters.items():
        row.data.copy_(arrays.get_parameter(name).grad)
    return to_digital(twin)


@pytest.mark.parametrize("kind", ALL)
@PRECISIONS
def test_outputs_errors_and_gradients_are_torchs(kind, dtype, tolerance):
    for args, options in calls(kind, dtype):
        layer = made(kind, dtype)
        arrays = to_crossbar(layer, strict=True)
        mine, theirs = run(arrays, args, options), run(layer, args, options)
        for found, expected in zip((*mine[0], *mine[1]), (*theirs[0], *theirs[1]), strict=True):
            close = {"rtol": 4 * tolerance, "atol": 4 * tolerance}
            torch.testing.assert_close(found, expected, **close)
        largest = max(p.grad.abs().max().item() for p in layer.parameters())
        for name, found in gradients_of(arrays).state_dict().items():
            expected = layer.get_parameter(name).grad
            torch.testing.assert_close(found, expected, rtol=0, atol=4 * tolerance * largest)


@pytest.mark.parametrize("kind", ALL)
def test_there_and_back_on_cells(kind):
    layer = made(kind)
    (args, options), *_ = calls(kind)
    arrays = to_crossbar(layer, device="ideal", seed=1)
    back = to_digital(arrays)
    assert type(back) is type(layer) and str(back) == str(layer)
    for name, values in layer.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], values, rtol=0, atol=1e-12)
    for found, expected in zip(
        outputs_of(arrays(*args, **options)), outputs_of(layer(*args, **options)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["lstm deep", "gru", "attention more rows"])
def test_saved_loaded_and_resumed_it_has_the_same_bits(kind):
    (args, options), *_ = calls(kind, torch.float32)

    def fresh():
        model = to_crossbar(made(kind, torch.float32), device="EpiRAM", seed=1)
        return model, LowRankSGD(model, 0.1, rank=2, block_size=2, momentum=0.5, seed=2)

    resumed_alike(fresh, lambda model: model(*args, **options)[0].square().mean())


@pytest.mark.parametrize("kind", ALL)
def test_at_full_rank_it_trains_as_by_torchs_sgd(kind):
    (args, options), *_ = calls(kind)
    other = made(kind)
    model = to_crossbar(other)
    full = {"method": "svd", "rank": 100, "block_size": 100}
    mine, theirs = LowRankSGD(model, 0.2, **full), torch.optim.SGD(other.parameters(), 0.2)
    for _ in range(3):
        for each, optimiser in ((model, mine), (other, theirs)):
            optimiser.zero_grad()
            each(*args, **options)[0].square().mean().backward()
            optimiser.step()
    for name, values in to_digital(model).state_dict().items():
        torch.testing.assert_close(values, other.state_dict()[name], rtol=1e-9, atol=1e-11)


def test_parts_go_by_the_layers_name_and_their_own():
    model = nn.Sequential(nn.LSTM(3, 4), nn.Identity(), nn.Linear(4, 2))
    assert list(crossbar_layers(to_crossbar(model))) == ["0.ih_l0", "0.hh_l0", "2"]
    assert list(crossbar_layers(to_crossbar(model, skip=["0"]))) == ["2"]
    part = to_crossbar(model, skip=["*.hh_l0"])
    assert isinstance(part[0].hh_l0, nn.Linear)
    assert part[0].hh_l0.weight.data_ptr() != model[0].weight_hh_l0.data_ptr()
    assert str(to_digital(part)) == str(model)
    wide = to_crossbar(model, device="ideal", overrides={"0": {"w_max": 3.0}})
    assert wide[0].hh_l0.array.w_max == 3.0 != wide[2].array.w_max
    assert (wide[0].hidden_size, wide[0].batch_first) == (4, False)
    assert (wide[2].in_features, part[2].out_features) == (4, 2)
    for name in ("weight_hh_l0", "reset_parameters"):
        assert not hasattr(wide[0], name)


def test_a_block_counts_sequences():
    model = to_crossbar(nn.LSTM(3, 4))
    model(torch.randn(6, 2, 3))
    assert [block_samples(layer, 8) for layer in model.children()] == [48, 48]


def test_frozen_layers_stay_frozen_and_come_back_so():
    model = nn.Sequential(nn.GRU(3, 4).requires_grad_(False))
    arrays = to_crossbar(model)
    assert not any(p.requires_grad for p in arrays.parameters())
    assert not any(p.requires_grad for p in to_digital(arrays).parameters())
    arrays.requires_grad_()
    assert all(p.requires_grad for p in to_digital(arrays).parameters())


def parametrised() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.LSTM(3, 3), "weight_hh_l0")


def hooked() -> nn.Module:
    layer = nn.MultiheadAttention(4, 2)
    layer.out_proj.register_forward_hook(lambda *_: None)
    return layer


class Doubled(nn.GRU):
    def forward(self, *args):
        return super().forward(2 * args[0])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (parametrised, "its weight is computed from other parameters"),
        (hooked, "it has hooks"),
        (lambda: Doubled(3, 3), "its class Doubled has a forward of its own"),
    ],
)
def test_what_is_not_torchs_own_is_named_once(make, reason):
    model = nn.ModuleList([make(), nn.Linear(3, 2)])
    with pytest.warns(UserWarning, match=rf"^layers that stay digital: '0': {reason}"):
        assert list(crossbar_layers(to_crossbar(model))) == ["1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_crossbar(model, skip=["0*"], strict=True)


def test_bad_inputs_and_states_are_named():
    lstm, gru = to_crossbar(nn.LSTM(3, 4)), to_crossbar(nn.GRU(3, 4, batch_first=True))
    with pytest.raises(ValueError, match=re.escape("input must be (steps, batch, 3) or (st")):
        lstm(torch.ones(2, 5, 4))
    with pytest.raises(ValueError, match=re.escape("hx must have shape (1, 2, 4); got (1, 5, 4)")):
        gru(torch.ones(2, 5, 3), torch.ones(1, 5, 4))
    attention = to_crossbar(nn.MultiheadAttention(4, 2))
    with pytest.raises(ValueError, match="attn_mask must be given where is_causal=True"):
        attention(*[torch.ones(2, 5, 4)] * 3, is_causal=True)
    with pytest.raises(TypeError, match="layer 'ih_l0' must be float32 or float64 to be conv"):
        to_crossbar(nn.LSTM(3, 4).half())
    for mine, other in ((lstm, nn.LSTM(3, 4)), (attention, nn.MultiheadAttention(4, 2))):
        with pytest.raises(RuntimeError, match=r"is on arrays.* load it before to_crossbar"):
            mine.load_state_dict(other.state_dict())
