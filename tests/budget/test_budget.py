"""The budget against hand counts, published sizes of networks, and what simulated arrays spent."""

import math
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from toolkit.budget import (
    DENSE,
    PARTS,
    Activity,
    Chip,
    Layer,
    budget,
    budget_methods,
    compare,
    layers_of,
    measured,
    read_layers,
    read_prices,
)
from toolkit.crossbar import DigitalArray, get_device
from toolkit.training import Experiment

EPIRAM = get_device("EpiRAM")
CHIP = Chip(EPIRAM)
SMOOTH = replace(EPIRAM, levels_up=math.inf, levels_down=math.inf, cycle_to_cycle=0.0)
A = [Layer("a", 10, 20)]


def conv(inputs, outputs, stride=1, size=3):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """He et al., arXiv:1512.03385: two convolutions beside a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.convs = nn.Sequential(
            conv(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            conv(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, stride, 1)

    def forward(self, pictures):
        return torch.relu(self.convs(pictures) + self.shortcut(pictures))


def resnet18():
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    widths += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    stem = [conv(3, 64, 2, 7), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*stem, *(Block(*each) for each in widths), *end)


def vgg11():
    layers, inputs = [], 3
    for outputs in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if outputs:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        else:
            layers.append(nn.MaxPool2d(2))
    for n, m in ((25088, 4096), (4096, 4096), (4096, 1000)):
        layers += [nn.Linear(n, m), nn.ReLU()]
    layers.insert(-6, nn.Flatten())
    with torch.device("meta"):
        return nn.Sequential(*layers)


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Linear(120, 84),
        nn.Linear(84, 10),
    )


@pytest.mark.parametrize(
    ("make", "shape", "weights", "macs"),
    [
        # LeCun et al. 1998, with all channels connected: 61,706 parameters
        (lenet5, (1, 28, 28), 61_706, 117_600 + 240_000 + 48_000 + 10_080 + 840),
        # He et al. 2015: 11,689,512 parameters, 9,600 of them of normalisation... 1.8e9 products
        (resnet18, (3, 224, 224), 11_689_512 - 9_600, 1.814e9),
        # Simonyan and Zisserman 2014: 133 million parameters; 7.6e9 products
        (vgg11, (3, 224, 224), 132_863_336, 7.609e9),
    ],
)
def test_networks_have_their_published_size(make, shape, weights, macs):
    layers = layers_of(make(), shape)
    assert sum(each.outputs * each.inputs for each in layers) == weights
    biases = 0 if make is resnet18 else 1
    products = sum(e.outputs * (e.inputs - biases) * e.positions for e in layers)
    assert products == pytest.approx(macs, rel=1e-3)


def test_a_transformer_counts_tokens():
    encoder = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    found = {e.name: (e.outputs, e.inputs, e.positions) for e in layers_of(encoder, (16, 64))}
    assert found["linear1"] == (128, 65, 16)
    assert found["linear2"] == (64, 129, 16)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        assert found[f"self_attn.{part}"] == (64, 65, 16)
    assert len(found) == 6


@pytest.mark.parametrize("batch", [1, 3])
def test_a_recurrent_network_counts_steps(batch):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(20, 6), nn.Linear(10, 3)
            self.rnn = nn.LSTM(6, 5, bidirectional=True, batch_first=True)

        def forward(self, tokens):
            return self.head(self.rnn(self.embedding(tokens))[0][:, -1])

    example = torch.zeros(batch, 12, dtype=torch.int64)
    found = {e.name: (e.outputs, e.inputs, e.positions) for e in layers_of(Reader(), example)}
    assert found == {
        "rnn.ih_l0": (20, 7, 12),
        "rnn.hh_l0": (20, 6, 12),
        "rnn.ih_l0_reverse": (20, 7, 12),
        "rnn.hh_l0_reverse": (20, 6, 12),
        "head": (3, 11, 1),
    }


def test_a_layer_called_twice_makes_twice_the_samples():
    shared = nn.Linear(8, 8)
    (layer,) = layers_of(nn.Sequential(shared, nn.ReLU(), shared), (8,))
    assert (layer.outputs, layer.inputs, layer.positions) == (8, 9, 2)


def test_a_model_is_left_as_it_was():
    model = lenet5()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers_of(model, (1, 28, 28))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())


def by_hand(**more):
    """Two layers, counted on paper below."""
    layers = [Layer("conv", 6, 26, 100), Layer("head", 10, 301)]
    chip = Chip(EPIRAM, array_size=(128, 128), adc_bits=6, adcs=4, macs_per_second=1e9)
    does = Activity(pulses=0.03, power=0.2, conductance=1e-5, slots=2, busiest=5)
    prices = read_prices(
        {
            "adc_energy": 1e-14,
            "adc_time": 1e-9,
            "sram_energy": 5e-12,
            "dram_energy": 5e-10,
            "dram_time": 1e-10,
            "mac_energy_32": 3e-12,
        }
    )
    options = {"rank": 2, "batch_size": 16, "block_size": 4, "samples": 1600, **more}
    activity = {"conv": does, "head": does}
    return budget(layers, chip, activity=activity, prices=prices, **options)


def test_sbpca_by_hand():
    found = by_hand(method="sbpca").sel(price="typical")
    conv, head = found.sel(layer="conv"), found.sel(layer="head")
    assert [int(conv.cells), int(head.cells)] == [2 * 6 * 26, 2 * 10 * 301]
    assert [int(conv.arrays), int(head.arrays)] == [1, 3]
    assert [int(conv.words_kept), int(head.words_kept)] == [2 * 33, 2 * 312]
    assert [int(conv.words_buffered), int(head.words_buffered)] == [400 * 32, 4 * 311]
    macs = 16 * 2 * (3 * 10 + 2 * 301) + 4 * 4 * 311
    assert int(head.macs) == macs
    # reads and transposed reads (not for the first layer), then two outer products with sigma
    assert int(conv.edge_words) == 1600 * 32 + 2 * 33
    assert int(head.edge_words) == 2 * 16 * 311 + 2 * 312
    assert [int(head.outer_products), int(head.phases)] == [2, 8]
    assert float(head.pulses) == pytest.approx(2 * 3010 * 0.03)
    energy = head.energy.to_series()
    assert energy["reads"] == pytest.approx(
        32 * EPIRAM.v_read**2 * EPIRAM.width_read * 0.2 * 6020 * 1e-5
    )
    # ten outputs from each of three arrays; 301 lines from one array across
    assert energy["converters"] == pytest.approx(16 * (30 + 301) * 64 * 1e-14)
    assert energy["estimate"] == pytest.approx(macs * 3e-12)
    assert energy["memory"] == pytest.approx((3 * 16 * 311 + 2 * 624 * 4) * 5e-12)
    pulse = (EPIRAM.v_up**2 * EPIRAM.width_up + EPIRAM.v_down**2 * EPIRAM.width_down) / 2
    assert energy["writes"] == pytest.approx(180.6 * pulse * 1e-5)
    time = head.time.to_series()
    assert time["reads"] == pytest.approx(32 * EPIRAM.width_read)
    assert time["converters"] == pytest.approx(16 * (3 + 32) * 1e-9)
    assert time["estimate"] == pytest.approx(macs * 1e-9)
    assert time["memory"] == 0.0
    assert time["writes"] == pytest.approx(8 * 2 * (EPIRAM.width_up + EPIRAM.width_down) / 2)
    assert float(head.busiest_cell) == pytest.approx(0.15)
    assert list(found.energy.part.values) == list(PARTS)


def test_methods_without_factors_by_hand():
    sample = by_hand(method="per-sample").sel(layer="head", price="typical")
    assert [int(sample.words_kept), int(sample.words_buffered), int(sample.macs)] == [0, 311, 0]
    assert [int(sample.outer_products), int(sample.phases)] == [16, 64]
    whole = by_hand(method="accumulator").sel(layer="head", price="typical")
    assert [int(whole.words_kept), int(whole.words_buffered)] == [0, 3010 + 311]
    assert [int(whole.macs), int(whole.phases)] == [16 * 3010, 20]
    assert int(whole.edge_words) == 2 * 16 * 311 + 3010
    assert float(whole.energy.sel(part="memory")) == pytest.approx(
        (3 * 16 * 311 + 2 * 3010 * 4) * 5e-12
    )
    mixed = by_hand(method="mixed-precision").sel(layer="head")
    assert int(mixed.words_kept) == 3010


def test_a_cell_lives_for_as_many_trainings_as_its_pulses_allow():
    layers, does = [Layer("a", 10, 10)], Activity(pulses=0.01, busiest=4)
    options = {"batch_size": 10, "samples": 1000, "activity": {"a": does}}
    found = budget(layers, Chip(EPIRAM, endurance=1e6), **options)
    assert float(found.trainings[0]) == pytest.approx(1e6 / (100 * 0.04))
    assert math.isinf(budget(layers, CHIP, **options).trainings[0])


def test_dram_takes_time_and_smaller_words_take_less():
    layers = [Layer("a", 100, 100)]
    for bits in (8, 32):
        prices = read_prices({"dram_time": 1e-10, "dram_energy": 1e-9})
        chip = Chip(EPIRAM, memory="dram", word_bits=bits)
        found = budget(layers, chip, prices=prices, method="accumulator", batch_size=8)
        touched = 3 * 8 * 200 + 2 * 10_000
        energy = found.energy.sel(part="memory", price="low")
        assert float(energy.sum()) == pytest.approx(touched * 1e-9 * bits / 32)
        time = found.time.sel(part="memory", price="low")
        assert float(time.sum()) == pytest.approx(touched * 1e-10 * bits / 32)


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
@pytest.mark.parametrize("device", ["Ag:a-Si", "EpiRAM"])
@pytest.mark.parametrize("method", ["sbpca", "sgd"])
def test_a_budget_is_what_arrays_spend(dataset, device, method):
    if dataset == "mnist" and not os.environ.get("SBPCA_DATA"):
        pytest.skip("needs MNIST: set SBPCA_DATA to the folder of its files")
    run = Experiment(dataset=dataset, device=device, method=method, rank=4, batch_size=32, seed=0)
    spent = {name: array.cost() for name, array in run.arrays.items()}
    assert all(cost.reads == 0 for cost in spent.values())
    steps = 20  # within an epoch: evaluations read, too
    for _ in range(steps):
        run.step()
    arrays = run.arrays
    layers = [Layer(name, *array.shape) for name, array in arrays.items()]
    found = budget(
        layers,
        Chip(get_device(device)),
        method="per-sample" if method == "sgd" else method,
        rank=4,
        batch_size=32,
        activity=measured(arrays, batches=steps),
    ).sel(price="typical")
    assert bool(found.is_measured.all())
    for name, array in arrays.items():
        cost, layer = array.cost(), found.sel(layer=name)
        energy, time = layer.energy.to_series() * steps, layer.time.to_series() * steps
        assert float(layer.pulses) * steps == pytest.approx(cost.pulses_up + cost.pulses_down)
        assert energy["reads"] == pytest.approx(cost.read_energy, rel=0.1)
        assert energy["writes"] == pytest.approx(cost.write_energy, rel=0.1)
        assert time["reads"] == pytest.approx(cost.read_time, rel=0.1)
        assert time["writes"] == pytest.approx(cost.write_time, rel=0.1)


def test_writes_cost_what_another_simulator_spends():
    """MLP+NeuroSim V3.0 (commit cc13863), its own network and default cell, Ag:a-Si.

    Run on 1000 black and white samples of MNIST, 400-100-10, with two lines added that count:
    170,766 pulses up, 88,218 down, 14.67 uJ of V^2 G t in cells.
    """
    layers = [Layer("hidden", 100, 400), Layer("output", 10, 100)]
    pulses, joules, samples = 170_766 + 88_218, 1.466785e-5, 1000
    does = Activity(pulses=pulses / samples / (2 * 41_000))
    found = budget(
        layers,
        Chip(get_device("Ag:a-Si")),
        method="per-sample",
        batch_size=1,
        activity=dict.fromkeys(("hidden", "output"), does),
    )
    ours = samples * float(found.energy.sel(part="writes", price="typical").sum())
    assert ours == pytest.approx(joules, rel=0.05)


def test_factors_pay_only_where_k_is_small():
    """k (m + n + 1) numbers against m n: below the crossing nothing is saved."""
    for m, n, pays in ((16, 16, False), (17, 17, True), (9, 129, True), (8, 129, False)):
        both = compare([Layer("a", m, n)], CHIP, methods=["sbpca", "mixed-precision"], rank=8)
        kept = both.words_kept.isel(layer=0)
        saves = kept.sel(algorithm="sbpca") < kept.sel(algorithm="mixed-precision")
        assert bool(saves) is pays, (m, n)


def test_every_method_has_a_budget():
    both = compare([{"name": "a", "outputs": 30, "inputs": 20}], CHIP, methods=budget_methods())
    assert list(both.algorithm.values) == list(budget_methods())
    assert set(DENSE) < set(budget_methods())
    assert bool(np.isfinite(both.energy).all())
    assert bool((both.energy.diff("price") >= 0).all())


def test_activity_is_of_the_method_that_it_was_measured_with():
    does = {"a": Activity(pulses=0.5, is_measured=True)}
    both = compare(A, CHIP, methods=["sbpca", "accumulator"], activity={"sbpca": does})
    assert both.is_measured.isel(layer=0).values.tolist() == [True, False]
    assert float(both.pulses_per_cell.isel(layer=0, algorithm=0)) == 0.5


def test_prices_come_from_two_sources_each():
    for name, rows in read_prices().items():
        assert len({row.source.split(":")[0] for row in rows}) >= 2, name
        assert all(row.value > 0 and row.year > 2000 and row.node for row in rows)
    horowitz = {"mac_energy_32": 3.7 + 0.9, "mac_energy_16": 1.1 + 0.4, "mac_energy_8": 0.2 + 0.1}
    for name, picojoules in horowitz.items():
        assert read_prices()[name][0].value == pytest.approx(picojoules * 1e-12)


def test_prices_of_ones_own():
    prices = read_prices({"sram_energy": [1e-12, {"value": 4e-12, "source": "our chip"}]})
    layers = [Layer("a", 10, 10)]
    found = budget(layers, CHIP, prices=prices).energy.sel(part="memory").isel(layer=0)
    assert found.values / float(found.sel(price="low")) == pytest.approx([1, 2, 4])


def test_layers_from_a_table():
    table = pd.DataFrame({"name": ["a", "b"], "outputs": [10, 5], "inputs": [20, 10]})
    assert read_layers(table.to_dict("records")) == [Layer("a", 10, 20), Layer("b", 5, 10)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Layer("a", 0, 3), "outputs of layer 'a'"),
        (lambda: Layer("a", 3, 2.5), "inputs of layer 'a'"),
        (lambda: Layer("a", 3, 3, True), "positions of layer 'a'"),
        (lambda: Layer(3, 3, 3), "name must be text"),
        (lambda: read_layers([]), "must have layers"),
        (lambda: read_layers([*A, *A]), "2 named 'a'"),
        (lambda: read_layers([{"name": "a", "outputs": 3}]), "name, outputs, inputs"),
        (lambda: read_layers("abc"), "layers"),
        (lambda: read_layers(3), "network must be"),
        (lambda: budget(nn.ReLU(), CHIP, example=(3,)), "must have a layer"),
        (lambda: budget(lenet5(), CHIP), "example must be"),
        (lambda: budget(A, CHIP, example=(3,)), "example must be left out"),
        (lambda: budget(lenet5(), CHIP, example=(1, 5, 5)), "must run on the example"),
        (lambda: budget(lenet5(), CHIP, example=(1, -5, 5)), "example"),
        (lambda: budget(A, EPIRAM), "chip must be"),
        (lambda: budget(A, CHIP, method="adam"), "method must be one of"),
        (lambda: budget(A, CHIP, rank=0), "rank"),
        (lambda: budget(A, CHIP, rank={"b": 3}), "rank must be one of a"),
        (lambda: budget(A, CHIP, rank={}), "lacks 'a'"),
        (lambda: budget(A, CHIP, rank={"a": 1.5}), "rank of layer 'a'"),
        (lambda: budget(A, CHIP, batch_size=0), "batch_size"),
        (lambda: budget(A, CHIP, block_size=-1), "block_size"),
        (lambda: budget(A, CHIP, samples=math.nan), "samples"),
        (lambda: budget(A, CHIP, activity={"b": Activity(0.1)}), "activity must be one of a"),
        (lambda: budget(A, CHIP, activity={"a": 3}), "activity of 'a'"),
        (lambda: compare(A, CHIP, activity={"a": {}}), "activity must be one of sbpca"),
        (lambda: Chip("EpiRAM"), "device must be"),
        (lambda: Chip(SMOOTH), "levels_up and levels_down of EpiRAM must be finite; got inf"),
        (lambda: Chip(EPIRAM, array_size=(0, 3)), "array_size"),
        (lambda: Chip(EPIRAM, adc_bits=40), "adc_bits"),
        (lambda: Chip(EPIRAM, adcs=0), "adcs"),
        (lambda: Chip(EPIRAM, word_bits=12), "word_bits must be 8, 16 or 32"),
        (lambda: Chip(EPIRAM, memory="tape"), "memory must be one of"),
        (lambda: Chip(EPIRAM, macs_per_second=0.0), "macs_per_second"),
        (lambda: Chip(EPIRAM, endurance=-1), "endurance"),
        (lambda: Activity(-1.0), "pulses"),
        (lambda: Activity(math.nan), "pulses"),
        (lambda: Activity(0.1, busiest=0.5), "busiest"),
        (lambda: Activity(0.1, conductance=-1e-6), "conductance"),
        (lambda: Activity(0.1, phases="two"), "phases"),
        (lambda: budget([Layer("a", 10**9, 10**9, 10**9)], CHIP), "of layer 'a' must be below"),
        (lambda: read_prices({"gold": 3}), "prices must be one of"),
        (lambda: read_prices({"adc_time": 0}), "prices of adc_time"),
        (lambda: read_prices({"adc_time": []}), "prices of adc_time"),
        (lambda: read_prices({"adc_time": {"value": 1, "colour": 2}}), "prices of adc_time"),
        (lambda: read_prices({"adc_time": {"value": math.inf}}), "prices of adc_time"),
        (lambda: read_prices(3), "prices must be"),
        (lambda: measured({"a": DigitalArray(torch.zeros(3, 3))}, batches=3), "a Crossbar"),
        (lambda: measured([], batches=3), "arrays must be"),
    ],
)
def test_what_is_not_allowed_is_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()
