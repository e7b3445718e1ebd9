"""LowRankSGD in anyone's loop: against torch's SGD where no rank is cut, and on its own terms."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from toolkit.lowrank import LowRank, estimator_names
from toolkit.training import LowRankSGD, release_weights, to_crossbar, to_digital
from toolkit.training.layers.capture import attached
from toolkit.training.layers.updates import merged

FULL = {"method": "svd", "rank": 100, "momentum_rank": 100}


def perceptron(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
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


def channels_last() -> nn.Module:
    return convolutional().to(memory_format=torch.channels_last)


def hooked() -> nn.Module:
    model = perceptron()
    model[0].register_forward_hook(lambda _module, _args, outputs: 3 * outputs)
    model[3].register_forward_pre_hook(lambda _module, args: (args[0] + 1,))
    return model


def used_twice() -> nn.Module:
    torch.manual_seed(0)
    linear = nn.Linear(6, 6, bias=False, dtype=torch.float64)
    return nn.Sequential(linear, nn.Tanh(), linear)


class Recomputed(nn.Sequential):
    """Sequences (batch, tokens, features) through torch's activation checkpointing."""

    def forward(self, inputs):
        return checkpoint(super().forward, inputs.view(2, 5, 6), use_reentrant=False).flatten(0, 1)


class Tied(nn.Sequential):
    """No matrices of their own, "5" aside: tied, depthwise, one row and one column."""

    def forward(self, inputs):
        return super().forward(inputs.argmax(1))


def tied() -> nn.Module:
    torch.manual_seed(0)
    shared = nn.Linear(6, 6, bias=False)
    depthwise = nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 6, 1, groups=6), nn.Flatten()
    rest = nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(1, 4)
    model = Tied(nn.Embedding(6, 6), shared, *depthwise, *rest).double()
    model[1].weight = model[0].weight
    return model


MADE = {
    perceptron: (10, 6),
    convolutional: (5, 2, 8, 8),
    channels_last: (5, 2, 8, 8),
    hooked: (10, 6),
    used_twice: (10, 6),
    lambda: Recomputed(*perceptron()): (10, 6),
    tied: (10, 6),
}


def batches(
    shape: tuple[int, ...] = (10, 6), count: int = 6, dtype: torch.dtype = torch.float64
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(3, shape[:1], generator=generator),
        )
        for _ in range(count)
    ]


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: list,
    after: Callable = lambda: None,
    every: int = 1,
) -> list[float]:
    """A step of the optimiser after ``every`` backward passes."""
    losses = []
    for number, (inputs, labels) in enumerate(data):
        if number % every == 0:
            optimiser.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        if (number + 1) % every == 0:
            optimiser.step()
            after()
        losses.append(loss.item())
    return losses


def assert_same(model: nn.Module, other: nn.Module) -> None:
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), msg=name)


def same_bits(one: object, other: object) -> bool:
    """Whether two nests of dicts, lists and tensors hold the same."""
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True)
    )


def resumed_alike(
    fresh: Callable[[], tuple[nn.Module, LowRankSGD]], loss: Callable[[nn.Module], torch.Tensor]
) -> nn.Module:
    """A model trained for four steps, which one that was saved and loaded midway equals by bits."""

    def steps(model: nn.Module, optimiser: LowRankSGD, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            loss(model).backward()
            optimiser.step()

    whole, resumed = fresh(), fresh()
    steps(*whole, 2)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in whole], file)
    steps(*whole, 2)
    steps(*resumed, 1)
    for part, state in zip(resumed, torch.load(io.BytesIO(file.getvalue())), strict=True):
        part.load_state_dict(state)
    steps(*resumed, 2)
    assert same_bits(resumed[0].state_dict(), whole[0].state_dict())
    return whole[0]


@pytest.mark.parametrize(
    ("knobs", "every"), [({}, 1), ({"momentum": 0.9}, 2), ({"weight_decay": 0.3}, 1)]
)
@pytest.mark.parametrize(("make", "shape"), MADE.items())
def test_at_full_rank_it_is_torchs_sgd(make, shape, knobs, every):
    """Nothing is cut: all agrees with dense gradients, dense momentum and, without it, decay."""
    model, other = make(), make()
    mine = LowRankSGD(model, 0.1, **FULL, **knobs)
    theirs = torch.optim.SGD(other.parameters(), 0.1, **knobs)
    losses, expected = (
        train(*pair, batches(shape), every=every) for pair in ((model, mine), (other, theirs))
    )
    assert losses == pytest.approx(expected, rel=1e-9)
    assert_same(model, other)
    assert make is not tied or mine.layer_names == ["5"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_layers_on_arrays_learn_as_plain_ones(make, momentum):
    """Digital arrays, biases inside them: the same numbers as torch's SGD."""
    other, data = make(), batches(MADE[make])
    model = to_crossbar(other)
    train(model, LowRankSGD(model, 0.1, momentum=momentum, **FULL), data)
    train(other, torch.optim.SGD(other.parameters(), 0.1, momentum=momentum), data)
    assert_same(to_digital(model), other)


def test_a_step_of_rank_2_is_the_truncated_dense_gradient():
    """Against the SVD of autograd's gradient, group by group in a convolution."""
    model, other = convolutional(), convolutional()
    [(inputs, labels)] = data = batches((5, 2, 8, 8), 1)
    train(model, LowRankSGD(model, 0.1, method="svd", rank=2), data)
    functional.cross_entropy(other(inputs), labels).backward()
    for place, groups in ((0, 1), (3, 2), (5, 1)):
        mine, theirs = model[place].weight, other[place].weight
        assert mine.grad is None  # no dense gradient was formed
        tensors = (mine, theirs.detach(), theirs.grad)
        parts = (tensor.flatten(1).chunk(groups) for tensor in tensors)
        for part, before, gradient in zip(*parts, strict=True):
            u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
            torch.testing.assert_close(part, before - 0.1 * (u[:, :2] * s[:2]) @ vh[:2])


@pytest.mark.parametrize("method", estimator_names())
def test_every_method_trains_every_kind_of_layer(method):
    for model in (convolutional().float(), to_crossbar(convolutional().float(), device="EpiRAM")):
        optimiser = LowRankSGD(model, 0.02, method=method, rank=2, block_size=2)
        losses = train(model, optimiser, batches((8, 2, 8, 8), 1, torch.float32) * 12)
        assert losses[-1] < losses[0]


def test_a_step_uses_up_the_samples_of_a_backward_pass():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1)
    inputs = batches(count=1)[0][0].requires_grad_()
    backward = lambda: model(inputs).square().sum().backward()  # noqa: E731
    for idle in (
        lambda: model(inputs),
        lambda: (backward(), optimiser.step(), model.zero_grad()),
        lambda: (backward(), optimiser.zero_grad()),
        lambda: torch.autograd.grad(model(inputs).square().sum(), [model[3].bias, inputs]),
    ):
        idle()
        with pytest.raises(RuntimeError, match=r"step must follow loss\.backward"):
            optimiser.step()


@pytest.mark.parametrize("crossbar", [False, True])
def test_a_resumed_run_has_the_same_bits(tmp_path, crossbar):
    data = batches((12, 6), 8, torch.float32)

    def fresh() -> tuple[nn.Module, LowRankSGD, torch.optim.lr_scheduler.LRScheduler]:
        model = perceptron(torch.float32)
        model = to_crossbar(model, device="Ag:a-Si", seed=2) if crossbar else model
        optimiser = LowRankSGD(model, 0.1, rank=2, block_size=4, momentum=0.9, seed=5)
        return model, optimiser, torch.optim.lr_scheduler.StepLR(optimiser, 3, gamma=0.5)

    whole, optimiser, scheduler = saved = fresh()
    train(whole, optimiser, data[:4], scheduler.step)
    torch.save([part.state_dict() for part in saved], tmp_path / "checkpoint.pt")
    train(whole, optimiser, data[4:], scheduler.step)
    resumed, optimiser, scheduler = parts = fresh()
    train(resumed, optimiser, data[:1])  # a state to be replaced
    states = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for part, state in zip(parts, states, strict=True):
        part.load_state_dict(state)
    assert optimiser.param_groups[0]["lr"] == 0.05
    train(resumed, optimiser, data[4:], scheduler.step)
    with torch.no_grad():
        assert torch.equal(resumed(data[0][0]), whole(data[0][0]))


def test_groups_have_options_of_their_own_and_live():
    model = perceptron()
    groups = [{"module": model[0], "lr": 0.0}, {"module": model[3], "rank": 1}]
    optimiser = LowRankSGD(groups, 0.1, rank=3, method="svd")
    first = model[0].weight.clone()
    for rank, reached in ((1, 1), (2, 2), (100, 3)):  # errors of softmax add up to 0
        optimiser.param_groups[1]["rank"] = rank
        last = model[3].weight.clone()
        train(model, optimiser, batches(count=1))
        assert torch.linalg.matrix_rank(model[3].weight - last, rtol=1e-9) == reached
    assert torch.equal(model[0].weight, first)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_closure_and_autocast_to_bfloat16(autocast):
    model = perceptron(torch.float32)
    optimiser = LowRankSGD(model, 0.3)
    [(inputs, labels)] = batches(count=1, dtype=torch.float32)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    losses = [float(optimiser.step(closure).detach()) for _ in range(10)]
    assert losses[-1] < losses[0]
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(functional.cross_entropy(model(inputs), labels)).backward()
    with pytest.raises(RuntimeError, match="GradScaler"):
        scaler.step(optimiser)


def test_merged_velocity_is_the_best_of_its_rank():
    generator = torch.Generator().manual_seed(0)

    def factors(rank: int) -> LowRank:
        shapes = ((7, rank), (rank,), (9, rank))
        return LowRank(
            *(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
        )

    velocity, update = factors(3), factors(2)
    dense = 0.9 * velocity.dense() + update.dense()
    torch.testing.assert_close(merged(velocity, update, 0.9, 5).dense(), dense)
    u, s, vh = torch.linalg.svd(dense, full_matrices=False)
    best = u[:, :2] * s[:2] @ vh[:2]
    torch.testing.assert_close(merged(velocity, update, 0.9, 2).dense(), best)


def test_momentum_is_kept_in_factors():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1, rank=1, momentum=0.9)
    train(model, optimiser, batches())
    assert optimiser._layers[0][0].velocities[0].rank == 2
    optimiser.param_groups[0]["momentum"] = 0.0
    train(model, optimiser, batches(count=1))
    assert optimiser._layers[0][0].velocities[0] is None


def test_a_nan_names_its_layer_and_changes_nothing():
    model = perceptron()
    optimiser = LowRankSGD(model, 0.1)
    data = batches(count=2)
    train(model, optimiser, data[:1])
    before = copy.deepcopy((model.state_dict(), optimiser.state_dict()["layers"]))
    data[1][0][3, 2] = torch.nan
    with pytest.raises(ValueError, match="layer '0' must be finite"):
        train(model, optimiser, data[1:])
    optimiser.zero_grad()
    assert same_bits((model.state_dict(), optimiser.state_dict()["layers"]), before)


def test_frozen_layers_stay_and_a_second_optimiser_goes_on():
    model = perceptron()
    model[0].requires_grad_(False)
    for _ in range(2):
        optimiser = LowRankSGD(model, 0.1)
        assert optimiser.layer_names == ["3"]
        last = model[3].weight.clone()
        train(model, optimiser, batches(count=1))
        assert torch.equal(model[0].weight, perceptron()[0].weight)
        assert not torch.equal(model[3].weight, last)


@pytest.mark.parametrize("how", ["released", "copied", "pickled"])
def test_released_weights_and_those_of_a_copy_are_autograds_again(how):
    model, other, data = perceptron(), perceptron(), batches()
    LowRankSGD(model, 0.1)
    free = {"copied": copy.deepcopy, "pickled": lambda m: pickle.loads(pickle.dumps(m))}
    twin = free[how](model) if how in free else model
    if twin is model:
        release_weights(model)
    assert attached(twin[0]) is None
    for each in (twin, other):
        train(each, torch.optim.SGD(each.parameters(), 0.1), data)
    assert_same(twin, other)
    train(twin, LowRankSGD(twin, 0.1), data)
    if twin is not model:
        assert_same(model, perceptron())
        assert attached(model[0]).calls == []


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


@pytest.mark.parametrize(
    ("model", "knobs", "message"),
    [
        (nn.Sequential(nn.LayerNorm(3)), {}, "model must have a Linear"),
        (perceptron(), {"method": "adam"}, "method must be one of"),
        (perceptron(), {"method": "svd", "passes": 2}, "takes the knobs"),
        (perceptron(), {"rank": 0}, "rank"),
        (perceptron(), {"momentum": 1.5}, "momentum"),
        (perceptron(), {"weight_decay": -1}, "weight_decay"),
        (perceptron(), {"scheme": "both"}, "scheme"),
        (perceptron(), {"lr": -0.1}, "lr must be finite"),
        ([{"params": perceptron().parameters()}], {}, "a group must be"),
        ([{"module": perceptron(), "learning_rate": 1}], {}, "a group must be"),
        (perceptron().parameters(), {}, "must be the nn"),
        ([{"module": m} for m in [perceptron()] * 2], {}, "more than one parameter group"),
        (to_crossbar(perceptron()), {"weight_decay": 0.1}, "must be 0 for layers on crossbars"),
    ],
)
def test_bad_input_is_one_clear_error(model, knobs, message):
    with pytest.raises((ValueError, TypeError), match=message):
        LowRankSGD(model, **{"lr": 0.1, **knobs})
    if isinstance(model, nn.Module):  # an error leaves the model as it was
        assert all(p.requires_grad for p in model.parameters())
        assert all(attached(layer) is None for layer in model.modules())


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("where", ["meta", torch.complex64])
def test_layers_without_real_numbers_are_named(where):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).to(where)
    with pytest.raises(TypeError, match=r"layer '0' must hold real numbers to be trained; got .*"):
        LowRankSGD(model, lr=0.1)
