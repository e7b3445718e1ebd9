"""What the knobs' bounds allow works: small defaults, extreme rates, live changes, resumes."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.cli import main
from toolkit.crossbar import DigitalArray
from toolkit.results import open_results
from toolkit.training import Dataset, DivergenceError, Experiment, Settings, read_plan
from toolkit.training.experiment.knobs import Choice, Flag, Whole, is_live, knobs_of


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
    assert again.results()["layers/layer1"].sizes["step"] == 2


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


# So that a draw takes milliseconds and is seldom refused; all others are the knobs' own bounds.
SMALL = {
    "hidden": st.lists(st.integers(1, 6), max_size=2),
    "rank": st.integers(1, 3),
    "block_size": st.integers(1, 10),
    "batch_size": st.integers(1, 40),
    "passes": st.integers(1, 3),
    "record_every": st.integers(1, 3),
}
NOT_DRAWN = ("dataset", "model", "torch_device")


def values(name, knob):
    """Whatever the knob allows, its ends more often."""
    if name in SMALL:
        return SMALL[name]
    if isinstance(knob, Choice):
        return st.sampled_from(knob.objects)
    if isinstance(knob, Flag):
        return st.booleans()
    low, high = knob.bounds
    above = not knob.inclusive_bounds[0]
    inner = (
        st.integers(low, high)
        if isinstance(knob, Whole)
        else st.floats(low, high, exclude_min=above, allow_subnormal=False)
    )
    ends = st.sampled_from([high] if above else [low, high])
    return ends | inner | st.none() if knob.default is None else ends | inner


DRAWN = {n: values(n, k) for n, k in knobs_of(Settings).items() if n not in NOT_DRAWN}
LIVE = {name: drawn for name, drawn in DRAWN.items() if is_live(knobs_of(Settings)[name])}
SETTINGS = {
    "first": st.fixed_dictionaries({}, optional=DRAWN),
    "change": st.fixed_dictionaries({}, optional=LIVE),
}


def trained(folder, first, change):
    """Train, change, save, resume and export; True, or False if a sentence has refused it."""
    try:
        run = Experiment(dataset=tiny(), **first)
        run.step()
        run.change(**change)
    except (ValueError, DivergenceError) as error:
        assert "\n" not in str(error)
        return False
    again = Experiment.resume(run.checkpoint(folder / "run.ckpt"), dataset=tiny())
    said = []
    for each in (run, again):
        try:
            for _ in range(3):
                each.step()
        except DivergenceError as error:
            said.append(str(error))
            assert "\n" not in said[-1]
    assert len(set(said)) == len(said) // 2
    assert run.results().equals(again.results())
    open_results(again.save(folder / "run.nc")).close()
    for one, other in zip(run.arrays.values(), again.arrays.values(), strict=True):
        assert torch.equal(one.weights, other.weights)
        assert one.weights.isfinite().all()
        if not isinstance(one, DigitalArray):
            for part in getattr(one, "parts", [one]):
                assert_within_bounds(part._cells)
            assert torch.equal(one.conductance, other.conductance)
    return True


def assert_within_bounds(bank):
    """Every cell between the bounds that are its own, with a count that is one."""
    assert (bank.state >= bank._low).all()
    assert (bank.state <= bank._high).all()
    assert bank.visible().isfinite().all()
    assert (bank.pulse_count >= 0).all()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(**SETTINGS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_settings_train_and_resume_or_are_refused_in_a_sentence(tmp_path_factory, first, change):
    trained(tmp_path_factory.mktemp("run"), first, change)


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
