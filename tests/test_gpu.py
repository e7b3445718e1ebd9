"""The same on a GPU: equal numbers where nothing is random, equal distributions where something is.

    python -m pytest tests/test_gpu.py

On a CPU writes are compiled loops and elsewhere they are torch: one test holds these two statements
of the physics together on any machine. The others are skipped where there is no CUDA card.
"""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from tests.crossbar.arrays import Quadratic
from toolkit.crossbar import (
    PAIRS,
    Coincidence,
    Crossbar,
    IncrementalPulses,
    MixedPrecision,
    PiecewiseStep,
    PowStep,
    TikiTaka,
    WholePulses,
    get_device,
)
from toolkit.crossbar.cells import Cells
from toolkit.fitting import EXAMPLE_CSV, fit_csv
from toolkit.lowrank import SBPCA, LowRank, estimator_knobs, estimator_names, make_estimator
from toolkit.training import Experiment, LowRankSGD, to_crossbar, to_digital

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")

SIZE, SEEDS = 48, 8
# one for each response, one from outside included, with all kinds of noise; GST PCM also drifts
DEVICES = {
    name: get_device(name) for name in ("ideal", "Ag:a-Si", "GST PCM", "EcRam", "ReRamSB", "PCM")
} | {
    "jump table": fit_csv(EXAMPLE_CSV, model="jump-table").device,
    "quadratic": dataclasses.replace(get_device("EpiRAM"), response=Quadratic()),
    "incremental": dataclasses.replace(
        get_device("EpiRAM"),
        response=IncrementalPulses(
            nonlinearity_up=2.0, nonlinearity_down=-3.0, device_to_device=0.5
        ),
    ),
    "power": dataclasses.replace(
        get_device("EpiRAM"), response=PowStep(gamma_up=1.4, gamma_down=0.6, step_spread=0.2)
    ),
    "pieces": dataclasses.replace(
        get_device("EpiRAM"),
        response=PiecewiseStep(nodes_up=(1.0, 0.3, 0.7), nodes_down=(0.2, 1.0, 0.5, 0.1)),
        step_noise=0.3,
        state_noise=0.02,
        write_noise=0.01,
    ),
}
CODINGS = {
    "stochastic": WholePulses(),
    "deterministic": WholePulses("deterministic"),
    "coincidence": Coincidence(bit_length=31),
}


def a_batch(batch=48, m=24, n=40, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, m, generator=generator, dtype=torch.float64)
    hidden *= 0.7 ** torch.arange(m)
    activations = hidden @ torch.randn(m, n, generator=generator, dtype=torch.float64)
    return (hidden / batch).to(dtype), activations.to(dtype)


def an_estimator(name, **knobs):
    wanted = {"rank": 3, "block_size": 8, "seed": 0, **knobs}
    known = estimator_knobs(name)
    return make_estimator(name, **{knob: v for knob, v in wanted.items() if knob in known})


@needs_card
@pytest.mark.parametrize("name", estimator_names())
def test_estimators_agree_with_the_cpu_in_float64(name):
    # a block of fewer samples than directions leaves some of FeedbackPCA's to rounding
    knobs = {"block_size": 48} if name == "feedback" else {}
    here, there = an_estimator(name, **knobs), an_estimator(name, **knobs)
    for seed in range(4):
        errors, activations = a_batch(seed=seed)
        expected = here.update(errors, activations)
        update = there.update(errors.cuda(), activations.cuda())
        assert update.left.device.type == "cuda"
        scale = float(expected.dense().norm())
        torch.testing.assert_close(
            update.dense().cpu(), expected.dense(), rtol=0.0, atol=1e-9 * scale
        )


@needs_card
@pytest.mark.parametrize("name", estimator_names())
def test_estimators_keep_their_guarantees(name):
    estimator = an_estimator(name)
    errors, activations = (signal.cuda() for signal in a_batch(dtype=torch.float32))
    estimator.update(errors, activations)
    state = estimator.state_dict()
    for broken in (errors * float("nan"), errors * float("inf")):
        with pytest.raises(ValueError, match="errors must be finite"):
            estimator.update(broken, activations)
    again = an_estimator(name)
    again.load_state_dict(state)
    assert torch.equal(
        again.update(errors, activations).dense(), estimator.update(errors, activations).dense()
    )
    assert estimator.update(0.0 * errors, activations).dense().isfinite().all()
    if "rank" in estimator_knobs(name):
        estimator.rank = 6
        assert estimator.update(errors, activations).dense().isfinite().all()


@needs_card
@pytest.mark.parametrize("core", ["diagonal", "full"])
@pytest.mark.parametrize(
    ("batch", "m", "n", "rank", "block"),
    [
        (64, 128, 65, 4, 8),
        (100, 60, 300, 5, 32),
        (20, 7, 9, 1, 20),
        (6000, 32, 28, 4, 1500),
        (64, 40, 1100, 20, 32),
        (64, 1500, 1100, 40, 32),
    ],
)
@pytest.mark.parametrize(("passes", "history"), [(1, 1.0), (2, 0.0), (3, 0.3)])
def test_sbpca_agrees_with_the_cpu(batch, m, n, rank, block, core, passes, history):
    knobs = {"rank": rank, "block_size": block, "core": core, "passes": passes, "history": history}
    here, there = SBPCA(**knobs), SBPCA(**knobs)
    for seed in range(3):
        errors, activations = a_batch(batch, m, n, seed=seed)
        expected = here.update(errors, activations)
        update = there.update(errors.cuda(), activations.cuda()).dense().cpu()
        scale = float(expected.dense().norm())
        torch.testing.assert_close(update, expected.dense(), rtol=0.0, atol=1e-7 * scale)


@needs_card
@pytest.mark.parametrize("batch", [48, 6000])
@pytest.mark.parametrize("core", ["diagonal", "full"])
def test_sbpca_finds_new_directions_for_those_that_die(batch, core):
    errors, activations = (signal.cuda() for signal in a_batch(batch, dtype=torch.float32))
    estimator = SBPCA(rank=4, block_size=batch // 4, core=core)
    estimator.update(errors, activations)
    alike = estimator.update(errors[:1].expand_as(errors), activations[:1].expand_as(activations))
    assert alike.dense().isfinite().all()
    gram = alike.left.T @ alike.left
    torch.testing.assert_close(gram, torch.eye(4, device="cuda"), atol=1e-5, rtol=0.0)


@needs_card
def test_sbpca_does_not_wait_for_the_card_at_every_block():
    errors, activations = (signal.cuda() for signal in a_batch(64, dtype=torch.float32))
    waits = []
    for block in (64, 8):
        estimator = SBPCA(rank=3, block_size=block, seed=0)
        estimator.update(errors, activations)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            estimator.update(errors, activations)
            torch.cuda.set_sync_debug_mode("default")
        waits.append(len(caught))
    assert waits[1] <= waits[0] <= 8


def a_write(device, coding, scheme, place, pair="differential", seed=3):
    """What one update of rank 2 does that asks cells for none to some pulses."""
    generator = torch.Generator().manual_seed(1)
    weights = 0.6 * torch.rand(SIZE, SIZE, generator=generator) - 0.3
    left = torch.linspace(-1.0, 1.0, SIZE)[:, None] * torch.tensor([1.0, 0.3])
    right = torch.linspace(0.2, 1.0, SIZE)[:, None] * torch.tensor([1.0, -0.5])
    update = LowRank(left.to(place), torch.ones(2, device=place), right.to(place))
    device = DEVICES[device]
    array = Crossbar.from_weights(
        weights.to(place), device=device, coding=CODINGS[coding], seed=seed, pair=pair
    )
    before = array.weights
    array.apply(update, learning_rate=0.1, scheme=scheme)
    return (array.weights - before).cpu().double(), array.pulse_count.cpu().double(), array


def statistics(*setting):
    """Of several arrays, (seeds, statistics): pulses, energy, mean and spread by bands of rows."""
    rows = []
    for seed in range(SEEDS):
        moved, counts, array = a_write(*setting, seed=seed)
        bands = torch.stack(moved.chunk(4)).flatten(1)
        cost = torch.tensor([counts.mean(), array.cost().write_energy])
        rows.append(torch.cat([cost.double(), bands.mean(1), bands.std(1)]))
    return torch.stack(rows)


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=needs_card)])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("coding", "scheme"),
    [
        ("stochastic", "rank-sequential"),
        ("stochastic", "rank-sum"),
        ("deterministic", "rank-sequential"),
        ("coincidence", "rank-sequential"),
    ],
)
@pytest.mark.parametrize("pair", PAIRS)
def test_torch_writes_as_the_compiled_loops_do(monkeypatch, place, device, coding, scheme, pair):
    compiled = statistics(device, coding, scheme, "cpu", pair)
    monkeypatch.setattr(Cells, "is_compiled", False)
    plain = statistics(device, coding, scheme, place, pair)
    # cells that share a line are written together, so arrays, not cells, are the samples
    error = ((plain.var(0) + compiled.var(0)) / SEEDS).sqrt()
    difference = (plain.mean(0) - compiled.mean(0)).abs()
    assert bool((difference <= 8.0 * error + 1e-3 * compiled.mean(0).abs()).all())


@needs_card
def test_deterministic_writes_to_noiseless_cells_are_those_of_the_cpu():
    moved, counts, _ = a_write("ideal", "deterministic", "rank-sequential", "cuda")
    expected, expected_counts, _ = a_write("ideal", "deterministic", "rank-sequential", "cpu")
    assert (counts != expected_counts).double().mean() < 1e-3  # products that round at one half
    assert (moved - expected).abs().median() < 1e-6


@needs_card
@pytest.mark.parametrize("device", ["ideal", "Ag:a-Si", "EcRam", "ReRamES", "PCM"])
def test_reads_agree(device):
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(40, 30, generator=generator) - 0.5
    signal = torch.randn(4000, 30, generator=generator)
    outputs = []
    for place in ("cpu", "cuda"):
        array = Crossbar.from_weights(weights.to(place), device=get_device(device), seed=0)
        held, output = array.weights.cpu(), array.read(signal.to(place)).cpu()
        outputs.append(output - signal @ held.T)
        back = array.read_transposed(torch.eye(40, device=place)).cpu()
        assert back.shape == (40, 30)
    noise, expected = (float(output.std()) for output in outputs)
    assert noise == pytest.approx(expected, rel=0.05, abs=1e-5)


@needs_card
def test_other_parts_of_an_array_run():
    device = get_device("GST PCM")
    array = Crossbar.from_weights(torch.rand(20, 12, device="cuda") - 0.5, device=device)
    array.wait(100.0)
    programmed = array.program(torch.zeros(20, 12, device="cuda"))
    assert programmed is not None
    array.pulse(torch.ones(2, 20, 12, device="cuda"))
    array.half_select = 0.01
    update = LowRank(*(torch.rand(s, device="cuda") for s in ((20, 2), (2,), (12, 2))))
    array.apply(update, learning_rate=0.1)
    array.refresh(0.9)
    assert array.conductance.isfinite().all()
    state = array.state_dict()
    again = Crossbar.from_weights(torch.rand(20, 12, device="cuda") - 0.5, device=device)
    again.half_select = 0.01
    again.load_state_dict(state)
    for each in (array, again):
        each.apply(update, learning_rate=0.1)
    assert torch.equal(array.conductance, again.conductance)
    for rank in (None, 3):
        zeros = torch.zeros(20, 12, device="cuda")
        mixed = MixedPrecision.from_weights(zeros, device=get_device("ideal"), memory_rank=rank)
        mixed.apply(update, learning_rate=0.1)
        wanted = -0.1 * update.dense()
        atol = 1e-5 if rank is None else float(wanted.abs().max())
        torch.testing.assert_close(mixed.weights + mixed.waiting, wanted, rtol=0.0, atol=atol)
    tiki = TikiTaka.from_weights(torch.rand(20, 12, device="cuda") - 0.5, device=device)
    tiki.apply(update, learning_rate=0.1)
    assert tiki.weights.isfinite().all()


def a_network(place, dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 10)
    )
    return model.to(place, dtype)


def trained(model, place, dtype, steps=5, **knobs):
    optimiser = LowRankSGD(model, lr=0.1, method="sbpca", rank=3, block_size=8, seed=0, **knobs)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        inputs = torch.rand(32, 1, 8, 8, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 10, (32,), generator=generator)
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs.to(place, dtype)), labels.to(place))
        loss.backward()
        optimiser.step()
    return loss.item()


@needs_card
def test_a_network_trains_as_on_the_cpu():
    losses = [trained(a_network(place), place, torch.float64) for place in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)


@needs_card
@pytest.mark.parametrize("device", ["EpiRAM", "Ag:a-Si"])
def test_a_network_on_crossbars_trains(device):
    model = to_crossbar(a_network("cuda", torch.float32), device=get_device(device), seed=0)
    assert np.isfinite(trained(model, "cuda", torch.float32))
    assert to_digital(model)[-1].weight.is_cuda


@needs_card
@pytest.mark.parametrize("device", ["digital", "Ag:a-Si"])
def test_an_experiment_trains_and_resumes(tmp_path, device):
    run = Experiment(dataset="digits", rank=4, device=device, torch_device="cuda", seed=0)
    for _ in run.steps(epochs=2):
        pass
    _, accuracy = run.evaluate()
    assert accuracy > 0.7
    again = Experiment.resume(run.checkpoint(tmp_path / "run.ckpt"))
    assert [run.step().loss for _ in range(5)] == [again.step().loss for _ in range(5)]
    run.results()
