"""The ablation's stacked recursions against the estimators that they stand for."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from benchmarks import convolution_gap as gap
from toolkit.lowrank import SBPCA, FeedbackPCA
from toolkit.training import Dataset, LowRankSGD, make_model


def batch(m: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors and columns of 64 pictures with 20 positions each, for two runs."""
    mix = torch.randn(n, n) * torch.logspace(0, -2, n)
    errors = torch.randn(64, 2, m, 20)
    return errors, mix @ torch.randn(64, 2, n, 20) + 0.3 * errors.mean(2, keepdim=True)


def rows(stack: torch.Tensor, run: int) -> torch.Tensor:
    """Samples of one run as an estimator takes them."""
    return stack[:, run].transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize(
    "knobs",
    [{}, {"core": "full"}, {"history": 4.0}, {"core": "full", "history": 4.0}],
    ids=str,
)
def test_a_stack_streams_as_sbpca_does(knobs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    stack = gap.Streaming([gap.Run("SBPCA", 0.1, 0, rank=6, **knobs)] * 2, "x", (32, 50), "cpu")
    ours = [SBPCA(rank=6, block_size=gap.BLOCK * 20, seed=seed, **knobs) for seed in (0, 1)]
    for turn in range(4):
        errors, columns = batch(32, 50)
        updates = [each.update(rows(errors, i), rows(columns, i)) for i, each in enumerate(ours)]
        if turn == 0:  # the first directions are drawn differently: go on from the same ones
            stack.left, stack.right = (
                torch.stack([getattr(update, side).T for update in updates])
                for side in ("left", "right")
            )
            stack.core = torch.stack([torch.diag(update.sigma) for update in updates])
            stack.fresh = False
            continue
        found = stack(errors, columns)
        for i, update in enumerate(updates):
            wanted = update.dense()
            assert (found[i] - wanted).norm() < 1e-3 * wanted.norm()


def test_feedback_within_a_rank_is_feedback_pca() -> None:
    """On gradients of few directions, where FeedbackPCA cuts nothing by chance."""
    torch.manual_seed(0)
    stack = gap.Whole([gap.Run("feedback", 0.1, 0, rank=3, memory=12)], "x", (32, 50), "cpu")
    ours = FeedbackPCA(rank=3, memory_rank=12, block_size=64 * 20)
    left, right = torch.linalg.qr(torch.randn(32, 5))[0], torch.linalg.qr(torch.randn(50, 5))[0]
    sizes = torch.tensor([[1.0], [0.3], [0.1], [0.02], [0.01]])
    for _ in range(4):
        mixes = torch.randn(64, 1, 5, 20)
        errors, columns = left @ (mixes * sizes), right @ mixes
        wanted = ours.update(rows(errors, 0), rows(columns, 0)).dense()
        found = stack(errors, columns)[0]
        assert (found - wanted).norm() < 1e-2 * wanted.norm()


# the stack's singular vectors are those of some subspace iterations
@pytest.mark.parametrize(("form", "limit"), [("MBGD", 1e-3), ("svd", 3e-2)])
def test_networks_train_as_one_network_does(form: str, limit: float) -> None:
    pictures = torch.rand(128, 3072, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(128) % 10
    data = Dataset("noise", pictures, labels, pictures, labels, 10, (3, 32, 32))
    runs = [gap.Run("SBPCA", 0.5, 2), gap.Run(form, 0.5, 3)]
    networks = gap.Networks(data, runs, "cpu")

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(64 * step, 64 * step + 64)
        stacked = pictures[part].unflatten(1, (3, 32, 32))[:, None].expand(-1, 2, -1, -1, -1)
        return stacked, labels[part][:, None].expand(-1, 2)

    gap.train(networks, runs, batches, 2)
    model = make_model("vgg", data, generator=torch.Generator().manual_seed(3))
    optimiser: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), 0.1)
        if form == "MBGD"
        else LowRankSGD(model, 0.1, method="svd", rank=16)
    )
    for step in range(2):
        optimiser.param_groups[0]["lr"] = 0.5 * gap.ramp((step + 0.5) / 2)
        optimiser.zero_grad()
        inputs, answers = batches(step)
        functional.cross_entropy(model(inputs[:, 1].flatten(1)), answers[:, 1]).backward()
        optimiser.step()
    for name, weights in networks.weights.items():
        wanted = model.get_submodule(name).weight.detach().flatten(1)  # type: ignore[union-attr]
        assert (weights[1] - wanted).norm() < limit * wanted.norm()
