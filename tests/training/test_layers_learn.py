"""Toy networks of every kind learn on cells by LowRankSGD, and compute under mixed precision."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from toolkit.training import (
    Experiment,
    LowRankSGD,
    crossbar_layers,
    load_dataset,
    to_crossbar,
    to_digital,
)


class Reader(nn.Module):
    """Does a sequence of tokens hold more of the upper half?"""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 12)
        self.body = {
            "lstm": lambda: nn.LSTM(12, 12, batch_first=True),
            "gru": lambda: nn.GRU(12, 12, batch_first=True),
            "transformer": lambda: nn.TransformerEncoderLayer(
                12, 2, 24, dropout=0.0, batch_first=True
            ),
            "conv1d": lambda: nn.Conv1d(12, 12, 3, padding=1),
        }[kind]()
        self.head = nn.Linear(12, 2)
        self.kind = kind

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = self.embedding(tokens)
        if self.kind == "conv1d":
            rows = self.body(rows.transpose(1, 2)).relu().transpose(1, 2)
        else:
            found = self.body(rows)
            rows = found[0] if isinstance(found, tuple) else found
        return self.head(rows.mean(1))


def task() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(8, (64, 7), generator=torch.Generator().manual_seed(0))
    return tokens, (tokens > 3).sum(1).gt(3).long()


def trained(optimiser, loss, steps=60):
    """The loss before each of these steps."""
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        found = loss()
        found.backward()
        optimiser.step()
        losses.append(found.item())
    return losses


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer", "conv1d"])
def test_a_reader_of_tokens_learns_on_cells(kind):
    torch.manual_seed(1)
    model = to_crossbar(Reader(kind), device="EpiRAM", seed=0, strict=True)
    lr = 1.0 if kind == "lstm" else 0.3
    optimiser = LowRankSGD(model, lr, rank=3, block_size=8, seed=0)
    tokens, labels = task()
    losses = trained(optimiser, lambda: functional.cross_entropy(model(tokens), labels))
    assert losses[-1] < 0.6 * losses[0]
    for layer in crossbar_layers(model).values():
        assert int(layer.arrays[0].pulse_count.sum()) > 0
    with torch.no_grad():
        found, expected = to_digital(model).eval()(tokens), model.eval()(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_autoencoder_learns_on_cells():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 1, 3, stride=2, padding=1, output_padding=1),
    )
    model = to_crossbar(model, device="EpiRAM", seed=0, strict=True)
    optimiser = LowRankSGD(model, 0.3, rank=3, block_size=8)
    images = torch.randn(16, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    losses = trained(optimiser, lambda: functional.mse_loss(model(images), images))
    assert losses[-1] < 0.6 * losses[0]
    assert model[2].bias is model[2].digital_bias and model[2].bias.grad is not None


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer", "conv1d"])
@pytest.mark.parametrize("device", [None, "digital", "EpiRAM"])
def test_mixed_precision_trains_and_arrays_stay_as_they_are(kind, device):
    """``None``: torch's own layers."""
    if (kind, device) == ("lstm", None):
        pytest.skip("torch's own LSTM has no bfloat16 on some processors")
    torch.manual_seed(1)
    model = Reader(kind) if device is None else to_crossbar(Reader(kind), device=device)
    optimiser = LowRankSGD(model, 0.1, rank=3)
    tokens, labels = task()
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(tokens), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for layer in crossbar_layers(model).values():
        assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", ["lstm", "transformer", "conv1d"])
def test_double_and_half_precision(kind):
    tokens, labels = task()
    model = to_crossbar(Reader(kind).double(), device="EpiRAM")
    assert model(tokens).dtype == torch.float64
    with pytest.raises(ValueError, match=r"arrays stay where they were made.*before to_crossbar"):
        model.float()
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match="layer 'embedding' must be float32 or float64"):
            to_crossbar(Reader(kind).to(dtype))
    plain = Reader(kind).bfloat16()
    optimiser = LowRankSGD(plain, 0.1, rank=2)
    functional.cross_entropy(plain(tokens).float(), labels).backward()
    before = plain.head.weight.clone()
    optimiser.step()
    assert not torch.equal(plain.head.weight, before)


class Rows(nn.Module):
    """Digits row by row: a convolution, a recurrent layer, attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv1d(8, 16, 3, padding=1)
        self.rnn = nn.GRU(16, 16, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.conv(images.view(-1, 8, 8)).relu().transpose(1, 2)
        rows = rows + self.rnn(rows)[0]
        rows = rows + self.attention(rows, rows, rows, need_weights=False)[0]
        return self.head(rows.flatten(1))


def test_an_experiment_takes_them_all_and_its_knobs_turn_live():
    data = load_dataset("digits")
    run = Experiment(dataset=data, model=Rows(), device="EpiRAM", learning_rate=0.2, seed=0)
    losses = [record.loss for record in run.steps(epochs=2)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    projections = [f"attention.{x}_proj" for x in ("q", "k", "v", "out")]
    assert list(run.arrays) == ["conv", "rnn.ih_l0", "rnn.hh_l0", *projections, "head"]
    assert run.estimators["rnn.hh_l0"].block_size == 8 * run.block_size
    run.change(rank=2, method="svd", device="FeFET")
    run.step()
    assert set(run.spectra()) == set(run.arrays) == set(run.results()["layers"].children)
