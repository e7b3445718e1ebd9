"""Networks that nobody here wrote, in toy sizes: onto crossbars, trained, and back."""

import warnings
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from toolkit.training import LowRankSGD, crossbar_layers, to_crossbar, to_digital

transformers = pytest.importorskip("transformers")

TOKENS = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
}
STILL = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)


def bert() -> nn.Module:
    config = transformers.BertConfig(**TOKENS, **STILL, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    quiet = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "loss_type": "ForCausalLM"}
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=8, **quiet, **ends
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(**TOKENS, num_key_value_heads=1)
    return transformers.LlamaForCausalLM(config)


def vit() -> nn.Module:
    sizes = {**TOKENS, "image_size": 8, "patch_size": 4, "num_labels": 3}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, **STILL))


def mobilenet() -> nn.Module:
    config = transformers.MobileNetV2Config(
        depth_multiplier=0.25, expand_ratio=1.5, num_labels=3, classifier_dropout_prob=0.0
    )
    return transformers.MobileNetV2ForImageClassification(config)


def resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3, layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config)


def wav2vec() -> nn.Module:
    """Convolutions of one dimension before a transformer."""
    quiet = ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop")
    sizes = {**TOKENS, "conv_dim": (8, 8), "conv_stride": (4, 2), "conv_kernel": (8, 4)}
    config = transformers.Wav2Vec2Config(
        **sizes,
        **dict.fromkeys((*quiet, "activation_dropout", "final_dropout"), 0.0),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        apply_spec_augment=False,
        initializer_range=0.2,
        num_labels=3,
        classifier_proj_size=8,
    )
    return transformers.Wav2Vec2ForSequenceClassification(config)


# a model, the learning rate on cells, and what stays digital: the layer and the reason
MODELS: dict[Callable[[], nn.Module], tuple[float, list[str]]] = {
    bert: (0.2, []),
    gpt2: (0.2, ["'transformer.wte': it shares a parameter with 'lm_head'", "'lm_head': it"]),
    llama: (0.2, []),
    vit: (0.2, ["'vit.embeddings': ViTEmbeddings has no adapter"]),
    mobilenet: (0.0, []),  # 500 arrays, most of one row: too slow to train here
    resnet: (0.2, []),
    wav2vec: (0.05, ["computed from other parameters"]),
}
ALL = pytest.mark.parametrize("make", MODELS)


def made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def converted(model: nn.Module, reasons: list[str], **options: object) -> nn.Module:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model = to_crossbar(model, seed=0, **options)
    said = [str(w.message) for w in found if "stay digital" in str(w.message)]
    assert len(said) == bool(reasons)
    assert all(reason in said[0] for reason in reasons)
    return model


def batch(make: Callable[[], nn.Module]) -> Mapping[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens, labels = torch.randint(1, 20, (9, 7), generator=generator), torch.arange(9) % 3
    if make in (gpt2, llama):
        return {"input_ids": tokens, "labels": tokens}
    if make is bert:
        return {"input_ids": tokens, "labels": labels}
    if make is wav2vec:
        return {"input_values": torch.randn(9, 200, generator=generator), "labels": labels}
    side = 8 if make is vit else 32
    images = torch.randn(9, 3, side, side, generator=generator)
    return {"pixel_values": images, "labels": labels}


def train(model: nn.Module, optimiser: torch.optim.Optimizer, data: Mapping, steps: int) -> list:
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = model(**data).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@ALL
def test_it_computes_the_same_learns_on_cells_and_comes_back(make):
    model, data = made(make), batch(make)
    lr, reasons = MODELS[make]
    arrays = converted(model, reasons, device="EpiRAM")
    close = {"rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad():
        found, expected = (each.eval()(**data).logits for each in (arrays, model))
    torch.testing.assert_close(found, expected, **close)
    if lr:
        losses = train(arrays.train(), LowRankSGD(arrays, lr, rank=4, block_size=16), data, 12)
        assert min(losses) < 0.95 * losses[0]
    back = to_digital(arrays)
    assert str(back) == str(model)
    with torch.no_grad():
        found, expected = (each.eval()(**data).logits for each in (back, arrays))
    torch.testing.assert_close(found, expected, **close)


@ALL
@pytest.mark.parametrize("on_arrays", [False, True])
def test_at_full_rank_it_trains_as_by_torchs_sgd(make, on_arrays):
    other = made(make).double().train()
    data = {k: v.double() if v.is_floating_point() else v for k, v in batch(make).items()}
    model = made(make).double().train()
    model = converted(model, MODELS[make][1]) if on_arrays else model
    full = {"method": "svd", "rank": 1000, "block_size": 1000}
    losses = train(model, LowRankSGD(model, 0.1, **full), data, 3)
    assert losses == pytest.approx(train(other, torch.optim.SGD(other.parameters(), 0.1), data, 3))
    assert not on_arrays or len(crossbar_layers(model)) > 5
    model = to_digital(model) if on_arrays else model
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, other.state_dict()[name], rtol=1e-7, atol=1e-8)
