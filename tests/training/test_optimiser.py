"""LowRankSGD in anyone's loop: against torch's SGD where no rank is cut, and on its own terms."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from toolkit.lowrank import LowRank, estimator_names
from toolkit.training import LowRankSGD, release_weights, to_crossbar
from toolkit.training.layers.capture import attached
from toolkit.training.layers.updates import merged


def perceptron(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(6, 8, bias=False), nn.ReLU(inplace=True), nn.LayerNorm(8), nn.Linear(8, 4)]
    return nn.Sequential(*layers).to(dtype)


def convolutional(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding="valid", bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, padding="same", groups=2, padding_mode="circular"),
        nn.Flatten(),
        nn.Linear(54, 3),
    ).to(dtype)


def batches(shape: tuple[int, ...], count: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        inputs = torch.randn(*shape, generator=generator, dtype=torch.float64)
        made.append((inputs, torch.randint(3, shape[:1], generator=generator)))
    return made


def train(
    model: nn.Module, optimiser: torch.optim.Optimizer, data: list, after: Callable = lambda: None
) -> list[float]:
    losses = []
    for inputs, labels in data:
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimiser.step()
        after()
        losses.append(loss.item())
    return losses


def assert_same(model: nn.Module, other: nn.Module) -> None:
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(
            mine, theirs.detach().requires_grad_(mine.requires_grad), msg=name
        )


FULL = {"method": "svd", "rank": 100, "momentum_rank": 100}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("make", "shape"), [(perceptron, (10, 6)), (convolutional, (5, 2, 8, 8))], ids=["mlp", "cnn"]
)
def test_at_full_rank_it_is_torchs_sgd(make, shape, momentum):
    """Nothing is cut: weights, biases and norms agree with dense gradients and dense momentum."""
    model, other = make(), make()
    mine = LowRankSGD(model, 0.1, momentum=momentum, **FULL)
    theirs = torch.optim.SGD(other.parameters(), 0.1, momentum=momentum)
    data = batches(shape)
    assert train(model, mine, data) == pytest.approx(train(other, theirs, data), rel=1e-9)
    assert_same(model, other)


def test_a_step_of_rank_2_is_the_truncated_dense_gradient():
    """Against the SVD of autograd's gradient, group by group in a convolution."""
    model, other = convolutional(), convolutional()
    inputs, labels = batches((5, 2, 8, 8), 1)[0]
    train(model, LowRankSGD(model, 0.1, method="svd", rank=2), [(inputs, labels)])
    functional.cross_entropy(other(inputs), labels).backward()
    for mine, theirs in ((model[0], other[0]), (model[3], other[3]), (model[5], other[5])):
        for part, before, gradient in zip(
            *(
                tensor.flatten(1).chunk(getattr(theirs, "groups", 1))
                for tensor in (mine.weight, theirs.weight.detach(), theirs.weight.grad)
            ),
            strict=True,
        ):
            u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
            torch.testing.assert_close(part, before - 0.1 * (u[:, :2] * s[:2]) @ vh[:2])


@pytest.mark.parametrize(
    ("make", "shape"), [(perceptron, (10, 6)), (convolutional, (5, 2, 8, 8))], ids=["mlp", "cnn"]
)
def test_weight_decay_is_torchs_where_there_is_no_momentum(make, shape):
    model, other = make(), make()
    data = batches(shape)
    train(model, LowRankSGD(model, 0.1, weight_decay=0.3, **FULL), data)
    train(other, torch.optim.SGD(other.parameters(), 0.1, weight_decay=0.3), data)
    assert_same(model, other)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_layers_on_arrays_learn_as_plain_ones(momentum):
    """Digital arrays, biases inside them: the same numbers as torch's SGD."""
    other = perceptron()
    model = to_crossbar(other)
    data = batches((10, 6))
    train(model, LowRankSGD(model, 0.1, momentum=momentum, **FULL), data)
    train(other, torch.optim.SGD(other.parameters(), 0.1, momentum=momentum), data)
    torch.testing.assert_close(model[0].array.weights, other[0].weight.detach())
    torch.testing.assert_close(model[3].array.weights[:, :-1], other[3].weight.detach())
    torch.testing.assert_close(model[3].array.weights[:, -1], other[3].bias.detach())


@pytest.mark.parametrize("method", estimator_names())
def test_every_method_trains_every_kind_of_layer(method):
    for convert in (lambda m: m, lambda m: to_crossbar(m, device="EpiRAM")):
        model = convert(convolutional(torch.float32))
        inputs, labels = batches((8, 2, 8, 8), 1)[0]
        optimiser = LowRankSGD(model, 0.02, method=method, rank=2, block_size=2)
        losses = train(model, optimiser, [(inputs.float(), labels)] * 12)
        assert losses[-1] < losses[0]


def test_no_dense_gradient_is_formed_and_frozen_inputs_are_no_obstacle():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1)
    before = model[0].weight.clone()
    train(model, optimiser, batches((10, 6), 1))
    assert model[0].weight.grad is None and model[3].weight.grad is None
    assert model[3].bias.grad is not None
    assert not torch.equal(model[0].weight, before)


def test_several_passes_before_a_step_add_up():
    """A layer used twice, and gradients accumulated over two backward passes."""
    data = batches((10, 6), 2)
    results = []
    for optimiser_of in (
        lambda model: LowRankSGD(model, 0.1, **FULL),
        lambda model: torch.optim.SGD(model.parameters(), 0.1),
    ):
        torch.manual_seed(0)
        model = nn.Linear(6, 6, bias=False, dtype=torch.float64)
        optimiser = optimiser_of(model)
        for inputs, labels in data:
            functional.cross_entropy(model(model(inputs).tanh()), labels).backward()
        optimiser.step()
        results.append(model.weight.detach())
    torch.testing.assert_close(*results)


def test_a_step_uses_the_samples_up():
    model = nn.Linear(6, 3, bias=False)
    optimiser = LowRankSGD(model, 0.1)
    model(torch.ones(2, 6)).sum().backward()
    optimiser.step()
    with pytest.raises(RuntimeError, match="step must follow loss"):
        optimiser.step()


def test_evaluation_and_zero_grad_leave_nothing_to_step_on():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1)
    inputs, labels = batches((10, 6), 1)[0]
    with torch.no_grad():
        model(inputs)
    with pytest.raises(RuntimeError, match="step must follow loss"):
        optimiser.step()
    functional.cross_entropy(model(inputs), labels).backward()
    optimiser.zero_grad()
    with pytest.raises(RuntimeError, match="step must follow loss"):
        optimiser.step()


@pytest.mark.parametrize("crossbar", [False, True])
def test_a_resumed_run_has_the_same_bits(tmp_path, crossbar):
    data = batches((12, 6), 8)
    data = [(inputs.float(), labels) for inputs, labels in data]

    def fresh() -> tuple[nn.Module, LowRankSGD, torch.optim.lr_scheduler.LRScheduler]:
        model = perceptron(torch.float32)
        model = to_crossbar(model, device="Ag:a-Si", seed=2) if crossbar else model
        optimiser = LowRankSGD(model, 0.1, rank=2, block_size=4, momentum=0.9, seed=5)
        return model, optimiser, torch.optim.lr_scheduler.StepLR(optimiser, 3, gamma=0.5)

    whole, optimiser, scheduler = fresh()
    train(whole, optimiser, data, scheduler.step)
    model, optimiser, scheduler = fresh()
    train(model, optimiser, data[:4], scheduler.step)
    saved = {"model": model, "optimiser": optimiser, "scheduler": scheduler}
    torch.save({k: part.state_dict() for k, part in saved.items()}, tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed, optimiser, scheduler = fresh()
    train(resumed, optimiser, data[:1])  # a state to be replaced
    for name, part in (("model", resumed), ("optimiser", optimiser), ("scheduler", scheduler)):
        part.load_state_dict(state[name])
    assert optimiser.param_groups[0]["lr"] == 0.05
    train(resumed, optimiser, data[4:], scheduler.step)
    with torch.no_grad():
        assert torch.equal(resumed(data[0][0]), whole(data[0][0]))


def test_a_state_of_other_layers_is_refused():
    saved = LowRankSGD(perceptron(), 0.1).state_dict()
    optimiser = LowRankSGD(nn.Sequential(nn.Linear(6, 8)), 0.1)
    with pytest.raises(ValueError, match="state must be of a LowRankSGD of the layers"):
        optimiser.load_state_dict(saved)


def test_groups_have_options_of_their_own_and_live():
    model = perceptron()
    groups = [{"module": model[0], "lr": 0.0}, {"module": model[3], "rank": 1}]
    optimiser = LowRankSGD(groups, 0.1, rank=3, method="svd")
    first, last = model[0].weight.clone(), model[3].weight.clone()
    train(model, optimiser, batches((10, 6), 1))
    assert torch.equal(model[0].weight, first)
    assert torch.linalg.matrix_rank(model[3].weight - last, rtol=1e-9) == 1
    optimiser.param_groups[1]["rank"] = 2
    last = model[3].weight.clone()
    train(model, optimiser, batches((10, 6), 1))
    assert torch.linalg.matrix_rank(model[3].weight - last, rtol=1e-9) == 2
    optimiser.param_groups[1]["rank"] = 100  # clipped to min(m, n) = 4
    train(model, optimiser, batches((10, 6), 1))


def test_blocks_count_images():
    model = convolutional(torch.float32)
    optimiser = LowRankSGD(model, 0.1, block_size=2)
    train(model, optimiser, [(batches((6, 2, 8, 8), 1)[0][0].float(), torch.arange(6) % 3)])
    sizes = [layer.estimators[0].block_size for layer in optimiser._layers[0]]
    assert sizes == [2 * 9, 2 * 9, 2]


def test_closure_and_its_loss():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1)
    inputs, labels = batches((10, 6), 1)[0]

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    losses = [float(optimiser.step(closure).detach()) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_merged_velocity_is_the_best_of_its_rank():
    generator = torch.Generator().manual_seed(0)

    def factors(rank: int) -> LowRank:
        drawn = [
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in ((7, rank), (rank,), (9, rank))
        ]
        return LowRank(*drawn)

    velocity, update = factors(3), factors(2)
    dense = 0.9 * velocity.dense() + update.dense()
    torch.testing.assert_close(merged(velocity, update, 0.9, 5).dense(), dense)
    u, s, vh = torch.linalg.svd(dense, full_matrices=False)
    best = u[:, :2] * s[:2] @ vh[:2]
    torch.testing.assert_close(merged(velocity, update, 0.9, 2).dense(), best)


def test_momentum_is_kept_in_factors():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1, rank=1, momentum=0.9)
    train(model, optimiser, batches((10, 6), 5))
    velocity = optimiser._layers[0][0].velocities[0]
    assert velocity.rank == 2
    optimiser.param_groups[0]["momentum"] = 0.0
    train(model, optimiser, batches((10, 6), 1))
    assert optimiser._layers[0][0].velocities[0] is None


def test_a_nan_names_its_layer_and_changes_nothing():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1)
    data = batches((10, 6), 2)
    train(model, optimiser, data[:1])
    before = copy.deepcopy((model.state_dict(), optimiser.state_dict()["layers"]))
    data[1][0][3, 2] = torch.nan
    with pytest.raises(ValueError, match="layer '0' must be finite"):
        train(model, optimiser, data[1:])
    optimiser.zero_grad()
    assert all(torch.equal(before[0][k], v) for k, v in model.state_dict().items())
    for mine, theirs in zip(optimiser.state_dict()["layers"][0], before[1][0], strict=True):
        for a, b in zip(mine["estimators"], theirs["estimators"], strict=True):
            assert all(torch.equal(a[key], b[key]) for key in ("left", "sigma", "generator"))


def test_what_is_no_matrix_of_its_own_follows_autograd():
    """Tied weights, one-row outputs and depthwise convolutions: as torch's SGD trains them."""

    def make() -> nn.Sequential:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Embedding(6, 6),
            nn.Linear(6, 6, bias=False),
            nn.Unflatten(1, (6, 1, 1)),
            nn.Conv2d(6, 6, 1, groups=6),
            nn.Flatten(),
            nn.Linear(6, 5),
            nn.Linear(5, 1),
        ).double()
        model[1].weight = model[0].weight
        return model

    model, other = make(), make()
    mine, theirs = LowRankSGD(model, 0.1, **FULL), torch.optim.SGD(other.parameters(), 0.1)
    assert mine.layer_names == ["5"]
    for optimiser, network in ((mine, model), (theirs, other)):
        for _ in range(3):
            optimiser.zero_grad()
            network(torch.arange(6)).square().sum().backward()
            optimiser.step()
    assert_same(model, other)


def test_frozen_layers_stay_and_a_second_optimiser_goes_on():
    model = perceptron()
    model[0].requires_grad_(False)
    first = model[0].weight.clone()
    for _ in range(2):
        optimiser = LowRankSGD(model, 0.1)
        assert optimiser.layer_names == ["3"]
        last = model[3].weight.clone()
        train(model, optimiser, batches((10, 6), 1))
        assert torch.equal(model[0].weight, first)
        assert not torch.equal(model[3].weight, last)


def test_released_weights_are_autograds_again():
    model, other = perceptron(), perceptron()
    LowRankSGD(model, 0.1)
    release_weights(model)
    assert attached(model[0]) is None
    data = batches((10, 6))
    for each in (model, other):
        train(each, torch.optim.SGD(each.parameters(), 0.1), data)
    assert_same(model, other)


def test_a_deep_copy_learns_apart():
    model = perceptron()
    LowRankSGD(model, 0.1)
    twin = copy.deepcopy(model)
    before = model[0].weight.clone()
    train(twin, LowRankSGD(twin, 0.1), batches((10, 6), 2))
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(twin[0].weight, before)
    assert attached(model[0]).calls == []


def test_channels_last_weights_are_written():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, 3, dtype=torch.float64)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    inputs = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for model in (plain, last):
        optimiser = LowRankSGD(model, 0.1, **FULL)
        model(inputs).square().sum().backward()
        optimiser.step()
    torch.testing.assert_close(plain.weight, last.weight)


def test_bfloat16_autocast_trains():
    model = perceptron(torch.float32)
    optimiser = LowRankSGD(model, 0.3)
    inputs, labels = batches((10, 6), 1)[0]
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(inputs.float()), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_grad_scaler_is_refused():
    model = perceptron(torch.float32)
    optimiser = LowRankSGD(model, 0.1)
    scaler = torch.amp.GradScaler("cpu")
    inputs, labels = batches((10, 6), 1)[0]
    scaler.scale(functional.cross_entropy(model(inputs.float()), labels)).backward()
    with pytest.raises(RuntimeError, match="GradScaler"):
        scaler.step(optimiser)


def test_a_layer_called_by_keyword_and_one_left_out():
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.used(input=inputs)

    model = Forked()
    optimiser = LowRankSGD(model, 0.1)
    before = copy.deepcopy(model.state_dict())
    model(torch.ones(4, 3)).sum().backward()
    optimiser.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert changed == {"used.weight", "used.bias"}


def test_hooks_of_the_user_stay_in_force():
    data = batches((10, 6), 3)
    model, other = perceptron(), perceptron()
    for each in (model, other):
        each[0].register_forward_hook(lambda _module, _args, outputs: 3 * outputs)
        each[3].register_forward_pre_hook(lambda _module, args: (args[0] + 1,))
    train(model, LowRankSGD(model, 0.1, **FULL), data)
    train(other, torch.optim.SGD(other.parameters(), 0.1), data)
    assert_same(model, other)


def test_sequences_and_recomputed_activations():
    """Inputs (batch, tokens, features), and torch's activation checkpointing around a layer."""
    from torch.utils.checkpoint import checkpoint

    model, other = perceptron(), perceptron()
    inputs = torch.randn(4, 5, 6, dtype=torch.float64)
    mine, theirs = LowRankSGD(model, 0.1, **FULL), torch.optim.SGD(other.parameters(), 0.1)
    checkpoint(model, inputs, use_reentrant=False).square().sum().backward()
    other(inputs).square().sum().backward()
    mine.step()
    theirs.step()
    assert_same(model, other)


def test_bad_input_is_one_clear_error():
    model = perceptron()
    with pytest.raises(ValueError, match="model must have a Linear"):
        LowRankSGD(nn.Sequential(nn.LayerNorm(3)), 0.1)
    with pytest.raises(ValueError, match="method must be one of"):
        LowRankSGD(model, 0.1, method="adam")
    with pytest.raises(ValueError, match="takes the knobs"):
        LowRankSGD(model, 0.1, method="svd", passes=2)
    for knobs in ({"rank": 0}, {"momentum": 1.5}, {"weight_decay": -1}, {"scheme": "both"}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            LowRankSGD(model, 0.1, **knobs)
    with pytest.raises(ValueError, match="lr must be finite"):
        LowRankSGD(model, -0.1)
    with pytest.raises(ValueError, match="a group must be"):
        LowRankSGD([{"params": model.parameters()}], 0.1)
    with pytest.raises(ValueError, match="a group must be"):
        LowRankSGD([{"module": model, "learning_rate": 1}], 0.1)
    with pytest.raises(TypeError, match="must be the nn"):
        LowRankSGD(model.parameters(), 0.1)
    assert all(p.requires_grad for p in model.parameters()), "an error leaves the model as it was"
    with pytest.raises(ValueError, match="more than one parameter group"):
        LowRankSGD([{"module": model}, {"module": model[0]}], 0.1)
    with pytest.raises(ValueError, match=r"weight_decay must be 0 for layers on crossbars"):
        LowRankSGD(to_crossbar(model), 0.1, weight_decay=0.1)
