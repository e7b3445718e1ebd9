"""What the knobs' bounds allow works: small defaults, extreme rates, live changes, resumes."""

import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.cli import main
from toolkit.training import Dataset, Experiment, read_plan


def tiny():
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.rand(40, 6, generator=generator), torch.arange(40) % 3
    return Dataset("tiny", inputs, labels, inputs[:10], labels[:10], classes=3)


@pytest.mark.parametrize(
    "knobs", [{"dataset": "spirals"}, {"dataset": "gaussians"}, {"hidden": [1]}]
)
def test_a_default_rank_is_lowered_and_said(knobs):
    with pytest.warns(UserWarning, match="rank is lowered to"):
        run = Experiment(**knobs)
    assert run.rank < 4
    run.step()
    with pytest.raises(ValueError, match="rank=4 is above"):
        Experiment(**knobs, rank=4)


def test_default_batches_and_blocks_fit_small_data():
    with pytest.warns(UserWarning, match="batch_size is lowered to 40"):
        run = Experiment(dataset=tiny(), rank=1)
    assert run.batch_size == 40
    assert Experiment(dataset=tiny(), rank=1, batch_size=4).block_size == 4


def test_results_of_a_resumed_run_need_no_further_step(tmp_path):
    run = Experiment(dataset=tiny(), rank=2, batch_size=10, record_every=7, seed=0)
    for _ in range(5):
        run.step()
    again = Experiment.resume(run.checkpoint(tmp_path / "run.ckpt"), dataset=tiny())
    assert again.results()["training"].sizes["step"] == 5
    again.step()
    assert again.results()["layers/layer1"].sizes["record"] == 2


def test_a_pair_of_knobs_that_cannot_be_written_is_refused_when_set():
    run = Experiment(dataset=tiny(), rank=2, batch_size=10, device="EpiRAM", scheme="rank-sum")
    with pytest.raises(ValueError, match="scheme must be rank-sequential"):
        run.coding = "coincidence"
    run.step()
    run.change(coding="coincidence", scheme="rank-sequential")
    run.step()
    with pytest.raises(ValueError, match="scheme must be rank-sequential"):
        run.scheme = "rank-sum"
    run.step()


DRAWN = {
    "device": st.sampled_from(["digital", "ideal", "EpiRAM", "TaOx/HfOx", "ReRamES", "GST PCM"]),
    "pair": st.sampled_from(["differential", "one-sided", "reference"]),
    "coding": st.sampled_from(["stochastic", "deterministic", "coincidence"]),
    "scheme": st.sampled_from(["rank-sequential", "rank-sum"]),
    "method": st.sampled_from(["sbpca", "sgd", "svd", "feedback", "sbe"]),
    "rank": st.integers(1, 3),
    "block_size": st.integers(1, 10),
    "batch_size": st.integers(1, 40),
    "learning_rate": st.sampled_from([1e-3, 0.1, 10.0]),
    "w_max": st.sampled_from([0.1, 1.0]),
}
LIVE = {name: DRAWN[name] for name in DRAWN if name not in ("pair", "w_max")}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.fixed_dictionaries({}, optional=DRAWN), change=st.fixed_dictionaries({}, optional=LIVE)
)
def test_settings_train_and_resume_or_are_refused_in_a_sentence(tmp_path_factory, first, change):
    path = tmp_path_factory.mktemp("run") / "run.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            run = Experiment(dataset=tiny(), hidden=[4], seed=0, **first)
            run.step()
            run.change(**change)
        except ValueError as error:
            assert "\n" not in str(error)
            return
        again = Experiment.resume(run.checkpoint(path), dataset=tiny())
        again.results()
        for each in (run, again):
            try:
                each.step()
            except ArithmeticError as error:
                assert "\n" not in str(error)
    for one, other in zip(run.arrays.values(), again.arrays.values(), strict=True):
        assert torch.equal(one.weights, other.weights)
        if one.conductance is not None:
            assert one.conductance.isfinite().all()
            assert (one.pulse_count >= 0).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grid: " + "[" * 5000, "levels deep"),
        ("grid:\n  a: " + "{a: " * 500, "levels deep"),
        ("grid: {rank: 1}\nseeds: 1000000000", "seeds must be"),
        ("grid: {rank: &a [1, 2], block_size: *a}", "aliases"),
    ],
)
def test_a_hostile_plan_is_one_sentence(tmp_path, capsys, text, said):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_plan(path)
    assert main(["sweep", str(path), "--out", str(tmp_path / "out.nc")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_grid_of_too_many_runs_is_refused_before_it_is_laid_out(tmp_path):
    path = tmp_path / "plan.yaml"
    values = list(range(1, 400))
    path.write_text(f"grid: {{rank: {values}, block_size: {values}}}\nseeds: 10\n")
    with pytest.raises(ValueError, match="at most 100000 runs"):
        read_plan(path)
