"""Algorithms for imperfect cells as knobs of an experiment."""

import math

import pytest
import torch

from toolkit.crossbar import AGAD, BufferedTikiTaka, Crossbar, MixedPrecision, TikiTaka
from toolkit.results import open_results
from toolkit.training import Experiment
from toolkit.training.experiment import physics

ALGORITHMS = list(physics.ALGORITHMS)
SMALL = {"hidden": [12], "batch_size": 32}


def test_knobs_reach_the_arrays():
    run = Experiment(
        device="EcRam", algorithm="Tiki-Taka v2", buffer_rank=11, gamma=0.5, transfer_columns=7,
        transfer_rate=0.2, dac_bits=6, pair="one-sided", w_max=2.0, **SMALL,
    )  # fmt: skip
    wide, narrow = run.arrays.values()
    assert type(wide) is BufferedTikiTaka
    assert (wide.gamma, wide.columns, wide.transfer_rate) == (0.5, 7, 0.2)
    assert wide.slow.memory_rank == 11 and narrow.slow.memory_rank == 10  # at most min(m, n)
    assert all(part.periphery.dac.bits == 6 and part.w_max == 2.0 for part in wide.parts)
    assert [part.pair for part in wide.parts] == ["reference", "one-sided"]


def test_knobs_of_choppers_and_chains_reach_the_arrays():
    run = Experiment(device="EcRam", algorithm="AGAD", chopper_period=7, buffer_rank=3, **SMALL)
    wide = run.arrays["layer1"]
    assert type(wide) is AGAD and (wide.period, wide.gamma, wide.columns) == (7, 0.0, 64)
    run.step()
    run.chopper_period = 9
    assert run.arrays["layer1"] is wide and wide.period == 9
    run.change(algorithm="residual learning", gamma=0.5)
    assert [part.pair for part in run.arrays["layer1"].parts] == ["reference"] * 2 + [run.pair]
    exact = run.arrays["layer1"].fast.slow.conductance[1]
    run.change(residual_arrays=4, reference_spread=0.1)
    chain = run.arrays["layer1"]
    assert len(chain.parts) == 4 and {each.gamma for each in (chain, chain.fast)} == {0.5}
    assert float(chain.fast.slow.conductance[1].std()) > 2 * float(exact.std())


def test_knobs_change_while_training_runs():
    run = Experiment(device="EcRam", algorithm="Tiki-Taka", **SMALL)
    run.step()
    before, written = run.arrays["layer1"], run.pulses
    run.change(gamma=0.25, transfer_rate=0.3, adc_bits=8)
    assert run.arrays["layer1"] is before
    assert (before.gamma, before.transfer_rate, before.columns) == (0.25, 0.3, 64)
    assert all(part.periphery.adc.bits == 8 for part in before.parts)
    seen = before.weights
    run.algorithm = "mixed precision"
    array = run.arrays["layer1"]
    assert type(array) is MixedPrecision and array.memory_rank is None
    torch.testing.assert_close(array.weights, seen.clamp(-1.0, 1.0), atol=1e-3, rtol=0)
    assert run.pulses == written  # those of the former arrays stay counted
    run.buffer_rank = 3
    assert run.arrays["layer1"].memory_rank == 3
    run.device = "digital"
    run.step()
    run.change(device="EcRam", algorithm="direct")
    assert type(run.arrays["layer1"]) is Crossbar


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_resumed_run_gives_the_same_bits(algorithm, tmp_path):
    run = Experiment(device="AlOx/HfO2", algorithm=algorithm, buffer_rank=4, **SMALL)
    for _ in range(3):
        run.step()
    run.checkpoint(tmp_path / "run.ckpt")
    again = Experiment.resume(tmp_path / "run.ckpt")
    assert [run.step() for _ in range(3)] == [again.step() for _ in range(3)]
    saved = open_results(run.save(tmp_path / "run.nc"))
    assert algorithm in saved.attrs["settings"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("pair", ["differential", "one-sided", "reference"])
@pytest.mark.parametrize("knobs", [{}, {"coding": "coincidence"}, {"scheme": "rank-sum"}], ids=str)
@pytest.mark.parametrize("device", ["PCM", "ReRamSB"])
def test_every_combination_trains(algorithm, pair, knobs, device):
    run = Experiment(device=device, pair=pair, algorithm=algorithm, **knobs, **SMALL)
    losses = [run.step().loss for _ in range(12)]
    assert all(map(math.isfinite, losses)) and run.pulses > 0


def test_a_memory_saves_pulses_and_a_second_array_takes_the_updates():
    """As their sources say: changes that cancel are not written; the fast array gets the pulses."""

    def trained(algorithm):
        run = Experiment(device="EcRam", algorithm=algorithm, learning_rate=0.1, **SMALL)
        for _ in range(20):
            run.step()
        return run

    assert trained("mixed precision").pulses < 0.8 * trained("direct").pulses
    tiki = trained("Tiki-Taka").arrays["layer1"]
    assert isinstance(tiki, TikiTaka) and tiki.fast.pulses > tiki.slow.pulses > 0


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"algorithm": "ttv3"}, "algorithm must be one of direct, mixed precision, Tiki-Taka"),
        ({"buffer_rank": 0}, "buffer_rank must be a whole number"),
        ({"transfer_rate": 0.0}, "transfer_rate must be a finite number, above 0.0"),
    ],
)
def test_what_is_not_allowed_is_said(knobs, text):
    with pytest.raises(ValueError, match=text):
        Experiment(device="EcRam", **knobs)
